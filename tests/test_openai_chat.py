"""/v1/chat/completions and /v1/models with OpenAI's Python client, which checks every response."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import openai
import pydantic
import pytest
import requests
from openai.types.chat import ChatCompletionChunk

from chatapi.simulator import Gate, ReceivedRequest, Script, Send, Simulator, Wait, refuse, scripts
from chatapi.simulator.wire import DONE, encode
from tests.openai_sdk import CALLED, CHUNKS, CITATION, MODEL, calling, client, client_of, service, simulator
from tests.reader import Reader
from tests.server_process import KEY, OTHER_KEY, Serve, Service

__all__ = ["client", "service", "simulator"]  # fixtures

OWN_HEADER = "X-ChatAPI-Session-ID"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def calls_in(chunks: list[ChatCompletionChunk]) -> list[tuple[str, str, str]]:
    """Return the tool calls that a client assembles."""
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            assert call.function is not None
            parts = calls.setdefault(call.index, [call.id or "", call.function.name or "", ""])
            parts[2] += call.function.arguments or ""
    return [(parts[0], parts[1], parts[2]) for parts in calls.values()]


def event_ids(body: str) -> list[int]:
    return [int(one) for one in re.findall(r"^id: (\d+)$", body, re.MULTILINE)]


# Stateless


def test_a_plain_completion_is_that_of_the_upstream(client: openai.OpenAI, service: Service) -> None:
    before = service.get("/api/health").json()["active_sessions"]
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    completion = raw.parse()
    assert "You said: “Hello”" in (completion.choices[0].message.content or "")
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    assert raw.headers["x-request-id"] == completion._request_id
    for name in ("x-upstream-request-id", "x-ratelimit-limit-requests", "x-ratelimit-remaining", "openai-version"):
        assert raw.headers[name]
    assert "x-session-id" not in raw.headers
    assert service.get("/api/health").json()["active_sessions"] == before, "nothing is stored"


def test_a_stream_is_passed_on_frame_by_frame(service: Service, simulator: Simulator) -> None:
    frames = [
        CHUNKS.role(),
        CHUNKS.content("ä\n"),
        CHUNKS.content('"finish_reason":"stop"'),
        CHUNKS.finish("stop"),
        DONE,
    ]
    simulator.script = scripts.event_stream(*(Send(frame, 7) for frame in frames))
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    assert service.post("/v1/chat/completions", key=KEY, json=body).content == b"".join(frames)


def test_a_stream_with_unusual_lines_is_read(client: openai.OpenAI, simulator: Simulator) -> None:
    for script in (scripts.line_ends(), scripts.with_comments(), scripts.without_done()):
        simulator.script = script
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        assert said(chunks) == scripts.TEXT


def test_usage_is_sent_only_if_requested(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    with_usage = list(create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert with_usage[-1].choices == []
    assert with_usage[-1].usage is not None
    without = list(create(model=MODEL, messages=HELLO, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in without)


def test_every_parameter_is_passed_upstream_unchanged(client: openai.OpenAI, simulator: Simulator) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    audio: Any = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    schema: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": [{"type": "text", "text": "Look"}, image, audio]}],
        tools=TOOLS,
        tool_choice="auto",
        response_format=schema,
        logprobs=True,
        top_logprobs=2,
        n=1,
        reasoning_effort="low",
        metadata={"a": "b"},
        extra_body={"a_field_of_the_future": [1.0, None, {"x": "ü"}]},
    )
    sent = simulator.requests[-1].body
    assert sent["messages"][0]["content"][1:] == [image, audio]
    assert (sent["tools"], sent["tool_choice"], sent["response_format"]) == (TOOLS, "auto", schema)
    assert (sent["logprobs"], sent["top_logprobs"], sent["n"], sent["reasoning_effort"]) == (True, 2, 1, "low")
    assert sent["a_field_of_the_future"] == [1.0, None, {"x": "ü"}]
    assert sent["metadata"] == {"a": "b"}


def test_the_body_is_passed_upstream_byte_for_byte(service: Service, simulator: Simulator) -> None:
    raw = b'{ "model" :"gpt-4.1-mini", "seed": 1e2,\n"messages":[{"role":"user","content":"\\u00e4"}] }'
    headers = {"Content-Type": "application/json"}
    assert service.post("/v1/chat/completions", key=KEY, data=raw, headers=headers).status_code == 200
    assert simulator.requests[-1].raw == raw


def test_several_choices_are_passed_on(client: openai.OpenAI, simulator: Simulator) -> None:
    def frame(index: int, reason: str | None) -> Send:
        document = json.loads(CHUNKS.content(f"answer {index}")[6:])
        document["choices"][0] |= {"index": index, "finish_reason": reason}
        return Send(f"data: {encode(document)}\n\n".encode())

    simulator.script = scripts.event_stream(frame(0, "stop"), frame(1, "length"), Send(DONE))
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True))
    assert [(chunk.choices[0].index, chunk.choices[0].finish_reason) for chunk in chunks] == [
        (0, "stop"),
        (1, "length"),
    ]
    simulator.script = scripts.event_stream(frame(0, "stop"), frame(1, None), Send(DONE))
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True))


def test_tool_calls_are_passed_on_as_they_arrive(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script = calling()
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS, stream=True))
    assert calls_in(chunks) == CALLED
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "script", [scripts.without_finish(), scripts.without_either(), scripts.half_closed_after(), scripts.error_frame()]
)
def test_an_answer_that_breaks_off_is_an_error_and_never_done(
    service: Service, client: openai.OpenAI, simulator: Simulator, script: Script
) -> None:
    simulator.script = script
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError):
        chunks.extend(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    simulator.script = script
    raw = service.post("/v1/chat/completions", key=KEY, json={"model": MODEL, "messages": HELLO, "stream": True})
    assert "[DONE]" not in raw.text
    assert raw.text.count('"error"') == 1


@pytest.mark.table
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("session", [{}, {"X-Session-ID": "new"}])
def test_a_refusal_is_that_of_the_upstream(
    service: Service,
    upstream: Simulator,
    status: int,
    error: type[openai.APIStatusError],
    stream: bool,
    session: dict[str, str],
) -> None:
    upstream.script = refuse(status, message="No, for a reason.", code="a_reason", retry_after="30")
    with client_of(service) as client, pytest.raises(error) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream, extra_headers=session)
    body: Any = refused.value.body
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["message"], body["code"]) == ("No, for a reason.", "a_reason")
    assert refused.value.request_id


def test_our_own_refusals_have_openais_form(service: Service) -> None:
    for key, status in (("sk-wrong", 401), ("", 401)):
        with client_of(service, key or "x") as client, pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert (refused.value.status_code, refused.value.code) == (status, "invalid_api_key")
    assert service.post("/v1/chat/completions", json={}).json()["error"]["code"] == "invalid_api_key"
    for body, param in (
        ({"n": 0}, "n"),
        ({"n": 200}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": []}, "metadata"),
        ({"api_key": KEY}, "api_key"),
    ):
        wrong = service.post("/v1/chat/completions", key=KEY, json={"messages": HELLO, "stream": True} | body)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, param)
    assert service.get("/v1/nothing", key=KEY).json()["error"]["code"] == "not_found"
    assert service.get("/v1/conversations", key=KEY).status_code == 405
    text = service.post("/v1/chat/completions", key=KEY, data="x", headers={"Content-Type": "text/plain"})
    assert (text.status_code, text.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.one_process("it is refused before there is a store")
@pytest.mark.parametrize("base", ["", "/", "/api"])
def test_a_base_url_without_v1_is_refused_with_the_remedy(shared: Service, base: str) -> None:
    """OpenAI's client shows nothing of an error in another form than its own."""
    with openai.OpenAI(base_url=shared.url + base, api_key=KEY, max_retries=0) as client:
        for ask in (
            client.models.list,
            partial(client.chat.completions.create, model="gpt-4.1-mini", messages=[]),
            partial(client.responses.create, model="gpt-4.1-mini", input="Hi"),
        ):
            with pytest.raises(openai.NotFoundError, match="base URL to this server's address and /v1"):
                ask()


