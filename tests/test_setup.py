"""A fresh clone, as a new user has it: the README's commands, run as they are written."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from chatapi import __version__
from chatapi.arguments import DEMO_PACE_MS
from tests.databases import free_port
from tests.server_process import KEY, PROJECT, environment_without_settings
from tests.wheels import blocks_of, lock_to_wheels

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SET_UP_SECONDS = 600  # on a busy machine
LINKS = (".venv", "node_modules")  # .gitignore names the folders only
FASTER = 3  # than the demo and the README's commands on it: the tour waits for less than ten seconds
pytestmark = pytest.mark.hangs_after(3 * SET_UP_SECONDS)
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
GIT += ["-c", "core.compression=0"]
NO_CONFIGURATION = {  # of the user's
    "PIP_CONFIG_FILE": os.devnull,
    "UV_NO_CONFIG": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
REAL_PYTHON = os.path.realpath(sys.executable)
PYTHON_WITH_PIP = """\
#!/bin/sh
if [ "$*" != "-m venv .venv" ]; then
    exec "{python}" "$@"
fi
"{python}" -m venv --without-pip .venv
packages=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
ln -sfn {pip} "$packages"
printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of the project as it is now, made by the README's first command.

    Its packages come from a folder, with their hashes in the lock files: pip's search in the pages of a registry takes
    longer than all else. `./run test` installed those of the real lock files, and verified their hashes.
    """
    folder = tmp_path_factory.mktemp("fresh")
    repository, wheels = folder / "repository", folder / "wheels"
    with pytest.MonkeyPatch.context() as variables:
        for name, value in NO_CONFIGURATION.items():
            variables.setenv(name, value)
        subprocess.run([*GIT, "init", "--quiet", repository], check=True)
        (repository / ".git/info/exclude").write_text("\n".join(LINKS))
        for arguments in (["add", "--all"], ["commit", "--quiet", "--message=All"]):
            command = [*GIT, f"--git-dir={repository / '.git'}", "--work-tree=.", *arguments]
            subprocess.run(command, cwd=PROJECT, check=True)
        clone, enter, _ = BLOCKS[0].replace("REPOSITORY", shlex.quote(str(repository))).split(" && ")
        subprocess.run(shlex.split(clone), cwd=folder, check=True, capture_output=True)
        cloned = folder / str(enter).removeprefix("cd ")
        wheels.mkdir()
        for lock in ("requirements.txt", "requirements-replicas.txt"):
            lock_to_wheels(cloned / lock, wheels)
        for installer in ("PIP", "UV"):
            variables.setenv(f"{installer}_NO_INDEX", "1")
            variables.setenv(f"{installer}_FIND_LINKS", str(wheels))
        yield cloned


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that makes an environment as `python3 -m venv .venv` does, with the pip of the tests, if they have one.

    To unpack and to compile the pip that comes with Python takes as long as to install all packages of the service;
    `./run test` did it, and so does `./run packages`.
    """
    command = tmp_path_factory.mktemp("python") / "python3"
    pip = [str(path) for path in Path(sysconfig.get_path("purelib")).glob("pip*") if path.name.split("-")[0] == "pip"]
    if pip:
        command.write_text(PYTHON_WITH_PIP.format(python=REAL_PYTHON, pip=shlex.join(pip)))
        command.chmod(0o755)
    else:
        command.symlink_to(REAL_PYTHON)
    return command


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def environment(port: int, **more: str) -> dict[str, str]:
    """As in a new user's shell: no settings, and no virtual environment of ours.

    pip compiles no module: Python compiles those that the service imports, a tenth of all.
    """
    kept = environment_without_settings()
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    kept.pop("VIRTUAL_ENV", None)
    kept.pop("PYTHONPATH", None)
    base = {"PORT": str(port), "PYTHON": sys.executable, "CHATAPI_LOG_FORMAT": "json", "PIP_NO_COMPILE": "1"}
    return kept | base | more


