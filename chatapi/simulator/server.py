"""The simulator's HTTP server: record each request, then play a script as the response.

It runs in one event loop; `running` starts that loop in a thread. Other threads read the record, guarded by a
condition, and assign `Simulator.script`, which is atomic.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from .demo import Demo
from .http import Exchange, Server
from .record import ReceivedRequest
from .scripts import Cut, HalfClose, Hang, Pause, Responder, Script, Send, Step, Wait

KEPT_REQUESTS: Final = 10_000  # oldest dropped first, so that memory stays bounded
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
BACKLOG_CONNECTIONS: Final = 1024  # a benchmark opens all its streams at once
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 0.05  # for handlers to end when the server stops; a hanging script never ends

# SO_LINGER with a timeout of 0 makes close send RST. Windows uses shorts in this structure.
RESET_ON_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Simulator:
    """A server that speaks OpenAI's protocol: plays `script`, or the demo if it is None.

    `script` may be assigned from any thread at any time; it applies to later requests on every path. A callable is
    called once per request in the simulator's thread and must not block; None from it means the demo.
    """

    def __init__(
        self,
        script: Script | Responder | None = None,
        *,
        pace_seconds: float = 0.0,
        kept_requests: int = KEPT_REQUESTS,
    ) -> None:
        self.script = script
        self._demo = Demo(pace_seconds)
        self._received: deque[ReceivedRequest] = deque(maxlen=kept_requests)
        self._received_count = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._origin: str | None = None
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The base URL for a client: `http://127.0.0.1:PORT/v1`."""
        if self._origin is None:
            raise RuntimeError("The simulator is not running")
        return f"{self._origin}/v1"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests received so far, oldest first."""
        with self._changed:
            return list(self._received)

    def wait_for_requests(self, count: int, timeout_seconds: float = 20.0) -> list[ReceivedRequest]:
        """Block until `count` requests arrived, then return all of them.

        Raises:
            TimeoutError: fewer arrived in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._received_count >= count, timeout_seconds):
                raise TimeoutError(f"{self._received_count} of {count} requests after {timeout_seconds:g} s")
            return list(self._received)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Start listening; port 0 selects a free port."""
        self._stopping = False
        self._server = Server(self._handle, MAX_BODY_BYTES)
        bound = await self._server.start(host, port, BACKLOG_CONNECTIONS)
        shown_host = f"[{host}]" if ":" in host else host
        self._origin = f"http://{shown_host}:{bound}"

    async def stop(self) -> None:
        """Stop listening and close every connection. Clients closed this way are not recorded as `left`."""
        self._stopping = True
        self._origin = None
        if self._server is not None:
            await self._server.stop(FAREWELL_SECONDS)

    async def _handle(self, exchange: Exchange) -> None:
        received = self._receive(exchange)
        try:
            await _Player(exchange, received).play(self._script_for(received))
        except ConnectionError:
            self._note_left(received)
        except asyncio.CancelledError:
            self._note_left(received)
            raise
        finally:
            received.ended.set()

    def _receive(self, exchange: Exchange) -> ReceivedRequest:
        received = ReceivedRequest(
            method=exchange.method,
            path=exchange.path,
            query=exchange.query,
            headers=exchange.headers,
            raw=bytes(exchange.body),
        )
        with self._changed:
            self._received.append(received)
            self._received_count += 1
            self._changed.notify_all()
        return received

    def _script_for(self, received: ReceivedRequest) -> Script:
        script = self.script
        if callable(script):
            script = script(received)
        return self._demo(received) if script is None else script

    def _note_left(self, received: ReceivedRequest) -> None:
        if not self._stopping:
            received.note_left()


class _Player:
    """Plays one script to one client."""

    def __init__(self, exchange: Exchange, received: ReceivedRequest) -> None:
        self._exchange = exchange
        self._received = received
        self._due = asyncio.get_running_loop().time()  # scheduled end of the last pause

    async def play(self, script: Script) -> None:
        """Play the script to its end.

        Raises:
            ConnectionError: the client disconnected.
        """
        await self._play_steps(script.before_headers)
        await self._exchange.begin(script.status, script.headers)
        await self._play_steps(script.steps)
        await self._exchange.end()

    async def _play_steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Send(data, None):
                    await self._write(data)
                case Send():
                    await self._write_pieces(step)
                case Pause(seconds):
                    await self._pause(seconds)
                case Wait(gate):
                    await gate.wait()
                    self._due = asyncio.get_running_loop().time()
                case Hang():
                    await _until_cancelled()
                case Cut():
                    self._cut()
                case HalfClose():
                    await self._half_close()

    async def _write(self, data: bytes) -> None:
        if self._exchange.began:
            await self._exchange.write(data)
        else:
            await self._exchange.write_raw(data)
        self._received.note_sent(len(data))

    async def _write_pieces(self, step: Send) -> None:
        for piece in step.pieces():
            await self._write(piece)
            await asyncio.sleep(0)  # let other streams run between the pieces

    async def _pause(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._due = max(self._due + seconds, now)  # relative to the schedule, so that load causes no drift
        await asyncio.sleep(self._due - now)

    def _cut(self) -> None:
        transport = self._exchange.transport
        self._received.ended.set()  # closed by us: the client did not leave
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()

    async def _half_close(self) -> None:
        transport = self._exchange.transport
        self._received.ended.set()
        transport.write_eof()
        await _until_cancelled()


async def _until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()


@contextmanager
def running(simulator: Simulator, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Simulator]:
    """Run a simulator in a thread with its own event loop during the `with` block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(simulator.start(host, port), loop).result(START_SECONDS)
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(STOP_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        loop.close()
