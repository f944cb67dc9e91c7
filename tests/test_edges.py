"""Edge cases: unusual refusals of an upstream, limits in combination, remote callers, slow readers."""

from __future__ import annotations

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.api.http.error_responses import render
from chatapi.api.http.streaming import EVENT_TEXT_BYTES
from chatapi.environment import read_settings
from chatapi.errors import RateLimited, TooManyGenerations, every_error, from_code
from chatapi.settings import SettingsError
from chatapi.simulator import Gate, Pause, Script, Send, Simulator, answer, refuse, scripts
from chatapi.simulator.wire import JSON
from tests.reader import EVENTS, Reader
from tests.server_process import Serve, Service, events, fresh_key
from tests.test_store_faults import check_one_sentence, start

pytestmark = pytest.mark.one_process("it is about the ports and signals of one")

SECONDS = 10.0
RATE_LIMIT = 100  # requests per key and minute: more than the upstream's 60
CONTEXT_BYTES = 20_000
NOT_FOR_NOW = 60  # a Retry-After that no client waits for
AT_ONCE_SECONDS = 3.0  # much less than the grace period of a slow reader at shutdown


@pytest.fixture(scope="module")
def served(serve_module: Serve) -> Service:
    """A server for most tests: one answer at a time per key, two in all, short conversations."""
    return serve_module(
        CHATAPI_RATE_LIMIT=str(RATE_LIMIT),
        CHATAPI_MAX_GENERATIONS_PER_KEY="1",
        CHATAPI_MAX_GENERATIONS="2",
        CHATAPI_SLOT_WAIT_SECONDS="0.5",
        CHATAPI_MAX_CONTEXT_BYTES=str(CONTEXT_BYTES),
        CHATAPI_CORS_ORIGINS="https://Chat.Example.org/, http://127.0.0.1:3000",
    )


def in_two_segments(status: int, body: bytes, **headers: str) -> Script:
    """A body whose second half is sent later."""
    half = len(body) // 2
    sends = (Send(body[:half]), Pause(0.2), Send(body[half:]))
    return Script(status, {"Content-Type": JSON, "Content-Length": str(len(body))} | headers, sends)


def is_let_in(service: Service) -> bool:
    """Return whether the server accepts another connection."""
    address = urlsplit(service.url)
    with socket.socket() as client:
        return client.connect_ex((address.hostname, address.port)) == 0


