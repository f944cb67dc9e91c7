"""A log as OpenAI's chat completions: a stream of chunks, or one object at its end.

The `id` of each event is the position after it. Events have no names, and none is of a type that OpenAI's API does not
have: strict clients parse every event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatapi.api.http.serializers import annotations_of, read_annotation
from chatapi.api.http.streaming import ENDED_WELL, EVENT_TEXT_BYTES
from chatapi.api.openai.errors import openai_error
from chatapi.api.openai.ids import completion_id
from chatapi.errors import ChatError, from_code
from chatapi.model import Generation, Kind, Part, Piece, Usage
from chatapi.model.log import cut, parts_of
from chatapi.wire import sse
from chatapi.wire.chat_messages import answer_message
from chatapi.wire.extras import decode_extras, merge
from chatapi.wire.loose_json import write_json

_CITED = ("url", "title", "start_index", "end_index")
_LINES = frozenset({Kind.ANNOTATION, Kind.EXTRA})  # whose text is lines of JSON
_FIELDS = {Kind.TEXT: "content", Kind.REFUSAL: "refusal", Kind.REASONING: "reasoning_content"}


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """Return OpenAI's usage object; counts that the upstream did not send are 0, for the object has no unknown."""
    if usage is None:
        return None
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def completion(generation: Generation, pieces: list[Piece]) -> dict[str, Any]:
    """Return the `chat.completion` object of an answer that ended well."""
    return completion_of(generation, parts_of(pieces))


def completion_of(generation: Generation, parts: tuple[Part, ...]) -> dict[str, Any]:
    """Return the `chat.completion` object of an answer of these parts."""
    text = "".join(part.text for part in parts if part.kind is Kind.TEXT)
    refusal = "".join(part.text for part in parts if part.kind is Kind.REFUSAL)
    reasoning = "".join(part.text for part in parts if part.kind is Kind.REASONING)
    annotations = [_annotation(one) for part in parts if part.kind is Kind.ANNOTATION for one in annotations_of(part)]
    message = answer_message(parts) | {"content": text or None, "refusal": refusal or None, "annotations": annotations}
    if reasoning:
        message["reasoning_content"] = reasoning
    for part in parts:
        if part.kind is Kind.EXTRA:
            _, fields = decode_extras(part.text)
            if part.call is None:
                merge(message, fields)
            for call in message.get("tool_calls", ()):
                if part.call is not None and call["id"] == part.call.id:
                    merge(call, fields)
    finish = generation.finish_reason or "stop"
    return {
        "id": completion_id(generation.id),
        "object": "chat.completion",
        "created": generation.created_at // 1_000_000,
        "model": generation.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage_object(generation.usage),
    }


def _annotation(annotation: Any) -> Any:
    """Return an annotation in the form of chat completions, where a citation of Responses has its members beside."""
    if isinstance(annotation, dict) and annotation.get("type") == "url_citation" and "url_citation" not in annotation:
        return {
            "type": "url_citation",
            "url_citation": {name: annotation[name] for name in _CITED if name in annotation},
        }
    return annotation


class CompletionsEncoder:
    """The chunks of a chat completion. `before` is the log up to the reader's position."""

    media_type = sse.MEDIA_TYPE

    def __init__(
        self, generation: Generation, usage: bool, position: int = 0, before: list[Piece] | None = None
    ) -> None:
        opening = {
            "id": completion_id(generation.id),
            "object": "chat.completion.chunk",
            "created": generation.created_at // 1_000_000,
            "model": generation.model,
        }
        self._opening = msgspec.json.encode(opening)[:-1]
        self._usage = usage
        self._no_usage = b',"usage":null}' if usage else b"}"
        self._position = position
        self._calls: dict[int, int] = {}  # the index of each call that has begun, by its part
        self._line = b""  # the beginning of a line whose end has not come yet
        self._indexes: dict[str, int] = {}  # the same by the call's id
        for piece in before or ():
            if piece.kind is Kind.TOOL_CALL and piece.call is not None:
                self._indexes[piece.call.id] = self._calls.setdefault(piece.part, len(self._calls))
            elif piece.kind in _LINES:
                self._line = (self._line + piece.data).rpartition(b"\n")[2]

    def begin(self) -> bytes:
        return b"" if self._position else self._delta(b'{"role":"assistant","content":""}')

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            if piece.kind in _LINES:
                yield from self._lines(piece)
                continue
            self._position = piece.position - len(piece.data)
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                self._position += len(text)
                encoded = msgspec.json.encode(text.decode())
                if piece.kind is Kind.TOOL_CALL:
                    yield self._delta(self._call(piece, encoded))
                else:
                    yield self._delta(b'{"%b":%b}' % (_FIELDS[piece.kind].encode(), encoded))

    def _call(self, piece: Piece, arguments: bytes) -> bytes:
        assert piece.call is not None, "a part that is a call has one"
        index = self._calls.get(piece.part)
        if index is not None:
            return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, arguments)
        index = self._calls[piece.part] = self._indexes[piece.call.id] = len(self._calls)
        call_id, name = msgspec.json.encode(piece.call.id), msgspec.json.encode(piece.call.name)
        function = b'{"name":%b,"arguments":%b}' % (name, arguments)
        return b'{"tool_calls":[{"index":%d,"id":%b,"type":"function","function":%b}]}' % (index, call_id, function)

    def _lines(self, piece: Piece) -> Iterator[bytes]:
        """Yield complete annotations or extras. The id stays before an incomplete one: a resumed stream repeats it."""
        *lines, rest = (self._line + piece.data).split(b"\n")
        at = piece.position - len(piece.data) - len(self._line)
        self._line = rest
        for line in lines:
            at += len(line) + 1
            self._position = at
            if piece.kind is Kind.ANNOTATION:
                if (annotation := read_annotation(line)) is not None:  # one that nests too deeply is left out
                    yield self._delta(b'{"annotations":[%b]}' % write_json(_annotation(annotation)).encode())
            elif fields := decode_extras(line.decode() + "\n")[1]:
                if piece.call is not None:
                    fields = {"tool_calls": [{"index": self._indexes.get(piece.call.id, 0), **fields}]}
                yield self._delta(write_json(fields).encode())

    def heartbeat(self) -> bytes:
        return sse.HEARTBEAT_LINE

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            return self.error(from_code(generation.error_code, generation.error_detail))
        finish = msgspec.json.encode(generation.finish_reason or "stop")
        last = self._frame(b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]' % finish, self._no_usage)
        if self._usage:
            usage = msgspec.json.encode(usage_object(generation.usage))
            last += self._frame(b"[]", b',"usage":%b}' % usage)
        return last + b"data: [DONE]\n\n"

    def error(self, error: ChatError) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(openai_error(error))

    def _delta(self, delta: bytes) -> bytes:
        choice = b'[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]' % delta
        return self._frame(choice, self._no_usage)

    def _frame(self, choices: bytes, end: bytes) -> bytes:
        return b'id: %d\ndata: %b,"choices":%b%b\n\n' % (self._position, self._opening, choices, end)
