"""The PostgreSQL driver: many replicas, one database.

A request's task, which may be cancelled at any await, never waits inside a connection: see `pool`.

Transactions run concurrently, each committed by itself: PostgreSQL groups their writes to the disk. Log text of all
generations is one statement. All commits are synchronous, those of text too: if the server lost a commit, a log would
have a hole.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from functools import cache, partial
from typing import Any, TypeVar

import asyncpg

from chatapi.connections.postgres import (
    CANNOT,
    JOB_SECONDS,
    LOCK_MILLISECONDS,
    Connection,
    connect_to,
    first_connection,
)
from chatapi.errors import StoreUnavailable
from chatapi.settings import SettingsError
from chatapi.store.drivers.driver import (
    Asked,
    Batch,
    Committed,
    CrossedRows,
    RunningLog,
    Statement,
    Together,
    Transaction,
    Unstorable,
)
from chatapi.store.drivers.pool import Connections
from chatapi.store.pieces import APPEND_ARRAYS, append_rows, writable_generations
from chatapi.store.schema import MIGRATION_TABLE, Migration, pending
from chatapi.store.values import Append

T = TypeVar("T")

ATTEMPTS = 4  # of a transaction that lost a race; it runs again from its first statement
LOST_A_RACE = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,  # another replica took the same idempotency key; the next attempt finds it
)
BROKEN = (*CANNOT, CrossedRows)  # after these a connection is not used again
MIGRATION_ATTEMPTS = 15  # about a minute
MIGRATION_LOCK = 0x63686174617069  # number of an advisory lock: of replicas that start at once, one migrates
# It waits for the end of each, which releases its locks: the sweep that follows would skip its rows.
END_ABANDONED = """SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'chatapi' AND state = 'active'
AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - make_interval(secs => $1)"""


class PostgresDriver:
    """Sessions in a PostgreSQL database that any number of replicas share."""

    exclusive = False
    journal = None

    def __init__(
        self, url: str, connections: int, transaction_pooling: bool, lease_seconds: float = JOB_SECONDS
    ) -> None:
        """Open `connections` for transactions, half as many for reading, and one for log text.

        `lease_seconds`: the rows that a paused replica has locked must be free by the time its leases expire.
        `transaction_pooling`: a proxy (such as PgBouncer) gives each transaction another server connection, so nothing
        is prepared, and no setting outlives a transaction.
        """
        self._url = url
        self._pooled = transaction_pooling
        self._idle_seconds = min(JOB_SECONDS, lease_seconds)
        self._writers = self._connections("store-writer", connections)
        self._readers = self._connections("store-reader", max(1, connections // 2))
        self._text = self._connections("store-text", 1)

    def _connections(self, name: str, count: int) -> Connections[Connection]:
        connect = partial(connect_to, self._url, self._pooled, self._idle_seconds)
        return Connections(name, count, connect, BROKEN, JOB_SECONDS)

    async def open(self) -> None:
        """Connect, and apply pending migrations.

        Raises:
            SettingsError: The database cannot be used.
        """
        connection = await first_connection(self._url, self._pooled)
        try:
            await _migrate(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SettingsError(
                "DATABASE_URL: the database's user must be allowed to create tables. As its administrator, run "
                "GRANT CREATE, USAGE ON SCHEMA public TO that user."
            ) from error
        except CANNOT as error:
            raise SettingsError(f"DATABASE_URL: the tables could not be created or read: {error}.") from error
        finally:
            connection.terminate()
        for connections in (self._writers, self._readers, self._text):
            connections.open()

    async def close(self) -> None:
        """Finish queued jobs and disconnect."""
        for connections in (self._text, self._writers, self._readers):
            await connections.close()

    async def commit(self, batch: Batch) -> Committed:
        """See `Driver`. Each transaction is committed by itself, and so is the text."""
        results = await asyncio.gather(*(self._commit_one(transaction) for transaction in batch.transactions))
        outcome = Committed(list(results))
        if batch.appends:
            try:
                append = partial(_translated, partial(self._append, batch.replica, batch.appends))
                outcome.fenced, outcome.locked = await self._text.run(append)
            except StoreUnavailable as error:
                outcome.unstored = {append.generation_id for append in batch.appends}
                outcome.refusal = error
        return outcome

    async def erase_deleted(self) -> bool:
        return True  # autovacuum does it

    async def end_abandoned(self) -> int:
        """See `Driver`. The server's own limits end idle transactions and long statements, but not these.

        A connection prepares a statement that is new to it in two messages. Between them its session is active and
        waits for the client: neither `idle_in_transaction_session_timeout` nor `statement_timeout` applies.
        """
        return await self.read(partial(_end_abandoned, self._idle_seconds))

    def load(self) -> dict[tuple[str, ...], float]:
        return {
            (pool.name, state): number
            for pool in (self._writers, self._readers, self._text)
            for state, number in (("waiting", pool.waiting), ("busy", pool.busy))
        }

    async def _commit_one(self, transaction: Callable[[], Transaction[Any]]) -> Any:
        """Return the transaction's result, or the exception that it raised."""
        try:
            return await self._writers.run(partial(_translated, partial(_write, transaction, pooled=self._pooled)))
        except Exception as error:  # raised to the caller of this transaction
            return error

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        return await self._readers.run(partial(_translated, partial(_read, transaction, pooled=self._pooled)))

    async def settle_reads(self) -> None:
        """Do nothing: this driver has no journal."""

    async def _append(self, replica: str, appends: list[Append], connection: Connection) -> tuple[set[str], set[str]]:
        """Write the pieces; return the IDs of the generations that are fenced, and of those that are locked now."""
        rows = append_rows(appends)
        if not rows:
            return set(), set()
        columns = [list(column) for column in zip(*rows, strict=True)]
        taken = {row[0] for row in await _appended(connection, self._pooled, replica, columns)}
        left = {append.generation_id for append in appends if append.pieces} - taken
        if not left:
            return set(), set()
        locked = await _read(partial(writable_generations, sorted(left), replica), connection, self._pooled)
        return left - locked, locked


