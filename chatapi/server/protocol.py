"""uvicorn's HTTP/1.1 protocol with bounds: on the time to receive a request and on its bytes outside of the body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chatapi.api.http.streaming import RENEW, WATCH, WRITE_HEAD, WRITE_NOW
from chatapi.server.connections import ConnectionTable
from chatapi.server.direct_writes import write_head, write_now
from chatapi.server.http10 import end_body_with_connection
from chatapi.server.transport import HeadWithBody

if TYPE_CHECKING:
    from chatapi.server.websocket import BoundedWebSocket

HEAD_BYTES = 64 * 1024  # of a request line and headers; the parser itself has no limit
FRAMING = 8  # bytes of framing per byte of body: more than the smallest chunks take
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"
MALFORMED = "The request is not valid HTTP/1.1."
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*0*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
MAX_DIGITS = 18  # of a length without leading zeros; the parser refuses longer ones
EMPTY_LINE = re.compile(END_OF_HEAD)  # behind which a body in chunks may end
HANDSHAKE = re.compile(rb"GET /v1/responses(?:\?[^ ]*)? HTTP/1\.1\r\n")  # the only request that may be upgraded
WEBSOCKET = re.compile(rb"\r\nupgrade[ \t]*:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
UPGRADE = re.compile(rb"(\r\n)upgrade[ \t]*:", re.IGNORECASE)


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of the connections of a server.

    `receive_seconds` lasts from the first byte of a request, or the opening of its connection, to its last byte.
    `is_proxy` returns whether an address is a trusted proxy, which has no limit of connections of its own.
    """

    receive_seconds: float
    table: ConnectionTable
    is_proxy: Callable[[str], bool]


def is_handshake(head: bytes) -> bool:
    """Return whether a head asks for a WebSocket where there is one, and has no body."""
    has_body = CONTENT_LENGTH.search(head) is not None or CHUNKED.search(head) is not None
    return HANDSHAKE.match(head) is not None and WEBSOCKET.search(head) is not None and not has_body


