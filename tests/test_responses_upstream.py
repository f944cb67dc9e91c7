"""The service over an upstream that is asked through OpenAI's Responses: every dialect, every cut, every fault."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from chatapi.simulator import Cut, HalfClose, Hang, Pause, Send, Simulator, Step, refuse, scripts, wire
from chatapi.simulator.responses import Events
from chatapi.simulator.scripts import event_stream
from tests.server_process import Serve, Service, events

pytestmark = pytest.mark.one_process("replicas share no part of the upstream's protocol")

WORDS = ["Hello", " there,", " world"]
TEXT = "".join(WORDS)

# Over every dialect

ENCRYPTED: Any = "reasoning.encrypted_content"
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CHAT_FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": FUNCTION["parameters"]}}


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
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0)


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
        made: Any = sdk.chat.completions.create(messages=list(messages), extra_headers=headers, **more)  # type: ignore[arg-type]
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
    elif fault in {"a gap", "an open item"}:
        script.skip(fault == "a gap")
        steps.append(Send(script.end()))
    upstream.script = event_stream(*steps, *([step] if step else []))
    response = impatient.post("/api/chat", json=question(key), headers={"Accept": "text/event-stream"})
    assert response.status_code == 200
    message = impatient.messages(response.headers["X-Session-ID"], key=key)[-1]
    assert (message["status"], message["error"]["code"]) == ("failed", code)
    assert message["content"] == TEXT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_refusal_is_the_status_of_the_answer(impatient: Service, upstream: Simulator, key: str, status: int) -> None:
    upstream.script = refuse(status, retry_after=60)
    response = impatient.post("/api/chat", json=question(key))
    assert response.status_code == {500: 503}.get(status, status)


def test_a_server_without_responses_is_told_apart_from_an_unknown_model(
    impatient: Service, upstream: Simulator, key: str
) -> None:
    upstream.script = scripts.html_page(404)
    response = impatient.post("/api/chat", json=question(key))
    assert response.status_code == 502
    assert "OPENAI_UPSTREAM_API=chat" in response.json()["detail"]
