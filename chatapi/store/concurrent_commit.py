"""The group commit of a database that runs transactions concurrently: each by itself, and log text in batches.

A transaction starts at once, in the task of its caller. Text waits until `PACE_SECONDS` after the last batch, so that
many streams share one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from chatapi.metrics import Metrics
from chatapi.store.drivers.driver import Batch, Committed, Driver, Fenced, Transaction
from chatapi.store.group_commit import RETRY_SECONDS, WRITE_RETRY_SECONDS, GroupCommit, LogWriter
from chatapi.store.values import Append

T = TypeVar("T")

PACE_SECONDS = 0.004  # maximum delay before log text is committed; not visible, and streams share commits


class ConcurrentCommit(GroupCommit):
    """Commits each transaction at once, and log text in batches."""

    def __init__(
        self,
        driver: Driver,
        replica: str,
        write_retry_seconds: float = WRITE_RETRY_SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(driver, replica, write_retry_seconds, metrics)
        self._sending: set[str] = set()  # generations with text in the batch that is being committed
        self._flushes: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_commit = 0.0

    async def commit(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        """Run and commit a transaction, beside others."""
        self._require_open()
        return await self._commit_one(transaction, durable)

    def schedule_append(self, writer: LogWriter, urgent: bool = False) -> None:
        """Commit the uncommitted text of the writer's log, within `PACE_SECONDS` or, if `urgent`, at once."""
        self._pending[writer.id] = writer
        if urgent:
            self._due.set()
        elif self._timer is None and not self._due.is_set():
            wait = self._last_commit + PACE_SECONDS - self._loop.time()
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._due.set)
            else:
                self._due.set()

    def withdraw(self, generation_id: str) -> None:
        """Do not append this generation's pending text, nor try it again: its ending stores the whole log."""
        super().withdraw(generation_id)
        self._sending.discard(generation_id)

    def release(self, generation_id: str) -> None:
        """Do nothing: no text of a generation that has ended is kept."""

    async def flush(self) -> None:
        """Return when all log text before this call has been committed, refused, or tried once."""
        self._require_open()
        done: asyncio.Future[None] = self._loop.create_future()
        self._flushes.append(done)
        self._due.set()
        await done

    async def _commit_waiting(self) -> None:
        """Commit all text that waits, and notify each writer of the result."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last_commit = self._loop.time()
        writers, self._pending = list(self._pending.values()), {}
        flushes, self._flushes = self._flushes, []
        batch = Batch(self._replica, [], [Append(writer.id, writer.log.uncommitted()) for writer in writers])
        begun = time.perf_counter()
        self._sending = {writer.id for writer in writers}
        outcome = await self._commit_batch(batch) if writers else Committed([])
        self._record(batch, outcome, begun)
        for writer, append in zip(writers, batch.appends, strict=True):
            self._notify(writer, append, outcome)
        for flush in flushes:
            if not flush.done():
                flush.set_result(None)

    def _notify(self, writer: LogWriter, append: Append, outcome: Committed) -> None:
        """Notify a writer of the result for its text. Text that was not stored is tried again, unless withdrawn."""
        if writer.id in outcome.unstored or writer.id in outcome.locked:
            if writer.id in self._sending:
                self._retry(writer, self._last_commit)
            return
        self._unstored_since.pop(writer.id, None)
        if writer.id in outcome.fenced:
            writer.refused(Fenced())
        elif append.pieces:
            writer.committed(append.pieces[-1].position)

    def _retry_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY_SECONDS, self._due.set)