async def _appended(connection: Connection, pooled: bool, replica: str, columns: list[list[Any]]) -> Any:
    if not pooled:
        return await connection.fetch(APPEND_ARRAYS, replica, *columns)
    await connection.execute("BEGIN")
    rows = await connection.fetch(APPEND_ARRAYS, replica, *columns)
    await connection.execute("COMMIT")
    return rows


async def _translated(job: Callable[[Connection], Awaitable[T]], connection: Connection) -> T:
    """Run the job. Where the server refuses a statement, the connection is rolled back and stays usable.

    Raises:
        StoreUnavailable: The server refused a statement: a lock is not free, for example, or the disk is full.
        Unstorable: The server will never accept such a value.
    """
    try:
        return await job(connection)
    except (asyncpg.DataError, ValueError) as error:
        await _roll_back(connection)
        raise Unstorable from error
    except asyncpg.PostgresError as error:
        if connection.is_closed() or isinstance(error, asyncpg.PostgresConnectionError):
            raise
        await _roll_back(connection)
        raise StoreUnavailable from error


async def _run(connection: Connection, transaction: Transaction[T], asked: Asked) -> T:
    """Run a transaction that has yielded `asked` to its result."""
    try:
        while True:
            asked = transaction.send(await _fetch(connection, asked))
    except StopIteration as end:
        result: T = end.value
        return result


async def _fetch(connection: Connection, asked: Asked) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, or of the first of several: asyncpg's records, which act like tuples."""
    if isinstance(asked, RunningLog):
        asked = asked.statement
    sql, values = _joined(asked) if isinstance(asked, Together) else asked
    rows: list[tuple[Any, ...]] = await connection.fetch(sql, *values)
    return rows


def _joined(together: Together) -> Statement:
    """Join statements into one, which takes one round trip."""
    texts, values = zip(*together.statements, strict=True)
    return _joined_text(texts, tuple(map(len, values))), tuple(itertools.chain.from_iterable(values))


