"""Leaky buckets that count weighted requests per group, and the owners whose keys the model API has accepted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from chatapi.limits.local import WINDOW_SECONDS

_SWEEP_AT = 10_000  # groups in memory before those with an empty bucket are removed
_MAX_DEBT_WINDOWS = 2.0  # so that a group never waits longer than two minutes
MAX_KNOWN_OWNERS = 10_000


class LeakyBuckets:
    """A bucket per group that takes `limit` requests and drains in one minute; 0 switches it off.

    `LocalRateLimit` refuses a request that does not fit. Here a request is admitted while its bucket is not full, and
    its cost may be added later, when the outcome is known.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._empty_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def wait_seconds(self, group: str) -> float:
        """Return how long the group must wait until its bucket has room for one more request; 0 if it has."""
        empty_at = self._empty_at.get(group)
        if not self.limit or empty_at is None:
            return 0.0
        return max(0.0, empty_at - self._clock() - WINDOW_SECONDS + WINDOW_SECONDS / self.limit)

    def add(self, group: str, cost: float = 1.0) -> None:
        """Add the cost of a request, in requests, to the group's bucket."""
        if not self.limit:
            return
        now = self._clock()
        empty_at = max(self._empty_at.get(group, now), now) + cost * WINDOW_SECONDS / self.limit
        self._empty_at[group] = min(empty_at, now + _MAX_DEBT_WINDOWS * WINDOW_SECONDS)
        if len(self._empty_at) > self._sweep_at:
            self._empty_at = {name: at for name, at in self._empty_at.items() if at > now}
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._empty_at))  # keeps the cost of a sweep per request constant


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
