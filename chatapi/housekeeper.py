"""What must be looked after by the clock: timers, silent readers, leases, and what others left running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from chatapi.bus import LocalBus
from chatapi.errors import StoreUnavailable
from chatapi.live import Live
from chatapi.model import Generation
from chatapi.settings import Settings
from chatapi.store import Store
from chatapi.store.store import LEASE_SECONDS

POLL_SECONDS = 1.0  # how late a reader may be when the bus drops a wake-up
RENEW_SECONDS = LEASE_SECONDS / 3  # two renewals may be lost before the lease is

log = structlog.get_logger()


class Housekeeper:
    """Two tasks: one looks at the clock and never waits for the store, the other keeps the leases in it."""

    def __init__(self, store: Store, bus: LocalBus, running: Mapping[str, Live], settings: Settings) -> None:
        self._store = store
        self._bus = bus
        self._running = running
        self._tick_seconds = min(POLL_SECONDS, settings.first_token_seconds / 4, settings.idle_seconds / 4)
        self._poll_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(_repeat(self._tick, self._tick_seconds), name="housekeeper-clock"),
            asyncio.create_task(_repeat(self._keep_leases, RENEW_SECONDS), name="housekeeper-leases"),
        ]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _tick(self) -> None:
        """Check the timers of everything that runs; now and then wake every reader, to look around."""
        for live in list(self._running.values()):
            live.check()
        now = asyncio.get_running_loop().time()
        if now >= self._poll_at:
            self._poll_at = now + POLL_SECONDS
            self._bus.wake_all()

    async def _keep_leases(self) -> None:
        """Renew our leases, then close what others left running."""
        try:
            await self._store.renew(list(self._running))  # first: a process that was asleep must not sweep its own
            while closed := await self._store.sweep():
                for generation in closed:
                    self._bus.publish(generation.id)
                    log_end(generation)
        except StoreUnavailable as error:
            log.warning("leases not renewed", code=error.code)


async def _repeat(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Take the step again and again. What nobody foresaw in one is logged, and the next is taken all the same."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except Exception:  # a clock that stops would leave readers and timers for ever
            log.exception("unforeseen error", where=step.__name__)


def log_end(generation: Generation) -> None:
    """One line for each generation; never what was said."""
    assert generation.ended_at is not None
    first = generation.first_token_at
    usage = generation.usage
    log.info(
        "generation",
        generation_id=generation.id,
        session_id=generation.session_id,
        model=generation.model,
        status=generation.status.value,
        error=generation.error_code,
        bytes=generation.length,
        input_tokens=usage and usage.input_tokens,
        output_tokens=usage and usage.output_tokens,
        first_token_ms=(first - generation.created_at) // 1000 if first else None,
        duration_ms=(generation.ended_at - generation.created_at) // 1000,
    )
