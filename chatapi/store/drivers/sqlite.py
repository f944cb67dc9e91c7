"""The SQLite driver: one file, one writer thread, a few reader threads.

WAL mode. Deltas commit at synchronous=NORMAL: the operating system has them, so they survive `kill -9`. What must
survive a power loss commits at FULL, which also syncs every commit before it. Each thread owns its connection; the
event loop never waits for the database.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from chatapi.errors import StoreUnavailable
from chatapi.settings import SettingsError
from chatapi.store import transactions
from chatapi.store.drivers.driver import Append, Batch, Committed, Together, Transaction, migrations

T = TypeVar("T")

READERS = 2  # threads that only read; they share two cores with everything else
PIECES_A_STATEMENT = 64  # appended by one statement; a larger batch takes several
LOCKED_MILLISECONDS = 2000  # how long to wait for another program that has locked the file, such as a backup
CACHED_STATEMENTS = 256  # one for each number of pieces, and all others
OLDEST_SQLITE = (3, 35)  # the first with RETURNING
_ROW_LOCK = re.compile(r" FOR UPDATE(?: OF [a-z](?:, [a-z])*)?(?: SKIP LOCKED)?")


class SQLiteDriver:
    """Sessions in one SQLite file, which no other process may have open."""

    exclusive = True
    concurrent = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._writer = _Worker("store-writer")
        self._readers = [_Worker(f"store-reader-{number}") for number in range(READERS)]
        self._next_reader = itertools.cycle(self._readers)
        self._synchronous = ""

    async def open(self) -> None:
        """Make or open the file, alone, and bring its schema up to date.

        Raises:
            SettingsError: the file cannot be used; the message says what to change.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise SettingsError(
                f"DATABASE_URL: this Python has SQLite {sqlite3.sqlite_version}; 3.35 is needed. Use another Python."
            )
        try:
            self._claim()
            await self._writer.start(partial(_connect, self.path))
            await self._writer.run(_migrate)
            for reader in self._readers:
                await reader.start(partial(_connect, self.path, read_only=True))
        except (OSError, sqlite3.Error) as error:
            await self.close()
            raise SettingsError(f"DATABASE_URL: the file {self.path} cannot be used: {error}.") from error

    def _claim(self) -> None:
        """Take the lock that says: this process has the file. The system lets go of it however the process ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SettingsError(
                f"DATABASE_URL: another server has the file {self.path} open. One SQLite file serves one process: "
                "stop the other, set another file, or use PostgreSQL for several (docs/scaling.md)."
            ) from None
        self._lock = lock
        with suppress(OSError):  # on a full disk the lock is as good without the number in it
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())

    async def close(self) -> None:
        """Finish what is queued, let the writer checkpoint, and let go of the file."""
        for reader in self._readers:
            await reader.stop()
        await self._writer.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def commit(self, batch: Batch) -> Committed:
        return await self._writer.run(partial(self._commit, batch=batch))

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        return await next(self._next_reader).run(partial(_read, transaction=transaction))

    def _commit(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        try:
            return self._commit_together(connection, batch)
        except (sqlite3.Error, _SpoiledBatch) as error:
            if len(batch.transactions) + len(batch.appends) > 1:
                return self._commit_apart(connection, batch)
            raise StoreUnavailable from error

    def _commit_together(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        self._begin(connection, batch.durable)
        try:
            results: list[Any] = []
            for transaction in batch.transactions:
                before = connection.total_changes
                try:
                    results.append(_run(connection, transaction()))
                except sqlite3.Error:
                    raise
                except Exception as error:  # carried to the one who waits for this result, on the other thread
                    if connection.total_changes != before:
                        raise _SpoiledBatch from error
                    results.append(error)
            fenced = _append(connection, batch.replica, batch.appends)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Committed(results, fenced)

    def _commit_apart(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        """Commit everything by itself, so that what cannot be committed does not take the rest along."""
        outcome = Committed([])
        for transaction in batch.transactions:
            alone = Batch(batch.replica, [transaction], durable=batch.durable)
            try:
                outcome.results += self._commit(connection, alone).results
            except StoreUnavailable as error:
                outcome.results.append(error)
        for append in batch.appends:
            try:
                outcome.fenced |= self._commit(connection, Batch(batch.replica, appends=[append])).fenced
            except StoreUnavailable:
                outcome.unstored.add(append.generation_id)
        return outcome

    def _begin(self, connection: sqlite3.Connection, durable: bool) -> None:
        """Begin to write.

        Raises:
            StoreUnavailable: another program has locked the file; trying again by parts would only wait longer.
        """
        level = "FULL" if durable else "NORMAL"
        try:
            if self._synchronous != level:
                connection.execute(f"PRAGMA synchronous = {level}")
                self._synchronous = level
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreUnavailable from error


def holder(path: Path) -> str | None:
    """Who has the file open, or None. To find out it holds the lock for an instant, beside others who only look."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.read(lock, 20).decode(errors="replace").strip()
        return f"process {number}" if number.isdecimal() else "another process"
    finally:
        os.close(lock)
    return None


