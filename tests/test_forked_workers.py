"""The workers that run this suite: no failure is lost, and no test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.server_process import COMMAND_SECONDS, PROJECT

CONFTEST = """
from tests.forked_workers import ForkedWorkers

def pytest_configure(config):
    config.pluginmanager.register(ForkedWorkers(2, lambda: None, lambda item: "_c" in item.path.name))
"""
TESTS = """
import os
import pytest

@pytest.fixture(scope="module")
def broken_at_the_end():
    yield
    raise ValueError("on purpose")

def test_passes(tmp_path):
    with open("begun", "a") as file:
        file.write(f"{os.environ['TESTS_WORKER']} {__name__}\\n")
    assert os.environ["TESTS_WORKER"] in tmp_path.parts

def test_fails():
    print("printed", "before")
    raise ValueError("on purpose")

@pytest.mark.parametrize("number", range(2))
def test_ends_its_worker(number):
    os._exit(3)

def test_passes_afterwards(broken_at_the_end):
    pass
"""
SUMMARY = """
ERROR {name}::test_passes_afterwards - ValueError: on purpose
FAILED {name}::test_ends_its_worker[0] - worker ended with status 3
FAILED {name}::test_ends_its_worker[1] - worker ended with status 3
FAILED {name}::test_fails - ValueError: on purpose
PASSED {name}::test_passes
PASSED {name}::test_passes_afterwards
"""


def test_every_test_is_reported_once_also_after_the_end_of_its_worker(tmp_path: Path) -> None:
    names = [f"test_{letter}.py" for letter in "abc"]
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in names:
        (tmp_path / name).write_text(TESTS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    found = re.findall(r"^(?:PASSED|FAILED|ERROR) .*", ran.stdout, re.MULTILINE)
    reported = sorted(re.sub(r"worker gw\d+ (.*);.*", r"worker \1", line) for line in found)
    assert reported == sorted(line for name in names for line in SUMMARY.format(name=name).split("\n") if line), (
        ran.stdout
    )
    assert ran.returncode == 1
    assert "gw0 test_c\n" in (tmp_path / "begun").read_text(), "the first worker begins with what visits the page"
    assert len(ran.stdout.split()[0]) == len(reported), "only the parent shows the progress"
    assert ran.stdout.count("printed before") == len(names)
    assert "forked_workers.py" not in ran.stdout, "no exception of the parent is the context of a worker's"
