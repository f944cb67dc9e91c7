"""A small HTTP/1.1 server: one handler for all requests, which may write anything to the socket, faults included."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, cast
from urllib.parse import unquote

import httptools

BODYLESS: Final = frozenset({204, 304})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Headers(Mapping[str, str]):
    """Headers of a request; names are found in any case, and values of repeated ones are joined by commas."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}

    def add(self, name: str, value: str) -> None:
        """Add a header line."""
        known, before = self._values.get(name.lower(), (name, None))
        self._values[name.lower()] = (known, value if before is None else f"{before}, {value}")

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][1]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._values.values())

    def __len__(self) -> int:
        return len(self._values)


class Exchange:
    """A request, and the response that a handler writes to it."""

    def __init__(self, connection: Connection) -> None:
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers = Headers()
        self.body = bytearray()
        self.began = False  # the head of the response was written
        self.keep_alive = True
        self._connection = connection
        self._chunked = False

    @property
    def transport(self) -> asyncio.Transport:
        """The connection, for faults."""
        return self._connection.transport

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Write the status line and the headers. The body is chunked unless they contain Content-Length.

        Raises:
            ConnectionError: the client disconnected; so do the other methods.
        """
        self.began = True
        names = {name.lower() for name in headers}
        self._chunked = "content-length" not in names and status not in BODYLESS
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if self._chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
        await self.write_raw(f"HTTP/1.1 {status} {phrase}\r\n{''.join(lines)}\r\n".encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Write a piece of the body."""
        if data:
            await self.write_raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """End the body."""
        if self._chunked:
            await self.write_raw(b"0\r\n\r\n")

    async def write_raw(self, data: bytes) -> None:
        """Write bytes as they are, and wait while the client is slow to read."""
        await self._connection.write(data)


Handler = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One connection: a request, its response, the next request."""

    transport: asyncio.Transport

    def __init__(self, handler: Handler, server: Server) -> None:
        self._handler = handler
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._exchange = Exchange(self)
        self._writable: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise ConnectionResetError("The client disconnected")
        self.transport.write(data)
        if self._writable is not None:
            await self._writable

    # The event loop calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.write(BAD_REQUEST)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self.resume_writing()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # The parser calls these

    def on_url(self, url: bytes) -> None:
        path, _, self._exchange.query = url.decode("latin-1").partition("?")
        self._exchange.path = unquote(path)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._exchange.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._exchange.method = self._parser.get_method().decode()
        self._exchange.keep_alive = self._parser.should_keep_alive()
        if self._exchange.headers.get("expect", "").lower() == "100-continue":
            self.transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        self._exchange.body += data
        if len(self._exchange.body) > self._server.most_bytes:
            raise ValueError("the body is too large")

    def on_message_complete(self) -> None:
        if self.task is not None:
            raise ValueError("requests are answered one at a time")
        exchange, self._exchange = self._exchange, Exchange(self)
        self.task = asyncio.get_running_loop().create_task(self._answer(exchange), name="simulator-answer")

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        finally:
            self.task = None
        if not exchange.keep_alive:
            self.transport.close()


class Server:
    """Listens, and has a handler answer every request. A client that disconnects cancels the handler."""

    def __init__(self, handler: Handler, most_bytes: int) -> None:
        self._handler = handler
        self._listener: asyncio.Server | None = None
        self.most_bytes = most_bytes
        self.connections: set[Connection] = set()

    async def start(self, host: str, port: int, backlog: int) -> int:
        """Start listening, and return the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self._handler, self), host, port, backlog=backlog)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self, seconds: float) -> None:
        """Stop listening, let handlers end for so many seconds, then close every connection."""
        if self._listener is not None:
            self._listener.close()
        running = {connection.task for connection in self.connections if connection.task is not None}
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for connection in list(self.connections):
            connection.transport.abort()
        if self._listener is not None:
            await self._listener.wait_closed()
