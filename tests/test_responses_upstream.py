"""The service over an upstream that is asked through OpenAI's Responses: every dialect, every cut, every fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest

from chatapi.simulator import Cut, HalfClose, Hang, Pause, Script, Send, Simulator, Step, scripts, wire
from chatapi.simulator.response_events import Events
from chatapi.simulator.responses import response
from chatapi.simulator.scripts import event_stream
from tests import hosted_items, node_clients
from tests.openai_clients import openai_client
from tests.server_process import Serve, Service, events
from tests.test_upstream_faults import REFUSALS

WORDS = ["Hello", " there,", " world"]
TEXT = "".join(WORDS)

# Over every dialect

ENCRYPTED: Any = "reasoning.encrypted_content"
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CHAT_FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": FUNCTION["parameters"]}}


@pytest.fixture(scope="module")
def translating(serve_module: Serve) -> Service:
    """A server that asks its upstream through Responses alone."""
    return serve_module(OPENAI_UPSTREAM_API="responses", CHATAPI_RATE_LIMIT="0")


@pytest.fixture(scope="module")
def selecting(serve_module: Serve) -> Service:
    """A server that asks its upstream through chat completions, unless it must not."""
    return serve_module(CHATAPI_RATE_LIMIT="0")


pytestmark = pytest.mark.one_process(
    "the protocol of the upstream is that of one process; replicas share no part of it"
)


def question(key: str, text: str = "Hi", **more: Any) -> dict[str, Any]:
    """Return the body of a new session's first turn."""
    return {"developer_message": "Be brief.", "user_message": text, "api_key": key, **more}


def paths(upstream: Simulator, before: int) -> list[str]:
    return [request.path.removeprefix("/v1/") for request in upstream.requests[before:]]


def client(service: Service, key: str) -> openai.OpenAI:
    return openai_client(f"{service.url}/v1", key, max_retries=0)


def test_every_dialect_is_answered_over_responses(translating: Service, upstream: Simulator, key: str) -> None:
    before = len(upstream.requests)
    said = "Please count to 9"
    counted = "1 2 3 4 5 6 7 8 9"
    text = translating.post("/api/chat", json=question(key, said))
    assert text.text == counted
    session = text.headers["X-Session-ID"]
    events_response = translating.post(
        "/api/chat",
        json={"user_message": said, "api_key": key, "session_id": session},
        headers={"Accept": "text/event-stream"},
    )
    assert "".join(data["text"] for name, _, data in events(events_response) if name == "text") == counted
    sdk = client(translating, key)
    model = "gpt-4.1-mini"
    assert sdk.responses.create(model=model, input=said).output_text == counted
    assert sdk.responses.create(model=model, input=said, store=False).output_text == counted
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]
    assert sdk.chat.completions.create(model=model, messages=messages).choices[0].message.content == counted
    streamed = list(
        sdk.chat.completions.create(model=model, messages=messages, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices) == counted
    assert streamed[-1].usage is not None
    assert streamed[-1].usage.completion_tokens == 9
    in_session = sdk.chat.completions.create(
        model=model, messages=messages[1:], extra_headers={"X-ChatAPI-Session-ID": session}
    )
    assert in_session.choices[0].message.content == counted
    chat = {
        "id": "over-responses",
        "trigger": "submit-message",
        "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": said}]}],
    }
    ui = translating.post("/api/chat", json=chat, key=key)
    assert "text-delta" in ui.text
    assert set(paths(upstream, before)) == {"responses"}
    refused, again, second = (request.body for request in upstream.requests[before : before + 3])
    assert refused.pop("include") == [ENCRYPTED], "which this model refuses once"
    assert refused == again
    assert [item.get("role") for item in second["input"]] == ["user", "assistant", "user"]


def test_a_parameter_that_responses_does_not_have_is_a_400_that_names_it(translating: Service, key: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client(translating, key).chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "Hi"}], stop=["x"]
        )
    assert refused.value.param == "stop"