def test_the_rate_limit_applies(serve: Serve) -> None:
    service = serve(CHATAPI_RATE_LIMIT="1")
    with client_of(service) as client:
        client.chat.completions.create(model=MODEL, messages=HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
    assert int(refused.value.response.headers["retry-after"]) > 0
    assert refused.value.response.headers["x-ratelimit-remaining"] == "0"


@pytest.mark.one_process("a place is free at once on the replica that the client left")
def test_a_disconnect_ends_a_stateless_answer(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    service = serve(CHATAPI_MAX_GENERATIONS_PER_KEY="1", CHATAPI_SLOT_WAIT_SECONDS="0.3")
    with client_of(service) as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        next(stream)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=MODEL, messages=HELLO)
        stream.close()
        assert simulator.requests[-1].left.wait(5)
        simulator.script = None
        client.chat.completions.create(model=MODEL, messages=HELLO)  # the slot is released


def test_a_disconnect_before_the_first_byte_ends_the_request(service: Service, simulator: Simulator) -> None:
    simulator.script = scripts.never_answers()
    for stream in (False, True):
        seen = len(simulator.requests)
        body = json.dumps({"model": MODEL, "messages": HELLO, "stream": stream}).encode()
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
            )
            received = simulator.wait_for_requests(seen + 1)[-1]
        assert received.left.wait(5)


