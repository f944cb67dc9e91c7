"""The source: a SQLite file, locked and read on one consistent state."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import quote

from chatapi.errors import StoreUnavailable
from chatapi.migrate.tables import Row, Table, column_list
from chatapi.model import wall_clock
from chatapi.settings import SettingsError
from chatapi.store import Store
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.drivers.sqlite_file import holder

BATCH_ROWS = 2_000  # copied by one COPY, compared by one query
BATCH_CHARACTERS = 4 * 1024 * 1024  # a batch ends with the row that reaches this, so memory holds about one batch
MIGRATION_TABLE = "migration"  # each database's own list of schema migrations, which is not copied


def source_path(url: str) -> Path:
    """Return the path of the file after checks that do not change it.

    Raises:
        SettingsError: It is missing, in use, or not a database of this server.
    """
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path.name:
        raise SettingsError("--from must be sqlite:///PATH (four slashes for an absolute path).")
    if not path.is_file():
        raise SettingsError(f"--from: there is no file {path}. Name the file that the server's DATABASE_URL names.")
    if process := holder(path):
        raise SettingsError(f"--from: {process} has the file {path} open. Stop that server, and run this again.")
    try:
        with closing(read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise SettingsError(f"--from: the file {path} cannot be read as a SQLite database: {error}.") from error
    if not {MIGRATION_TABLE, "session"} <= tables:
        raise SettingsError(f"--from: the file {path} was not created by this server. Name the one that was.")
    return path


def read_only(path: Path) -> sqlite3.Connection:
    """Open the file for reading."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


@asynccontextmanager
async def open_source(path: Path) -> AsyncIterator[sqlite3.Connection]:
    """Lock the file, close the generations that were left running in it, and read it on one consistent state."""
    store = Store(SQLiteDriver(path), wall_clock)
    try:
        try:
            await store.open()
        except SettingsError as error:
            raise name_option(error, "--from") from error
        except StoreUnavailable as error:
            raise SettingsError(
                f"--from: the file {path} cannot be written: {error.__cause__}. Close the program that locks it."
            ) from error
        with closing(read_only(path)) as connection:
            connection.execute("BEGIN")
            yield connection
    finally:
        await store.close()


def name_option(error: SettingsError, option: str) -> SettingsError:
    """Return the error with the name of the option instead of `DATABASE_URL`."""
    return SettingsError(str(error).replace("DATABASE_URL", option, 1))


def source_tables(source: sqlite3.Connection) -> list[Table]:
    """Return the tables of the file."""
    names = source.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    return [_table(source, name) for (name,) in names if name != MIGRATION_TABLE]


def _table(source: sqlite3.Connection, name: str) -> Table:
    columns = source.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    key = sorted((place, column) for column, _, place in columns if place)
    return Table(
        name,
        tuple(sorted(column for column, _, _ in columns)),
        tuple(column for _, column in key),
        frozenset(column for column, kind, _ in columns if kind == "TEXT"),
    )


def count_rows(source: sqlite3.Connection, table: Table) -> int:
    """Return the number of rows."""
    (count,) = source.execute(f'SELECT count(*) FROM "{table.name}" WHERE {table.condition}').fetchone()
    return int(count)


def batches(source: sqlite3.Connection, table: Table) -> Iterator[list[Row]]:
    """Yield the rows of the table in the order of their keys, in batches."""
    rows = source.execute(
        f'SELECT {column_list(table.columns)} FROM "{table.name}" WHERE {table.condition} '
        f"ORDER BY {column_list(table.key)}"
    )
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
