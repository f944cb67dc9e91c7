"""Answers on the wire: one log, read in the dialect that the caller speaks.

A response reads a log from a position and knows nothing of who writes it. Its body goes straight to the server's own
`send`: per piece of text there is no middleware, no task and no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.serializers import usage_json
from chatapi.errors import ChatError, PositionOutOfRange, from_code
from chatapi.generations.running import LogChunk
from chatapi.model import VISIBLE_KINDS, Generation, Piece, Status
from chatapi.model.log import character_end, cut
from chatapi.wire import sse

TEXT_CHUNK_BYTES = 1024  # the seed's client reads so many at a time and decodes each read alone
EVENT_TEXT_BYTES = 16 * 1024  # of text in one event: a client may hold an event whole before it looks at it
RAW_SEND = "chatapi.send"  # where the scope holds the server's own `send`
ABORTED = "chatapi.aborted"  # set in the scope of a response that was cut on purpose
# no-transform: a proxy that compresses would hold the text back; X-Accel-Buffering: nginx would, anyway
NO_BUFFERING = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
ENDED_WELL = frozenset({Status.COMPLETED, Status.STOPPED})


class Aborted(Exception):
    """The body cannot be ended cleanly: the connection is closed without its final chunk, which every client sees."""


class Encoder(Protocol):
    """One dialect."""

    media_type: str

    def begin(self) -> bytes:
        """What goes before everything else."""

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        """The text, chunk by chunk."""

    def quiet(self) -> bytes:
        """What breaks a silence."""

    def end(self, generation: Generation) -> bytes:
        """What tells how it ended. Raises `Aborted` where the dialect has no word for that."""

    def error(self, error: ChatError) -> bytes:
        """What tells that the log cannot come to its end. Raises `Aborted` likewise."""


class TextEncoder:
    """The seed's dialect: what the model says and nothing else, in chunks of whole characters.

    `offset` bytes are left out at the beginning: the caller has them.
    """

    media_type = "text/plain; charset=utf-8"

    def __init__(self, offset: int = 0) -> None:
        self._skip = offset

    def begin(self) -> bytes:
        return b""

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        visible_text = [piece.data for piece in pieces if piece.kind in VISIBLE_KINDS]
        data = visible_text[0] if len(visible_text) == 1 else b"".join(visible_text)
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if len(data) > TEXT_CHUNK_BYTES:
            yield from cut(data, TEXT_CHUNK_BYTES)
        elif data:
            yield data

    def quiet(self) -> bytes:
        return b""  # any byte would be text

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            raise Aborted
        return b""

    def error(self, error: ChatError) -> bytes:
        raise Aborted


class EventEncoder:
    """Server-sent events: session, text, reasoning, refusal, tool_call, annotation, usage, done, error.

    Each id is the position after it.
    """

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, position: int = 0) -> None:
        self._generation = generation
        self._position = position

    def begin(self) -> bytes:
        generation = self._generation
        return self._event(
            "session",
            {
                "session_id": generation.session_id,
                "generation_id": generation.id,
                "message_id": generation.message_id,
                "model": generation.model,
            },
        )

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            self._position = piece.position - len(piece.data)
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                self._position += len(text)
                if piece.call is None:
                    data = {"text": text.decode()}
                else:
                    data = {"call_id": piece.call.id, "name": piece.call.name, "arguments": text.decode()}
                yield self._event(piece.kind.value, data)

    def quiet(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        usage = usage_json(generation.usage)
        told = self._event("usage", usage) if usage is not None else b""
        if generation.status not in ENDED_WELL:
            return told + self.error(from_code(generation.error_code, generation.error_detail), generation.status)
        done = {"status": generation.status.value, "finish_reason": generation.finish_reason}
        return told + self._event("done", done)

    def error(self, error: ChatError, status: Status = Status.FAILED) -> bytes:
        return self._event("error", {"status": status.value, "code": error.code, "detail": error.detail})

    def _event(self, name: str, data: Any) -> bytes:
        return sse.event(name, msgspec.json.encode(data), self._position)


def check_offset(pieces: list[Piece], offset: int) -> None:
    """Raise `PositionOutOfRange` when nobody can have received so many bytes of text."""
    if offset > sum(len(piece.data) for piece in pieces if piece.kind in VISIBLE_KINDS):
        raise PositionOutOfRange


def check_position(pieces: list[Piece], position: int) -> None:
    """Raise `PositionOutOfRange` unless an event may end there: between two characters of the log so far."""
    begin = 0
    for piece in pieces:
        if position <= piece.position:
            if character_end(piece.data, position - begin) != position - begin:
                raise PositionOutOfRange
            return
        begin = piece.position
    if position != begin:
        raise PositionOutOfRange


def stream_headers(media_type: str, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a streamed response, whose length is not known."""
    all_headers = {"Content-Type": media_type, **headers, **NO_BUFFERING}
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in all_headers.items()]


