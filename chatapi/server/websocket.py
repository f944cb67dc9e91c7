"""uvicorn's WebSocket protocol with bounds: on messages that are not complete yet or wait, and on pings and pongs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from chatapi.api.http.streaming import USE_SHARE
from chatapi.errors import Overloaded
from chatapi.limits.body_budget import FREE_BYTES, BodyShare

MAX_FRAMES = 4096  # of one message: empty frames count, whose bytes have no bound
MAX_CONTROL_FRAMES = 100  # pings and pongs in a second
PARSED_BYTES = 8 * 1024  # at once: the parser moves all of them with each frame
UNREAD_BYTES = 256 * 1024  # of answers to pings that a client may leave unread
# Statuses of a close (RFC 6455, section 7.4.1, and IANA).
_TOO_BIG, _TOO_SLOW, _TOO_OFTEN, _NOT_TEXT, _TRY_LATER = 1009, 1008, 1008, 1007, 1013

logger = structlog.get_logger()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A connection after its handshake. `on_lost` is called when it has closed.

    uvicorn bounds the bytes of a message (`ws_max_size`), and reads no more of the connection while one waits. Here
    nothing more is parsed either: one read may have thousands of messages. An unfinished message counts towards the
    memory for unparsed bodies, like a body of HTTP, and has to be complete within `receive_seconds`. uvicorn's own log
    lines would have the query of the handshake, which may hold anything.
    """

    def __init__(self, *, on_lost: Callable[[], None], receive_seconds: float, **parts: Any) -> None:
        super().__init__(**parts)
        self._on_lost = on_lost
        self._receive_seconds = receive_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._share: BodyShare | None = None
        self._unparsed = b""  # while a message waits for the application
        self._control_frames = 0  # since `_second` began
        self._second = 0.0
        self.logger = logging.getLogger("chatapi.websocket")
        self.logger.setLevel(logging.WARNING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()
        self._hold(0)
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope)[USE_SHARE] = self._use_share

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.abort()  # a client waits for the response (RFC 6455, section 4.1)
            return
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:  # the library refuses it for its size, and tells uvicorn nothing
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()
            return
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Parse what has come, up to a message for the application to take."""
        while self._unparsed and not (self.read_paused or self.transport.is_closing()):
            part, self._unparsed = self._unparsed[:PARSED_BYTES], self._unparsed[PARSED_BYTES:]
            super().data_received(part)
        unfinished = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        self._hold(0 if self._unparsed else unfinished)  # it waits for the application, not for the client

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._parse()
            if not self.read_paused:
                self.transport.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self._unparsed:
            self._parse()  # a close resumes reading

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAMES:
            self._fail(_TOO_BIG, "too many frames")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            # Here, because uvicorn logs a traceback, which a client could write as often as it likes.
            try:
                self.frames = [b"".join(self.frames)]
                self.frames[0].decode()
            except UnicodeDecodeError:
                self.frames = []
                logger.info("invalid websocket message", reason="not UTF-8")
                self._fail(_NOT_TEXT, "invalid UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()
            return
        super().handle_ping()
        self._count_control_frame()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_control_frame()

    def _count_control_frame(self) -> None:
        if self.loop.time() >= self._second + 1:
            self._second, self._control_frames = self.loop.time(), 0
        self._control_frames += 1
        if self._control_frames > MAX_CONTROL_FRAMES:
            self._fail(_TOO_OFTEN, "too many pings or pongs")

    def _use_share(self, share: BodyShare) -> None:
        self._share = share

    def _hold(self, unfinished_bytes: int) -> None:
        """Count the bytes of an unfinished message, and give it its deadline; 0: there is none."""
        if not unfinished_bytes or self.transport.is_closing():
            if self._share is not None:
                self._share.close()
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            return
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._receive_seconds, self._fail, _TOO_SLOW, "message too slow")
        try:
            if self._share is not None:
                self._share.grow(unfinished_bytes)
            elif unfinished_bytes > FREE_BYTES:  # before the handshake is answered
                self.transport.abort()
        except Overloaded:
            self._fail(_TRY_LATER, "too many large messages are unfinished")

    def _fail(self, status: int, reason: str) -> None:
        """Close the connection with a status."""
        if not (self.close_sent or self.transport.is_closing()):
            self.conn.fail(status, reason)
            self.handle_parser_exception()
