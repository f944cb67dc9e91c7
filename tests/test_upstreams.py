"""Answers in other forms than OpenAI's own, and the content that is sent back: the rules of docs/upstreams.md."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import (
    ContextTooLarge,
    InvalidRequest,
    UpstreamBroken,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamUnavailable,
)
from chatapi.generations.history import has_content, select_history
from chatapi.model import Kind, NewMessage, Part, Role, ToolCall, Usage
from chatapi.upstream.finish import Ending, read_finish
from chatapi.upstream.refusals import error_for_status, error_in_stream, read_error
from chatapi.upstream.request import Adjustment, ModelRequest, RequestWriter, find_adjustment
from chatapi.upstream.stream import CompletionParser
from chatapi.upstream.tool_calls import HELD_BYTES, JSONEnd, ToolCallAssembler
from chatapi.upstream.usage import HIGHEST_COUNT, read_usage
from chatapi.wire.chat_messages import read_message
from chatapi.wire.extras import decode_extras, encode_extras
from chatapi.wire.loose_json import storable

KEY = "sk-proj-" + "k" * 156
CREDENTIAL = Credential(Key(KEY))
ORIGIN = "origin"
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def chunk(delta: Any = None, finish: Any = None, **choice: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish} | choice]})


def text(content: Any) -> bytes:
    return chunk({"content": content})


def call(*calls: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(calls)})


def stop(reason: Any = "stop") -> bytes:
    return chunk({}, reason)


class Read:
    """An answer as it was read; each of `reads` is one network read."""

    def __init__(self, *reads: bytes) -> None:
        self.parser = CompletionParser(CREDENTIAL, ORIGIN)
        deltas = []
        for data in reads:
            if not self.parser.done:
                deltas += self.parser.feed(data) or []
        if not self.parser.done:
            deltas += self.parser.end()
        self.parts = [(kind, said, called) for kind, said, called in deltas]

    def said(self, kind: Kind = Kind.TEXT) -> str:
        return "".join(said for found, said, _ in self.parts if found is kind)

    @property
    def calls(self) -> list[tuple[str, str]]:
        joined: dict[ToolCall, str] = {}
        for kind, said, called in self.parts:
            if kind is Kind.TOOL_CALL and called is not None:
                joined[called] = joined.get(called, "") + said
        return [(called.name, said) for called, said in joined.items()]

    @property
    def extras(self) -> list[tuple[str | None, dict[str, Any]]]:
        return [
            (called.id if called else None, decode_extras(said)[1])
            for kind, said, called in self.parts
            if kind is Kind.EXTRA
        ]

    @property
    def error(self) -> UpstreamError | None:
        return self.parser.error

    @property
    def finish(self) -> str | None:
        return self.parser.finish_reason


# The end of an answer


@pytest.mark.parametrize(
    "reason",
    [
        "abort",
        "error",
        "cancelled",
        "MALFORMED_FUNCTION_CALL",
        "insufficient_system_resource",
        "network_error",
        "other",
    ],
)
def test_a_reason_that_reports_a_failure_fails_the_answer(reason: str) -> None:
    answer = Read(text("Half"), stop(reason), DONE)
    assert answer.said() == "Half"
    assert isinstance(answer.error, UpstreamBroken)
    assert not answer.parser.is_complete


@pytest.mark.parametrize(
    ("reason", "known_as"),
    [("end_turn", "stop"), ("STOP", "stop"), ("max_tokens", "length"), ("MAX_TOKENS", "length"), ("tool_use", "tool_calls"),
     ("SAFETY", "content_filter"), ("something_new", "something_new")],
)  # fmt: skip
def test_reasons_of_other_servers_have_openais_words(reason: str, known_as: str) -> None:
    answer = Read(text("Hi"), stop(reason), DONE)
    assert (answer.finish, answer.error) == (known_as, None)


@pytest.mark.parametrize("reason", [None, "", "null", "None"])
def test_no_reason_is_no_end(reason: Any) -> None:
    assert read_finish(str(reason)).ending is Ending.NONE
    assert isinstance(Read(text("Hi"), stop(reason), DONE).error, UpstreamBroken)
    assert isinstance(Read(text("Hi"), stop(reason)).error, UpstreamBroken)


def test_content_after_a_finish_reason_is_content() -> None:
    answer = Read(chunk({"content": "one "}, "stop"), chunk({"content": "two"}, "stop"), DONE)
    assert (answer.said(), answer.finish, answer.error) == ("one two", "stop", None)
    assert not answer.parser.is_complete, "its finish reasons say nothing: a broken connection is not its end"


def test_a_connection_that_breaks_after_the_finish_reason_ends_a_complete_answer_only() -> None:
    for early in (False, True):
        parser = CompletionParser(CREDENTIAL, ORIGIN)
        parser.feed(chunk({"content": "one"}, "stop"))
        if early:
            parser.feed(chunk({"content": "two"}, "stop"))
        parser.cut_off(UpstreamBroken())
        assert (parser.error is not None) is early


def test_calls_decide_the_finish_reason() -> None:
    one = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    for reads in ((call(one), stop("tool_calls"), stop("stop")), (stop("stop"), call(one)), (call(one), stop("stop"))):
        answer = Read(*reads, DONE)
        assert (answer.calls, answer.finish, answer.error) == ([("f", "{}")], "tool_calls", None)


def test_nothing_after_done_is_read() -> None:
    assert Read(text("one") + stop() + DONE + text("more")).said() == "one"
    assert Read(text("one") + stop() + b"data:[done]\n\n" + text("more")).said() == "one"


def test_the_last_event_may_lack_its_blank_line() -> None:
    for end in (b"", b"\n", b"\r"):
        answer = Read(text("Hi") + stop().strip() + end)
        assert (answer.said(), answer.finish, answer.error) == ("Hi", "stop", None)
    assert isinstance(Read(text("Hi") + stop().strip()[:-1]).error, UpstreamBroken), "half an event"
    assert Read(text("Hi") + stop() + b'data: {"usage":').error is None, "it can only have been the usage"


# Fields in other forms


@pytest.mark.parametrize(
    ("content", "said", "thought"),
    [
        ([{"type": "text", "text": "Hi"}], "Hi", ""),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, "Hi"], "Hi", "Hm"),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}], "", "Hm"),
        ({"text": "Hi"}, "Hi", ""),
        (7, "7", ""),
        (True, "", ""),
    ],
)
def test_content_may_be_parts(content: Any, said: str, thought: str) -> None:
    answer = Read(text(content), stop(), DONE)
    assert (answer.said(), answer.said(Kind.REASONING), answer.error) == (said, thought, None)


def test_parts_have_annotations_signatures_and_refusals() -> None:
    cited, thought = {"type": "url_citation"}, {"type": "thinking", "thinking": "Hm", "signature": "s"}
    said = [thought, {"type": "text", "text": "Hi", "annotations": [cited, 7]}, {"type": "refusal", "refusal": "No"}]
    answer = Read(text(said), stop(), DONE)
    assert [answer.said(kind) for kind in (Kind.REASONING, Kind.TEXT, Kind.REFUSAL)] == ["Hm", "Hi", "No"]
    assert json.loads(answer.said(Kind.ANNOTATION)) == cited
    assert answer.extras == [(None, {"content_parts": [thought]})], "a signature is sent back with its thought"
    assert answer.error is None


def test_an_answer_in_the_form_of_text_completions_is_an_answer() -> None:
    end = {"choices": [{"text": " there", "finish_reason": {"type": "stop"}}]}
    answer = Read(event({"choices": [{"text": "Hi"}]}), event(end), DONE)
    assert (answer.said(), answer.finish, answer.error) == ("Hi there", "stop", None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_reasoning_has_many_names(name: str) -> None:
    assert Read(chunk({name: "Hm"}), stop(), DONE).said(Kind.REASONING) == "Hm"


def test_the_same_reasoning_under_two_names_is_read_once() -> None:
    assert (
        Read(chunk({"reasoning": "Hm", "reasoning_content": "Hm", "content": ""}), stop()).said(Kind.REASONING) == "Hm"
    )


def test_a_character_in_two_halves_is_one() -> None:
    halves = [event(b'{"choices":[{"delta":{"content":"%b"}}]}' % half) for half in (b"a\\ud83d", b"\\ude00b")]
    assert Read(*halves, stop(), DONE).said() == "a\U0001f600b"
    assert Read(halves[0], text("b"), stop(), DONE).said() == "a\ufffdb"
    assert Read(halves[0], stop(), DONE).said() == "a\ufffd"


def test_a_nul_is_replaced_in_every_event() -> None:
    assert Read(text("a\0"), text("b\0"), stop(), DONE).said() == "a\ufffdb\ufffd"
    assert storable("\ud83d\0") == "\ufffd\ufffd"


def test_bytes_that_are_not_utf8_cost_only_themselves() -> None:
    answer = Read(event(b'{"choices":[{"delta":{"content":"caf\xe9"}}]}'), stop(), DONE)
    assert (answer.said(), answer.error) == ("caf\ufffd", None)


@pytest.mark.parametrize("heartbeat", [b"", b" ", b"ping", b"null", b"[]", b'{"type":"ping"}', b'{"choices":null}'])
def test_a_heartbeat_is_passed_over(heartbeat: bytes) -> None:
    answer = Read(text("a"), event(heartbeat), text("b"), stop(), DONE)
    assert (answer.said(), answer.error) == ("ab", None)


def test_an_event_that_is_meant_to_be_json_and_is_not_fails_the_answer() -> None:
    answer = Read(text("a"), event(b'{"choices":[{"delta":'), text("b"), stop(), DONE)
    assert answer.said() == "a"
    assert isinstance(answer.error, UpstreamBroken)


def test_the_only_choice_is_the_answer_whatever_its_index() -> None:
    answer = Read(*(chunk({"content": word}, index=number) for number, word in enumerate("abc")), stop(), DONE)
    assert answer.said() == "abc"
    two = {"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]}
    assert Read(event(two), stop(), DONE).said() == "yes"


def test_whole_messages_in_place_of_deltas() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
    assert Read(json.dumps(whole).encode()).said() == "Hello", "one object in place of a stream"
    assert Read(event(whole), DONE).said() == "Hello"
    assert Read(text("Hel"), text("lo"), event(whole), DONE).said() == "Hello", "it says again what the deltas said"
    one = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    with_call = {"choices": [{"message": {"content": "Hello", "tool_calls": [one]}, "finish_reason": "tool_calls"}]}
    answer = Read(text("Hello"), event(with_call), DONE)
    assert (answer.said(), answer.calls) == ("Hello", [("f", "{}")]), "calls that only the message has"
    growing = [event({"choices": [{"message": {"content": said}}]}) for said in ("He", "Hell", "Hello")]
    assert Read(*growing, stop(), DONE).said() == "Hello"


# Kept, or refused by name


def test_events_under_the_name_of_json_are_events() -> None:
    parser = CompletionParser(CREDENTIAL, ORIGIN)
    deltas = parser.document(text("Hi") + stop() + DONE)
    assert ([said for _, said, _ in deltas], parser.error) == (["Hi"], None)


def test_what_was_held_is_returned_once() -> None:
    parser = CompletionParser(CREDENTIAL, ORIGIN)
    parser.feed(call({"index": 0, "id": "c", "function": {"name": "f"}, "extra_content": {"sig": "x"}}))
    assert [kind for kind, _, _ in parser.conclude()] == [Kind.TOOL_CALL, Kind.EXTRA]
    assert parser.conclude() == []


def test_what_is_not_understood_is_kept() -> None:
    details = [{"type": "reasoning.text", "index": 0, "text": said} for said in ("I ", "think")]
    answer = Read(
        chunk({"reasoning_details": details[:1]}),
        chunk({"reasoning_details": details[1:], "images": [{"image_url": {"url": "data:image/png;base64,AA"}}]}),
        text([{"type": "video", "video": 1}]),
        stop(),
        DONE,
    )
    ((called, fields),) = answer.extras
    assert called is None
    assert fields["reasoning_details"] == [{"type": "reasoning.text", "index": 0, "text": "I think"}]
    assert fields["images"]
    assert fields["content_parts"] == [{"type": "video", "video": 1}]
    message = NewMessage(Role.ASSISTANT, tuple(Part(*part) for part in answer.parts))
    assert has_content(message), "an answer that is only a picture is not empty"


def test_a_recording_that_comes_in_pieces_is_kept_whole() -> None:
    pieces: list[dict[str, Any]] = [
        {"id": "a", "transcript": "Hel"},
        {"transcript": "lo"},
        {"data": "AA"},
        {"data": "BB"},
    ]
    answer = Read(*(chunk({"audio": piece}) for piece in pieces), stop(), DONE)
    assert answer.extras == [(None, {"audio": {"id": "a", "transcript": "Hello", "data": "AABB"}})]
    first, last = (encode_extras("o", {"audio": piece}) for piece in ({"id": "a", "data": "AA"}, {"data": "BB"}))
    for lost in ("", last[:-9], last[:-9] + "\n", "[]\n", "7\n", '{"fields":7}\n'):  # cut off, or malformed
        assert decode_extras(first + lost) == ("o", {"audio": {"id": "a", "data": "AA"}}), lost


def test_too_much_is_refused_by_name() -> None:
    answer = Read(chunk({"blob": "a" * 5_000_000}), stop(), DONE)
    assert isinstance(answer.error, UpstreamBroken)
    assert "blob" in answer.error.detail
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    answer = Read(chunk({"abyss": deep}), stop(), DONE)
    assert answer.error is not None
    assert "abyss" in answer.error.detail


# Tool calls


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([{"index": 0, "id": "a", "function": {"arguments": '{"x":'}}, {"index": 0, "function": {"name": "f", "arguments": "1}"}}], [("f", '{"x":1}')]),
        ([{"index": 0, "function": {"name": "f"}}, {"index": 0, "id": "a", "function": {"arguments": "{}"}}], [("f", "{}")]),
        ([{"index": 0, "function": {"name": "f", "arguments": '{"x"'}}, {"index": 0, "id": "a", "function": {"arguments": ":1}"}}], [("f", '{"x":1}')]),
        ([{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}], [("f", '{"x":1}')]),
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}, {"index": 0, "function": {"arguments": '{"y":1}'}}], [("f", '{"x":1}'), ("f", '{"y":1}')]),
        ([{"index": 0, "function": {"name": "f", "arguments": '{"x":1}{"y":1}'}}], [("f", '{"x":1}'), ("f", '{"y":1}')]),
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}, {"index": 0, "function": {"arguments": '{"x":1}'}}], [("f", '{"x":1}')]),
        ([{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "g", "arguments": "{}"}}], [("f", "{}"), ("g", "{}")]),
        ([{"function": {"name": "f", "arguments": '{"x":'}}, {"function": {"arguments": "1}"}}, {"function": {"name": "g", "arguments": "{}"}}], [("f", '{"x":1}'), ("g", "{}")]),
        ([{"name": "f", "arguments": "{}"}], [("f", "{}")]),
        ([{"index": 0, "function": "f"}, "no call", {"index": 0, "name": "f", "arguments": "{}"}], [("f", "{}")]),
        ([{"index": "0", "id": 7, "function": {"name": "f", "arguments": None}}], [("f", "{}")]),
        ([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "free } text"}}], [("f", "free } text")]),
        ([{"index": 0, "function": {"name": "f", "arguments": '{"x": }}'}}], [("f", '{"x": }}')]),
    ],
)  # fmt: skip
def test_calls_however_they_come(deltas: list[dict[str, Any]], calls: list[tuple[str, str]]) -> None:
    answer = Read(*(call(one) for one in deltas), stop("tool_calls"), DONE)
    assert (answer.calls, answer.error) == (calls, None)


def test_members_of_a_function_that_are_not_known_are_kept() -> None:
    answer = Read(call({"id": "a", "function": {"name": "f", "arguments": "{}", "sig": "x"}}), stop("tool_calls"), DONE)
    assert (answer.calls, answer.extras) == ([("f", "{}")], [("a", {"function": {"sig": "x"}})])


def test_an_error_beside_choices_fails_the_answer() -> None:
    answer = Read(text("Hi"), event({"choices": [], "error": {"code": 429, "message": "Later."}}), stop(), DONE)
    assert (answer.said(), type(answer.error)) == ("Hi", UpstreamRateLimited)
    answer = Read(text("Hi"), event({"error": True, "message": "Sorry."}), stop(), DONE)
    assert (answer.said(), "Sorry." in str(answer.error)) == ("Hi", True)


def test_a_call_without_a_name_is_refused() -> None:
    answer = Read(call({"index": 0, "id": "a", "function": {"arguments": "{}"}}), stop("tool_calls"), DONE)
    assert isinstance(answer.error, UpstreamBroken)
    assert "name" in answer.error.detail


def test_the_old_form_of_a_call_is_a_call() -> None:
    answer = Read(
        chunk({"function_call": {"name": "f", "arguments": "{"}}),
        chunk({"function_call": {"arguments": "}"}}),
        stop("function_call"),
    )
    assert (answer.calls, answer.finish) == ([("f", "{}")], "tool_calls")


def test_the_end_of_json_is_found_wherever_it_is_cut() -> None:
    value = json.dumps({"a": ['"}', "\\", {"b": [1, "]"]}]})
    for at in range(len(value) + 1):
        end = JSONEnd()
        assert end.feed(value[:at]) == (len(value) if at == len(value) else None)
        assert at == len(value) or end.feed(value[at:] + " {}") == len(value) - at
        assert end.ended


def test_interleaved_calls_cost_no_more_than_they_are_long() -> None:
    def seconds(deltas: int) -> float:
        calls = ToolCallAssembler()
        calls.take(0, "a", "f", '{"x":"')
        calls.take(1, "b", "f", '{"x":"')
        begun = time.process_time()
        for _ in range(deltas):
            calls.take(0, None, None, "xxxxxxxx")
        return time.process_time() - begun

    assert HELD_BYTES > 1000
    seconds(100)
    small, large = min(seconds(1000) for _ in range(3)), min(seconds(10_000) for _ in range(3))
    assert large < 40 * small


# Usage


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 11, "completion_tokens": "8"}, Usage(11, 8)),
        ({"prompt_tokens": 11, "completion_tokens": "many"}, Usage(11, None)),
        ({"prompt_tokens": -1, "completion_tokens": 2.0}, Usage(None, 2)),
        ({"input_tokens": 11, "output_tokens": 5}, Usage(11, 5)),
        ({"prompt_tokens": 19, "completion_tokens": 2, "cached_tokens": 10}, Usage(19, 2, None, 10)),
        ({"prompt_tokens": 19, "completion_tokens": 2, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 3}, Usage(19, 2, None, 3)),
        ({"prompt_tokens": HIGHEST_COUNT + 1, "completion_tokens": True}, None),
        ("8", None),
        ([], None),
    ],
)  # fmt: skip
def test_each_count_is_read_for_itself(reported: Any, usage: Usage | None) -> None:
    assert read_usage(reported) == usage
    answer = Read(text("Hi"), stop(), event({"choices": [], "usage": reported}), DONE)
    assert (answer.error, answer.parser.usage) == (None, usage)


def test_usage_in_other_places_is_usage() -> None:
    assert Read(text("Hi"), chunk({}, "stop", usage={"prompt_tokens": 1})).parser.usage == Usage(1, None)
    assert Read(
        text("Hi"), event({"choices": None, "x_groq": {"usage": {"prompt_tokens": 1}}}), stop()
    ).parser.usage == Usage(1, None)


# Errors


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"Sorry."}}', "Sorry."),
        (b'[{"error":{"code":400,"message":"Sorry."}}]', "Sorry."),
        (b'["No.",{"error":{"message":"Sorry."}}]', "Sorry."),
        (b'[7,{"message":"Sorry."}]', "Sorry."),
        (b'{"error":true,"message":"Sorry."}', "Sorry."),
        (b'{"error":"Sorry."}', "Sorry."),
        (b'{"detail":"Sorry."}', "Sorry."),
        (b'{"detail":[{"loc":["body"],"msg":"Sorry."}]}', "Sorry."),
        (b'{"message":"Sorry."}', "Sorry."),
        (b'{"object":"error","message":"Sorry."}', "Sorry."),
        ('{"error":{"message":"Clé"}}'.encode("latin-1"), "Cl\ufffd"),
        (b"<html>", None),
        (b"[" * 100_000, None),
        (b"[" * 600 + b"]" * 600, None),
        (b'{"error":{"message":' + b"[" * 600 + b"]" * 600 + b"}}", None),
    ],
)
def test_an_error_is_found_in_every_form(body: bytes, message: str | None) -> None:
    assert read_error(body).message == message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "Later."}, UpstreamRateLimited),
        ({"code": "429", "message": "Later."}, UpstreamRateLimited),
        ({"type": "overloaded_error", "message": "Later."}, UpstreamUnavailable),
        ({"status": "UNAUTHENTICATED", "message": "Who?"}, UpstreamRejectedKey),
        ({"code": "context_length_exceeded", "message": "Long."}, UpstreamContextExceeded),
        ({"code": "invalid_argument", "message": "Wrong."}, UpstreamRejectedRequest),
        ({"message": "Sorry."}, UpstreamBroken),
    ],
)
def test_an_error_in_the_first_event_has_its_own_status(error: dict[str, Any], kind: type[UpstreamError]) -> None:
    assert type(Read(event({"error": error}), DONE).error) is kind
    later = Read(text("Hi"), event({"error": error}), DONE).error
    assert type(later) is (UpstreamRateLimited if kind is UpstreamRateLimited else UpstreamBroken)


def test_an_error_does_not_repeat_the_key() -> None:
    report = read_error(json.dumps({"error": {"message": f"Bad key {KEY}", "code": 429}}).encode())
    assert KEY not in error_in_stream(report, CREDENTIAL, started=False).detail


def test_a_404_without_an_error_object_is_not_about_the_model() -> None:
    for body in (b"<html>", b"", b'{"detail":"Not Found"}'):
        error = error_for_status(404, read_error(body), CREDENTIAL)
        assert isinstance(error, UpstreamBroken)
        assert "OPENAI_BASE_URL" in error.detail
    for body in (b'{"error":{"message":"No such model."}}', b'{"error":"model \'x\' not found"}'):
        assert isinstance(error_for_status(404, read_error(body), CREDENTIAL), UpstreamModelNotFound)


# Requests


def assistant(*parts: Part) -> NewMessage:
    return NewMessage(Role.ASSISTANT, parts)


def user(said: str) -> NewMessage:
    return NewMessage(Role.USER, (Part(Kind.TEXT, said),))


def result(call_id: str, said: str = "22") -> NewMessage:
    return NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, said, ToolCall(call_id)),))


def called(call_id: str = "a", arguments: str = "{}") -> Part:
    return Part(Kind.TOOL_CALL, arguments, ToolCall(call_id, "f"))


def write(
    *messages: NewMessage, role: str = "developer", adjustments: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    request = ModelRequest("gpt", messages, **more)
    return RequestWriter(role, ORIGIN, 1 << 20).write(request, frozenset(adjustments))


def test_thoughts_go_back_with_the_calls_that_they_led_to() -> None:
    thought = Part(Kind.REASONING, "Hm")
    assert write(assistant(thought, called()))["messages"][0]["reasoning_content"] == "Hm"
    assert "reasoning_content" not in write(assistant(thought, Part(Kind.TEXT, "Hi")))["messages"][0]


def test_extras_go_back_to_the_upstream_they_came_from() -> None:
    for origin, goes in ((ORIGIN, True), ("", True), ("another", False)):
        signature = Part(Kind.EXTRA, encode_extras(origin, {"extra_content": {"sig": "x"}}), ToolCall("a", "f"))
        details = Part(Kind.EXTRA, encode_extras(origin, {"reasoning_details": [1]}))
        message = write(assistant(called(), signature, details))["messages"][0]
        assert (message["tool_calls"][0].get("extra_content") == {"sig": "x"}) is goes
        assert (message.get("reasoning_details") == [1]) is goes


@pytest.mark.parametrize("arguments", ['{"cmd": "echo', "", "[1]", "7", "NaN", '{"a":1}}', "\ufffd"])
def test_arguments_go_upstream_as_an_object(arguments: str) -> None:
    function = write(assistant(called(arguments=arguments)))["messages"][0]["tool_calls"][0]["function"]
    assert isinstance(json.loads(function["arguments"]), dict)
    assert arguments in str(json.loads(function["arguments"]))


def test_one_system_message_where_the_operator_set_the_role() -> None:
    developer = NewMessage(Role.DEVELOPER, (Part(Kind.TEXT, "Speak English."),))
    body = write(user("Hi"), developer, role="system", instructions=("Be brief.", "Now."))
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == "Be brief.\n\nNow.\n\nSpeak English."


def test_a_request_that_is_too_large_is_refused() -> None:
    with pytest.raises(ContextTooLarge):
        RequestWriter("developer", ORIGIN, 100).encode(write(user("a" * 100)))


@pytest.mark.parametrize(
    ("refusal", "adjustment"),
    [
        ("Extra parameters ['stream_options'] are not allowed", Adjustment.NO_STREAM_OPTIONS),
        ("Unknown role: developer", Adjustment.SYSTEM_ROLE),
        ("Unexpected message role.", Adjustment.SYSTEM_ROLE),
        ("System message must be at the beginning.", Adjustment.ONE_SYSTEM_MESSAGE),
        ("Conversation roles must alternate user/assistant", Adjustment.ALTERNATING_ROLES),
        ("Unsupported parameter: max_completion_tokens", Adjustment.MAX_TOKENS),
        ("Unknown field messages[3].reasoning_content", "reasoning_content"),
        ("temperature must be at most 1", None),
    ],
)
def test_a_refusal_names_what_is_left_out(refusal: str, adjustment: str | None) -> None:
    messages = (user("a"), user("b"), assistant(Part(Kind.REASONING, "Hm"), called()), result("a"))
    more: dict[str, Any] = {
        "instructions": ("One.", "Two."),
        "parameters": {"max_completion_tokens": 9, "temperature": 2},
    }
    body = write(*messages, **more)
    found = find_adjustment(refusal, body, frozenset())
    assert found == adjustment
    if found is not None:
        assert write(*messages, adjustments=(found,), **more) != body
        assert find_adjustment(refusal, write(*messages, adjustments=(found,), **more), frozenset({found})) != found


# History


def test_a_result_belongs_to_the_nearest_call_before_it() -> None:
    first, second = assistant(called("call_0", '{"n":1}')), assistant(called("call_0", '{"n":2}'))
    path = [user("1"), first, result("call_0", "one"), second, result("call_0", "two"), user("3")]
    assert select_history(path) == path


def test_a_result_that_came_last_stays_last() -> None:
    calling = assistant(called())
    assert select_history([user("1"), calling, user("2"), result("a")]) == [user("1"), user("2"), calling, result("a")]
    later = assistant(Part(Kind.TEXT, "Done."))
    path = [user("1"), calling, user("2"), result("a"), later, user("3")]
    assert select_history(path) == [user("1"), user("2"), calling, result("a"), later, user("3")]


def test_thoughts_and_extras_stay_with_their_answer() -> None:
    extra = Part(Kind.EXTRA, encode_extras(ORIGIN, {"reasoning_details": [1]}))
    whole = assistant(Part(Kind.REASONING, "Hm"), called(), extra)
    assert select_history([user("1"), whole, result("a")]) == [user("1"), whole, result("a")]
    assert select_history([user("1"), whole, user("2")]) == [user("1"), user("2")], (
        "an unanswered call, and nothing else"
    )


# Requests of clients


def test_marks_for_a_prompt_cache_go_upstream_or_are_refused_by_name() -> None:
    mark = {"type": "ephemeral"}
    part = {"type": "text", "text": "long", "cache_control": mark}
    message = read_message({"role": "user", "content": [part]}, "messages.0")
    assert write(message)["messages"][0]["content"] == [part]
    with pytest.raises(InvalidRequest) as refused:
        read_message({"role": "system", "content": [part]}, "messages.0")
    assert refused.value.errors[0]["field"] == "messages.0.content.0.cache_control"


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        ({"role": "tool", "tool_call_id": "", "content": "x"}, "m.tool_call_id", "Must have 1 to "),
        ({"role": "user", "content": []}, "m.content", "at least one content part"),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
            "m.content.0",
            "role",
        ),
        ({"role": "assistant", "function_call": {"name": "f"}}, "m", "Use `tool_calls`"),
        ({"role": "assistant", "content": "x", "reasoning_details": deep(100)}, "m", "'reasoning_details' nests too"),
    ],
)
def test_a_message_that_cannot_be_passed_on_is_named(message: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_message(message, "m")
    (error,) = refused.value.errors
    assert (error["field"], words in error["message"]) == (field, True), error


def test_a_refusal_of_a_clients_own_history_is_one() -> None:
    for message in ({"content": [{"type": "refusal", "refusal": "No."}]}, {"content": None, "refusal": "No."}):
        assert read_message({"role": "assistant"} | message, "m").parts == (Part(Kind.REFUSAL, "No."),)


def test_signatures_of_a_clients_own_history_go_upstream() -> None:
    one = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"sig": "x"}}
    message = read_message({"role": "assistant", "content": None, "tool_calls": [one], "reasoning_content": "Hm"}, "m")
    written = write(message)["messages"][0]
    assert written["tool_calls"] == [one]
    assert written["reasoning_content"] == "Hm"
