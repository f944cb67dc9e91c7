"""A log as the event stream of OpenAI's Responses.

The events are a function of the log, of where its parts begin, and of its cuts (see `model.log`), not of how it was
read. A `sequence_number` is the position at which its event stands, times 16, plus an order among the events at that
position. So each number identifies the same event with the same text on every read, on every replica, while the log
grows and afterwards. At one position there may stand, in this order:

    0   a delta, or an annotation, that ends here; at the very beginning `response.created`
    2   the end of a text, a refusal, a reasoning text or arguments; at the very beginning `response.in_progress`
    4   the end of a content part
    6   the end of an item
    8   the beginning of an item
    10  the beginning of a content part
    14  the last event

Events of the upstream that are kept as received stand at the end of their line in the log: 0, or as above.

Odd numbers are for `error`, which is not part of the log: a reader that resumes after one misses nothing.

The end of each part repeats its text, and the last event repeats the whole answer: so a reader holds the text it has
read of its answer, which is bounded (`Settings.max_answer_bytes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from chatapi.api.http.serializers import read_annotation
from chatapi.api.http.streaming import EVENT_TEXT_BYTES
from chatapi.api.openai.ids import CALL, CUSTOM_CALL, KEPT, MESSAGE, REASONING, item_id
from chatapi.api.openai.items import (
    COMPLETED,
    IN_PROGRESS,
    Item,
    ItemForm,
    close_item,
    encrypted_field,
    output_text,
    reasoning_fields,
    reasoning_part,
    write_annotation,
    write_item,
)
from chatapi.api.openai.responses.objects import item_form, last_item_status, response_object
from chatapi.errors import ChatError
from chatapi.model import Generation, Kind, Part, Piece, Role, Status
from chatapi.model.log import cut
from chatapi.wire import sse
from chatapi.wire.response_events import opened_item, read_events, whole_item

EVENTS_PER_POSITION = 16
_DELTA, _TEXT_DONE, _PART_DONE, _ITEM_DONE, _ITEM_ADDED, _PART_ADDED, _LAST = 0, 2, 4, 6, 8, 10, 14
_CREATED, _IN_PROGRESS = 0, 2
_CALLS = frozenset({CALL, CUSTOM_CALL})  # items without content parts
DONE = b"data: [DONE]\n\n"
_EVENT_NAME = re.compile(rb"[a-z0-9_.]{1,100}")


class ResponsesEncoder:
    """The events of a response that come after the number `after`.

    `before` is the log up to the position of that number. Pieces must end at the cuts of the log.
    """

    media_type = sse.MEDIA_TYPE

    def __init__(
        self, generation: Generation, request: dict[str, Any], after: int = -1, before: list[Piece] | None = None
    ) -> None:
        self._generation = generation
        self._request = request
        self._form = item_form(request)
        self._after = after
        self._number = after  # of the last event
        self._position = 0
        self._part = -1  # of the log, the one that is being read
        self._item: _OpenItem | None = None
        self._items: list[bytes] = []  # complete items, as JSON
        self._phase: dict[str, Any] | None = None  # of the next message
        self._kept: list[bytes] = []  # the beginning of a kept event whose end has not come yet
        for _ in self.pieces(before or []):
            pass

    def begin(self) -> bytes:
        if self._after >= _IN_PROGRESS:
            return b""
        running = replace(
            self._generation,
            status=Status.RUNNING,
            ended_at=None,
            finish_reason=None,
            usage=None,
            error_code=None,
            error_detail=None,
        )
        response = b'"response":%b' % msgspec.json.encode(response_object(running, self._request, []))
        return self._event(_CREATED, b"response.created", response) + self._event(
            _IN_PROGRESS, b"response.in_progress", response
        )

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            if piece.kind is Kind.EXTRA:
                yield from self._kept_events(piece)
                continue
            if piece.part != self._part:
                self._position = piece.position - len(piece.data)
                if turned := self._begin_log_part(piece):
                    yield turned
            item = self._item
            assert item is not None, "a part belongs to an item"
            if piece.kind is Kind.ANNOTATION:
                yield from self._annotations(item, piece)
                continue
            item.texts.append(piece.data)
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
        """Yield complete annotations; each stands where its line ends."""
        *lines, rest = (item.line + piece.data).split(b"\n")
        at = piece.position - len(piece.data) - len(item.line)
        item.line = rest
        for line in lines:
            at += len(line) + 1
            self._position = at
            annotation = write_annotation(read_annotation(line))
            if annotation is None:
                continue
            item.annotations.append(annotation)
            fields = b'"item_id":"%b","output_index":%d,"content_index":%d,"annotation_index":%d,"annotation":%b' % (
                item.id,
                item.number,
                item.content_index,
                len(item.annotations) - 1,
                msgspec.json.encode(annotation),
            )
            yield self._event(_DELTA, b"response.output_text.annotation.added", fields)
        self._position = piece.position

    def _kept_events(self, piece: Piece) -> Iterator[bytes]:
        """Yield the events of the upstream that are complete. Members of chat completions have no place here."""
        if piece.call is not None:
            return
        self._kept.append(piece.data)
        if b"\n" not in piece.data:
            return
        data = b"".join(self._kept)
        begin = piece.position - len(data)
        *lines, rest = data.split(b"\n")
        self._kept = [rest]
        for line in lines:
            end = begin + len(line) + 1
            for event in read_events(line.decode() + "\n")[:1]:
                yield self._kept_event(event, begin, end)
            begin = end

    def _kept_event(self, event: dict[str, Any], begin: int, end: int) -> bytes:
        """Return what one kept event shows, which stands between two positions."""
        opened, whole = opened_item(event), whole_item(event)
        self._position = begin
        if opened is not None and opened.get("type") == "message":
            self._phase = opened
            return self._end_open_item()
        if whole is not None and whole.get("type") == "reasoning":
            shown = b""
            if self._item is None or self._item.prefix != REASONING or self._item.kept is not None:
                shown = self._end_open_item() + self._begin_item(REASONING, Piece(end, -1, Kind.REASONING, b""), whole)
            assert self._item is not None, "it was open, or began"
            self._item.kept = whole
            self._position = end
            return shown
        if opened is not None or whole is not None:
            return self._kept_item(opened, whole, end)
        self._position = end
        fields = {name: value for name, value in event.items() if name != "type"}
        if self._item is not None and self._item.prefix == KEPT:
            fields = {"output_index": self._item.number, **fields}
        name = event["type"].encode()
        if not _EVENT_NAME.fullmatch(name):
            return b""
        return self._event(_DELTA, name, msgspec.json.encode(fields)[1:-1] or b'"kept":true')

    def _kept_item(self, opened: dict[str, Any] | None, whole: dict[str, Any] | None, end: int) -> bytes:
        """Return the beginning or the end of an item that is kept as received."""
        item = self._item
        shown = b""
        if opened is not None or item is None or item.prefix != KEPT:
            shown = self._end_open_item()
            if opened is not None:
                self._position = end
            item = self._begin_kept(opened or whole or {})
            shown += self._added(item, item.write(IN_PROGRESS))
        self._position = end
        if whole is not None:
            item.kept = whole
            shown += self._end_open_item()
        return shown

    def _begin_kept(self, kept: dict[str, Any]) -> _OpenItem:
        piece = Piece(0, -1, Kind.EXTRA, b"")
        self._item = _OpenItem(self._generation.message_id, KEPT, len(self._items), piece, self._form)
        self._item.kept = kept
        return self._item

    def _end_open_item(self) -> bytes:
        ended = self._end_item(COMPLETED) if self._item is not None else b""
        self._item = None
        return ended

    def _added(self, item: _OpenItem, written: bytes) -> bytes:
        fields = b'"output_index":%d,"item":%b' % (item.number, written)
        return self._event(_ITEM_ADDED, b"response.output_item.added", fields)

    def _begin_log_part(self, piece: Piece) -> bytes:
        """Return the events between two parts of the log: ends, and beginnings."""
        self._part = piece.part
        item = self._item
        prefix = self._form.prefix_of(piece.kind, piece.call)
        kind = Kind.TEXT if piece.kind is Kind.ANNOTATION else piece.kind
        if item is not None and prefix == MESSAGE == item.prefix:
            if item.kind is kind:
                return b""  # text continues after its annotations, or they begin
            return self._end_part(item) + self._begin_part(item, kind)
        ended = self._end_open_item()
        phase, self._phase = self._phase, None
        begun = self._begin_item(prefix, piece, phase if prefix == MESSAGE else None)
        assert self._item is not None, "it has begun"
        return ended + begun + self._begin_part(self._item, kind)

    def _begin_item(self, prefix: str, piece: Piece, kept: dict[str, Any] | None) -> bytes:
        item = self._item = _OpenItem(self._generation.message_id, prefix, len(self._items), piece, self._form)
        item.kept = kept if prefix == MESSAGE else None
        return self._added(item, item.write(IN_PROGRESS, empty=True))

    def _begin_part(self, item: _OpenItem, kind: Kind) -> bytes:
        item.begin(kind)
        if item.prefix in _CALLS:
            return b""
        part = msgspec.json.encode(item.part(empty=True))
        return self._event(_PART_ADDED, item.names.part_added, b'%b,"part":%b' % (item.fields, part))

    def _end_part(self, item: _OpenItem) -> bytes:
        part = item.end()
        text = msgspec.json.encode(part.text)
        if item.prefix in _CALLS:
            assert part.call is not None, "a part that is a call has one"
            name = (
                b',"name":%b' % msgspec.json.encode(self._form.name_of(part.call).name) if item.prefix == CALL else b""
            )
            done = b'%b%b,"%b":%b' % (item.fields, name, item.names.text_field, text)
            return self._event(_TEXT_DONE, item.names.text_done, done)
        done = b'%b,"%b":%b%b' % (item.fields, item.names.text_field, text, item.names.logprobs)
        ended = self._event(_TEXT_DONE, item.names.text_done, done)
        whole = msgspec.json.encode(item.part(part.text))
        return ended + self._event(_PART_DONE, item.names.part_done, b'%b,"part":%b' % (item.fields, whole))

    def _end_item(self, status: str) -> bytes:
        item = self._item
        assert item is not None, "there is one to end"
        ended = self._end_part(item) if item.content_index >= 0 else b""
        whole = item.write(status)
        self._items.append(whole)
        done = b'"output_index":%d,"item":%b' % (item.number, whole)
        return ended + self._event(_ITEM_DONE, b"response.output_item.done", done)

    def heartbeat(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        status = last_item_status(generation)
        ended = self._end_item(status) if self._item is not None else b""
        self._item = None
        output = msgspec.Raw(b"[%b]" % b",".join(self._items))
        response = response_object(generation, self._request, output)
        status = response["status"]
        name = {COMPLETED: b"response.completed", "failed": b"response.failed"}.get(status, b"response.incomplete")
        return ended + self._event(_LAST, name, b'"response":%b' % msgspec.json.encode(response)) + DONE

    def error(self, error: ChatError) -> bytes:
        fields = {"code": error.code, "message": error.detail, "param": None}
        return b'event: error\ndata: {"type":"error","sequence_number":%d,%b\n\n' % (
            max(self._number, 0) | 1,
            msgspec.json.encode(fields)[1:],
        )

    def _event(self, order: int, name: bytes, fields: bytes) -> bytes:
        number = self._position * EVENTS_PER_POSITION + order
        if number <= self._after:
            return b""
        self._number = number
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (name, name, number, fields)


class _EventNames:
    """The event types of one kind of content part, and the field that holds its whole text."""

    __slots__ = ("delta", "logprobs", "part_added", "part_done", "text_done", "text_field")

    def __init__(self, text: bytes, part: bytes = b"response.content_part", text_field: bytes = b"text") -> None:
        self.delta = text + b".delta"
        self.text_done = text + b".done"
        self.part_added = part + b".added"
        self.part_done = part + b".done"
        self.text_field = text_field
        self.logprobs = b',"logprobs":[]' if text == b"response.output_text" else b""


_EVENT_NAMES = {
    Kind.TEXT: _EventNames(b"response.output_text"),
    Kind.REFUSAL: _EventNames(b"response.refusal", text_field=b"refusal"),
    Kind.REASONING: _EventNames(b"response.reasoning_text"),
    Kind.TOOL_CALL: _EventNames(b"response.function_call_arguments", text_field=b"arguments"),
}
_CUSTOM_NAMES = _EventNames(b"response.custom_tool_call_input", text_field=b"input")
_SUMMARY_NAMES = _EventNames(b"response.reasoning_summary_text", b"response.reasoning_summary_part")


class _OpenItem:
    """The item that is being read, and its current content part."""

    __slots__ = (
        "annotations",
        "call",
        "content_index",
        "delta",
        "fields",
        "form",
        "id",
        "kept",
        "kind",
        "line",
        "message_id",
        "names",
        "number",
        "parts",
        "prefix",
        "summary",
        "texts",
    )

    def __init__(self, message_id: str, prefix: str, number: int, piece: Piece, form: ItemForm) -> None:
        self.message_id = message_id
        self.prefix = prefix
        self.number = number
        self.form = form
        self.summary = form.summary and prefix == REASONING
        self.id = item_id(message_id, prefix, number).encode()
        self.call = piece.call
        self.kind = piece.kind
        self.content_index = -1
        self.parts: list[dict[str, Any]] = []  # content parts that have ended
        self.texts: list[bytes] = []  # of the current content part
        self.annotations: list[dict[str, Any]] = []
        self.line = b""  # the beginning of an annotation whose end has not come yet
        self.kept: dict[str, Any] | None = None  # the item as its upstream sent it, see `items.Item`
        self.fields = self.delta = b""  # the fields that name the part, and its delta event as a template
        self.names = _EVENT_NAMES[Kind.TEXT]

    def begin(self, kind: Kind) -> None:
        """Begin a content part."""
        self.kind = kind
        self.content_index += 1
        self.texts, self.annotations, self.line = [], [], b""
        names = _SUMMARY_NAMES if self.summary else _CUSTOM_NAMES if self.prefix == CUSTOM_CALL else _EVENT_NAMES[kind]
        self.names = names
        self.fields = b'"item_id":"%b","output_index":%d' % (self.id, self.number)
        if self.prefix not in _CALLS:
            index = b"summary_index" if self.summary else b"content_index"
            self.fields += b',"%b":%d' % (index, self.content_index)
        self.delta = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b%b,"delta":%%b}\n\n' % (
            names.delta,
            names.delta,
            self.fields.replace(b"%", b"%%"),
            names.logprobs,
        )

    def end(self) -> Part:
        """End the content part and return it with its whole text."""
        text = b"".join(self.texts).decode()
        if self.prefix not in _CALLS:
            self.parts.append(self.part(text))
        return Part(self.kind, text, self.call)

    def part(self, text: str = "", *, empty: bool = False) -> dict[str, Any]:
        """Return the content part as an object."""
        if self.kind is Kind.TEXT:
            return output_text(text) | ({} if empty else {"annotations": self.annotations})
        if self.kind is Kind.REFUSAL:
            return {"type": "refusal", "refusal": text}
        return reasoning_part(text, self.summary)

    def write(self, status: str, *, empty: bool = False) -> bytes:
        """Return the item as JSON."""
        if self.prefix == KEPT:
            kept = write_item(self.message_id, Role.ASSISTANT, Item(self.number, KEPT, [], self.kept), status)
            return msgspec.json.encode(close_item(kept, status))
        text = "" if empty else b"".join(self.texts).decode()
        written = Item(self.number, self.prefix, [Part(self.kind, text, self.call)], self.kept)
        item = write_item(self.message_id, Role.ASSISTANT, written, status, self.form)
        if self.prefix == MESSAGE:
            item["content"] = self.parts
        elif self.prefix == REASONING:
            hidden = encrypted_field(self.kept)
            item = {"id": item["id"], "type": "reasoning", **self._reasoning(), **hidden, "status": status}
        return msgspec.json.encode(item)

    def _reasoning(self) -> dict[str, Any]:
        return reasoning_fields([part["text"] for part in self.parts], self.summary)