def test_a_model_that_requires_responses_is_found_once(selecting: Service, upstream: Simulator, key: str) -> None:
    sdk = client(selecting, key)
    before = len(upstream.requests)
    asked: dict[str, Any] = {"model": "gpt-5.4", "tools": [FUNCTION], "reasoning": {"effort": "low", "summary": "auto"}}
    first = sdk.responses.create(input="Call weather", include=[ENCRYPTED], **asked)
    (call,) = [item for item in first.output if item.type == "function_call"]
    (thought,) = [item for item in first.output if item.type == "reasoning"]
    assert thought.summary[0].text.startswith("The user wants")
    assert thought.encrypted_content
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain"}
    second = sdk.responses.create(input=[result], previous_response_id=first.id, **asked)
    assert "Rain" in second.output_text
    assert paths(upstream, before) == ["chat/completions", "responses", "responses"]
    sent = upstream.requests[-1].body["input"]
    assert [item.get("type") for item in sent] == [None, "reasoning", "function_call", "function_call_output"]
    assert sent[1]["encrypted_content"] == thought.encrypted_content
    again = sdk.responses.create(input=[*first.output, result], store=False, include=[ENCRYPTED], **asked)
    assert "Rain" in again.output_text
    assert [item.get("type") for item in upstream.requests[-1].body["input"]][-3:] == [
        "reasoning",
        "function_call",
        "function_call_output",
    ]


def test_a_conversation_that_changes_its_protocol_keeps_its_history(
    selecting: Service, upstream: Simulator, key: str
) -> None:
    sdk = client(selecting, key)
    told = selecting.post("/api/chat", json=question(key, "My name is Ada."))
    session = told.headers["X-Session-ID"]
    headers = {"X-ChatAPI-Session-ID": session}

    def say(*messages: dict[str, Any], **more: Any) -> Any:
        made: Any = sdk.chat.completions.create(messages=list(messages), extra_headers=headers, **more)
        return made.choices[0].message

    asked = say(
        {"role": "user", "content": "Call weather"}, model="gpt-5.4", tools=[CHAT_FUNCTION], reasoning_effort="low"
    )
    assert paths(upstream, -1 % len(upstream.requests)) == ["responses"]
    result = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "Rain"}
    answered = say(
        {"role": "assistant", "tool_calls": [call.model_dump() for call in asked.tool_calls]},
        result,
        model="gpt-4.1-mini",
    )
    assert "Rain" in answered.content
    assert upstream.requests[-1].path.endswith("/chat/completions")
    roles = [one["role"] for one in upstream.requests[-1].body["messages"]]
    assert roles == ["developer", "user", "assistant", "user", "assistant", "tool"]
    assert "Ada" in say({"role": "user", "content": "What is my name?"}, model="gpt-5.4", tools=[CHAT_FUNCTION]).content
    kinds = [item.get("type", "message") for item in upstream.requests[-1].body["input"]]
    assert [kind for kind in kinds if kind != "message"] == ["reasoning", "function_call", "function_call_output"]


def test_an_answer_with_kept_events_is_the_same_after_every_cut(
    translating: Service, upstream: Simulator, key: str
) -> None:
    script = Events()
    frames = [
        script.begin(),
        *script.reasoning(["I ", "think"]),
        *script.message(["Looking"], phase="commentary"),
        script.event("response.something.new", detail=1),
        *script.call("call_1", "f", ["{}"]),
        *script.reasoning([], summary=False),
        *script.message(WORDS, phase="final_answer"),
        script.end(usage=wire.Usage(1, 2, 1)),
    ]
    upstream.script = event_stream(*map(Send, frames))
    sdk = client(translating, key)
    live = list(sdk.responses.create(model="gpt-5.4", input="Hi", stream=True, reasoning={"summary": "auto"}))
    assert [event.type for event in live][-1] == "response.completed"
    final: Any = live[-1]
    items = final.response.output
    assert [item.type for item in items] == ["reasoning", "message", "function_call", "reasoning", "message"]
    assert [getattr(item, "phase", None) for item in items if item.type == "message"] == ["commentary", "final_answer"]
    assert all(item.encrypted_content for item in items if item.type == "reasoning")
    assert "response.something.new" in [event.type for event in live]
    numbers = [event.sequence_number for event in live]
    assert numbers == sorted(set(numbers))
    name = final.response.id
    assert sdk.responses.retrieve(name).output == items
    for number in numbers:
        rest = list(sdk.responses.retrieve(name, stream=True, starting_after=number))
        assert rest == [event for event in live if event.sequence_number > number]


