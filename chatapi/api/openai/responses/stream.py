"""A log as OpenAI's Responses: events while it is read, one object when it was.

The events are a function of the log and of where its parts begin, not of how it was read. A `sequence_number` is the
position at which its event stands, times 16, and a place among the events that stand there: so it is the same on each
reading, on every replica, and whether the log still grows or not. At one position there may stand, in this order:

    0   a delta, or an annotation, that ends here; at the very beginning `response.created`
    2   the end of a text, a refusal, a thought or arguments; at the very beginning `response.in_progress`
    4   the end of a content part
    6   the end of an item
    8   the beginning of an item
    10  the beginning of a content part
    14  the last event

Odd numbers are for `error`, which is no part of the log: who resumes after one misses nothing. Deltas may be cut
anywhere between two characters; whoever has read up to a number gets exactly what stands behind it.

Ends say again what was said, and the last event says all of it: so a reader holds what it has read of its answer, which
is bounded (`Settings.max_answer_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatapi.api.http.serializers import read_annotation
from chatapi.api.http.streaming import EVENT_TEXT_BYTES
from chatapi.api.openai.items import (
    CALL,
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    MESSAGE,
    REASONING,
    Item,
    is_whole,
    item_id,
    output_text,
    prefix_of,
    write_annotation,
    write_item,
    write_items,
)
from chatapi.errors import ChatError, RateLimited, TooManyGenerations, UpstreamRateLimited, from_code
from chatapi.model import Generation, Kind, Part, Piece, Role, Status, Usage
from chatapi.model.log import cut
from chatapi.wire import sse

GENERATION, RESPONSE = "gen_", "resp_"
SESSION, CONVERSATION = "ses_", "conv_"
EVENTS_PER_POSITION = 16  # for events at one position
_DELTA, _TEXT_DONE, _PART_DONE, _ITEM_DONE, _ITEM_ADDED, _PART_ADDED, _LAST = 0, 2, 4, 6, 8, 10, 14
_CREATED, _IN_PROGRESS = 0, 2
DONE = b"data: [DONE]\n\n"

DEFAULTS: dict[str, Any] = {
    "background": False,
    "conversation": None,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request where the request said nothing."""


def response_id(generation_id: str) -> str:
    """The id under which OpenAI's clients know a generation."""
    return RESPONSE + generation_id.removeprefix(GENERATION)


def conversation_id(session_id: str) -> str:
    """The id under which OpenAI's clients know a session."""
    return CONVERSATION + session_id.removeprefix(SESSION)


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """OpenAI's usage object. What the upstream did not tell is 0: the object has no place for unknown."""
    if usage is None:
        return None
    taken, given = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": taken + given,
    }


def status_of(generation: Generation) -> str:
    """A generation's status in OpenAI's words."""
    match generation.status:
        case Status.RUNNING:
            return "in_progress"
        case Status.STOPPED:
            return "cancelled"
        case Status.COMPLETED:
            return COMPLETED if is_whole(generation.finish_reason) else INCOMPLETE
    return "failed"


_LIMITS = frozenset(error.code for error in (UpstreamRateLimited, RateLimited, TooManyGenerations))


def _error(generation: Generation) -> dict[str, Any] | None:
    if generation.status not in {Status.FAILED, Status.INTERRUPTED}:
        return None
    error = from_code(generation.error_code, generation.error_detail)
    return {"code": "rate_limit_exceeded" if error.code in _LIMITS else "server_error", "message": error.detail}


def response_object(generation: Generation, request: dict[str, Any], output: Any) -> dict[str, Any]:
    """A response. `request` is what it says of its request, `output` its items."""
    status = status_of(generation)
    ended = generation.ended_at
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(generation.finish_reason or "") if status == INCOMPLETE else None
    return {
        "id": response_id(generation.id),
        "object": "response",
        "created_at": generation.created_at // 1_000_000,
        "status": status,
        "completed_at": ended // 1_000_000 if ended is not None and status == COMPLETED else None,
        "error": _error(generation),
        "incomplete_details": {"reason": reason} if reason else None,
        "model": generation.model,
        "output": output,
        "usage": usage_object(generation.usage),
        **DEFAULTS,
        **request,
    }


def whole_response(generation: Generation, request: dict[str, Any], parts: tuple[Part, ...]) -> dict[str, Any]:
    """A response with what was said so far, or at all."""
    return response_object(
        generation, request, write_items(generation.message_id, Role.ASSISTANT, parts, _last_status(generation))
    )


def _last_status(generation: Generation) -> str:
    """The status of the last item."""
    status = status_of(generation)
    return status if status in {COMPLETED, IN_PROGRESS} else INCOMPLETE


