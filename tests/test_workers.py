"""Several worker processes on one port: replicas under a supervisor that replaces, drains and ends them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from chatapi.server.serve import listen
from chatapi.settings import Settings
from chatapi.simulator import Gate, Simulator, scripts
from tests.cluster import SECRET
from tests.databases import postgres, redis
from tests.fork_server import fork_server
from tests.server_process import KEY, Service, run_command
from tests.waiting import wait_for

SECONDS = 20.0  # for anything a test waits for; it takes milliseconds
COUNT = 2
LEASE_SECONDS = 60  # longer than a test: only a successor closes the answers of a dead worker in time
GET_AHEAD = 40  # new connections, until both workers have an answer


def on_postgres() -> dict[str, str]:
    """Return the settings of workers on an empty PostgreSQL database."""
    return {"DATABASE_URL": postgres().new_database(), "REDIS_URL": redis().url, "CHATAPI_SECRET": SECRET}


class Workers(Service):
    """A supervisor with two workers, on SQLite by default."""

    def __init__(self, folder: Path, upstream_url: str, **environment: str) -> None:
        shared: dict[str, Any] = {
            "CHATAPI_LEASE_SECONDS": str(LEASE_SECONDS),
            "CHATAPI_WORKERS": str(COUNT),
            "CHATAPI_RATE_LIMIT": "0",
            "CHATAPI_MAX_GENERATIONS_PER_KEY": "0",
        }
        self.started_at = 0  # in the log
        super().__init__(folder, upstream_url, **shared | environment)

    @property
    def count(self) -> int:
        """The number of workers of the next start, or of this one."""
        return int(self.environment["CHATAPI_WORKERS"])

    def start(self) -> Workers:
        """Start; return when all workers serve."""
        self.started_at = len(self.log)
        super().start()
        wait_for(lambda: len(self.pids()) == self.count)
        return self

    def kill(self) -> None:
        """Kill the supervisor and all workers with SIGKILL, and wait for their ends."""
        self.signal(signal.SIGKILL)
        for pid in filter(is_alive, self.pids()):
            os.kill(pid, signal.SIGKILL)
        self.wait()

    def wait_for_log(self, event: str, seconds: float = 30, seen: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line; it may be one of a worker, which has a process id of its own."""
        fields.pop("pid", None)
        return super().wait_for_log(event, seconds, seen, **fields)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines with this event since the last start."""
        entries = [json.loads(line) for line in self.log[self.started_at :] if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == name]

    def pids(self) -> list[int]:
        """Return the workers that have served since the last start, in the order of their starts."""
        return [entry["pid"] for entry in self.events("serving")]


@pytest.fixture(params=["sqlite", "postgres"])
def workers(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path, simulator.url, **(on_postgres() if request.param == "postgres" else {})).start()
    yield started
    status = started.stop()
    for pid in filter(is_alive, started.pids()):
        os.kill(pid, signal.SIGKILL)  # only after a failure: it would outlive the test
    assert status in {0, -signal.SIGKILL}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running_by_replica(workers: Workers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = workers.database.rows("SELECT replica, session_id FROM generation WHERE status = 'running'")
    for replica, session_id in rows:
        found.setdefault(replica, []).append(session_id)
    return found


def start_answers_on_both(workers: Workers) -> list[requests.Response]:
    """Start answers on new connections until both workers produce some."""
    responses: list[requests.Response] = []
    while len(running_by_replica(workers)) < COUNT:
        assert len(responses) < GET_AHEAD, "one worker takes all connections"
        responses.append(workers.send("Hi"))
        assert responses[-1].status_code == 200
    return responses


def test_a_dead_worker_is_replaced_and_its_answers_are_closed_at_once(
    workers: Workers, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate)
    responses = start_answers_on_both(workers)
    before = running_by_replica(workers)
    os.kill(workers.pids()[0], signal.SIGKILL)
    wait_for(lambda: len(running_by_replica(workers)) < COUNT)  # long before the lease ends
    (other,) = running_by_replica(workers)
    assert other in before
    (closed,) = [sessions for replica, sessions in before.items() if replica != other]
    for session_id in closed:
        (_, answer) = workers.messages(session_id, key=KEY)
        assert (answer["status"], answer["content"]) == ("interrupted", "Hello")
    assert workers.wait_for_log("worker died")["status"] == -signal.SIGKILL
    wait_for(lambda: len(workers.pids()) == COUNT + 1)
    gate.open()
    for session_id in before[other]:
        with workers.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY) as stream:
            assert stream.text == "Hello there."
    for response in responses:
        response.close()


@pytest.mark.one_process("about a socket")
def test_worker_that_starts_makes_no_other_one_wait_for_a_connection() -> None:
    with listen(Settings(port=0)) as shared, shared.dup():  # as each worker does it
        assert not os.get_blocking(shared.fileno())


def test_sigterm_drains_all_workers(workers: Workers, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    responses = start_answers_on_both(workers)
    workers.signal(signal.SIGTERM)
    wait_for(lambda: len(workers.events("draining")) == COUNT)
    gate.open()
    assert [response.text for response in responses] == ["Hello there."] * len(responses)
    assert workers.wait() == 0
    assert len(workers.events("stopped")) == COUNT


def test_workers_end_with_their_supervisor(workers: Workers) -> None:
    workers.signal(signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, workers.pids())))
    workers.wait()
    assert len(workers.events("stopped")) == COUNT


SUPERVISOR = """
import os, signal, sys
from chatapi.server.workers import Supervisor

