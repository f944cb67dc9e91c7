"""The group commit of a driver with a journal: transactions in batches, log text through the journal.

While nothing is being committed, a transaction starts at once, in the task of its caller; those that arrive during a
commit are the next batch.

Text that arrives in one pass of the event loop is one write, from the loop itself; its readers are notified in the same
pass. It waits neither for a transaction nor for a disk that is slow to sync.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.store.drivers.driver import Batch, Driver, Transaction
from chatapi.store.group_commit import RETRY_SECONDS, GroupCommit, LogWriter
from chatapi.store.journal import Journal
from chatapi.store.values import Append

SYNC_SECONDS = 1.0  # of text that a power cut may cost
FORGET_SECONDS = 1.0  # between checks for logs in memory that no read needs

logger = structlog.get_logger()

T = TypeVar("T")


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
        self._queue: list[tuple[Callable[[], Transaction[Any]], asyncio.Future[Any]]] = []
        self._is_committing = False  # one transaction, or a batch
        self._durable = False  # the next batch must survive a power loss
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

    async def commit(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        """Run and commit a transaction: by itself, or with those that wait for the same commit to end."""
        self._require_open()
        if not (self._is_committing or self._queue):
            self._is_committing = True
            try:
                return await self._commit_one(transaction, durable)
            finally:  # a caller that is cancelled leaves its transaction to the driver, in front of the next batch
                self._is_committing = False
                if self._queue:
                    self._due.set()
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((transaction, done))
        self._durable |= durable
        if not self._is_committing:
            self._due.set()
        return await done

    @property
    def waiting(self) -> int:
        """The number of transactions, and of answers with text, that wait for this commit or the next one."""
        return super().waiting + len(self._queue)

    async def _commit_waiting(self) -> None:
        """Commit all transactions in the queue, and notify each caller of the result."""
        self._is_committing = True
        queue, self._queue = self._queue, []
        durable, self._durable = self._durable, False
        if queue:
            batch = Batch(self._replica, [transaction for transaction, _ in queue], durable=durable)
            begun = time.perf_counter()
            outcome = await self._commit_batch(batch)
            self._record(batch, outcome, begun)
            for (_, done), result in zip(queue, outcome.results, strict=True):
                if done.cancelled():
                    continue
                if isinstance(result, Exception):
                    done.set_exception(result)
                else:
                    done.set_result(result)
        self._is_committing = False
        if self._queue:  # they came during the commit
            self._due.set()

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
            self._metrics.journal_failed()
            reason = type(error.__cause__ or error).__name__
            logger.warning("journal write failed", answers=len(appends), reason=reason)
            for writer in appends:
                self._retry(writer, self._loop.time())
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
