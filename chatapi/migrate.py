"""Moving up: a SQLite file is copied into PostgreSQL, whole, and compared with it.

The target itself tells how far an earlier run came: rows are copied in the order of their keys, some at once, each lot
in a transaction. So a run that was cut is simply run again. Tables and columns are what both schemas say.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from chatapi.auth.keys import fingerprint
from chatapi.errors import StoreUnavailable
from chatapi.model import wall_clock
from chatapi.settings import POSTGRES_SCHEMES, SettingsError, secret_beside
from chatapi.store import Store
from chatapi.store.drivers.sqlite import SQLiteDriver, holder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatapi.connections.postgres import Connection

LOT_ROWS = 2_000  # copied by one COPY, compared by one query
LOT_CHARACTERS = 4 * 1024 * 1024  # or fewer rows, where they are long: one more than this is held at most
LINE_SECONDS = 5.0  # between lines of progress that go to a file
BAR_SECONDS = 0.1  # between two pictures of the bar
BAR_WIDTH = 30
ONE_VIEW = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
BOOKKEEPING = "migration"  # each database's own list of the changes of its schema; not data

Row = tuple[Any, ...]


class MigrationIncomplete(Exception):
    """The copy is not whole, or not proven to be; the message says what to do."""


class Table(NamedTuple):
    """A table as both databases have it."""

    name: str
    columns: tuple[str, ...]  # in the order of their names
    key: tuple[str, ...]  # its primary key
    texts: frozenset[str]  # the columns that hold text

    def key_of(self, row: Row) -> Row:
        """The row's primary key."""
        return tuple(row[self.columns.index(column)] for column in self.key)

    def named(self, row: Row) -> str:
        """The row, for a person."""
        return f"the row {', '.join(map(str, self.key_of(row)))} of the table {self.name}"


class Sum(NamedTuple):
    """What a table holds: how many rows, and the SHA-256 of them all."""

    table: str
    rows: int
    digest: str


