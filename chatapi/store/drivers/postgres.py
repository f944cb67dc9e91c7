"""The PostgreSQL driver: many replicas, one database.

No request's task, which may be cancelled anywhere, ever waits inside a connection: see `connections`.

Transactions run side by side, each committed by itself: PostgreSQL shares the disk's work among them as it comes. Text
is one statement for all generations that have some. All commits are synchronous, text too: on a server that forgot a
commit, a log would have a hole.
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
from chatapi.store import transactions
from chatapi.store.drivers.driver import (
    Append,
    Batch,
    Committed,
    CrossedRows,
    Migration,
    Statement,
    Together,
    Transaction,
    Unstorable,
    migrations,
)
from chatapi.store.drivers.pool import Connections

T = TypeVar("T")

ATTEMPTS = 4  # of a transaction that lost a race; each time it decides anew
LOST_A_RACE = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,  # another replica took the same idempotency key; the next attempt finds it
)
BROKEN = (*CANNOT, CrossedRows)  # after these a connection is not used again
MIGRATION_ATTEMPTS = 15  # about a minute
MIGRATION_LOCK = 0x63686174617069  # an advisory lock's number: of replicas that start at once, one migrates


class PostgresDriver:
    """Sessions in a PostgreSQL database that any number of replicas share."""

    exclusive = False
    concurrent = True

    def __init__(
        self, url: str, connections: int, transaction_pooling: bool, lease_seconds: float = JOB_SECONDS
    ) -> None:
        """`connections` are for transactions, and half as many for reading; text has one of its own.

        What a replica had locked when it was paused must be free by the time that its leases lapse.

        With `transaction_pooling`, what stands in between (PgBouncer, say) gives each transaction another server
        connection: nothing is prepared and nothing is set beyond one.
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
        """Connect, and bring the schema up to date.

        Raises:
            SettingsError: the database cannot be used; the message says what to change.
        """
        connection = await first_connection(self._url, self._pooled)
        try:
            await _migrate(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SettingsError(
                "DATABASE_URL: the database's user may not make tables. As its administrator: "
                "GRANT CREATE, USAGE ON SCHEMA public TO that user."
            ) from error
        except CANNOT as error:
            raise SettingsError(f"DATABASE_URL: the tables could not be made or read: {error}.") from error
        finally:
            connection.terminate()
        for connections in (self._writers, self._readers, self._text):
            connections.open()

    async def close(self) -> None:
        """Finish what is queued and let go."""
        for connections in (self._text, self._writers, self._readers):
            await connections.close()

    async def commit(self, batch: Batch) -> Committed:
        """See `Driver`. Each transaction is committed by itself, and so is the text."""
        results = await asyncio.gather(*(self._commit_one(transaction) for transaction in batch.transactions))
        outcome = Committed(list(results))
        if batch.appends:
            try:
                append = partial(_answered, partial(self._append, batch.replica, batch.appends))
                outcome.fenced, outcome.unstored = await self._text.run(append)
            except StoreUnavailable:
                outcome.unstored = {append.generation_id for append in batch.appends}
        return outcome

    async def _commit_one(self, transaction: Callable[[], Transaction[Any]]) -> Any:
        """What it returns or raises."""
        try:
            return await self._writers.run(partial(_answered, partial(_write, transaction, pooled=self._pooled)))
        except Exception as error:  # carried to the one who waits for this result
            return error

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        return await self._readers.run(partial(_answered, partial(_read, transaction)))

    async def _append(self, replica: str, appends: list[Append], connection: Connection) -> tuple[set[str], set[str]]:
        """Write the pieces; the ids of the generations to which that was not allowed, and not possible now."""
        rows = [
            (
                append.generation_id,
                piece.position,
                piece.part,
                piece.kind.value,
                piece.data.decode(),
                transactions.encode_call(piece.call),
            )
            for append in appends
            for piece in append.pieces
        ]
        if not rows:
            return set(), set()
        columns = [list(column) for column in zip(*rows, strict=True)]
        taken = {row[0] for row in await _appended(connection, self._pooled, replica, columns)}
        left = {append.generation_id for append in appends if append.pieces} - taken
        if not left:
            return set(), set()
        locked = await _read(partial(transactions.still_ours, sorted(left), replica), connection)
        return left - locked, locked


async def _appended(connection: Connection, pooled: bool, replica: str, columns: list[list[Any]]) -> Any:
    if not pooled:
        return await connection.fetch(transactions.APPEND_ARRAYS, replica, *columns)
    await connection.execute("BEGIN")
    rows = await connection.fetch(transactions.APPEND_ARRAYS, replica, *columns)
    await connection.execute("COMMIT")
    return rows


async def _answered(job: Callable[[Connection], Awaitable[T]], connection: Connection) -> T:
    """Do the job. Where the server plainly refuses a statement, the connection is as good as before.

    Raises:
        StoreUnavailable: it refused, as a lock that is not free or a full disk make it.
        Unstorable: it will never take such a value.
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


async def _run(connection: Connection, transaction: Transaction[T], asked: Statement | Together) -> T:
    """Drive a transaction's generator, which has `asked` for its first rows, to its result."""
    try:
        while True:
            asked = transaction.send(await _fetch(connection, asked))
    except StopIteration as end:
        result: T = end.value
        return result


async def _fetch(connection: Connection, asked: Statement | Together) -> list[tuple[Any, ...]]:
    """The rows of a statement, or of the first of some: the client's own records, which are read like tuples."""
    sql, values = _joined(asked) if isinstance(asked, Together) else asked
    rows: list[tuple[Any, ...]] = await connection.fetch(sql, *values)
    return rows


def _joined(together: Together) -> Statement:
    """Some statements as one, which is one way to the server and back."""
    texts, values = zip(*together.statements, strict=True)
    return _joined_text(texts, tuple(map(len, values))), tuple(itertools.chain.from_iterable(values))


@cache
def _joined_text(texts: tuple[str, ...], counts: tuple[int, ...]) -> str:
    """The texts with their parameters counted on, the first as the statement and the others as what goes with it."""
    before = itertools.accumulate(counts, initial=0)
    first, *others = (_counted_on(text, already) for text, already in zip(texts, before, strict=False))
    beside = ", ".join(f"beside_{number} AS ({text})" for number, text in enumerate(others))
    return f"WITH {beside} {first}" if others else first


def _counted_on(text: str, already: int) -> str:
    """A statement's text whose first parameter is the one after so many."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + already}", text)


async def _write(transaction: Callable[[], Transaction[T]], connection: Connection, pooled: bool) -> T:
    """Run and commit a transaction; again when it lost a race."""
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
        except Exception:  # the transaction's own decision, for the one who waits for its result
            await _roll_back(connection)
            raise
    raise AssertionError("the last attempt returns or raises")


async def _write_whole(transaction: Transaction[T], asked: Together, connection: Connection) -> T:
    """Run a transaction that is one statement, which PostgreSQL commits by itself."""
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


async def _read(transaction: Callable[[], Transaction[T]], connection: Connection) -> T:
    """Run a transaction that only reads. One statement is one state by itself; more want a snapshot."""
    reading = transaction()
    try:
        reading.send(await _fetch(connection, next(reading)))
    except StopIteration as end:
        result: T = end.value
        return result
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
    """Apply the numbered migrations that this database has not seen; one replica does it, the others wait for it.

    Raises:
        SettingsError: the database was written by a newer version.
    """
    table = "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
    await _apply(connection, Migration(0, "", table))
    async with connection.transaction():  # a pooler may have another connection for what comes next
        applied = {row[0] for row in await connection.fetch("SELECT number FROM migration")}
    known = migrations("postgres")
    if applied - {migration.number for migration in known}:
        raise SettingsError(
            "DATABASE_URL: this database was written by a newer version of this server. Install that one."
        )
    for migration in known:
        if migration.number not in applied:
            await _apply(connection, migration)


async def _apply(connection: Connection, migration: Migration) -> None:
    """Change the schema, unless another replica did. A change that waits for a table's lock makes everyone wait behind
    it, so it waits a moment only, and tries again."""
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
                    "DATABASE_URL: a table is locked by another program (a backup, say), so the schema cannot be "
                    "brought up to date. Wait for its end, and start again."
                ) from error
        await asyncio.sleep(LOCK_MILLISECONDS / 1000)
