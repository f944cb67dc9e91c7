"""The group commit: it takes all writes of one replica to the database, transactions and the text of running answers.

Writes that come during a commit are part of the next one: load makes the batches larger, not the queue longer.
`ConcurrentCommit` does that with text, `JournaledCommit` with transactions.

Log text that is not accepted is retried for `write_retry_seconds`: a database restart delays a running answer and does
not fail it.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.model.log import Log
from chatapi.store.drivers.driver import Batch, Committed, Driver, Transaction

logger = structlog.get_logger()

T = TypeVar("T")

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


class GroupCommit(ABC):
    """All writes of one replica."""

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
        self._in_batch = 0  # transactions, and answers with text
        self._pending: dict[str, LogWriter] = {}  # with text for the next commit
        self._unstored_since: dict[str, float] = {}  # generation ID: when its text was first refused
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to commit."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="store-group-commit")

    async def close(self) -> None:
        """Commit all that waits, as far as the database accepts it, and stop."""
        if self._task is not None:
            task, self._task = self._task, None  # from here on nothing more is queued
            self._due.set()
            await task

    @abstractmethod
    async def commit(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        """Run and commit a transaction. `durable`: the commit survives a power loss.

        Raises:
            StoreUnavailable: It is not known whether the transaction was committed.
        """

    @abstractmethod
    def schedule_append(self, writer: LogWriter, urgent: bool = False) -> None:
        """Commit the uncommitted text of the writer's log soon, or, if `urgent`, at once."""

    def withdraw(self, generation_id: str) -> None:
        """Do not append this generation's pending text, nor try it again: its ending stores the whole log."""
        self._pending.pop(generation_id, None)
        self._unstored_since.pop(generation_id, None)

    @abstractmethod
    def release(self, generation_id: str) -> None:
        """Forget a generation that has ended."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when all log text before this call has been committed, refused, or tried once."""

    @property
    def waiting(self) -> int:
        """The number of transactions, and of answers with text, that wait for this commit or the next one."""
        return self._in_batch + len(self._pending)

    def _require_open(self) -> None:
        if self._task is None or self._task.done():
            raise StoreUnavailable("The store is closed.")

    async def _run(self) -> None:
        while self._task is not None or self._due.is_set():
            await self._due.wait()
            self._due.clear()
            await self._commit_waiting()

    @abstractmethod
    async def _commit_waiting(self) -> None:
        """Commit all that waits for the task, and notify each caller and each writer of the result."""

    async def _commit_one(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        begun = time.perf_counter()
        batch = Batch(self._replica, [transaction], durable=durable)
        outcome = await self._commit_batch(batch)
        self._record(batch, outcome, begun)
        (result,) = outcome.results
        if isinstance(result, Exception):
            raise result
        committed: T = result
        return committed

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

    def _retry(self, writer: LogWriter, begun: float) -> None:
        """Put text that was not stored by a commit into a later one, unless it has waited too long.

        Args:
            begun: when that commit began, in seconds of the loop's clock.
        """
        now = self._loop.time()
        since = self._unstored_since.setdefault(writer.id, begun)
        if self._task is None or now - since >= self._write_retry_seconds:
            del self._unstored_since[writer.id]
            writer.refused(StoreUnavailable())
            return
        self._pending.setdefault(writer.id, writer)
        self._retry_later()

    @abstractmethod
    def _retry_later(self) -> None:
        """Commit pending text after `RETRY_SECONDS`."""


def _name(transaction: Callable[[], Transaction[Any]]) -> str:
    """Return the name of the repository's method: `Generations.sweep`."""
    return str(getattr(transaction, "func", transaction).__qualname__)
