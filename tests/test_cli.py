"""The command line: options, and one sentence instead of a traceback when it cannot start."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from chatapi import __version__
from chatapi.server.serve import listen
from chatapi.settings import Settings, SettingsError
from chatapi.simulator import Simulator
from tests.fork_server import fork_server
from tests.server_process import PROJECT, Service, environment_without_settings, run_command

SECONDS = 60.0
FORKED_APP = [str(PROJECT / "app.py")]
APP = [sys.executable, *FORKED_APP]
MODULE = [sys.executable, "-m", "chatapi"]
# Runs app.py, and presses Ctrl-C where the file's first argument says: at an import, or at an audit event.
INTERRUPTING = """
import os, runpy, signal, sys
where, sys.argv = sys.argv[1], sys.argv[2:]
state = {"pressed": False}

def press(name):
    if name == where and not state["pressed"]:
        state["pressed"] = True
        os.kill(os.getpid(), signal.SIGINT)

class Finder:
    def find_spec(name, path=None, target=None):
        press(name)

sys.meta_path.insert(0, Finder)
sys.addaudithook(lambda event, arguments: press(event))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an empty folder, with these settings alone, in an interpreter of its own."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment_with(variables),
        capture_output=True,
        timeout=SECONDS,
        text=True,
        check=False,
    )