def test_another_server_of_this_kind_is_an_upstream(
    serve: Serve, selecting: Service, upstream: Simulator, key: str
) -> None:
    """The Responses of this service, which have nothing in common with the simulator's, are read by another one."""
    stacked = serve(upstream_url=f"{selecting.url}/v1", OPENAI_UPSTREAM_API="responses", CHATAPI_RATE_LIMIT="0")
    sdk = client(stacked, key)
    first = sdk.responses.create(model="gpt-5", input="Call weather", tools=[FUNCTION], reasoning={"effort": "low"})
    (call,) = [item for item in first.output if item.type == "function_call"]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain"}
    second = sdk.responses.create(model="gpt-5", input=[result], previous_response_id=first.id)
    assert "Rain" in second.output_text
    assert second.usage is not None
    assert second.usage.output_tokens > 0
    assert upstream.requests[-1].path.endswith("/chat/completions"), "the other server asks its own upstream so"
    upstream.script = scripts.cut_after(TEXT)
    broken = stacked.post("/api/chat", json=question(key), headers={"Accept": "text/event-stream"})
    message = stacked.messages(broken.headers["X-Session-ID"], key=key)[-1]
    assert (message["status"], message["content"]) == ("failed", TEXT)


# Faults

FAULTS: dict[str, tuple[Step | None, str]] = {
    "a reset": (Cut(), "upstream_broken"),
    "a close": (HalfClose(), "upstream_broken"),
    "no end": (None, "upstream_broken"),
    "broken JSON": (Send(b"data: {\n\n"), "upstream_broken"),
    "an endless line": (Send(b"a" * 9 * 1024 * 1024), "upstream_broken"),
    "silence": (Hang(), "upstream_timeout"),
    "heartbeats": (None, "upstream_timeout"),
    "a failure": (None, "upstream_broken"),
    "an error as an event": (None, "upstream_broken"),
    "a cancellation": (None, "upstream_broken"),
    "an end for another reason": (None, "upstream_broken"),
    "a gap": (None, "upstream_broken"),
    "an open item": (None, "upstream_broken"),
}


@pytest.fixture(scope="module")
def impatient(serve_module: Serve) -> Service:
    """A server with a short timeout between pieces of content."""
    return serve_module(OPENAI_UPSTREAM_API="responses", CHATAPI_RATE_LIMIT="0", CHATAPI_IDLE_SECONDS="0.5")


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_breaks_has_failed_and_keeps_its_text(
    impatient: Service, upstream: Simulator, key: str, fault: str
) -> None:
    step, code = FAULTS[fault]
    script = Events()
    *text, closed = [script.begin(), *script.message(WORDS)]
    steps: list[Step] = [Send(frame) for frame in text]
    if fault != "an open item":
        steps.append(Send(closed))
    if fault == "heartbeats":
        steps += [Send(b": busy\n\n"), Send(script.event("response.in_progress")), Pause(0.05)] * 100
    elif fault == "a failure":
        steps.append(Send(script.end("failed", error={"code": "server_error", "message": "Sorry."})))
    elif fault == "an error as an event":
        steps.append(Send(script.event("error", code="server_error", message="Sorry.", param=None)))
    elif fault == "a cancellation":
        steps.append(Send(script.end("cancelled")))
    elif fault == "an end for another reason":
        steps.append(Send(script.end("incomplete", reason="the machine is tired")))
    elif fault in {"a gap", "an open item"}:
        script.skip(fault == "a gap")
        steps.append(Send(script.end()))
    upstream.script = event_stream(*steps, *([step] if step else []))
    response = impatient.post("/api/chat", json=question(key), headers={"Accept": "text/event-stream"})
    assert response.status_code == 200
    message = impatient.messages(response.headers["X-Session-ID"], key=key)[-1]
    assert (message["status"], message["error"]["code"]) == ("failed", code)
    assert message["content"] == TEXT


