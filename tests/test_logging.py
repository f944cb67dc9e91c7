"""Logs: a write never raises and never waits, lines for people on a terminal, JSON elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from chatapi.simulator import Gate, Simulator, scripts
from chatapi.simulator import running as run_simulator
from chatapi.telemetry.logging import BACKLOG_BYTES, ConsoleRenderer, LineWriter, render_json
from tests.fork_server import ForkedProcess, fork_server
from tests.server_logs import LAST_LINES, excerpts, log_lengths
from tests.server_process import END_SECONDS, PROJECT, STARTED, Service, environment_without_settings
from tests.waiting import wait_for

FULL_DISK = "/dev/full"
PIPE_BYTES = 64 * 1024
SMALL_PIPE_BYTES = 4096


# The writer alone


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            assert end == ends[0], "a test may close the reading end"


def report(lines: int) -> str:
    return f"lost {lines}"


def drain(descriptor: int) -> list[str]:
    """Everything that the pipe holds now, as lines."""
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while piece := os.read(descriptor, PIPE_BYTES):
            data += piece
    except BlockingIOError:
        pass
    return data.decode().splitlines()


def test_lines_that_a_full_pipe_does_not_take_are_written_later_in_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], report)
    lines = [f"{number} {'x' * 100}" for number in range(1500)]
    assert PIPE_BYTES < sum(map(len, lines)) < PIPE_BYTES + BACKLOG_BYTES
    for line in lines:
        writer.write(line)
    found = drain(pipe[0])
    while len(found) < len(lines):
        writer.write("more")
        found += drain(pipe[0])
        assert "lost" not in "".join(found)
    assert "".join(found).startswith("".join(lines))  # a line may come in two pieces


def test_what_no_longer_fits_in_memory_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], report)
    for number in range(20_000):
        writer.write(f"{number:06} {'x' * 93}")
    text = ""
    for _ in range(20):
        text += "\n".join(drain(pipe[0])) + "\n"
        writer.write("more")
    found = re.findall(r"^\d{6} x{93}$", text, re.MULTILINE)
    (lost,) = re.findall(r"^lost (\d+)$", text, re.MULTILINE)
    assert int(lost) >= 20_000 - len(found) - 40
    assert len(found) * 101 > BACKLOG_BYTES


def test_a_closed_pipe_raises_nothing(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], report)
    os.close(pipe[0])
    for _ in range(3):
        writer.write("a line")
    writer.close()


def test_a_full_disk_raises_nothing_and_loses_no_later_line(tmp_path: Path) -> None:
    descriptor = os.open(FULL_DISK, os.O_WRONLY)
    writer = LineWriter(descriptor, report)
    writer.write("one")
    writer.write("two")
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), descriptor)  # space again
    writer.write("three")
    os.close(descriptor)
    assert (tmp_path / "log").read_text() == "three\nlost 2\n"


def test_the_end_does_not_wait_for_a_pipe_that_nobody_reads(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], report)
    for _ in range(3000):
        writer.write("x" * 100)
    begun = time.monotonic()
    writer.close()
    assert time.monotonic() - begun < 5


def test_a_writer_without_stderr_writes_nothing() -> None:
    writer = LineWriter(None, report)
    writer.write("a line")
    writer.close()


@pytest.mark.parametrize(
    "event",
    [{"event": "\udc80"}, {"event": 2**70}, {1: "event"}, {"event": object()}, {"event": {"deep": {"set": {1}}}}],
)
def test_any_event_becomes_one_line_of_json(event: dict[Any, Any]) -> None:
    line = render_json(None, "info", event)
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)


# Lines for people


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "request", "method": "GET", "path": "/", "status": 200, "duration_ms": 35.6, "request_id": "r"},
            "12:06:52 GET / 200 36 ms",
        ),
        (
            {"event": "request", "method": "GET", "path": "/x", "status": 404, "duration_ms": 1, "code": "not_found"},
            "12:06:52 \x1b[33mGET /x 404 1 ms not_found\x1b[0m",
        ),
        (
            {"event": "request", "method": "POST", "path": "/", "status": 500, "duration_ms": 12_345, "aborted": True},
            "12:06:52 \x1b[31mPOST / 500 12.3 s aborted\x1b[0m",
        ),
        ({"event": "serving", "url": "http://x", "level": "info"}, "12:06:52 serving url=http://x"),
        (
            {"event": "it failed", "reason": "a b\x1b[0m", "level": "warning"},
            "12:06:52 \x1b[33mwarning: it failed\x1b[0m reason='a b\\x1b[0m'",
        ),
        (
            {"event": "it broke", "exception": "Traceback", "level": "error"},
            "12:06:52 \x1b[31merror: it broke\x1b[0m\nTraceback",
        ),
    ],
)
def test_lines_for_people(event: dict[str, Any], line: str) -> None:
    render = ConsoleRenderer(colours=True)
    assert (
        str(render(None, "info", event | {"timestamp": "12:06:52"})).replace("\x1b[2m12:06:52\x1b[0m", "12:06:52")
        == line
    )


# The server


WITHOUT_STDERR = ["bash", "-c", 'exec "$@" 2>&-', "bash"]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A model API of the test's own."""
    with run_simulator(Simulator()) as simulator:
        yield simulator


