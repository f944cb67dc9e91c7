"""Replicas that share a PostgreSQL: concurrent appends, sweeps and ends of the same answer.

A transaction of the test stands for the sweep or the writer of another replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import structlog

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.metrics.exposition import expose
from chatapi.model import Status
from chatapi.store import Fenced, Store, group_commit
from chatapi.store.drivers.driver import CrossedRows
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.store.sessions import find_session
from tests.databases import postgres
from tests.test_store import Clock, Writer, begin, stored_text

SECONDS = 8.0
TEXT, MORE = "Grüße", " aus 東京"


@pytest.fixture
def url() -> Iterator[str]:
    with postgres().lent_database() as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stores(url: str, clock: Clock) -> AsyncIterator[list[Store]]:
    """The stores of two replicas."""
    stores = [Store(PostgresDriver(url, 2, transaction_pooling=False), clock) for _ in range(2)]
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection within a transaction."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def test_text_that_meets_the_end_of_its_answer_is_not_stored_and_delays_no_other(
    stores: list[Store], other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise it would be stored, but not in the message that was just made from the log.
    store, _ = stores
    writer, neighbour = Writer(await begin(store)), Writer(await begin(store))
    await writer.write(store, TEXT)
    await other.execute("BEGIN")
    await other.execute("SELECT 1 FROM generation WHERE id = $1 FOR UPDATE", writer.id)
    await other.execute("UPDATE generation SET status = 'interrupted', length = 0 WHERE id = $1", writer.id)
    await other.execute("DELETE FROM piece WHERE generation_id = $1", writer.id)
    store.group_commit._metrics = metrics = Metrics()
    monkeypatch.setattr(group_commit, "RETRY_SECONDS", 60)
    await writer.write(store, MORE)
    assert failed_commits(metrics) == 0, "an answer that ends is no failure of the store"
    await neighbour.write(store, TEXT)
    assert (writer.log.committed, neighbour.log.committed) == (len(TEXT.encode()), len(TEXT.encode()))
    with structlog.testing.capture_logs() as logs:
        await writer.write(store, MORE)
        assert failed_commits(metrics) == 0, "the next attempt may come at once, with the text of another answer"
        monkeypatch.setattr(group_commit, "RETRY_SECONDS", 0)
        await writer.write(store, MORE)
        assert failed_commits(metrics) >= 1, "a lock that lasts is one"
    assert (logs[0]["event"], logs[0]["answers"], logs[0]["reasons"]) == ("store commit failed", 1, ["Locked"])
    await other.execute("COMMIT")
    with pytest.raises(Fenced):
        await writer.write(store, MORE)
    assert await other.fetchval("SELECT count(*) FROM piece WHERE generation_id = $1", writer.id) == 0


async def test_text_on_its_way_is_not_tried_again_when_its_answer_ends(
    stores: list[Store], other: asyncpg.Connection
) -> None:
    store, _ = stores
    writer = await Writer(await begin(store)).write(store, TEXT)
    await other.execute("BEGIN")
    await other.execute("SELECT 1 FROM generation WHERE id = $1 FOR UPDATE", writer.id)
    writing = asyncio.create_task(writer.write(store, MORE))
    while not store.group_commit._in_batch:  # noqa: ASYNC110  # until it is on its way
        await asyncio.sleep(0)
    store.group_commit.withdraw(writer.id)  # as its ending does
    await writing
    assert store.group_commit.waiting == 0


async def test_a_sweep_skips_an_answer_whose_text_is_being_stored(
    stores: list[Store], other: asyncpg.Connection, clock: Clock
) -> None:
    # The lock is the one that an append takes: the text is either part of what the sweep joins, or fenced.
    store, sweeper = stores
    writer = Writer(await begin(store))
    await writer.write(store, TEXT)
    clock.advance(store.lease_seconds + 1)
    await other.execute("BEGIN")
    await other.execute("SELECT 1 FROM generation WHERE id = $1 FOR KEY SHARE", writer.id)
    assert await sweeper.generations.sweep() == []
    await other.execute("COMMIT")
    (closed,) = await sweeper.generations.sweep()
    assert closed.status is Status.INTERRUPTED
    assert await stored_text(sweeper, writer.id) == TEXT
    with pytest.raises(Fenced):
        await writer.write(store, MORE)
    with pytest.raises(Fenced):
        await writer.finish(store)
    assert await stored_text(store, writer.id) == TEXT


async def test_concurrent_sweeps_close_each_answer_once(stores: list[Store], clock: Clock) -> None:
    begun = {(await begin(stores[0])).generation.id for _ in range(20)}
    clock.advance(stores[0].lease_seconds + 1)
    swept = await asyncio.gather(*(store.generations.sweep() for store in stores * 4))
    closed = [generation.id for some in swept for generation in some]
    assert len(closed) == len(set(closed))
    assert set(closed) <= begun
    for store in stores:
        assert set(closed).isdisjoint(generation.id for generation in await store.generations.sweep())


async def test_the_row_of_another_session_is_detected(stores: list[Store], url: str) -> None:
    first, second = [await stores[0].sessions.create("anna", text) for text in (TEXT, MORE)]
    asking = find_session(first.id)
    next(asking)
    looker = await asyncpg.connect(url)
    row = tuple(await looker.fetchrow("SELECT * FROM session WHERE id = $1", second.id))
    await looker.close()
    with pytest.raises(CrossedRows):
        asking.send([row])


async def test_locks_of_a_paused_replica_are_released_before_its_leases_expire(url: str) -> None:
    driver = PostgresDriver(url, 1, transaction_pooling=False, lease_seconds=3)
    await driver.open()
    bound = "SHOW idle_in_transaction_session_timeout"
    assert await driver._writers.run(lambda connection: connection.fetchval(bound)) == "3s"
    await driver.close()


async def test_a_replica_that_pauses_in_the_middle_of_a_message_keeps_no_answer_open(url: str, clock: Clock) -> None:
    store = Store(PostgresDriver(url, 1, transaction_pooling=False, lease_seconds=0.5), clock, lease_seconds=0.5)
    await store.open()
    begun = await begin(store)
    limits = {"application_name": "chatapi", "idle_in_transaction_session_timeout": "500", "statement_timeout": "500"}
    paused, psql = await asyncpg.connect(url, server_settings=limits), await asyncpg.connect(url)
    for connection in (paused, psql):
        await connection.execute("BEGIN")
    await paused.execute("SELECT 1 FROM generation WHERE id = $1 FOR UPDATE".replace("$1", f"'{begun.generation.id}'"))
    for connection in (paused, psql):
        await connection.prepare("SELECT 2")  # the first of two messages
    await asyncio.sleep(1.0)
    clock.advance(1)
    assert await store.generations.sweep() == [], "the server's own limits do not apply"
    assert await store.end_abandoned() == 1
    assert await store.end_abandoned() == 0
    assert [closed.id for closed in await store.generations.sweep()] == [begun.generation.id]
    assert await psql.fetchval("SELECT 1") == 1, "the session of another program stays open"
    await psql.close()
    paused.terminate()
    await store.close()


@pytest.mark.parametrize("table", ["session", "message", "generation", "usage"])
async def test_the_probe_fails_while_another_program_has_locked_a_table(
    stores: list[Store], other: asyncpg.Connection, table: str
) -> None:
    await stores[0].deployment.probe()
    await other.execute("BEGIN")
    await other.execute(f"LOCK TABLE {table} IN SHARE MODE")
    with structlog.testing.capture_logs() as logs, pytest.raises(StoreUnavailable):
        await stores[0].deployment.probe()
    assert [(one["event"], one["writes"], one["reasons"]) for one in logs] == [
        ("store commit failed", ["Deployment.probe"], ["LockNotAvailableError"])
    ]
    await other.execute("ROLLBACK")
    await stores[0].deployment.probe()


def failed_commits(metrics: Metrics) -> float:
    text = expose(metrics.snapshot(), "")[0].decode()
    return float(text.partition('chatapi_store_commits_total{outcome="failed"} ')[2].split()[0])
