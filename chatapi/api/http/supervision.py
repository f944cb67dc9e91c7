"""Supervision of responses that have no stored log: a client that leaves, an upstream that is silent, heartbeats.

A stored answer outlives its reader, and `generations.maintenance` watches its timers. Here the request's own task reads
the upstream, so it ends when its client leaves. One timer supervises a request; there is none for each read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from starlette.types import Receive

from chatapi.api.http.streaming import disconnected
from chatapi.errors import Interrupted, UpstreamTimeout
from chatapi.settings import Settings

TICK_SECONDS = 1.0  # between checks of the timers; less where a timer is shorter

T = TypeVar("T")


class StreamSupervisor:
    """Cancels the current task's block when the client leaves or a timer runs out, and sends heartbeats in silences.

    Leaving the block, a cancellation becomes `UpstreamTimeout`, or `Interrupted` if the server is shutting down; after
    the client has left it is swallowed and `client_left` is true. `heartbeat` sends one; a response in one piece has
    none.
    """

    def __init__(
        self, settings: Settings, receive: Receive, heartbeat: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.client_left = False
        self._settings = settings
        self._receive = receive
        self._heartbeat = heartbeat
        self._sending: asyncio.Future[None] | None = None  # the last heartbeat
        self._timed_out = self._ended = False

    def __enter__(self) -> StreamSupervisor:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        settings = self._settings
        self._began = self._last_data = self._last_write = self._loop.time()
        self._max_silence = settings.first_token_seconds
        shortest = min(settings.first_token_seconds, settings.idle_seconds, 2 * settings.heartbeat_seconds)
        self._tick_seconds = min(TICK_SECONDS, shortest / 4)
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        self._leaving = asyncio.create_task(disconnected(self._receive), name="disconnect-watch")
        self._leaving.add_done_callback(self._on_disconnect)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        self._ended = True  # a callback may be on its way, and the task still has to release what it holds
        self._timer.cancel()
        self._leaving.cancel()
        if self._sending is not None:
            self._sending.cancel()
        if not isinstance(error, asyncio.CancelledError):
            return False
        if self.client_left:
            return True
        self._task.uncancel()
        raise (UpstreamTimeout() if self._timed_out else Interrupted()) from None

    def on_data(self) -> None:
        """Restart the timer of silence: the upstream has sent something."""
        self._last_data = self._last_write = self._loop.time()
        self._max_silence = self._settings.idle_seconds

    def on_upload(self) -> None:
        """Restart the timer of silence: the client has sent more of its request."""
        self._last_data = self._loop.time()

    def _on_disconnect(self, leaving: asyncio.Task[None]) -> None:
        if not (leaving.cancelled() or self._ended):
            self.client_left = True
            self._task.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        if now > min(self._last_data + self._max_silence, self._began + self._settings.total_seconds):
            self._timed_out = True
            self._task.cancel()
            return
        if self._heartbeat is not None and now - self._last_write >= self._settings.heartbeat_seconds:
            self._last_write = now
            if self._sending is None or self._sending.done():  # else the client does not read
                self._sending = asyncio.ensure_future(self._heartbeat())
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)


async def unless_disconnected(receive: Receive, work: Awaitable[T]) -> T | None:
    """Return the result of `work`, or None after cancelling it because the client left first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(disconnected(receive), name="disconnect-watch")
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
