"""uvicorn's WebSocket protocol with bounds: on the frames of a message, and on pongs that its client does not read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

MAX_FRAMES = 4096  # of one message: empty frames count, whose bytes have no bound
UNREAD_BYTES = 256 * 1024  # of answers to pings and to messages that a client may leave unread
_TOO_BIG = 1009  # the status of a message that is too large (RFC 6455, section 7.4.1)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A connection after its handshake. `on_lost` is called when it has closed.

    uvicorn bounds the bytes of a message (`ws_max_size`), and reads no more of the connection while one waits. Its own
    log lines would have the query of the handshake, which may hold anything.
    """

    def __init__(self, *, on_lost: Callable[[], None], **parts: Any) -> None:
        super().__init__(**parts)
        self._on_lost = on_lost
        self.logger = logging.getLogger("chatapi.websocket")
        self.logger.setLevel(logging.WARNING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()
        super().connection_lost(exc)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAMES:
            self.conn.fail(_TOO_BIG, "too many frames")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()
            return
        super().handle_ping()
