"""/v1/responses with OpenAI's Python client, which checks every response; every event is checked against the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pydantic
import pytest
import requests

from chatapi.simulator import Gate, Script, Simulator, refuse, scripts
from tests import schemas
from tests.openai_sdk import (
    CALLED,
    CITATION,
    MODEL,
    WEATHER,
    calling,
    client,
    client_of,
    everything,
    service,
    simulator,
)
from tests.reader import Reader
from tests.server_process import KEY, OTHER_KEY, Serve, Service
from tests.test_response_events import events_in, spread

__all__ = ["client", "service", "simulator"]  # fixtures

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}


@pytest.fixture
def own(serve: Serve) -> Service:
    """A server of the test's own, which may be stopped or whose database is searched."""
    return serve()


@pytest.fixture
def own_client(own: Service) -> Iterator[openai.OpenAI]:
    with client_of(own) as client:
        yield client


def streamed(service: Service, body: dict[str, Any], key: str = KEY) -> list[dict[str, Any]]:
    """Create a response; return its events, checked against the schema."""
    answer = service.post("/v1/responses", key=key, json={"model": MODEL, "stream": True, **body})
    assert answer.status_code == 200, answer.text
    return checked(answer)


def again(service: Service, response_id: str, after: int | None = None, key: str = KEY) -> list[dict[str, Any]]:
    """Read the events of a response from after an event."""
    query = "" if after is None else f"&starting_after={after}"
    answer = service.get(f"/v1/responses/{response_id}?stream=true{query}", key=key)
    assert answer.status_code == 200, answer.text
    return checked(answer)


def checked(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "text/event-stream"
    events = events_in(answer.content.replace(b": keep-alive\n\n", b""))
    for event in events:
        schemas.check_event(event)
    return events


# Creation


def test_a_plain_response(client: openai.OpenAI, service: Service) -> None:
    raw = client.responses.with_raw_response.create(model=MODEL, input="Hello", metadata={"a": "b"}, user="u1")
    response = raw.parse()
    assert "You said: “Hello”" in response.output_text
    assert (response.status, response.metadata, response.user) == ("completed", {"a": "b"}, "u1")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert response.id.startswith("resp_")
    assert raw.headers["x-session-id"].startswith("ses_")
    schemas.check_response(raw.http_response.json())
    assert client.responses.retrieve(response.id) == response


def test_a_streamed_response_ends_with_what_is_retrieved(client: openai.OpenAI, service: Service) -> None:
    events = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    last = events[-1]
    assert last.type == "response.completed"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == last.response.output_text
    assert client.responses.retrieve(last.response.id) == last.response
    assert [event.type for event in events if not event.type.endswith(".delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_the_clients_own_stream_helper_reads_it(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        list(stream)
        whole = stream.get_final_response()
    assert whole.output_text
    with client.responses.stream(response_id=whole.id, starting_after=0) as stream:
        assert stream.get_final_response().output_text == whole.output_text


def test_every_kind_of_output_has_its_events(service: Service, simulator: Simulator) -> None:
    simulator.script = everything()
    events = streamed(service, {"input": "Hello", "tools": [WEATHER]})
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call", "function_call"]
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "Hm. お茶?"}]
    text, refusal = items[1]["content"]
    assert text["text"] == "Grüße 👋🏽 and more"
    assert text["annotations"] == [{"type": "url_citation", **CITATION["url_citation"]}]  # type: ignore[dict-item]
    assert refusal == {"type": "refusal", "refusal": "But not that."}
    assert [(item["call_id"], item["name"], item["arguments"]) for item in items[2:]] == CALLED
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"] == items
    assert len({item["id"] for item in items}) == len(items)


def test_the_request_is_mapped_to_chat_completions(client: openai.OpenAI, simulator: Simulator) -> None:
    image: Any = IMAGE
    file: Any = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    schema: Any = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    response = client.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Mind the cat."},
            {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image, file]},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        text={"format": schema, "verbosity": "low"},
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=100,
        truncation="auto",
        safety_identifier="s1",
        prompt_cache_key="p1",
        service_tier="default",
    )
    sent = simulator.requests[-1].body
    assert sent["messages"][:2] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "developer", "content": "Mind the cat."},
    ]
    assert sent["messages"][2]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
    ]
    function = {name: WEATHER[name] for name in ("name", "description", "parameters", "strict")}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {name: schema[name] for name in ("name", "schema", "strict")},
    }
    assert (sent["parallel_tool_calls"], sent["reasoning_effort"], sent["verbosity"]) == (False, "low", "low")
    assert (sent["temperature"], sent["top_p"], sent["max_completion_tokens"]) == (0.5, 0.25, 100)
    assert (sent["safety_identifier"], sent["prompt_cache_key"]) == ("s1", "p1")
    shown = client.responses.retrieve(response.id)
    assert (shown.instructions, shown.temperature, shown.top_p) == ("Be brief.", 0.5, 0.25)
    assert shown.text is not None
    assert shown.text.format is not None
    assert shown.text.format.type == "json_schema"
    assert (shown.tools[0].type, shown.truncation, shown.max_output_tokens) == ("function", "auto", 100)
    asked = client.responses.input_items.list(response.id, order="asc").data
    assert [item.type for item in asked] == ["message", "message"]
    contents = [part.type for part in asked[1].content]
    assert contents == ["input_text", "input_image", "input_file"]