def test_silences_are_filled_with_and_without_ids(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    # Comments that end in a blank line, and ids, are each safe for the client; the two together are not.
    service = serve(CHATAPI_HEARTBEAT_SECONDS="0.05", CHATAPI_IDLE_SECONDS="10")
    simulator.script = scripts.held(gate)
    with client_of(service) as client:
        begun = []
        for session in ({}, {"X-Session-ID": "new"}):
            response = client.chat.completions.with_raw_response.create(
                model=MODEL, messages=HELLO, stream=True, extra_headers=session
            )
            stream: Any = response.parse()
            begun.append((next(stream), stream))
        _wait_for_heartbeat(service, simulator)
        gate.open()
        for first, stream in begun:
            assert said([first, *stream]) == "Hello there."


def _wait_for_heartbeat(service: Service, simulator: Simulator) -> None:
    """Return when a reader of a stream that starts after this call has received two heartbeats."""
    before, gate = simulator.script, Gate()
    simulator.script = scripts.held(gate)
    headers = {"Authorization": f"Bearer {OTHER_KEY}", "X-Session-ID": "new"}
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    with Reader(service.url, "/v1/chat/completions", body, headers=headers) as reader:
        while reader.body.count(b": keep-alive\n") < 2:
            assert reader.read_some()
        gate.open()
        text = reader.read_all().decode()
        assert ": keep-alive\n\n" not in text
    simulator.script = before


def test_a_silent_stateless_upstream_is_a_timeout(serve: Serve, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Hello")
    with client_of(serve(CHATAPI_IDLE_SECONDS="0.2")) as client, pytest.raises(openai.APIError) as ended:
        list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert ended.value.code == "upstream_timeout"
    assert simulator.requests[-1].left.wait(5)


def test_a_slow_upstream_gets_a_status_and_heartbeats(serve: Serve, simulator: Simulator) -> None:
    simulator.script = Script(before_headers=(scripts.Pause(0.5),), steps=(), headers={})
    service = serve(CHATAPI_STATUS_SECONDS="0.1", CHATAPI_HEARTBEAT_SECONDS="0.1")
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    late = service.post("/v1/chat/completions", key=KEY, json=body)
    assert late.status_code == 200
    assert late.text.startswith(": keep-alive\n\n")
    assert '"error"' in late.text
    assert "[DONE]" not in late.text


def test_models_are_those_of_the_upstream(client: openai.OpenAI, service: Service) -> None:
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-none")
    assert service.get("/v1/models").status_code == 401


# Sessions


def headers_of(stream: Any) -> dict[str, str]:
    headers = stream.response.headers
    return {"X-Session-ID": headers["x-session-id"], "X-Generation-ID": headers["x-generation-id"]}


def test_a_session_started_with_the_seeds_curl_is_continued_in_both_dialects(
    client: openai.OpenAI, service: Service, simulator: Simulator
) -> None:
    first = service.send("My name is Ada.")
    assert first.text
    session = {"X-Session-ID": first.headers["X-Session-ID"]}
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is my name?"}], extra_headers=session
    )
    assert "Ada" in (completion.choices[0].message.content or "")
    assert completion.usage is not None
    history: list[Any] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "made up"},
        {"role": "assistant", "content": "and not sent upstream"},
        {"role": "user", "content": "And then?"},
    ]
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=history, stream=True, extra_body={"metadata": {"session_id": session["X-Session-ID"]}}
        )
    )
    assert said(chunks)
    sent = simulator.requests[-1].body
    assert "metadata" not in sent
    assert [message["content"] for message in sent["messages"]] == [
        "Be kind.",
        "My name is Ada.",
        first.text,
        "What is my name?",
        completion.choices[0].message.content,
        "And then?",
    ]
    assert service.send("Bye", session_id=session["X-Session-ID"]).text
    texts = [message["content"] for message in service.messages(session["X-Session-ID"])]
    assert texts[::2] == ["My name is Ada.", "What is my name?", "And then?", "Bye"]
    assert texts[5] == said(chunks)


