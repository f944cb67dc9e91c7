"""The group commit of a driver with a journal: transactions through the queue, log text through the journal.

Text that arrives in one pass of the event loop is one write, from the loop itself; its readers are notified in the same
pass. It waits neither for a transaction nor for a disk that is slow to sync.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.store.drivers.driver import Driver
from chatapi.store.group_commit import RETRY_SECONDS, GroupCommit, LogWriter
from chatapi.store.journal import Journal
from chatapi.store.values import Append

SYNC_SECONDS = 1.0  # of text that a power cut may cost
FORGET_SECONDS = 1.0  # between checks for logs in memory that no read needs

logger = structlog.get_logger()


class JournaledCommit(GroupCommit):
    """Commits transactions in batches, and log text at once."""

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        replica: str,
        write_retry_seconds: float,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(driver, replica, write_retry_seconds, metrics)
        self._journal = journal
        self._scheduled: asyncio.Handle | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._ended: list[str] = []  # generations whose logs are in memory for reads that began before they ended
        self._forgetting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Commit the queue and all text, as far as the database and the disk accept it, and stop."""
        if self._task is not None:
            self._append_now()
        await super().close()
        for timer in (self._scheduled, self._sync_timer):
            if timer is not None:
                timer.cancel()
        if self._forgetting is not None:
            self._forgetting.cancel()

    def schedule_append(self, writer: LogWriter, urgent: bool = False) -> None:
        """Write the uncommitted text of the writer's log at the end of this pass of the event loop."""
        self._pending[writer.id] = writer
        if self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._append)

    async def flush(self) -> None:
        """Try to write all log text now."""
        self._require_open()
        self._append_now()
        await asyncio.sleep(0)  # a caller that repeats this lets others run

    def release(self, generation_id: str) -> None:
        """Drop the text of a generation that has ended: the database has all of it, or the generation was deleted."""
        self._journal.release(generation_id)
        self._ended.append(generation_id)
        if self._forgetting is None:
            self._forgetting = self._loop.create_task(self._forget(), name="journal-forget")

    async def _forget(self) -> None:
        """Drop logs in memory once no read can ask for them: a read sees the database as it was when it began."""
        while self._ended:
            await asyncio.sleep(FORGET_SECONDS)
            ended, self._ended = self._ended, []
            await self._driver.settle_reads()
            for generation_id in ended:
                self._journal.logs.pop(generation_id, None)
        self._forgetting = None

    def _writers_for_batch(self) -> list[LogWriter]:
        """Return none: a batch has transactions only."""
        return []

    def _append_now(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._append()

    def _append(self) -> None:
        """Write all pending text, and notify its writers. The event loop calls this."""
        self._scheduled = None
        pending, self._pending = self._pending, {}
        logs = self._journal.logs
        appends: dict[LogWriter, Append] = {}
        for writer in pending.values():
            log = logs[writer.id] = writer.log
            appends[writer] = Append(writer.id, log.uncommitted())
        try:
            self._journal.append(appends.values())
        except StoreUnavailable as error:
            self._last_commit = self._loop.time()
            self._metrics.journal_failed()
            reason = type(error.__cause__ or error).__name__
            logger.warning("journal write failed", answers=len(appends), reason=reason)
            for writer in appends:
                self._retry(writer)
            return
        if appends and self._sync_timer is None:
            self._sync_timer = self._loop.call_later(SYNC_SECONDS, self._sync)
        for writer, append in appends.items():
            if self._unstored_since:
                self._unstored_since.pop(writer.id, None)
            if append.pieces:
                writer.committed(append.pieces[-1].position)

    def _sync(self) -> None:
        self._sync_timer = None
        self._journal.sync(self._sync_failed)

    def _sync_failed(self) -> None:
        """Count the failure. A thread of the journal calls this, also while the event loop ends."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._metrics.journal_sync_failed)

    def _retry_later(self) -> None:
        if self._scheduled is None:
            self._scheduled = self._loop.call_later(RETRY_SECONDS, self._append)
