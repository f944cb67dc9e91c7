"""Measures the delay of the event loop, by which all texts of this process may be late."""

from __future__ import annotations

import asyncio
import time

from chatapi.metrics.metrics import Metrics

INTERVAL_SECONDS = 0.25


class LoopLag:
    """Measures how late a timer of the event loop is, four times a second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Start to measure."""
        self._schedule(asyncio.get_running_loop())

    async def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = time.perf_counter() + INTERVAL_SECONDS  # the clock of the loop counts milliseconds
        self._timer = loop.call_later(INTERVAL_SECONDS, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._metrics.loop_lagged(max(0.0, time.perf_counter() - due))
        self._schedule(loop)