def test_a_new_session_stores_the_whole_history(client: openai.OpenAI, service: Service) -> None:
    history: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=history, extra_headers={"X-Session-ID": "new"}
    )
    assert "Ada" in (raw.parse().choices[0].message.content or "")
    session = service.get(f"/api/sessions/{raw.headers['x-session-id']}").json()
    assert (session["developer_message"], session["message_count"]) == ("Be brief.", 4)


def test_tools_are_called_and_answered_in_a_session(
    client: openai.OpenAI, service: Service, simulator: Simulator
) -> None:
    simulator.script = calling()
    create = client.chat.completions.create
    stream = create(model=MODEL, messages=HELLO, tools=TOOLS, stream=True, extra_headers={"X-Session-ID": "new"})
    chunks = list(stream)
    assert calls_in(chunks) == CALLED
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    headers = headers_of(stream)
    simulator.script = calling()
    raw = create(model=MODEL, messages=HELLO, tools=TOOLS, extra_headers={"X-Session-ID": "new"})
    whole: Any = raw.choices[0].message
    assert [(call.id, call.function.name, call.function.arguments) for call in whole.tool_calls] == CALLED
    assert (whole.content, raw.choices[0].finish_reason) == ("Let me see. ", "tool_calls")
    # The client answers with the whole history, as clients do.
    simulator.script = None
    results: list[Any] = [
        {"role": "tool", "tool_call_id": one, "content": f"{one}: sunny"} for one in ("call_2", "call_1")
    ]
    history: list[Any] = [*HELLO, whole.model_dump(exclude_none=True, exclude={"annotations"}), *results]
    session = {"X-Session-ID": headers["X-Session-ID"]}
    assert said(list(create(model=MODEL, messages=history, stream=True, extra_headers=session)))
    sent = simulator.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [message["tool_call_id"] for message in sent[2:]] == ["call_1", "call_2"]
    assert [part["type"] for part in service.messages(headers["X-Session-ID"])[2]["parts"]] == ["tool_result"]


def test_images_are_stored_and_sent_again(client: openai.OpenAI, service: Service, simulator: Simulator) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    content: Any = [{"type": "text", "text": "Look"}, image]
    create = client.chat.completions.with_raw_response.create
    first = create(model=MODEL, messages=[{"role": "user", "content": content}], extra_headers={"X-Session-ID": "new"})
    session_id = first.headers["x-session-id"]
    create(model=MODEL, messages=HELLO, extra_headers={"X-Session-ID": session_id})
    assert simulator.requests[-1].body["messages"][0]["content"] == content
    (text, shown) = service.messages(session_id)[0]["parts"]
    assert (text["text"], shown["type"], shown["url"]) == ("Look", "image", image["image_url"]["url"])


