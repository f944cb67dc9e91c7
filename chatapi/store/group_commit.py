"""The group commit: one queue that gathers log text and transactions into batches.

While nothing is being committed, a transaction starts at once, in the task of its caller; those that arrive during a
commit are part of the next one. Log text alone waits until `PACE_SECONDS` after the last commit, so that many streams
share one. Load makes the batches larger, not the queue longer.

Log text that the database does not accept is retried for `write_retry_seconds`: a database restart delays a running
answer and does not fail it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.model.log import Log
from chatapi.store.drivers.driver import Batch, Committed, Driver, Fenced, Transaction
from chatapi.store.values import Append

logger = structlog.get_logger()

T = TypeVar("T")

PACE_SECONDS = 0.004  # maximum delay before log text is committed; not visible, and streams share commits
WRITE_RETRY_SECONDS = 10.0  # how long log text is retried before its answer fails
RETRY_SECONDS = 0.25  # between attempts to store log text


class LogWriter(Protocol):
    """A generation whose log is being written; it is notified of each commit."""

    id: str
    log: Log

    def committed(self, position: int) -> None:
        """The log is stored up to `position`."""

    def refused(self, error: Exception) -> None:
        """Text that is not committed by now will not be."""


class GroupCommit:
    """Batches all writes of one replica."""

    def __init__(
        self,
        driver: Driver,
        replica: str,
        write_retry_seconds: float = WRITE_RETRY_SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        self._driver = driver
        self._metrics = metrics or Metrics()
        self._replica = replica
        self._write_retry_seconds = write_retry_seconds
        self._queue: list[tuple[Callable[[], Transaction[Any]], asyncio.Future[Any]]] = []
        self._in_batch = 0  # transactions, and answers with text
        self._is_committing = False  # one transaction, or a batch, where the database commits one at a time
        self._durable = False
        self._pending: dict[str, LogWriter] = {}
        self._sending: set[str] = set()  # generations with text in the batch that is being committed
        self._unstored_since: dict[str, float] = {}  # generation ID: when its text was first refused
        self._flushes: list[asyncio.Future[None]] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last_commit = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to commit."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="store-group-commit")

    async def close(self) -> None:
        """Commit the queue, as far as the database accepts it, and stop."""
        if self._task is not None:
            task, self._task = self._task, None  # from here on nothing more is queued
            self._due.set()
            await task

    async def commit(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        """Run and commit a transaction. `durable`: the commit survives a power loss.

        Raises:
            StoreUnavailable: It is not known whether the transaction was committed.
        """
        self._require_open()
        if self._driver.concurrent:
            return await self._commit_alone(transaction, durable)
        if not (self._is_committing or self._queue):
            self._is_committing = True
            try:
                return await self._commit_alone(transaction, durable)
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

    async def _commit_alone(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        begun = time.perf_counter()
        batch = Batch(self._replica, [transaction], durable=durable)
        outcome = await self._commit_batch(batch)
        self._record(batch, outcome, begun)
        (result,) = outcome.results
        if isinstance(result, Exception):
            raise result
        committed: T = result
        return committed

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
        self._pending.pop(generation_id, None)
        self._sending.discard(generation_id)
        self._unstored_since.pop(generation_id, None)

    def release(self, generation_id: str) -> None:
        """Forget a generation that has ended."""

    async def flush(self) -> None:
        """Return when all log text before this call has been committed, refused, or tried once."""
        self._require_open()
        done: asyncio.Future[None] = self._loop.create_future()
        self._flushes.append(done)
        self._due.set()
        await done

    @property
    def waiting(self) -> int:
        """The number of transactions, and of answers with text, that wait for this commit or the next one."""
        return self._in_batch + len(self._queue) + len(self._pending)

    def _require_open(self) -> None:
        if self._task is None or self._task.done():
            raise StoreUnavailable("The store is closed.")

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._last_commit = self._loop.time()
            self._is_committing = True
            await self._commit_queue()
            self._is_committing = False
            if self._queue:  # they came during the commit
                self._due.set()
            if self._task is None and not self._queue and not self._flushes:
                return

    async def _commit_batch(self, batch: Batch) -> Committed:
        """Commit a batch. Whatever the driver raises, each transaction and each text gets a result."""
        size = len(batch.transactions) + len(batch.appends)
        self._in_batch += size
        try:
            return await self._driver.commit(batch)
        except Exception as error:  # every caller gets an answer, and the next batch is tried
            if not isinstance(error, StoreUnavailable):
                logger.exception("unforeseen error", where="group commit")
            refusal = StoreUnavailable()
            refusal.__cause__ = error.__cause__ or error
            unstored = {append.generation_id for append in batch.appends}
            return Committed([refusal] * len(batch.transactions), unstored=unstored, refusal=refusal)
        finally:
            self._in_batch -= size

    async def _commit_queue(self) -> None:
        """Commit all that is queued, and notify each caller and each writer of the result."""
        queue, self._queue = self._queue, []
        writers = self._writers_for_batch()
        flushes, self._flushes = self._flushes, []
        durable, self._durable = self._durable, False
        appends = [Append(writer.id, writer.log.uncommitted()) for writer in writers]
        batch = Batch(self._replica, [transaction for transaction, _ in queue], appends, durable)
        begun = time.perf_counter()
        self._sending = {writer.id for writer in writers}
        outcome = await self._commit_batch(batch) if queue or appends else Committed([])
        self._record(batch, outcome, begun)
        for writer, append in zip(writers, appends, strict=True):
            self._notify(writer, append, outcome)
        for flush in flushes:
            if not flush.done():
                flush.set_result(None)
        for (_, done), result in zip(queue, outcome.results, strict=True):
            if done.cancelled():
                continue
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)

    def _notify(self, writer: LogWriter, append: Append, outcome: Committed) -> None:
        """Notify a writer of the result for its text. Text that was not stored is tried again, unless withdrawn."""
        if writer.id in outcome.unstored or writer.id in outcome.locked:
            if writer.id in self._sending:
                self._retry(writer)
            return
        self._unstored_since.pop(writer.id, None)
        if writer.id in outcome.fenced:
            writer.refused(Fenced())
        elif append.pieces:
            writer.committed(append.pieces[-1].position)

    def _writers_for_batch(self) -> list[LogWriter]:
        """Return the writers whose text is part of the next batch."""
        writers, self._pending = list(self._pending.values()), {}
        return writers

    def _record(self, batch: Batch, outcome: Committed, begun: float) -> None:
        """Count a batch in the metrics, unless it was empty; log a failure with its kind, and without any content.

        Text that meets a lock is no failure: the ending of its answer stores it, or another replica's sweep or deletion
        makes it void. It is one if the lock is still held after `RETRY_SECONDS`: then its holder hangs.
        """
        if not batch.transactions and not batch.appends:
            return
        seconds = time.perf_counter() - begun
        unstored = outcome.unstored
        if outcome.locked:
            long_ago = self._loop.time() - RETRY_SECONDS
            hanging = {one for one in outcome.locked if self._unstored_since.get(one, self._loop.time()) <= long_ago}
            unstored = unstored | hanging
        failed = bool(unstored) or any(isinstance(result, StoreUnavailable) for result in outcome.results)
        self._metrics.committed(seconds, len(batch.transactions), len(batch.appends), failed)
        if failed:
            pairs = zip(batch.transactions, outcome.results, strict=True)
            refused = [
                (_name(transaction), error) for transaction, error in pairs if isinstance(error, StoreUnavailable)
            ]
            errors = [error for _, error in refused] + ([outcome.refusal] if outcome.refusal is not None else [])
            logger.warning(
                "store commit failed",
                writes=sorted({name for name, _ in refused}),
                answers=len(unstored),
                reasons=sorted({type(error.__cause__ or error).__name__ for error in errors}) or ["Locked"],
                seconds=round(seconds, 3),
            )

    def _retry(self, writer: LogWriter) -> None:
        """Put text that was not stored into a later commit, unless it has waited too long."""
        now = self._loop.time()
        since = self._unstored_since.setdefault(writer.id, self._last_commit)
        if self._task is None or now - since >= self._write_retry_seconds:
            del self._unstored_since[writer.id]
            writer.refused(StoreUnavailable())
            return
        self._pending.setdefault(writer.id, writer)
        self._retry_later()

    def _retry_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY_SECONDS, self._due.set)


def _name(transaction: Callable[[], Transaction[Any]]) -> str:
    """Return the name of the repository's method: `Generations.sweep`."""
    return str(getattr(transaction, "func", transaction).__qualname__)