def test_structured_output_is_parsed_by_the_client(client: openai.OpenAI, simulator: Simulator) -> None:
    class City(pydantic.BaseModel):
        name: str

    simulator.script = scripts.answer('{"name": "東京"}')
    parsed = client.responses.parse(model=MODEL, input="Where?", text_format=City)
    assert parsed.output_parsed == City(name="東京")


def test_a_round_trip_with_tools(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script = calling()
    response = client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == CALLED
    simulator.script = None
    results: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"fine {n}"} for n, call in enumerate(calls)
    ]
    client.responses.create(model=MODEL, input=results, previous_response_id=response.id, tools=[WEATHER])
    messages = simulator.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    assert [(one["tool_call_id"], one["content"]) for one in messages[2:]] == [
        ("call_1", "fine 0"),
        ("call_2", "fine 1"),
    ]


def test_a_client_may_send_the_whole_history_as_received(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script = everything()
    response = client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER], store=False)
    simulator.script = None
    history: Any = [
        {"role": "user", "content": "Weather?"},
        *(item.model_dump(exclude_none=True) for item in response.output),
        {"type": "function_call_output", "call_id": "call_1", "output": "fine"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "hot"}]},
    ]
    client.responses.create(model=MODEL, input=history, tools=[WEATHER], store=False)
    messages = simulator.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert len(messages[1]["tool_calls"]) == 2


