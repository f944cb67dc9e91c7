"""The service when the model API refuses, fails, sends nonsense, is slow or is unreachable."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.simulator import (
    Chunks,
    Cut,
    Gate,
    Hang,
    Pause,
    ReceivedRequest,
    Script,
    Send,
    Simulator,
    Wait,
    answer,
    refuse,
    scripts,
)
from chatapi.simulator.scripts import TEXT, Refusal, event_stream, json_body
from tests.server_process import KEY, Serve, Service, events

EVENTS = {"Accept": "text/event-stream"}
SECONDS = 10.0
MIB = 1024 * 1024
FLAT_BYTES = 24 * MIB
IDLE_SECONDS = 1.0
CURL_PARTIAL_FILE = 18  # curl's exit status for a body without its end
CHUNKS = Chunks()
NOT_FOR_NOW = 60  # a Retry-After that no client waits for, so that such a refusal is reported at once
DEEP: list[Any] = []  # a list in a list, and so on
for _ in range(600):
    DEEP = [DEEP]

# Faults before the first word: the script, and the status and code that the caller gets.
REFUSALS = [
    pytest.param(refuse(400), 400, "upstream_rejected_request", id="400"),
    pytest.param(refuse(401), 401, "authentication_failed", id="401"),
    pytest.param(refuse(403), 403, "permission_denied", id="403"),
    pytest.param(json_body({"error": {"message": DEEP}}, status=400), 400, "upstream_rejected_request", id="deep 400"),
    pytest.param(refuse(404), 404, "model_not_found", id="404"),
    pytest.param(refuse(408), 504, "upstream_timeout", id="408"),
    pytest.param(refuse(418), 400, "upstream_rejected_request", id="418"),
    pytest.param(refuse(429, retry_after=NOT_FOR_NOW), 429, "upstream_rate_limited", id="429"),
    pytest.param(refuse(429, code="insufficient_quota"), 429, "upstream_rate_limited", id="429 without quota"),
    pytest.param(refuse(500, retry_after=NOT_FOR_NOW), 503, "upstream_unavailable", id="500"),
    pytest.param(refuse(503, retry_after=NOT_FOR_NOW), 503, "upstream_unavailable", id="503"),
    pytest.param(refuse(504), 504, "upstream_timeout", id="504"),
    pytest.param(scripts.redirect(), 502, "upstream_broken", id="a redirect"),
    pytest.param(scripts.redirect(status=308), 502, "upstream_broken", id="a permanent redirect"),
    pytest.param(scripts.html_page(), 502, "upstream_broken", id="a web page"),
    pytest.param(scripts.html_page(404), 502, "upstream_broken", id="a web page that says 404"),
    pytest.param(scripts.gzip_bomb(), 502, "upstream_broken", id="a gzip bomb"),
    pytest.param(scripts.endless_line(), 502, "upstream_broken", id="an endless line"),
    pytest.param(event_stream(), 502, "upstream_broken", id="no event at all"),
    pytest.param(event_stream(Send(b"data: {}\n\ndata: {\n\n")), 502, "upstream_broken", id="broken JSON"),
    pytest.param(event_stream(Send(b"data: " + b"[" * 100_000 + b"\n\n")), 502, "upstream_broken", id="deep JSON"),
    pytest.param(
        event_stream(Send(b'data: {"error":{"message":"Sorry."}}\n\n')),
        502,
        "upstream_broken",
        id="an error as an event",
    ),
    pytest.param(
        Script(200, {"Content-Type": "application/json", "Content-Length": "99"}, [Send(b'{"choices":'), Cut()]),
        502,
        "upstream_broken",
        id="one JSON object that breaks off",
    ),
    pytest.param(Script(204, {}), 502, "upstream_broken", id="204"),
    pytest.param(Script(999, {"Retry-After": str(NOT_FOR_NOW)}), 503, "upstream_unavailable", id="999"),
]

# Faults after the first words: the script, the code, and the text sent before.
BREAKS = [
    pytest.param(scripts.cut_after(TEXT), "upstream_broken", TEXT, id="a reset"),
    pytest.param(scripts.half_closed_after(TEXT), "upstream_broken", TEXT, id="a close"),
    pytest.param(scripts.error_frame(TEXT), "upstream_broken", TEXT, id="an error as an event"),
    pytest.param(scripts.invalid_json(), "upstream_broken", None, id="broken JSON"),
    pytest.param(scripts.without_either(TEXT), "upstream_broken", TEXT, id="no end at all"),
    pytest.param(scripts.silent_after(TEXT), "upstream_timeout", TEXT, id="silence"),
    pytest.param(
        event_stream(Send(CHUNKS.content("Hello")), *(Send(b": busy\n\n"), Pause(0.05)) * 1000),
        "upstream_timeout",
        "Hello",
        id="heartbeats without content",
    ),
    pytest.param(
        event_stream(Send(CHUNKS.content("Hello")), *(Send(CHUNKS.content("")), Pause(0.05)) * 1000),
        "upstream_timeout",
        "Hello",
        id="chunks without content",
    ),
    pytest.param(
        event_stream(Send(CHUNKS.content("Hello")), *[Send(b"a" * 65_536)] * 192),
        "upstream_broken",
        "Hello",
        id="an endless line",
    ),
]

# Unusual and valid.
READABLE = [
    pytest.param(scripts.line_ends(end="\r\n"), id="CRLF"),
    pytest.param(scripts.line_ends(end="\r"), id="CR"),
    pytest.param(scripts.with_comments(), id="comments"),
    pytest.param(scripts.with_ids(), id="ids and retries"),
    pytest.param(scripts.multi_line_data(), id="data in two lines"),
    pytest.param(scripts.byte_order_mark(), id="a byte order mark"),
    pytest.param(scripts.byte_by_byte(), id="byte by byte"),
    pytest.param(scripts.in_one_write(), id="in one write"),
    pytest.param(scripts.without_done(), id="without [DONE]"),
    pytest.param(answer(usage=False), id="without usage"),
    pytest.param(answer(stream=False), id="one JSON object in place of a stream"),
    pytest.param(event_stream(*answer().steps, Hang()), id="an end after which the connection hangs"),
]


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    """A server with a long timeout for the first token and a short one for later silence."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_IDLE_SECONDS=str(IDLE_SECONDS))