@contextmanager
def running(folder: Path, upstream: Simulator, stderr: int | None, **environment: Any) -> Iterator[Service]:
    """A server on a free port that logs to this descriptor, or has no standard error. A SIGTERM must end it well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = Service(folder, upstream.url, CHATAPI_DRAIN_SECONDS="60", **environment)
    service.url = f"http://127.0.0.1:{port}"
    arguments = [str(PROJECT / "app.py"), "--port", str(port)]
    env = environment_without_settings() | service.environment
    with (
        fork_server().start(arguments, env=env, cwd=folder, stderr=stderr)
        if stderr is not None
        else subprocess.Popen([*WITHOUT_STDERR, sys.executable, *arguments], env=env, cwd=folder)
    ) as process:
        try:
            wait_for(lambda: answers(process, service))
            yield service
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_SECONDS) == 0
        finally:
            process.send_signal(signal.SIGKILL)


def answers(process: subprocess.Popen[Any] | ForkedProcess, service: Service) -> bool:
    """Whether the server accepts connections yet. It must not have ended."""
    assert process.poll() is None
    try:
        return service.get("/api/health").status_code == 200
    except requests.ConnectionError:
        return False


def is_draining(service: Service) -> bool:
    return service.get("/api/health").status_code == 503


def test_a_log_that_cannot_be_written_stops_neither_answers_nor_the_drain(
    simulator: Simulator, tmp_path: Path, pipe: tuple[int, int]
) -> None:
    unread, full, closed = tmp_path / "unread", tmp_path / "full", tmp_path / "closed"
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SMALL_PIPE_BYTES)
    broken_pipe = os.pipe()
    os.close(broken_pipe[0])
    with open(FULL_DISK, "wb") as full_disk:
        cases: list[tuple[Path, int | None]] = [
            (unread, pipe[1]),
            (tmp_path / "broken", broken_pipe[1]),
            (full, full_disk.fileno()),
            (closed, None),
        ]
        for folder, stderr in cases:
            folder.mkdir()
            gate = Gate()
            simulator.script = scripts.held(gate)
            with running(folder, simulator, stderr) as service:
                for _ in range(40):  # 8 KiB of log: more than the pipe holds
                    assert service.get("/api/sessions/none").status_code == 404
                with service.send("Hello") as response:
                    text = response.iter_content(None)
                    assert next(text) == b"Hello"
                    os.kill(service_pid(service), signal.SIGTERM)
                    wait_for(partial(is_draining, service))
                    gate.open()
                    assert b"".join(text) == b" there."
    os.close(broken_pipe[1])


def service_pid(service: Service) -> int:
    """The process that has the database open."""
    return int((service.folder / "chat.db.lock").read_text())


def on_a_terminal(simulator: Simulator, folder: Path, **environment: str) -> str:
    """The log of a server on a terminal that answered a health check, a 404 and a chat."""
    master, slave = pty.openpty()
    try:
        with running(folder, simulator, slave, **({"CHATAPI_LOG_FORMAT": "auto"} | environment)) as service:
            assert service.get("/api/sessions/none").status_code == 404
            assert service.get("/api/nowhere").status_code == 404
            assert service.send("Count to 5").text == "1 2 3 4 5"
        os.close(slave)
        return b"".join(read_terminal(master)).decode()
    finally:
        os.close(master)


def read_terminal(master: int) -> Iterator[bytes]:
    """Return the rest of the output of a terminal whose other end is closed."""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux reports the end so
            return
        yield piece


def test_a_terminal_gets_lines_for_people(simulator: Simulator, tmp_path: Path) -> None:
    log = on_a_terminal(simulator, tmp_path)
    lines = re.sub("\x1b\\[[0-9]*m", "", log).splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in lines), log
    assert any(re.fullmatch(r"\S+ POST /api/chat 200 \d+ ms", line) for line in lines), log
    assert any(re.fullmatch(r"\S+ GET /api/nowhere 404 \d+ ms not_found req_\S+", line) for line in lines), log
    assert "\x1b[33mGET /api/nowhere 404" in log
    assert "/api/health" not in log
    assert not any(line.startswith("{") for line in lines)


def test_no_color_and_debug(simulator: Simulator, tmp_path: Path) -> None:
    log = on_a_terminal(simulator, tmp_path, NO_COLOR="1", LOG_LEVEL="debug")
    assert "\x1b" not in log
    assert re.search(r"\d GET /api/health 200 \d+ ms\r\n", log)


def test_a_request_line_has_the_code_of_its_error(simulator: Simulator, tmp_path: Path) -> None:
    service = Service(tmp_path, simulator.url).start()
    try:
        assert service.get("/api/nowhere").status_code == 404
        assert service.post("/api/chat", json={"user_message": 5}).status_code == 422
        assert service.wait_for_log("request", status=404)["code"] == "not_found"
        assert service.wait_for_log("request", status=422)["code"] == "invalid_request"
        assert service.send("Hello", key="sk-other").status_code == 400
        assert "CHATAPI_KEY_PATTERN" in service.wait_for_log("request", status=400)["hint"]
        assert service.send("Hello").status_code == 200
        assert "code" not in service.wait_for_log("request", status=200)
    finally:
        service.stop()


def test_the_report_of_a_failed_test_has_the_warnings_and_the_last_lines_of_its_servers(tmp_path: Path) -> None:
    used, other = (Service(tmp_path / name, "") for name in ("used", "other"))
    STARTED.update((used, other))
    used.log.append("before the test\n")
    before = log_lengths()
    lines = [f'{{"event":"request {number}","level":"info"}}\n' for number in range(2 * LAST_LINES)]
    used.log += ['{"event":"it failed","level":"warning"}\n', *lines]
    ((title, text),) = [one for one in excerpts(before) if one[0].startswith(f"log of {tmp_path.name}/")]
    assert title.endswith("/used"), "only servers that logged something meanwhile"
    assert text.splitlines() == [
        line.rstrip() for line in ['{"event":"it failed","level":"warning"}', *lines[-LAST_LINES:]]
    ]
