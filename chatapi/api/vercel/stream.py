"""A log as the Vercel AI SDK's UI message stream, version 1. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatapi.api.http.serializers import read_annotation, usage_json
from chatapi.api.http.streaming import ENDED_WELL, EVENT_TEXT_BYTES
from chatapi.api.vercel import hosted_tools
from chatapi.errors import ChatError, from_code
from chatapi.model import Generation, Kind, Message, Part, Piece, Role, Status, Usage
from chatapi.model.log import cut, pieces_of
from chatapi.wire import sse
from chatapi.wire.extras import decode_extras, images_of
from chatapi.wire.response_events import events_in, opened_item, whole_item

_FINISH = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}
_FINISH |= {"function_call": "tool-calls"}
_WRITTEN = {Kind.TEXT: b"text", Kind.REFUSAL: b"text", Kind.REASONING: b"reasoning"}
_LINES = frozenset({Kind.ANNOTATION, Kind.EXTRA})  # whose text is lines of JSON
HEADERS = {"X-Vercel-AI-UI-Message-Stream": "v1"}


class VercelEncoder:
    """Encodes UI message chunks from the log alone, so that a replay has the same text, in longer deltas perhaps.

    `before` are the earlier steps of the same UI message. A client that sends tool results has them and receives this
    step alone; a `replay` includes them.
    """

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, before: list[Message], replay: bool) -> None:
        self._generation = generation
        self._before = before
        self._replay = replay
        self._open: Piece | None = None  # the first piece of the part that is being written
        self._rest: list[bytes] = []  # a tool call's arguments, or an incomplete line of annotations
        self._sources = 0
        self._hosted: set[str] = set()  # ids of the items of hosted tools that have begun

    def begin(self) -> bytes:
        generation = self._generation
        metadata = {
            "session_id": generation.session_id,
            "generation_id": generation.id,
            "model": generation.model,
        }
        first = self._before[0].id if self._before else generation.message_id
        chunks = _frame({"type": "start", "messageId": first, "messageMetadata": metadata})
        if self._replay:
            called = {part.call for message in self._before for part in message.parts if part.kind is Kind.TOOL_CALL}
            ids = {call.id for call in called if call is not None}
            chunks += b"".join(self._step_before(message, ids) for message in self._before)
        return chunks + _frame({"type": "start-step"})

    def _step_before(self, message: Message, called: set[str]) -> bytes:
        if message.role is Role.TOOL:
            return b"".join(_output(part) for part in message.parts if part.call is not None and part.call.id in called)
        chunks = _frame({"type": "start-step"}) + b"".join(self.pieces(pieces_of(message.parts)))
        return chunks + self._close() + _frame({"type": "finish-step"})

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            before = b""
            if self._open is None or self._open.part != piece.part:
                before = self._close()
                self._open = piece
                before += _opening(piece)
            if piece.kind in _LINES:
                yield before + self._line_frames(piece)
                continue
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                yield before + self._delta(piece, text)
                before = b""

    def _delta(self, piece: Piece, text: bytes) -> bytes:
        encoded = msgspec.json.encode(text.decode())
        if piece.call is None:
            return b'data: {"type":"%b-delta","id":"%d","delta":%b}\n\n' % (_WRITTEN[piece.kind], piece.part, encoded)
        self._rest.append(text)
        call_id = msgspec.json.encode(piece.call.id)
        return b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":%b}\n\n' % (call_id, encoded)

    def _line_frames(self, piece: Piece) -> bytes:
        """Return the sources of the annotations that are complete, and the images of extras."""
        *lines, rest = b"".join([*self._rest, piece.data]).split(b"\n")
        self._rest = [rest]
        if piece.kind is Kind.EXTRA:
            return b"".join(self._extra_frames(line) for line in lines) if piece.call is None else b""
        chunks = b""
        for line in lines:
            source = _source(read_annotation(line))
            if source is not None:
                self._sources += 1
                chunks += _frame({"type": "source-url", "sourceId": f"source-{self._sources}", **source})
        return chunks

    def _extra_frames(self, line: bytes) -> bytes:
        """Return the images of an extra, and the items of tools that the upstream runs."""
        fields = decode_extras(line.decode() + "\n")[1]
        chunks = b"".join(
            _frame({"type": "file", "url": url, "mediaType": _media_type(url)}) for url in images_of(fields)
        )
        for event in events_in(fields):
            if (item := opened_item(event)) is not None:
                self._hosted.add(str(item.get("id")))
                chunks += b"".join(_frame(chunk) for chunk in hosted_tools.opening(item))
            elif (item := whole_item(event)) is not None:
                if str(item.get("id")) not in self._hosted:
                    chunks += b"".join(_frame(chunk) for chunk in hosted_tools.opening(item))
                chunks += b"".join(self._numbered(chunk) for chunk in hosted_tools.closing(item))
        return chunks

    def _numbered(self, chunk: dict[str, Any]) -> bytes:
        if chunk["type"] == "source-url":
            self._sources += 1
            chunk = {"type": "source-url", "sourceId": f"source-{self._sources}", **chunk}
        return _frame(chunk)

    def _close(self, whole: bool = True) -> bytes:
        """Return the end of the open part; an incomplete call has none."""
        part, rest = self._open, b"".join(self._rest)
        self._open, self._rest = None, []
        if part is None or part.kind in _LINES:
            return b""
        if part.call is None:
            return b'data: {"type":"%b-end","id":"%d"}\n\n' % (_WRITTEN[part.kind], part.part)
        if not whole:
            return b""
        call = {"toolCallId": part.call.id, "toolName": part.call.name}
        try:
            return _frame({"type": "tool-input-available", **call, "input": msgspec.json.decode(rest)})
        except (msgspec.DecodeError, RecursionError):
            error = "The arguments of this call are not JSON."
            return _frame({"type": "tool-input-error", **call, "input": rest.decode(), "errorText": error})

    def heartbeat(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            chunks = self._close(whole=False)
            if generation.usage is not None:
                chunks += _frame({"type": "message-metadata", "messageMetadata": _usage(generation.usage)})
            return chunks + self.error(from_code(generation.error_code, generation.error_detail))
        metadata = {"messageMetadata": _usage(generation.usage)}
        if generation.status is Status.STOPPED:
            chunks = self._close(whole=False) + _frame({"type": "message-metadata", **metadata})
            return chunks + _frame({"type": "abort", "reason": "stopped"}) + b"data: [DONE]\n\n"
        reason = _FINISH.get(generation.finish_reason or "stop", "other")
        chunks = self._close() + _frame({"type": "finish-step"})
        return chunks + _frame({"type": "finish", "finishReason": reason, **metadata}) + b"data: [DONE]\n\n"

    def error(self, error: ChatError) -> bytes:
        return _frame({"type": "error", "errorText": error.detail})


def _frame(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(chunk)


def _opening(piece: Piece) -> bytes:
    if piece.kind in _LINES:
        return b""
    if piece.call is None:
        return b'data: {"type":"%b-start","id":"%d"}\n\n' % (_WRITTEN[piece.kind], piece.part)
    return _frame({"type": "tool-input-start", "toolCallId": piece.call.id, "toolName": piece.call.name})


def _media_type(url: str) -> str:
    """Return the media type of a data URL; of another URL, that of most generated images."""
    found = url[5:].partition(",")[0].partition(";")[0] if url[:5].lower() == "data:" else ""
    return found or "image/png"


def _output(part: Part) -> bytes:
    assert part.call is not None, "a result names its call"
    try:
        output = msgspec.json.decode(part.text)
    except (msgspec.DecodeError, RecursionError):
        output = None
    if not isinstance(output, dict | list):
        output = part.text
    return _frame({"type": "tool-output-available", "toolCallId": part.call.id, "output": output})


def _source(annotation: Any) -> dict[str, str] | None:
    """Return the source that an annotation cites, if it cites one."""
    cited = annotation.get("url_citation", annotation) if isinstance(annotation, dict) else None
    if not isinstance(cited, dict) or not isinstance(cited.get("url"), str):
        return None
    title = cited.get("title")
    return {"url": cited["url"], **({"title": title} if isinstance(title, str) else {})}


def _usage(usage: Usage | None) -> dict[str, Any]:
    return {"usage": usage_json(usage)}
