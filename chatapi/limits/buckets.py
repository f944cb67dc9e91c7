"""Leaky buckets that count weighted requests per group, and the owners whose keys the model API has accepted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from chatapi.limits.local import WINDOW_SECONDS
from chatapi.limits.times import LocalTimes, Times

_MAX_DEBT_WINDOWS = 2.0  # so that a group never waits longer than two minutes
MAX_KNOWN_OWNERS = 10_000


class LeakyBuckets:
    """A bucket per group that takes `limit` requests and drains in one minute; 0 switches it off.

    `LocalRateLimit` refuses a request that does not fit. Here a request is admitted while its bucket is not full, and
    its cost may be added later, when the outcome is known.
    """

    def __init__(self, limit: int, clock: Callable[[], float], times: Times | None = None, name: str = "") -> None:
        """Use `times`, if there are any, in which other limits have other names."""
        self.limit = limit
        self._clock = clock
        self._times = LocalTimes() if times is None else times
        self._name = name

    def wait_seconds(self, group: str) -> float:
        """Return how long the group must wait until its bucket has room for one more request; 0 if it has."""
        if not self.limit:
            return 0.0
        with self._times as times:
            empty_at = times.get(self._name + group)
        return max(0.0, empty_at - self._clock() - WINDOW_SECONDS + WINDOW_SECONDS / self.limit)

    def add(self, group: str, cost: float = 1.0) -> None:
        """Add the cost of a request, in requests, to the group's bucket."""
        if not self.limit:
            return
        now = self._clock()
        with self._times as times:
            empty_at = max(times.get(self._name + group), now) + cost * WINDOW_SECONDS / self.limit
            times.set(self._name + group, min(empty_at, now + _MAX_DEBT_WINDOWS * WINDOW_SECONDS), now)


class KnownOwners:
    """The owners whose keys the model API accepted most recently, in this process."""

    def __init__(self, max_owners: int = MAX_KNOWN_OWNERS) -> None:
        self._max_owners = max_owners
        self._owners: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, owner: object) -> bool:
        return owner in self._owners

    def add(self, owner: str) -> None:
        """Remember an owner; forget the one that was not added for longest if there are too many."""
        self._owners[owner] = None
        self._owners.move_to_end(owner)
        if len(self._owners) > self._max_owners:
            self._owners.popitem(last=False)
