"""Responses to HTTP/1.0 clients, which know no chunks (RFC 9112, section 6.1): the end of the connection ends the body.

A connection that closes would make a body that was cut look complete, so it is reset until the last byte is written.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_RESET = struct.pack("ii", 1, 0)  # closing the socket, also by the end of the process, resets the connection
_CLOSE = struct.pack("ii", 0, 0)


def end_body_with_connection(cycle: RequestResponseCycle) -> None:
    """Have the response of `cycle`, if it states no length, be sent without chunks. Call it before the response."""
    send = cycle.send
    is_unframed = False

    async def send_unframed(message: Any) -> None:
        nonlocal is_unframed
        if message["type"] == "http.response.start":
            is_unframed = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if is_unframed:
                cycle.chunked_encoding = False
                _linger(cycle, _RESET)
        elif is_unframed:
            cycle.expected_content_length = len(message.get("body", b""))
            if not message.get("more_body", False):
                await write_out(message | {"more_body": True})
                message = {"type": "http.response.body"}
        await send(message)

    async def write_out(message: Any) -> None:
        """Write the last part, and wait until the system has taken all: until then, the connection may be cut."""
        await send(message)
        if not cycle.transport.is_closing():
            cycle.transport.set_write_buffer_limits(0)
            await cycle.flow.drain()
        cycle.expected_content_length = 0
        _linger(cycle, _CLOSE)

    cycle.send = send_unframed  # type: ignore[method-assign]


def _linger(cycle: RequestResponseCycle, how: bytes) -> None:
    if not cycle.transport.is_closing():
        cycle.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
