"""The protocols of limits, and limits that this process counts.

The rate limit is the generic cell rate algorithm (ITU-T I.371, the leaky bucket as a meter): each owner has one number,
the time at which its bucket is empty. It needs no timer, allows the requests of a whole minute as one burst, and then
one request each 60/limit seconds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from math import ceil
from typing import NamedTuple, Protocol

from chatapi.errors import Overloaded, RateLimited, TooManyGenerations
from chatapi.limits.times import LocalTimes, Times
from chatapi.model import Limit

WINDOW_SECONDS = 60.0


class RateLimit(Protocol):
    """A number of requests per owner and minute: as one burst, then evenly."""

    async def take(self, owner: str) -> Limit | None:
        """Count one request; return the limit and the rest of it, or None if the limit is off.

        Raises:
            RateLimited: nothing is left.
        """


class Slot(NamedTuple):
    """The slot of one running answer; its number is unique in the process."""

    owner: str
    number: int


class Slots(Protocol):
    """A limit of running answers per owner, and of all running answers in this process."""

    async def open(self) -> None:
        """Start the tasks of this limit."""

    async def close(self) -> None:
        """Stop its tasks."""

    async def take(self, owner: str) -> Slot:
        """Take a slot; the caller must give it back.

        Raises:
            TooManyGenerations: all slots of this owner are taken.
            Overloaded: all slots of this process are taken.
        """

    async def give_back(self, slot: Slot) -> None:
        """Give a slot back; it is free when this returns. A second call has no effect."""


class LocalRateLimit:
    """The rate limit, counted in this process, or wherever `times` are; 0 switches it off."""

    def __init__(self, limit: int, clock: Callable[[], float], times: Times | None = None) -> None:
        self.limit = limit
        self._clock = clock
        self._times = LocalTimes() if times is None else times

    async def take(self, owner: str) -> Limit | None:
        if not self.limit:
            return None
        now = self._clock()
        cost = WINDOW_SECONDS / self.limit
        with self._times as times:
            empty_at = max(times.get(owner), now) + cost
            excess = empty_at - now - WINDOW_SECONDS
            if excess > 1e-6:  # floats: a full bucket is not over the limit
                raise too_many_requests(self.limit, excess)
            times.set(owner, empty_at, now)
        return Limit(self.limit, int((WINDOW_SECONDS - (empty_at - now)) / cost + 1e-6))


def too_many_requests(limit: int, wait_seconds: float) -> RateLimited:
    """Return the error for a request over the limit, with the seed's headers."""
    headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0"}
    return RateLimited(retry_after=ceil(wait_seconds), headers=headers)


class LocalSlots:
    """Slots, counted in this process; 0 switches a limit off."""

    def __init__(self, per_owner: int, in_all: int, wait_seconds: float = 0.0) -> None:
        self.per_owner = per_owner
        self.in_all = in_all
        self.wait_seconds = wait_seconds  # for a slot of the same owner
        self._taken: dict[str, set[Slot]] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by owner, first come first served
        self._numbers = itertools.count()
        self._total = 0

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def take(self, owner: str) -> Slot:
        if self.per_owner and (owner in self._waiting or len(self._taken.get(owner, ())) >= self.per_owner):
            await self._wait(owner)
        if self.in_all and self._total >= self.in_all:
            raise Overloaded(retry_after=1)
        slot = Slot(owner, next(self._numbers))
        self._taken.setdefault(owner, set()).add(slot)
        self._total += 1
        return slot

    async def give_back(self, slot: Slot) -> None:
        taken = self._taken.get(slot.owner, set())
        if slot in taken:
            taken.discard(slot)
            self._total -= 1
        if not taken:
            self._taken.pop(slot.owner, None)
        self._wake_next(slot.owner)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return sum(map(len, self._waiting.values()))

    async def _wait(self, owner: str) -> None:
        """Wait in line for a slot of this owner, at most `wait_seconds`."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting.setdefault(owner, deque())
        line.append(woken)
        try:
            async with asyncio.timeout(self.wait_seconds):
                while line[0] is not woken or len(self._taken.get(owner, ())) >= self.per_owner:
                    await woken  # only the first in line is woken
                    line[0] = woken = asyncio.get_running_loop().create_future()
        except TimeoutError:
            raise TooManyGenerations(retry_after=1) from None
        finally:
            line.remove(woken)
            if not line:
                del self._waiting[owner]
            else:
                self._wake_next(owner)

    def _wake_next(self, owner: str) -> None:
        line = self._waiting.get(owner)
        if line and not line[0].done():
            line[0].set_result(None)
