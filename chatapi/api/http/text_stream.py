"""A log as plain text: the default stream of `/api/chat`, and of `useChat` when it accepts plain text."""

from __future__ import annotations

from collections.abc import Iterator

from chatapi.api.http.streaming import ENDED_WELL, Aborted
from chatapi.errors import ChatError
from chatapi.model import VISIBLE_KINDS, Generation, Piece
from chatapi.model.log import cut

TEXT_CHUNK_BYTES = 1024  # the seed's client reads 1,024 bytes at a time and decodes each read by itself


class TextEncoder:
    """The visible text of a log and nothing else, in chunks of whole code points."""

    media_type = "text/plain; charset=utf-8"

    def begin(self) -> bytes:
        return b""

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        visible_text = [piece.data for piece in pieces if piece.kind in VISIBLE_KINDS]
        data = visible_text[0] if len(visible_text) == 1 else b"".join(visible_text)
        if len(data) > TEXT_CHUNK_BYTES:
            yield from cut(data, TEXT_CHUNK_BYTES)
        elif data:
            yield data

    def heartbeat(self) -> bytes:
        return b""  # any byte would be read as text

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            raise Aborted
        return b""

    def error(self, error: ChatError) -> bytes:
        raise Aborted
