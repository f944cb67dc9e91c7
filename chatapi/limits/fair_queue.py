"""A queue for expensive work: one job at a time per group, and the groups take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatapi.errors import Overloaded

MAX_WAITING = 64  # jobs of one group, where the queue names no other bound; further ones are refused


class FairQueue:
    """Runs at most `at_once` jobs, at most one per group; waiting groups are served round robin.

    A group is an owner, or the address of a caller that is not known yet. So a caller that queues many jobs delays its
    own jobs, and those of others by one job each.

    Args:
        rests: how long a place stays empty after a job, as a multiple of the job's time.
        max_waiting: the jobs of one group that may wait.
    """

    def __init__(self, at_once: int, rests: float = 0.0, max_waiting: int = MAX_WAITING) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._rests = rests
        self._active: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order in which the groups are served

    @property
    def busy(self) -> bool:
        """Whether a new job would wait, or be the last one that does not."""
        return len(self._active) >= self._at_once

    @property
    def active(self) -> int:
        """The number of jobs that run, or whose place rests."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, group: str) -> AsyncIterator[None]:
        """Wait for a turn of `group`, and hold it for the length of the block.

        Raises:
            Overloaded: `max_waiting` jobs of this group wait already.
        """
        await self._enter(group)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            yield
        finally:
            if self._rests:
                loop.call_later(self._rests * (loop.time() - begun), self._release, group)
            else:
                self._release(group)

    async def take_start(self, group: str) -> None:
        """Wait for a turn of `group` and hold it until the next pass of the event loop: groups start jobs evenly.

        Raises:
            Overloaded: `max_waiting` jobs of this group wait already.
        """
        await self._enter(group)
        asyncio.get_running_loop().call_soon(self._release, group)

    async def _enter(self, group: str) -> None:
        """Take a place, or wait until `_start_next` gives one."""
        if self.busy or group in self._active:
            await self._wait(group)
        else:
            self._active.add(group)

    async def _wait(self, group: str) -> None:
        queue = self._waiting.setdefault(group, deque())
        if len(queue) >= self._max_waiting:
            raise Overloaded("Too many requests of this caller wait for their turn. Wait as Retry-After says.")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(started)
        try:
            await started
        except asyncio.CancelledError:
            if started.cancelled():
                self._forget(group, started)
            else:  # its turn came in the same moment
                self._release(group)
            raise

    def _release(self, group: str) -> None:
        self._active.discard(group)
        if (queue := self._waiting.pop(group, None)) is not None:
            self._waiting[group] = queue  # behind the other groups
        self._start_next()

    def _forget(self, group: str, started: asyncio.Future[None]) -> None:
        queue = self._waiting.get(group)
        if queue is not None and started in queue:
            queue.remove(started)
            if not queue:
                del self._waiting[group]

    def _start_next(self) -> None:
        for group in list(self._waiting):
            if self.busy:
                return
            if group in self._active:
                continue
            queue = self._waiting.pop(group)
            while queue:
                started = queue.popleft()
                if not started.done():  # else it was cancelled a moment ago
                    self._active.add(group)
                    started.set_result(None)
                    break
            if queue:
                self._waiting[group] = queue  # behind the other groups
