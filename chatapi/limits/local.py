"""What a limit is, and limits that count in this process.

The rate limit is the generic cell rate algorithm (ITU-T I.371, the leaky bucket as a meter): each owner has one number,
the time at which its bucket would be empty. It needs no timer, lets a whole minute's worth through as one burst, and
then one request each 60/limit seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import ceil
from typing import NamedTuple, Protocol

from chatapi.errors import Overloaded, RateLimited, TooManyGenerations
from chatapi.model import Limit

WINDOW_SECONDS = 60.0
_SWEEP_AT = 10_000  # owners remembered before those whose bucket is empty are forgotten


class RateLimit(Protocol):
    """So many requests per owner and minute: a minute's worth at once, then evenly."""

    async def take(self, owner: str) -> Limit | None:
        """Count one request; what is left afterwards, or None when the limit is off.

        Raises:
            RateLimited: nothing was left.
        """


class Slot(NamedTuple):
    """The place of one running answer; no two of a process have the same number."""

    owner: str
    number: int


class Slots(Protocol):
    """At most so many running answers per owner, and in all of this process."""

    async def open(self) -> None:
        """Begin."""

    async def close(self) -> None:
        """Stop."""

    async def take(self, owner: str) -> Slot:
        """Take a slot; whoever took it gives it back.

        Raises:
            TooManyGenerations: this owner has all of its slots taken.
            Overloaded: this process runs as many answers as it may.
        """

    async def give_back(self, slot: Slot) -> None:
        """Give a slot back; it is free when this returns. To do it twice changes nothing."""


class LocalRateLimit:
    """The rate limit, counted here; 0 switches it off."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._empty_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    async def take(self, owner: str) -> Limit | None:
        if not self.limit:
            return None
        now = self._clock()
        cost = WINDOW_SECONDS / self.limit
        empty_at = max(self._empty_at.get(owner, now), now) + cost
        excess = empty_at - now - WINDOW_SECONDS
        if excess > 1e-6:  # floats: a bucket filled to the brim is not over it
            raise too_many_requests(self.limit, excess)
        self._empty_at[owner] = empty_at
        if len(self._empty_at) > self._sweep_at:
            self._forget(now)
        return Limit(self.limit, int((WINDOW_SECONDS - (empty_at - now)) / cost + 1e-6))

    def _forget(self, now: float) -> None:
        self._empty_at = {owner: at for owner, at in self._empty_at.items() if at > now}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._empty_at))  # keeps the sweep's cost per request constant


def too_many_requests(limit: int, wait_seconds: float) -> RateLimited:
    """The error for a request too many, with the seed's headers."""
    headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0"}
    return RateLimited(retry_after=ceil(wait_seconds), headers=headers)


class LocalSlots:
    """Slots, counted here; 0 switches a limit off."""

    def __init__(self, per_owner: int, in_all: int) -> None:
        self.per_owner = per_owner
        self.in_all = in_all
        self._taken: dict[str, set[Slot]] = {}
        self._numbers = itertools.count()
        self._total = 0

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def take(self, owner: str) -> Slot:
        taken = self._taken.get(owner, ())
        if self.per_owner and len(taken) >= self.per_owner:
            raise TooManyGenerations(retry_after=1)
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
