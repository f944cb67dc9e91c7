"""A fresh checkout, as a new user has it: the README's commands, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.server_process import KEY, PROJECT, environment_without_settings

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.hangs_after(600)  # longer than the time limits of its commands together

SET_UP_SECONDS = 180  # two dozen wheels, from a registry or a cache
LEFT_OUT = (".git", ".venv", "node_modules", "data", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files and nothing that was made by running them."""
    folder = tmp_path_factory.mktemp("fresh") / "checkout"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def environment(port: int, **more: str) -> dict[str, str]:
    """As in a new user's shell: no settings, and no virtual environment of ours in the way."""
    kept = environment_without_settings()
    kept.pop("VIRTUAL_ENV", None)
    return kept | {"PORT": str(port), "PYTHON": sys.executable, "CHATAPI_LOG_FORMAT": "json"} | more


@contextmanager
def serving(command: str, folder: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """The command, running in the background and serving; yields what it has printed on stderr so far."""
    lines: list[str] = []
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if line.startswith("{") and json.loads(line)["event"] == "serving":
                break
        else:
            pytest.fail(f"{command} ended:\n" + "".join(lines))
        try:
            yield lines
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(20) == 0


def block_with(text: str) -> str:
    """The README's one block that has this text."""
    (found,) = [str(block) for block in BLOCKS if text in block]
    return found


def test_the_two_commands_of_the_quick_start_serve(checkout: Path, port: int, tmp_path: Path) -> None:
    install, serve = block_with("pip install").splitlines()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=SET_UP_SECONDS)
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    variables = environment(port, PATH=path)
    subprocess.run(
        install.split(), cwd=checkout, env=variables, check=True, timeout=SET_UP_SECONDS, capture_output=True
    )
    with serving(serve, checkout, variables):
        health = subprocess.run(
            ["curl", "-s", f"http://127.0.0.1:{port}/api/health"], check=True, capture_output=True, text=True
        )
        assert json.loads(health.stdout)["status"] == "ok"


def test_the_tour_of_the_readme_does_what_it_says(checkout: Path, port: int, tmp_path: Path) -> None:
    variables = environment(port)
    (demo,) = block_with("./run demo").splitlines()
    tour = [block for block in BLOCKS if "curl" in block]
    assert len(tour) == 4, "the tour has changed; say here what its new steps show"
    script = "\necho ==step==\n".join(tour).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    with serving(demo, checkout, variables):
        ran = subprocess.run(
            ["bash", "-u", "-c", script], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
        )
        cut, resumed, remembered, shaped = ran.stdout.split("==step==\n")
        whole = " ".join(map(str, range(1, 101)))
        assert whole.startswith(cut.strip())
        assert 0 < len(cut) < len(whole)
        assert resumed.strip() == whole
        assert "Please count to 100." in remembered
        assert '"status":"completed"' in remembered
        assert "event: done" in shaped
        assert '"text":"1 2 3 4 5"' in shaped
        told = []
        for example in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
            code = example.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("sk-proj-your-api-key-here", KEY)
            ran = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
            )
            told.append(ran.stdout)
        told_of_itself = requests.get(f"http://127.0.0.1:{port}/api/config", timeout=10).json()
        assert told_of_itself["demo"] is True
        assert re.fullmatch(told_of_itself["key"]["pattern"], told_of_itself["demo_key"])
        headers = {"Host": "evil.example", "Origin": "http://evil.example"}  # a name that resolves to this machine
        elsewhere = requests.get(f"http://127.0.0.1:{port}/api/config", headers=headers, timeout=10)
        assert elsewhere.json()["demo_key"] is None
        assert "Access-Control-Allow-Origin" not in elsewhere.headers
        by_the_seed, by_openai = told
        assert "Hello, how are you?" in by_the_seed
        assert "Ada" in by_openai
        assert by_openai.endswith("response.completed\n")
    with serving(demo, checkout, variables) as lines:
        assert not any("Setting up" in line for line in lines), "it was set up again though nothing had changed"


def test_run_installs_what_the_settings_ask_for(checkout: Path, port: int) -> None:
    def run(command: str, **variables: str) -> str:
        ran = subprocess.run(
            ["./run", command, "--help"],
            cwd=checkout,
            env=environment(port, **variables),
            check=True,
            timeout=SET_UP_SECONDS,
            capture_output=True,
            text=True,
        )
        return ran.stderr

    run("migrate")
    subprocess.run([checkout / ".venv/bin/python", "-c", "import asyncpg, redis"], check=True)
    assert not run("doctor"), "what is there is enough"
    larger = "from requirements-replicas.txt"
    for variables, expected in (
        ({}, "from requirements.txt"),
        ({"DATABASE_URL": "sqlite:///x.db"}, "from requirements.txt"),
        ({"DATABASE_URL": "postgresql://x"}, larger),
        ({"DATABASE_URL": "postgres://x"}, larger),
        ({"REDIS_URL": "redis://x"}, larger),
    ):
        for installed in (checkout / ".venv").glob("installed-*"):
            installed.unlink()
        assert expected in run("serve", **variables)


def test_the_readme_names_no_command_that_run_does_not_know(checkout: Path) -> None:
    known = subprocess.run(["./run", "help"], cwd=checkout, check=True, capture_output=True, text=True).stdout
    for command in re.findall(r"\./run (\w+)", README):
        assert f"./run {command}" in known
    unknown = subprocess.run(["./run", "dance"], cwd=checkout, check=False, capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "./run help" in unknown.stderr


def test_a_python_that_is_too_old_or_missing_is_said_plainly(checkout: Path, port: int, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "bare", ignore=shutil.ignore_patterns(".venv"))
    variables = environment(port, PYTHON="/nonexistent/python")
    ran = subprocess.run(["./run"], cwd=tmp_path / "bare", env=variables, check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "PYTHON names /nonexistent/python" in ran.stderr
