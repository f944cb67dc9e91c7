"""What a bus is, and wake-ups within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from chatapi.model import Generation


class Wakeup:
    """One reader's alarm. It costs one future for each wait, and no timer."""

    __slots__ = ("_loop", "_rung", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the reader, or spare it its next wait."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget what has rung so far; to be called before looking, so that no ring is lost in between."""
        self._rung = False

    async def wait(self) -> None:
        """Return as soon as it has rung since it was cleared."""
        if not self._rung:
            self._waiter = self._loop.create_future()
            await self._waiter
            self._waiter = None


class Bus(Protocol):
    """Wakes readers, and carries requests to other replicas. Nothing here waits, and nothing here fails."""

    async def open(self, stop: Callable[[str], None]) -> None:
        """Begin. `stop` is called with the id of a generation that another replica wants this one to stop."""

    async def close(self) -> None:
        """Stop."""

    def subscribe(self, generation_id: str) -> AbstractContextManager[Wakeup]:
        """An alarm that rings for this generation, while the block lasts."""

    def watch(self, generation: Generation) -> None:
        """A reader here follows this generation, wherever it runs; to be said again at each look at its log."""

    def publish(self, generation_id: str) -> None:
        """Ring for everyone who waits for this generation."""

    def wake_all(self) -> None:
        """Ring for everyone here: to look whether a wake-up was lost, and whether their client is still there."""

    def request_stop(self, generation_id: str, replica: str) -> None:
        """Ask the replica that produces this generation to stop it."""


class LocalBus:
    """Who waits for which generation, in this process; there is no other."""

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
            wake.ring()

    def wake_all(self) -> None:
        for readers in self._readers.values():
            for wake in readers:
                wake.ring()

    def request_stop(self, generation_id: str, replica: str) -> None:
        pass
