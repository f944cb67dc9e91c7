"""A log as plain text: the default stream of `/api/chat`, and of `useChat` when it accepts plain text."""

from __future__ import annotations

from collections.abc import Iterable

from chatapi.api.http.streaming import ENDED_WELL, Aborted
from chatapi.errors import ChatError
from chatapi.model import VISIBLE_KINDS, Generation, Kind, Piece
from chatapi.model.log import cut

_TEXT = Kind.TEXT  # a member of an enumeration costs as much as a method call to read
TEXT_CHUNK_BYTES = 1024  # the seed's client reads 1,024 bytes at a time and decodes each read by itself


class TextEncoder:
    """The visible text of a log and nothing else, in chunks of whole code points."""

    media_type = "text/plain; charset=utf-8"

    def begin(self) -> bytes:
        return b""

    def pieces(self, pieces: list[Piece]) -> Iterable[bytes]:
        if len(pieces) == 1 and pieces[0].kind is _TEXT:
            data = pieces[0].data
        else:
            data = b"".join([piece.data for piece in pieces if piece.kind in VISIBLE_KINDS])
        if len(data) > TEXT_CHUNK_BYTES:
            return cut(data, TEXT_CHUNK_BYTES)
        return (data,) if data else ()

    def heartbeat(self) -> bytes:
        return b""  # any byte would be read as text

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            raise Aborted
        return b""

    def error(self, error: ChatError) -> bytes:
        raise Aborted