@cache
def _joined_text(texts: tuple[str, ...], counts: tuple[int, ...]) -> str:
    """Join the texts, with their parameters renumbered: the first as the statement, the others as its WITH queries."""
    before = itertools.accumulate(counts, initial=0)
    first, *others = (_renumber(text, already) for text, already in zip(texts, before, strict=False))
    beside = ", ".join(f"beside_{number} AS ({text})" for number, text in enumerate(others))
    return f"WITH {beside} {first}" if others else first


def _renumber(text: str, already: int) -> str:
    """Renumber the parameters of a statement, so that the first one comes after `already` others."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + already}", text)


async def _write(transaction: Callable[[], Transaction[T]], connection: Connection, pooled: bool) -> T:
    """Run and commit a transaction; run it again when it lost a race."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            running = transaction()
            asked = next(running)
            if isinstance(asked, Together) and asked.whole and not pooled:
                return await _write_whole(running, asked, connection)
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            result = await _run(connection, running, asked)
            await connection.execute("COMMIT")
            return result
        except LOST_A_RACE:
            await _roll_back(connection)
            if attempt == ATTEMPTS:
                raise
        except BROKEN:
            raise
        except Exception:  # the transaction's own decision, raised to its caller
            await _roll_back(connection)
            raise
    raise AssertionError("the last attempt returns or raises")


async def _write_whole(transaction: Transaction[T], asked: Together, connection: Connection) -> T:
    """Run a transaction that is one statement, without BEGIN and COMMIT."""
    rows = await _fetch(connection, asked)
    try:
        transaction.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a whole transaction ends with its first statements")


async def _roll_back(connection: Connection) -> None:
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


def _end_abandoned(idle_seconds: float) -> Transaction[int]:
    return len((yield (END_ABANDONED, (idle_seconds,))))


async def _read(transaction: Callable[[], Transaction[T]], connection: Connection, pooled: bool) -> T:
    """Run a transaction that only reads. One statement sees one state by itself; several need a snapshot.

    Behind a pooler one statement needs a transaction too: it is prepared and executed in two messages, and between them
    the pooler may lend the server connection to another client, or the statement of that one would be executed.
    """
    if not pooled:
        reading = transaction()
        try:
            reading.send(await _fetch(connection, next(reading)))
        except StopIteration as end:
            alone: T = end.value
            return alone
        finally:
            reading.close()
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        reading = transaction()
        result = await _run(connection, reading, next(reading))
    except BROKEN:
        raise
    except Exception:  # the transaction's own decision
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


async def _migrate(connection: Connection) -> None:
    """Apply pending migrations; one replica does so, and the others wait for it.

    Raises:
        SettingsError: The database was written by a newer version.
    """
    await _apply(connection, Migration(0, "", MIGRATION_TABLE))
    async with connection.transaction():  # a pooler may use another connection for the next statement
        applied = {row[0] for row in await connection.fetch("SELECT number FROM migration")}
    for migration in pending("postgres", applied):
        await _apply(connection, migration)


async def _apply(connection: Connection, migration: Migration) -> None:
    """Apply a migration, unless another replica did.

    Other statements queue behind a migration that waits for a table's lock, so it waits for a moment and tries again.
    """
    for attempt in range(1, MIGRATION_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                if migration.number and await connection.fetch(
                    "SELECT 1 FROM migration WHERE number = $1", migration.number
                ):
                    return
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
                await connection.execute(migration.sql)
                if migration.number:
                    sql = "INSERT INTO migration (number, name) VALUES ($1, $2)"
                    await connection.execute(sql, migration.number, migration.name)
                return
        except asyncpg.LockNotAvailableError as error:
            if attempt == MIGRATION_ATTEMPTS:
                raise SettingsError(
                    "DATABASE_URL: a table is locked by another program (a backup, for example), so the schema cannot "
                    "be migrated. Wait until it has ended, and start again."
                ) from error
        await asyncio.sleep(LOCK_MILLISECONDS / 1000)
