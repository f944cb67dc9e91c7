"""Limits as users meet them: announced, refused before the upstream is called, and released."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import requests

from chatapi.limits.times import SWEEP_AT, LocalTimes
from chatapi.simulator import Gate, Simulator, refuse, scripts
from tests.server_process import Serve, Service, fresh_key

SECONDS = 10.0
NARROW = {
    "CHATAPI_RATE_LIMIT": "0",
    "CHATAPI_MAX_GENERATIONS_PER_KEY": "1",
    "CHATAPI_MAX_GENERATIONS": "2",
    "CHATAPI_SLOT_WAIT_SECONDS": "0.5",
}
RATE_LIMIT = 3  # requests per key and minute, on the server that counts
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def counting(serve_module: Serve) -> Service:
    """A server with a low limit of requests per key and minute."""
    return serve_module(CHATAPI_RATE_LIMIT=str(RATE_LIMIT))


@pytest.fixture(scope="module")
def narrow(serve_module: Serve) -> Service:
    """A server with one answer per key at a time, and two in all."""
    return serve_module(**NARROW)


@pytest.fixture(scope="module")
def impatient(serve_module: Serve) -> Service:
    """The same with a short timeout for a silent upstream."""
    return serve_module(CHATAPI_IDLE_SECONDS="0.3", **NARROW)


@pytest.fixture(scope="module")
def unlimited(serve_module: Serve) -> Service:
    """A server without limits."""
    off = dict.fromkeys(("CHATAPI_RATE_LIMIT", "CHATAPI_MAX_GENERATIONS_PER_KEY", "CHATAPI_MAX_GENERATIONS"), "0")
    return serve_module(**off)


# Requests per minute


def test_a_user_sees_how_many_requests_are_left_and_then_how_long_to_wait(
    counting: Service, upstream: Simulator, key: str
) -> None:
    for left in (2, 1, 0):
        with counting.send(key=key) as response:
            assert response.status_code == 200
            assert response.headers["X-RateLimit-Limit"] == str(RATE_LIMIT)
            assert response.headers["X-RateLimit-Remaining"] == str(left)
            assert response.text
    asked = len(upstream.requests)
    with counting.send(key=key) as response:
        assert response.status_code == 429
        assert response.json()["code"] == "rate_limited"
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["X-RateLimit-Limit"] == str(RATE_LIMIT)
        assert response.headers["X-RateLimit-Remaining"] == "0"
        assert 1 <= int(response.headers["Retry-After"]) <= 60 / RATE_LIMIT
    assert len(upstream.requests) == asked


def test_each_key_has_a_limit_of_its_own(counting: Service, key: str) -> None:
    for _ in range(RATE_LIMIT):
        with counting.send(key=key) as response:
            assert response.text
    with counting.send(key=key) as response:
        assert response.status_code == 429
    with counting.send(key=fresh_key("another")) as response:
        assert response.status_code == 200


def test_testing_a_key_counts_as_a_request(counting: Service, upstream: Simulator, key: str) -> None:
    for _ in range(RATE_LIMIT):
        assert counting.post("/api/test-key", json={"api_key": key}).status_code == 200
    asked = len(upstream.requests)
    for response in (counting.post("/api/test-key", json={"api_key": key}), counting.send(key=key)):
        with response:
            assert response.status_code == 429
            assert int(response.headers["Retry-After"]) >= 1
    assert len(upstream.requests) == asked


def test_an_invalid_request_does_not_count(counting: Service, key: str) -> None:
    for _ in range(RATE_LIMIT + 1):
        with counting.send(key=key, temperature=9) as response:
            assert response.status_code == 422
    with counting.send(key=key) as response:
        assert response.headers["X-RateLimit-Remaining"] == str(RATE_LIMIT - 1)


def test_reading_is_never_limited(counting: Service, key: str) -> None:
    for _ in range(RATE_LIMIT):
        with counting.send("Count to 2", key=key) as response:
            assert response.text == "1 2"
    session_id = response.headers["X-Session-ID"]
    for _ in range(RATE_LIMIT + 1):
        assert counting.get(f"/api/sessions/{session_id}", key=key).status_code == 200
        assert counting.get(f"/api/chat/{session_id}/stream?offset=0", key=key).text == "1 2"
        assert counting.post(f"/api/chat/{session_id}/stop", key=key).status_code == 200
        assert counting.get("/api/health").status_code == 200


# Concurrent answers


def test_a_key_runs_a_limited_number_of_answers_at_once(
    narrow: Service, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate)
    with narrow.send(key=key) as first:
        asked = len(upstream.requests)
        with narrow.send(key=key) as second:
            assert second.status_code == 429
            assert second.json()["code"] == "too_many_generations"
            assert int(second.headers["Retry-After"]) >= 1
            assert "X-Session-ID" not in second.headers
        assert len(upstream.requests) == asked
        with narrow.send(key=fresh_key("somebody else")) as other:
            assert other.status_code == 200
            gate.open()
            assert first.text == other.text == "Hello there."


@pytest.mark.one_process("this limit is each replica's own")
def test_the_server_runs_a_limited_number_of_answers_at_once(narrow: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with narrow.send(key=fresh_key("one")) as one, narrow.send(key=fresh_key("two")) as two:
        asked = len(upstream.requests)
        with narrow.send(key=fresh_key("three")) as three:
            assert three.status_code == 503
            assert three.json()["code"] == "overloaded"
            assert int(three.headers["Retry-After"]) >= 1
        assert len(upstream.requests) == asked
        gate.open()
        assert one.text == two.text == "Hello there."
    with narrow.send(key=fresh_key("three")) as three:
        assert three.status_code == 200


def test_a_refused_request_creates_no_session(narrow: Service, upstream: Simulator, gate: Gate, key: str) -> None:
    upstream.script = scripts.held(gate)
    with narrow.send(key=key):
        before = narrow.get("/api/sessions", key=key).json()["data"]
        with narrow.send(key=key) as refused:
            assert refused.status_code == 429
        assert narrow.get("/api/sessions", key=key).json()["data"] == before
        gate.open()


def test_a_repeated_request_takes_no_slot(narrow: Service, upstream: Simulator, gate: Gate, key: str) -> None:
    upstream.script = scripts.held(gate)
    once = {"Idempotency-Key": "once"}
    with narrow.send(key=key, headers=once) as first, narrow.send(key=key, headers=once) as second:
        assert second.status_code == 200
        assert second.headers["X-Generation-ID"] == first.headers["X-Generation-ID"]
        gate.open()
        assert first.text == second.text == "Hello there."


def test_an_interrupted_answer_passes_its_slot_to_the_next(
    narrow: Service, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    with narrow.send(key=key) as first:
        session_id = first.headers["X-Session-ID"]
        with narrow.send(key=key, session_id=session_id) as busy:
            assert busy.status_code == 409
        with narrow.send("Count to 2", key=key, session_id=session_id, if_busy="interrupt") as second:
            assert second.status_code == 200
            assert second.text == "1 2"


def completes(server: Service, upstream: Simulator, key: str) -> None:
    with server.send(key=key) as response:
        assert response.text


def is_refused(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = refuse(401)
    with server.send(key=key) as response:
        assert response.status_code == 401


def is_cut(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.cut_after("Half")
    with server.send(key=key) as response, pytest.raises(requests.exceptions.ChunkedEncodingError):
        assert response.content


def falls_silent(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.silent_after("Half")
    with server.send(key=key, headers=EVENTS) as response:
        assert b"upstream_timeout" in response.content


def is_stopped(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.silent_after("")
    with server.send(key=key) as response:
        session_id = response.headers["X-Session-ID"]
        assert server.post(f"/api/chat/{session_id}/stop", key=key).json()["status"] == "stopped"


def is_deleted(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.silent_after("")
    with server.send(key=key) as response:
        session_id = response.headers["X-Session-ID"]
        assert server.delete(f"/api/sessions/{session_id}", key=key).status_code == 200


def loses_its_only_reader(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.silent_after("Half")
    with server.send(key=key, on_disconnect="cancel") as response:
        generation_id = response.headers["X-Generation-ID"]
    server.wait_for_log("generation", generation_id=generation_id)


def never_begins(server: Service, upstream: Simulator, key: str) -> None:
    with server.send(key=key, session_id="ses_none") as response:
        assert response.status_code == 404


def is_only_repeated(server: Service, upstream: Simulator, key: str) -> None:
    for _ in range(2):
        with server.send(key=key, headers={"Idempotency-Key": "again"}) as response:
            assert response.text


@pytest.mark.parametrize(
    "ends",
    [
        completes,
        is_refused,
        is_cut,
        is_stopped,
        loses_its_only_reader,
        never_begins,
        is_only_repeated,
    ],
)
def test_the_slot_of_an_answer_is_released_for_every_kind_of_end(
    narrow: Service, upstream: Simulator, key: str, ends: Callable[[Service, Simulator, str], None]
) -> None:
    for _ in range(3):  # more than there are slots
        ends(narrow, upstream, key)
    upstream.script = None
    with narrow.send("Count to 2", key=key) as response:
        assert (response.status_code, response.text) == (200, "1 2")


def test_the_slot_is_released_when_the_upstream_falls_silent(impatient: Service, upstream: Simulator, key: str) -> None:
    for _ in range(3):
        falls_silent(impatient, upstream, key)
    upstream.script = None
    with impatient.send("Count to 2", key=key) as response:
        assert (response.status_code, response.text) == (200, "1 2")


@pytest.mark.one_process("another replica's place is free within a second")
def test_the_slot_is_released_when_the_session_is_deleted(narrow: Service, upstream: Simulator, key: str) -> None:
    for _ in range(3):
        is_deleted(narrow, upstream, key)
    upstream.script = None
    with narrow.send("Count to 2", key=key) as response:
        assert (response.status_code, response.text) == (200, "1 2")


# No limits


def test_groups_whose_buckets_are_empty_do_not_stay_in_memory() -> None:
    times = LocalTimes()
    for number in range(SWEEP_AT):
        times.set(f"old-{number}", 1.0, 0.0)
    times.set("busy", 3.0, 2.0)
    assert (times.get("old-0"), times.get("busy")) == (0.0, 3.0)
    for number in range(SWEEP_AT - 1):
        times.set(f"new-{number}", 3.0, 2.0)
    assert {times.get(f"new-{number}") for number in range(SWEEP_AT - 1)} == {3.0}, "those that count stay"


def test_limits_can_be_switched_off(unlimited: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with ExitStack() as stack:
        key = fresh_key("greedy")
        answers = [stack.enter_context(unlimited.send(key=key)) for _ in range(20)]
        assert {response.status_code for response in answers} == {200}
        gate.open()
        assert {response.text for response in answers} == {"Hello there."}


def test_without_a_limit_of_ours_the_upstreams_is_shown(unlimited: Service, upstream: Simulator) -> None:
    upstream.script = scripts.answer("Hi")
    with unlimited.send(key=fresh_key("off")) as response:
        assert (response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"]) == ("60", "59")
