"""Retention after kill -9: the next run leaves no byte of the deleted text, wherever the run before it was killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chatapi.auth.authorization import Action, Caller, make_authorizer
from chatapi.generations import retention
from chatapi.generations.retention import RetentionJob
from chatapi.metrics import Metrics
from chatapi.model import Kind, Outcome, Status, Usage
from chatapi.store import Store
from chatapi.store.drivers import sqlite
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.drivers.sqlite_file import connect
from tests.test_retention import CANARY, DAY, MONTH, Clock, Writer, files_with, make_sessions, turn

SESSIONS = 30
TICK = 20  # instructions of SQLite's virtual machine between two points at which the process can be killed
STEPS = VACUUM, EMPTY_LOG = "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"


def in_child(work: Coroutine[Any, Any, object], dies_at: int = 0) -> dict[str, int]:
    """Run work in a process that is killed at its end, or at this tick of SQLite's writer.

    Return the tick at which each statement last began, if it came to its end.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            ticks, begun = 0, {}

            def tick(statement: str | None = None) -> int:
                nonlocal ticks
                ticks += 1
                if statement is not None:
                    begun[statement] = ticks
                if ticks == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return 0

            def connect_and_tick(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
                connection = connect(path, read_only=read_only)
                if not read_only:
                    connection.set_progress_handler(tick, TICK)
                    connection.set_trace_callback(tick)
                return connection

            vars(sqlite)["connect"] = connect_and_tick
            asyncio.run(work)
            os.write(writes, json.dumps({name: tick for name, tick in begun.items() if name in STEPS}).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    work.close()
    return json.loads(output or b"{}")  # type: ignore[no-any-return]


async def converse(folder: Path) -> None:
    """Store old sessions with the canary, and new ones; a running answer keeps the segment of the journal."""
    clock = Clock()
    store = Store(SQLiteDriver(folder / "chat.db"), clock)
    await store.open()
    await store.turns.begin(turn("kept", "runs"), make_authorizer(Caller("kept"), Action.SPEND))
    for number in range(SESSIONS):
        await say(store, f"{CANARY} {'x' * 40 * number} {CANARY}")
    clock.now += 40 * DAY
    await make_sessions(store, "kept", 5, "keep")


async def say(store: Store, text: str) -> None:
    """Store a session whose answer was in the journal while it ran."""
    begun = await store.turns.begin(turn("ada", text), make_authorizer(Caller("ada"), Action.SPEND))
    writer = Writer(begun.generation.id)
    writer.log.write(Kind.TEXT, text, None)
    store.group_commit.schedule_append(writer)
    await store.group_commit.flush()
    writer.log.release()
    await store.generations.finish(writer, Outcome(Status.COMPLETED, "stop", Usage(1, 2)), writer.log.parts(), None)


async def delete_expired(folder: Path) -> tuple[list[str], int]:
    """Start as a server does, say the canary once more, and run the job much later.

    Return the files that have the canary then, and the number of sessions.
    """
    clock = Clock()
    store = Store(SQLiteDriver(folder / "chat.db"), clock)
    await store.open()
    await say(store, CANARY)
    clock.now += 41 * DAY
    await RetentionJob(store, MONTH, clock, Metrics()).run()
    left = files_with(folder, CANARY)
    sessions = await store.sessions.count()
    await store.close()
    return left + files_with(folder, CANARY), sessions


def test_no_byte_is_left_by_the_run_after_a_kill_at_any_step_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ERASE_SECONDS", 0.02)
    monkeypatch.setattr(retention, "RESTS", 0)
    before = tmp_path / "before"
    before.mkdir()
    in_child(converse(before))
    assert {"chat.db-wal", "00000001.segment"} <= set(files_with(before, CANARY))

    whole = tmp_path / "whole"
    shutil.copytree(before, whole)
    ticks = in_child(delete_expired(whole))
    vacuum, empty_log = ticks[VACUUM], ticks[EMPTY_LOG]
    left = []
    for kill in (vacuum // 2, vacuum - 1, (vacuum + empty_log) // 2, empty_log, empty_log + 1):
        folder = tmp_path / str(kill)
        shutil.copytree(before, folder)
        assert in_child(delete_expired(folder), dies_at=kill) == {}
        left.append(bool(files_with(folder, CANARY)))
        assert asyncio.run(delete_expired(folder)) == ([], 5)
    assert left[:3] == [True] * 3, "these kills come before the bytes are removed"
