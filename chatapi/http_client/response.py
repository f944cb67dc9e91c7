"""A response: its head, and its body as it arrives, pushed to a receiver or pulled by a reader."""

from __future__ import annotations

import asyncio
from functools import cached_property, lru_cache
from typing import Protocol

from chatapi.http_client.errors import Disconnected, TransportError

BUFFER_BYTES = 64 * 1024  # that wait for a reader before the server has to wait too
DRAIN_BYTES = 64 * 1024  # of an unwanted rest that are read so that the connection can be used again


class Receiver(Protocol):
    """Takes a body as it arrives, in the same pass of the event loop. Its methods do not block and raise nothing."""

    def receive(self, data: bytes) -> None:
        """Take the body bytes of one network read, at least one. It may close the response, or pause it."""

    def end(self, error: TransportError | None) -> None:
        """Take the end: of a complete body (None), or of one that broke off. It is called once, unless closed."""


class Control(Protocol):
    """What a response needs of its connection."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...


class Response:
    """One response. Close it unless it has ended; closing closes the socket at once.

    `raw_headers` has the header lines in order, as they were sent. A complete response gives its connection back by
    itself, also while bytes of its body wait here to be read.
    """

    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]], connection: Control) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.ended = False
        self._error: TransportError | None = None
        self._connection = connection
        self.receiver: Receiver | None = None  # set by `push_to`
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._reader: asyncio.Future[None] | None = None

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; values of repeated ones are joined by commas (RFC 9110, section 5.2)."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = _name(raw_name), raw_value.decode("latin-1").strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    @property
    def media_type(self) -> str:
        """The media type in lower case without its parameters; empty if the server named none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Return the bytes of the body that have arrived, at least one; none at its end.

        Raises:
            TransportError: the body broke off. Everything that came before was returned.
        """
        while not self._buffer:
            if self.ended:
                if self._error is not None:
                    raise self._error
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._take_buffer()
        if not self.ended:
            self._connection.resume()
        return data

    def push_to(self, receiver: Receiver) -> None:
        """Give the body to a receiver from now on, beginning with the bytes that have arrived.

        The headers are forgotten: they would take as much memory as the rest of a running answer's connection.
        """
        self.raw_headers = []
        vars(self).pop("headers", None)
        self.receiver = receiver
        if self._buffer:
            receiver.receive(self._take_buffer())
            if self.receiver is not receiver:  # it has closed the response
                return
        if self.ended:
            receiver.end(self._error)
        else:
            self._connection.resume()

    def pause(self) -> None:
        """Stop reading from the network: the receiver is slow. One more read may arrive."""
        if not self.ended:
            self._connection.pause()

    def resume(self) -> None:
        """Read from the network again."""
        if not self.ended:
            self._connection.resume()

    def drain(self, seconds: float) -> None:
        """Discard the rest of the body; close the connection unless it ends within so many seconds and DRAIN_BYTES."""
        if not self.ended:
            timer = asyncio.get_running_loop().call_later(seconds, self.close)
            self.push_to(_Drain(self, timer))

    def close(self) -> None:
        """Close the connection at once, unless the response has ended. Bytes that wait to be read are dropped."""
        self._buffer.clear()
        if not self.ended:
            self.receiver = None
            self.finish(Disconnected("the response was closed"))
            self._connection.abort()

    # For its connection

    def feed(self, data: bytes) -> None:
        """Keep bytes of the body, while there is no receiver for them, until they are read."""
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFER_BYTES:
            self._connection.pause()
        self._wake()

    def finish(self, error: TransportError | None) -> None:
        """Take the end of the body."""
        if not self.ended:
            self.ended, self._error = True, error
            self._wake()
            if self.receiver is not None:
                self.receiver.end(error)

    def _take_buffer(self) -> bytes:
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        return data

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


@lru_cache(256)
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


class _Drain:
    """Discards the rest of a body."""

    def __init__(self, response: Response, timer: asyncio.TimerHandle) -> None:
        self._response = response
        self._timer = timer
        self._left = DRAIN_BYTES

    def receive(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._timer.cancel()
            self._response.close()

    def end(self, error: TransportError | None) -> None:
        self._timer.cancel()
