"""Select the part of a conversation that is sent upstream again.

Rules (docs/decisions/refused-turns.md, docs/decisions/tool-calls.md): a turn whose answer has no content is left out
with its messages. An upstream requires the result of each tool call right behind the call, so results are moved there,
and a call without a result is left out. A result belongs to the nearest call of its id before it, because some models
number their calls from 0 in each message. If the newest message is a result, it stays the last one.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatapi.model import VISIBLE_KINDS, Kind, NewMessage, Part, Role, ToolCall
from chatapi.wire.extras import decode_extras, has_media
from chatapi.wire.response_events import events_in, whole_item

_CONTENT = VISIBLE_KINDS | {Kind.TOOL_CALL}
_BESIDE = frozenset({Kind.REASONING, Kind.EXTRA})  # sent back with content, and never without


def has_content(message: NewMessage) -> bool:
    """Return whether an answer has content for its reader: text, calls or media. Reasoning alone is none."""
    return any(part.kind in _CONTENT or (part.kind is Kind.EXTRA and _has_content(part)) for part in message.parts)


def _has_content(extra: Part) -> bool:
    """Return whether an extra has media, or an item of a tool that the upstream runs."""
    if extra.call is not None:
        return False
    fields = decode_extras(extra.text)[1]
    items = [item for event in events_in(fields) if (item := whole_item(event)) is not None]
    return has_media(fields) or any(item.get("type") != "reasoning" for item in items)


def select_history(path: Iterable[NewMessage]) -> list[NewMessage]:
    """Return the messages of a path, in order, as an upstream is to see them; those after the last answer are kept."""
    path = list(path)
    results, last_result = _pair_results(path)
    selected: list[NewMessage] = []
    waiting: list[tuple[int, NewMessage]] = []  # since the last answer
    block: tuple[int, int] | None = None  # of the last answer: where it begins in `selected`, and its index in the path

    def take_waiting() -> None:
        """Append the waiting messages; those that came before a result of the last answer go before that answer."""
        start, answer = block or (len(selected), -1)
        before = [message for index, message in waiting if index < last_result.get(answer, -1)]
        selected.extend(message for index, message in waiting if index >= last_result.get(answer, -1))
        selected[start:start] = before

    for index, message in enumerate(path):
        if message.role is Role.TOOL:
            continue  # its results follow their calls
        if message.role is not Role.ASSISTANT:
            waiting.append((index, message))
            continue
        if has_content(message):
            take_waiting()
            if answered := _with_results(message, {call.id: results.get((index, call.id)) for call in _calls(message)}):
                block = (len(selected), index)
                selected += answered
        waiting = []
    take_waiting()
    return selected


def _calls(message: NewMessage) -> list[ToolCall]:
    return [part.call for part in message.parts if part.kind is Kind.TOOL_CALL and part.call is not None]


def _pair_results(path: list[NewMessage]) -> tuple[dict[tuple[int, str], NewMessage], dict[int, int]]:
    """Pair each result with the nearest call of its id before it.

    Returns the results, each as a message, by the index of the calling message and the call's id, and for each calling
    message the index of its last result.
    """
    called: dict[str, int] = {}
    results: dict[tuple[int, str], NewMessage] = {}
    last: dict[int, int] = {}
    for index, message in enumerate(path):
        for part in message.parts:
            if part.call is None:
                continue
            if part.kind is Kind.TOOL_CALL and message.role is Role.ASSISTANT:
                called[part.call.id] = index
            elif part.kind is Kind.TOOL_RESULT and (caller := called.get(part.call.id)) is not None:
                results[caller, part.call.id] = _result(message, part)
                last[caller] = index
    return results, last


def _result(message: NewMessage, result: Part) -> NewMessage:
    """Return one result of a message; the media of a message belong to its result, which is the only one then."""
    return NewMessage(Role.TOOL, (result, *(part for part in message.parts if part.media is not None)))


def _with_results(message: NewMessage, results: dict[str, NewMessage | None]) -> list[NewMessage]:
    """An answer with those of its calls that have a result, and the results; nothing where nothing is left of it."""
    parts = [
        part
        for part in message.parts
        if part.kind in _CONTENT | _BESIDE and (part.call is None or results.get(part.call.id) is not None)
    ]
    kept = NewMessage(Role.ASSISTANT, tuple(parts))
    if not has_content(kept):
        return []
    return [
        kept,
        *(found for call in _calls(kept) if (found := results[call.id]) is not None),
    ]
