"""The three passes over each table: reject foreign rows, copy, compare.

The target itself shows how far an earlier run came: rows are copied in the order of their keys, each batch in one
transaction. So an interrupted migration is continued by running it again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import NamedTuple

import msgspec

from chatapi.connections.postgres import Connection
from chatapi.migrate.errors import MigrationIncomplete
from chatapi.migrate.progress import Progress
from chatapi.migrate.source import batches
from chatapi.migrate.tables import Row, Table
from chatapi.migrate.target import ONE_STATE, rows_between, transaction
from chatapi.settings import SettingsError


class Checksum(NamedTuple):
    """The number of rows of a table, and the SHA-256 of all of them."""

    table: str
    rows: int
    digest: str


async def reject_foreign_rows(source: sqlite3.Connection, target: Connection, table: Table) -> None:
    """Raise `SettingsError` if the target has a row that the file does not have, or has with other values."""
    after: Row | None = None
    async with transaction(target, ONE_STATE):
        for batch in batches(source, table):
            if not await rows_between(target, table, table.key, after, None, 1):
                return
            expected = {table.key_of(row): row for row in batch}
            until = table.key_of(batch[-1])
            # One row more than the batch has: if there are that many, one of them is foreign.
            for row in await rows_between(target, table, table.columns, after, until, len(batch) + 1):
                if expected.get(table.key_of(row)) != row:
                    raise _in_use(table, row)
            after = until
        for row in await rows_between(target, table, table.columns, after, None, 1):
            raise _in_use(table, row)


def _in_use(table: Table, row: Row) -> SettingsError:
    if table.name == "agreement":
        return SettingsError(
            "--to: a server was started on that database with another CHATAPI_SECRET than the file's. "
            "Name an empty database (createdb NAME)."
        )
    return SettingsError(
        f"--to: that database is in use: {table.describe(row)} is not in the file, or differs from it. "
        "Name an empty database (createdb NAME), or the one that an earlier run began to fill from the same file."
    )


async def copy_rows(source: sqlite3.Connection, target: Connection, table: Table, progress: Progress) -> None:
    """Copy the rows that the target does not have."""
    after: Row | None = None
    async with transaction(target):
        empty = not await rows_between(target, table, table.key, None, None, 1)
    for batch in batches(source, table):
        until = table.key_of(batch[-1])
        async with transaction(target):
            there = set() if empty else set(await rows_between(target, table, table.key, after, until, len(batch)))
            missing = [row for row in batch if table.key_of(row) not in there]
            if missing:
                await target.copy_records_to_table(table.name, records=missing, columns=table.columns)
        after = until
        progress.advance(len(batch), table.name)


async def compare_rows(source: sqlite3.Connection, target: Connection, table: Table, progress: Progress) -> Checksum:
    """Read the whole table on both sides, and return its checksum.

    Raises:
        MigrationIncomplete: The two differ.
    """
    encode = msgspec.msgpack.Encoder().encode  # injective: two different rows have two different encodings
    here, there = hashlib.sha256(), hashlib.sha256()
    count, after = 0, None
    for batch in batches(source, table):
        until = table.key_of(batch[-1])
        found = await rows_between(target, table, table.columns, after, until, len(batch) + 1)
        for row in batch:
            here.update(encode(row))
        for row in found:
            there.update(encode(row))
        if len(found) != len(batch) or here.digest() != there.digest():
            raise _differs(table, batch, found)
        count, after = count + len(batch), until
        progress.advance(len(batch), table.name)
    for row in await rows_between(target, table, table.columns, after, None, 1):
        raise _differs(table, [], [row])
    return Checksum(table.name, count, here.hexdigest())


def _differs(table: Table, batch: list[Row], found: list[Row]) -> MigrationIncomplete:
    here, there = set(batch), set(found)
    row = next((row for row in (*batch, *found) if row not in here & there), found[0])
    return MigrationIncomplete(
        f"The copy is not the same as the file: {table.describe(row)} differs. Another program writes to that "
        "database, or changed it. Empty it (dropdb NAME, createdb NAME), make sure that nothing else uses it, and run "
        "this again."
    )