class LogResponse(Response):
    """A log, streamed from a position to its end.

    `left` is called when the client goes away before that.
    """

    def __init__(
        self,
        readings: AsyncGenerator[LogChunk],
        encoder: Encoder,
        headers: dict[str, str],
        heartbeat_seconds: float,
        left: Callable[[], Any] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = None
        self.background = None
        self.raw_headers = stream_headers(encoder.media_type, headers)
        self._readings = readings
        self._encoder = encoder
        self._heartbeat_seconds = heartbeat_seconds
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        write: Send = scope.get(RAW_SEND, send)
        gone: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk, more in chunks:
                    if gone is not None and gone.done():
                        break
                    if chunk or not more:
                        await write({"type": "http.response.body", "body": chunk, "more_body": more})
                    if gone is None and more:  # an answer that comes in one piece needs no watch
                        gone = asyncio.create_task(disconnected(receive), name="disconnect-watch")
        except Aborted:
            scope[ABORTED] = True  # returning without the last part makes the server cut the connection
        finally:
            if gone is not None:
                if gone.done() and self._left is not None:
                    self._left()
                gone.cancel()

    async def _chunks(self) -> AsyncGenerator[tuple[bytes, bool]]:
        """The body, and whether there is more of it. Empty chunks let the sender look around in a silence."""
        encoder = self._encoder
        time = asyncio.get_running_loop().time
        spoke = time()
        if first := encoder.begin():
            yield first, True
        try:
            async with aclosing(self._readings) as readings:
                async for reading in readings:
                    if reading.ended is not None:
                        for part in self._last_chunks(reading.pieces, reading.ended):
                            yield part
                        return
                    for chunk in encoder.pieces(reading.pieces):
                        yield chunk, True
                    if reading.pieces:
                        spoke = time()
                    elif time() - spoke >= self._heartbeat_seconds:
                        yield encoder.quiet(), True
                        spoke = time()
                    else:
                        yield b"", True
        except ChatError as error:
            yield encoder.error(error), False

    def _last_chunks(self, pieces: list[Piece], ended: Generation) -> Iterator[tuple[bytes, bool]]:
        """The last of the text and the end, the two in one write where the end has no bytes of its own."""
        held = b""
        for chunk in self._encoder.pieces(pieces):
            if held:
                yield held, True
            held = chunk
        try:
            end = self._encoder.end(ended)
        except Aborted:
            yield held, True
            raise
        if end:
            yield held, True
            held = end
        yield held, False


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_whole(
    readings: AsyncGenerator[LogChunk], receive: Receive, left: Callable[[], Any] | None = None
) -> tuple[Generation, list[Piece]] | None:
    """A log read to its end, or None where the client went away first; then `left` is called.

    Raises:
        ChatError: what made the answer fail, or interrupted it.
    """
    gone = asyncio.create_task(disconnected(receive), name="disconnect-watch")
    pieces: list[Piece] = []
    ended = None
    try:
        async with aclosing(readings):
            async for reading in readings:
                pieces += reading.pieces
                ended = reading.ended
                if gone.done():
                    if left is not None:
                        left()
                    return None  # nobody is there to read it
    finally:
        gone.cancel()
    assert ended is not None, "a log is followed to its end"
    if ended.status in {Status.FAILED, Status.INTERRUPTED}:
        raise from_code(ended.error_code, ended.error_detail)
    return ended, pieces