@pytest.mark.parametrize(("script", "status", "code"), REFUSALS)
def test_a_fault_before_the_first_word_is_a_status(
    impatient: Service, upstream: Simulator, key: str, script: Script, status: int, code: str
) -> None:
    upstream.script = script
    before = len(upstream.requests)
    refused = impatient.post("/api/chat", json=question(key))
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert set(paths(upstream, before)) == {"responses"}
    message = impatient.messages(refused.headers["X-Session-ID"], key=key)[-1]
    assert (message["status"], message["content"], message["error"]["code"]) == ("failed", "", code)


def frames_of(text: str) -> list[bytes]:
    return [step.data for step in response(text).steps if isinstance(step, Send)]


READABLE: dict[str, Callable[[list[bytes]], Iterable[Step]]] = {
    "CRLF": lambda frames: [Send(frame.replace(b"\n", b"\r\n")) for frame in frames],
    "CR": lambda frames: [Send(frame.replace(b"\n", b"\r")) for frame in frames],
    "comments, ids and retries": lambda frames: [Send(b": on\n\nretry: 1\n\nid: 7\n" + frame) for frame in frames],
    "data in two lines": lambda frames: [Send(frame.replace(b',"seq', b',\ndata: "seq')) for frame in frames],
    "a byte order mark": lambda frames: [Send(b"\xef\xbb\xbf"), *map(Send, frames)],
    "byte by byte": lambda frames: [Send(b"".join(frames), piece_bytes=1)],
    "in one write": lambda frames: [Send(b"".join(frames))],
    "no names of events": lambda frames: [Send(re.sub(rb"event: .*\n", b"", frame)) for frame in frames],
    "an end after which the connection hangs": lambda frames: [*map(Send, frames), Hang()],
    "[DONE] after the end": lambda frames: [*map(Send, frames), Send(b"data: [DONE]\n\n")],
}


@pytest.mark.parametrize("form", READABLE)
def test_an_unusual_answer_is_read_like_any_other(impatient: Service, upstream: Simulator, key: str, form: str) -> None:
    upstream.script = event_stream(*READABLE[form](frames_of(TEXT)))
    assert impatient.post("/api/chat", json=question(key)).text == TEXT


def test_one_object_in_place_of_a_stream_is_an_answer(impatient: Service, upstream: Simulator, key: str) -> None:
    events = Events()
    frames = [events.begin(), *events.message(WORDS)]
    assert frames
    upstream.script = scripts.json_body(events.whole(usage=wire.Usage(1, 2)))
    assert impatient.post("/api/chat", json=question(key)).text == TEXT


