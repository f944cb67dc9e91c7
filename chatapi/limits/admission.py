"""Admission of requests whose answers are not stored: they take a slot like any answer, and a drain cancels them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatapi.errors import Draining
from chatapi.limits.local import Slots

GOODBYE_SECONDS = 1.0  # for cancelled requests to close their connections


class Admission:
    """The requests under way whose answers are passed on and not stored, one task each."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def reserve_slot(self, owner: str) -> AsyncIterator[None]:
        """Hold one of the owner's slots while the block lasts. A drain cancels the task that entered it.

        Raises:
            Draining: this server is shutting down.
            TooManyGenerations, Overloaded: no slot is free.
        """
        if self._is_closed:
            raise Draining
        task = asyncio.current_task()
        assert task is not None
        slot = await self._slots.take(owner)
        if self._is_closed:  # meanwhile
            await self._slots.give_back(slot)
            raise Draining
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)
            await self._slots.give_back(slot)

    def refuse_new(self) -> None:
        """Admit nothing more."""
        self._is_closed = True

    async def ended(self) -> None:
        """Return when the requests that are under way now have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel_all(self) -> None:
        """Cancel the requests under way, and give them a moment to end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GOODBYE_SECONDS)
