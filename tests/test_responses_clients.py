"""/v1/responses as clients in use speak it: references to stored items, summaries of reasoning, disconnects."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from itertools import product
from typing import Any

import openai
import pytest
import requests

from chatapi.simulator import Gate, Simulator, Wait, scripts
from tests import schemas
from tests.openai_sdk import MODEL, WEATHER, client, client_of, everything, service
from tests.server_process import KEY, OTHER_KEY, Service
from tests.test_openai_chat import HELLO
from tests.test_responses import streamed

__all__ = ["client", "service"]  # fixtures


def reference(name: str) -> Any:
    return {"type": "item_reference", "id": name}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


# Item references


def test_items_of_any_session_of_the_owner_can_be_referred_to(client: openai.OpenAI, upstream: Simulator) -> None:
    upstream.script = everything()
    first = client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
    upstream.script = scripts.answer("Fine.")
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
    other: Any = {"type": "function_call_output", "call_id": "call_2", "output": "rain"}
    references = [reference(item.id or "") for item in first.output]
    second = client.responses.create(model=MODEL, input=[user("Weather?"), *references, result, other])
    told = upstream.requests[-1].body["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in told[1]["tool_calls"]] == ["call_1", "call_2"]
    assert told[1]["content"].startswith("Grüße 👋🏽 and more")
    bare: Any = {"id": second.output[0].id}  # the type may be absent
    client.responses.create(model=MODEL, input=[user("Weather?"), bare, user("Thanks.")], store=False)
    assert [message["content"] for message in upstream.requests[-1].body["messages"]] == [
        "Weather?",
        "Fine.",
        "Thanks.",
    ]
    made = client.conversations.create(items=[bare, user("Later.")])
    assert [item.type for item in client.conversations.items.list(made.id)] == ["message", "message"]


def test_a_result_can_be_referred_to(client: openai.OpenAI, upstream: Simulator) -> None:
    call: Any = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    result: Any = {"type": "function_call_output", "call_id": "c", "output": "sun"}
    first = client.responses.create(model=MODEL, input=[user("Weather?"), call, result])
    given, asked, question = client.responses.input_items.list(first.id).data
    client.responses.create(model=MODEL, input=[reference(one.id or "") for one in (question, asked, given)])
    assert [message["role"] for message in upstream.requests[-1].body["messages"]] == ["user", "assistant", "tool"]


def test_an_unknown_item_is_a_404_that_names_it(service: Service, client: openai.OpenAI) -> None:
    mine = client.responses.create(model=MODEL, input="mine").output[0].id or ""
    with client_of(service, OTHER_KEY) as other:
        for name in (mine, mine[:-4] + "AAAA", mine + "_9", "rs" + mine[3:], "fc_1", "msg_" + "0" * 50):
            with pytest.raises(openai.NotFoundError) as caught:
                other.responses.create(model=MODEL, input=[user("x"), reference(name)])
            body: Any = caught.value.body
            assert body["message"] == f"Item with id '{name}' not found."
            assert body["param"] == "input.1"
        with pytest.raises(openai.NotFoundError) as caught:
            other.responses.create(model=MODEL, input=[reference(KEY)])
        assert KEY not in str(caught.value)


# Summaries


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("reasoning", [{"summary": "auto"}, {"effort": "low", "generate_summary": "detailed"}])
def test_reasoning_is_a_summary_where_one_was_asked_for(
    client: openai.OpenAI, service: Service, upstream: Simulator, reasoning: Any, kept: bool
) -> None:
    upstream.script = everything()
    conversation = client.conversations.create().id
    create = client.responses.create  # strict: it validates every event
    place: Any = {"conversation": conversation} if kept else {"store": False}
    events = list(create(model=MODEL, input="Hi", tools=[WEATHER], reasoning=reasoning, stream=True, **place))
    kinds = [event.type for event in events if "reasoning" in event.type]
    assert kinds[:2] == ["response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"]
    assert kinds[-2:] == ["response.reasoning_summary_text.done", "response.reasoning_summary_part.done"]
    said = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(said) == "Hm. お茶?"
    last = events[-1]
    assert last.type == "response.completed"
    item = last.response.output[0]
    assert item.type == "reasoning"
    assert [(part.type, part.text) for part in item.summary] == [("summary_text", "Hm. お茶?")]
    assert item.content is None
    if kept:
        stored = service.get(f"/v1/responses/{last.response.id}", key=KEY).json()
        schemas.check_response(stored)
        assert client.responses.retrieve(last.response.id) == last.response
        items = list(client.conversations.items.list(conversation, order="asc"))
        assert [one.to_dict() for one in items[1:]] == stored["output"], "the conversation has them in the same form"


def test_reasoning_is_content_where_no_summary_was_asked_for(service: Service, upstream: Simulator) -> None:
    upstream.script = everything()
    item = streamed(service, {"input": "Hi", "reasoning": {"effort": "low"}})[-1]["response"]["output"][0]
    assert (item["summary"], item["content"]) == ([], [{"type": "reasoning_text", "text": "Hm. お茶?"}])


# Disconnects


def posted(path: str, body: Any, headers: dict[str, str]) -> bytes:
    """A whole request, for a client that leaves without reading."""
    data = json.dumps(body).encode()
    headers |= {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(data))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + data


def test_a_stored_answer_stops_with_its_client_where_that_was_asked_for(service: Service, upstream: Simulator) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    asked = {}
    for path, by, stream in product(("/v1/responses", "/v1/chat/completions"), ("field", "header"), (True, False)):
        gate = Gate()
        upstream.script = scripts.held(gate)
        body: dict[str, Any] = {"model": MODEL, "stream": stream}
        body |= {"input": "x"} if path == "/v1/responses" else {"messages": HELLO}
        headers = {"Authorization": f"Bearer {KEY}", "X-ChatAPI-Session-ID": "new"}
        if by == "field":
            body["on_disconnect"] = "cancel"
        else:
            headers["X-On-Disconnect"] = "cancel"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(posted(path, body, headers))
            assert gate.reached.wait(10)
            if stream:
                assert connection.recv(1)
        asked[path, by, stream] = upstream.requests[-1]
    for case, request in asked.items():  # after all of them have left: each departure is noticed within a second
        assert request.left.wait(10), f"the upstream's connection is open: {case}"
        assert "on_disconnect" not in request.body


def test_a_stored_answer_continues_by_default(
    service: Service, client: openai.OpenAI, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there")
    stream = client.responses.create(model=MODEL, input="x", stream=True)
    first = next(iter(stream))
    assert first.type == "response.created"
    assert gate.reached.wait(10)
    stream.close()
    gate.open()
    with client.responses.stream(response_id=first.response.id, starting_after=0) as rest:
        assert rest.get_final_response().output_text == "Hello there"


def test_an_unknown_word_for_a_disconnect_is_named(service: Service) -> None:
    for headers, body, param in (
        ({"X-On-Disconnect": "stop"}, {}, "X-On-Disconnect"),
        ({}, {"on_disconnect": "stop"}, "on_disconnect"),
    ):
        answer = service.post("/v1/responses", key=KEY, json={"input": "x", **body}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


# Retries

RECEIVING = "http11.receive_response_headers.started"  # the client has sent its request


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["response", "previous", "completion"])
def test_a_clients_own_retries_ask_the_model_once(
    service: Service,
    client: openai.OpenAI,
    upstream: Simulator,
    gate: Gate,
    place: str,
    stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = client.responses.create(model=MODEL, input="before")
    asked = len(upstream.requests)
    answer = scripts.answer("Hello")
    upstream.script = replace(answer, before_headers=(Wait(gate), *answer.before_headers))
    sent: list[Any] = []

    def lose_patience(request: Any) -> None:
        sent.append(request)
        request.extensions["timeout"]["read"] = 0.05 if len(sent) == 1 else 30
        request.extensions["trace"] = lambda event, _: on_sent() if event == RECEIVING else None

    def on_sent() -> None:
        if len(sent) == 1:
            assert gate.reached.wait(10)  # then it waits for an answer that does not begin
        else:
            threading.Timer(0.1, gate.open).start()  # the retry has found the first attempt by then

    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    impatient = openai.DefaultHttpxClient(event_hooks={"request": [lose_patience]})
    with client_of(service, max_retries=3, http_client=impatient) as hasty:
        if place == "completion":
            headers = {"X-Session-ID": before_session(service)}
            create: Any = hasty.chat.completions.create
            told = create(model=MODEL, messages=HELLO, stream=stream, extra_headers=headers)
        else:
            more = {"previous_response_id": before.id} if place == "previous" else {}
            create = hasty.responses.create
            told = create(model=MODEL, input="Hi", stream=stream, **more)
        said = "".join(json.dumps(one.to_dict()) for one in told) if stream else json.dumps(told.to_dict())
    assert "Hello" in said
    assert len(sent) == 2
    assert len(upstream.requests) == asked + 1


def before_session(service: Service) -> str:
    """The session that was used last."""
    return str(service.get("/api/sessions?sort=updated", key=KEY).json()["data"][0]["session_id"])


def test_the_same_request_twice_is_two_answers(service: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    body = {"model": MODEL, "input": "Hi", "background": True}
    first, second, retry, other = (
        service.post("/v1/responses", key=KEY, json=body | more, headers={"x-stainless-retry-count": count}).json()
        for count, more in (("0", {}), ("0", {}), ("1", {}), ("1", {"input": "Ho"}))
    )
    assert first["id"] != second["id"]
    assert retry["id"] in {first["id"], second["id"]}
    assert other["id"] not in {first["id"], second["id"]}
    gate.open()


# Small things


def test_models_answer_head_requests(service: Service) -> None:
    for path in ("/v1/models", f"/v1/models/{MODEL}"):
        answer = requests.head(service.url + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
