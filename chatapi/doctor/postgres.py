"""PostgreSQL, and poolers in front of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import Any

import asyncpg

from chatapi.auth.keys import fingerprint
from chatapi.connections.postgres import CANNOT, Connection, first_connection
from chatapi.doctor.finding import Check, Finding, Reporter, median_seconds
from chatapi.model import new_id
from chatapi.settings import Settings, SettingsError
from chatapi.store.schema import migrations

FAR_SECONDS = 0.005  # a round trip that is longer crosses more than a data centre; a turn takes a dozen
SLOW_COMMIT_SECONDS = 0.02
HEARD_SECONDS = 2.0  # maximum for a notification
CLOCK_SAMPLES = 5
PROBES = 4  # connections opened at once to detect a pooler

found = Reporter("PostgreSQL")
secret = Reporter("Secret")


async def check(settings: Settings) -> Check:
    """Check everything that a replica needs from it. Nothing that is written stays."""
    pooled = settings.database_pooling == "transaction"
    try:
        (await first_connection(settings.database_url, pooled)).terminate()  # as a replica connects
        connection = await first_connection(
            settings.database_url, transaction_pooling=True
        )  # so that any pooler serves
    except SettingsError as error:
        yield _not_reached(error)
        if settings.secret is None:
            yield _no_secret()
        return
    try:
        yield found.ok(f"it can be reached, and is version {_version(connection)}.")
        async with connection.transaction():
            applied = await _applied(connection)
            writable = not await connection.fetchval("SELECT pg_is_in_recovery()")
        if not writable:
            yield found.failure("that server is a standby, and takes no writes. Name the primary.")
        async for finding in _schema(connection, applied):
            yield finding
        async for finding in _times(connection, settings, writable):
            yield finding
        async for finding in _room(connection, settings):
            yield finding
        async for finding in _secret(connection, settings, applied):
            yield finding
    finally:
        connection.terminate()
    shared = await _shares_connections(settings)
    yield _pooling(shared, pooled)
    if settings.redis_url is None:
        yield await _wake_ups(settings, shared or pooled)


def _not_reached(error: SettingsError) -> Finding:
    reason = str(error).removeprefix("DATABASE_URL: ")
    if "unsupported startup parameter" in reason:
        return found.failure(
            "the pooler accepts no startup parameters, as PgBouncer does. Set CHATAPI_DATABASE_POOLING=transaction."
        )
    return found.failure(reason)


def _version(connection: Connection) -> str:
    version = connection.get_server_version()
    return f"{version.major}.{version.minor}"


async def _applied(connection: Connection) -> set[int] | None:
    """The numbers of the migrations that were applied; None before the first start."""
    if await connection.fetchval("SELECT to_regclass('migration') IS NULL"):
        return None
    return {row[0] for row in await connection.fetch("SELECT number FROM migration")}


# Privileges of the user


async def _schema(connection: Connection, applied: set[int] | None) -> Check:
    known = {migration.number for migration in migrations("postgres")}
    async with connection.transaction():
        user, schema = await connection.fetchrow("SELECT current_user, current_schema()")
        may_make = schema is not None and await connection.fetchval(
            "SELECT has_schema_privilege(current_schema(), 'CREATE')"
        )
        closed = [] if applied is None else await _closed_tables(connection)
    if applied is not None and applied - known:
        yield found.failure("the database was written by a newer version of this server. Install that version.")
        return
    missing = len(known - (applied or set()))
    if missing and not may_make:
        yield found.failure(
            f"the user {user} must be allowed to create tables. As the administrator: "
            f"GRANT CREATE, USAGE ON SCHEMA public TO {user}."
        )
    elif missing:
        yield found.ok(f"the next start {'creates' if applied is None else 'changes'} the tables ({missing} to apply).")
    else:
        yield found.ok("the schema is up to date.")
    if closed:
        yield found.failure(
            f"the user {user} may not read and write {', '.join(closed)}. As the administrator: "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}."
        )


async def _closed_tables(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace "
        "AND relname = ANY($1) AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') "
        "AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) ORDER BY relname",
        [table for migration in migrations("postgres") for table in re.findall(r"CREATE TABLE (\w+)", migration.sql)],
    )
    return [row[0] for row in rows]


# Times


async def _times(connection: Connection, settings: Settings, writable: bool) -> Check:
    round_trip = await median_seconds(lambda: connection.execute("SELECT 1"))
    yield found.latency("a round trip", round_trip, FAR_SECONDS, "Put the service near its database.")
    if writable:
        yield await _commit(connection)
    async for finding in _durability(connection):
        yield finding
    yield await _clock(connection, settings)


async def _commit(connection: Connection) -> Finding:
    """Measure a synchronous commit. A logical message in the server's log leaves no row."""

    async def commit() -> None:
        await connection.execute("SELECT pg_logical_emit_message(true, 'chatapi doctor', '')")

    try:
        took = await median_seconds(commit)
    except asyncpg.PostgresError as error:
        return found.warning(f"the duration of a commit cannot be measured: {error}.")
    return found.latency("a commit", took, SLOW_COMMIT_SECONDS, "Every turn waits for two: use a faster disk.")


