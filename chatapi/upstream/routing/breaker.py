"""A circuit breaker: an upstream that keeps failing is not asked for a while, then asked once."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

FAILURES = 5  # in a row, after which an upstream is not asked
OPEN_SECONDS = 15.0  # for the first time; doubled with each probe that fails
MOST_OPEN_SECONDS = 240.0


class State(Enum):
    """Whether requests are let through: all, none, or one that probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The breaker of one upstream. `enter` before each request, then report how it ended, once."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._failures = 0  # in a row
        self._open_until = 0.0
        self._open_seconds = OPEN_SECONDS
        self._probing = False

    @property
    def state(self) -> State:
        """The state now."""
        if self._failures < FAILURES:
            return State.CLOSED
        return State.OPEN if self._time() < self._open_until else State.HALF_OPEN

    @property
    def wait_seconds(self) -> float:
        """Seconds until a request may be let through."""
        return max(1.0, self._open_until - self._time()) if self._failures >= FAILURES else 0.0

    @property
    def is_probing(self) -> bool:
        """Whether a request probes the upstream now."""
        return self._probing

    def enter(self) -> bool:
        """Return whether a request may be sent. In the half-open state one at a time may be."""
        state = self.state
        if state is State.OPEN or (state is State.HALF_OPEN and self._probing):
            return False
        self._probing = state is State.HALF_OPEN
        return True

    def succeed(self) -> bool:
        """Note that the upstream answers; return whether this closed the breaker."""
        closed = self._failures >= FAILURES
        self._failures, self._open_seconds, self._probing = 0, OPEN_SECONDS, False
        return closed

    def fail(self) -> bool:
        """Note that a request failed because of the upstream; return whether this opened the breaker."""
        state, self._probing = self.state, False
        self._failures += 1
        if state is State.OPEN or self._failures < FAILURES:  # the failure of a request from before it opened
            return False
        self._open_until = self._time() + self._open_seconds
        self._open_seconds = min(2 * self._open_seconds, MOST_OPEN_SECONDS)
        return True

    def leave(self) -> None:
        """Note that the probe ended without a verdict, for example because its client left."""
        self._probing = False
