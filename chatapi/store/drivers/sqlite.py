"""The SQLite driver: one file, one writer thread, a few reader threads, and a journal for the text of running answers.

WAL mode. A batch commits at synchronous=NORMAL: the operating system has it, so it survives `kill -9`. A durable batch
commits at FULL, which also syncs every commit before it, so it survives a power loss. Each thread owns its connection;
the event loop never waits for the database. The text of a running answer is in the journal only (`store.journal`); it
is in table `piece` from the next start on, if the process dies.

After a sync that failed, the kernel may have dropped earlier frames of the write-ahead log (WAL) and reports the next
sync as successful: a later commit would sit behind a gap, and be lost with it after a power loss. So nothing more is
committed to that WAL before a checkpoint has copied it into the database and emptied it. SQLite ignores errors of its
automatic checkpoints; they are off, and the writer checkpoints.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, TypeVar

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.model import Piece
from chatapi.settings import SettingsError
from chatapi.store.drivers.driver import Asked, Batch, Committed, RunningLog, Together, Transaction
from chatapi.store.drivers.sqlite_file import OLDEST_SQLITE, claim, connect, dialect, migrate
from chatapi.store.drivers.sqlite_thread import ConnectionThread
from chatapi.store.drivers.write_turn import WriteTurn
from chatapi.store.journal import Journal, JournalError, journal_folder
from chatapi.store.peers import Peers, RunsElsewhere, with_pieces
from chatapi.store.pieces import RESTORE_PIECE, append_rows
from chatapi.store.values import Append

logger = structlog.get_logger()

T = TypeVar("T")

READERS = 2  # threads that only read
SMALL_BYTES = 32 * 1024 * 1024  # of a file that is rebuilt after every run of the retention job with deletions
VACUUM_SECONDS = 86_400.0  # between two rebuilds of a larger file
RUNNING_REPLICA = "SELECT replica FROM generation WHERE id = ?1 AND status = 'running'"
CHECKPOINT_COMMITS = 250  # between checkpoints: about a thousand pages, as SQLite does by itself


class SQLiteDriver:
    """Sessions in one SQLite file, which no other process may have open, except for the workers of one service.

    With `peers` and their `turn`, this process is one of several workers. Their supervisor has the lock of the file and
    has applied the migrations, and each has a journal of its own. A worker recovers that of its predecessor.
    """

    def __init__(self, path: Path, peers: Peers | None = None, turn: WriteTurn | None = None) -> None:
        self.path = path
        self.exclusive = peers is None
        self._peers = peers
        self._turn = turn
        self._lock: int | None = None
        self._writer = ConnectionThread("store-writer")
        self._readers = [ConnectionThread(f"store-reader-{number}") for number in range(READERS)]
        self._next_reader = itertools.cycle(self._readers)
        self._synchronous = ""
        self._commits = 0  # since the last checkpoint
        self._flags: bytearray | mmap = bytearray(1) if turn is None else turn.flags  # is 1 after a sync that failed
        self._vacuumed: tuple[str] | None = None  # the deletion whose bytes the last rebuild removed
        self._vacuum_at = 0.0
        self.journal = Journal(journal_folder(path), worker=peers.number if peers is not None else None)
        if peers is not None:
            peers.serve(self.journal)

    async def open(self) -> None:
        """Create or open the file, exclusively, and apply pending migrations.

        Raises:
            SettingsError: The file cannot be used.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise SettingsError(
                f"DATABASE_URL: SQLite must be 3.35 or newer, but this Python has {sqlite3.sqlite_version}."
            )
        try:
            if self._peers is None:
                self._lock = claim(self.path)
            await self._writer.start(partial(connect, self.path))
            if self._peers is None:
                await self._writer.run(migrate)
            await self._recover()
            for reader in self._readers:
                await reader.start(partial(connect, self.path, read_only=True))
        except JournalError as error:
            await self.close()
            raise SettingsError(f"DATABASE_URL: the journal beside {self.path} cannot be used: {error}") from error
        except (OSError, sqlite3.Error) as error:
            await self.close()
            raise SettingsError(f"DATABASE_URL: the file {self.path} cannot be used: {error}.") from error

    async def _recover(self) -> None:
        """Move text that an earlier process left in the journal into the database.

        Raises:
            JournalError: The journal cannot be used.
        """
        recovered = await asyncio.to_thread(self.journal.open)
        if recovered.damaged:
            logger.warning("journal damaged, valid records kept", segments=recovered.damaged)
        await self._write(partial(self._restore, pieces=recovered.pieces))
        await asyncio.to_thread(self.journal.discard_old)

    def _restore(self, connection: sqlite3.Connection, pieces: dict[str, list[Piece]]) -> None:
        self._begin(connection, durable=True)
        rows = append_rows([Append(generation_id, found) for generation_id, found in pieces.items()])
        connection.executemany(RESTORE_PIECE, rows)
        connection.execute("COMMIT")

    async def close(self) -> None:
        """Finish queued work, checkpoint, and unlock the file."""
        for reader in self._readers:
            await reader.stop()
        await self._writer.stop()
        await asyncio.to_thread(self.journal.close)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def keep_lock(self) -> int:
        """Return the lock of the file, which this driver then does not release: the caller, and its children, have it.

        The system releases it when the last of them has ended.
        """
        lock, self._lock = self._lock, None
        assert lock is not None
        return lock

    async def commit(self, batch: Batch) -> Committed:
        assert not batch.appends, "text of running answers goes to the journal"
        return await self._write(partial(self._commit, batch=batch))

    async def _write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the writer's thread; among several workers, in this one's turn."""
        return await self._writer.run(job if self._turn is None else partial(_in_turn, turn=self._turn, job=job))

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        while True:
            try:
                return await next(self._next_reader).run(partial(self._read, transaction=transaction))
            except RunsElsewhere as log:  # again, on a later state: if it still runs there, this is its text
                assert self._peers is not None
                pieces = await self._peers.read(log.asked, log.replica)
                transaction = with_pieces(transaction, log.asked, pieces)

    async def settle_reads(self) -> None:
        """Return when every read that had begun before this call has ended."""
        for reader in self._readers:
            await reader.run(_nothing)

    def _read(self, connection: sqlite3.Connection, transaction: Callable[[], Transaction[T]]) -> T:
        try:
            connection.execute("BEGIN")
            try:
                return self._run(connection, transaction())
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    def _run(self, connection: sqlite3.Connection, transaction: Transaction[T]) -> T:
        """Drive a transaction's generator to its result."""
        cursor = connection.cursor()  # one for all statements: to make one costs a fifth of a statement
        rows: list[tuple[Any, ...]] | None = None
        try:
            while True:
                asked = next(transaction) if rows is None else transaction.send(rows)
                rows = self._fetch(cursor, asked)
        except StopIteration as end:
            result: T = end.value
            return result

    def _fetch(self, cursor: sqlite3.Cursor, asked: Asked) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, or of the first of several."""
        if isinstance(asked, RunningLog):
            log = self.journal.logs.get(asked.generation_id)
            if log is not None:
                return append_rows([Append(asked.generation_id, log.read(0))])
            if self._peers is not None:
                running = cursor.execute(RUNNING_REPLICA, (asked.generation_id,)).fetchone()
                if running is not None and running[0] != self._peers.replica:
                    raise RunsElsewhere(asked, running[0])
            asked = asked.statement
        if not isinstance(asked, Together):
            sql, values = asked
            return cursor.execute(dialect(sql), values).fetchall()
        rows, *_ = [cursor.execute(dialect(sql), values).fetchall() for sql, values in asked.statements]
        return rows

    async def end_abandoned(self) -> int:
        return 0

    async def erase_deleted(self) -> bool:
        """Rebuild the database, empty the WAL, and leave the segment of the journal that has records of ended answers.

        `secure_delete` overwrites deleted rows, but not copies of them that SQLite left in other pages when it moved
        rows between pages: only a rebuild (VACUUM) removes those. Transactions wait for it; text does not.
        """
        is_rotated = self.journal.rotate()
        if self._peers is not None:
            is_rotated &= await self._peers.rotate()
        return await self._write(self._erase) and is_rotated

    def _erase(self, connection: sqlite3.Connection) -> bool:
        try:
            deleted = connection.execute("SELECT value FROM agreement WHERE name = 'deleted'").fetchone()
            if deleted != self._vacuumed and self._may_vacuum():
                connection.execute("VACUUM")
                self._vacuumed, self._vacuum_at = deleted, time.monotonic() + VACUUM_SECONDS
            self._replace_wal(connection)
        except (sqlite3.Error, StoreUnavailable):
            return False  # a reader uses the WAL, or the disk is full or fails
        return bool(deleted == self._vacuumed)

    def _may_vacuum(self) -> bool:
        """Return whether a rebuild takes little time, or the last one was long ago."""
        return self.path.stat().st_size <= SMALL_BYTES or time.monotonic() >= self._vacuum_at

    def load(self) -> dict[tuple[str, ...], float]:
        return {(worker.name, "waiting"): worker.waiting for worker in (self._writer, *self._readers)}

    def _commit(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        try:
            return self._commit_together(connection, batch)
        except (sqlite3.Error, _SpoiledBatch) as error:
            if len(batch.transactions) > 1:
                return self._commit_apart(connection, batch)
            raise StoreUnavailable from error

    def _commit_together(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        self._begin(connection, batch.durable)
        try:
            results: list[Any] = []
            for transaction in batch.transactions:
                before = connection.total_changes
                try:
                    results.append(self._run(connection, transaction()))
                except sqlite3.Error:
                    raise
                except Exception as error:  # raised to the caller of this transaction, on the other thread
                    if connection.total_changes != before:
                        raise _SpoiledBatch from error
                    results.append(error)
            connection.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:
                self._flags[0] = 1
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._commits += 1
        if self._commits >= CHECKPOINT_COMMITS:
            self._checkpoint(connection)
        return Committed(results)

    def _commit_apart(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        """Commit each transaction by itself, so that one that fails does not fail the others."""
        outcome = Committed([])
        for transaction in batch.transactions:
            alone = Batch(batch.replica, [transaction], durable=batch.durable)
            try:
                outcome.results += self._commit(connection, alone).results
            except StoreUnavailable as error:
                outcome.results.append(error)
        return outcome

    def _begin(self, connection: sqlite3.Connection, durable: bool) -> None:
        """Begin to write.

        Raises:
            StoreUnavailable: Another program has locked the file. Committing the parts one by one would wait longer.
        """
        level = "FULL" if durable else "NORMAL"
        if self._flags[0]:
            self._replace_wal(connection)
        try:
            if self._synchronous != level:
                connection.execute(f"PRAGMA synchronous = {level}")
                self._synchronous = level
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the WAL into the database as far as no reader needs it; SQLite then starts the WAL again."""
        self._commits = 0
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:  # the commit before it holds; the next one tries again
            self._flags[0] = 1

    def _replace_wal(self, connection: sqlite3.Connection) -> None:
        """Copy the whole WAL into the database and empty it, after a sync that failed.

        Raises:
            StoreUnavailable: A sync fails still, or a reader takes too long.
        """
        try:
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable from error
        if busy:
            raise StoreUnavailable
        self._flags[0] = 0
        self._commits = 0


class _SpoiledBatch(Exception):
    """A transaction raised after it wrote: the batch cannot be committed with it."""


def _in_turn(connection: sqlite3.Connection, turn: WriteTurn, job: Callable[[sqlite3.Connection], T]) -> T:
    with turn.take():
        return job(connection)


def _nothing(connection: sqlite3.Connection) -> None:
    """Do nothing, behind the jobs that were queued before."""
