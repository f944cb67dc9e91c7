"""Tool calls: for any division into pieces, each is assembled whole and in order, and written back correctly."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatapi.errors import InvalidRequest, UpstreamBroken
from chatapi.generations.history import select_history
from chatapi.model import Kind, NewMessage, Part, Role, ToolCall
from chatapi.upstream.request import ModelRequest, RequestWriter
from chatapi.upstream.tool_calls import CALLS_AT_MOST, HELD_BYTES, ToolCallAssembler
from chatapi.wire.chat_messages import read_message

unhurried = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
values = st.recursive(
    st.text(max_size=4) | st.integers(),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=4,
)
argument_lists = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), min_size=1, max_size=5)


def log_of(writes: list[tuple[ToolCall, str]]) -> list[tuple[str, str, str]]:
    """Return the parts that a log makes of the writes: id, name and arguments."""
    parts = groupby(writes, key=lambda write: write[0])
    return [(call.id, call.name, "".join(text for _, text in run)) for call, run in parts]


def in_pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


@unhurried
@given(argument_lists, st.integers(1, 7), st.randoms(use_true_random=False))
def test_calls_interleaved_in_any_order_are_assembled_whole(
    arguments: list[dict[str, Any]], size: int, order: Any
) -> None:
    texts = [json.dumps(value, ensure_ascii=False) for value in arguments]
    waiting = {index: in_pieces(text, size) for index, text in enumerate(texts)}
    calls, writes, begun = ToolCallAssembler(), [], 0
    while waiting:
        index = order.choice([one for one in waiting if one <= begun])  # indexes first appear in ascending order
        first = index == begun
        begun += first
        piece = waiting[index].pop(0)
        writes += calls.take(index, f"call_{index}" if first else None, "look_up" if first else None, piece)
        if not waiting[index]:
            del waiting[index]
    writes += calls.end()
    assert log_of(writes) == [(f"call_{index}", "look_up", text) for index, text in enumerate(texts)]


def test_consecutive_calls_are_never_held_back() -> None:
    calls = ToolCallAssembler()
    assert calls.take(0, "a", "f", "") == []
    assert calls.take(0, None, None, '{"x":') == [(ToolCall("a", "f"), '{"x":')]
    assert calls.take(0, None, None, "1}") == [(ToolCall("a", "f"), "1}")]
    assert calls.take(1, "b", "g", "{") == [(ToolCall("b", "g"), "{")]
    assert calls.take(1, None, None, "}") == [(ToolCall("b", "g"), "}")]
    assert calls.end() == []


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    calls = ToolCallAssembler()
    assert calls.take(0, "a", "f", None) == []
    assert calls.take(1, "b", "g", "") == []
    assert calls.end() == [(ToolCall("a", "f"), "{}"), (ToolCall("b", "g"), "{}")]


def test_a_call_without_an_id_gets_a_generated_one() -> None:
    calls = ToolCallAssembler()
    writes = calls.take(0, "", "f", "{}") + calls.take(1, None, "f", "{}") + calls.end()
    ids = [call.id for call, _ in writes]
    assert len(set(ids)) == 2
    assert all(one.startswith("call_") for one in ids)


def test_calls_with_the_same_index_are_distinguished_by_id() -> None:
    calls = ToolCallAssembler()
    writes = calls.take(0, "a", "f", '{"x":1}') + calls.take(0, "b", "f", "{}") + calls.end()
    assert log_of(writes) == [("a", "f", '{"x":1}'), ("b", "f", "{}")]


def test_an_id_repeated_with_each_delta_is_one_call() -> None:
    calls = ToolCallAssembler()
    writes = calls.take(0, "a", "f", '{"x"') + calls.take(0, "a", "f", ":1}") + calls.end()
    assert log_of(writes) == [("a", "f", '{"x":1}')]


def test_impossible_calls_are_errors_of_the_upstream() -> None:
    for wrong in ((0, "a", "f" * 300, "{}"), (0, "a" * 300, "f", "{}")):
        with pytest.raises(UpstreamBroken):
            ToolCallAssembler().take(*wrong)
    for name in (None, ""):
        calls = ToolCallAssembler()
        assert calls.take(0, "a", name, "{}") == calls.end() == []
        assert calls.has_nameless
    calls = ToolCallAssembler()
    for index in range(CALLS_AT_MOST):
        calls.take(index, None, "f", "{}")
    with pytest.raises(UpstreamBroken):
        calls.take(CALLS_AT_MOST, None, "f", "{}")
    calls = ToolCallAssembler()
    calls.take(0, "a", "f", "{")
    calls.take(1, "b", "f", "{")
    with pytest.raises(UpstreamBroken):
        calls.take(1, None, None, " " * (HELD_BYTES + 1))
    calls = ToolCallAssembler()
    calls.take(0, "a", "f", "{}")
    calls.take(1, "b", "f", "{")
    with pytest.raises(UpstreamBroken):
        calls.take(0, None, None, "x")
    assert calls.take(0, None, None, " \n") == []


# Messages to the upstream


def user(text: str) -> NewMessage:
    return NewMessage(Role.USER, (Part(Kind.TEXT, text),))


def called(*ids: str, text: str = "") -> NewMessage:
    said = (Part(Kind.TEXT, text),) if text else ()
    return NewMessage(Role.ASSISTANT, (*said, *(Part(Kind.TOOL_CALL, "{}", ToolCall(one, "f")) for one in ids)))


def result(call_id: str, text: str = "result") -> NewMessage:
    return NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, text, ToolCall(call_id)),))


def answered(text: str) -> NewMessage:
    return NewMessage(Role.ASSISTANT, (Part(Kind.TEXT, text),) if text else ())


def test_a_result_follows_its_call_regardless_of_its_position() -> None:
    path = [user("1"), called("a", "b"), result("b", "B"), result("a", "A"), answered("2"), user("3")]
    assert select_history(path) == [
        user("1"),
        called("a", "b"),
        result("a", "A"),
        result("b", "B"),
        answered("2"),
        user("3"),
    ]


def test_a_call_without_a_result_is_left_out_and_the_question_stays() -> None:
    assert select_history([user("1"), called("a"), user("2")]) == [user("1"), user("2")]
    half = [user("1"), called("a", "b", text="Looking."), result("b"), user("2")]
    assert select_history(half) == [user("1"), called("b", text="Looking."), result("b"), user("2")]


def test_results_survive_the_refusal_of_the_turn_that_sent_them() -> None:
    path = [user("1"), called("a"), result("a"), answered(""), user("2")]
    assert select_history(path) == [user("1"), called("a"), result("a"), user("2")]
    again = [user("1"), called("a"), result("a", "old"), answered(""), result("a", "new")]
    assert select_history(again) == [user("1"), called("a"), result("a", "new")]


def test_a_turn_without_content_is_left_out_with_its_messages() -> None:
    thinking = NewMessage(Role.ASSISTANT, (Part(Kind.REASONING, "Hm."),))
    for nothing in (answered(""), thinking):
        assert select_history([user("1"), user("2"), nothing, user("3")]) == [user("3")]


def test_a_message_is_written_as_it_was_read() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA", "filename": "a.txt"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "found"},
    ]
    read = [read_message(message, f"messages.{index}") for index, message in enumerate(messages)]
    for history in (read, select_history(read)):
        body = RequestWriter("developer", "", 1 << 20).write(ModelRequest("gpt", tuple(history)))
        assert body["messages"] == messages


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("text", "m"),
        ({"role": "wizard", "content": "x"}, "m.role"),
        ({"role": "user"}, "m.content"),
        ({"role": "user", "content": [{"type": "hologram"}]}, "m.content.0.type"),
        ({"role": "user", "content": "\0"}, "m.content"),
        ({"role": "user", "content": "\ud800"}, "m.content"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}, "m.content.0"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
            "m.content.0.image_url.url",
        ),
        ({"role": "user", "content": [{"type": "file", "file": {"filename": "a"}}]}, "m.content.0.file"),
        ({"role": "tool", "content": "x"}, "m.tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "m.tool_calls.0.type"),
    ],
)
def test_a_message_that_cannot_be_stored_is_refused_by_name(message: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_message(message, "m")
    assert refused.value.errors[0]["field"] == field
