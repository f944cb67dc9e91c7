"""Periodic maintenance: timeouts, reader wake-ups, lease renewal, recovery of orphaned generations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from chatapi.bus import Bus
from chatapi.errors import StoreUnavailable
from chatapi.generations.running import CancelReason, RunningGeneration
from chatapi.metrics import Metrics
from chatapi.model import Clock, Generation
from chatapi.settings import Settings
from chatapi.store import Store

POLL_SECONDS = 1.0  # how late a reader, or a request to stop, may be when the bus drops a message
RENEWALS = 4  # in the time of a lease: three may be lost before the lease is

logger = structlog.get_logger()


class Maintenance:
    """Two tasks: one checks timers and never waits for the store, the other renews leases and looks at other replicas.

    Neither ever ends by itself, whatever a step raises.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        running: Mapping[str, RunningGeneration],
        ephemeral: Mapping[str, RunningGeneration],
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._bus = bus
        self._running = running
        self._ephemeral = ephemeral  # have timers, and no lease
        self._clock = clock
        self._metrics = metrics
        self._tick_seconds = min(POLL_SECONDS, settings.first_token_seconds / 4, settings.idle_seconds / 4)
        self._poll_at = 0.0
        self._renew_seconds = store.lease_seconds / RENEWALS
        self._renew_at = 0.0
        self._clock_lead = 0.0  # of the wall clock before the monotonic one, at the last look
        self._sweep_at = 0.0
        self._free_at = 0.0
        self._unknown: set[str] = set()  # stored as ours at the last look, and not running
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Start the tasks."""
        self._clock_lead = self._read_clock_lead()
        self._tasks = [
            asyncio.create_task(repeat(self._check_timers, self._tick_seconds), name="maintenance-timers"),
            asyncio.create_task(repeat(self._look_at_store, self._look_seconds()), name="maintenance-store"),
        ]

    async def close(self) -> None:
        """Stop the tasks."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _check_timers(self) -> None:
        """Check the timers of all running generations; once in a while, wake every reader to look around."""
        for running in [*self._running.values(), *self._ephemeral.values()]:
            running.check()
        now = asyncio.get_running_loop().time()
        if now >= self._poll_at:
            self._poll_at = now + POLL_SECONDS
            self._bus.wake_all()

    def _look_seconds(self) -> float:
        """Soon where there are other replicas; otherwise there are only our own leases to renew."""
        return min(POLL_SECONDS, self._renew_seconds) if self._store.shared else self._renew_seconds

    async def _look_at_store(self) -> None:
        """Renew our leases, apply the requests of other replicas, and close generations that others left running."""
        try:
            await self._renew()  # first: a process that was asleep must not sweep its own
            if self._store.shared:
                await self._apply_remote_requests()
                await self._end_abandoned()
            while self._may_sweep() and (closed := await self._store.generations.sweep(spare_own=True)):
                for generation in closed:
                    self._bus.publish(generation.id)
                    log_outcome(generation)
                    self._metrics.answer_ended(generation)
                await self._renew()
        except StoreUnavailable as error:
            logger.warning("leases not renewed", code=error.code)

    async def _end_abandoned(self) -> None:
        """Free the rows that a paused replica has locked: a sweep skips them."""
        now = asyncio.get_running_loop().time()
        if now >= self._free_at:
            self._free_at = now + self._store.lease_seconds
            if count := await self._store.end_abandoned():
                logger.warning("transactions of a paused replica ended", count=count)

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._renew_at:
            await self._store.generations.renew(list(self._running))
            self._renew_at = now + self._renew_seconds * (1 - 1e-3)  # a clock's tick must not skip every other look

    def _may_sweep(self) -> bool:
        """Return whether leases of other replicas can be judged by the wall clock now.

        After a step forward all leases look lapsed. A replica that is alive renews within the length of a lease.
        """
        lead = self._read_clock_lead()
        stepped = lead - self._clock_lead > self._renew_seconds
        self._clock_lead = lead
        now = asyncio.get_running_loop().time()
        if stepped:
            self._sweep_at = now + self._store.lease_seconds
            logger.warning("wall clock stepped forward")
        return now >= self._sweep_at

    def _read_clock_lead(self) -> float:
        return self._clock() / 1_000_000 - asyncio.get_running_loop().time()

    async def _apply_remote_requests(self) -> None:
        """Stop generations whose stop was requested, and those that are not ours any more: swept, or deleted."""
        before = list(self._running.values())  # first: one that starts meanwhile is in the store, and not in here
        stored = {running.id: running for running in await self._store.generations.running_here()}
        for running in before:
            if running.id not in stored:
                running.cancel(CancelReason.DELETED)
            elif stored[running.id].stop_requested:
                running.cancel(CancelReason.STOPPED)
        await self._expire_orphans({generation_id for generation_id in stored if generation_id not in self._running})

    async def _expire_orphans(self, unknown: set[str]) -> None:
        """End generations that are stored as ours and do not run: the response to their commit was lost.

        One that is just starting, or ending, is known at the next look, or gone.
        """
        orphans, self._unknown = sorted(unknown & self._unknown), unknown
        if orphans:
            await self._store.generations.expire_orphans(orphans)


async def repeat(step: Callable[[], Awaitable[object]], seconds: float, at_once: bool = False) -> None:
    """Take the step again and again. An unexpected error is logged, if that works, and the next step is taken.

    The first step is taken after `seconds`, or `at_once`.
    """
    while True:
        if not at_once:
            await asyncio.sleep(seconds)
        at_once = False
        try:
            await step()
        except Exception:  # without timers and leases, readers wait forever and answers are interrupted
            with suppress(Exception):  # logging may be the cause: a full disk, a closed pipe
                logger.exception("unexpected error", where=step.__name__)


def log_outcome(generation: Generation) -> None:
    """Log one line for a generation; never its text."""
    assert generation.ended_at is not None
    first = generation.first_token_at
    usage = generation.usage
    logger.info(
        "generation",
        generation_id=generation.id,
        session_id=generation.session_id,
        model=generation.model,
        **({"upstream": generation.upstream} if generation.upstream is not None else {}),
        status=generation.status.value,
        error=generation.error_code,
        bytes=generation.length,
        input_tokens=usage and usage.input_tokens,
        output_tokens=usage and usage.output_tokens,
        first_token_ms=(first - generation.created_at) // 1000 if first else None,
        duration_ms=(generation.ended_at - generation.created_at) // 1000,
    )
