"""The target: a PostgreSQL database with the same schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chatapi.connections.postgres import Connection, first_connection
from chatapi.migrate.source import name_option
from chatapi.migrate.tables import Row, Table, column_list
from chatapi.settings import SettingsError
from chatapi.store.drivers.postgres import PostgresDriver

ONE_STATE = "ISOLATION LEVEL REPEATABLE READ READ ONLY"

_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, NULL) = 'text',
    coalesce(array_position(i.indkey::smallint[], a.attnum) + 1 - array_lower(i.indkey::smallint[], 1), 0)
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""


@asynccontextmanager
async def open_target(url: str) -> AsyncIterator[Connection]:
    """Connect to the target after its schema is migrated."""
    try:
        # As behind a pooler: no setting outlives a transaction, so no statement has the service's usual timeout.
        driver = PostgresDriver(url, 1, transaction_pooling=True)
        await driver.open()
        await driver.close()
        connection = await first_connection(url, transaction_pooling=True)
    except SettingsError as error:
        raise name_option(error, "--to") from error
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def transaction(target: Connection, mode: str = "") -> AsyncIterator[None]:
    """Run a transaction; close the connection at once if it is interrupted."""
    await target.execute(f"BEGIN {mode}")
    try:
        yield
    except BaseException:
        target.terminate()
        raise
    await target.execute("COMMIT")


async def require_same_table(target: Connection, table: Table) -> None:
    """Compare the table's columns and key with those of the target.

    Raises:
        SettingsError: They differ.
    """
    async with transaction(target):
        found = await target.fetch(_COLUMNS, f'"{table.name}"')
    key = sorted((place, column) for column, _, place in found if place)
    text_columns = frozenset(column for column, is_text, _ in found if is_text)
    there = Table(table.name, tuple(sorted(row[0] for row in found)), tuple(column for _, column in key), text_columns)
    if there == table:
        return
    differing = sorted(set(there.columns) ^ set(table.columns)) or ["the key, or a type"]
    raise SettingsError(
        f"--to: the table {table.name} is not the same in the file and in the database: {', '.join(differing)}. "
        "Name an empty database, and use the same version of this server for both."
    )


async def rows_between(
    target: Connection, table: Table, columns: tuple[str, ...], after: Row | None, until: Row | None, limit: int
) -> list[Row]:
    """Return the target's rows whose keys are greater than `after` and at most `until`, ordered by bytes."""
    order = [f'"{column}" COLLATE "C"' if column in table.text_columns else f'"{column}"' for column in table.key]
    key = f"({', '.join(order)})"
    conditions = [table.condition]
    values: list[Any] = []
    for comparison, bound in ((">", after), ("<=", until)):
        if bound is not None:
            parameters = ", ".join(f"${len(values) + place}" for place in range(1, len(bound) + 1))
            conditions.append(f"{key} {comparison} ({parameters})")
            values += bound
    sql = (
        f'SELECT {column_list(columns)} FROM "{table.name}" WHERE {" AND ".join(conditions)} '
        f"ORDER BY {', '.join(order)} LIMIT {limit}"
    )
    return [tuple(row) for row in await target.fetch(sql, *values)]
