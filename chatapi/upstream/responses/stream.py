"""An answer of OpenAI's Responses as it arrives: events, read into deltas for a log.

`ResponsesParser` is pure: bytes in, deltas out. Text, refusals, reasoning, calls and annotations become parts of their
kinds. Any other item, and the reasoning that the upstream encrypted, is kept as received in parts of kind `extra`; so
is an event that is not known. Three rules hold (docs/upstreams.md): an event that is not understood breaks no answer;
an answer whose events have a gap, or whose items are not all closed, has failed; and text comes in the order of items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamBroken, UpstreamError
from chatapi.model import Kind, ToolCall, Usage
from chatapi.upstream.events import BROKE_OFF, EventParser
from chatapi.upstream.finish import CONTENT_FILTER, LENGTH, STOP, TOOL_CALLS
from chatapi.upstream.halves import Halves
from chatapi.upstream.provider import Deltas
from chatapi.upstream.refusals import error_in_stream, find_error
from chatapi.upstream.responses.items import OpenItem, kept_event, names_of_call
from chatapi.upstream.usage import read_usage
from chatapi.wire.extras import ANY_ORIGIN, DEEPEST, EXTRAS_BYTES, encode_extras
from chatapi.wire.loose_json import REPLACEMENT, UNREADABLE, nests_deeper_than, read_json, write_json
from chatapi.wire.response_events import ITEM_ADDED, ITEM_DONE, encode_event

NO_END = "The model API ended its answer without saying that it was finished."
NOT_PROTOCOL = "The model API sent an event that is not in its protocol."
NOT_CLOSED = "The model API ended its answer with an item that it had not closed."
HELD_CHARACTERS = 1024 * 1024  # of items that wait for an earlier one to be closed
ITEMS_AT_MOST = 1024  # in one answer
REASON_CHARACTERS = 64

_KINDS = {
    "response.output_text.delta": Kind.TEXT,
    "response.refusal.delta": Kind.REFUSAL,
    "response.reasoning_text.delta": Kind.REASONING,
    "response.reasoning_summary_text.delta": Kind.REASONING,
    "response.function_call_arguments.delta": Kind.TOOL_CALL,
    "response.custom_tool_call_input.delta": Kind.TOOL_CALL,
}
# Events that repeat their deltas or items, or contain nothing that is kept.
_REPEATED = frozenset(
    {
        *("response.created", "response.in_progress", "response.queued", "keepalive"),
        *("response.content_part.added", "response.content_part.done", "response.output_text.done"),
        *("response.refusal.done", "response.reasoning_text.done", "response.reasoning_summary_text.done"),
        *("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"),
        *("response.function_call_arguments.done", "response.custom_tool_call_input.done"),
        "response.image_generation_call.partial_image",  # previews, each as large as an answer may be
    }
)
_INCOMPLETE = {"max_output_tokens": LENGTH, "max_tokens": LENGTH, "content_filter": CONTENT_FILTER}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXT = Kind.TEXT  # a member of an enumeration costs as much as a method call to read
_TEXT_PARTS = {"output_text": ("text", Kind.TEXT), "refusal": ("refusal", Kind.REFUSAL)}


class _Event(msgspec.Struct):
    """The members that nearly all events are read by."""

    type: str
    delta: Any = None
    sequence_number: int | None = None
    output_index: int | None = None
    item_id: str | None = None
    summary_index: int = 0
    content_index: int = 0


class _TextEvent(msgspec.Struct):
    """A piece of text with its number and its place, as most events are. Its decoder refuses every other event."""

    type: Literal["response.output_text.delta"]
    delta: Annotated[str, msgspec.Meta(min_length=1)]
    sequence_number: int
    output_index: int


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_text = msgspec.json.Decoder(_TextEvent).decode


class ResponsesParser(EventParser):
    """Reads one answer. `feed` takes its bytes, however they are cut, and `end` its end; `error` is set afterwards.

    `origin` identifies the upstream to which kept items are sent back, `most_tokens` is the limit that the request had.
    """

    document_starts = (b"{",)

    def __init__(self, credential: Credential, origin: str = "", most_tokens: int | None = None) -> None:
        super().__init__()
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.deltas = 0  # pieces of content, about one token each
        self._credential = credential
        self._origin = origin
        self._most_tokens = most_tokens
        self._next: int | None = None  # sequence number; None until one has come
        self._counts = True  # the upstream may number its events one by one
        self._counted = False  # it has done so
        self._open: list[OpenItem] = []  # in the order in which they began; the first is being written
        self._items = 0
        self._last: OpenItem | None = None  # the item that the last event belonged to
        self._last_type = ""  # of the item that was written last
        self._calls = False
        self._halves = Halves()
        self._held = 0  # characters that items hold
        self._kept_bytes = 0

    @property
    def is_complete(self) -> bool:
        """Whether the upstream has declared the answer complete."""
        return self.done and self.error is None and self.finish_reason is not None

    def cut_off(self, error: UpstreamError) -> Deltas:
        """Take a connection that broke, and return content that was held."""
        return self._fail(error, self._flush())

    def conclude(self, no_end: str = NO_END) -> Deltas:
        """End the answer here, and return content that was held."""
        if self.done:
            return []
        return self._fail(UpstreamBroken(no_end), self._flush())

    def _flush(self) -> Deltas:
        """Return the content that was held, of items that are not closed too."""
        deltas: Deltas = []
        for place in self._halves.end():
            if isinstance(place, OpenItem) and place.kind is not None:
                place.held.append((place.kind, REPLACEMENT, place.call))
        for item in self._open:
            self._release(item, deltas)
        self._open = []
        return deltas

    def _take_all(self, payloads: list[bytes], *, at_end: bool = False) -> Deltas:
        deltas: Deltas = []
        try:
            for payload in self._take_texts(payloads, deltas):
                try:
                    event = _decode_event(payload)
                except UNREADABLE:
                    if self._take_odd(payload, deltas, at_end=at_end):
                        return deltas + self.conclude()
                else:
                    self._take(event, payload, deltas)
                if self.done:
                    break
        except UpstreamError as error:
            return self._fail(error, deltas + self._flush())
        except (ValueError, RecursionError):  # of a value that only one of the two decoders reads
            return self._fail(UpstreamBroken(NOT_PROTOCOL), deltas + self._flush())
        return deltas

    def _take_texts(self, payloads: list[bytes], deltas: Deltas) -> Iterator[bytes]:
        """Take consecutive pieces of the text that is being written, joined; yield each other event in its turn."""
        texts: list[str] = []
        for payload in payloads:
            item = self._last
            if item is not None and item.kind is _TEXT and self._counted and self._open[:1] == [item]:
                try:
                    event = _decode_text(payload)
                except UNREADABLE:
                    pass
                else:
                    if event.sequence_number == self._next and event.output_index == item.index:
                        self._next += 1
                        texts.append(event.delta)
                        continue
            self._add_joined(texts, deltas)
            yield payload
        self._add_joined(texts, deltas)

    def _add_joined(self, texts: list[str], deltas: Deltas) -> None:
        if texts:
            assert self._last is not None, "they belong to it"
            self.deltas += len(texts)
            self._write(self._last, _TEXT, "".join(texts), deltas)
            texts.clear()

    def _take(self, event: _Event, payload: bytes | dict[str, Any], deltas: Deltas) -> None:
        if (number := event.sequence_number) is not None and self._counts:
            self._count(number)
        kind = _KINDS.get(event.type)
        if kind is not None:
            if isinstance(event.delta, str) and event.delta:
                self._add(self._find(event, kind, deltas), kind, event, event.delta, deltas)
            return
        if event.type not in _REPEATED:
            value = read_json(payload) if isinstance(payload, bytes) else payload
            self._take_value(event, value, deltas)

    def _count(self, number: int) -> None:
        """Check a sequence number, unless the server does not count events: its first two are not neighbours then."""
        if self._next is None or number == self._next:
            self._counted = self._next is not None
            self._next = number + 1
        elif number > self._next and self._counted:
            raise UpstreamBroken(
                f"The model API left events out: number {number} came in the place of number {self._next}."
            )
        else:
            self._counts = False

    # Content

    def _find(self, event: _Event, kind: Kind, deltas: Deltas) -> OpenItem:
        """Return the item that a delta belongs to; one that was not announced begins here."""
        last = self._last
        if last is not None and not last.closed:
            index = event.output_index
            if (index == last.index and index is not None) or last.is_of(index, event.item_id):
                return last
        found = next((item for item in self._open if item.is_of(event.output_index, event.item_id)), None)
        if found is None:
            item = {"type": "reasoning" if kind is Kind.REASONING else "message", "id": event.item_id}
            found = self._begin(item, event.output_index, deltas, announced=False)
        self._last = found
        return found

    def _add(self, item: OpenItem, kind: Kind, event: _Event, text: str, deltas: Deltas) -> None:
        """Add a piece of text to its item."""
        if item.kind is not kind and (item.kind, kind) != (Kind.TEXT, Kind.REFUSAL):
            raise UpstreamBroken(NOT_PROTOCOL)
        self.deltas += 1
        if kind is Kind.REASONING and item.turns_to((event.content_index, event.summary_index)):
            text = "\n\n" + text  # parts of a summary are paragraphs
        self._write(item, kind, text, deltas)

    def _write(self, item: OpenItem, kind: Kind, text: str, deltas: Deltas) -> None:
        item.written += len(text)
        if whole := self._halves.join(item, text):
            self._emit(item, (kind, whole, item.call), deltas)

    def _emit(self, item: OpenItem, delta: tuple[Kind, str, ToolCall | None], deltas: Deltas) -> None:
        """Write a delta of the first open item; hold one of any other."""
        if self._open and self._open[0] is item:
            deltas.append(delta)
            return
        item.held.append(delta)
        self._held += len(delta[1])
        if self._held > HELD_CHARACTERS:
            raise UpstreamBroken("The model API sent too much of several items at once.")

    def _release(self, item: OpenItem, deltas: Deltas) -> None:
        """Write the content that an item held."""
        self._held -= sum(len(text) for _, text, _ in item.held)
        deltas += item.held
        item.held = []

    # Items

    def _begin(self, item: dict[str, Any], index: int | None, deltas: Deltas, *, announced: bool) -> OpenItem:
        self._items += 1
        if self._items > ITEMS_AT_MOST:
            raise UpstreamBroken("The model API sent too many items.")
        if self._open and not self._open[-1].announced:
            self._close(self._open[-1], deltas)
        opened = OpenItem(item, index, announced=announced)
        self._open.append(opened)
        if opened.kind is Kind.TOOL_CALL:
            opened.call = names_of_call(item)
            self._calls = True
        if opened.type == "message" and (item.get("phase") is not None or self._last_type == "message"):
            marked = {name: item[name] for name in ("type", "phase") if item.get(name) is not None}
            self._keep(opened, {"type": ITEM_ADDED, "item": marked}, deltas)
        elif opened.is_kept:
            self._keep(opened, {"type": ITEM_ADDED, "item": item}, deltas)
        self._last_type = opened.type
        return opened

    def _end_item(self, item: dict[str, Any], index: int | None, deltas: Deltas) -> None:
        """Take a whole item: write the rest of its text, and keep the members that have no other place."""
        item_id = item.get("id")
        found = next((one for one in self._open if one.is_of(index, item_id)), None)
        if found is None:
            found = self._begin(item, index, deltas, announced=True)
        if found.type == "message":
            self._end_message(found, item, deltas)
        elif found.kind is Kind.TOOL_CALL:
            text = item.get("input" if found.type == "custom_tool_call" else "arguments")
            self._write_rest(found, Kind.TOOL_CALL, text if isinstance(text, str) else "", deltas)
            if not found.written:
                self._write(found, Kind.TOOL_CALL, "{}", deltas)  # a part of a log is never empty
            if found.type == "custom_tool_call":
                self._emit(found, (Kind.EXTRA, encode_extras(ANY_ORIGIN, {"type": "custom"}), found.call), deltas)
        elif found.type == "reasoning":
            self._end_reasoning(found, item, deltas)
        else:
            self._keep(found, {"type": ITEM_DONE, "item": item}, deltas)
        self._close(found, deltas)

    def _end_message(self, found: OpenItem, item: dict[str, Any], deltas: Deltas) -> None:
        content = item.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        before = seen = 0  # characters and annotations of the item that came before
        for part in parts:
            name, kind = _TEXT_PARTS.get(str(part.get("type")), ("text", Kind.TEXT))
            text = part.get(name)
            text = text if isinstance(text, str) else ""
            self._write_rest(found, kind, text, deltas, before)
            before += len(text)
            for annotation in part["annotations"] if isinstance(part.get("annotations"), list) else ():
                seen += 1
                if seen > found.annotations:
                    self._annotate(found, annotation, deltas)

    def _end_reasoning(self, found: OpenItem, item: dict[str, Any], deltas: Deltas) -> None:
        """Keep reasoning that can be sent back: the upstream's own encrypted form of it, or its full text."""
        texts = [
            one["text"]
            for name in ("summary", "content")
            for one in (item[name] if isinstance(item.get(name), list) else ())
            if isinstance(one, dict) and isinstance(one.get("text"), str)
        ]
        self._write_rest(found, Kind.REASONING, "\n\n".join(texts), deltas)
        if item.get("encrypted_content") or item.get("content"):
            self._keep(found, {"type": ITEM_DONE, "item": item}, deltas)

    def _write_rest(self, item: OpenItem, kind: Kind, whole: str, deltas: Deltas, before: int = 0) -> None:
        """Write the text of a whole item that came in no delta; `whole` has `before` characters before it."""
        if rest := whole[max(0, item.written - before) :]:
            self.deltas += 1
            self._write(item, kind, rest, deltas)

    def _annotate(self, item: OpenItem, annotation: Any, deltas: Deltas) -> None:
        if isinstance(annotation, dict):
            item.annotations += 1
            self._emit(item, (Kind.ANNOTATION, write_json(annotation) + "\n", None), deltas)

    def _close(self, item: OpenItem, deltas: Deltas) -> None:
        """Close an item. Those behind the first are written once it is closed."""
        item.closed = True
        while self._open and self._open[0].closed:
            self._open.pop(0)
            if self._open:
                self._release(self._open[0], deltas)

    def _keep(self, item: OpenItem, event: dict[str, Any], deltas: Deltas) -> None:
        """Keep an event as received, to be shown and to be sent back. Events beyond the limit are left out."""
        text = encode_event(self._origin, kept_event(event))
        if self._kept_bytes + len(text) > EXTRAS_BYTES or nests_deeper_than(event, DEEPEST - 4):
            if event["type"] == ITEM_DONE:
                raise UpstreamBroken(
                    "The model API sent an item that is larger, or nests deeper, than this server keeps."
                )
            return
        self._kept_bytes += len(text)
        self._emit(item, (Kind.EXTRA, text, None), deltas)

    # Events other than deltas

    def _take_value(self, event: _Event, value: dict[str, Any], deltas: Deltas) -> None:
        if event.type in {"error", "response.error"}:
            self._refuse(value)
        elif event.type in _ENDS:
            response = value.get("response")
            self._finish(event.type, response if isinstance(response, dict) else {}, deltas)
        elif event.type in {ITEM_ADDED, ITEM_DONE} and isinstance(value.get("item"), dict):
            if event.type == ITEM_DONE:
                self._end_item(value["item"], event.output_index, deltas)
            else:
                self._begin(value["item"], event.output_index, deltas, announced=True)
        elif event.type == "response.output_text.annotation.added":
            self._annotate(self._find(event, Kind.TEXT, deltas), value.get("annotation"), deltas)
        else:
            found = next((item for item in self._open if item.is_of(event.output_index, event.item_id)), None)
            if found is None or not found.is_kept:
                found = OpenItem({"type": ""}, None, announced=False)  # it stands where it came
                self._open.insert(0, found)
                self._keep(found, value, deltas)
                self._open.remove(found)
            else:
                self._keep(found, value, deltas)

    def _refuse(self, value: dict[str, Any]) -> None:
        report = find_error(value)
        if report is None:
            raise UpstreamBroken("The model API reported an error, and no reason for it.")
        raise error_in_stream(report, self._credential, started=self.deltas > 0)

    def _finish(self, kind: str, response: dict[str, Any], deltas: Deltas) -> None:
        """Take the last event of an answer."""
        self.usage = read_usage(response.get("usage")) or self.usage
        if kind == "response.failed" or response.get("status") == "failed":
            self._refuse({"error": response.get("error")})
        if kind == "response.cancelled" or response.get("status") == "cancelled":
            raise UpstreamBroken("The model API cancelled the answer.")
        output = response.get("output")
        if not self._items and isinstance(output, list):  # an answer without deltas
            for index, item in enumerate(output):
                if isinstance(item, dict):
                    self._end_item(item, index, deltas)
        if kind == "response.incomplete" or response.get("status") == "incomplete":
            details = response.get("incomplete_details")
            reason = str(details.get("reason") or "") if isinstance(details, dict) else ""
            deltas += self._flush()
            if reason not in _INCOMPLETE:
                shown = self._credential.hide(reason[:REASON_CHARACTERS])
                raise UpstreamBroken(f"The model API ended its answer early, for the reason {shown!r}.")
            self.finish_reason = _INCOMPLETE[reason]
        else:
            if any(item.announced and not item.closed for item in self._open):
                raise UpstreamBroken(NOT_CLOSED)
            deltas += self._flush()
            self.finish_reason = TOOL_CALLS if self._calls else STOP
            spent = self.usage.output_tokens if self.usage is not None else None
            if self.finish_reason == STOP and spent is not None and spent == self._most_tokens:
                self.finish_reason = LENGTH  # llama.cpp says `completed` for an answer that its limit cut
        self.done = True

    def _take_odd(self, payload: bytes, deltas: Deltas, *, at_end: bool) -> bool:
        """Take an event that is not in OpenAI's own form; return whether it is the end.

        Raises:
            UpstreamBroken: it is meant to be JSON, and is not.
        """
        text = payload.decode("utf-8", "replace").strip()
        if not text:
            return False  # some keep a connection alive so
        if text.strip("[] ").upper() == "DONE":
            return True
        try:
            value = read_json(text)
        except UNREADABLE as error:
            if at_end or text[0] in "{[":
                raise UpstreamBroken(BROKE_OFF if at_end else NOT_PROTOCOL) from error
            return False
        if not isinstance(value, dict):
            return False
        if isinstance(value.get("type"), str):
            known = {name: value[name] for name, kind in _MEMBERS.items() if isinstance(value.get(name), kind)}
            self._take(_Event(type=value["type"], delta=value.get("delta"), **known), value, deltas)
        elif value.get("object") == "response":
            self._finish("response." + str(value.get("status")), value, deltas)
        elif find_error(value) is not None:
            self._refuse(value)
        return False


_MEMBERS = {
    "sequence_number": int,
    "output_index": int,
    "item_id": str,
    "summary_index": int,
    "content_index": int,
}
