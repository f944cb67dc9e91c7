"""Waiting for something that happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 30.0  # it takes milliseconds, or a lease
POLL_SECONDS = 0.02


def wait_for(done: Callable[[], object]) -> None:
    """Return when `done` returns something true."""
    until = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < until, "it never happens"
        time.sleep(POLL_SECONDS)
