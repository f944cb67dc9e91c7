"""The times at which the buckets of groups are empty: one number for each group, for the limits of requests."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

SWEEP_AT = 10_000  # groups in memory before those with an empty bucket are removed


class Times(Protocol):
    """A number for each group; 0 where there is none.

    It is used as a context, which keeps others from changing what was read and returns the times to use.
    """

    def __enter__(self) -> Times: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def get(self, group: str) -> float:
        """Return when the bucket of a group is empty."""

    def set(self, group: str, empty_at: float, now: float) -> None:
        """Set when it will be. Groups whose time is before `now` may be forgotten."""


class LocalTimes:
    """The times of this process."""

    def __init__(self) -> None:
        self._empty_at: dict[str, float] = {}
        self._sweep_at = SWEEP_AT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def get(self, group: str) -> float:
        return self._empty_at.get(group, 0.0)

    def set(self, group: str, empty_at: float, now: float) -> None:
        self._empty_at[group] = empty_at
        if len(self._empty_at) > self._sweep_at:
            self._empty_at = {name: at for name, at in self._empty_at.items() if at > now}
            self._sweep_at = max(SWEEP_AT, 2 * len(self._empty_at))  # keeps the cost of a sweep per request constant
