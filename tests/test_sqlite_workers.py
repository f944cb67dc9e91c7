"""Workers that share one SQLite file: each serves the answers of the others, and counts the limits with them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from chatapi.simulator import Gate, Simulator, scripts
from tests.server_process import KEY, REQUEST_SECONDS, run_command
from tests.test_workers import Workers, is_alive
from tests.waiting import wait_for

RATE_LIMIT = 6  # so that none comes back while a test runs
SLOTS = 3
LONG = "0123456789" * 10_000  # more than one message between workers carries


class At(requests.Session):
    """A connection to one worker, and no other: for one request at a time."""

    def __init__(self, workers: Workers, number: int, key: str = KEY) -> None:
        super().__init__()
        self._key = key
        self._url = workers.url
        self._answer: requests.Response | None = None
        others = [pid for place, pid in enumerate(workers.pids()) if place != number and is_alive(pid)]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)  # so that only this one accepts
        try:
            assert self.get("/livez").status_code == 200
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        assert self._answer is None, "the connection is in use"
        more["headers"] = {"Authorization": f"Bearer {self._key}"} | (more.get("headers") or {})
        more["timeout"] = REQUEST_SECONDS
        answer = super().request(method, self._url + str(url), *args, **more)
        if more.get("stream"):
            self._answer = answer
        return answer

    def chat(self, text: str = "Hi", *, headers: Any = None, **more: Any) -> requests.Response:
        """POST /api/chat, and return when the status has arrived."""
        body = {"user_message": text, "api_key": self._key, **more}
        if "session_id" not in body:
            body["developer_message"] = "Be brief."
        return self.post("/api/chat", json=body, headers=headers, stream=True)

    def read(self, size: int | None = None) -> str:
        """Return the next bytes of the streamed answer, or all that is left."""
        assert self._answer is not None
        found = b""
        while size is None or len(found) < size:
            more = self._answer.raw.read1(-1 if size is None else size - len(found), decode_content=True)
            if not more:
                break
            found += more
        return found.decode()


@pytest.fixture(scope="module")
def workers(upstream: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    limits = {"CHATAPI_RATE_LIMIT": str(RATE_LIMIT), "CHATAPI_MAX_GENERATIONS_PER_KEY": str(SLOTS)}
    limits["CHATAPI_SLOT_WAIT_SECONDS"] = "0.1"
    started = Workers(tmp_path_factory.mktemp("workers"), upstream.url, **limits).start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def at(workers: Workers, key: str) -> Iterator[Any]:
    """Make connections to a worker."""
    with ExitStack() as opened:
        yield lambda number: opened.enter_context(At(workers, number, key))


def test_an_answer_of_another_worker_is_read_resumed_and_listed_while_it_runs(
    at: Any, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, LONG, " and the end")
    live = at(0)
    session = live.chat().headers["X-Session-ID"]
    assert live.read(len(LONG)) == LONG
    stream = f"/api/chat/{session}/stream?offset="
    for offset in (0, 1, len(LONG) - 1):  # all that was shown there can be read here
        resumed = at(1)
        assert resumed.get(f"{stream}{offset}", stream=True).status_code == 200
        assert resumed.read(len(LONG) - offset) == LONG[offset:]
    other = at(1)
    (_, answer) = other.get(f"/api/sessions/{session}/messages").json()["data"]
    assert (answer["status"], answer["content"]) == ("running", LONG)
    assert other.get(f"{stream}{len(LONG) + 1}").status_code == 416
    other.get(f"{stream}{len(LONG)}", stream=True)
    gate.open()
    assert other.read() == live.read() == " and the end"


def test_a_stop_reaches_the_worker_that_answers(at: Any, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    live = at(0)
    session = live.chat().headers["X-Session-ID"]
    assert live.read(5) == "Hello"
    stopped = at(1).post(f"/api/chat/{session}/stop")
    assert (stopped.status_code, stopped.json()["text"]) == (200, "Hello")


def test_a_delete_reaches_the_worker_that_answers(at: Any, workers: Workers, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    live = at(0)
    session = live.chat().headers["X-Session-ID"]
    assert live.read(5) == "Hello"
    assert at(1).delete(f"/api/sessions/{session}").status_code == 200
    assert upstream.requests[-1].left.wait(1), "the connection to the model API stays open"


def test_a_repeated_send_at_another_worker_attaches_to_the_running_answer(
    at: Any, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    headers = {"Idempotency-Key": "once"}
    asked = len(upstream.requests)
    live, again = at(0), at(1)
    first = live.chat(headers=headers)
    assert live.read(5) == "Hello"
    assert at(1).chat(session_id=first.headers["X-Session-ID"]).status_code == 409
    repeated = again.chat(headers=headers)
    assert repeated.headers["X-Generation-ID"] == first.headers["X-Generation-ID"]
    gate.open()
    assert (again.read(), live.read()) == ("Hello there.", " there.")
    assert len(upstream.requests) == asked + 1


def test_the_workers_count_requests_and_running_answers_together(at: Any, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    running = [at(number % 2) for number in range(SLOTS)]
    left = [int(one.chat().headers["X-RateLimit-Remaining"]) for one in running]
    assert left == [RATE_LIMIT - 1 - number for number in range(SLOTS)]
    for number in range(2):
        refused = at(number).chat()
        assert (refused.status_code, json.loads(refused.content)["code"]) == (429, "too_many_generations")
    gate.open()
    assert [one.read() for one in running] == ["Hello there."] * SLOTS
    assert at(1).chat().status_code == 200
    assert [at(number).chat().status_code for number in range(2)] == [429, 429]


def test_no_second_service_opens_the_file_of_workers(workers: Workers) -> None:
    settings = {"DATABASE_URL": workers.environment["DATABASE_URL"], "CHATAPI_WORKERS": "2"}
    ended = run_command("serve", "--port", "0", cwd=workers.folder, settings=settings)
    assert (ended.returncode, "another server has the file" in ended.stderr) == (2, True)


def test_killed_workers_and_services_lose_nothing_with_any_number_of_workers(
    simulator: Simulator, tmp_path: Path, gate: Gate
) -> None:
    simulator.script = scripts.held(gate)
    workers = Workers(tmp_path, simulator.url, CHATAPI_MAX_GENERATIONS_PER_KEY="2").start()
    with At(workers, 0) as dying, At(workers, 0) as dying_too, At(workers, 1) as follower, At(workers, 1) as living:
        lost = dying.chat().headers["X-Session-ID"]
        assert dying.read(5) == "Hello"
        assert dying_too.chat().status_code == 200
        follower.get(f"/api/chat/{lost}/stream?offset=0", stream=True)
        assert follower.read(5) == "Hello"
        os.kill(workers.pids()[0], signal.SIGKILL)
        wait_for(lambda: len(workers.pids()) == 3)
        with pytest.raises(urllib3.exceptions.HTTPError):
            follower.read()
        assert outcome(workers, lost) == ("interrupted", "Hello")
        sessions = [living.chat().headers["X-Session-ID"]]  # the slots of the dead worker are free
        assert living.read(5) == "Hello"
    for count in (3, 1):
        workers.kill()
        workers.environment["CHATAPI_WORKERS"] = str(count)
        workers.start()
        assert outcome(workers, sessions[-1]) == ("interrupted", "Hello")
        with At(workers, count - 1) as last:
            sessions.append(last.chat().headers["X-Session-ID"])
            assert last.read(5) == "Hello"
    workers.stop()
    assert [path.name for path in tmp_path.glob("chat.db.journal/*")] == []


def outcome(workers: Workers, session: str) -> tuple[str, str]:
    (_, answer) = workers.messages(session, key=KEY)
    return answer["status"], answer["content"]