def test_a_call_without_a_result_leaves_the_chain_usable(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script = calling()
    response = client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
    simulator.script = None
    client.responses.create(model=MODEL, input="Never mind.", previous_response_id=response.id)
    messages = simulator.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert "tool_calls" not in messages[1]


# Resumption


def test_a_reader_cut_off_after_any_event_gets_exactly_the_rest(service: Service, simulator: Simulator) -> None:
    simulator.script = everything()
    events = streamed(service, {"input": "Hello", "tools": [WEATHER]})
    whole = spread(events)
    response_id = events[0]["response"]["id"]
    assert spread(again(service, response_id)) == whole
    for cut, event in enumerate(events):
        rest = again(service, response_id, event["sequence_number"])
        assert spread(events[: cut + 1]) + spread(rest) == whole


def test_a_running_response_is_read_while_it_is_generated(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate, "Grüße", " 👋🏽 there")
    body = {"model": MODEL, "input": "Hello", "stream": True}
    first = requests.post(
        f"{service.url}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}, stream=True, timeout=30
    )
    seen = b""
    for some in first.iter_content(None):
        seen += some
        if "üße".encode() in seen:
            break
    first.close()  # the client disconnects; the response continues
    seen = seen[: seen.rindex(b"\n\n") + 2]
    events = events_in(seen + b"data: [DONE]\n\n")
    response_id = events[0]["response"]["id"]
    with ThreadPoolExecutor(3) as pool:
        readers = [
            pool.submit(again, service, response_id, after)
            for after in (None, events[-1]["sequence_number"], events[2]["sequence_number"])
        ]
        gate.open()
        whole, rest, most = (spread(reader.result()) for reader in readers)
    assert spread(events) + rest == whole
    assert spread(events[:3]) + most == whole
    assert whole[-1][1] == "response.completed"


def test_numbers_that_are_not_events_are_refused(service: Service, client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Hello")
    end = len(response.output_text.encode()) * 16
    assert again(service, response.id, end + 14) == []
    for number in (end + 16, 10**15):
        answer = service.get(f"/v1/responses/{response.id}?stream=true&starting_after={number}", key=KEY)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")
    for word in ("-1", "x"):
        answer = service.get(f"/v1/responses/{response.id}?stream=true&starting_after={word}", key=KEY)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")


def test_a_response_of_another_dialect_can_be_read_as_one(service: Service) -> None:
    sent = service.send("Hello", headers={"Authorization": f"Bearer {KEY}"})
    text = sent.content.decode()
    response_id = "resp_" + sent.headers["x-generation-id"].removeprefix("gen_")
    events = again(service, response_id)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    items = service.get(f"/v1/responses/{response_id}/input_items", key=KEY).json()
    assert [item["content"][0]["text"] for item in items["data"]] == ["Hello"]


def test_a_response_whose_server_was_killed_can_be_read_to_its_failure(
    own: Service, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate, "Grüße 👋🏽", " there")
    body = {"model": MODEL, "input": "Hello", "stream": True}
    reader = Reader(own.url, "/v1/responses", body, headers={"Authorization": f"Bearer {KEY}"})
    reader.read_until("👋🏽")
    seen = bytes(reader.body)
    events = events_in(seen[: seen.rindex(b"\n\n") + 2] + b"data: [DONE]\n\n")
    own.kill()
    own.start()
    response_id = events[0]["response"]["id"]
    for cut in range(len(events)):
        rest = again(own, response_id, events[cut]["sequence_number"])
        assert spread(events[: cut + 1]) + spread(rest) == spread(again(own, response_id))
        assert rest[-1]["type"] == "response.failed"
        assert rest[-1]["response"]["output"][0]["content"][0]["text"] == "Grüße 👋🏽"


def test_a_response_deleted_while_it_is_read_ends_with_an_error(
    client: openai.OpenAI, service: Service, simulator: Simulator, gate: Gate
) -> None:
    conversation = client.conversations.create()
    simulator.script = scripts.held(gate)
    body = {"model": MODEL, "input": "Hi", "stream": True, "conversation": conversation.id}
    reader = Reader(service.url, "/v1/responses", body, headers={"Authorization": f"Bearer {KEY}"})
    reader.read_until("Hello")
    client.conversations.delete(conversation.id)
    read = reader.read_all()
    assert b"[DONE]" not in read
    *_, last = events_in(read + b"data: [DONE]\n\n")
    schemas.check_event(last)
    assert (last["type"], last["code"]) == ("error", "session_deleted")


# Background and cancellation


def test_a_background_response_is_polled_and_attached_to(
    client: openai.OpenAI, service: Service, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate, "Hello", " there")
    response = client.responses.create(model=MODEL, input="Hi", background=True)
    assert (response.status, response.background) == ("in_progress", True)
    assert gate.reached.wait(10)
    assert client.responses.retrieve(response.id).status == "in_progress"
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(lambda: list(client.responses.retrieve(response.id, stream=True)))
        gate.open()
        events = reader.result()
    assert events[-1].type == "response.completed"
    done = client.responses.retrieve(response.id)
    assert (done.status, done.output_text) == ("completed", "Hello there")


def test_a_background_response_that_is_refused_has_failed(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script = refuse(400)
    response = client.responses.create(model=MODEL, input="Hi", background=True)
    events = list(client.responses.retrieve(response.id, stream=True))
    assert events[-1].type == "response.failed"
    failed = client.responses.retrieve(response.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "Invalid value" in failed.error.message


def test_a_cancelled_response_keeps_its_text(
    client: openai.OpenAI, service: Service, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate, "Hello", " there")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(streamed, service, {"input": "Hi"})
        assert gate.reached.wait(10)
        session = service.get("/api/sessions", key=KEY).json()["data"][0]["session_id"]
        generation = service.messages(session, key=KEY)[-1]["generation_id"]
        cancelled = client.responses.cancel("resp_" + generation.removeprefix("gen_"))
        events = reader.result()
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hello")
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["status"] == "cancelled"
    assert client.responses.cancel(cancelled.id) == cancelled, "a second stop changes nothing"
    assert client.responses.retrieve(cancelled.id) == cancelled


@pytest.mark.parametrize(("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_truncated_answer_is_incomplete(
    service: Service, client: openai.OpenAI, upstream: Simulator, reason: str, told: str
) -> None:
    upstream.script = scripts.answer("Hello", finish_reason=reason)
    events = streamed(service, {"input": "Hi"})
    assert events[-1]["type"] == "response.incomplete"
    response = client.responses.retrieve(events[0]["response"]["id"])
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == told


@pytest.mark.table
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "script", [scripts.without_finish(), scripts.without_either(), scripts.half_closed_after(), scripts.error_frame()]
)
def test_an_answer_that_breaks_off_is_never_completed(
    service: Service, client: openai.OpenAI, upstream: Simulator, script: Script, kept: bool
) -> None:
    upstream.script = script
    events = streamed(service, {"input": "Hi", "store": kept})
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "failed"
    upstream.script = script
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model=MODEL, input="Hi", store=kept)


@pytest.mark.table
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_refusal_of_the_upstream_is_a_status(
    service: Service, client: openai.OpenAI, upstream: Simulator, status: int, stream: bool, kept: bool
) -> None:
    upstream.script = refuse(status, retry_after="") if status == 429 else refuse(status)
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=MODEL, input="Hi", stream=stream, store=kept)
    assert caught.value.status_code == status
    schemas.check("ErrorResponse", caught.value.response.json())


def test_every_chunk_of_a_stored_completion_is_as_openai_publishes_it(service: Service, simulator: Simulator) -> None:
    simulator.script = everything()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    answer = service.post("/v1/chat/completions", key=KEY, json=body, headers={"X-Session-ID": "new"})
    *chunks, done = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    assert len(chunks) > 3
    for chunk in chunks:
        schemas.check("CreateChatCompletionStreamResponse", json.loads(chunk))


# Chains


def test_a_chain_branches_at_any_response(own_client: openai.OpenAI, own: Service, simulator: Simulator) -> None:
    first = own_client.responses.create(model=MODEL, input="one", instructions="Only here.")
    second = own_client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
    third = own_client.responses.create(model=MODEL, input="three", previous_response_id=first.id)
    fourth = own_client.responses.create(model=MODEL, input="four", previous_response_id=second.id)
    questions = [message["content"] for message in simulator.requests[-1].body["messages"] if message["role"] == "user"]
    assert questions == ["one", "two", "four"]
    assert all("Only here." not in str(one.body) for one in simulator.requests[-3:]), "they apply to one response"
    assert (second.previous_response_id, third.previous_response_id) == (first.id, first.id)
    assert fourth.output_text
    sessions = own.get("/api/sessions", key=KEY).json()["data"]
    assert len(sessions) == 1
    asked = own_client.responses.input_items.list(fourth.id).data
    assert [part.text for item in asked for part in item.content] == ["four"]


def test_a_busy_session_is_a_conflict_that_is_not_retried(
    client: openai.OpenAI, simulator: Simulator, gate: Gate
) -> None:
    conversation = client.conversations.create()
    first = client.responses.create(model=MODEL, input="one", conversation=conversation.id)
    simulator.script = scripts.held(gate)
    running = client.responses.create(model=MODEL, input="two", previous_response_id=first.id, background=True)
    after: Any
    for after in ({"conversation": conversation.id}, {"previous_response_id": running.id}):
        with pytest.raises(openai.ConflictError) as caught:
            client.responses.create(model=MODEL, input="three", **after)
        assert caught.value.response.headers["x-should-retry"] == "false"
    assert gate.reached.wait(10), "the upstream was called, so the next test does not see this request"
    gate.open()


def test_several_turns_run_under_one_response(serve: Serve, simulator: Simulator, key: str, gate: Gate) -> None:
    own = serve(CHATAPI_MAX_GENERATIONS_PER_KEY="3", CHATAPI_SLOT_WAIT_SECONDS="0.3")
    with client_of(own, key) as client:
        check_several_turns(own, client, simulator, key, gate)


def check_several_turns(own: Service, own_client: openai.OpenAI, simulator: Simulator, key: str, gate: Gate) -> None:
    first = own_client.responses.create(model=MODEL, input="one")
    before = len(simulator.requests)
    simulator.script = scripts.held(gate)
    names = ["two", "three", "four"]
    running = [
        own_client.responses.create(model=MODEL, input=name, previous_response_id=first.id, background=True)
        for name in names
    ]
    simulator.wait_for_requests(before + len(names))
    assert [one.status for one in running] == ["in_progress"] * 3
    sent = [[one["content"] for one in request.body["messages"]] for request in simulator.requests[before:]]
    assert sorted(texts[-1] for texts in sent) == sorted(names)
    assert all(texts[:-1] == ["one", first.output_text] for texts in sent)
    with pytest.raises(openai.RateLimitError):
        own_client.responses.create(model=MODEL, input="five", previous_response_id=first.id)
    sessions = own.get("/api/sessions", key=key).json()["data"]
    assert len(sessions) == 3, "one that could not begin leaves no session"
    gate.open()
    for one in running:
        with own_client.responses.retrieve(one.id, stream=True) as events:
            assert [event.type for event in events][-1] == "response.completed"
    after = own_client.responses.create(model=MODEL, input="six", previous_response_id=running[1].id)
    assert after.previous_response_id == running[1].id
    assert [one["content"] for one in simulator.requests[-1].body["messages"] if one["role"] == "user"] == [
        "one",
        "three",
        "six",
    ]


def test_a_repeated_request_reaches_the_upstream_once(client: openai.OpenAI, simulator: Simulator) -> None:
    create = client.responses.create
    asked = len(simulator.requests)
    responses = [
        create(model=MODEL, input="Hi", metadata={"a": "b"}, extra_headers={"Idempotency-Key": "k1"}) for _ in range(2)
    ]
    assert responses[0] == responses[1]
    assert len(simulator.requests) == asked + 1
    with pytest.raises(openai.BadRequestError):
        create(model=MODEL, input="Hi", instructions="Otherwise.", extra_headers={"Idempotency-Key": "k1"})


# Deleted and unstored responses


def test_a_deleted_response_is_gone_with_its_input(
    own_client: openai.OpenAI, own: Service, simulator: Simulator
) -> None:
    first = own_client.responses.create(model=MODEL, input="a secret")
    second = own_client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
    own_client.responses.delete(first.id)
    for call in (own_client.responses.retrieve, own_client.responses.cancel, own_client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        own_client.responses.create(model=MODEL, input="x", previous_response_id=first.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert "a secret" not in own.database.everything()
    own_client.responses.create(model=MODEL, input="three", previous_response_id=second.id)
    assert "a secret" not in str(simulator.requests[-1].body)
    assert [item.type for item in own_client.responses.input_items.list(second.id).data] == ["message"]
    assert len(own.get("/api/sessions", key=KEY).json()["data"]) == 1


def test_deleting_the_last_response_deletes_its_session(
    own_client: openai.OpenAI, own: Service, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate)
    response = own_client.responses.create(model=MODEL, input="one", background=True)
    assert gate.reached.wait(10)
    own_client.responses.delete(response.id)
    assert own.get("/api/sessions", key=KEY).json()["data"] == []
    assert own.database.rows("SELECT * FROM response") == []
    assert own.database.rows("SELECT * FROM generation") == []


@pytest.mark.parametrize("stream", [True, False])
def test_an_unstored_response_leaves_no_text(
    own_client: openai.OpenAI, own: Service, simulator: Simulator, gate: Gate, stream: bool
) -> None:
    before = own_client.responses.create(model=MODEL, input="before")
    there = own.database.everything()
    simulator.script = scripts.held(gate, "a secret", " told")
    with ThreadPoolExecutor(1) as pool:
        body = {"model": MODEL, "input": "unkept", "store": False, "stream": stream, "previous_response_id": before.id}
        asked = pool.submit(lambda: own.post("/v1/responses", key=KEY, json=body))
        assert gate.reached.wait(10)
        assert own.database.everything() == there, "also while it runs: a crash leaves nothing"
        gate.open()
        answer = asked.result()
    assert [one["content"] for one in simulator.requests[-1].body["messages"] if one["role"] == "user"] == [
        "before",
        "unkept",
    ]
    assert own.database.everything() == there
    response = events_in(answer.content)[-1]["response"] if stream else answer.json()
    schemas.check_response(response)
    assert (response["status"], response["store"]) == ("completed", False)
    with pytest.raises(openai.NotFoundError):
        own_client.responses.retrieve(response["id"])


def test_a_disconnect_ends_an_unstored_response(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate)
    body = {"model": MODEL, "input": "x", "store": False, "stream": True}
    reader = Reader(service.url, "/v1/responses", body, headers={"Authorization": f"Bearer {KEY}"})
    assert gate.reached.wait(10)
    reader.leave()
    assert simulator.requests[-1].left.wait(10)


# Refusals


@pytest.mark.table
@pytest.mark.parametrize(
    "tool",
    ["web_search", "web_search_preview", "file_search", "computer_use_preview", "code_interpreter", "image_generation",
     "mcp", "local_shell"],
)  # fmt: skip
def test_a_tool_that_the_upstream_does_not_have_is_refused_by_name(client: openai.OpenAI, tool: str) -> None:
    tools: Any = [{"type": tool}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="x", tools=tools)
    assert tool in str(caught.value)
    assert caught.value.param == "tools.0.type"


@pytest.mark.table
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_x", "conversation": "conv_x"}, "previous_response_id"),
        ({"store": False, "background": True}, "background"),
        ({"store": False, "conversation": "conv_x"}, "store"),
        ({"conversation": 3}, "conversation"),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": 1}]}, "input.0.id"),
        ({"input": [{"type": "item_reference"}]}, "input.0.id"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "input.0.content.0.image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
         "input.0.content.0.image_url"),
        ({"input": [{"role": "user", "content": [{"type": "something"}]}]}, "input.0.content.0.type"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [IMAGE]}]}, "input.0.output.0"),
        ({"input": [{"role": "user", "content": []}]}, "input.0.content"),
        ({"input": []}, None),
        ({"input": "x", "temperature": 3}, "temperature"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "metadata": {"a": 3}}, "metadata.a"),
        ({"input": "x", "top_logprobs": 3}, "top_logprobs"),
        ({"input": "x", "include": ["message.output_text.logprobs"]}, "include"),
        ({"input": "x", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"input": "x", "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": "x", "tool_choice": "maybe"}, "tool_choice"),
        ({"input": "x", "tools": [{"type": "function", "name": ""}]}, "tools.0.name"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "truncation": "middle"}, "truncation"),
        ({"input": "x", "background": True, "if_busy": "queue"}, "if_busy"),
    ],
)  # fmt: skip
def test_an_unsupported_request_is_refused_by_name(service: Service, body: dict[str, Any], param: str | None) -> None:
    answer = service.post("/v1/responses", key=KEY, json={"model": MODEL, **body})
    assert answer.status_code == 400, answer.text
    schemas.check("ErrorResponse", answer.json())
    assert answer.json()["error"]["param"] == param
    if "conversation" in body and "previous_response_id" in body:
        assert all(name in answer.json()["error"]["message"] for name in ("conversation", "previous_response_id"))


