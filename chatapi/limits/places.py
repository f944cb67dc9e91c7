"""Places for things that stay open, such as WebSockets: so many for each group of callers, in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """Counts what is open, by group."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, group: str, limit: int) -> Iterator[bool]:
        """Hold one of the places of a group while the block lasts; yield False, and hold none, if all are taken."""
        if self._taken[group] >= limit:
            yield False
            return
        self._taken[group] += 1
        try:
            yield True
        finally:
            self._taken[group] -= 1
            if not self._taken[group]:
                del self._taken[group]
