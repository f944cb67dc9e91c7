"""SQLite on a disk whose syncs fail: an acknowledged turn is on the disk, whatever failed before it."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from chatapi.errors import StoreUnavailable
from chatapi.metrics import Metrics
from chatapi.metrics.exposition import expose
from chatapi.store import Store, journaled_commit
from chatapi.store.drivers.sqlite import CHECKPOINT_COMMITS, SQLiteDriver
from tests.faulty_disk import FaultyDisk, faulty_disk
from tests.test_store import TEXT, Clock, Writer, begin, said
from tests.waiting import wait_for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
async def disk_and_store(path: Path) -> AsyncIterator[tuple[FaultyDisk, Store]]:
    with faulty_disk() as disk:
        store = Store(SQLiteDriver(path), Clock())
        await store.open()
        yield disk, store
        disk.failing = False
        await store.close()


def answers_on_disk(disk: FaultyDisk, path: Path) -> list[str]:
    """Cut the power, and return the IDs of the completed generations that are left."""
    after = path.with_name("after.db")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{after}{suffix}").unlink(missing_ok=True)
    disk.cut_power(path, after)
    with closing(sqlite3.connect(f"file:{after}?vfs=unix", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT id FROM generation WHERE status = 'completed'")]


async def test_turns_after_a_failed_sync_are_on_the_disk(disk_and_store: tuple[FaultyDisk, Store], path: Path) -> None:
    disk, store = disk_and_store
    acknowledged = [(await said(store, None, "Hello", TEXT)).generation.id]
    writer = Writer(await begin(store))
    await writer.write(store, TEXT)  # committed, and not synced: the failed sync loses it
    disk.failing = True
    with pytest.raises(StoreUnavailable):
        await begin(store)
    assert disk.failures
    disk.failing = False
    for _ in range(5):
        acknowledged.append((await said(store, None, "Hello", TEXT)).generation.id)
        assert set(acknowledged) <= set(answers_on_disk(disk, path))
    await writer.finish(store)
    assert writer.id in answers_on_disk(disk, path)


async def test_while_no_sync_works_no_turn_begins_or_ends_and_the_probe_fails(
    disk_and_store: tuple[FaultyDisk, Store],
) -> None:
    disk, store = disk_and_store
    await store.deployment.probe()
    writer = Writer(await begin(store))
    disk.failing = True
    with pytest.raises(StoreUnavailable):
        await begin(store)
    with pytest.raises(StoreUnavailable):
        await store.deployment.probe()
    await writer.write(store, TEXT)  # into the journal: text is kept without a sync
    assert writer.log.committed == writer.log.position
    with pytest.raises(StoreUnavailable):
        await writer.finish(store)
    disk.failing = False
    await store.deployment.probe()
    assert (await writer.finish(store)).length == writer.log.position


async def test_a_sync_of_the_journal_that_fails_is_counted_and_loses_no_text(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(journaled_commit, "SYNC_SECONDS", 0.0)
    monkeypatch.setattr(os, "fdatasync", fail)
    metrics = Metrics()
    store = Store(SQLiteDriver(path), Clock(), metrics=metrics)
    await store.open()
    try:
        writer = Writer(await begin(store))
        await writer.write(store, TEXT)
        assert writer.log.committed == writer.log.position
        counted = b"chatapi_journal_sync_failures_total 1.0"
        await asyncio.to_thread(wait_for, lambda: counted in expose(metrics.snapshot(), "")[0])
        assert (await writer.finish(store)).length == writer.log.position
    finally:
        await store.close()


async def test_a_sync_that_fails_in_a_checkpoint_is_noticed(
    disk_and_store: tuple[FaultyDisk, Store], path: Path
) -> None:
    disk, store = disk_and_store
    writer = Writer(await begin(store))
    disk.failing = True
    for _ in range(CHECKPOINT_COMMITS + 1):  # a lease is not synced; the checkpoint that it leads to is
        with suppress(StoreUnavailable):
            await store.generations.renew([writer.id])
    assert disk.failures, "a checkpoint was due"
    disk.failing = False
    await writer.finish(store)
    assert writer.id in answers_on_disk(disk, path)
