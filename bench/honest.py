"""An honest caller: lists its sessions and reads answers, and records latencies. `python -m bench.honest PORT SECONDS`.

Prints one JSON object: latencies in milliseconds, and the number of requests that did not succeed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field

import uvloop

from bench.answers import Script, plain
from bench.client import KEY, quantile

READERS = 6  # answers that run at the same time
SCRIPT = Script(chunks=100, pace_ms=20)
LIST_SECONDS = 0.2  # from one list request to the next
REQUEST_SECONDS = 30.0


@dataclass
class Latencies:
    """The results of the honest caller."""

    list_ms: list[float] = field(default_factory=list)
    first_text_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> Summary:
        return Summary(
            quantile(self.list_ms, 0.5),
            quantile(self.list_ms, 0.99),
            quantile(self.first_text_ms, 0.5),
            quantile(self.first_text_ms, 0.99),
            quantile(self.late_ms, 0.99),
            len(self.list_ms),
            len(self.first_text_ms),
            self.failures[:5],
        )


@dataclass(frozen=True)
class Summary:
    """The figures of one run; times in milliseconds."""

    list_p50: float
    list_p99: float
    first_p50: float
    first_p99: float
    late_p99: float
    lists: int
    answers: int
    failures: list[str]


async def request(port: int, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    writer.write(f"{head} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}Connection: close\r\n".encode())
    writer.write(f"Authorization: Bearer {KEY}\r\n\r\n".encode() + body)
    return reader, writer


async def list_sessions(port: int, latencies: Latencies) -> None:
    """Make one list request."""
    began = time.perf_counter()
    reader, writer = await request(port, "GET /api/sessions?limit=20")
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        latencies.failures.append(f"list: {answer[:80]!r}")
    latencies.list_ms.append((time.perf_counter() - began) * 1000)


async def read_answer(port: int, latencies: Latencies) -> None:
    """Start one answer and read it to its end; a chunk is late by the time after its schedule."""
    body = json.dumps({"developer_message": "Be brief.", "user_message": "Hello", "model": SCRIPT.model}).encode()
    began = time.perf_counter()
    reader, writer = await request(port, "POST /api/chat", body)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        latencies.failures.append(f"answer: {head[:80]!r}")
        writer.close()
        return
    transcript = plain(SCRIPT)
    received, chunks, first = b"", 0, 0.0
    while size := int((await reader.readline()).strip() or b"0", 16):
        received += (await reader.readexactly(size + 2))[:-2]
        now = time.perf_counter()
        if not chunks:
            first = now
            latencies.first_text_ms.append((now - began) * 1000)
        while chunks < SCRIPT.chunks and transcript.ends[chunks] <= len(received):
            latencies.late_ms.append((now - first - chunks * SCRIPT.pace_ms / 1000) * 1000)
            chunks += 1
    writer.close()
    if received != transcript.body:
        latencies.failures.append(f"answer: {len(received)} of {len(transcript.body)} bytes")


async def repeat(port: int, until: float, latencies: Latencies, read: bool) -> None:
    """Make one kind of request until the time is up."""
    while time.perf_counter() < until:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await (read_answer if read else list_sessions)(port, latencies)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            latencies.failures.append(repr(error))
        if not read:
            await asyncio.sleep(LIST_SECONDS)


async def main(port: int, seconds: float) -> None:
    await list_sessions(port, Latencies())  # not measured: the first list imports its route
    latencies, until = Latencies(), time.perf_counter() + seconds
    readers = [repeat(port, until, latencies, read=True) for _ in range(READERS)]
    await asyncio.gather(*readers, repeat(port, until, latencies, read=False))
    print(json.dumps(asdict(latencies.summary())))


if __name__ == "__main__":
    gc.disable()  # a collection would appear as lateness
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