def test_a_cut_stream_is_resumed_from_every_event(service: Service, simulator: Simulator) -> None:
    gate = Gate()
    asked = len(simulator.requests)
    simulator.script = scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.reasoning("Hm, 考え")),
        Send(CHUNKS.content("Grüße 👋🏽 ")),
        Send(CHUNKS.annotation(CITATION)),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.tool_call(1, id="call_2", name="weather")),
        Wait(gate),
        Send(CHUNKS.tool_call(1, arguments='{"a":1}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )
    body = {"model": MODEL, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    bearer = {"Authorization": f"Bearer {KEY}"}
    with Reader(service.url, "/v1/chat/completions", body, headers={**bearer, "X-Session-ID": "new"}) as live:
        live.read_until("東京")
        generation = live.headers["x-generation-id"]
        seen = event_ids(live.body.decode())
        running = [(one, _resume(service, generation, one)) for one in sorted(set(seen))]
        gate.open()
        whole = live.read_all().decode()
    assert whole.endswith("data: [DONE]\n\n")
    expected = _joined(whole)
    assert expected["tool_calls"] == {0: ["call_1", "weather", '{"city":"東京"}'], 1: ["call_2", "weather", '{"a":1}']}
    ends = event_ids(whole)
    log_length = ends[-1]

    def check(position: int, rest: str) -> None:
        assert _joined(_up_to(whole, position) + rest) == expected, position

    for position, reader in running:
        check(position, reader.read_all().decode())
        reader.leave()
    with ThreadPoolExecutor(4) as clients:
        places = sorted(set(ends))
        rests = clients.map(lambda one: _resume(service, generation, one).read_all().decode(), places)
        for position, rest in zip(places, rests, strict=True):
            check(position, rest)
    assert _resume(service, generation, log_length + 1).status == 416
    # Within the log, at the end of a character but not of an event: everything that follows is there.
    for position in range(log_length):
        with _resume(service, generation, position) as reader:
            assert reader.status in (200, 416)
            if reader.status == 200:
                assert reader.read_all().decode().endswith("data: [DONE]\n\n")
    # And by the client itself, as a create.
    with client_of(service) as client:
        headers = {"X-Generation-ID": generation, "Last-Event-ID": "0"}
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_headers=headers))
        assert [call[2] for call in calls_in(chunks)] == ['{"city":"東京"}', '{"a":1}']
        again = client.chat.completions.retrieve(chunks[0].id)
        assert again.choices[0].message.annotations is not None
        assert again.choices[0].finish_reason == "tool_calls"
    assert len(simulator.requests) == asked + 1


def _resume(service: Service, generation: str, position: int) -> Reader:
    headers = {"Authorization": f"Bearer {KEY}", "Last-Event-ID": str(position)}
    return Reader(service.url, f"/v1/chat/completions/{generation}?stream=true", None, headers=headers)


def _up_to(body: str, position: int) -> str:
    """Return the events of a stream whose id is at most this."""
    kept = [block for block in body.split("\n\n") if event_ids(block) and event_ids(block)[0] <= position]
    return "".join(block + "\n\n" for block in kept if '"finish_reason":null' in block)


def _joined(body: str) -> dict[str, Any]:
    """Return the result that a client has assembled at the end of a stream, counting repeated events at a cut once."""
    joined: dict[str, Any] = {"content": "", "reasoning_content": "", "annotations": [], "tool_calls": {}}
    for line in body.splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line[6:])
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                joined[name] += delta.get(name) or ""
            joined["annotations"] += delta.get("annotations", [])
            for call in delta.get("tool_calls", []):
                known = joined["tool_calls"].setdefault(
                    call["index"], [call.get("id"), call["function"].get("name"), ""]
                )
                known[2] += call["function"]["arguments"]
            joined["finish_reason"] = choice["finish_reason"]
    return joined


def test_a_busy_session_is_refused_once_and_not_retried(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    with client_of(service, max_retries=2) as client:
        create = client.chat.completions.create
        stream = create(model=MODEL, messages=HELLO, stream=True, extra_headers={"X-Session-ID": "new"})
        next(stream)
        seen = len([line for line in service.log if '"path":"/v1/chat/completions"' in line])
        session = {"X-Session-ID": headers_of(stream)["X-Session-ID"]}
        with pytest.raises(openai.ConflictError) as busy:
            create(model=MODEL, messages=HELLO, extra_headers=session)
        assert busy.value.code == "session_busy"
        gate.open()
        list(stream)
        create(model=MODEL, messages=HELLO, extra_headers=session)
    tried = [line for line in service.log[seen:] if '"status":409' in line]
    assert len(tried) == 1


def test_a_repeated_send_reaches_the_upstream_once(client: openai.OpenAI, simulator: Simulator) -> None:
    headers = {"X-Session-ID": "new", "Idempotency-Key": "once"}
    asked = len(simulator.requests)
    create = client.chat.completions.create
    whole = create(model=MODEL, messages=HELLO, extra_headers=headers)
    again = create(model=MODEL, messages=HELLO, extra_headers=headers)
    streamed = list(create(model=MODEL, messages=HELLO, stream=True, extra_headers=headers))
    assert whole == again
    assert said(streamed) == whole.choices[0].message.content
    assert streamed[0].id == whole.id
    assert len(simulator.requests) == asked + 1
    with pytest.raises(openai.BadRequestError):
        create(model=MODEL, messages=[{"role": "user", "content": "else"}], extra_headers=headers)


def test_a_body_may_contain_an_image_and_not_a_film(service: Service) -> None:
    for size, status in ((2, 200), (9, 400)):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (size << 20)}}
        body = {"model": MODEL, "messages": [{"role": "user", "content": [image]}]}
        answer = service.post("/v1/chat/completions", key=KEY, json=body)
        assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_session_answer_outlives_its_client(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    with client_of(service) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, extra_headers={"X-Session-ID": "new"}
        )
        next(stream)
        headers = headers_of(stream)
        stream.close()
        gate.open()
        completion = client.chat.completions.retrieve(headers["X-Generation-ID"])
    assert completion.choices[0].message.content == "Hello there."


