"""`chatapi retention`: count the sessions that have expired, or delete them now."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import quote

from chatapi.generations.retention import RetentionJob, rules
from chatapi.metrics import Metrics
from chatapi.model import Microseconds, wall_clock
from chatapi.settings import Settings, SettingsError
from chatapi.store.retention import Expired, count_statement
from chatapi.telemetry import logging as telemetry
from chatapi.wiring import make_services


def count_expired(settings: Settings) -> Expired:
    """Return how many sessions have expired. Reads only; the server may run.

    Raises:
        SettingsError: the database cannot be read.
    """
    counts = [(count_statement(rule), before) for rule, before in rules(settings, wall_clock())]
    if settings.uses_postgres:
        return asyncio.run(_count_in_postgres(settings, counts))
    path = settings.database_path
    if not path.is_file():
        raise SettingsError(f"DATABASE_URL: there is no file {path}. Set it as the server has it.")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            found = [connection.execute(sql.replace("$", "?"), (before,)).fetchone() for sql, before in counts]
    except sqlite3.Error as error:
        raise SettingsError(f"DATABASE_URL: the file {path} cannot be read: {error}. Run `chatapi doctor`.") from error
    return _sum(found)


def _sum(rows: Sequence[Sequence[int]]) -> Expired:
    return Expired(sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows))


async def _count_in_postgres(settings: Settings, counts: list[tuple[str, Microseconds]]) -> Expired:
    from chatapi.connections.postgres import CANNOT, first_connection  # here: only users of it need its package

    connection = await first_connection(settings.database_url, settings.database_pooling == "transaction")
    try:
        async with connection.transaction():  # a pooler may use another connection for the next statement
            found = [(await connection.fetch(sql, before))[0] for sql, before in counts]
    except CANNOT as error:
        raise SettingsError(f"DATABASE_URL: the tables cannot be read: {error}. Start the server once.") from error
    finally:
        connection.terminate()
    return _sum(found)


def delete_expired(settings: Settings) -> Expired:
    """Delete the sessions that have expired, as a server does by itself; return their number.

    Raises:
        SettingsError: a server has the SQLite file open, or the database cannot be used.
    """
    return asyncio.run(_delete_expired(settings))


async def _delete_expired(settings: Settings) -> Expired:
    telemetry.configure(settings)
    store = make_services(settings).store
    try:
        await store.open()
        return await RetentionJob(store, settings, wall_clock, Metrics()).run()
    finally:
        await store.close()
