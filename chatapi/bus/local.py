"""The interface of a bus, and wake-ups within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from chatapi.model import Generation


class Wakeup:
    """Wakes one reader. It costs one future for each wait, and no timer."""

    __slots__ = ("_loop", "_rung", "_waiter", "push")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None
        self.push: Callable[[], bool] | None = None  # where the reader waits with `wait_pushing`

    def ring(self) -> None:
        """Wake the reader, or make its next wait return at once."""
        self._rung = True
        self.push = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget earlier rings. Call it before looking, so that no ring in between is lost."""
        self._rung = False

    async def wait(self) -> None:
        """Return when it has rung since it was cleared."""
        if not self._rung:
            self._waiter = self._loop.create_future()
            await self._waiter
            self._waiter = None

    async def wait_pushing(self, push: Callable[[], bool]) -> None:
        """Return as `wait` does. Until then, `push` is called in place of a wake-up, and again while it returns True.

        It is called in the pass of the event loop in which the log has grown. It must not wait and must not raise.
        """
        if not self._rung:
            self.push = push
            try:
                await self.wait()
            finally:
                self.push = None


class Bus(Protocol):
    """Wakes readers, and carries requests to other replicas. No method waits for a message or raises."""

    async def open(self, stop: Callable[[str], None]) -> None:
        """Start. `stop` is called with the id of a generation when another replica requests its stop."""

    async def close(self) -> None:
        """Stop."""

    def subscribe(self, generation_id: str) -> AbstractContextManager[Wakeup]:
        """Return a wake-up that rings for this generation while the block lasts."""

    def watch(self, generation: Generation) -> None:
        """Announce that a reader here follows this generation. Call it again at each look at the log."""

    def publish(self, generation_id: str) -> None:
        """Wake all readers of this generation."""

    def wake_all(self) -> None:
        """Wake all readers here: a wake-up may have been lost, or their client may have left."""

    def request_stop(self, generation_id: str, replica: str) -> None:
        """Request a stop from the replica that produces this generation."""


class LocalBus:
    """The readers of each generation, in this process only."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Wakeup]] = {}

    async def open(self, stop: Callable[[str], None]) -> None:
        pass

    async def close(self) -> None:
        pass

    @contextmanager
    def subscribe(self, generation_id: str) -> Iterator[Wakeup]:
        wake = Wakeup()
        readers = self._readers.setdefault(generation_id, set())
        readers.add(wake)
        try:
            yield wake
        finally:
            readers.discard(wake)
            if not readers:
                self._readers.pop(generation_id, None)

    def watch(self, generation: Generation) -> None:
        pass

    def publish(self, generation_id: str) -> None:
        for wake in self._readers.get(generation_id, ()):
            if wake.push is None or not wake.push():
                wake.ring()

    def wake_all(self) -> None:
        for readers in self._readers.values():
            for wake in readers:
                wake.ring()

    def request_stop(self, generation_id: str, replica: str) -> None:
        pass
