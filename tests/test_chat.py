"""Chats as users have them: history, three dialects, repeated requests, disconnects, resumption and stops."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from chatapi.simulator import Chunks, Gate, Script, Send, Simulator, Usage, Wait, answer, scripts
from chatapi.simulator.wire import DONE
from tests.server_process import KEY, OTHER_KEY, Serve, Service, events

EVENTS = {"Accept": "text/event-stream"}
SECONDS = 10.0  # for anything a test waits for; it takes milliseconds
STOP_SECONDS = 1.0  # for a stop to close the upstream connection
WORLD = "Grüße 👋🏽 aus 東京!"  # characters of one to four bytes


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_HEARTBEAT_SECONDS="0.2")


def sent_upstream(upstream: Simulator) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in upstream.requests[-1].body["messages"]]


def session_of(response: requests.Response) -> str:
    return response.headers["X-Session-ID"]


class Reader:
    """A client that reads an answer while it is generated."""

    def __init__(self, response: requests.Response) -> None:
        self._chunks: Iterator[bytes] = response.iter_content(None)

    def until(self, text: str) -> bytes:
        """Read up to `text`."""
        read = b""
        for chunk in self._chunks:
            read += chunk
            if text.encode() in read:
                return read
        raise AssertionError(f"it ended without {text}: {read!r}")

    def rest(self) -> bytes:
        """Read to the end."""
        return b"".join(self._chunks)


def begun(server: Service, key: str = KEY) -> str:
    """Return a session with one turn."""
    with server.send("Count to 3", key=key) as response:
        assert response.text == "1 2 3"
    return session_of(response)


def last(server: Service, session_id: str) -> dict[str, Any]:
    return server.messages(session_id)[-1]


def saying(*deltas: dict[str, str]) -> Script:
    """Return an answer of exactly these deltas."""
    frames = [b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % json.dumps(delta).encode() for delta in deltas]
    return scripts.event_stream(*map(Send, frames), Send(Chunks().finish("stop")), Send(DONE))


# History


def test_the_model_receives_earlier_messages_in_order(server: Service, upstream: Simulator) -> None:
    session_id = begun(server)
    with server.send("Count to 2", session_id=session_id) as response:
        assert response.text == "1 2"
    with server.send("And now?", session_id=session_id) as response:
        assert session_of(response) == session_id
    assert sent_upstream(upstream) == [
        ("developer", "You are a helpful assistant."),
        ("user", "Count to 3"),
        ("assistant", "1 2 3"),
        ("user", "Count to 2"),
        ("assistant", "1 2"),
        ("user", "And now?"),
    ]


def test_the_model_remembers(server: Service) -> None:
    with server.send("My name is Ada.") as response:
        assert response.text
    session_id = session_of(response)
    with server.send("What is my name?", session_id=session_id) as response:
        assert "My name is Ada." in response.text


def test_a_new_developer_message_applies_from_this_turn_on(server: Service, upstream: Simulator) -> None:
    session_id = begun(server)
    before = server.messages(session_id)
    with server.send("Again", session_id=session_id, developer_message="Speak Latin.") as response:
        assert response.text, "read to its end, so that the session is free"
        assert sent_upstream(upstream)[0] == ("developer", "Speak Latin.")
    assert server.messages(session_id)[:2] == before
    with server.send("And again", session_id=session_id):
        said = sent_upstream(upstream)
    assert [role for role, _ in said] == ["developer", "user", "assistant", "user", "assistant", "user"]
    assert said[0] == ("developer", "Speak Latin.")
    assert server.get(f"/api/sessions/{session_id}").json()["developer_message"] == "Speak Latin."


def test_a_session_created_before_its_first_chat_is_used_by_it(server: Service, upstream: Simulator) -> None:
    session_id = server.post("/api/sessions", json={"developer_message": "Be brief."}).json()["session_id"]
    with server.send("Hello", session_id=session_id) as response:
        assert session_of(response) == session_id
    assert sent_upstream(upstream) == [("developer", "Be brief."), ("user", "Hello")]


def test_the_conversation_lists_each_message_with_its_status_and_model(server: Service) -> None:
    session_id = begun(server)
    question, reply = server.messages(session_id)
    assert (question["role"], question["content"]) == ("user", "Count to 3")
    assert (reply["role"], reply["content"], reply["status"]) == ("assistant", "1 2 3", "completed")
    assert reply["parent_id"] == question["id"]
    assert reply["model"] == "gpt-4.1-mini"
    assert reply["finish_reason"] == "stop"
    assert reply["usage"]["output_tokens"] == 3
    assert reply["created_at"] <= reply["first_token_at"] <= reply["ended_at"]
    assert reply["error"] is None


# Dialects


def test_an_answer_as_events_has_the_session_the_text_the_usage_and_the_end(
    server: Service, upstream: Simulator
) -> None:
    upstream.script = answer(WORLD, chunk=1)
    with server.send(headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        told = events(response)
    assert [name for name, _, _ in told][-2:] == ["usage", "done"]
    name, position, session = told[0]
    assert (name, position) == ("session", 0)
    assert session["session_id"] == session_of(response)
    assert session["generation_id"] == response.headers["X-Generation-ID"]
    assert session["model"] == "gpt-4.1-mini"
    text = ""
    for name, position, data in told[1:-2]:
        assert name == "text"
        text += data["text"]
        assert position == len(text.encode()), "an id is the position after its event"
    assert text == WORLD
    assert told[-2][1:] == (len(WORLD.encode()), last(server, session_of(response))["usage"])
    assert told[-1][1:] == (len(WORLD.encode()), {"status": "completed", "finish_reason": "stop"})


def test_an_answer_as_one_object_has_the_session_the_generation_the_text_the_usage_and_the_finish_reason(
    server: Service, upstream: Simulator
) -> None:
    upstream.script = answer(WORLD)
    with server.send(stream=False) as response:
        whole = response.json()
    assert response.headers["Content-Type"] == "application/json"
    assert whole["text"] == WORLD
    assert whole["session_id"] == session_of(response)
    assert whole["generation_id"] == response.headers["X-Generation-ID"]
    assert whole["status"] == "completed"
    assert whole["finish_reason"] == "stop"
    assert whole["usage"]["output_tokens"] == 4
    assert whole["error"] is None
    assert "X-RateLimit-Limit" in response.headers


@pytest.mark.parametrize("before", ["", "Hello"])
def test_no_event_stream_is_silent(server: Service, upstream: Simulator, gate: Gate, before: str) -> None:
    upstream.script = scripts.held(gate, before=before)
    with server.send(headers=EVENTS) as response:
        reader = Reader(response)
        reader.until(": keep-alive\n\n")
        gate.open()
        reader.until("event: done")


def test_a_silence_adds_nothing_to_a_text(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with (
        server.send() as response,
        server.get(f"/api/chat/{session_of(response)}/stream", headers=EVENTS, stream=True) as beside,
    ):
        Reader(beside).until("keep-alive")  # the length of the silence
        gate.open()
        assert response.text == "Hello there."


def test_reasoning_is_separate_from_the_text(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("Yes.", reasoning="Hm, naïve?")
    with server.send() as response:
        assert response.text == "Yes."
    with server.send(stream=False) as response:
        assert (response.json()["text"], response.json()["reasoning"]) == ("Yes.", "Hm, naïve?")
    with server.send(headers=EVENTS) as response:
        told = events(response)
    visible_text = {
        kind: "".join(data["text"] for name, _, data in told if name == kind) for kind in ("reasoning", "text")
    }
    assert visible_text == {"reasoning": "Hm, naïve?", "text": "Yes."}
    assert told[-1][1] == len("Hm, naïve?Yes.".encode()), "positions include the reasoning"
    reply = last(server, session_of(response))
    assert (reply["content"], reply["reasoning"]) == ("Yes.", "Hm, naïve?")


def test_a_refusal_of_the_model_is_text(server: Service, upstream: Simulator) -> None:
    upstream.script = saying({"refusal": "I can't "}, {"refusal": "say that."})
    with server.send() as response:
        assert response.text == "I can't say that."
    with server.send(headers=EVENTS) as response:
        told = events(response)
    assert "".join(data["text"] for name, _, data in told if name == "refusal") == "I can't say that."
    assert last(server, session_of(response))["content"] == "I can't say that."


# Parameters

PARAMETERS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.25,
    "max_tokens": 7,
    "max_completion_tokens": 9,
    "stop": ["END", "STOP"],
    "seed": -42,
    "presence_penalty": -1.5,
    "frequency_penalty": 2,
    "reasoning_effort": "low",
    "verbosity": "high",
    "service_tier": "flex",
}


def test_generation_parameters_are_passed_on(server: Service, upstream: Simulator) -> None:
    with server.send(**PARAMETERS) as response:
        assert response.status_code == 200
    asked = upstream.requests[-1].body
    assert {name: asked[name] for name in PARAMETERS} == PARAMETERS


def test_parameters_that_are_not_given_are_not_passed_on(server: Service, upstream: Simulator) -> None:
    with server.send(temperature=None, stop="END"):
        asked = upstream.requests[-1].body
    assert asked.keys() == {"model", "messages", "stream", "stream_options", "stop"}
    assert asked["stop"] == "END"


def test_a_limit_on_the_answer_ends_it(server: Service) -> None:
    with server.send("Count to 10", max_completion_tokens=3, stream=False) as response:
        assert (response.json()["text"], response.json()["finish_reason"]) == ("1 2 3", "length")


# Repeated requests


def test_a_repeated_request_attaches_to_the_running_answer(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    once = {"Idempotency-Key": "attach"}
    asked = len(upstream.requests)
    with server.send(headers=once) as first, server.send(headers=once) as second:
        assert second.headers["X-Generation-ID"] == first.headers["X-Generation-ID"]
        assert session_of(second) == session_of(first)
        gate.open()
        assert first.text == second.text == "Hello there."
    assert len(upstream.requests) == asked + 1


def test_a_repeated_request_after_the_answer_replays_it_in_any_dialect(server: Service, upstream: Simulator) -> None:
    once = {"Idempotency-Key": "replay"}
    with server.send("Count to 4", headers=once) as first:
        assert first.text == "1 2 3 4"
    asked = len(upstream.requests)
    with server.send("Count to 4", headers=once) as second:
        assert second.text == "1 2 3 4"
    with server.send("Count to 4", headers=once, stream=False) as third:
        assert third.json()["text"] == "1 2 3 4"
    with server.send("Count to 4", headers=once | EVENTS) as fourth:
        assert events(fourth)[-1][0] == "done"
    assert {session_of(response) for response in (first, second, third, fourth)} == {session_of(first)}
    assert len(upstream.requests) == asked
    assert len(server.messages(session_of(first))) == 2


def test_a_repeated_request_with_another_body_is_refused(server: Service, upstream: Simulator) -> None:
    once = {"Idempotency-Key": "mismatch"}
    with server.send("Count to 4", headers=once):
        asked = len(upstream.requests)
    others: list[dict[str, Any]] = [
        {"text": "Count to 5"},
        {"temperature": 1},
        {"model": "gpt-4o"},
        {"developer_message": "Else."},
    ]
    for other in others:
        with server.send(**{"text": "Count to 4", **other}, headers=once) as response:
            assert response.status_code == 422
            assert response.json()["code"] == "idempotency_key_reused"
    assert len(upstream.requests) == asked


def test_two_users_may_choose_the_same_idempotency_key(server: Service) -> None:
    once = {"Idempotency-Key": "the same"}
    with (
        server.send("Count to 4", headers=once) as mine,
        server.send("Count to 5", headers=once, key=OTHER_KEY) as theirs,
    ):
        assert (mine.text, theirs.text) == ("1 2 3 4", "1 2 3 4 5")


def test_a_repeated_request_does_not_end_an_answer_that_ends_with_its_first_reader(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    once = {"Idempotency-Key": "cancel"}
    with server.send(headers=once, on_disconnect="cancel") as first:
        with server.send(headers=once, on_disconnect="cancel") as second:
            Reader(second).until("Hello")
        server.wait_for_log("request", request_id=second.headers["x-request-id"])  # its disconnect was noticed
        gate.open()
        assert first.text == "Hello there."


# Busy sessions


def test_a_send_to_a_busy_session_is_refused_with_the_running_generation(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with server.send() as first:
        asked = len(upstream.requests)
        with server.send(session_id=session_of(first)) as second:
            assert second.status_code == 409
            assert second.headers["X-Should-Retry"] == "false"
            assert second.headers["Content-Type"] == "application/problem+json"
            assert second.json()["code"] == "session_busy"
            assert second.json()["generation_id"] == first.headers["X-Generation-ID"]
            assert second.headers["X-Generation-ID"] == first.headers["X-Generation-ID"]
        assert len(upstream.requests) == asked
        gate.open()
        assert first.text == "Hello there."
    with server.send(session_id=session_of(first)) as third:
        assert third.status_code == 200


def test_a_send_that_interrupts_ends_the_running_answer_and_keeps_its_text(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    with server.send() as first:
        reader = Reader(first)
        reader.until("Hello")
        with server.send("Count to 2", session_id=session_of(first), if_busy="interrupt") as second:
            assert second.text == "1 2"
        assert reader.rest() == b""  # a stop is a clean end
    assert upstream.requests[-2].left.wait(SECONDS)
    kept = server.messages(session_of(first))
    assert [(message["content"], message["status"]) for message in kept] == [
        ("Hello", "completed"),
        ("Hello", "stopped"),
        ("Count to 2", "completed"),
        ("1 2", "completed"),
    ]
    assert sent_upstream(upstream)[1:] == [("user", "Hello"), ("assistant", "Hello"), ("user", "Count to 2")]


# Disconnects


def test_an_answer_continues_when_its_reader_disconnects(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with server.send() as response:
        Reader(response).until("Hello")
    gate.open()
    server.wait_for_log("generation", generation_id=response.headers["X-Generation-ID"])
    reply = last(server, session_of(response))
    assert (reply["content"], reply["status"]) == ("Hello there.", "completed")


@pytest.mark.parametrize(
    ("length", "rest"),
    [(200_000, b"x" * 200_000), (0, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")],
    ids=["a body", "the next request"],
)
def test_a_reader_that_disconnects_is_noticed_behind_bytes_that_are_not_read(
    server: Service, upstream: Simulator, gate: Gate, length: int, rest: bytes
) -> None:
    upstream.script = scripts.held(gate)
    with server.send() as response:
        Reader(response).until("Hello")
        path = f"/api/chat/{session_of(response)}/stream"
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
            connection.sendall(head.encode() + rest[:8])
            assert b" 200 OK" in connection.recv(1000)
            connection.sendall(rest[8:])
        server.wait_for_log("request", 10, path=path)
    gate.open()
    server.wait_for_log("generation", generation_id=response.headers["X-Generation-ID"])


@pytest.mark.parametrize("how", [{}, {"headers": EVENTS}])
def test_an_answer_ends_with_its_reader_if_requested(
    server: Service, upstream: Simulator, gate: Gate, how: dict[str, Any]
) -> None:
    upstream.script = scripts.held(gate)
    with server.send(on_disconnect="cancel", **how) as response:
        Reader(response).until("Hello")
    assert upstream.requests[-1].left.wait(SECONDS)
    server.wait_for_log("generation", generation_id=response.headers["X-Generation-ID"])
    reply = last(server, session_of(response))
    assert (reply["content"], reply["status"]) == ("Hello", "stopped")


CHAT = {"user_message": "u", "developer_message": "d"}
MESSAGE = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "u"}]}
USE_CHAT = {"id": "a", "trigger": "submit-message", "messages": [MESSAGE]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", CHAT),
        ("/api/chat", CHAT | {"stream": False}),
        ("/api/chat", USE_CHAT),
        ("/v1/responses", {"input": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "u"}], "store": True}),
    ],
    ids=["text", "json", "useChat", "responses", "completions"],
)
def test_an_answer_that_has_not_begun_ends_with_its_reader_if_requested(
    server: Service, upstream: Simulator, gate: Gate, path: str, body: dict[str, Any]
) -> None:
    upstream.script = scripts.event_stream(Wait(gate))
    asked, seen = len(upstream.requests), len(server.log)
    data = json.dumps(body | {"model": "gpt-4.1-mini", "on_disconnect": "cancel"}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {KEY}\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        upstream.wait_for_requests(asked + 1)
    assert upstream.requests[-1].left.wait(5), "before CHATAPI_STATUS_SECONDS have passed"
    server.wait_for_log("generation", seen=seen, status="stopped")


def test_an_answer_as_one_object_ends_with_its_reader_if_requested(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    asked = len(upstream.requests)
    body = {"developer_message": "d", "user_message": "u", "api_key": KEY, "stream": False, "on_disconnect": "cancel"}
    data = json.dumps(body).encode()
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + data)
        request = upstream.wait_for_requests(asked + 1)[-1]
    assert request.left.wait(SECONDS)


# Resumption


def stream(server: Service, session_id: str, query: str = "", **headers: str) -> requests.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.get(f"/api/chat/{session_id}/stream{query}", headers=headers, stream=True)


def test_there_is_nothing_to_resume_when_nothing_runs(server: Service) -> None:
    empty = server.post("/api/sessions", json={"developer_message": "d"}).json()["session_id"]
    for session_id in (empty, begun(server)):
        with stream(server, session_id) as response:
            assert (response.status_code, response.content) == (204, b"")


def test_a_reader_that_lost_the_connection_gets_the_rest_as_it_is_generated(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, before=WORLD, after=" Bye.")
    with server.send() as response:
        read = Reader(response).until(WORLD)
    with stream(server, session_of(response), f"?offset={len(read)}") as rest:
        assert rest.headers["X-Generation-ID"] == response.headers["X-Generation-ID"]
        assert rest.headers["Content-Type"] == "text/plain; charset=utf-8"
        gate.open()
        assert read + rest.content == f"{WORLD} Bye.".encode()


def test_a_second_reader_of_a_running_answer_gets_all_of_it(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with server.send() as response:
        first = Reader(response)
        first.until("Hello")
        session_id = session_of(response)
        with stream(server, session_id, "?offset=0") as second, stream(server, session_id, **EVENTS) as events_too:
            third = Reader(events_too)
            third.until("Hello")
            gate.open()
            assert second.text == "Hello there."
            third.until("event: done")
        assert first.rest() == b" there."


def test_a_text_can_be_cut_at_any_byte_and_resumed_there(server: Service, upstream: Simulator) -> None:
    upstream.script = answer(WORLD, chunk=3, reasoning="Hm, naïve.")
    with server.send() as response:
        whole = response.content
    assert whole == WORLD.encode()
    for offset in range(len(whole) + 1):
        with stream(server, session_of(response), f"?offset={offset}") as rest:
            assert rest.content == whole[offset:]


def test_events_can_be_cut_after_any_event_and_resumed_there(server: Service, upstream: Simulator) -> None:
    upstream.script = answer(WORLD, chunk=3, reasoning="Hm, naïve.")
    with server.send(headers=EVENTS) as response:
        told = events(response)

    def said(some: list[tuple[str, int, Any]]) -> list[tuple[str, str]]:
        """Return the text of each kind, regardless of its division into events."""
        kinds = ("reasoning", "text")
        return [(kind, "".join(data["text"] for name, _, data in some if name == kind)) for kind in kinds]

    for number, (_, position, _) in enumerate(told[:-2]):
        with stream(server, session_of(response), Last_Event_ID=str(position)) as rest:
            further = events(rest)
        assert further[0][:2] == ("session", position)
        assert said(told[: number + 1] + further) == said(told)
        assert further[-2:] == told[-2:]


def test_an_older_answer_is_read_by_its_id(server: Service) -> None:
    with server.send("Count to 4") as first:
        session_id = session_of(first)
    with server.send("Count to 2", session_id=session_id):
        pass
    with stream(server, session_id, f"?generation_id={first.headers['X-Generation-ID']}") as replay:
        assert replay.text == "1 2 3 4"
    with stream(server, session_id, f"?generation_id={first.headers['X-Generation-ID']}&offset=4") as replay:
        assert replay.text == "3 4"


def test_an_answer_of_another_session_is_not_found(server: Service) -> None:
    with server.send("Count to 4") as other:
        foreign = other.headers["X-Generation-ID"]
    session_id = begun(server)
    for generation_id in (foreign, "gen_never-was"):
        with stream(server, session_id, f"?generation_id={generation_id}") as response:
            assert (response.status_code, response.content) == (404, b'{"detail":"Session not found"}')
        stopped = server.post(f"/api/chat/{session_id}/stop", json={"generation_id": generation_id})
        assert (stopped.status_code, stopped.content) == (404, b'{"detail":"Session not found"}')


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        pytest.param("?offset={past}", {}, id="past the end of the text"),
        pytest.param("?offset=9007199254740991", {}, id="far past the end of the text"),
        pytest.param("?offset={past}", EVENTS, id="past the end of the log"),
        pytest.param("", {"Last_Event_ID": "{past}"}, id="an event that was not yet"),
        pytest.param("", {"Last_Event_ID": "3"}, id="inside a character"),
    ],
)
def test_a_position_that_was_never_sent_is_out_of_range(
    server: Service, upstream: Simulator, query: str, headers: dict[str, str]
) -> None:
    upstream.script = answer(WORLD)
    with server.send() as response:
        past = len(response.content) + 1
    headers = {name: value.format(past=past) for name, value in headers.items()}
    with stream(server, session_of(response), query.format(past=past), **headers) as out:
        assert out.status_code == 416
        assert out.json()["code"] == "position_out_of_range"


def test_a_resumed_stream_has_the_dialect_of_its_request_unless_another_is_requested(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with server.send(headers=EVENTS) as response:
        Reader(response).until("Hello")
    session_id = session_of(response)
    with stream(server, session_id) as same, stream(server, session_id, Accept="text/plain") as text:
        gate.open()
        assert b"event: done" in same.content
        assert text.text == "Hello there."
    with stream(server, session_id, "?offset=6") as counted:  # only text has such offsets
        assert counted.text == "there."
    query = f"?generation_id={response.headers['X-Generation-ID']}"
    with stream(server, session_id, query, Accept="application/json") as whole:
        assert whole.json()["text"] == "Hello there."


# Stops


def stop(server: Service, session_id: str, **body: Any) -> dict[str, Any]:
    response = server.post(f"/api/chat/{session_id}/stop", json=body or None)
    assert response.status_code == 200, response.text
    kept: dict[str, Any] = response.json()
    return kept


def test_a_stop_closes_the_upstream_and_keeps_the_text(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with server.send() as response:
        reader = Reader(response)
        read = reader.until("Hello")
        began = time.monotonic()
        kept = stop(server, session_of(response))
        assert upstream.requests[-1].left.wait(SECONDS)
        assert time.monotonic() - began < STOP_SECONDS
        assert read + reader.rest() == b"Hello"  # and a clean end
    assert (kept["text"], kept["status"]) == ("Hello", "stopped")
    assert kept["generation_id"] == response.headers["X-Generation-ID"]
    assert kept["usage"]["estimated"] is True
    reply = last(server, session_of(response))
    assert (reply["content"], reply["status"], reply["usage"]) == ("Hello", "stopped", kept["usage"])


def test_a_stop_is_an_event(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with server.send(headers=EVENTS) as response:
        reader = Reader(response)
        reader.until("Hello")
        stop(server, session_of(response))
        assert b'"status":"stopped"' in reader.until("event: done")


def test_a_stop_before_the_first_word_keeps_an_empty_answer(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.event_stream(Send(Chunks().role()), Wait(gate))
    with server.send() as response:
        kept = stop(server, session_of(response))
        assert response.content == b""
    assert (kept["text"], kept["status"]) == ("", "stopped")
    upstream.script = None
    with server.send("Count to 2", session_id=session_of(response)) as after:
        assert after.text == "1 2"
    assert sent_upstream(upstream)[1:] == [("user", "Count to 2")]  # a question without an answer is not sent again


def test_stopping_an_ended_answer_changes_nothing(server: Service) -> None:
    session_id = begun(server)
    before = server.messages(session_id)
    kept = stop(server, session_id)
    assert (kept["text"], kept["status"]) == ("1 2 3", "completed")
    assert server.messages(session_id) == before


def test_stopping_a_session_without_answers_succeeds(server: Service) -> None:
    session_id = server.post("/api/sessions", json={"developer_message": "d"}).json()["session_id"]
    assert stop(server, session_id)["status"] is None


def test_stopping_an_older_answer_does_not_stop_the_running_one(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    with server.send("Count to 4") as older:
        session_id = session_of(older)
        assert older.text
    upstream.script = scripts.held(gate)
    with server.send(session_id=session_id) as response:
        reader = Reader(response)
        reader.until("Hello")
        kept = stop(server, session_id, generation_id=older.headers["X-Generation-ID"])
        assert kept["text"] == "1 2 3 4"
        gate.open()
        assert reader.rest() == b" there."


def test_a_complete_answer_is_completed_even_if_stopped_before_its_usage(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    chunks = Chunks(usage=True)
    upstream.script = scripts.event_stream(
        *map(Send, (chunks.role(), chunks.content("Whole."), chunks.finish("stop"))),
        Wait(gate),
        *map(Send, (chunks.usage(Usage(1, 1)), DONE)),
    )
    with server.send() as response:
        Reader(response).until("Whole.")
        assert gate.reached.wait(SECONDS)
        kept = stop(server, session_of(response))
    assert kept["text"] == "Whole."
    assert kept["status"] in {"completed", "stopped"}  # as far as our server had read it
