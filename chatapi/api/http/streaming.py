"""Logs as HTTP responses, in the encoding of a dialect.

A response reads a log from a position, independently of its writer. Its body goes directly to the server's own
`send`: no middleware runs per piece of text. While the client keeps up, pieces are written in the pass of the event
loop in which they were committed, and no task runs either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.errors import ChatError, from_code
from chatapi.generations.reader import LogChunks
from chatapi.model import Generation, Piece, Status

EVENT_TEXT_BYTES = 16 * 1024  # of text in one event: a client may buffer an event whole before it reads it
RAW_SEND = "chatapi.send"  # where the scope holds the server's own `send`
# Where the scope holds a function that writes a part of a body at once, unless it would have to wait: `(bytes) -> bool`
WRITE_NOW = "chatapi.write_now"
# Where the scope holds a function that writes the head of a streamed response at once: `(status, headers) -> bool`.
# It returns False, and writes nothing, if the server's own `send` has to write the head.
WRITE_HEAD = "chatapi.write_head"
# Where the scope holds a function that watches for a disconnect until the end of the response: `() -> (() -> bool)`.
# The function that it returns tells whether the client has disconnected.
WATCH = "chatapi.watch"
RENEW = "chatapi.renew_deadline"  # where it holds a function that gives the client more time to send its request
# Where the scope of a WebSocket holds a function that takes the share of its unfinished messages: `(BodyShare) -> None`
USE_SHARE = "chatapi.use_share"
ABORTED = "chatapi.aborted"  # set in the scope of a response that was cut on purpose
# no-transform: a proxy that compresses would delay the text; X-Accel-Buffering: so would nginx
NO_BUFFERING = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
_NO_BUFFERING = [(name.lower().encode(), value.encode()) for name, value in NO_BUFFERING.items()]
ENDED_WELL = frozenset({Status.COMPLETED, Status.STOPPED})


class Aborted(Exception):
    """The body cannot end cleanly: the connection closes without the final chunk, which every client notices."""


class Encoder(Protocol):
    """The encoding of a log in one dialect."""

    media_type: str

    def begin(self) -> bytes:
        """Return the bytes before the first piece."""

    def pieces(self, pieces: list[Piece]) -> Iterable[bytes]:
        """Return the pieces, encoded, chunk by chunk."""

    def heartbeat(self) -> bytes:
        """Return the bytes that break a silence."""

    def end(self, generation: Generation) -> bytes:
        """Return the end of the body after the generation has ended; raise `Aborted` where the dialect has none."""

    def error(self, error: ChatError) -> bytes:
        """Return the end of the body of a log that cannot be read to its end; raise `Aborted` likewise."""


def stream_headers(media_type: str, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the raw headers of a streamed response: no length, no caching, no buffering on the way."""
    return [
        (b"content-type", media_type.encode()),
        *[(_field_name(name), value.encode("latin-1")) for name, value in headers.items()],
        *_NO_BUFFERING,
    ]


@lru_cache(256)
def _field_name(name: str) -> bytes:
    return name.lower().encode()


class LogResponse(Response):
    """A log, streamed from a position to its end."""

    def __init__(
        self,
        readings: LogChunks,
        encoder: Encoder,
        headers: dict[str, str],
        heartbeat_seconds: float,
        on_disconnect: Callable[[], Any] | None = None,
    ) -> None:
        """Prepare the response.

        Args:
            readings: the log; the response closes it.
            on_disconnect: called if the client disconnects before the end.
        """
        self.status_code = 200
        self.media_type = None
        self.background = None
        self.raw_headers = stream_headers(encoder.media_type, headers)
        self._readings = readings
        self._encoder = encoder
        self._heartbeat_seconds = heartbeat_seconds
        self._on_disconnect = on_disconnect
        self._time = asyncio.get_running_loop().time
        self._wrote_at = 0.0
        self._write_now: Callable[[bytes], bool]
        self._unwritten: list[bytes] = []  # encoded while the client could not take it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self.raw_headers = []  # a kilobyte, for as long as the answer lasts
        write: Send = scope.get(RAW_SEND, send)
        if (write_now := scope.get(WRITE_NOW)) is not None:
            self._write_now = write_now
            self._readings.sink = self._take
        task: asyncio.Task[None] | None = None
        watch: Callable[[], Callable[[], bool]] | None = scope.get(WATCH)
        if watch is not None:
            is_gone = watch()
        else:  # another server than this service's own
            task = asyncio.create_task(disconnected(receive), name="disconnect-watch")
            is_gone = task.done
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk, more in chunks:
                    if is_gone():
                        break
                    if chunk or not more:
                        await write({"type": "http.response.body", "body": chunk, "more_body": more})
        except Aborted:
            scope[ABORTED] = True  # the server cuts the connection, as the last part is missing
        finally:
            if self._on_disconnect is not None and is_gone():
                self._on_disconnect()
            if task is not None:
                task.cancel()

    def _take(self, pieces: list[Piece]) -> bool:
        """Write pieces at once; keep those that would have to wait, for the task, and return whether there are none."""
        for chunk in self._encoder.pieces(pieces):
            if self._unwritten or not self._write_now(chunk):
                self._unwritten.append(chunk)
        self._wrote_at = self._time()
        return not self._unwritten

    async def _chunks(self) -> AsyncGenerator[tuple[bytes, bool]]:
        """Yield the body and whether more follows. Empty chunks let the sender notice a disconnect in a silence."""
        encoder = self._encoder
        self._wrote_at = self._time()
        if first := encoder.begin():
            yield first, True
        try:
            async with aclosing(self._readings) as readings:
                async for reading in readings:
                    unwritten, self._unwritten = self._unwritten, []
                    for chunk in unwritten:
                        yield chunk, True
                    if reading.ended is not None:
                        for part in self._last_chunks(reading.pieces, reading.ended):
                            yield part
                        return
                    for chunk in encoder.pieces(reading.pieces):
                        yield chunk, True
                    if reading.pieces or unwritten:
                        self._wrote_at = self._time()
                    elif self._time() - self._wrote_at >= self._heartbeat_seconds:
                        yield encoder.heartbeat(), True
                        self._wrote_at = self._time()
                    else:
                        yield b"", True
        except ChatError as error:
            for chunk in self._unwritten:
                yield chunk, True
            yield encoder.error(error), False

    def _last_chunks(self, pieces: list[Piece], ended: Generation) -> Iterator[tuple[bytes, bool]]:
        """Yield the last text and the end; in one write if the end has no bytes of its own."""
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
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_whole(
    readings: LogChunks, receive: Receive, on_disconnect: Callable[[], Any] | None = None
) -> tuple[Generation, list[Piece]] | None:
    """Read a log to its end; return None, and call `on_disconnect`, if the client disconnects first.

    Raises:
        ChatError: the answer failed or was interrupted.
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
                    if on_disconnect is not None:
                        on_disconnect()
                    return None
    finally:
        gone.cancel()
    assert ended is not None, "a log is followed to its end"
    if ended.status in {Status.FAILED, Status.INTERRUPTED}:
        raise from_code(ended.error_code, ended.error_detail)
    return ended, pieces