def test_the_session_of_another_key_is_a_404(service: Service) -> None:
    mine = service.send("Mine.")
    assert mine.text
    with client_of(service, OTHER_KEY) as client:
        bodies = []
        for session in (mine.headers["X-Session-ID"], "ses_none"):
            with pytest.raises(openai.NotFoundError) as refused:
                client.chat.completions.create(model=MODEL, messages=HELLO, extra_headers={OWN_HEADER: session})
            bodies.append(refused.value.body)
        for generation in (mine.headers["X-Generation-ID"], "gen_none"):
            with pytest.raises(openai.NotFoundError) as refused:
                client.chat.completions.retrieve(generation)
            bodies.append(refused.value.body)
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0] == {
        "message": "Session not found",
        "type": "invalid_request_error",
        "param": None,
        "code": "session_not_found",
    }


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_session_ids_of_other_programs_leave_a_completion_stateless(
    service: Service, simulator: Simulator, key: str
) -> None:
    mine = service.send("Mine.")
    assert mine.text
    theirs = ["ses_", "ses_none", "ses_" + "x" * 32, "new session", "7", "\ud83d", "ses_\0"]
    theirs += [mine.headers["X-Session-ID"]] if key == OTHER_KEY else []
    for name in theirs:
        body = {"model": MODEL, "messages": HELLO, "metadata": {"session_id": name, "a": "b"}}
        raw = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        headers |= {"X-Session-ID": name} if name.isascii() and name.isprintable() else {}
        answer = service.post("/v1/chat/completions", key=key, data=raw, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "X-Session-ID" not in answer.headers
        assert simulator.requests[-1].raw == raw, "it is passed on unchanged"
    body = {"model": MODEL, "messages": HELLO, "metadata": {"session_id": 7}}
    assert service.post("/v1/chat/completions", key=key, json=body).status_code == 200


def test_a_session_has_a_header_of_its_own(service: Service) -> None:
    def ask(headers: dict[str, str]) -> requests.Response:
        return service.post("/v1/chat/completions", key=KEY, json={"model": MODEL, "messages": HELLO}, headers=headers)

    begun = ask({OWN_HEADER: "new"})
    session_id = begun.headers["X-Session-ID"]
    continued = ask({OWN_HEADER: session_id, "X-Session-ID": "of another program"})
    assert continued.headers["X-Session-ID"] == session_id
    assert len(service.messages(session_id, key=KEY)) == 4
    assert ask({OWN_HEADER: "ses_none"}).json()["error"]["code"] == "session_not_found"


@pytest.mark.table
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, "messages.0"),
        ({"model": 7}, "model"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"on_disconnect": "stop"}, "on_disconnect"),
        ({"on_disconnect": ["cancel"]}, "on_disconnect"),
    ],
)
def test_a_parameter_that_a_session_cannot_store_is_refused_by_name(
    shared: Service, more: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL, "messages": HELLO} | more
    wrong = shared.post("/v1/chat/completions", key=KEY, json=body, headers={"X-Session-ID": "new"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("session", [{}, {"X-Session-ID": "new"}])
def test_text_before_a_failure_is_shown(
    client: openai.OpenAI, simulator: Simulator, gate: Gate, session: dict[str, str]
) -> None:
    simulator.script = scripts.event_stream(Send(CHUNKS.content("Hello")), Wait(gate), scripts.HalfClose())
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_headers=session)
    chunks: list[ChatCompletionChunk] = []
    while not said(chunks):
        chunks.append(next(stream))
    gate.open()
    with pytest.raises(openai.APIError) as broken:
        next(stream)
    assert (said(chunks), broken.value.code) == ("Hello", "upstream_broken")


def test_a_browser_may_call_it(service: Service) -> None:
    asked = requests.options(
        f"{service.url}/v1/chat/completions",
        headers={
            "Origin": "https://example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-session-id,x-stainless-os,last-event-id",
        },
        timeout=10,
    )
    assert asked.status_code == 200
    answered = service.post(
        "/v1/chat/completions",
        key=KEY,
        json={"model": MODEL, "messages": HELLO},
        headers={"Origin": "https://example.org"},
    )
    exposed = answered.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("x-session-id", "x-generation-id", "x-request-id", "retry-after"))