def test_a_server_without_responses_is_told_apart_from_an_unknown_model(
    impatient: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = scripts.html_page(404)
    response = impatient.post("/api/chat", json=question(key))
    assert response.status_code == 502
    assert "OPENAI_UPSTREAM_API=chat" in response.json()["detail"]


# Hosted tools


def hosted(items: list[Any]) -> list[dict[str, Any]]:
    """Return the items of hosted tools among items, as they were received."""
    ids = {item["id"] for item in hosted_items.ITEMS}
    return [item.to_dict() for item in items if item.id in ids]


def test_hosted_tools_are_passed_on_and_their_items_are_kept_as_received(
    translating: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = event_stream(*map(Send, hosted_items.frames()))
    sdk = client(translating, key)
    secret = {"type": "mcp", "server_label": "docs", "server_url": "https://x", "authorization": "s3cret-of-a-server"}
    tools, choice = [{"type": "web_search"}, secret], {"type": "mcp", "server_label": "docs"}
    asked: dict[str, Any] = {"model": "gpt-5.4", "tools": tools, "tool_choice": choice}
    live = list(sdk.responses.create(input="Look", stream=True, include=["web_search_call.action.sources"], **asked))
    sent = upstream.requests[-1].body
    assert sent["tools"] == asked["tools"]
    assert sent["tool_choice"] == choice
    assert "web_search_call.action.sources" in sent["include"]
    final: Any = live[-1]
    assert final.type == "response.completed"
    assert hosted(final.response.output) == hosted_items.ITEMS
    assert "s3cret" not in final.response.to_json()
    assert "s3cret" not in translating.database.everything()
    (message,) = [item for item in final.response.output if item.type == "message"]
    assert [one.type for one in message.content[0].annotations] == ["url_citation", "file_citation"]
    shown = [event.type for event in live]
    for item in hosted_items.ITEMS:
        for kind, fields in hosted_items.PROGRESS[item["id"]]:
            assert (kind in shown) is ("partial_image" not in kind), kind
            assert not fields or "partial_image_b64" in fields or kind in shown
    name = final.response.id
    assert hosted(sdk.responses.retrieve(name).output) == hosted_items.ITEMS
    for event in live[::3]:
        rest = list(sdk.responses.retrieve(name, stream=True, starting_after=event.sequence_number))
        assert rest == [one for one in live if one.sequence_number > event.sequence_number]

    upstream.script = response("Done.")
    approval: Any = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    second = sdk.responses.create(input=[approval], previous_response_id=name, **asked)
    assert second.output_text == "Done."
    items = upstream.requests[-1].body["input"]
    received = [item for item in items if item.get("id") in {one["id"] for one in hosted_items.ITEMS}]
    assert received == [{name: value for name, value in one.items() if value is not None} for one in hosted_items.ITEMS]
    assert items[-1] == approval
    assert [item.type for item in sdk.responses.input_items.list(second.id).data] == ["mcp_approval_response"]


def test_a_page_shows_the_failure_and_the_sources_of_hosted_tools(
    translating: Service, upstream: Simulator, key: str
) -> None:
    broken: dict[str, Any] = hosted_items.CALLED | {"output": None, "error": {"type": "tool", "message": "It broke."}}
    action = {"type": "search", "sources": [7, {"url": None}, {"url": "https://a.example", "title": 7}]}
    shell = {"id": "sh_1", "type": "shell_call", "status": "failed", "call_id": None, "commands": ["ls"]}
    items = [broken, broken | {"id": "mcp_2", "error": "No."}, shell, hosted_items.SEARCH | {"action": action}]
    events = Events()
    frames = [events.begin(), *(frame for item in items for frame in (events.added(item), events.done(item)))]
    upstream.script = event_stream(*map(Send, [*frames, *events.message(["Hm."]), events.end()]))
    asked = [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Look"}]}]
    answer = translating.post("/api/chat", key=key, json={"id": "chat", "messages": asked, "trigger": "submit-message"})
    assert answer.status_code == 200, answer.text
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    ends = [chunk for chunk in chunks if chunk["type"].startswith(("tool-output", "source"))]
    assert [(one.get("toolCallId"), one.get("errorText")) for one in ends[:3]] == [
        ("mcp_1", "It broke."),
        ("mcp_2", "No."),
        ("sh_1", "The tool failed."),
    ]
    assert [one["type"] for one in ends] == [*["tool-output-error"] * 3, "tool-output-available", "source-url"]
    assert ends[-1].items() >= {"url": "https://a.example"}.items()
    assert "title" not in ends[-1]
    (given,) = [one for one in chunks if one["type"] == "tool-input-available" and one["toolCallId"] == "sh_1"]
    assert (given["toolName"], given["input"]) == ("shell", {"commands": ["ls"]})


def test_items_of_hosted_tools_are_sent_on_from_a_client_that_stores_them(
    translating: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = response("Done.")
    given: Any = [{"role": "user", "content": "Look"}, *hosted_items.ITEMS, {"role": "user", "content": "And?"}]
    client(translating, key).responses.create(model="gpt-5.4", input=given, store=False)
    sent = upstream.requests[-1].body["input"]
    assert [item.get("type", item.get("role")) for item in sent] == [
        *("user", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_list_tools", "mcp_call", "mcp_approval_request", "user"),
    ]


def test_conversations_hold_items_of_hosted_tools(translating: Service, upstream: Simulator, key: str) -> None:
    sdk = client(translating, key)
    given: Any = [{"role": "user", "content": "Look"}, *hosted_items.ITEMS]
    conversation = sdk.conversations.create(items=given)
    assert hosted(sdk.conversations.items.list(conversation.id, order="asc").data) == hosted_items.ITEMS
    upstream.script = response("Done.")
    sdk.responses.create(model="gpt-5.4", input="And?", conversation=conversation.id)
    assert len(upstream.requests[-1].body["input"]) == len(given) + 1


def test_chat_completions_show_hosted_items_as_they_came(translating: Service, upstream: Simulator, key: str) -> None:
    upstream.script = event_stream(*map(Send, hosted_items.frames()))
    search: Any = {"type": "web_search"}
    made = client(translating, key).chat.completions.create(
        model="gpt-5.4", messages=[{"role": "user", "content": "Look"}], tools=[search]
    )
    message: Any = made.choices[0].message
    assert message.content == "It rains."
    assert message.annotations[0].url_citation.url == hosted_items.CITED["url"]
    done = [event["item"] for event in message.response_events if event["type"] == "response.output_item.done"]
    assert [item for item in done if item["type"] != "reasoning"] == hosted_items.ITEMS


@pytest.mark.needs_node
def test_use_chat_shows_hosted_tools_as_tools_that_the_provider_ran(
    translating: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = event_stream(*map(Send, hosted_items.frames()))
    given = {"api": f"{translating.url}/api/chat", "id": "hosted", "headers": {"Authorization": f"Bearer {key}"}}
    with node_clients.NodeClient("chat.mjs", given) as page:
        state = page.do("send", message={"text": "Look"}, body={"model": "gpt-5.4", "tools": [{"type": "web_search"}]})
        parts = state["messages"][-1]["parts"]
        tools = {part["toolCallId"]: part for part in parts if part["type"] == "dynamic-tool"}
        assert {name: tool["toolName"] for name, tool in tools.items()} == {
            "ws_1": "web_search",
            "fs_1": "file_search",
            "ci_1": "code_interpreter",
            "ig_1": "image_generation",
            "mcpl_1": "mcp_list_tools",
            "mcp_1": "look",
            "mcpr_1": "mcp_approval_request",
        }
        assert tools["ci_1"]["output"]["outputs"] == hosted_items.CODE["outputs"]
        assert tools["mcpr_1"]["state"] == "input-available"
        assert {tool["state"] for name, tool in tools.items() if name != "mcpr_1"} == {"output-available"}
        assert [part["url"] for part in parts if part["type"] == "source-url"] == [hosted_items.CITED["url"]] * 2
        assert [part["url"] for part in parts if part["type"] == "file"] == [
            f"data:image/png;base64,{hosted_items.IMAGE}"
        ]
        upstream.script = response("Done.")
        state = page.do("send", message={"text": "And?"}, body={"model": "gpt-5.4"})
        assert state["messages"][-1]["parts"][-1]["text"] == "Done."
    sent = upstream.requests[-1].body["input"]
    assert [item["id"] for item in sent if item.get("id", "").partition("_")[0] in {"ws", "mcp"}] == ["ws_1", "mcp_1"]


def test_hosted_tools_are_refused_where_the_upstream_has_none(selecting: Service, key: str) -> None:
    with pytest.raises(openai.BadRequestError, match="CHATAPI_HOSTED_TOOLS"):
        client(selecting, key).responses.create(model="gpt-5.4", input="Look", tools=[{"type": "web_search"}])
