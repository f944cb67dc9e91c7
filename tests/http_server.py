"""A server for tests of the HTTP client: each connection is played by a coroutine of the test."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chatapi.http_client import HTTPClient

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"


class Peer:
    """The server's side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Return the head of the next request, and read its body if it has a length. b"" if none comes."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                head += await self.reader.readexactly(int(value))
        return head

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Return when the client has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Play = Callable[[Peer], Awaitable[None]]


class Server:
    """A running server. `peers` are its connections so far."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._plays: set[asyncio.Task[None]] = set()
        self.port = 0
        self.scheme = "http"
        self.peers: list[Peer] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1/chat"

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        task = asyncio.ensure_future(self._run(peer))
        self._plays.add(task)

    async def _run(self, peer: Peer) -> None:
        try:
            with suppress(ConnectionError):
                await self._play(peer)
        finally:
            peer.writer.transport.abort()

    async def end(self) -> None:
        """Wait until every play is over; raise what one of them raised."""
        await asyncio.gather(*self._plays)

    async def stop(self) -> None:
        for task in self._plays:
            task.cancel()
        await asyncio.gather(*self._plays, return_exceptions=True)


@asynccontextmanager
async def serving(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on loopback; each connection is played by `play`, and closed at its end."""
    server = Server(play)
    listener = await asyncio.start_server(server.connect, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()
        await turn_the_loop()  # closes aborted connections


def answering(*responses: bytes) -> Play:
    """Return a play that answers one request of a connection with each of the responses, and then waits for its end."""

    async def play(peer: Peer) -> None:
        for response in responses:
            if not await peer.request():
                return
            await peer.send(response)
        await peer.closed()

    return play


@asynccontextmanager
async def client_of(connect_seconds: float = 5.0, proxy: str | None = None) -> AsyncIterator[HTTPClient]:
    """Yield a client, and close it."""
    client = HTTPClient(connect_seconds, proxy)
    try:
        yield client
    finally:
        client.close()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until a condition is met."""
    while not condition():  # noqa: ASYNC110 - of the operating system, which sets no event
        await asyncio.sleep(0)


async def turn_the_loop(times: int = 50) -> None:
    """Let the loop run for some passes."""
    for _ in range(times):
        await asyncio.sleep(0)


async def no_socket_to(port: int) -> None:
    """Return when this process has no socket that is connected, or connecting, to this port."""
    await until(lambda: not sockets_to(port))


def sockets_to(port: int) -> int:
    """Return how many sockets of this process are connected, or connecting, to this port."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    ours = {link[8:-1] for link in links if link.startswith("socket:[")}
    count = 0
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        count += fields[9] in ours and int(fields[2].partition(":")[2], 16) == port
    return count