async def _durability(connection: Connection) -> Check:
    async with connection.transaction():
        for name in ("fsync", "synchronous_commit"):
            if await connection.fetchval("SELECT current_setting($1)", name) == "off":
                yield found.warning(
                    f"its setting {name} is off: a crash of that server loses acknowledged data. Switch it on."
                )


async def _clock(connection: Connection, settings: Settings) -> Finding:
    looks = []
    for _ in range(CLOCK_SAMPLES):
        async with connection.transaction():
            before = time.time()
            there: datetime = await connection.fetchval("SELECT clock_timestamp()")
            after = time.time()
        looks.append((after - before, abs(there.timestamp() - (before + after) / 2)))
    _, apart = min(looks)  # the quickest sample is the most exact
    most = settings.lease_seconds / 4
    if apart > most:
        return found.warning(
            f"its clock and this machine's are {apart:.1f} s apart; leases need less than {most:g} s between replicas. "
            "Synchronize both (NTP)."
        )
    return found.ok(f"its clock and this machine's are {apart:.2g} s apart.")


# Connections


def connections_of(settings: Settings) -> int:
    """Return the number of connections that one replica keeps."""
    writing = settings.database_connections
    listening = int(settings.redis_url is None and settings.database_pooling == "session")
    return writing + max(1, writing // 2) + 1 + listening


_ROOM = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int - 1,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""


async def _room(connection: Connection, settings: Settings) -> Check:
    need = connections_of(settings)
    if settings.database_pooling == "transaction":
        yield found.ok(f"a replica keeps {need} connections to the pooler; its own settings limit them.")
        return
    async with connection.transaction():
        allowed, used, *limits = await connection.fetchrow(_ROOM)
    narrow = [limit for limit in limits if limit is not None and limit >= 0]
    if narrow and min(narrow) < need:
        yield found.failure(
            f"the user or the database may have {min(narrow)} connections, and a replica keeps {need}. Raise that "
            "limit (ALTER ROLE … CONNECTION LIMIT), or lower CHATAPI_DATABASE_CONNECTIONS."
        )
        return
    sentence = f"it accepts {allowed} connections, of which {used} are in use; a replica keeps {need}"
    if allowed < need:
        yield found.failure(
            f"{sentence}. Raise its max_connections, lower CHATAPI_DATABASE_CONNECTIONS, or use PgBouncer."
        )
    elif allowed - used < need:
        yield found.warning(
            f"{sentence}: one more replica does not fit. Unless your replicas use them, raise its max_connections, "
            "lower CHATAPI_DATABASE_CONNECTIONS, or use PgBouncer."
        )
    else:
        yield found.ok(f"{sentence}: {allowed // need} replicas fit.")


async def _shares_connections(settings: Settings) -> bool | None:
    """Return whether a pooler gives each transaction another server connection; None if that cannot be detected.

    Such a pooler lets an idle connection's server process serve the transaction of another connection. Without one,
    no process is shared.
    """
    async with AsyncExitStack() as opened:
        probes = []
        try:
            for _ in range(PROBES):
                probes.append(await first_connection(settings.database_url, transaction_pooling=True))
                opened.callback(probes[-1].terminate)
            first = await _process(probes[0])
            for probe in probes[1:]:
                await probe.execute("BEGIN")  # and keep it open, so that a pooler uses all its server connections
            others = [await probe.fetchval("SELECT pg_backend_pid()") for probe in probes[1:]]
            return first in others or await _process(probes[0]) != first
        except (*CANNOT, SettingsError):  # a pooler with one server connection, for example
            return None


async def _process(connection: Connection) -> int:
    async with connection.transaction():
        number: int = await connection.fetchval("SELECT pg_backend_pid()")
        return number


def _pooling(shared: bool | None, pooled: bool) -> Finding:
    if shared is None:
        return found.warning(f"pooling cannot be detected: {PROBES} connections at once could not be opened.")
    if shared and not pooled:
        return found.failure(
            "a pooler gives each transaction another connection. Set "
            "CHATAPI_DATABASE_POOLING=transaction and REDIS_URL, or connect to PostgreSQL directly."
        )
    if pooled and not shared:
        return found.ok("each connection keeps its own server process: CHATAPI_DATABASE_POOLING=session may work too.")
    return found.ok("connections are pooled by transaction, as set." if shared else "connections are not shared.")


# Wake-ups


async def _wake_ups(settings: Settings, pooled: bool) -> Finding:
    bus = Reporter("Wake-ups")
    if pooled:
        return bus.warning(
            "notifications do not pass a pooler, so readers on other replicas poll once a second. Set REDIS_URL."
        )
    received = asyncio.Event()
    channel = new_id("doc")
    async with AsyncExitStack() as opened:
        listener, sender = [await first_connection(settings.database_url, transaction_pooling=False) for _ in range(2)]
        opened.callback(listener.terminate)
        opened.callback(sender.terminate)

        def on_notification(*_: Any) -> None:
            received.set()

        await listener.add_listener(channel, on_notification)
        begun = time.perf_counter()
        await sender.execute("SELECT pg_notify($1, '')", channel)
        with suppress(TimeoutError):
            await asyncio.wait_for(received.wait(), HEARD_SECONDS)
        took = time.perf_counter() - begun
    if not received.is_set():
        return bus.failure(
            f"LISTEN and NOTIFY deliver nothing within {HEARD_SECONDS:g} s. Set REDIS_URL, or connect to PostgreSQL "
            "directly."
        )
    return bus.ok(f"LISTEN and NOTIFY deliver in {took * 1000:.1f} ms.")


# The secret


def _no_secret() -> Finding:
    return secret.failure(
        "CHATAPI_SECRET must be set with PostgreSQL, the same for every replica: 32 random characters or more."
    )


async def _secret(connection: Connection, settings: Settings, applied: set[int] | None) -> AsyncGenerator[Finding]:
    if settings.secret is None:
        yield _no_secret()
        return
    agreed = None
    if applied:
        async with connection.transaction():
            agreed = await connection.fetchval("SELECT value FROM agreement WHERE name = 'secret'")
    if agreed is None:
        yield secret.ok("CHATAPI_SECRET is set; the database has none yet, and the first start stores it.")
    elif agreed == fingerprint(settings.secret.encode()):
        yield secret.ok("CHATAPI_SECRET is the one that the sessions belong to.")
    else:
        yield secret.failure(
            "CHATAPI_SECRET must be the one that the sessions in this database belong to; it is another."
        )
