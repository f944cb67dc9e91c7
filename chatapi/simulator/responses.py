"""Answers of OpenAI's Responses API: as a stream of events, or in one piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import search, wire
from .response_events import Events
from .response_request import ENCRYPTED_REASONING
from .scripts import Pause, Script, Send, Step, event_stream, json_body, words


def response(
    text: str, *, usage: wire.Usage | None = None, model: str = wire.DEFAULT_SNAPSHOT, end: bytes | None = None
) -> Script:
    """Return an answer of one message, a word per delta. `end` takes the place of the last event."""
    events = Events(model)
    pieces = words(text)
    spent = usage or wire.Usage(completion_tokens=len(pieces))
    steps = [events.begin(), *events.message(pieces)]
    return event_stream(*_sends([*steps, events.end(usage=spent) if end is None else end]))


def answer_steps(
    events: Events,
    content: Sequence[str],
    reasoning: Sequence[str],
    calls: Sequence[wire.ToolCall],
    *,
    asked: Mapping[str, Any],
    usage: wire.Usage,
    is_whole: bool,
    pace_seconds: float = 0.0,
    query: str | None = None,
) -> Iterator[Step]:
    """Yield the steps of an answer to a request. It begins with a search of the web if there is a query."""
    pause = Pause(pace_seconds)
    custom = {tool.get("name") for tool in asked.get("tools") or () if tool.get("type") == "custom"}
    yield Send(events.begin())
    if reasoning:
        summary = bool((asked.get("reasoning") or {}).get("summary"))
        encrypted = ENCRYPTED_REASONING in (asked.get("include") or ())
        yield from _paced(events.reasoning(reasoning, encrypted=encrypted, summary=summary), pause)
    if query is not None:
        yield from _paced(search.events_of_search(events, query), pause)
    if content or not calls:
        cited = search.citation("".join(content)) if query is not None else []
        status = "completed" if is_whole else "incomplete"
        yield from _paced(events.message(content, annotations=cited, status=status), pause)
    for call in calls:
        yield from _paced(events.call(call.id, call.name, words(call.arguments), custom=call.name in custom), pause)
    if is_whole:
        yield Send(events.end(usage=usage))
    else:
        yield Send(events.end("incomplete", usage=usage, reason="max_output_tokens"))


def whole_answer(steps: Iterable[Step], events: Events, usage: wire.Usage, *, is_whole: bool) -> Script:
    """Return an answer in one piece. The steps are only taken, not sent."""
    for _ in steps:
        pass
    status, reason = ("completed", None) if is_whole else ("incomplete", "max_output_tokens")
    return json_body(events.whole(status, usage=usage, reason=reason))


def _paced(frames: Iterator[bytes], pause: Pause) -> Iterator[Step]:
    for frame in frames:
        if b'.delta"' in frame:
            yield pause
        yield Send(frame)


def _sends(frames: Iterable[bytes]) -> tuple[Send, ...]:
    return tuple(Send(frame) for frame in frames)