class Flow(FlowControl):
    """Flow control that does not read on while enough of the next requests has come, for any caller."""

    is_full = False

    def resume_reading(self) -> None:
        if not self.is_full:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a deadline for each request and limits for its head and chunk framing.

    It collects a whole head before the parser sees it. That bounds the head, and lets it ignore `Upgrade`, as a server
    may (RFC 9110, section 7.8), except of a WebSocket where there is one: the parser would stop there and read the body
    as the next request. Trailers are dropped: they must not change an authorised request (RFC 9110, section 6.5.1).
    """

    bounds: Bounds

    # Slots, since uvicorn has 26 attributes: with more than 30, Python gives each instance a dictionary of its own.
    __slots__ = (
        "_body",
        "_deadline",
        "_drops_body",
        "_head",
        "_in_body",
        "_left",
        "_next",
        "_received",
        "_tail",
        "_upgrades",
        "_websocket",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = b""
        self._next = b""  # bytes of requests that came before the response to the last one
        self._in_body = False
        self._upgrades = False  # the current head is a WebSocket's handshake
        self._left = 0  # bytes of the body that have not come yet; 0 if the head does not state its length
        self._tail = b""  # the last bytes of a body in chunks, which may be the beginning of an empty line
        self._received = 0  # bytes since the head
        self._body = 0  # of these, body
        self._drops_body = False  # the rest of it, until the end of the current response
        self._websocket: BoundedWebSocket | None = None  # that this connection has become

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(HeadWithBody(transport, self.loop))
        self.flow: Flow = Flow(self.transport)
        if not self.bounds.table.add(self, unlimited=self.bounds.is_proxy(self.address)):
            transport.abort()
            return
        self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self.bounds.table.remove(self)
        self._end_deadline()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves the timer, which keeps all of this, after a reset

    @property
    def address(self) -> str:
        return self.client[0] if self.client is not None else ""

    @property
    def unwritten_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    @property
    def written_bytes(self) -> int:
        return cast(HeadWithBody, self.transport).written_bytes

    def abort(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._next:
            self._keep(data)
            return
        while data and not self._next and not self.transport.is_closing():
            data = self._receive_body(data) if self._in_body else self._receive_head(data)

    def _receive_body(self, data: bytes) -> bytes:
        """Parse the part of `data` that belongs to the body; return the rest, which belongs to the next request."""
        if self._left:
            end = min(self._left, len(data))
            self._left -= end
            self._feed_body(data[:end])
            return data[end:]
        # In chunks: the parser finds the end, and would go on with the next request, which has to wait here.
        begin, offset = 0, len(self._tail)
        for found in EMPTY_LINE.finditer(self._tail + data):
            end = found.end() - offset
            self._feed_body(data[begin:end])
            if not self._in_body or self.transport.is_closing():
                return data[end:]
            begin = end
        self._tail = (self._tail + data[-len(END_OF_HEAD) :])[1 - len(END_OF_HEAD) :]
        self._feed_body(data[begin:])
        return b""

    def _feed_body(self, part: bytes) -> None:
        self._received += len(part)
        self._feed(part)
        if self._received - self._body > HEAD_BYTES + FRAMING * self._body:
            self._refuse()

    def _receive_head(self, data: bytes) -> bytes:
        """Collect a head and parse it when it is whole; return the bytes after it.

        A request that comes before the client has read most of the last response waits unparsed: each costs as
        much as many bytes.
        """
        if self.flow.write_paused or (self.cycle is not None and not self.cycle.response_complete):
            self._keep(data)
            return b""
        self._begin_deadline()
        searched = max(0, len(self._head) - len(END_OF_HEAD) + 1)
        self._head += data
        end = self._head.find(END_OF_HEAD, searched) + len(END_OF_HEAD)
        if len(self._head) > HEAD_BYTES and not len(END_OF_HEAD) <= end <= HEAD_BYTES:
            self._refuse()
            return b""
        if end < len(END_OF_HEAD):
            return b""
        head, rest = self._head[:end], self._head[end:]
        self._head = b""
        length = CONTENT_LENGTH.search(head) if CHUNKED.search(head) is None else None
        self._left = int(length[1][:MAX_DIGITS]) if length is not None else 0
        self._upgrades = is_handshake(head)
        self._feed(head if self._upgrades else UPGRADE.sub(b"\\1x-ignored-upgrade:", head))
        if self._websocket is not None:
            if rest:
                self._websocket.data_received(rest)
            return b""
        return rest

    def handle_websocket_upgrade(self) -> None:
        """Give the connection to a WebSocket. It keeps its place in the table."""

        # Here: a server that no client asks for a WebSocket needs no package for them.
        from chatapi.server.websocket import BoundedWebSocket

        def make(**parts: Any) -> BoundedWebSocket:
            lost = partial(self.bounds.table.remove, self)
            self._websocket = BoundedWebSocket(**parts, on_lost=lost, receive_seconds=self.bounds.receive_seconds)
            return self._websocket

        self._end_deadline()
        self.bounds.table.serve(self)
        self.ws_protocol_class = cast(Any, make)
        super().handle_websocket_upgrade()

    def _parse_next(self) -> None:
        data, self._next = self._next, b""
        self.flow.is_full = False
        self.flow.resume_reading()
        self.data_received(data)

    def _feed(self, data: bytes) -> None:
        """Parse received bytes as uvicorn does, with one warning per interval for all malformed requests."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._upgrades:
                self.handle_websocket_upgrade()
            else:  # CONNECT: this is not a proxy
                self._refuse_malformed()
        except httptools.HttpParserError:
            self._refuse_malformed()

    def _refuse_malformed(self) -> None:
        self.bounds.table.reports.warn("malformed request", self.address)
        self.send_400_response(MALFORMED)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            super().on_header(name, value)

    def _should_upgrade(self) -> bool:
        return self._upgrades  # uvicorn's own check reads one of several `Connection` lines

    def on_headers_complete(self) -> None:
        self._upgrades = self._upgrades and self.parser.should_upgrade()
        if self._upgrades:
            super().on_headers_complete()
            return
        self._in_body = True
        self._received = self._body = 0
        self._tail = b""
        super().on_headers_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        if scope["http_version"] == "1.0":
            end_body_with_connection(self.cycle)
        else:
            scope[WRITE_HEAD] = partial(write_head, self.cycle)
            scope[WRITE_NOW] = partial(write_now, self.cycle)
        scope[WATCH] = partial(self._watch, self.cycle)
        scope[RENEW] = self._renew_deadline

    def _watch(self, cycle: RequestResponseCycle) -> Callable[[], bool]:
        """Read on until the end of the response; return a function that tells whether the client has disconnected.

        A disconnect shows only while the connection is read. So the rest of the request's body is dropped, and the
        beginning of the next request is kept, as far as it takes no more than a head.
        """
        if cycle is self.cycle and not cycle.response_complete:
            self._drops_body = True
            cycle.body = bytearray()
            self.flow.resume_reading()
        return lambda: cycle.disconnected

    def _keep(self, data: bytes) -> None:
        """Keep bytes of the next request for the end of the response; read on for a head, to notice a disconnect."""
        self._next += data
        if len(self._next) > HEAD_BYTES:
            self.flow.is_full = True
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if not self._drops_body:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrades:
            return
        self._in_body = False
        self._end_deadline()
        if not self.cycle.response_complete:  # else it waits already: its request was refused before its end
            self.bounds.table.serve(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._drops_body = False
        self.bounds.table.wait(self)
        super().on_response_complete()
        self._parse_next_soon()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is None or self.cycle.response_complete:
            self.flow.resume_reading()
            self._parse_next_soon()

    def _parse_next_soon(self) -> None:
        if self._next and self.flow.write_paused:
            self.flow.pause_reading()  # `resume_writing` continues
        elif self._next:
            self.loop.call_soon(self._parse_next)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # inside a response, a second one would be read as part of it
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def _begin_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.bounds.receive_seconds, self.transport.abort)

    def _renew_deadline(self) -> None:
        if self._deadline is not None:
            self._end_deadline()
            self._begin_deadline()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_protocol(
    receive_seconds: float, table: ConnectionTable, is_proxy: Callable[[str], bool]
) -> type[BoundedProtocol]:
    """Return the protocol of a server with these bounds: uvicorn makes the protocols itself, from a class."""
    bounds = Bounds(receive_seconds, table, is_proxy)
    return type("BoundedProtocol", (BoundedProtocol,), {"__slots__": (), "bounds": bounds})