class _SpoiledBatch(Exception):
    """A transaction raised after it had written; the batch cannot be committed with it."""


class _Worker:
    """A thread that owns one connection and does one job after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, args=(connect, opened), name=self._name, daemon=True)
        self._thread.start()
        await opened

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """What the job returns or raises. A caller that is cancelled leaves the job to run to its end."""
        if self._thread is None:
            raise StoreUnavailable("The store is closed.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, done))
        return await done

    async def stop(self) -> None:
        """Finish what is queued and close the connection."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    def _work(self, connect: Callable[[], sqlite3.Connection], opened: asyncio.Future[None]) -> None:
        try:
            connection = connect()
        except (OSError, sqlite3.Error) as error:
            self._answer(opened, None, error)
            return
        self._answer(opened, None, None)
        while (item := self._jobs.get()) is not None:
            job, done = item
            try:
                result, failure = job(connection), None
            except Exception as error:  # carried to the one who waits for it, on the loop's thread
                result, failure = None, error
            self._answer(done, result, failure)
            del item, job, done, result, failure  # hold nothing while waiting: a batch holds text
        connection.close()

    def _answer(self, done: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
        self._loop.call_soon_threadsafe(_settle, done, result, failure)


def _settle(done: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)


def _connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    if not read_only:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for all
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=CACHED_STATEMENTS)
    try:
        connection.execute(f"PRAGMA busy_timeout = {LOCKED_MILLISECONDS}")
        connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply the numbered migrations that this file has not seen.

    Raises:
        SettingsError: the file was written by a newer version.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    applied = {row[0] for row in connection.execute("SELECT number FROM migration")}
    known = migrations("sqlite")
    if applied - {migration.number for migration in known}:
        raise SettingsError("DATABASE_URL: this file was written by a newer version of this server. Install that one.")
    for number, name, sql in known:
        if number not in applied:
            connection.executescript(
                f"BEGIN IMMEDIATE; {sql} INSERT INTO migration (number, name) VALUES ({number}, '{name}'); COMMIT;"
            )


@lru_cache(CACHED_STATEMENTS)
def _dialect(sql: str) -> str:
    """The statement as SQLite wants it: `?1` for `$1`, and no row locks where there is one writer."""
    return _ROW_LOCK.sub("", re.sub(r"\$(\d+)", r"?\1", sql))


def _run(connection: sqlite3.Connection, transaction: Transaction[T]) -> T:
    """Drive a transaction's generator to its result."""
    rows: list[tuple[Any, ...]] | None = None
    try:
        while True:
            asked = next(transaction) if rows is None else transaction.send(rows)
            statements = asked.statements if isinstance(asked, Together) else (asked,)
            rows, *_ = [connection.execute(_dialect(sql), values).fetchall() for sql, values in statements]
    except StopIteration as end:
        result: T = end.value
        return result


def _read(connection: sqlite3.Connection, transaction: Callable[[], Transaction[T]]) -> T:
    try:
        connection.execute("BEGIN")
        try:
            return _run(connection, transaction())
        finally:
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreUnavailable from error


def _append(connection: sqlite3.Connection, replica: str, appends: list[Append]) -> set[str]:
    """Write the pieces; the ids of the generations to which that was not allowed."""
    rows = [
        (
            append.generation_id,
            piece.position,
            piece.part,
            piece.kind,
            piece.data.decode(),
            transactions.encode_call(piece.call),
        )
        for append in appends
        for piece in append.pieces
    ]
    written = 0
    for first in range(0, len(rows), PIECES_A_STATEMENT):
        some = rows[first : first + PIECES_A_STATEMENT]
        statement = _dialect(transactions.append(len(some)))
        written += connection.execute(statement, (replica, *itertools.chain.from_iterable(some))).rowcount
    if written == len(rows):
        return set()
    ids = [append.generation_id for append in appends]
    return set(ids) - _run(connection, transactions.still_ours(ids, replica))