@contextmanager
def serving(command: str, folder: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """Run a command that serves, in the background; yield the lines of its stderr so far."""
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
    """Return the README's only block with this text."""
    (found,) = [str(block) for block in BLOCKS if text in block]
    return found


@pytest.fixture(scope="module")
def ready(checkout: Path, python: Path, port: int) -> Path:
    """The clone after the README's first command, which installs the packages and serves."""
    assert BLOCKS[0].rstrip().endswith(" && ./run")
    with serving("./run", checkout, environment(port, PYTHON=str(python))) as lines:
        assert any(line.startswith("Setting up .venv from requirements.txt: ") for line in lines)
        assert requests.get(f"http://127.0.0.1:{port}/api/health", timeout=10).json()["status"] == "ok"
        assert "<title>" in requests.get(f"http://127.0.0.1:{port}/", timeout=10).text
    return checkout


def test_run_starts_again_without_an_installation(ready: Path, port: int) -> None:
    with serving(f"./run --port {port}", ready, environment(1)) as lines:
        assert not any("Setting up" in line for line in lines), "nothing had changed"
    ended = subprocess.run(
        ["./run", "--version"], cwd=ready, env=environment(1), check=True, capture_output=True, text=True
    )
    assert ended.stdout == f"OpenAI Chat API {__version__}\n"


def test_the_commands_by_hand_serve(ready: Path, python: Path, port: int) -> None:
    """In the environment that `./run` has made, where pip only checks that every package is installed."""
    make, install, serve = block_with("pip install -r").splitlines()
    variables = environment(port, PATH=f"{python.parent}:{os.environ['PATH']}", PIP_QUIET="1")
    with serving(f"bash -c '{make} && {install} && exec {serve}'", ready, variables):
        assert requests.get(f"http://127.0.0.1:{port}/api/health", timeout=10).json()["status"] == "ok"


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel that was built from the clone and installed, without the packages that it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    # With the setuptools of the tests, called as pip does; `./run packages` builds it in an environment of its own.
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-W", "ignore", "-c", build, str(folder)]
        subprocess.run(command, cwd=checkout, check=True, timeout=SET_UP_SECONDS, stdout=log)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder


def test_the_wheel_serves_the_page_and_the_demo(installed: Path, port: int, tmp_path: Path) -> None:
    site = installed / "site"
    variables = environment(port, PYTHONPATH=str(site))
    with serving(f"{site}/bin/chatapi demo", tmp_path, variables):
        base = f"http://127.0.0.1:{port}"
        page = requests.get(f"{base}/", timeout=10).text
        for path in re.findall(r'(?:src|href)="(/web/[^"]+)"', page):
            assert requests.get(base + path, timeout=10).status_code == 200, path
        assert requests.get(f"{base}/api/prices", timeout=10).json()["models"]
        body = {"developer_message": "Hi.", "user_message": "Count to 3", "api_key": KEY}
        assert requests.post(f"{base}/api/chat", json=body, timeout=20).text == "1 2 3"
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    for command, usage in (
        ([f"{site}/bin/chatapi"], "usage: chatapi "),
        ([sys.executable, "-m", "chatapi"], "usage: python -m chatapi "),
    ):
        shown = subprocess.run(
            [*command, "--help"], cwd=tmp_path, env=variables, check=True, capture_output=True, text=True
        )
        assert shown.stdout.startswith(usage)


def test_the_wheel_has_every_file_of_the_package_and_its_licence(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    command = ["git", "-c", f"safe.directory={PROJECT}", "ls-files", "chatapi"]  # the folder may be another user's
    listed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    assert set(listed.stdout.splitlines()) <= names
    (metadata,) = [name for name in names if name.endswith("/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: MIT" in text
    assert "Classifier: Framework :: FastAPI" in text
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_tour_of_the_readme(ready: Path, port: int, tmp_path: Path) -> None:
    variables = environment(port, CHATAPI_SESSION_ACCESS="key")  # as in a container, or behind a proxy
    (demo,) = block_with("./run demo").splitlines()
    tour = [block for block in BLOCKS if "curl" in block]
    assert len(tour) == 4, "the tour has changed: check its new steps here"
    script = "\necho ==step==\n".join(tour).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    script, times = re.subn(r"(--max-time |sleep )2\b", rf"\g<1>{2 / FASTER:.2f}", script)
    assert times == 2, "the tour has changed: its waits are shortened here"
    with serving(f"{demo} --pace-ms {DEMO_PACE_MS // FASTER}", ready, variables):
        ran = subprocess.run(
            ["bash", "-u", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path)},  # without a configuration of curl
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )
        cut, resumed, remembered, shaped = ran.stdout.split("==step==\n")
        whole = " ".join(map(str, range(1, 101)))
        assert whole.startswith(cut.strip())
        assert 0 < len(cut) < len(whole)
        assert resumed.strip() == whole
        assert "Please count to 100." in remembered
        assert '"status":"completed"' in remembered
        assert '"status":"stopped"' in remembered
        stopped = (tmp_path / "stopped.txt").read_text()
        assert " ".join(map(str, range(1, 901))).startswith(stopped)
        assert 0 < len(stopped) < 1000
        assert "event: done" in shaped
        assert '"text":"1 2 3 4 5"' in shaped
        export, once, conversation = block_with("./run chat").splitlines()
        for command, lines, shown in ((once, "", "1 2 3 4 5\n"), (conversation, "Count to 3\n", "1 2 3\n")):
            script = f"{export}\n{command.replace('./run chat', f'./run chat --url http://127.0.0.1:{port}')}"
            bash = ["bash", "-c", script]
            ran = subprocess.run(
                bash, cwd=ready, env=variables, input=lines, check=True, capture_output=True, text=True
            )
            assert ran.stdout == shown
        outputs = []
        for example in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
            code = example.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("sk-proj-your-api-key-here", KEY)
            ran = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
            )
            outputs.append(ran.stdout)
        config = requests.get(f"http://127.0.0.1:{port}/api/config", timeout=10).json()
        assert config["demo"] is True
        assert re.fullmatch(config["key"]["pattern"], config["demo_key"])
        headers = {"Host": "evil.example", "Origin": "http://evil.example"}  # a name that resolves to this machine
        elsewhere = requests.get(f"http://127.0.0.1:{port}/api/config", headers=headers, timeout=10)
        assert elsewhere.json()["demo_key"] is None
        assert "Access-Control-Allow-Origin" not in elsewhere.headers
        by_the_seed, by_openai = outputs
        assert "Hello, how are you?" in by_the_seed
        assert "Ada" in by_openai
        assert by_openai.endswith("response.completed\n")


def run_command_of(folder: Path, command: str, **variables: str) -> str:
    """Run `./run command --help`; return its standard error."""
    ran = subprocess.run(
        ["./run", command, "--help"],
        cwd=folder,
        env=environment(1, **variables),
        check=True,
        timeout=SET_UP_SECONDS,
        capture_output=True,
        text=True,
    )
    return ran.stderr


def test_run_installs_the_packages_of_replicas_once(ready: Path) -> None:
    run_command_of(ready, "migrate")
    subprocess.run([ready / ".venv/bin/python", "-c", "import asyncpg, redis"], check=True)
    assert not run_command_of(ready, "doctor"), "all packages are there"


LOCKS = ("requirements.txt", "requirements-replicas.txt", "requirements-traces.txt", "requirements-test.txt")


@pytest.mark.parametrize(("smaller", "larger"), list(pairwise(LOCKS)))
def test_a_larger_lock_has_every_package_of_a_smaller_one_with_its_hashes(smaller: str, larger: str) -> None:
    assert set(blocks_of(PROJECT / smaller)) < set(blocks_of(PROJECT / larger))


def copy_of_run(checkout: Path, folder: Path) -> None:
    """Copy `run`, and the files that it reads before it starts Python."""
    folder.mkdir()
    for file in [checkout / "run", *checkout.glob("requirements*.txt")]:
        shutil.copy2(file, folder)


@pytest.fixture(scope="module")
def recorded(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `run` whose Python only writes its arguments to the file `arguments`."""
    folder = tmp_path_factory.mktemp("recorded") / "copy"
    copy_of_run(checkout, folder)
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "$@" >> arguments\n')
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("variables", "line", "lock"),
    [
        ({}, "", "requirements.txt"),
        ({"DATABASE_URL": "sqlite:///x.db"}, "", "requirements.txt"),
        ({"DATABASE_URL": "postgresql://x"}, "", "requirements-replicas.txt"),
        ({"DATABASE_URL": "postgres://x"}, "", "requirements-replicas.txt"),
        ({"REDIS_URL": "redis://x"}, "", "requirements-replicas.txt"),
        ({"REDIS_URL": "redis://x", "CHATAPI_TRACES": "http://x"}, "", "requirements-traces.txt"),
        ({}, "DATABASE_URL=postgresql://x", "requirements-replicas.txt"),
        ({}, " export REDIS_URL = 'redis://x'", "requirements-replicas.txt"),
        ({}, "#REDIS_URL=redis://x", "requirements.txt"),
    ],
)
def test_run_installs_the_packages_that_the_settings_need(
    recorded: Path, variables: dict[str, str], line: str, lock: str
) -> None:
    for installed in (recorded / ".venv").glob("installed-*"):
        installed.unlink()
    (recorded / "arguments").write_text("")
    (recorded / ".env").write_text(f"PORT=1\n{line}\n")
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(":") if not Path(folder, "uv").exists())
    assert f"from {lock}: " in run_command_of(recorded, "serve", PATH=path, **variables)
    _, install, serve = (recorded / "arguments").read_text().splitlines()
    assert install.endswith(f"--require-hashes -r {lock}")
    assert serve == "app.py serve --help"


def test_an_installation_that_fails_shows_the_reason(ready: Path, port: int, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    copy_of_run(ready, broken)
    (broken / ".venv").mkdir()
    (broken / ".venv/bin").symlink_to(ready / ".venv/bin")
    (broken / "requirements.txt").write_text("nothing-has-this-name==1.0 --hash=sha256:" + "0" * 64 + "\n")
    variables = environment(port, PIP_NO_INDEX="1", UV_NO_INDEX="1")
    ran = subprocess.run(["./run"], cwd=broken, env=variables, check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "nothing-has-this-name" in ran.stderr
    assert not (broken / ".venv/installed-requirements.txt").exists()


def test_the_readme_names_only_commands_of_run(checkout: Path) -> None:
    known = subprocess.run(["./run", "help"], cwd=checkout, check=True, capture_output=True, text=True).stdout
    for command in re.findall(r"\./run (\w+)", README):
        assert f"./run {command}" in known
    unknown = subprocess.run(["./run", "dance"], cwd=checkout, check=False, capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "./run help" in unknown.stderr


TOOLS = ("ruff check", "ruff format", "codespell", "vulture", "mypy", "lint-imports")


@pytest.mark.parametrize("failing", [None, *TOOLS])
def test_run_check_fails_if_one_of_its_tools_does(
    checkout: Path, port: int, tmp_path: Path, failing: str | None
) -> None:
    """Without the tools themselves, which take a minute: programs of their names that note how they were called."""
    folder = tmp_path / "bare"
    copy_of_run(checkout, folder)
    lock = folder / "requirements-test.txt"
    lock.write_text("")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (folder / ".venv" / f"installed-{lock.name}").write_text("")
    for tool in {tool.split()[0] for tool in TOOLS}:
        program = programs / tool
        program.write_text(f'#!/bin/sh\necho {tool} "$@" >>called\ncase "{tool} $*" in "{failing}"*) exit 1 ;; esac\n')
        program.chmod(0o755)
    ran = subprocess.run(["./run", "check"], cwd=folder, env=environment(port), check=False, capture_output=True)
    assert (ran.returncode == 0) == (failing is None), ran.stderr
    called = (folder / "called").read_text().splitlines()
    expected = TOOLS if failing is None else TOOLS[: TOOLS.index(failing) + 1]
    assert [line.startswith(tool) for line, tool in zip(called, expected, strict=True)] == [True] * len(expected)


def test_a_python_that_is_too_old_or_missing_gets_one_sentence(checkout: Path, port: int, tmp_path: Path) -> None:
    copy_of_run(checkout, tmp_path / "bare")
    variables = environment(port, PYTHON="/nonexistent/python")
    ran = subprocess.run(["./run"], cwd=tmp_path / "bare", env=variables, check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "PYTHON is /nonexistent/python, which does not exist or is older than Python 3.11.\n"


def test_tests_without_clients_need_neither_node_nor_a_browser() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), "/nonexistent"])
    test = "tests/test_sse.py::test_an_event_is_returned_as_soon_as_it_is_complete"
    command = [sys.executable, "-m", "pytest", test, "-p", "no:cacheprovider"]
    subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"PATH": path, "CHROMIUM": "/nonexistent"},
        check=True,
        timeout=SET_UP_SECONDS,
    )