def note_fork():
    with open("forks", "a") as forks:
        forks.write(".")
    if {at_once} and os.stat("forks").st_size == 1:
        os.kill(os.getpid(), signal.SIGTERM)

os.register_at_fork(after_in_child=note_fork)
ended = Supervisor(1).run()
if isinstance(ended, int):
    sys.exit(ended)
signal.signal(signal.SIGTERM, lambda *_: {at_the_end})
os.kill(os.getppid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.parametrize(
    ("at_once", "at_the_end", "forks", "status"),
    [
        (True, "os._exit(0)", 2, 0),
        (False, "os._exit(3)", 1, 3),
        (False, "os.kill(os.getpid(), signal.SIGKILL)", 1, 128 + signal.SIGKILL),
    ],
    ids=["a signal at the fork ends the worker", "an exit with 3", "a kill"],
)
def test_the_ends_of_workers_are_those_of_their_supervisor(
    tmp_path: Path, at_once: bool, at_the_end: str, forks: int, status: int
) -> None:
    (tmp_path / "run.py").write_text(SUPERVISOR.format(at_once=at_once, at_the_end=at_the_end))
    ran = fork_server().run([str(tmp_path / "run.py")], env=os.environ, cwd=tmp_path, timeout=SECONDS)
    assert ((tmp_path / "forks").stat().st_size, ran.returncode) == (forks, status), ran.stdout + ran.stderr


POSTGRES = {"DATABASE_URL": "postgresql://u:p@127.0.0.1:9/none", "CHATAPI_SECRET": SECRET}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"DATABASE_URL": "sqlite:////dev/null/chat.db"}, "DATABASE_URL: the file /dev/null/chat.db cannot be used"),
        (POSTGRES | {"CHATAPI_METRICS": "on"}, "CHATAPI_METRICS_PORT: must be set with several workers"),
        (POSTGRES, "DATABASE_URL: "),
    ],
    ids=["no file", "one port for metrics", "no database"],
)
def test_workers_that_cannot_start_end_with_one_sentence(
    tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    ended = run_command("serve", "--port", "0", cwd=tmp_path, settings={"CHATAPI_WORKERS": "2", **settings})
    assert ended.returncode == 2
    assert sentence in ended.stderr