def migrate(source_url: str, target_url: str) -> str:
    """Copy the one into the other, and compare them; what to do next.

    Raises:
        SettingsError: it cannot begin; nothing was copied. The message says what to change.
        Unfinished: it is not done; the message says what to do.
    """
    source = _source_path(source_url)
    if not target_url.startswith(POSTGRES_SCHEMES):
        raise SettingsError("--to: it must be postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    try:
        with asyncio.Runner() as runner:
            sums = runner.run(_migrate(source, target_url))
    except KeyboardInterrupt:
        raise MigrationIncomplete("Stopped. What was copied stays: the same command goes on from there.") from None
    except sqlite3.Error as error:
        raise MigrationIncomplete(
            f"The file {source} cannot be read to its end: {error}. Mend it; run this again."
        ) from error
    return _what_next(source, sums)


def _source_path(url: str) -> Path:
    """The file, looked at but not touched.

    Raises:
        SettingsError: it is not there, is in use, or is no database of this server.
    """
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path.name:
        raise SettingsError("--from: it must be sqlite:///PATH (four slashes for an absolute path).")
    if not path.is_file():
        raise SettingsError(f"--from: there is no file {path}. Name the one that DATABASE_URL named for the server.")
    if who := holder(path):
        raise SettingsError(f"--from: {who} has the file {path} open. Stop that server, and run this again.")
    try:
        with closing(_read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise SettingsError(f"--from: the file {path} cannot be read as a SQLite database: {error}.") from error
    if not {BOOKKEEPING, "session"} <= tables:
        raise SettingsError(f"--from: the file {path} was not made by this server. Name the one that was.")
    return path


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


async def _migrate(path: Path, target_url: str) -> list[Sum]:
    try:
        async with _target(target_url) as target, _source(path) as source:
            tables = [await _agreed(target, table) for table in _tables(source)]
            total = sum(_count(source, table) for table in tables)
            for table in tables:
                await _reject_foreign_rows(source, target, table)
            with _progress("Copying", total) as progress:
                for table in tables:
                    await _copy(source, target, table, progress)
            with _progress("Comparing", total) as progress:
                async with _transaction(target, ONE_VIEW):
                    sums = [await _compare(source, target, table, progress) for table in tables]
            for table in tables:
                await target.execute(f'ANALYZE "{table.name}"')
            return sums
    except _broken() as error:
        reason = str(error) or type(error).__name__
        raise MigrationIncomplete(
            f"PostgreSQL broke off: {reason}. The same command, run again, goes on from there."
        ) from error


def _broken() -> tuple[type[Exception], ...]:
    from chatapi.connections.postgres import CANNOT

    return CANNOT


@asynccontextmanager
async def _source(path: Path) -> AsyncIterator[sqlite3.Connection]:
    """One consistent view of the file, which is ours meanwhile; what was left running in it is closed first."""
    store = Store(SQLiteDriver(path), wall_clock)
    try:
        try:
            await store.open()
        except SettingsError as error:
            raise _renamed(error, "--from") from error
        except StoreUnavailable as error:
            raise SettingsError(f"--from: the file {path} cannot be written: {error.__cause__}. Free it.") from error
        with closing(_read_only(path)) as connection:
            connection.execute("BEGIN")
            yield connection
    finally:
        await store.close()


@asynccontextmanager
async def _target(url: str) -> AsyncIterator[Connection]:
    """A connection to the target, its schema up to date."""
    try:
        from chatapi.connections.postgres import first_connection
        from chatapi.store.drivers.postgres import PostgresDriver
    except ModuleNotFoundError as missing:
        raise SettingsError(
            f"--to: the package {missing.name} is not installed for this Python ({sys.executable}). "
            "Type ./run migrate, or: pip install -r requirements-replicas.txt"
        ) from missing
    try:
        # As behind a pooler: nothing is set for the session, so no statement has our usual few seconds alone.
        driver = PostgresDriver(url, 1, transaction_pooling=True)
        await driver.open()
        await driver.close()
        connection = await first_connection(url, transaction_pooling=True)
    except SettingsError as error:
        raise _renamed(error, "--to") from error
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def _transaction(target: Connection, mode: str = "") -> AsyncIterator[None]:
    """A transaction; whatever breaks it off closes the connection, which waits for nobody."""
    await target.execute(f"BEGIN {mode}")
    try:
        yield
    except BaseException:
        target.terminate()
        raise
    await target.execute("COMMIT")


def _renamed(error: SettingsError, option: str) -> SettingsError:
    return SettingsError(str(error).replace("DATABASE_URL:", f"{option}:", 1))


# The schema


def _tables(source: sqlite3.Connection) -> list[Table]:
    """The tables of the file."""
    names = source.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    return [_table(source, name) for (name,) in names if name != BOOKKEEPING]


def _table(source: sqlite3.Connection, name: str) -> Table:
    columns = source.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    key = sorted((place, column) for column, _, place in columns if place)
    return Table(
        name,
        tuple(sorted(column for column, _, _ in columns)),
        tuple(column for _, column in key),
        frozenset(column for column, kind, _ in columns if kind == "TEXT"),
    )


_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, NULL) = 'text',
    coalesce(array_position(i.indkey::smallint[], a.attnum) + 1 - array_lower(i.indkey::smallint[], 1), 0)
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""


async def _agreed(target: Connection, table: Table) -> Table:
    """The table, if the target has the very same.

    Raises:
        SettingsError: it differs.
    """
    async with _transaction(target):
        found = await target.fetch(_COLUMNS, f'"{table.name}"')
    key = sorted((place, column) for column, _, place in found if place)
    texts = frozenset(column for column, is_text, _ in found if is_text)
    there = Table(table.name, tuple(sorted(row[0] for row in found)), tuple(column for _, column in key), texts)
    if there == table:
        return table
    differing = sorted(set(there.columns) ^ set(table.columns)) or ["the key, or a type"]
    raise SettingsError(
        f"--to: the table {table.name} is not the same in the file and in the database: {', '.join(differing)}. "
        "Give an empty database, and use one version of this server for both."
    )


# Reading both sides


def _count(source: sqlite3.Connection, table: Table) -> int:
    (count,) = source.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()
    return int(count)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _lots(source: sqlite3.Connection, table: Table) -> Iterator[list[Row]]:
    """The table's rows in the order of their keys, some at once, and no more text at once than memory is to hold."""
    rows = source.execute(f'SELECT {_names(table.columns)} FROM "{table.name}" ORDER BY {_names(table.key)}')
    lot: list[Row] = []
    size = 0
    for row in rows:
        lot.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(lot) == LOT_ROWS or size >= LOT_CHARACTERS:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


async def _between(
    target: Connection, table: Table, columns: tuple[str, ...], after: Row | None, until: Row | None, limit: int
) -> list[Row]:
    """The target's rows whose keys are past `after` and not past `until`, in their order, which is that of bytes."""
    order = [f'"{column}" COLLATE "C"' if column in table.texts else f'"{column}"' for column in table.key]
    key = f"({', '.join(order)})"
    conditions: list[str] = []
    values: list[Any] = []
    for comparison, bound in ((">", after), ("<=", until)):
        if bound is not None:
            places = ", ".join(f"${len(values) + place}" for place in range(1, len(bound) + 1))
            conditions.append(f"{key} {comparison} ({places})")
            values += bound
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f'SELECT {_names(columns)} FROM "{table.name}" {where} ORDER BY {", ".join(order)} LIMIT {limit}'
    return [tuple(row) for row in await target.fetch(sql, *values)]


# The three passes


async def _reject_foreign_rows(source: sqlite3.Connection, target: Connection, table: Table) -> None:
    """Raise `SettingsError` when the target has a row that is not in the file, or is another there."""
    after: Row | None = None
    async with _transaction(target, ONE_VIEW):
        for lot in _lots(source, table):
            if not await _between(target, table, table.key, after, None, 1):
                return
            here = {table.key_of(row): row for row in lot}
            until = table.key_of(lot[-1])
            # One more than the lot has: if there are more, one of them is a stranger.
            for row in await _between(target, table, table.columns, after, until, len(lot) + 1):
                if here.get(table.key_of(row)) != row:
                    raise _in_use(table, row)
            after = until
        for row in await _between(target, table, table.columns, after, None, 1):
            raise _in_use(table, row)


def _in_use(table: Table, row: Row) -> SettingsError:
    if table.name == "agreement":
        return SettingsError(
            "--to: a server was started on that database already, with another CHATAPI_SECRET than the file's. "
            "Give an empty database (createdb NAME)."
        )
    return SettingsError(
        f"--to: somebody uses that database already: {table.named(row)} is not in the file, or is another there. "
        "Give an empty database (createdb NAME), or the one that an earlier run began to fill, with the file as it was."
    )


async def _copy(source: sqlite3.Connection, target: Connection, table: Table, progress: Progress) -> None:
    """Copy what the target has not got."""
    after: Row | None = None
    async with _transaction(target):
        empty = not await _between(target, table, table.key, None, None, 1)
    for lot in _lots(source, table):
        until = table.key_of(lot[-1])
        async with _transaction(target):
            there = set() if empty else set(await _between(target, table, table.key, after, until, len(lot)))
            missing = [row for row in lot if table.key_of(row) not in there]
            if missing:
                await target.copy_records_to_table(table.name, records=missing, columns=table.columns)
        after = until
        progress.advance(len(lot), table.name)


async def _compare(source: sqlite3.Connection, target: Connection, table: Table, progress: Progress) -> Sum:
    """Read the table on both sides, to its end; what it holds.

    Raises:
        Unfinished: the two differ.
    """
    encode = msgspec.msgpack.Encoder().encode  # one row has one encoding, and no two rows have the same
    here, there = hashlib.sha256(), hashlib.sha256()
    count, after = 0, None
    for lot in _lots(source, table):
        until = table.key_of(lot[-1])
        found = await _between(target, table, table.columns, after, until, len(lot) + 1)
        for row in lot:
            here.update(encode(row))
        for row in found:
            there.update(encode(row))
        if len(found) != len(lot) or here.digest() != there.digest():
            raise _differs(table, lot, found)
        count, after = count + len(lot), until
        progress.advance(len(lot), table.name)
    for row in await _between(target, table, table.columns, after, None, 1):
        raise _differs(table, [], [row])
    return Sum(table.name, count, here.hexdigest())


def _differs(table: Table, lot: list[Row], found: list[Row]) -> MigrationIncomplete:
    here, there = set(lot), set(found)
    row = next((row for row in (*lot, *found) if row not in here & there), found[0])
    return MigrationIncomplete(
        f"The copy is not the same as the file: {table.named(row)} differs. Something else writes to that database, or "
        "changed it. Empty it (dropdb NAME, createdb NAME), see that nothing else uses it, and run this again."
    )


# What the operator sees


class Progress:
    """How far it is: a bar on a terminal, a line now and then in a file. On standard error."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._bar = sys.stderr.isatty()
        self._shown_at = time.monotonic() if not self._bar else 0.0

    def advance(self, rows: int, table: str) -> None:
        """So many rows more."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown_at >= (BAR_SECONDS if self._bar else LINE_SECONDS):
            self._shown_at = now
            self.show(table)

    def leave(self) -> None:
        """Nothing more comes; what is written next begins a line."""
        if self._bar:
            sys.stderr.write("\n")

    def show(self, table: str) -> None:
        """Show it now."""
        share = self._done / self._total if self._total else 1.0
        text = f"{self._what}: {self._done:,} of {self._total:,} rows, {share:.0%} ({table})"
        if not self._bar:
            sys.stderr.write(f"{text}\n")
        else:
            filled = round(share * BAR_WIDTH)
            width = shutil.get_terminal_size().columns - 1
            line = f"[{'#' * filled}{' ' * (BAR_WIDTH - filled)}] {text}"
            sys.stderr.write(f"\r{line[:width]}\x1b[K")
        sys.stderr.flush()


@contextmanager
def _progress(what: str, total: int) -> Iterator[Progress]:
    progress = Progress(what, total)
    try:
        yield progress
        progress.show("all tables")
    finally:
        progress.leave()


def _what_next(source: Path, sums: list[Sum]) -> str:
    width = max(len(found.table) for found in sums)
    copied = "\n".join(
        f"  {found.table:{width}}  {found.rows:>12,} rows  SHA-256 {found.digest[:16]}…" for found in sums
    )
    return f"""All of {source} is in PostgreSQL, and both sides are the same:

{copied}

Now, for every replica alike:

1. Set DATABASE_URL to the URL of that database.
2. Set CHATAPI_SECRET to {_which_secret(source)}.
3. ./run doctor looks whether all is well; ./run serves.

Keep {source} as a backup, and start no server on it any more: what that stored would not be in PostgreSQL.
"""


def _which_secret(source: Path) -> str:
    """Where the secret is that the file's sessions belong to; never the secret itself."""
    kept = secret_beside(source)
    with closing(_read_only(source)) as connection:
        agreed = connection.execute("SELECT value FROM agreement WHERE name = 'secret'").fetchone()
    if kept.exists() and (agreed is None or agreed[0] == fingerprint(kept.read_text().strip().encode())):
        return f'the content of the file {kept}:\n   export CHATAPI_SECRET="$(cat {kept})"'
    return "what it was for the server that used the file"
