"""OpenAI's Responses as the upstream's protocol: reading, writing, and the selection."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import UpstreamBroken, UpstreamError, UpstreamRateLimited, UpstreamRejectedRequest
from chatapi.model import Kind, Media, NewMessage, Part, Role, ToolCall, Usage
from chatapi.simulator import wire
from chatapi.simulator.response_events import Events
from chatapi.upstream.events import BROKE_OFF
from chatapi.upstream.providers import USE_RESPONSES, Providers, is_openai
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.request import Adjustment, find_adjustment, write_request
from chatapi.upstream.responses.stream import (
    HELD_CHARACTERS,
    NO_END,
    NOT_CLOSED,
    ResponsesParser,
)
from chatapi.wire.response_events import encode_item, read_events
from tests import hosted_items

KEY = "sk-proj-" + "k" * 156
CREDENTIAL = Credential(Key(KEY))
ORIGIN = "origin"
WORDS = ["Hello", " there,", " world"]
TEXT = "".join(WORDS)


class Read:
    """An answer as it was read; each of `reads` is one network read."""

    def __init__(self, *reads: bytes) -> None:
        self.parser = ResponsesParser(CREDENTIAL, ORIGIN)
        self.deltas: list[tuple[Kind, str, ToolCall | None]] = []
        for data in reads:
            if not self.parser.done:
                self.deltas += self.parser.feed(data) or []
        if not self.parser.done:
            self.deltas += self.parser.end()

    def said(self, kind: Kind = Kind.TEXT) -> str:
        return "".join(said for found, said, _ in self.deltas if found is kind)

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        joined: dict[ToolCall, str] = {}
        for kind, said, called in self.deltas:
            if kind is Kind.TOOL_CALL and called is not None:
                joined[called] = joined.get(called, "") + said
        return [(called.id, called.name, said) for called, said in joined.items()]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The events that were kept."""
        texts = [said for kind, said, called in self.deltas if kind is Kind.EXTRA and called is None]
        return [event for said in texts for event in read_events(said)]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The answer as a log joins it."""
        joined: list[Part] = []
        for kind, said, called in self.deltas:
            last = joined[-1] if joined else None
            if last is not None and (last.kind, last.call) == (kind, called):
                joined[-1] = Part(kind, last.text + said, called)
            else:
                joined.append(Part(kind, said, called))
        return tuple(joined)

    @property
    def error(self) -> UpstreamError | None:
        return self.parser.error

    @property
    def finish(self) -> str | None:
        return self.parser.finish_reason


def answer(*frames: bytes, events: Events, end: bytes | None = None) -> Read:
    return Read(*frames, events.end() if end is None else end)


def kinds_and_text(parts: tuple[Part, ...]) -> list[tuple[Kind, str]]:
    return [(part.kind, part.text) for part in parts]


# Reading


def test_text_and_usage_are_read_however_the_bytes_are_cut() -> None:
    events = Events()
    body = events.begin() + b"".join(events.message(WORDS)) + events.end(usage=wire.Usage(3, 4, 1))
    for size in (1, 7, 100, len(body)):
        read = Read(*[body[at : at + size] for at in range(0, len(body), size)])
        assert (read.said(), read.finish, read.error) == (TEXT, "stop", None)
        assert read.parser.is_complete
        assert read.parser.usage == Usage(3, 4, 1, 0)
        assert read.parser.deltas == len(WORDS)
        assert read.kept == [], "a message needs nothing kept"


def test_refusals_annotations_and_phases_are_read() -> None:
    citation = {"type": "url_citation", "url": "https://example.org", "title": "A", "start_index": 0, "end_index": 5}
    events = Events()
    read = answer(
        *events.message(["Looking"], phase="commentary"),
        *events.message(["Found it"], annotations=[citation], phase="final_answer"),
        *events.message(["I cannot"], refusal=True),
        events=events,
    )
    assert read.said(Kind.REFUSAL) == "I cannot"
    assert json.loads(read.said(Kind.ANNOTATION)) == citation
    assert [event["item"].get("phase") for event in read.kept] == ["commentary", "final_answer", None]
    sent = write_request(ModelRequest("m", (NewMessage(Role.ASSISTANT, read.parts),)), ORIGIN)["input"]
    assert [(item.get("phase"), item["content"][0]["type"]) for item in sent] == [
        ("commentary", "output_text"),
        ("final_answer", "output_text"),
        (None, "refusal"),
    ]


def test_calls_of_functions_and_custom_tools_are_read() -> None:
    events = Events()
    read = answer(
        *events.call("call_1", "weather", ['{"city":', '"Oslo"}']),
        *events.call("call_2", "now", []),
        *events.call("call_3", "patch", ["*** Begin"], custom=True),
        events=events,
    )
    assert read.calls == [
        ("call_1", "weather", '{"city":"Oslo"}'),
        ("call_2", "now", "{}"),
        ("call_3", "patch", "*** Begin"),
    ]
    assert (read.finish, read.error) == ("tool_calls", None)


def test_reasoning_is_shown_and_its_encrypted_form_is_sent_back_to_its_upstream_alone() -> None:
    events = Events()
    read = answer(*events.reasoning(["I ", "think"]), *events.call("call_1", "f", ["{}"]), events=events)
    assert read.said(Kind.REASONING) == "I think"
    (kept,) = read.kept
    history = (
        NewMessage(Role.USER, (Part(Kind.TEXT, "Hi"),)),
        NewMessage(Role.ASSISTANT, read.parts),
        NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "7", ToolCall("call_1")),)),
    )
    sent = write_request(ModelRequest("m", history), ORIGIN)
    assert sent["input"] == [
        {"role": "user", "content": "Hi"},
        kept["item"],
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "7"},
    ]
    assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])
    elsewhere = write_request(ModelRequest("m", history), "another")["input"]
    assert [item.get("type") for item in elsewhere] == [None, "function_call", "function_call_output"]


def test_reasoning_that_led_to_nothing_is_not_sent_back() -> None:
    events = Events()
    read = answer(*events.message(["Hi"]), *events.reasoning(["Hm"]), events=events)
    sent = write_request(ModelRequest("m", (NewMessage(Role.ASSISTANT, read.parts),)), ORIGIN)["input"]
    assert [item["type"] for item in sent] == ["message"]


def test_calls_of_a_hosted_tool_without_a_result_are_not_sent_back() -> None:
    def call(name: str) -> Part:
        return Part(Kind.EXTRA, encode_item(ORIGIN, {"type": "computer_call", "id": name, "call_id": name}))

    thought = Part(Kind.EXTRA, encode_item(ORIGIN, {"type": "reasoning", "encrypted_content": "x"}))
    result = {"type": "computer_call_output", "call_id": "a", "output": {}}
    history = (
        NewMessage(Role.ASSISTANT, (thought, call("a"), thought, call("b"))),
        NewMessage(Role.USER, (Part(Kind.EXTRA, encode_item("", result)),)),
    )
    sent = write_request(ModelRequest("m", history), ORIGIN)["input"]
    assert [(item["type"], item.get("call_id")) for item in sent] == [
        ("reasoning", None),
        ("computer_call", "a"),
        ("computer_call_output", "a"),
    ]


def test_parts_of_a_summary_are_paragraphs() -> None:
    events = Events()
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    frames = [events.added(item)]
    for index in range(2):
        for piece in ("One", " two"):
            frames.append(
                events.progress("response.reasoning_summary_text.delta", "rs_1", summary_index=index, delta=piece)
            )
    summary = [{"type": "summary_text", "text": "One two"}] * 2
    frames.append(events.done(item | {"summary": summary}))
    assert answer(*frames, events=events).said(Kind.REASONING) == "One two\n\nOne two"


def test_items_that_arrive_in_turns_are_written_one_after_the_other() -> None:
    def frame(kind: str, **fields: Any) -> bytes:
        return b"data: %b\n\n" % json.dumps({"type": kind, **fields}).encode()

    def call(index: int) -> dict[str, Any]:
        return {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index}", "name": "f", "arguments": ""}

    delta = "response.function_call_arguments.delta"
    frames = [frame("response.output_item.added", output_index=n, item=call(n)) for n in range(2)]
    frames += [frame(delta, output_index=1, delta='{"b"'), frame(delta, output_index=0, delta='{"a"')]
    frames += [frame(delta, output_index=1, delta=":1}"), frame(delta, output_index=0, delta=":0}")]
    whole = [call(0) | {"arguments": '{"a":0}'}, call(1) | {"arguments": '{"b":1}'}]
    frames += [frame("response.output_item.done", output_index=n, item=whole[n]) for n in (1, 0)]
    read = Read(*frames, frame("response.completed", response={"status": "completed"}))
    assert [(part.call.id if part.call else "", part.text) for part in read.parts] == [
        ("call_0", '{"a":0}'),
        ("call_1", '{"b":1}'),
    ]
    too_much = frame(delta, output_index=1, delta="x" * (HELD_CHARACTERS + 1))
    assert isinstance(Read(*frames[:2], too_much).error, UpstreamBroken)


def test_what_no_delta_brought_is_taken_from_the_whole_item() -> None:
    def frame(kind: str, **fields: Any) -> bytes:
        return b"data: %b\n\n" % json.dumps({"type": kind, **fields}).encode()

    message = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}
    end = frame("response.completed", response={"status": "completed"})
    started = frame("response.output_text.delta", item_id="m", output_index=0, delta="Hello")
    done = frame("response.output_item.done", output_index=0, item=message)
    assert Read(started, done, end).said() == TEXT
    assert Read(done, end).said() == TEXT
    assert Read(frame("response.completed", response={"status": "completed", "output": [message]})).said() == TEXT
    cited = {"type": "url_citation", "url": "https://example.org"}
    message["content"] = [
        {"type": "output_text", "text": TEXT, "annotations": [cited, 7]},
        {"type": "refusal", "refusal": "No more."},
        {"type": "output_text", "text": "But"},
    ]
    done = frame("response.output_item.done", output_index=0, item=message)
    for read in (Read(done, end), Read(started, done, end)):
        assert kinds_and_text(read.parts) == [
            (Kind.TEXT, TEXT),
            (Kind.ANNOTATION, json.dumps(cited, separators=(",", ":")) + "\n"),
            (Kind.REFUSAL, "No more."),
            (Kind.TEXT, "But"),
        ]


def test_a_document_in_place_of_a_stream_is_an_answer() -> None:
    events = Events()
    for frame in (*events.message(WORDS), *events.call("call_1", "f", ["{}"])):
        assert frame
    read = Read(json.dumps(events.whole()).encode())
    assert (read.said(), read.calls, read.finish, read.error) == (TEXT, [("call_1", "f", "{}")], "tool_calls", None)


def test_events_that_are_not_known_are_kept_and_break_nothing() -> None:
    events = Events()
    frames = [events.begin(), events.event("response.something.new", detail={"a": [1]}), *events.message(WORDS)]
    read = Read(*frames, events.end())
    assert (read.said(), read.error) == (TEXT, None)
    assert read.kept == [{"type": "response.something.new", "detail": {"a": [1]}}]


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", None)]
)
def test_an_incomplete_answer_has_its_reason(reason: str, finish: str | None) -> None:
    events = Events()
    frames = [events.begin(), *events.message(WORDS, status="incomplete")]
    read = Read(*frames, events.end("incomplete", reason=reason))
    assert (read.said(), read.finish) == (TEXT, finish)
    assert (read.error is None) is (finish is not None)
    if finish is None:
        assert reason in str(read.error.detail if read.error else "")


# Answers that fail, with the text before


@pytest.mark.parametrize(("most_tokens", "finish_reason"), [(None, "stop"), (4, "stop"), (3, "length"), (2, "stop")])
def test_an_answer_with_all_of_its_tokens_was_cut(most_tokens: int | None, finish_reason: str) -> None:
    events = Events()
    parser = ResponsesParser(CREDENTIAL, ORIGIN, most_tokens)
    parser.feed(b"".join([events.begin(), *events.message(WORDS), events.end(usage=wire.Usage(1, 3))]))
    assert (parser.is_complete, parser.finish_reason) == (True, finish_reason)


def test_an_answer_without_an_end_has_failed() -> None:
    events = Events()
    frames = [events.begin(), *events.message(WORDS)]
    for end, message in ((b"", BROKE_OFF), (b"data: [DONE]\n\n", NO_END)):
        read = Read(*frames, end)
        assert read.said() == TEXT
        assert read.error is not None
        assert read.error.detail == message


@pytest.mark.parametrize("missing", [4, 5])  # the second delta, and the last
def test_a_gap_in_the_numbers_fails_the_answer(missing: int) -> None:
    events = Events()
    frames = [events.begin(), *events.message(WORDS), events.end()]
    del frames[missing]
    for reads in (frames, [b"".join(frames)]):
        read = Read(*reads)
        assert read.said() == "".join(WORDS[: missing - 3])
        assert "left events out" in str(read.error.detail if read.error else "")


def test_texts_of_two_items_in_one_read_are_not_mixed() -> None:
    def delta(number: int, index: int, text: str) -> bytes:
        fields = {"output_index": index, "item_id": f"msg_{index}", "delta": text, "sequence_number": number}
        return b"data: %b\n\n" % json.dumps({"type": "response.output_text.delta", **fields}).encode()

    events = Events()
    frames = [events.begin()]
    items = [{"id": f"msg_{index}", "type": "message", "content": []} for index in (0, 1)]
    frames += [events.event("response.output_item.added", output_index=n, item=item) for n, item in enumerate(items)]
    frames += [
        delta(number, index, text) for number, index, text in ((4, 0, "u"), (5, 0, "v"), (6, 1, "w"), (7, 0, "x"))
    ]
    events.skip(4)
    frames += [events.event("response.output_item.done", output_index=n, item=item) for n, item in enumerate(items)]
    read = Read(b"".join([*frames, events.end()]))
    assert read.error is None
    assert [part.text for part in read.parts if part.kind is Kind.TEXT] == ["uvx", "w"]


@pytest.mark.parametrize("step", [0, -1, 16])
def test_numbers_of_servers_that_do_not_count_are_not_checked(step: int) -> None:
    def frame(kind: str, number: int, **fields: Any) -> bytes:
        return b"data: %b\n\n" % json.dumps({"type": kind, "sequence_number": number, **fields}).encode()

    frames = [frame("response.output_text.delta", n * step, item_id="m", delta=one) for n, one in enumerate(WORDS)]
    read = Read(*frames, frame("response.completed", len(WORDS) * step, response={"status": "completed"}))
    assert (read.said(), read.error) == (TEXT, None)


def test_an_item_that_is_never_closed_fails_the_answer() -> None:
    events = Events()
    *frames, _ = [events.begin(), *events.message(WORDS)]
    read = Read(*frames, b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n')
    assert read.said() == TEXT
    assert read.error is not None
    assert read.error.detail == NOT_CLOSED


@pytest.mark.parametrize("in_response", [True, False])
def test_an_error_in_the_stream_is_the_answers_error(in_response: bool) -> None:
    events = Events()
    text = [events.begin(), *events.message(WORDS)]
    if in_response:
        last = events.end("failed", error={"code": "server_error", "message": f"Sorry, {KEY}."})
    else:
        last = events.event("error", code="server_error", message=f"Sorry, {KEY}.", param=None)
    read = Read(*text, last)
    assert read.said() == TEXT
    assert isinstance(read.error, UpstreamBroken)
    assert read.error.detail is not None
    assert read.error.detail.startswith("Sorry,")
    assert KEY not in read.error.detail
    events = Events()
    limited = events.begin() + events.event("error", code="rate_limit_exceeded", message="Slower.", param=None)
    assert isinstance(Read(limited).error, UpstreamRateLimited)


def test_a_connection_that_breaks_fails_the_answer_and_keeps_what_was_held() -> None:
    events = Events()
    parser = ResponsesParser(CREDENTIAL, ORIGIN)
    parser.feed(events.begin() + b"".join(list(events.message(WORDS))[:4]))
    parser.feed(b'data: {"type":"response.output_text.delta","item_id":null,"delta":"\\ud83d"}\n\n')
    assert parser.cut_off(UpstreamBroken()) == [(Kind.TEXT, "\ufffd", None)]
    assert isinstance(parser.error, UpstreamBroken)


@pytest.mark.parametrize("data", [b"data: {\n\n", b'data: {"type":"response.output_text.delta"', b"data: []\n\n"])
def test_broken_json_fails_the_answer(data: bytes) -> None:
    assert isinstance(Read(data).error, UpstreamBroken)


# Writing


def test_parameters_of_chat_completions_have_the_form_of_responses() -> None:
    grammar = {"syntax": "lark", "definition": "start: WORD"}
    parameters = {
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "verbosity": "low",
        "temperature": 0.5,
        "n": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}},
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": grammar}}},
        ],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
    }
    own = {"reasoning": {"summary": "auto"}, "tools": [{"type": "web_search"}], "include": ["x"], "truncation": "auto"}
    body = write_request(ModelRequest("m", (), ("One", "Two"), parameters, own), ORIGIN)
    assert body == {
        "model": "m",
        "input": [],
        "instructions": "One\n\nTwo",
        "stream": True,
        "store": False,
        "include": ["x", "reasoning.encrypted_content"],
        "max_output_tokens": 9,
        "temperature": 0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": True}, "verbosity": "low"},
        "tools": [
            {"type": "function", "name": "f", "parameters": {}, "strict": False},
            {"type": "custom", "name": "g", "format": {"type": "grammar", **grammar}},
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "truncation": "auto",
    }


def test_messages_of_users_keep_their_images_and_files() -> None:
    parts = (
        Part(Kind.TEXT, "Look"),
        Part(Kind.IMAGE, media=Media(url="https://a/b.png", detail="low")),
        Part(Kind.FILE, media=Media(data="data:application/pdf;base64,AA==", filename="a.pdf")),
        Part(Kind.FILE, media=Media(data="https://a/b.pdf")),
        Part(Kind.AUDIO, media=Media(data="AA==", format="wav")),
    )
    (item,) = write_request(ModelRequest("m", (NewMessage(Role.USER, parts),)), ORIGIN)["input"]
    assert item["content"] == [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://a/b.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]


def test_custom_calls_and_malformed_arguments_are_sent_back_in_a_valid_form() -> None:
    events = Events()
    read = answer(
        *events.call("call_1", "f", ["nonsense"]), *events.call("call_2", "g", ["patch"], custom=True), events=events
    )
    results = [NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "r", ToolCall(f"call_{n}")),)) for n in (1, 2)]
    sent = write_request(ModelRequest("m", (NewMessage(Role.ASSISTANT, read.parts), *results)), ORIGIN)["input"]
    assert sent[0]["arguments"] == '{"invalid_arguments":"nonsense"}'
    assert sent[1] == {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "patch"}
    assert [item["type"] for item in sent[2:]] == ["function_call_output", "custom_tool_call_output"]


def test_a_parameter_that_responses_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(UpstreamRejectedRequest, match="'stop'"):
        write_request(ModelRequest("m", (), (), {"stop": ["x"]}), ORIGIN)


def test_reasoning_of_other_servers_chat_completions_is_sent_as_that_of_responses() -> None:
    asked = {"reasoning_effort": "low", "reasoning": {"summary": "auto"}}
    assert write_request(ModelRequest("m", (), (), asked), ORIGIN)["reasoning"] == {"effort": "low", "summary": "auto"}
    with pytest.raises(UpstreamRejectedRequest, match="'reasoning'"):
        write_request(ModelRequest("m", (), (), {"reasoning": "low"}), ORIGIN)


def test_encrypted_reasoning_that_a_model_refuses_is_not_asked_for_again() -> None:
    body = write_request(ModelRequest("m", ()), ORIGIN)
    change = find_adjustment("Encrypted content is not supported with this model.", body, frozenset())
    assert change == Adjustment.NO_ENCRYPTED_REASONING
    assert "include" not in write_request(ModelRequest("m", ()), ORIGIN, frozenset({change}))
    assert find_adjustment("Invalid 'temperature'.", body, frozenset()) is None


def test_kept_events_of_another_protocol_do_not_reach_chat_completions() -> None:
    providers = Providers.of("chat", False, "developer", ORIGIN, 10_000)
    item = encode_item(ORIGIN, {"type": "reasoning", "encrypted_content": "x"})
    parts = (Part(Kind.TEXT, "Hi"), Part(Kind.EXTRA, item))
    body = providers.chat.write(ModelRequest("m", (NewMessage(Role.ASSISTANT, parts),)), frozenset())
    assert body["messages"] == [{"role": "assistant", "content": "Hi"}]


# Selecting

TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("api", "hosted", "model", "parameters", "own", "path"),
    [
        ("chat", True, "gpt-5.4", TOOLS, {}, "chat/completions"),
        ("responses", False, "llama", {}, {}, "responses"),
        ("auto", True, "gpt-4.1-mini", TOOLS, {}, "chat/completions"),
        ("auto", True, "gpt-5.4", {}, {}, "chat/completions"),
        ("auto", True, "gpt-5.4", TOOLS, {}, "responses"),
        ("auto", True, "gpt-5.4", {**TOOLS, "stop": ["x"]}, {}, "chat/completions"),
        ("auto", True, "gpt-4.1-mini", {}, {"tools": [{"type": "web_search"}]}, "responses"),
        ("auto", True, "gpt-4.1-mini", {"tools": [{"type": "web_search"}]}, {}, "responses"),
        ("auto", False, "any", {"tools": [{"type": "builtin_function"}]}, {}, "chat/completions"),
        ("auto", False, "any", {}, {"tools": [{"type": "web_search"}]}, "responses"),
        ("auto", True, "o3", {}, {"reasoning": {"summary": "auto"}}, "responses"),
        ("auto", False, "gpt-5.4", TOOLS, {"reasoning": {"summary": "auto"}}, "chat/completions"),
    ],
)
def test_the_protocol_is_selected_by_setting_address_and_request(
    api: Any, hosted: bool, model: str, parameters: dict[str, Any], own: dict[str, Any], path: str
) -> None:
    providers = Providers.of(api, hosted, "developer", ORIGIN, 10_000)
    assert providers.select(ModelRequest(model, (), (), parameters, own), frozenset()).path == path


def test_a_refusal_that_names_responses_selects_it() -> None:
    refusal = "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
    request = ModelRequest("any", (), (), TOOLS)
    for api, change in (("auto", USE_RESPONSES), ("chat", None)):
        providers = Providers.of(api, False, "developer", ORIGIN, 10_000)  # type: ignore[arg-type]
        chat = providers.chat
        body = chat.write(request, frozenset())
        assert providers.find_adjustment(chat, request, refusal, body, frozenset()) == change
    providers = Providers.of("auto", False, "developer", ORIGIN, 10_000)
    assert providers.select(request, frozenset({USE_RESPONSES})).path == "responses"


def test_the_addresses_of_openai_are_known() -> None:
    for url in ("https://api.openai.com/v1", "https://eu.api.openai.com/v1", "https://x.openai.azure.com/openai/v1"):
        assert is_openai(url), url
    for url in ("http://127.0.0.1:8000/v1", "https://api.openai.com.example.org/v1", "https://openrouter.ai/api/v1"):
        assert not is_openai(url), url


def test_answers_with_any_fault_end_and_hold_nothing_that_a_log_refuses() -> None:
    """Mutate an answer with all kinds of items: values, missing and repeated events, and every cut of the bytes."""
    chance = random.Random(7)
    lines = [line for frame in hosted_items.frames() for line in frame.split(b"\n") if line.startswith(b"data: ")]
    values: list[Any] = [None, 0, -1, True, "", "x", [], {}, [1], {"a": 1}, "\ud83d", [{}], 10**25]
    for _ in range(60):
        answer_events = [json.loads(line[6:]) for line in lines]
        for _ in range(3):
            at = chance.randrange(len(answer_events))
            match chance.randrange(4):
                case 0:
                    del answer_events[at]
                case 1:
                    answer_events.insert(at, answer_events[chance.randrange(len(answer_events))])
                case _:
                    holder = answer_events[at]
                    while (
                        isinstance(inner := holder[chance.choice(list(holder))], dict)
                        and inner
                        and chance.random() < 0.7
                    ):
                        holder = inner
                    holder[chance.choice(list(holder))] = chance.choice(values)
        body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in answer_events)
        read = Read(*[body[begin : begin + 3000] for begin in range(0, len(body), 3000)])
        assert read.parser.done
        for kind, said, called in read.deltas:
            assert said.encode()
            assert kind is not Kind.TOOL_CALL or called is not None
