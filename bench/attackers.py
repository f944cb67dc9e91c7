"""Attacks on the service: a process that runs one attack. `python -m bench.attackers NAME PORT SECONDS`.

All traffic goes to 127.0.0.1 and comes from 127.0.0.2, so that limits per address do not affect the honest caller. Each
attack is bounded: at most `CONNECTIONS` connections or `BYTES_PER_SECOND`, and it ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import secrets
import socket
import struct
import sys
from collections.abc import Awaitable, Callable

import uvloop

ADDRESS = "127.0.0.2"
CONNECTIONS = 1000
SENDERS = 8  # connections of an attack by volume
UNFINISHED = 60  # connections that each hold an incomplete body
BYTES_PER_SECOND = 10 * 1024 * 1024
WRITE_BYTES = 64 * 1024
REQUESTS_PER_SECOND = 2000
MIB = 1024 * 1024
NO_LINGER = struct.pack("ii", 1, 0)  # the end of the connection is a reset


class Budget:
    """Paces all senders of one attack together."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._next = 0.0

    async def take(self, amount: float) -> None:
        """Return when `amount` more fits the rate."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + amount / self._per_second
        if self._next > now:
            await asyncio.sleep(self._next - now)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[[int], Awaitable[None]]


async def connect(port: int) -> Connection:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESS, 0))


def invented_key() -> str:
    """A well-formed key that no upstream accepts."""
    return "sk-proj-" + secrets.token_hex(78)


def head(method: str, path: str, length: int | None = None, key: str | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def forever(body: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Repeat `body`; a refused or closed connection is an expected result of an attack."""

    async def repeat() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await body()
            await asyncio.sleep(0.01)

    return repeat


async def send_volume(port: int, path: str, body: bytes, with_key: bool) -> None:
    """Send `body` again and again over `SENDERS` connections at `BYTES_PER_SECOND` in all."""
    budget = Budget(BYTES_PER_SECOND)

    @forever
    async def sender() -> None:
        reader, writer = await connect(port)
        drain = asyncio.create_task(discard(reader))
        try:
            while not drain.done():
                writer.write(head("POST", path, len(body), invented_key() if with_key else None))
                for start in range(0, len(body), WRITE_BYTES):
                    await budget.take(WRITE_BYTES)
                    writer.write(body[start : start + WRITE_BYTES])
                    await writer.drain()
        finally:
            drain.cancel()
            writer.close()

    await asyncio.gather(*(sender() for _ in range(SENDERS)))


async def discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(WRITE_BYTES):
            pass


async def send_requests(port: int, request: Callable[[], bytes]) -> None:
    """Send small requests, at most `REQUESTS_PER_SECOND`, each with another connection every 100 requests."""
    budget = Budget(REQUESTS_PER_SECOND)

    @forever
    async def sender() -> None:
        reader, writer = await connect(port)
        drain = asyncio.create_task(discard(reader))
        try:
            for _ in range(100):
                await budget.take(1)
                if drain.done():
                    break
                writer.write(request())
                await writer.drain()
        finally:
            drain.cancel()
            writer.close()

    await asyncio.gather(*(sender() for _ in range(SENDERS * 4)))


async def reset_connections(port: int) -> None:
    """Send one request on each connection, read its response and reset the connection: `REQUESTS_PER_SECOND` in all."""
    budget = Budget(REQUESTS_PER_SECOND)

    @forever
    async def sender() -> None:
        await budget.take(1)
        reader, writer = await connect(port)
        try:
            writer.write(head("GET", "/livez"))
            await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    await asyncio.gather(*(sender() for _ in range(SENDERS * 4)))


async def hold(port: int, count: int, start: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Open `count` connections, run `start` on each and keep them open; reopen those that the server closes."""

    @forever
    async def holder() -> None:
        reader, writer = await connect(port)
        try:
            await start(writer)
            await reader.read(1)  # one byte at most: this client does not read its response
            if not reader.at_eof():
                await asyncio.sleep(3600)
        finally:
            writer.close()

    await asyncio.gather(*(holder() for _ in range(count)))


def many_items(size: int) -> bytes:
    """A Responses request with as many input items as fit."""
    item = json.dumps({"role": "user", "content": "x"}) + ","
    return b'{"model":"bench-3-0","input":[' + (item * (size // len(item))).encode()[:-1] + b"]}"


def many_messages(size: int) -> bytes:
    """A useChat request with as many messages as fit."""
    message = json.dumps({"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}) + ","
    return b'{"id":"chat","messages":[' + (message * (size // len(message))).encode()[:-1] + b"]}"


def many_fields(size: int) -> bytes:
    """A body of many unknown fields, each of which is a validation error."""
    return b"{" + b",".join(b'"f%d":0' % number for number in range(size // 12)) + b"}"


def tiny_chat(key: str) -> bytes:
    body = json.dumps({"developer_message": "x", "user_message": "x", "model": "bench-3-0", "api_key": key}).encode()
    return head("POST", "/api/chat", len(body)) + body


def key_test() -> bytes:
    body = json.dumps({"api_key": invented_key()}).encode()
    return head("POST", "/api/test-key", len(body)) + body


async def unfinished(writer: asyncio.StreamWriter) -> None:
    writer.write(head("POST", "/v1/responses", 8 * MIB, invented_key()))
    for _ in range(8 * MIB // WRITE_BYTES - 1):
        writer.write(b" " * WRITE_BYTES)
        await writer.drain()


async def silent(_: asyncio.StreamWriter) -> None:
    return


async def slow_head(writer: asyncio.StreamWriter) -> None:
    for byte in head("GET", "/api/health") * 10:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


async def unread(writer: asyncio.StreamWriter) -> None:
    for _ in range(50):
        writer.write(head("GET", "/openapi.json"))
        await writer.drain()


ATTACKS: dict[str, Attack] = {
    "fields without a key": lambda port: send_volume(port, "/api/chat", many_fields(MIB), with_key=False),
    "messages without a key": lambda port: send_volume(port, "/api/chat", many_messages(4 * MIB), with_key=False),
    "items with invented keys": lambda port: send_volume(port, "/v1/responses", many_items(MIB), with_key=True),
    "large bodies to stop": lambda port: send_volume(port, "/api/chat/x/stop", many_fields(4 * MIB), with_key=False),
    "unfinished bodies": lambda port: hold(port, UNFINISHED, unfinished),
    "silent connections": lambda port: hold(port, CONNECTIONS, silent),
    "slow heads": lambda port: hold(port, CONNECTIONS, slow_head),
    "unread responses": lambda port: hold(port, CONNECTIONS, unread),
    "lists with invented keys": lambda port: send_requests(
        port, lambda: head("GET", "/api/sessions", key=invented_key())
    ),
    "turns with invented keys": lambda port: send_requests(port, lambda: tiny_chat(invented_key())),
    "turns with malformed keys": lambda port: send_requests(port, lambda: tiny_chat("sk-wrong")),
    "key tests": lambda port: send_requests(port, key_test),
    "paths like keys": lambda port: send_requests(port, lambda: head("GET", "/" + "-eyJ" * 8000)),
    "reset connections": reset_connections,
}


async def run(name: str, port: int, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ATTACKS[name](port)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