def test_a_key_that_the_upstream_echoes_is_hidden(client: openai.OpenAI, simulator: Simulator) -> None:
    def repeat(request: ReceivedRequest) -> Script:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        if request.body.get("stream"):
            return scripts.error_frame(refusal=scripts.Refusal(500, f"No {key}!", code=key))
        return refuse(401, message=f"Incorrect API key provided: {key}.", code=key)

    simulator.script = repeat
    with pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert KEY not in refused.value.response.text
    with pytest.raises(openai.APIError) as broken:
        list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert KEY not in str(broken.value.body)


def test_an_answer_at_shutdown_is_cut_and_not_done(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    service = serve()
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    with Reader(service.url, "/v1/chat/completions", body, headers=headers) as reader:
        reader.read_until("Hello")
        assert service.stop() == 0
        text = reader.read_all().decode()
    assert "[DONE]" not in text
    assert '"code":"interrupted"' in text


# With the simulated model


class Weather(pydantic.BaseModel):
    city: str
    degrees: int
    sunny: bool


@pytest.mark.parametrize("session", [{}, {"X-Session-ID": "new"}])
@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_calls_its_tools_and_answers(service: Service, session: dict[str, str], stream: bool) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    history: list[Any] = [{"role": "user", "content": "Use weather, please."}]
    with client_of(service) as client:
        create = client.chat.completions.create
        raw: Any = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=history, tools=[tool], stream=stream, extra_headers=session
        )
        if stream:
            (call,) = calls_in(list(raw.parse()))
        else:
            (called,) = raw.parse().choices[0].message.tool_calls
            call = called.id, called.function.name, called.function.arguments
        assert (call[1], json.loads(call[2])) == ("weather", {"city": "something"})
        function = {"name": call[1], "arguments": call[2]}
        history += [
            {"role": "assistant", "tool_calls": [{"id": call[0], "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": call[0], "content": "21 degrees"},
        ]
        again = {"X-Session-ID": raw.headers["x-session-id"]} if session else {}
        answer = create(model=MODEL, messages=history, tools=[tool], extra_headers=again)
    assert answer.choices[0].message.content == "The tool says: “21 degrees”"


@pytest.mark.parametrize("session", [{}, {"X-Session-ID": "new"}])
def test_a_structured_answer_is_parsed(service: Service, session: dict[str, str]) -> None:
    with client_of(service) as client:
        answer = client.chat.completions.parse(
            model=MODEL, messages=HELLO, response_format=Weather, extra_headers=session
        )
    assert answer.choices[0].message.parsed == Weather(city="something", degrees=7, sunny=True)


def test_several_choices_are_complete_streamed_or_not(service: Service) -> None:
    with client_of(service) as client:
        create = client.chat.completions.create
        whole = create(model=MODEL, messages=HELLO, n=3)
        assert [choice.index for choice in whole.choices] == [0, 1, 2]
        chunks = list(create(model=MODEL, messages=HELLO, n=3, stream=True))
    for index in range(3):
        text = "".join(
            choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index
        )
        assert text == whole.choices[index].message.content


def test_a_call_without_a_result_leaves_the_session_usable(service: Service) -> None:
    # The upstream refuses a history with an open call, as OpenAI does.
    with client_of(service) as client:
        raw: Any = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=HELLO, tools=TOOLS, tool_choice="required", extra_headers={"X-Session-ID": "new"}
        )
        assert raw.parse().choices[0].finish_reason == "tool_calls"
        open_call: Any = [*HELLO, raw.parse().choices[0].message.model_dump(exclude_none=True), *HELLO]
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=MODEL, messages=open_call)
        session = {"X-Session-ID": raw.headers["x-session-id"]}
        answer = client.chat.completions.create(model=MODEL, messages=open_call, extra_headers=session)
    assert "You said" in (answer.choices[0].message.content or "")
