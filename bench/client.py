"""The load client: sends requests over many kept-alive connections and checks every byte, in a process of its own.

`python -m bench.client` reads one `Load` as JSON from stdin and prints one `Outcome`. The connections start spread over
the ramp. The window after it is measured, when all are open. Each connection sends its next request as soon as it has
its answer, and completes its last answer after the window. So no figure includes the start or the end of a run.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

from bench.answers import Script, Transcript, plain, raw
from bench.processes import cpu_seconds, memory_bytes

KEY = "sk-proj-" + "b" * 156  # well formed, and owned by no account
LATE_SECONDS = 0.1  # a chunk that a reader waits for this long is late
WRONG_SHOWN = 5  # enough to see the problem
SESSION_ID = re.compile(rb"\r\nx-session-id: *([^\r]+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """The parameters of one run.

    `raw` sends requests in OpenAI's protocol, as the service does to its upstream. `stored` does too, for a turn of a
    new session: then the text of the chunks is compared, since their frames are the service's own. `responses` requests
    that turn by /v1/responses. The answers of a `peer` name no session.
    """

    port: int
    raw: bool
    streams: int
    chunks: int
    pace_ms: int
    ramp_seconds: float
    window_seconds: float
    finish_seconds: float  # how long the last answers may take once the window is over
    watch: dict[str, int] = field(default_factory=dict)  # process ids by name
    stored: bool = False
    responses: bool = False
    pause_ms: int = 0  # of a connection between two of its answers
    peer: bool = False

    @property
    def script(self) -> Script:
        return Script(self.chunks, self.pace_ms)


@dataclass
class Outcome:
    """The results of the window; the last four are of the whole run."""

    window_seconds: float = 0.0
    chunks: int = 0
    answers: int = 0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory_before: dict[str, int] = field(default_factory=dict)
    memory_open: dict[str, int] = field(default_factory=dict)
    first_text_p50_ms: float = 0.0
    first_text_p99_ms: float = 0.0
    late_p99_ms: float = 0.0
    late_share: float = 0.0
    checked: int = 0  # answers that were complete and exact
    unfinished: int = 0  # connections still waiting when the time was up
    wrong: list[str] = field(default_factory=list)
    session: str = ""  # of the last answer


class Run:
    """One load: the state that its connections share."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.pace = load.pace_ms / 1000
        ask = response_request if load.responses else raw_request if load.raw or load.stored else chat_request
        self.request = ask(load)
        transcript: Transcript = raw(load.script) if load.raw and not load.stored else plain(load.script)
        self.body, self.ends = transcript.body, transcript.ends
        self.outcome = Outcome()
        self.counting = self.over = False
        self.window_began = 0.0
        self.first_text: list[float] = []
        self.late: list[float] = []
        self.active = load.streams
        self.finished = asyncio.Event()

    async def measure(self) -> Outcome:
        load, outcome = self.load, self.outcome
        outcome.memory_before = {name: memory_bytes(pid) for name, pid in load.watch.items()}
        step = load.ramp_seconds / load.streams
        opening = [asyncio.create_task(self.connect_after(index * step)) for index in range(load.streams)]
        await self.wait(load.ramp_seconds)
        before = self.cpu()
        self.counting, self.window_began = True, time.perf_counter()
        await self.wait(load.window_seconds)
        self.counting, self.over = False, True
        outcome.window_seconds = time.perf_counter() - self.window_began
        outcome.cpu_seconds = {name: now - before[name] for name, now in self.cpu().items()}
        outcome.memory_open = {name: memory_bytes(pid) for name, pid in load.watch.items()}
        await self.wait(load.finish_seconds)
        await asyncio.gather(*opening)
        outcome.unfinished = self.active
        outcome.first_text_p50_ms = quantile(self.first_text, 0.50) * 1000
        outcome.first_text_p99_ms = quantile(self.first_text, 0.99) * 1000
        outcome.late_p99_ms = quantile(self.late, 0.99) * 1000
        outcome.late_share = sum(seconds >= LATE_SECONDS for seconds in self.late) / max(1, len(self.late))
        return outcome

    def cpu(self) -> dict[str, float]:
        return {"client": time.process_time()} | {name: cpu_seconds(pid) for name, pid in self.load.watch.items()}

    async def wait(self, seconds: float) -> None:
        """Wait, but not for connections that have all ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.finished.wait()

    async def connect_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await asyncio.get_running_loop().create_connection(lambda: Caller(self), "127.0.0.1", self.load.port)
        except OSError as error:
            self.fail(f"no connection: {error}")

    def arrived(self, caller: Caller, chunks: int, now: float) -> None:
        """Note that a caller has its first `chunks` chunks as of `now`."""
        if caller.chunks == 0:
            caller.first = now
            if self.counting and caller.asked >= self.window_began:
                self.first_text.append(now - caller.asked)
        if self.counting:
            self.outcome.chunks += chunks - caller.chunks
            if self.pace:
                self.late.extend(now - caller.first - index * self.pace for index in range(caller.chunks, chunks))
        caller.chunks = chunks

    def answered(self) -> None:
        self.outcome.checked += 1
        self.outcome.answers += self.counting

    def fail(self, reason: str) -> None:
        """A connection found something wrong and asks no more."""
        if len(self.outcome.wrong) < WRONG_SHOWN:
            self.outcome.wrong.append(reason)
        self.leave()

    def leave(self) -> None:
        self.active -= 1
        if self.active == 0:
            self.finished.set()


class Caller(asyncio.Protocol):
    """One connection that asks, reads a chunked answer, checks it, and asks again."""

    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self.run = run
        self.left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(f"the connection closed after {self.received} of {len(self.run.body)} bytes: {error}")

    def ask(self) -> None:
        self.head = b""
        self.rest = b""  # the beginning of a line whose end has not come yet
        self.in_chunk = 0  # bytes still to come of the HTTP chunk
        self.last = False  # the zero chunk was read: an empty line ends the answer
        self.received = 0  # bytes of the body
        self.chunks = 0  # of the answer
        self.first = 0.0
        self.frame = b""  # of a stored stream: the beginning of an event
        self.asked = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.left:
            return
        if not self.head:
            self.head, found, data = (self.rest + data).partition(b"\r\n\r\n")
            if not found:
                self.head, self.rest = b"", self.head
                return
            self.rest = b""
            if not self.head_is_right():
                self.fail(f"{self.head[:200]!r} {data[:300]!r}")
                return
        self.read_body(data, now)

    def head_is_right(self) -> bool:
        if (not self.run.load.raw or self.run.load.stored) and not self.run.load.peer:
            session = SESSION_ID.search(self.head + b"\r\n")
            if not session:
                return False
            self.run.outcome.session = session[1].decode()
        return self.head.startswith(b"HTTP/1.1 200 ") and b"\r\ntransfer-encoding: chunked" in self.head.lower()

    def read_body(self, data: bytes, now: float) -> None:
        """Undo the chunked coding: size lines, and the empty line after each chunk."""
        if self.rest:
            data, self.rest = self.rest + data, b""
        at, size = 0, len(data)
        while at < size and not self.left:
            if self.in_chunk:
                piece = data[at : at + self.in_chunk]
                at += len(piece)
                self.in_chunk -= len(piece)
                self.read_piece(piece, now)
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self.rest = data[at:]
                return
            line, at = data[at:line_end], line_end + 2
            if line and not self.last:
                self.in_chunk = int(line.partition(b";")[0], 16)
                self.last = self.in_chunk == 0
            elif not line and self.last:
                self.end(complete=at == size)
                return

    def read_piece(self, piece: bytes, now: float) -> None:
        if self.run.load.stored:
            *events, self.frame = (self.frame + piece).split(b"\n\n")
            piece = b"".join(map(delta_of if self.run.load.responses else text_of, events))
        run, end = self.run, self.received + len(piece)
        if run.body[self.received : end] != piece:
            self.fail(f"other bytes than expected at {self.received}: {piece[:80]!r}")
            return
        self.received = end
        chunks = bisect_right(run.ends, end, self.chunks)
        if chunks > self.chunks:
            run.arrived(self, chunks, now)

    def end(self, complete: bool) -> None:
        """The body has ended: it must be all of the answer, and nothing may follow."""
        run = self.run
        if not complete or self.received != len(run.body):
            self.fail(f"ended after {self.received} of {len(run.body)} bytes")
            return
        run.answered()
        if not run.over:
            if run.load.pause_ms:
                asyncio.get_running_loop().call_later(run.load.pause_ms / 1000, self.ask_or_leave)
            else:
                self.ask()
            return
        self.leave()

    def ask_or_leave(self) -> None:
        if self.run.over:
            self.leave()
        else:
            self.ask()

    def leave(self) -> None:
        self.left = True
        self.run.leave()
        self.transport.close()

    def fail(self, reason: str) -> None:
        if not self.left:
            self.left = True
            self.run.fail(reason)
            self.transport.close()


def text_of(event: bytes) -> bytes:
    """The text in one chunk of a chat completion."""
    data = event.partition(b"data: ")[2]
    choices = json.loads(data)["choices"] if data.startswith(b"{") else []
    return "".join(choice["delta"].get("content") or "" for choice in choices).encode()


def delta_of(event: bytes) -> bytes:
    """The text in one event of a response."""
    if not event.startswith(b"event: response.output_text.delta\n"):
        return b""
    return str(json.loads(event.partition(b"data: ")[2])["delta"]).encode()


def chat_request(load: Load) -> bytes:
    """A turn of a new session, in the service's own protocol."""
    body = {
        "developer_message": "You are a helpful assistant.",
        "user_message": "Write a Python function to calculate fibonacci numbers.",
        "model": load.script.model,
        "api_key": KEY,
    }
    return post(load.port, "/api/chat", "", body)


def raw_request(load: Load) -> bytes:
    """The request that the service makes of its upstream, near enough."""
    body = {
        "model": load.script.model,
        "messages": [
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Write a Python function to calculate fibonacci numbers."},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    session = "X-Session-ID: new\r\n" if load.stored else ""
    return post(load.port, "/v1/chat/completions", f"Authorization: Bearer {KEY}\r\n{session}", body)


def response_request(load: Load) -> bytes:
    """The same turn of a new session by OpenAI's Responses."""
    body = {
        "model": load.script.model,
        "instructions": "You are a helpful assistant.",
        "input": "Write a Python function to calculate fibonacci numbers.",
        "stream": True,
    }
    return post(load.port, "/v1/responses", f"Authorization: Bearer {KEY}\r\n", body)


def post(port: int, path: str, headers: str, body: Mapping[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def main() -> None:
    outcome = await Run(Load(**json.loads(sys.stdin.readline()))).measure()
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    gc.disable()  # nothing here is cyclic, and a collection in mid-run would look like lateness
    uvloop.run(main())
