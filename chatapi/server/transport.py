"""The transport of an HTTP connection: a head and the first bytes of its body are one system call and one packet."""

from __future__ import annotations

import asyncio
from typing import Any

LARGE_WRITE_BYTES = 64 * 1024  # a body that is not copied to join it with its head


class HeadWithBody(asyncio.Transport):
    """A transport that joins a response's head with the first bytes of its body, and counts all bytes.

    uvicorn writes them one after the other, and each write is a system call and a packet. The head is held back until
    the next write, at most for the rest of this turn of the loop.
    """

    __slots__ = ("_event_loop", "_head", "_transport", "written_bytes")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._event_loop = loop
        self._head = b""
        self.written_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data`, a head with the next write; drop it if the connection is closed."""
        transport = self._transport
        if transport.is_closing():
            return
        self.written_bytes += len(data)
        if self._head:
            if len(data) > LARGE_WRITE_BYTES:
                self._flush()
            else:
                self._head, data = b"", self._head + data
        elif data[:9] == b"HTTP/1.1 ":
            self._head = bytes(data)
            self._event_loop.call_soon(self._flush)
            return
        transport.write(data)

    def close(self) -> None:
        """Close after everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            head, self._head = self._head, b""
            self._transport.write(head)

    # As the transport does

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()