def test_the_response_of_another_key_is_a_404(service: Service, client: openai.OpenAI) -> None:
    mine = client.responses.create(model=MODEL, input="mine").id
    never = mine[:-4] + ("AAAA" if not mine.endswith("AAAA") else "BBBB")
    for method, path, body in (
        ("GET", "/v1/responses/{}", None),
        ("GET", "/v1/responses/{}?stream=true&starting_after=3", None),
        ("GET", "/v1/responses/{}/input_items", None),
        ("POST", "/v1/responses/{}/cancel", None),
        ("DELETE", "/v1/responses/{}", None),
        ("POST", "/v1/responses", {"model": MODEL, "input": "x", "previous_response_id": "{}"}),
        ("POST", "/v1/responses", {"model": MODEL, "input": "x", "previous_response_id": "{}", "store": False}),
    ):
        told = []
        for name in (mine, never, "gen_" + mine[5:], mine[5:], "x"):
            told_body = json.loads(json.dumps(body).replace("{}", name)) if body else None
            answer = requests.request(
                method,
                service.url + path.format(name),
                json=told_body,
                headers={"Authorization": f"Bearer {OTHER_KEY}"},
                timeout=30,
            )
            assert answer.json()["error"]["code"] == ("previous_response_not_found" if body else "response_not_found")
            told.append((answer.status_code, answer.json()))
        assert told == [told[0]] * len(told)
        assert told[0][0] == (400 if body else 404)
    assert client.responses.retrieve(mine).id == mine
    assert service.get(f"/v1/responses/{mine}").status_code == 401


