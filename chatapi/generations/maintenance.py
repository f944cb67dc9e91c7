"""What must be looked after by the clock: timers, silent readers, leases, and what others left running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from chatapi.bus import Bus
from chatapi.errors import StoreUnavailable
from chatapi.generations.running import CancelReason, RunningGeneration
from chatapi.model import Generation
from chatapi.settings import Settings
from chatapi.store import Store

POLL_SECONDS = 1.0  # how late a reader, or a request to stop, may be when the bus drops a message
RENEWALS = 4  # in the time of a lease: three may be lost before the lease is

logger = structlog.get_logger()


class Maintenance:
    """Two tasks: one looks at the clock and never waits for the store, the other keeps this replica's place in it."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        running: Mapping[str, RunningGeneration],
        ephemeral: Mapping[str, RunningGeneration],
        settings: Settings,
    ) -> None:
        self._store = store
        self._bus = bus
        self._running = running
        self._ephemeral = ephemeral  # have timers, and no lease
        self._tick_seconds = min(POLL_SECONDS, settings.first_token_seconds / 4, settings.idle_seconds / 4)
        self._poll_at = 0.0
        self._renew_seconds = store.lease_seconds / RENEWALS
        self._renew_at = 0.0
        self._unknown: set[str] = set()  # stored as ours at the last look, and not running
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(_repeat(self._tick, self._tick_seconds), name="housekeeper-clock"),
            asyncio.create_task(_repeat(self._look_at_store, self._look_seconds()), name="housekeeper-store"),
        ]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _tick(self) -> None:
        """Check the timers of everything that runs; now and then wake every reader, to look around."""
        for live in [*self._running.values(), *self._ephemeral.values()]:
            live.check()
        now = asyncio.get_running_loop().time()
        if now >= self._poll_at:
            self._poll_at = now + POLL_SECONDS
            self._bus.wake_all()

    def _look_seconds(self) -> float:
        """Where there are other replicas, soon; else there is nothing to look at but our own leases."""
        return min(POLL_SECONDS, self._renew_seconds) if self._store.shared else self._renew_seconds

    async def _look_at_store(self) -> None:
        """Renew our leases, heed what others want of us, and close what others left running."""
        try:
            await self._renew()  # first: a process that was asleep must not sweep its own
            if self._store.shared:
                await self._apply_remote_requests()
            while closed := await self._store.generations.sweep():
                for generation in closed:
                    self._bus.publish(generation.id)
                    log_outcome(generation)
                await self._renew()
        except StoreUnavailable as error:
            logger.warning("leases not renewed", code=error.code)

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._renew_at:
            await self._store.generations.renew(list(self._running))
            self._renew_at = now + self._renew_seconds * (1 - 1e-3)  # a clock's tick must not make it every other look

    async def _apply_remote_requests(self) -> None:
        """Stop what somebody left word to stop, and what is ours no longer: swept, or deleted with its session."""
        before = list(self._running.values())  # first: what begins meanwhile is in the store, and not in here
        stored = {running.id: running for running in await self._store.generations.running_here()}
        for live in before:
            if live.id not in stored:
                live.cancel(CancelReason.DELETED)
            elif stored[live.id].stop_requested:
                live.cancel(CancelReason.STOPPED)
        await self._expire_orphans({id for id in stored if id not in self._running})

    async def _expire_orphans(self, unknown: set[str]) -> None:
        """End what is stored as ours and does not run: its begin was committed, and the answer to that was lost.

        One that is just beginning, or ending, is known by the next look, or gone.
        """
        orphans, self._unknown = sorted(unknown & self._unknown), unknown
        if orphans:
            await self._store.generations.expire_orphans(orphans)


async def _repeat(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Take the step again and again. What nobody foresaw in one is logged, and the next is taken all the same."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except Exception:  # a clock that stops would leave readers and timers for ever
            logger.exception("unexpected error", where=step.__name__)


def log_outcome(generation: Generation) -> None:
    """One line for each generation; never what was said."""
    assert generation.ended_at is not None
    first = generation.first_token_at
    usage = generation.usage
    logger.info(
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
