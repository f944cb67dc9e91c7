"""The fast source: an OpenAI-protocol server that only replays. `python -m bench.source` prints its port and serves.

Every write is prepared in advance, so a chunk costs a timer and a system call. Each answer has its own schedule (`began
+ index * pace`): answers that start spread stay spread, and a late chunk does not delay the following ones. `GET
/stats` returns the lateness of the source since the last request for it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from bisect import bisect_left
from itertools import accumulate
from typing import cast

import uvloop

from bench.answers import Script, steps

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: req_bench\r\nopenai-processing-ms: 1\r\n"
    b"x-ratelimit-limit-requests: 1000000\r\nx-ratelimit-remaining-requests: 999999\r\n"
    b"x-ratelimit-reset-requests: 1ms\r\n\r\n"
)
MODELS = b'{"object":"list","data":[]}'
NO_SCRIPT = b'{"error":{"message":"no bench model","type":"invalid_request_error","param":"model","code":null}}'
KEY = b"sk-proj-" + b"b" * 156  # `bench.client.KEY`, the only one that this server accepts
WRONG_KEY = b'{"error":{"message":"no such key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}'
LATEST_MS = 1000  # later than this is counted as this


class Lateness:
    """How many writes were how many milliseconds late."""

    def __init__(self) -> None:
        self.counts = [0] * (LATEST_MS + 1)

    def add(self, seconds: float) -> None:
        self.counts[min(LATEST_MS, max(0, int(seconds * 1000)))] += 1

    def take(self) -> dict[str, int]:
        """Return the figures so far, and reset them."""
        counts, self.counts = self.counts, [0] * (LATEST_MS + 1)
        reached = list(accumulate(counts))
        p99, latest = bisect_left(reached, reached[-1] * 0.99), bisect_left(reached, reached[-1])
        return {"writes": reached[-1], "late_p99_ms": p99, "late_max_ms": latest}


class Replay(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, lateness: Lateness) -> None:
        self.loop = loop
        self.lateness = lateness
        self.received = b""
        self.steps: tuple[bytes, ...] = ()
        self.next = 0
        self.began = self.pace = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def connection_lost(self, _: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head_end = self.received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = self.received[:head_end].lower()
        body_end = head_end + content_length(head)
        if len(self.received) >= body_end:
            body, self.received = self.received[head_end:body_end], self.received[body_end:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /stats "):
            self.send_json(b"200 OK", json.dumps(self.lateness.take()).encode())
        elif b"authorization: bearer" in head and KEY not in head:
            self.send_json(b"401 Unauthorized", WRONG_KEY)  # an invented key of `bench.attackers`
        elif head.startswith(b"get "):
            self.send_json(b"200 OK", MODELS)
        elif script := Script.asked_for(body):
            self.replay(steps(script, responses=head.startswith(b"post /v1/responses ")), script.pace_ms / 1000)
        else:
            self.send_json(b"400 Bad Request", NO_SCRIPT)

    def replay(self, answer: tuple[bytes, ...], pace: float) -> None:
        if pace == 0:
            self.transport.write(HEAD + b"".join(answer))
            return
        self.steps, self.pace, self.next = answer, pace, 0
        self.began = time.monotonic()
        self.transport.write(HEAD)
        self.send_step()

    def send_step(self) -> None:
        """Send the due chunks, then wait for the next."""
        now = time.monotonic()
        self.lateness.add(now - self.began - self.next * self.pace)
        self.transport.write(self.steps[self.next])
        self.next += 1
        if self.next < len(self.steps):
            self.timer = self.loop.call_later(max(0.0, self.began + self.next * self.pace - now), self.send_step)

    def send_json(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)


def content_length(head: bytes) -> int:
    """The length of the body that follows a head in lower case."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve() -> None:
    loop, lateness = asyncio.get_running_loop(), Lateness()
    server = await loop.create_server(lambda: Replay(loop, lateness), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # the parent process holds our stdin: we end when it is closed
    server.close()


if __name__ == "__main__":
    gc.disable()  # nothing here is cyclic, and a collection in mid-run would look like lateness
    uvloop.run(serve())