@pytest.fixture(scope="module")
def hasty(serve_module: Serve) -> Service:
    """A server with short timeouts for the first token and for the whole answer."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_FIRST_TOKEN_SECONDS="0.3", CHATAPI_TOTAL_SECONDS="1")


@pytest.fixture(scope="module")
def early(serve_module: Serve) -> Service:
    """A server that commits its status after a short silence."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_STATUS_SECONDS="0.2")


def last(server: Service, session_id: str) -> dict[str, Any]:
    return server.messages(session_id)[-1]


def read_text(response: requests.Response) -> tuple[str, bool]:
    """Return the received text, and whether it came to its end."""
    read = b""
    try:
        for chunk in response.iter_content(None):
            read += chunk
    except requests.exceptions.ChunkedEncodingError:
        return read.decode(), False
    return read.decode(), True


def curl(server: Service, *options: str) -> subprocess.CompletedProcess[bytes]:
    body = f'{{"developer_message": "d", "user_message": "u", "api_key": "{KEY}"}}'
    command = [
        "curl",
        "-sS",
        "-N",
        *options,
        f"{server.url}/api/chat",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)


# Before the first word


@pytest.mark.table
@pytest.mark.parametrize("how", [{}, {"headers": EVENTS}, {"stream": False}], ids=["text", "events", "json"])
@pytest.mark.parametrize(("script", "status", "code"), REFUSALS)
def test_a_fault_before_the_first_word_is_a_status_with_a_problem(
    server: Service, upstream: Simulator, script: Script, status: int, code: str, how: dict[str, Any]
) -> None:
    upstream.script = script
    asked = len(upstream.requests)
    with server.send(**how) as response:
        assert response.status_code == status, response.text
        told = response.json()
        session_id = response.headers["X-Session-ID"]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert told["status"] == status
    assert told["code"] == code
    assert told["type"].endswith(code)
    assert told["title"]
    assert told["detail"].endswith((".", "!"))
    if status in {429, 503}:
        assert int(response.headers["Retry-After"]) >= 1
    assert len(upstream.requests) == asked + 1, "one request, without following a redirect"
    reply = last(server, session_id)
    assert (reply["status"], reply["content"]) == ("failed", "")
    assert reply["error"] == {"code": code, "detail": told["detail"]}
    assert reply["generation_id"] == response.headers["X-Generation-ID"]


