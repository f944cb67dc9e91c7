"""The memory of request bodies that are not parsed yet, for all requests together."""

from __future__ import annotations

from chatapi.errors import Overloaded

FREE_BYTES = 16 * 1024  # of each body that do not count: small requests always pass


class BodyBudget:
    """Bounds the bytes of all unparsed bodies.

    A group may hold as much as is still free (the dynamic threshold of shared packet buffers, Choudhury and Hahne
    1998): one group alone gets half, and several share the rest. Unverified groups share one half of the budget.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._used = 0
        self._unverified = 0
        self._groups: dict[str, int] = {}

    @property
    def used_bytes(self) -> int:
        """The bytes that count now."""
        return self._used

    def open(self, group: str, verified: bool) -> BodyShare:
        """Return the share of one body of `group`, which starts empty."""
        return BodyShare(self, group, verified)

    def take(self, group: str, verified: bool, count: int) -> None:
        """Take `count` bytes for a group.

        Raises:
            Overloaded: the group, or all groups together, would hold too much.
        """
        free = self._total - self._used
        if not verified:
            free = min(free, self._total // 2 - self._unverified)
        held = self._groups.get(group, 0)
        if held + count > free:
            raise Overloaded(
                "Too many large request bodies are unfinished (CHATAPI_MAX_UNFINISHED_BYTES). Wait as Retry-After says."
            )
        self._add(group, verified, count)

    def give_back(self, group: str, verified: bool, count: int) -> None:
        """Give `count` bytes of a group back."""
        self._add(group, verified, -count)

    def _add(self, group: str, verified: bool, count: int) -> None:
        self._used += count
        if not verified:
            self._unverified += count
        held = self._groups.get(group, 0) + count
        if held:
            self._groups[group] = held
        else:
            self._groups.pop(group, None)


class BodyShare:
    """The share of one body in the budget."""

    def __init__(self, budget: BodyBudget, group: str, verified: bool) -> None:
        self._budget = budget
        self._group = group
        self._verified = verified
        self._taken = 0

    def grow(self, length: int) -> None:
        """Count a body that has `length` bytes by now.

        Raises:
            Overloaded: the budget has no room for it.
        """
        count = length - FREE_BYTES - self._taken
        if count > 0:
            self._budget.take(self._group, self._verified, count)
            self._taken += count

    def close(self) -> None:
        """Give everything back. A second call has no effect."""
        self._budget.give_back(self._group, self._verified, self._taken)
        self._taken = 0
