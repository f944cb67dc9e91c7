"""OpenAI's API with hostile upstreams and clients: nothing hangs, and no partial answer looks complete."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
import requests

from chatapi.simulator import Chunks, Cut, Script, Send, Simulator, scripts
from chatapi.simulator.wire import DONE
from tests.server_process import KEY, Serve, Service

CHUNKS = Chunks()
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
COMPLETION = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]})
NEW = {"X-Session-ID": "new"}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def ask(server: Service, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
    body = {"model": "gpt-4.1-mini", "messages": HELLO, **more}
    return server.post("/v1/chat/completions", key=KEY, json=body, headers=headers or {})


def session_in(server: Service) -> str:
    """A session with a completed answer."""
    answer = server.send()
    assert answer.content
    return answer.headers["X-Session-ID"]


def posted(body: Any) -> bytes:
    """Return the bytes of a request, for a client that disconnects or does not read."""
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def replaced(frame: bytes, old: bytes, new: bytes) -> Send:
    assert old in frame
    return Send(frame.replace(old, new))


def json_of(text: str) -> Script:
    return Script(headers={"Content-Type": "application/json"}, steps=(Send(text.encode()),) if text else ())


# Upstreams


def test_data_of_several_lines_is_passed_on_whole(server: Service, upstream: Simulator) -> None:
    upstream.script = scripts.multi_line_data("Hi")
    answer = ask(server, stream=True)
    lines = answer.text.splitlines()
    assert all(line.startswith("data: ") for line in lines if line)
    events = ["".join(line[6:] for line in event.splitlines()) for event in answer.text.split("\n\n") if event]
    said = [json.loads(event) for event in events[:-1]]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in said if one["choices"]) == "Hi"


def test_two_finishes_of_one_choice_do_not_finish_another(server: Service, upstream: Simulator) -> None:
    first, second = CHUNKS.for_choice(0), CHUNKS.for_choice(1)
    steps = (first.role(), second.content("Half an ans"), first.finish("stop"), first.finish("stop"), DONE)
    upstream.script = scripts.event_stream(*map(Send, steps))
    answer = ask(server, stream=True, n=2).text
    assert "[DONE]" not in answer
    assert answer.count('"error"') == 1


@pytest.mark.parametrize("headers", [{}, NEW], ids=["stateless", "session"])
def test_an_empty_finish_reason_is_not_a_finish(server: Service, upstream: Simulator, headers: dict[str, str]) -> None:
    unfinished = replaced(CHUNKS.content("Half an ans"), b'"finish_reason":null', b'"finish_reason":""')
    upstream.script = scripts.event_stream(Send(CHUNKS.role()), unfinished)
    answer = ask(server, headers, stream=True).text
    assert "[DONE]" not in answer
    assert answer.count('"error"') == 1
    upstream.script = scripts.event_stream(unfinished, Send(CHUNKS.finish("stop")), Send(DONE))
    assert ask(server, headers, stream=True).text.count("[DONE]") == 1


@pytest.mark.parametrize("text", ["", COMPLETION[:40], COMPLETION + "{", "Hello", '"Hello"'])
def test_half_an_answer_without_streaming_is_an_error(server: Service, upstream: Simulator, text: str) -> None:
    upstream.script = json_of(text)
    answer = ask(server)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_broken"
    assert server.get("/v1/models", key=KEY).status_code == 502
    upstream.script = json_of(COMPLETION)
    assert ask(server).text == COMPLETION


def test_a_connection_that_breaks_within_a_body_is_an_error(server: Service, upstream: Simulator) -> None:
    upstream.script = Script(headers={"Content-Type": "application/json"}, steps=(Send(b'{"data":[]'), Cut()))
    for answer in (ask(server), server.get("/v1/models", key=KEY)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")


@pytest.mark.parametrize(
    ("frames", "is_whole"),
    [
        ((CHUNKS.content("Hi"), CHUNKS.finish("stop"), Cut()), True),
        ((CHUNKS.content("Hi"), Cut()), False),
        ((CHUNKS.content("Hi"), b'data: {"choices":[7],"finish_reason":"stop"}\n\n'), True),
        ((CHUNKS.content("Hi"), b'data: {"choices":[7],"finish_reason":null}\n\n'), False),
        ((b'data: {"error":null,"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n',), True),
        ((CHUNKS.content("Hi"), b'data: {"error"\n\n', CHUNKS.finish("stop")), True),
    ],
    ids=["cut after its end", "cut", "odd end", "odd", "no error", "half an event"],
)
def test_a_stream_is_whole_once_it_has_finished(
    server: Service, upstream: Simulator, frames: tuple[bytes | Cut, ...], is_whole: bool
) -> None:
    upstream.script = scripts.event_stream(*(Send(one) if isinstance(one, bytes) else one for one in frames))
    answer = ask(server, stream=True).text
    assert [b"data: " + line[6:].encode() + b"\n\n" for line in answer.splitlines() if "Hi" in line] == [frames[0]]
    assert (answer.endswith("data: [DONE]\n\n"), "upstream_broken" in answer) == (is_whole, not is_whole)
    sent = [one for one in frames if isinstance(one, bytes)]
    assert answer.encode().startswith(b"".join(sent)), "each event is passed on as it came"


def test_an_error_with_status_200_is_an_error_and_quotes_no_key(server: Service, upstream: Simulator) -> None:
    upstream.script = json_of(json.dumps({"error": {"message": f"No {KEY}"}}))
    answer = ask(server)
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "No [redacted]"
    odd = b'data: {"error":{"message":"No %b"},"choices":7}\n\n' % KEY.encode()
    upstream.script = scripts.event_stream(Send(odd))
    assert KEY not in ask(server, stream=True).text


@pytest.mark.parametrize(
    "script",
    [
        scripts.event_stream(Send(CHUNKS.content("Hi")), Send(CHUNKS.finish("st\0op" + "p" * 99)), Send(DONE)),
        scripts.error_frame("Hi", scripts.Refusal(500, "No\0no")),
        scripts.refuse(400, message="No\0no"),
    ],
    ids=["finish", "error", "refusal"],
)
def test_a_nul_in_the_finish_reason_does_not_keep_the_session_busy(
    server: Service, upstream: Simulator, script: Script
) -> None:
    session_id = session_in(server)
    upstream.script = script
    answer = ask(server, {"X-Session-ID": session_id}, stream=True)
    assert answer.status_code in {200, 400}
    assert "\\u0000" not in answer.text
    upstream.script = None
    assert ask(server, {"X-Session-ID": session_id}).status_code == 200


def test_a_stateless_client_that_never_reads_releases_its_slot(serve: Serve, simulator: Simulator) -> None:
    service = serve(CHATAPI_IDLE_SECONDS="0.5", CHATAPI_HEARTBEAT_SECONDS="0.2", CHATAPI_MAX_GENERATIONS_PER_KEY="1")
    much = Send(CHUNKS.content("x" * 60_000))
    simulator.script = scripts.event_stream(*[much] * 500, Send(CHUNKS.finish("stop")), Send(DONE))
    host, port = service.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(posted({"model": "gpt-4.1-mini", "messages": HELLO, "stream": True}))
        (asked,) = simulator.wait_for_requests(1)
        assert asked.left.wait(10), "the upstream's connection is closed"
        service.wait_for_log("request", path="/v1/chat/completions", aborted=True)
        simulator.script = None
        assert ask(service).status_code == 200


# Clients


def test_clients_that_disconnect_at_any_moment_leave_no_generation(server: Service) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    seen = len(server.log)
    for number in range(400):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(posted({"model": "gpt-4.1-mini", "messages": HELLO, "stream": number % 2 == 0}))
            client.settimeout(number % 20 / 1000 + 0.0001)
            with suppress(TimeoutError):
                client.recv(1)
    seconds = time.monotonic() + 10
    while server.get("/api/health").json()["running_generations"]:
        assert time.monotonic() < seconds
    assert not [line for line in server.log[seen:] if "error" in json.loads(line)["level"]]


@pytest.mark.table
@pytest.mark.parametrize("name", ["\0", "ses_\0", "\ud83d", "ses_\udc4b", "ä"])
def test_an_absurd_id_is_a_plain_404_and_costs_no_connection(server: Service, name: str) -> None:
    seen = len(server.log)
    assert ask(server, metadata={"session_id": name}).status_code == 200, "it is an id of another program"
    answers: list[requests.Response] = []
    if name.isprintable() or "\0" in name:
        path = quote(name)
        answers += [
            server.get(address, key=KEY)
            for address in (f"/v1/chat/completions/{path}", f"/api/sessions/{path}", f"/api/sessions/{path}/messages")
        ]
        answers.append(server.delete(f"/api/sessions/{path}", key=KEY))
        answers.append(server.get(f"/api/chat/{path}/stream"))
        session_id = session_in(server)
        answers.append(server.get(f"/api/chat/{session_id}/stream?generation_id={path}", key=KEY))
    for answer in answers:
        assert answer.status_code == 404, answer.url
        assert "Session not found" in answer.text
    assert not [line for line in server.log[seen:] if "store connection closed" in line]


@pytest.mark.table
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"user": "\ud83d"}, "user"),
        ({"tools": [{"\udc4b": 1}]}, "tools.0"),
        ({"metadata": {"a": "\ud83d"}}, "metadata.a"),
        ({"messages": HELLO * 2049}, "messages"),
    ],
)
@pytest.mark.parametrize("idempotency", [{}, {"Idempotency-Key": "once"}])
def test_a_parameter_that_a_session_cannot_pass_on_is_named(
    server: Service, more: dict[str, Any], param: str, idempotency: dict[str, str]
) -> None:
    answer = ask(server, NEW | idempotency, **more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_of_many_tiny_parts_does_not_grow_in_the_reading(
    server: Service, upstream: Simulator, stream: bool
) -> None:
    frames = [frame for _ in range(2250) for frame in (CHUNKS.reasoning("r"), CHUNKS.content("t"))]
    sends = [Send(b"".join(frames[first : first + 50])) for first in range(0, len(frames), 50)]
    upstream.script = scripts.event_stream(*sends, Send(CHUNKS.finish("stop")), Send(DONE))
    body = {"model": "gpt-4.1-mini", "input": "Hi", "stream": stream}
    answer = server.post("/v1/responses", key=KEY, json=body)
    assert len(answer.content) < 1_500_000
    response = json.loads(answer.text.split("data: ")[-2])["response"] if stream else answer.json()
    texts = {"reasoning": "", "message": ""}
    for item in response["output"]:
        texts[item["type"]] += "".join(part["text"] for part in item["content"])
    assert texts == {"reasoning": "r" * 2250, "message": "t" * 2250}


def test_an_answer_of_too_many_parts_is_too_large(server: Service, upstream: Simulator) -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://a.example"}}
    frames = [frame for _ in range(2100) for frame in (CHUNKS.content("t"), CHUNKS.annotation(annotation))]
    sends = [Send(b"".join(frames[first : first + 50])) for first in range(0, len(frames), 50)]
    upstream.script = scripts.event_stream(*sends, Send(CHUNKS.finish("stop")), Send(DONE))
    answer = ask(server, NEW, stream=True)
    assert '"answer_too_large"' in answer.text
    assert "[DONE]" not in answer.text