def test_the_list_of_input_items_is_paged(service: Service, client: openai.OpenAI) -> None:
    said: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    response = client.responses.create(model=MODEL, input=said)
    listed = [item.content[0].text for item in client.responses.input_items.list(response.id, limit=2)]
    assert listed == ["4", "3", "2", "1", "0"]
    page = service.get(f"/v1/responses/{response.id}/input_items?order=asc&limit=2", key=KEY).json()
    schemas.check("ResponseItemList", page)
    assert page["has_more"]
    for query, param in (("limit=101", "limit"), ("limit=0", "limit"), ("order=up", "order"), ("after=msg_x", "after")):
        answer = service.get(f"/v1/responses/{response.id}/input_items?{query}", key=KEY)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_silence_is_filled_with_comments(serve: Any, simulator: Simulator, gate: Gate) -> None:
    service = serve(CHATAPI_HEARTBEAT_SECONDS="0.1", CHATAPI_IDLE_SECONDS="10")
    simulator.script = scripts.held(gate)
    answers = [
        requests.post(
            f"{service.url}/v1/responses",
            json={"model": MODEL, "input": "x", "stream": True, "store": kept},
            headers={"Authorization": f"Bearer {KEY}"},
            stream=True,
            timeout=30,
        )
        for kept in (True, False)
    ]
    for answer in answers:
        seen = b""
        for some in answer.iter_content(None):
            seen += some
            if b": keep-alive\n\n" in seen:
                break
        assert b": keep-alive\n\n" in seen
        assert b"id:" not in seen.replace(b'"id":', b"")
        answer.close()


def test_a_reader_on_another_replica_sees_the_same_numbers(service: Service, client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Hello")
    readings = [again(service, response.id) for _ in range(4)]  # the balancer alternates
    assert all(spread(reading) == spread(readings[0]) for reading in readings)