class ResponsesEncoder:
    """The events of a response: those behind the number `after`, where `before` is the log up to its position."""

    media_type = "text/event-stream"

    def __init__(
        self, generation: Generation, request: dict[str, Any], after: int = -1, before: list[Piece] | None = None
    ) -> None:
        self._generation = generation
        self._request = request
        self._after = after
        self._number = after  # of the last event
        self._position = 0
        self._part = -1  # of the log, the one that is being read
        self._item: _OpenItem | None = None
        self._items: list[bytes] = []  # whole ones, as JSON
        for _ in self.pieces(before or []):
            pass

    def begin(self) -> bytes:
        if self._after >= _IN_PROGRESS:
            return b""
        running = Generation(
            self._generation.id,
            self._generation.session_id,
            self._generation.message_id,
            Status.RUNNING,
            self._generation.model,
            self._generation.dialect,
            self._generation.created_at,
        )
        response = b'"response":%b' % msgspec.json.encode(response_object(running, self._request, []))
        return self._event(_CREATED, b"response.created", response) + self._event(
            _IN_PROGRESS, b"response.in_progress", response
        )

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            if piece.part != self._part:
                self._position = piece.position - len(piece.data)
                if turned := self._turn_to(piece):
                    yield turned
            item = self._item
            assert item is not None, "a part belongs to an item"
            if piece.kind is Kind.ANNOTATION:
                yield from self._annotations(item, piece)
                continue
            item.said.append(piece.data)
            if len(piece.data) <= EVENT_TEXT_BYTES:
                yield self._delta(item, piece.position, piece.data)
                continue
            position = piece.position - len(piece.data)
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                position += len(text)
                yield self._delta(item, position, text)

    def _delta(self, item: _OpenItem, position: int, text: bytes) -> bytes:
        self._position = position
        number = position * EVENTS_PER_POSITION
        if number <= self._after:
            return b""
        self._number = number
        return item.delta % (number, msgspec.json.encode(text.decode()))

    def _annotations(self, item: _OpenItem, piece: Piece) -> Iterator[bytes]:
        """Whole annotations; each stands where its line ends."""
        *lines, rest = (item.line + piece.data).split(b"\n")
        at = piece.position - len(piece.data) - len(item.line)
        item.line = rest
        for line in lines:
            at += len(line) + 1
            self._position = at
            annotation = write_annotation(read_annotation(line))
            if annotation is None:
                continue
            content = item.content
            item.annotations.append(annotation)
            place = b'"item_id":"%b","output_index":%d,"content_index":%d,"annotation_index":%d,"annotation":%b' % (
                item.id,
                item.number,
                content,
                len(item.annotations) - 1,
                msgspec.json.encode(annotation),
            )
            yield self._event(_DELTA, b"response.output_text.annotation.added", place)
        self._position = piece.position

    def _turn_to(self, piece: Piece) -> bytes:
        """What stands between two parts of the log: ends, and beginnings."""
        self._part = piece.part
        item = self._item
        prefix = prefix_of(piece.kind)
        kind = Kind.TEXT if piece.kind is Kind.ANNOTATION else piece.kind
        if item is not None and prefix == MESSAGE == item.prefix:
            if item.kind is kind:
                return b""  # text goes on behind its annotations, or they begin
            return self._end_part(item) + self._begin_part(item, kind)
        ended = self._end_item(COMPLETED) if item is not None else b""
        item = self._item = _OpenItem(self._generation.message_id, prefix, len(self._items), piece)
        added = item.write(IN_PROGRESS, empty=True)
        begun = self._event(
            _ITEM_ADDED, b"response.output_item.added", b'"output_index":%d,"item":%b' % (item.number, added)
        )
        return ended + begun + self._begin_part(item, kind)

    def _begin_part(self, item: _OpenItem, kind: Kind) -> bytes:
        item.begin(kind)
        if item.prefix == CALL:
            return b""
        part = msgspec.json.encode(item.part(empty=True))
        return self._event(_PART_ADDED, b"response.content_part.added", b'%b,"part":%b' % (item.place, part))

    def _end_part(self, item: _OpenItem) -> bytes:
        part = item.end()
        text = msgspec.json.encode(part.text)
        if item.prefix == CALL:
            assert part.call is not None, "a part that is a call has one"
            done = b'%b,"name":%b,"arguments":%b' % (item.place, msgspec.json.encode(part.call.name), text)
            return self._event(_TEXT_DONE, b"response.function_call_arguments.done", done)
        if item.kind is Kind.TEXT:
            ended = self._event(
                _TEXT_DONE, b"response.output_text.done", b'%b,"text":%b,"logprobs":[]' % (item.place, text)
            )
        elif item.kind is Kind.REFUSAL:
            ended = self._event(_TEXT_DONE, b"response.refusal.done", b'%b,"refusal":%b' % (item.place, text))
        else:
            ended = self._event(_TEXT_DONE, b"response.reasoning_text.done", b'%b,"text":%b' % (item.place, text))
        whole = msgspec.json.encode(item.part(part.text))
        return ended + self._event(_PART_DONE, b"response.content_part.done", b'%b,"part":%b' % (item.place, whole))

    def _end_item(self, status: str) -> bytes:
        item = self._item
        assert item is not None, "there is one to end"
        ended = self._end_part(item)
        whole = item.write(status)
        self._items.append(whole)
        done = b'"output_index":%d,"item":%b' % (item.number, whole)
        return ended + self._event(_ITEM_DONE, b"response.output_item.done", done)

    def quiet(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        ended = self._end_item(_last_status(generation)) if self._item is not None else b""
        self._item = None
        output = msgspec.Raw(b"[%b]" % b",".join(self._items))
        response = response_object(generation, self._request, output)
        status = response["status"]
        name = {COMPLETED: b"response.completed", "failed": b"response.failed"}.get(status, b"response.incomplete")
        return ended + self._event(_LAST, name, b'"response":%b' % msgspec.json.encode(response)) + DONE

    def error(self, error: ChatError) -> bytes:
        said = {"code": error.code, "message": error.detail, "param": None}
        return b'event: error\ndata: {"type":"error","sequence_number":%d,%b\n\n' % (
            max(self._number, 0) | 1,
            msgspec.json.encode(said)[1:],
        )

    def _event(self, place: int, name: bytes, fields: bytes) -> bytes:
        number = self._position * EVENTS_PER_POSITION + place
        if number <= self._after:
            return b""
        self._number = number
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (name, name, number, fields)


_DELTAS = {
    Kind.TEXT: b"response.output_text.delta",
    Kind.REFUSAL: b"response.refusal.delta",
    Kind.REASONING: b"response.reasoning_text.delta",
    Kind.TOOL_CALL: b"response.function_call_arguments.delta",
}


class _OpenItem:
    """An item that is being read, and the content part of it."""

    __slots__ = (
        "annotations",
        "call",
        "content",
        "delta",
        "id",
        "kind",
        "line",
        "message_id",
        "number",
        "place",
        "prefix",
        "said",
        "whole",
    )

    def __init__(self, message_id: str, prefix: str, number: int, piece: Piece) -> None:
        self.message_id = message_id
        self.prefix = prefix
        self.number = number
        self.id = item_id(message_id, prefix, number).encode()
        self.call = piece.call
        self.kind = piece.kind
        self.content = -1  # the number of the content part
        self.whole: list[dict[str, Any]] = []  # content parts that have ended
        self.said: list[bytes] = []
        self.annotations: list[dict[str, Any]] = []
        self.line = b""  # of an annotation whose end has not come yet
        self.place = self.delta = b""

    def begin(self, kind: Kind) -> None:
        """A content part begins."""
        self.kind = kind
        self.content += 1
        self.said, self.annotations, self.line = [], [], b""
        self.place = b'"item_id":"%b","output_index":%d' % (self.id, self.number)
        if self.prefix != CALL:
            self.place += b',"content_index":%d' % self.content
        name = _DELTAS.get(kind, b"")
        logprobs = b',"logprobs":[]' if kind is Kind.TEXT else b""
        self.delta = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b%b,"delta":%%b}\n\n' % (
            name,
            name,
            self.place.replace(b"%", b"%%"),
            logprobs,
        )

    def end(self) -> Part:
        """The content part ends: its whole text."""
        text = b"".join(self.said).decode()
        if self.prefix != CALL:
            self.whole.append(self.part(text))
        return Part(self.kind, text, self.call)

    def part(self, text: str = "", *, empty: bool = False) -> dict[str, Any]:
        """The content part."""
        if self.kind is Kind.TEXT:
            return output_text(text) | ({} if empty else {"annotations": self.annotations})
        if self.kind is Kind.REFUSAL:
            return {"type": "refusal", "refusal": text}
        return {"type": "reasoning_text", "text": text}

    def write(self, status: str, *, empty: bool = False) -> bytes:
        """The item as JSON."""
        text = "" if empty else b"".join(self.said).decode()
        item = write_item(
            self.message_id, Role.ASSISTANT, Item(self.number, self.prefix, [Part(self.kind, text, self.call)]), status
        )
        if self.prefix in {MESSAGE, REASONING}:
            item["content"] = self.whole
        return msgspec.json.encode(item)
