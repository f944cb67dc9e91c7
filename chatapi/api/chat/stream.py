"""A log as the server-sent events of `/api/chat`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatapi.api.http.serializers import left_out_json, usage_json
from chatapi.api.http.streaming import ENDED_WELL, EVENT_TEXT_BYTES
from chatapi.errors import ChatError, from_code
from chatapi.model import Generation, Kind, Piece, Status
from chatapi.model.log import cut
from chatapi.wire import sse


class EventEncoder:
    """Server-sent events: session, context, text, reasoning, refusal, tool_call, annotation, usage, done, error.

    The id of each event is the position after it.
    """

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, position: int = 0) -> None:
        self._generation = generation
        self._position = position

    def begin(self) -> bytes:
        generation = self._generation
        session = self._event(
            "session",
            {
                "session_id": generation.session_id,
                "generation_id": generation.id,
                "message_id": generation.message_id,
                "model": generation.model,
            },
        )
        left_out = left_out_json(generation)
        return session + (self._event("context", left_out) if left_out is not None else b"")

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            self._position = piece.position - len(piece.data)
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                self._position += len(text)
                data: dict[str, str | None]
                if piece.kind is Kind.EXTRA:
                    data = {"call_id": piece.call.id if piece.call is not None else None, "text": text.decode()}
                elif piece.call is None:
                    data = {"text": text.decode()}
                else:
                    data = {"call_id": piece.call.id, "name": piece.call.name, "arguments": text.decode()}
                yield self._event(piece.kind, data)

    def heartbeat(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        usage = usage_json(generation.usage)
        usage_event = self._event("usage", usage) if usage is not None else b""
        if generation.status not in ENDED_WELL:
            return usage_event + self.error(
                from_code(generation.error_code, generation.error_detail), generation.status
            )
        done = {"status": generation.status.value, "finish_reason": generation.finish_reason}
        return usage_event + self._event("done", done)

    def error(self, error: ChatError, status: Status = Status.FAILED) -> bytes:
        return self._event("error", {"status": status.value, "code": error.code, "detail": error.detail})

    def _event(self, name: str, data: Any) -> bytes:
        return sse.event(name, msgspec.json.encode(data), self._position)
