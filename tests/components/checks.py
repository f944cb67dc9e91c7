"""Conversations with one server through the service. A check that does not hold raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai

from tests.reader import EVENTS, Reader
from tests.server_process import KEY, Service, events

MODEL = "chain"
GREETING, RAINY = "Hello there, dear reader.", "Take an umbrella!"
CITY = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": CITY}
CHAT_FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
SOON_SECONDS = 5.0
LONG = "some words of a long message " * 6  # about a third of the context, in characters, which are tokens


@dataclass(frozen=True)
class Drive:
    """The service over one server, and a client of OpenAI's."""

    service: Service
    sdk: openai.OpenAI

    def send(self, text: str, **more: Any) -> Any:
        return self.service.send(text, model=MODEL, **more)


def text_in_two_turns(drive: Drive) -> None:
    with drive.send("Hi") as first:
        assert first.text == GREETING
    session = first.headers["X-Session-ID"]
    with drive.send("Will it rain?", session_id=session) as second:
        assert second.text == RAINY
    messages = drive.service.messages(session, key=KEY)
    assert [message["content"] for message in messages] == ["Hi", GREETING, "Will it rain?", RAINY]
    assert {message["status"] for message in messages} == {"completed"}


def events_with_usage(drive: Drive) -> None:
    found = events(drive.send("Hi", headers=EVENTS))
    assert "".join(data["text"] for name, _, data in found if name == "text") == GREETING
    (usage,) = [data for name, _, data in found if name == "usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert not usage["estimated"], "the server reported it"


def every_cut(drive: Drive) -> None:
    with drive.send("Hi") as sent:
        assert sent.text == GREETING
    session = sent.headers["X-Session-ID"]
    for cut in range(len(GREETING) + 1):
        with Reader.resume(drive.service, session, cut, headers={"Authorization": f"Bearer {KEY}"}) as rest:
            assert GREETING[:cut] + rest.read_all().decode() == GREETING


def completions(drive: Drive) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for stored in (False, True):
        made = drive.sdk.chat.completions.create(model=MODEL, messages=messages, store=stored)
        assert made.choices[0].message.content == GREETING
        assert made.choices[0].finish_reason == "stop"
        options: Any = {"include_usage": True}
        chunks = list(
            drive.sdk.chat.completions.create(
                model=MODEL, messages=messages, store=stored, stream=True, stream_options=options
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == GREETING
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 0


def responses(drive: Drive) -> None:
    live = list(drive.sdk.responses.create(model=MODEL, input="Hi", stream=True))
    last: Any = live[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == GREETING
    assert drive.sdk.responses.retrieve(last.response.id).output_text == GREETING
    for event in live:
        rest = list(drive.sdk.responses.retrieve(last.response.id, stream=True, starting_after=event.sequence_number))
        assert rest == [one for one in live if one.sequence_number > event.sequence_number]
    second = drive.sdk.responses.create(model=MODEL, input="Will it rain?", previous_response_id=last.response.id)
    assert second.output_text == RAINY


def background(drive: Drive) -> None:
    made = drive.sdk.responses.create(model=MODEL, input="Hi", background=True)
    until = time.monotonic() + SOON_SECONDS
    while made.status in {"queued", "in_progress"}:
        assert time.monotonic() < until
        time.sleep(0.05)
        made = drive.sdk.responses.retrieve(made.id)
    assert (made.status, made.output_text) == ("completed", GREETING)


def use_chat(drive: Drive) -> None:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    body = {"id": "page", "trigger": "submit-message", "messages": [message], "model": MODEL}
    answer = drive.service.post("/api/chat", key=KEY, json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"type":"finish"' in answer.text


def tools_of_responses(drive: Drive) -> None:
    asked: dict[str, Any] = {"model": MODEL, "tools": [FUNCTION]}
    first = drive.sdk.responses.create(input="The weather?", tool_choice="required", **asked)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, call.arguments.replace(" ", "")) == ("weather", '{"city":"Rome"}')
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = drive.sdk.responses.create(input=[result], previous_response_id=first.id, **asked)
    assert second.output_text == RAINY


def tools_of_completions(drive: Drive) -> None:
    asked: dict[str, Any] = {"model": MODEL, "tools": [CHAT_FUNCTION]}
    messages: list[Any] = [{"role": "user", "content": "The weather?"}]
    for stored in (False, True):
        made = drive.sdk.chat.completions.create(messages=messages, tool_choice="required", store=stored, **asked)
        (call,) = made.choices[0].message.tool_calls or []
        assert made.choices[0].finish_reason == "tool_calls"
        assert call.type == "function"
        assert call.function.arguments.replace(" ", "") == '{"city":"Rome"}'
        calls = {"role": "assistant", "tool_calls": [call.model_dump()]}
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        answered = drive.sdk.chat.completions.create(messages=[*messages, calls, result], store=stored, **asked)
        assert answered.choices[0].message.content == RAINY


def reasoning(drive: Drive) -> None:
    found = events(drive.send("think", headers=EVENTS))
    assert "".join(data["text"] for name, _, data in found if name == "reasoning") == "Let me think."
    assert "".join(data["text"] for name, _, data in found if name == "text") == GREETING


def web_search(drive: Drive) -> None:
    made = drive.sdk.responses.create(model=MODEL, input="search", tools=[{"type": "web_search"}])
    assert [item.type for item in made.output if item.type != "reasoning"] == ["web_search_call", "message"]
    again = drive.sdk.responses.create(model=MODEL, input="Hi", previous_response_id=made.id)
    assert again.output_text == GREETING


def stop(drive: Drive) -> None:
    for name in ("first", "next"):  # of one slot: the next would wait if the first still ran
        sent = drive.send(f"for ever, {name}", headers=EVENTS)
        next(sent.iter_content(1))
        begun = time.monotonic()
        session = sent.headers["X-Session-ID"]
        stopped = drive.service.post(f"/api/chat/{session}/stop", key=KEY)
        assert stopped.json()["status"] == "stopped", stopped.text
        assert time.monotonic() - begun < SOON_SECONDS
        assert drive.service.messages(session, key=KEY)[-1]["status"] == "stopped"


def failure(drive: Drive) -> None:
    sent = drive.send("break", headers=EVENTS)
    assert sent.status_code == 200, sent.text
    found = events(sent)
    name, _, error = found[-1]
    assert (name, error["status"]) == ("error", "failed"), found[-1]
    assert "".join(data["text"] for name, _, data in found if name == "text").startswith("Half")


def rate_limit(drive: Drive) -> None:
    assert drive.send("limit").status_code == 429


def length(drive: Drive) -> None:
    messages: Any = [{"role": "user", "content": "for ever"}]
    made = drive.sdk.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=4, store=True)
    assert (made.choices[0].message.content, made.choices[0].finish_reason) == ("one two three four", "length")
    response = drive.sdk.responses.create(model=MODEL, input="for ever", max_output_tokens=4)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def stop_sequence(drive: Drive) -> None:
    messages: Any = [{"role": "user", "content": "for ever"}]
    made = drive.sdk.chat.completions.create(model=MODEL, messages=messages, stop=[" three"], store=True)
    assert (made.choices[0].message.content, made.choices[0].finish_reason) == ("one two", "stop")


def structured_output(drive: Drive) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    messages: Any = [{"role": "user", "content": "Which city?"}]
    made = drive.sdk.chat.completions.create(model=MODEL, messages=messages, response_format=form, store=True)
    assert (made.choices[0].message.content or "").replace(" ", "") == '{"city":"Rome"}'


def overflow(drive: Drive) -> None:
    """A conversation longer than the context is refused by name, or continues without its oldest messages."""
    session: dict[str, Any] = {}
    for number in range(6):
        sent = drive.send(LONG + str(number), context="truncate", **session)
        assert sent.text == GREETING, sent.text
        session = {"session_id": sent.headers["X-Session-ID"]}
    left = drive.service.messages(session["session_id"], key=KEY)[-1]["left_out"]
    assert left is not None
    assert left["messages"] > 0
    refused = drive.send(LONG, context="error", **session)
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length_exceeded"), refused.text


def models(drive: Drive) -> None:
    assert MODEL in [model.id for model in drive.sdk.models.list()]


Check = Callable[[Drive], None]
SHARED: tuple[Check, ...] = (
    *(text_in_two_turns, events_with_usage, every_cut, completions, responses, background, use_chat),
    *(tools_of_responses, tools_of_completions, stop),
)
CHECKS: dict[str, dict[str, tuple[Check, ...]]] = {
    "llama.cpp": {
        "chat": (*SHARED, length, stop_sequence, structured_output, overflow, models),
        "responses": (*SHARED, length, structured_output, overflow, models),
    },
    "agentserver": {"responses": (*SHARED, reasoning, failure)},
    "aimock": {
        "chat": (*SHARED, reasoning, failure, rate_limit),
        "responses": (*SHARED, reasoning, web_search, failure, rate_limit),
    },
}
# Checks that fail, and why: the server's own limits, which docs/upstreams.md lists.
KNOWN: dict[tuple[str, str, Check], str] = {
    ("llama.cpp", "responses", structured_output): "its Responses ignore `text.format`",
}