def limits_of(response: requests.Response) -> list[list[str]]:
    """Return every value of the seed's two rate headers, including repeated ones."""
    headers = response.raw.headers
    return [headers.getlist(name) for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining")]


# Responses of the upstream


def test_a_refusal_in_two_segments_keeps_its_sentence(served: Service, upstream: Simulator, key: str) -> None:
    sentence = "You exceeded your current quota, please check your plan."
    body = json.dumps({"error": {"message": sentence, "type": "x", "param": None, "code": "insufficient_quota"}})
    upstream.script = in_two_segments(429, body.encode(), **{"Retry-After": "1"})
    asked = len(upstream.requests)
    response = served.send(key=key)
    assert (response.status_code, response.json()["code"]) == (429, "upstream_rate_limited")
    assert response.json()["detail"] == sentence
    assert response.headers["Retry-After"] == "1"
    assert len(upstream.requests) == asked + 1, "an exhausted quota is not retried"


def test_rate_headers_of_the_upstream_do_not_duplicate_ours(served: Service, upstream: Simulator, key: str) -> None:
    theirs = {"X-RateLimit-Limit": "7", "X-RateLimit-Remaining": "6", "X-RateLimit-Reset": "1"}
    steps = tuple(answer("Hi").steps)
    upstream.script = Script(200, {"Content-Type": "text/event-stream", **theirs}, steps)
    response = served.send(key=key)
    assert response.text == "Hi"
    assert limits_of(response) == [[str(RATE_LIMIT)], [str(RATE_LIMIT - 1)]]
    upstream.script = in_two_segments(429, b"{}", **theirs)
    refused = served.send(key=key)
    assert refused.status_code == 429
    assert limits_of(refused) == [[str(RATE_LIMIT)], [str(RATE_LIMIT - 2)]]


def test_a_429_of_the_upstream_shows_its_limit_and_passes_on_its_headers(
    served: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = refuse(429, retry_after=NOT_FOR_NOW)
    response = served.send(key=key)
    assert (response.status_code, response.headers["Retry-After"]) == (429, str(NOT_FOR_NOW))
    assert limits_of(response) == [["60"], ["0"]], "the tighter of the two"
    family = {name: response.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")}
    assert family == {"limit": "60", "remaining": "0", "reset": "1s"}
    assert response.headers["X-Session-ID"]


def test_our_limit_is_shown_if_it_is_the_tighter(served: Service, upstream: Simulator, key: str) -> None:
    upstream.script = None
    for _ in range(60):  # tokens of the bucket come back meanwhile
        assert served.post("/api/test-key", json={"api_key": key}).status_code == 200
    upstream.script = answer("Hi")  # the upstream reports that 59 of 60 are left
    [limit], [remaining] = limits_of(served.send(key=key))
    assert limit == str(RATE_LIMIT)
    assert int(remaining) < 59


def test_a_model_name_may_have_underscores(served: Service, upstream: Simulator, key: str) -> None:
    upstream.script = answer("Hi")
    assert served.send(key=key, model="my_own/model_v1.2:free").text == "Hi"
    assert upstream.requests[-1].body["model"] == "my_own/model_v1.2:free"


# Remote callers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://localhost.evil.example", "http://localhost:3000", "http://["]
)
def test_a_page_on_another_site_needs_the_key(served: Service, upstream: Simulator, key: str, origin: str) -> None:
    upstream.script = answer("Hi")
    session_id = served.send(key=key).headers["X-Session-ID"]
    path = f"/api/sessions/{session_id}"
    there = {"Origin": origin}
    never = served.get("/api/sessions/ses_none", headers=there)
    for refused in (
        served.get(path, headers=there),
        served.get(f"{path}/messages", headers=there),
        served.get(f"/api/chat/{session_id}/stream?offset=0", headers=there),
        served.post(f"/api/chat/{session_id}/stop", headers=there),
        served.delete(path, headers=there),
    ):
        assert (refused.status_code, refused.content) == (401, never.content)
    assert served.get(path, key=key, headers=there).status_code == 200
    for here in ({}, {"Origin": served.url}):
        assert served.get(path, headers=here).status_code == 200, "on this machine the id is enough"


def test_new_sessions_are_counted_by_address_for_any_key(served: Service, upstream: Simulator, key: str) -> None:
    def create(number: int) -> requests.Response:
        invented = fresh_key(f"invented {number}") if number % 2 else None
        return served.post("/api/sessions", key=invented, json={"developer_message": ""})

    with ThreadPoolExecutor(4) as clients:
        made = list(clients.map(create, range(RATE_LIMIT + 10)))
    refused = [response for response in made if response.status_code != 200]
    assert 0 < len(refused) <= 10
    for response in refused:
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
        assert int(response.headers["Retry-After"]) >= 1
    upstream.script = answer("Hi")
    assert served.send(key=key).text == "Hi", "a key has its own limit"


# Retry-After


def test_each_temporary_error_has_a_retry_after() -> None:
    for error in every_error():
        if error.status in {429, 503}:
            raised = error(retry_after=1) if error in {RateLimited, TooManyGenerations} else from_code(error.code, None)
            assert int(render(raised).headers["Retry-After"]) >= 1, error.code


@pytest.mark.parametrize(
    ("script", "status"), [(refuse(429, retry_after=""), 429), (refuse(503, retry_after=NOT_FOR_NOW), 503)]
)
def test_a_refusal_of_the_upstream_has_a_retry_after(
    served: Service, upstream: Simulator, key: str, script: Script, status: int
) -> None:
    upstream.script = script
    once = {"Idempotency-Key": "once"}
    for response in (served.send(key=key, headers=once), served.send(key=key, headers=once)):
        assert response.status_code == status
        assert int(response.headers["Retry-After"]) >= 1, "also when repeated"


def test_a_full_server_has_a_retry_after(served: Service, upstream: Simulator, key: str, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with served.send(key=key), served.send(key=fresh_key("a second one")):
        for other, status, code in ((key, 429, "too_many_generations"), (fresh_key("a third"), 503, "overloaded")):
            response = served.send(key=other)
            assert (response.status_code, response.json()["code"]) == (status, code)
            assert int(response.headers["Retry-After"]) >= 1
        gate.open()


def test_an_interrupted_answer_has_a_retry_after(serve: Serve, simulator: Simulator) -> None:
    before = {"Say half": "Half", "Say nothing": ""}
    simulator.script = lambda request: scripts.silent_after(before[request.body["messages"][-1]["content"]])
    service = serve()

    def send(text: str) -> requests.Response:
        return service.send(text, stream=False, headers={"Idempotency-Key": text})

    with ThreadPoolExecutor(len(before)) as clients:
        waiting = [clients.submit(send, text) for text in before]
        simulator.wait_for_requests(len(before))
        service.signal(signal.SIGTERM)
        service.wait_for_log("draining")
        service.signal(signal.SIGTERM)
        told = [one.result(SECONDS) for one in waiting]
    assert service.wait() == 0
    service.start()
    for response in (*told, *map(send, before)):
        assert (response.status_code, response.json()["code"]) == (503, "interrupted")
        assert int(response.headers["Retry-After"]) >= 1, "also when repeated after the restart"


# Pages of other sites


@pytest.mark.parametrize("origin", ["https://chat.example.org", "http://127.0.0.1:3000"])
def test_only_pages_of_the_allowed_origins_may_read_responses(served: Service, key: str, origin: str) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for sender, is_allowed in ((origin, True), (f"{origin}.evil.example", False), ("null", False)):
        allowed = {sender} if is_allowed else {None}
        answered = served.get("/api/usage", key=key, headers={"Origin": sender})
        preflight = requests.options(f"{served.url}/api/chat", headers=asks | {"Origin": sender}, timeout=SECONDS)
        assert answered.status_code == 200
        assert {one.headers.get("Access-Control-Allow-Origin") for one in (answered, preflight)} == allowed
        assert "Origin" in answered.headers["Vary"], "a cache keeps the answers to others apart"
        assert preflight.status_code == (200 if is_allowed else 400)


# Long conversations


def test_a_conversation_that_is_too_large_is_refused_and_refused_turns_do_not_count(
    served: Service, upstream: Simulator, key: str
) -> None:
    long = "a" * (CONTEXT_BYTES * 3 // 4)
    upstream.script = answer("Hi")
    with served.send(key=key) as first:
        assert first.text == "Hi"
    session_id = first.headers["X-Session-ID"]

    upstream.script = refuse(400)
    for _ in range(2):
        assert served.send(long, key=key, session_id=session_id).status_code == 400

    upstream.script = answer("Yes")
    assert served.send(long, key=key, session_id=session_id).text == "Yes"
    said = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert said == ["You are a helpful assistant.", "Hello", "Hi", long], "a refused message is not sent again"

    asked = len(upstream.requests)
    for _ in range(2):
        refused = served.send(long, key=key, session_id=session_id)
        assert (refused.status_code, refused.json()["code"]) == (413, "context_too_large")
        assert refused.headers["X-Session-ID"] == session_id
    assert len(upstream.requests) == asked
    assert served.send("Short", key=key, session_id=session_id).text == "Yes", "a message that fits is accepted"

    alone = served.send("a" * CONTEXT_BYTES, key=key)
    assert (alone.status_code, alone.json()["code"]) == (413, "context_too_large")


# Long answers


def test_a_long_stored_answer_is_sent_in_events_of_moderate_size_that_can_each_be_resumed(
    served: Service, upstream: Simulator, key: str
) -> None:
    said = "aé漢👩" * 15_000
    upstream.script = answer(said, chunk=40_000, reasoning="漢" * 20_000)
    first = served.send(key=key)
    assert first.text == said
    path = f"/api/chat/{first.headers['X-Session-ID']}/stream?generation_id={first.headers['X-Generation-ID']}"

    def read_from(position: int) -> list[tuple[str, int, str]]:
        response = served.get(path, key=key, headers=EVENTS | {"Last-Event-ID": str(position)})
        return [(name, at, data["text"]) for name, at, data in events(response) if name in {"text", "reasoning"}]

    told = read_from(0)
    assert "".join(text for name, _, text in told if name == "text") == said
    assert "".join(text for name, _, text in told if name == "reasoning") == "漢" * 20_000
    at = 0
    for number, (_, position, text) in enumerate(told, 1):
        assert 0 < len(text.encode()) <= EVENT_TEXT_BYTES
        at += len(text.encode())
        assert position == at
        assert read_from(position) == told[number:]
    assert len(told) < 2 * at / EVENT_TEXT_BYTES, "they are not tiny either"


# Start and shutdown


@pytest.mark.parametrize("url", ["http://x:abc", "http://x:99999"])
def test_an_invalid_upstream_address_prevents_the_start(tmp_path: Path, url: str) -> None:
    check_one_sentence(start(tmp_path, OPENAI_BASE_URL=url), "OPENAI_BASE_URL")


@pytest.mark.parametrize("url", ["http://x:0", "http://[::1", "http://", "http://anna:pass/word@x/v1"])
def test_an_invalid_upstream_address_is_not_echoed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(SettingsError, match=r"^OPENAI_BASE_URL: .+\.$") as refused:
        read_settings()
    assert "pass" not in str(refused.value), "a slash in a password must be %2F"


def test_a_second_signal_does_not_wait_for_a_slow_reader(serve: Serve, simulator: Simulator) -> None:
    simulator.script = answer("a" * 3_900_000, chunk=100_000)
    service = serve()
    slow = Reader.chat(service, receive_buffer=4096)
    service.wait_for_log("generation", generation_id=slow.generation_id, status="completed")
    service.signal(signal.SIGTERM)
    while is_let_in(service):  # until the grace period has begun
        pass
    begun = time.monotonic()
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    slow.leave()