@pytest.mark.table
@pytest.mark.parametrize(
    ("asked_for", "passed_on"),
    [
        ("60", "60"),
        ("2.4", "3"),
        ("100000", "3600"),
        ("-5", "1"),
        ("soon", "1"),
        ("nan", "1"),
        ("", "1"),
        ("1e400", "3600"),
        ("ms 1500", "2"),
    ],
)
def test_retry_after_is_passed_on_in_whole_seconds_within_bounds(
    server: Service, upstream: Simulator, asked_for: str, passed_on: str
) -> None:
    refusal = Refusal(429, "Slow down.", code="insufficient_quota").script()  # a code that is not retried
    name = "Retry-After-Ms" if asked_for.startswith("ms ") else "Retry-After"
    upstream.script = Script(429, {**refusal.headers, name: asked_for.removeprefix("ms ")}, refusal.steps)
    with server.send() as response:
        assert (response.status_code, response.headers["Retry-After"]) == (429, passed_on)


def test_retry_after_may_be_a_date(server: Service, upstream: Simulator) -> None:
    refusal = refuse(503)
    upstream.script = Script(503, {**refusal.headers, "Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, refusal.steps)
    with server.send() as response:
        assert (response.status_code, response.headers["Retry-After"]) == (503, "3600")


def test_a_session_can_be_used_after_any_fault(server: Service, upstream: Simulator) -> None:
    with server.send("Count to 2") as response:
        assert response.text == "1 2"
        session_id = response.headers["X-Session-ID"]
    for script in (refuse(400), refuse(401), scripts.html_page(), scripts.error_frame(), scripts.cut_after("Half")):
        upstream.script = script
        with server.send("Fail.", session_id=session_id) as response:
            read_text(response)
    upstream.script = None
    with server.send("Count to 3", session_id=session_id) as response:
        assert response.text == "1 2 3"


@pytest.mark.table
@pytest.mark.parametrize(
    ("status", "valid"), [(401, False), (403, False), (429, None), (500, None), (302, None), (200, None)]
)
def test_the_test_of_a_key_distinguishes_a_bad_key_from_a_failing_upstream(
    server: Service, upstream: Simulator, status: int, valid: bool | None
) -> None:
    upstream.script = scripts.html_page(status)
    response = server.post("/api/test-key", json={"api_key": KEY})
    if valid is None:
        assert response.status_code in {429, 502, 503}
        assert response.headers["Content-Type"] == "application/problem+json"
    else:
        assert response.status_code == 200
        assert response.json()["valid"] is valid


def test_the_test_of_a_key_has_a_timeout(early: Service, upstream: Simulator) -> None:
    upstream.script = scripts.never_answers()
    response = requests.post(f"{early.url}/api/test-key", json={"api_key": KEY}, timeout=2 * SECONDS)
    assert response.status_code == 504
    assert upstream.requests[-1].left.wait(SECONDS)


# Retries


@pytest.mark.table
@pytest.mark.parametrize(
    "script",
    [
        refuse(500),
        refuse(503),
        scripts.cut_before_headers(),
        scripts.html_page(502),
        refuse(429, retry_after=0.1),
        refuse(503, retry_after=0.1),
    ],
    ids=["500", "503", "a reset", "a proxy's 502", "429 for a moment", "503 for a moment"],
)
def test_a_temporary_fault_is_not_noticed(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = scripts.in_turn(script, answer("Back again."))
    asked = len(upstream.requests)
    with server.send() as response:
        assert response.text == "Back again."
    first, second = upstream.requests[asked:]
    assert first.raw == second.raw
    assert len(server.messages(response.headers["X-Session-ID"])) == 2


@pytest.mark.parametrize("script", [refuse(500), scripts.cut_before_headers()], ids=["500", "a reset"])
def test_a_lasting_fault_is_reported_after_two_retries(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = script
    asked = len(upstream.requests)
    with server.send() as response:
        assert response.status_code == 503
        assert response.json()["code"] == "upstream_unavailable"
        assert response.headers["Retry-After"] == "1"
    assert len(upstream.requests) == asked + 3


@pytest.mark.parametrize("script", [scripts.cut_after("Half"), scripts.error_frame("Half")])
def test_nothing_is_retried_after_the_first_word(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = scripts.in_turn(script, answer("Whole."))
    asked = len(upstream.requests)
    with server.send() as response:
        assert read_text(response) == ("Half", False)
    assert len(upstream.requests) == asked + 1


@pytest.mark.one_process("each replica learns for itself what its upstream rejects")
def test_a_member_that_an_upstream_refuses_is_left_out_from_then_on(server: Service, upstream: Simulator) -> None:
    def refuse_stream_options(request: ReceivedRequest) -> Script:
        if "stream_options" in json.loads(request.raw):
            return refuse(400, message="Extra parameters ['stream_options'] are not allowed.")
        return answer("Hi", usage=False)

    upstream.script = refuse_stream_options
    for number in (2, 1):
        asked = len(upstream.requests)
        with server.send(model="without-stream-options") as response:
            assert (response.status_code, response.text) == (200, "Hi")
        assert len(upstream.requests) == asked + number


def test_a_refusal_of_a_parameter_of_the_caller_is_passed_on(server: Service, upstream: Simulator) -> None:
    upstream.script = refuse(400, message="temperature must be at most 1.")
    asked = len(upstream.requests)
    with server.send(temperature=2) as response:
        assert response.status_code == 400
        assert "temperature" in response.json()["detail"]
    assert len(upstream.requests) == asked + 1


# After the first word


@pytest.mark.table
@pytest.mark.parametrize(("script", "code", "said"), BREAKS)
def test_a_fault_after_the_first_word_cuts_a_text(
    server: Service, upstream: Simulator, script: Script, code: str, said: str | None
) -> None:
    upstream.script = script
    with server.send() as response:
        assert response.status_code == 200
        text, came_to_its_end = read_text(response)
    assert not came_to_its_end, "a truncation must not look like success"
    assert text == said if said is not None else TEXT.startswith(text)
    assert text
    reply = last(server, response.headers["X-Session-ID"])
    assert (reply["status"], reply["content"], reply["error"]["code"]) == ("failed", text, code)
    with server.get(f"/api/chat/{response.headers['X-Session-ID']}/stream?offset=2", stream=True) as again:
        assert read_text(again) == (text[2:], False)


@pytest.mark.table
@pytest.mark.parametrize(("script", "code", "said"), BREAKS)
def test_a_fault_after_the_first_word_is_an_event(
    server: Service, upstream: Simulator, script: Script, code: str, said: str | None
) -> None:
    upstream.script = script
    with server.send(headers=EVENTS) as response:
        told = events(response)  # which came to its end
    name, _, data = told[-1]
    text = "".join(data["text"] for name, _, data in told if name == "text")
    assert (name, data["status"], data["code"]) == ("error", "failed", code)
    assert data["detail"]
    assert text == said if said is not None else TEXT.startswith(text)
    assert "done" not in [name for name, _, _ in told]
    assert last(server, response.headers["X-Session-ID"])["content"] == text


def test_a_fault_after_the_first_word_is_a_status_of_a_whole_response(server: Service, upstream: Simulator) -> None:
    upstream.script = scripts.cut_after("Half")
    with server.send(stream=False) as response:
        assert response.status_code == 502
        assert response.json()["code"] == "upstream_broken"
    reply = last(server, response.headers["X-Session-ID"])
    assert (reply["status"], reply["content"]) == ("failed", "Half")


def test_curl_says_that_a_text_was_cut(server: Service, upstream: Simulator) -> None:
    upstream.script = scripts.cut_after(TEXT)
    seen = curl(server)
    assert (seen.returncode, seen.stdout.decode()) == (CURL_PARTIAL_FILE, TEXT)
    upstream.script = answer(TEXT)
    seen = curl(server)
    assert (seen.returncode, seen.stdout.decode()) == (0, TEXT)


def test_curl_recognises_a_refusal_by_its_status(server: Service, upstream: Simulator) -> None:
    upstream.script = refuse(401)
    seen = curl(server, "--fail")
    assert seen.returncode == 22
    assert b"401" in seen.stderr


@pytest.mark.table
@pytest.mark.parametrize("script", READABLE)
def test_an_unusual_answer_is_read_like_any_other(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = script
    with server.send() as response:
        assert read_text(response) == (TEXT, True)
    reply = last(server, response.headers["X-Session-ID"])
    assert (reply["status"], reply["finish_reason"]) == ("completed", "stop")


@pytest.mark.parametrize("reason", ["length", "content_filter", "something_new"])
def test_the_finish_reason_is_reported(server: Service, upstream: Simulator, reason: str) -> None:
    upstream.script = answer("Hm", finish_reason=reason)
    with server.send(stream=False) as response:
        assert (response.status_code, response.json()["finish_reason"]) == (200, reason)


def test_an_answer_that_ends_without_a_finish_reason_has_failed(server: Service, upstream: Simulator) -> None:
    upstream.script = scripts.without_finish(TEXT)
    with server.send() as response:
        assert read_text(response) == (TEXT, False)
    reply = last(server, response.headers["X-Session-ID"])
    assert (reply["status"], reply["content"], reply["error"]["code"]) == ("failed", TEXT, "upstream_broken")


def test_an_empty_answer_is_an_answer(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("")
    with server.send() as response:
        assert (response.status_code, read_text(response)) == (200, ("", True))


def test_a_nul_in_an_answer_is_replaced(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("a\0b")
    with server.send() as response:
        assert response.text == "a\ufffdb"
    assert last(server, response.headers["X-Session-ID"])["content"] == "a\ufffdb"


def test_a_number_past_all_floats_in_an_annotation_is_null(server: Service, upstream: Simulator) -> None:
    delta = b'{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","at":1e400}]}}]}'
    upstream.script = event_stream(
        Send(CHUNKS.content(TEXT)), Send(b"data: %b\n\n" % delta), Send(CHUNKS.finish("stop"))
    )
    answer = server.send(stream=False).json()
    assert answer["parts"][1] == {"type": "annotation", "annotation": {"type": "url_citation", "at": None}}
    assert server.messages(answer["session_id"], key=KEY)[1]["parts"] == answer["parts"]


@pytest.mark.one_process("it is about its memory")
def test_memory_stays_flat_when_the_upstream_pours(server: Service, upstream: Simulator) -> None:
    with server.send() as response:
        assert response.text
    before = resident_bytes(server)
    for script in (scripts.endless_line(64 * MIB), scripts.gzip_bomb(256 * MIB), huge_error()):
        upstream.script = script
        with server.send() as response:
            assert response.status_code in {400, 502}
            assert len(response.content) < 2000
    assert resident_bytes(server) - before < FLAT_BYTES


def huge_error() -> Script:
    """Return a refusal whose body is 64 MiB."""
    return Script(400, {"Content-Type": "application/json"}, [Send(b'{"error":"'), *[Send(b"a" * MIB)] * 64])


def resident_bytes(server: Service) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024


# Timers


def test_a_silent_upstream_is_a_timeout(hasty: Service, upstream: Simulator) -> None:
    for script in (scripts.never_answers(), scripts.heartbeats_only()):
        upstream.script = script
        with hasty.send() as response:
            assert response.status_code == 504
            assert response.json()["code"] == "upstream_timeout"
        assert upstream.requests[-1].left.wait(SECONDS)


def test_an_answer_that_takes_too_long_in_all_is_ended(hasty: Service, upstream: Simulator) -> None:
    upstream.script = event_stream(*(Send(CHUNKS.content("x")), Pause(0.05)) * 1000)
    began = time.monotonic()
    with hasty.send() as response:
        text, came_to_its_end = read_text(response)
    assert not came_to_its_end
    assert 1 <= time.monotonic() - began < SECONDS
    reply = last(hasty, response.headers["X-Session-ID"])
    assert (reply["status"], reply["content"], reply["error"]["code"]) == ("failed", text, "upstream_timeout")


def test_words_at_a_steady_pace_are_never_too_slow(server: Service, upstream: Simulator) -> None:
    pace = IDLE_SECONDS / 4
    upstream.script = answer("one two three four five six seven eight", pace_seconds=pace)
    with server.send() as response:
        assert read_text(response) == ("one two three four five six seven eight", True)


@pytest.mark.parametrize("how", [{}, {"headers": EVENTS}], ids=["text", "events"])
def test_a_long_silence_does_not_delay_the_status(early: Service, upstream: Simulator, how: dict[str, Any]) -> None:
    gate = Gate()
    upstream.script = Script(200, answer().headers, tuple(answer("Late.").steps), before_headers=(Wait(gate),))
    with early.send(**how) as response:
        assert response.status_code == 200
        assert response.headers["X-Session-ID"]
        gate.open()
        if how:
            assert [data["text"] for name, _, data in events(response) if name == "text"] == ["Late."]
        else:
            assert read_text(response) == ("Late.", True)


def test_a_refusal_after_a_long_silence_is_reported_in_the_stream(early: Service, upstream: Simulator) -> None:
    hows: list[dict[str, Any]] = [{}, {"headers": EVENTS}]
    for how in hows:
        gate = Gate()
        refusal = refuse(401)
        upstream.script = Script(401, refusal.headers, tuple(refusal.steps), before_headers=(Wait(gate),))
        with early.send(**how) as response:
            assert response.status_code == 200
            gate.open()
            if how:
                assert [(name, data["code"]) for name, _, data in events(response)[-1:]] == [
                    ("error", "authentication_failed")
                ]
            else:
                assert read_text(response) == ("", False)


def test_a_quick_refusal_is_a_status_even_if_silence_commits_one(early: Service, upstream: Simulator) -> None:
    upstream.script = refuse(403)
    with early.send() as response:
        assert response.status_code == 403


# The connection to the upstream


class Relay(socketserver.ThreadingTCPServer):
    """A relay to the upstream that counts its connections."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, upstream: Simulator) -> None:
        url = urlsplit(upstream.url)
        self.target = (str(url.hostname), int(url.port or 0))
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Passing)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def cut(self) -> None:
        """End every connection."""
        for connection in self.connections:
            with suppress(OSError):  # ended already
                connection.shutdown(socket.SHUT_RDWR)


class _Passing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        self.server.connections.append(self.request)
        with socket.create_connection(self.server.target) as onward:
            back = threading.Thread(target=pass_on, args=(onward, self.request))
            back.start()
            pass_on(self.request, onward)
            back.join()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def relaying(upstream: Simulator) -> Iterator[Relay]:
    with Relay(upstream) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()
            relay.cut()


def test_one_connection_to_the_upstream_serves_many_answers_and_its_loss_is_a_503(
    serve: Serve, simulator: Simulator
) -> None:
    with relaying(simulator) as relay:
        server = serve(upstream_url=relay.url)
        for number in range(1, 11):
            with server.send(f"Count to {number}") as response:
                assert response.status_code == 200
                assert response.text
        assert len(relay.connections) <= 3, "the connection of an answer is reused"
        assert server.post("/api/test-key", json={"api_key": KEY}).json()["valid"] is True
        session_id = response.headers["X-Session-ID"]
    with server.send(session_id=session_id) as refused:  # nothing listens there any more
        assert refused.status_code == 503
        assert refused.json()["code"] == "upstream_unavailable"
        assert "refused the connection" in refused.json()["detail"]
        assert refused.headers["Retry-After"] == "1"
    assert server.post("/api/test-key", json={"api_key": KEY}).status_code == 503
    reply = last(server, session_id)
    assert (reply["status"], reply["content"]) == ("failed", "")