def run_forked(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python app.py` with these arguments in an empty folder, with these settings alone."""
    return fork_server().run([*FORKED_APP, *arguments], env=environment_with(variables), cwd=folder, timeout=SECONDS)


def environment_with(variables: dict[str, str]) -> dict[str, str]:
    return environment_without_settings() | {"PYTHONPATH": str(PROJECT), "PORT": "0"} | variables


@pytest.mark.parametrize("command", [APP, MODULE])
def test_the_version(tmp_path: Path, command: list[str]) -> None:
    ended = run(*command, "--version", folder=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"OpenAI Chat API {__version__}\n", "")


@pytest.mark.parametrize(("command", "name"), [(APP, "python app.py"), (MODULE, "python -m chatapi")])
def test_help_shows_the_command_as_it_was_typed(tmp_path: Path, command: list[str], name: str) -> None:
    assert run(*command, "--help", folder=tmp_path).stdout.startswith(f"usage: {name} ")


@pytest.mark.parametrize("arguments", [["--port", "{}"], ["serve", "--host", "127.0.0.1", "--port={}"]])
@pytest.mark.one_process("about the command line")
def test_port_and_host_are_options(upstream: Simulator, tmp_path: Path, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = Service(tmp_path, upstream.url, HOST="127.0.0.9", PORT="1")
    if "--host" not in arguments:
        service.environment["HOST"] = "127.0.0.1"
    command = [*FORKED_APP, *(argument.format(port) for argument in arguments)]
    env = environment_without_settings() | service.environment
    with fork_server().start(command, env=env, cwd=tmp_path) as process:
        line = next(line for line in process.stderr if "serving" in line)
        assert json.loads(line)["url"] == f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(SECONDS) == 0


@pytest.mark.one_process("about a file that another process has open")
def test_a_demo_that_cannot_start_prints_no_commands_to_try(service: Service, tmp_path: Path) -> None:
    taken = {"DATABASE_URL": service.environment["DATABASE_URL"]}
    ended = run_command("demo", "--port", "0", cwd=tmp_path, settings=taken)
    assert ended.returncode == 2
    assert "Cannot start" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("origins", [{}, {"CHATAPI_CORS_ORIGINS": "*, http://localhost:3000"}])
def test_the_demo_serves_pages_of_the_origins_that_are_named(tmp_path: Path, origins: dict[str, str]) -> None:
    """The demo shows its key in its configuration, so `*` does not count there."""
    named, other = "http://localhost:3000", "http://localhost:4000"
    env = environment_with({"PYTHONPATH": "", **origins})  # in a folder without the package
    with fork_server().start([*FORKED_APP, "demo"], env=env, cwd=tmp_path) as process:
        line = next(line for line in process.stderr if "serving" in line)
        url = json.loads(line)["url"]
        allowed, refused = (
            requests.options(
                f"{url}/api/chat", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}, timeout=SECONDS
            )
            for origin in (named, other)
        )
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(SECONDS) == 0
    assert allowed.headers.get("Access-Control-Allow-Origin") == (named if origins else None)
    assert refused.status_code == 400
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert "not in CHATAPI_CORS_ORIGINS" in refused.text


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"CHATAPI_RATELIMIT": "3"},
            "Cannot start. CHATAPI_RATELIMIT is not a setting. Did you mean CHATAPI_RATE_LIMIT?\n",
        ),
        ({"PORT": "http"}, "Cannot start. PORT: must be an integer.\n"),
        (
            {"HOST": "192.0.2.1"},
            "Cannot start. HOST: this machine has no address 192.0.2.1. Choose 127.0.0.1, or 0.0.0.0 for all "
            "addresses.\n",
        ),
        (
            {"HOST": "a host.invalid"},
            "Cannot start. HOST: this machine has no address a host.invalid. Choose 127.0.0.1, or 0.0.0.0 for all "
            "addresses.\n",
        ),
    ],
)
def test_a_start_that_is_impossible_ends_with_one_sentence_and_status_2(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    ended = run_forked(folder=tmp_path, **variables)
    assert (ended.returncode, ended.stderr) == (2, sentence)


def test_uvicorn_shows_the_same_sentence(tmp_path: Path) -> None:
    ended = run(sys.executable, "-m", "uvicorn", "app:app", folder=tmp_path, CHATAPI_RATELIMIT="3")
    assert ended.returncode != 0
    assert ended.stderr == "Cannot start. CHATAPI_RATELIMIT is not a setting. Did you mean CHATAPI_RATE_LIMIT?\n"


def test_a_taken_port_is_named_with_another_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_forked("--port", str(port), folder=tmp_path)
    assert ended.returncode == 2
    assert f"another program uses port {port} on 127.0.0.1. Choose another port: --port {port + 1}." in ended.stderr
    assert "Errno" not in ended.stderr


def test_a_port_that_needs_rights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(SettingsError, match="ports below 1024 need the rights of root") as refused:
        listen(Settings(port=80))
    assert "Stop" not in str(refused.value)


def test_a_command_whose_reader_has_ended_ends_without_a_traceback(tmp_path: Path) -> None:
    """As in `chatapi doctor | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*APP, "completion", "bash"],
            cwd=tmp_path,
            env=environment_with({}),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_migrate_without_its_package_says_what_to_install(upstream: Simulator, tmp_path: Path) -> None:
    service = Service(tmp_path, upstream.url).start()
    service.stop()
    source = service.environment["DATABASE_URL"]
    code = (
        "import sys; sys.modules['asyncpg'] = None; from chatapi.cli import main; "
        f"sys.exit(main(['migrate', '--from', {source!r}, '--to', 'postgresql://u:p@127.0.0.1:1/x']))"
    )
    ended = run(sys.executable, "-c", code, folder=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "the package asyncpg is not installed" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("where", ["starlette", "uvloop", "socket.bind", "sqlite3.connect"])
def test_ctrl_c_during_a_start_ends_without_a_traceback(tmp_path: Path, where: str) -> None:
    script = tmp_path / "interrupting.py"
    script.write_text(INTERRUPTING)
    command = [str(script), where, *FORKED_APP]
    if "." in where:  # an event after the imports
        env = environment_with({})
        ended = fork_server().run(command, env=env, cwd=tmp_path, timeout=SECONDS)
    else:
        ended = run(sys.executable, *command, folder=tmp_path)
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.returncode == 130, ended.stderr


@pytest.mark.one_process("about the connection to the model API")
def test_a_proxy_sees_the_name_of_the_model_api_and_no_key(tmp_path: Path) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with suppress(OSError):  # the end
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        seen.append(connection.recv(65536))
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        service = Service(tmp_path, "https://model.invalid/v1", HTTPS_PROXY=proxy, NO_PROXY="").start()
        try:
            assert service.send("Hello").status_code >= 500
        finally:
            service.stop()
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
    assert seen[0].startswith(b"CONNECT model.invalid:443 ")
    assert b"sk-proj" not in seen[0]
