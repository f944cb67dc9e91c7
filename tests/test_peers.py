"""Two workers' stores on one SQLite file: logs that are asked for, journals that are recovered, and shared counts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from chatapi.connections import mailboxes
from chatapi.connections.mailboxes import Mailboxes
from chatapi.errors import Overloaded, RateLimited, StoreUnavailable, TooManyGenerations
from chatapi.limits import LeakyBuckets, LocalRateLimit, LocalSlots, WorkerSlots
from chatapi.limits import workers as shared_limits
from chatapi.model import Kind, Status, ToolCall, wall_clock
from chatapi.model.log import parts_of
from chatapi.store import Store, peers
from chatapi.store.drivers import write_turn
from chatapi.store.drivers.driver import RunningLog
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.worker_group import Member, WorkerGroup
from tests.test_retention import files_with
from tests.test_store import Writer, begin, stored_text

TEXT = "Ümläute und 漢字. " * 10_000  # takes several messages
PIECES = 3000
SECONDS = 10.0


class Worker:
    """The store of one worker, open, and its links to the other."""

    def __init__(self, group: WorkerGroup, number: int, folder: Path) -> None:
        self.member: Member = group.member(number)
        self.driver = SQLiteDriver(folder / "chat.db", self.member.peers, self.member.turn)
        self.store = Store(self.driver, wall_clock, replica=group.replicas[number])

    async def open(self) -> Worker:
        await self.store.open()
        await self.member.peers.open()
        return self

    async def close(self) -> None:
        await self.member.peers.close()
        await self.store.close()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[WorkerGroup]:
    group = WorkerGroup(2, tmp_path)
    yield group
    group.close()


@pytest.fixture
async def pair(tmp_path: Path, group: WorkerGroup) -> AsyncIterator[list[Worker]]:
    """Two workers on a file that was prepared for them."""
    alone = Store(SQLiteDriver(tmp_path / "chat.db"), wall_clock)
    await alone.open()
    await alone.close()
    opened = [await Worker(group, number, tmp_path).open() for number in range(2)]
    yield opened
    for worker in opened:
        await worker.close()


async def test_a_log_is_read_from_the_worker_that_writes_it_at_every_stage(pair: list[Worker]) -> None:
    here, there = (worker.store for worker in pair)
    begun = await begin(here)
    assert await stored_text(there, begun.generation.id) == ""
    writer = await Writer(begun).write(here, "Think. ", Kind.REASONING)
    await writer.write(here, TEXT)
    for number in range(300):  # a description of each would be longer than a message
        await writer.write(here, "{}", Kind.TOOL_CALL, ToolCall(f"{number} {'x' * 1000}", "a"))
    for _ in range(PIECES):
        writer.log.write(Kind.TEXT, "y")
        writer.log.cut()
    await writer.write(here, "z")
    writer.log.write(Kind.TEXT, "not committed")
    data = f"Think. {TEXT}{'{}' * 300}{'y' * PIECES}z".encode()
    for position in (0, 3, 7, len(data) - 1, len(data)):
        log = await there.generations.read_log(begun.generation.id, position)
        assert log is not None
        assert b"".join(piece.data for piece in log.pieces) == data[position:]
    log = await there.generations.read_log(begun.generation.id, 0, by_cut=True)
    assert log is not None
    assert log.pieces == writer.log.read(0, by_cut=True)
    (_, answer) = await there.messages.page_after(begun.session.id, -1, 10)
    assert answer.parts == parts_of(log.pieces)
    await writer.finish(here)
    assert await stored_text(there, begun.generation.id) == data.decode() + "not committed"


async def test_a_worker_that_does_not_answer_is_an_unavailable_store_and_not_an_empty_log(
    pair: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(peers, "ASK_AGAIN_SECONDS", 0.05)
    here, there = pair
    begun, other = await begin(here.store), await begin(here.store)
    await Writer(begun).write(here.store, "Hello")
    await Writer(other).write(here.store, "Bonjour")
    await here.member.peers.close()
    with pytest.raises(StoreUnavailable):
        await stored_text(there.store, begun.generation.id)
    assert await there.member.peers.rotate() is False
    await here.member.peers.open()  # which finds the old questions, and answers them too
    await there.member.peers.close()
    await there.member.peers.open()  # as a successor does: answers to its predecessor's questions are not for it
    monkeypatch.undo()
    (piece,) = await there.member.peers.read(RunningLog(other.generation.id, 0), here.store.replica)
    assert piece.data == b"Bonjour"


async def test_a_successor_recovers_the_journal_of_its_place_and_closes_its_answers_only(
    tmp_path: Path, group: WorkerGroup, pair: list[Worker]
) -> None:
    here, there = pair
    dying, living = await begin(here.store), await begin(there.store)
    await Writer(dying).write(here.store, TEXT)
    writer = await Writer(living).write(there.store, "Hello")
    assert not await there.store.generations.sweep(1 << 62, spare_own=True)  # it cannot have the text of the other
    assert await stored_text(there.store, dying.generation.id) == TEXT
    assert sorted(path.name for path in tmp_path.rglob("*.segment")) == [  # noqa: ASYNC240 - a moment
        "0-00000001.segment",
        "1-00000001.segment",
    ]
    await here.member.peers.close()  # as if it was killed: its store stays as it is, and writes nothing more
    successor = await Worker(group, 0, tmp_path).open()
    try:
        closed = await there.store.generations.find(dying.generation.id)
        assert closed is not None
        assert closed.status is Status.INTERRUPTED
        assert await stored_text(there.store, dying.generation.id) == TEXT
        assert await stored_text(successor.store, living.generation.id) == "Hello"
        assert (await writer.finish(there.store)).status is Status.COMPLETED
    finally:
        await successor.close()


async def test_deleted_text_is_in_no_journal_of_any_worker(tmp_path: Path, pair: list[Worker]) -> None:
    here, there = pair
    begun = await begin(here.store)
    writer = await Writer(begun).write(here.store, "a deleted text")
    await writer.finish(here.store)
    await there.store.sessions.delete(begun.session.id, lambda session: session)  # type: ignore[arg-type, return-value]
    assert files_with(tmp_path, "a deleted text")
    async with asyncio.timeout(SECONDS):
        while not await there.store.erase_deleted():  # noqa: ASYNC110 - it says itself that it must be tried again
            await asyncio.sleep(0.01)
        while found := files_with(tmp_path, "a deleted text"):
            assert all(name.startswith("0-") for name in found)  # being removed
            await asyncio.sleep(0.01)


async def test_after_a_sync_that_failed_every_worker_empties_the_log_first(
    pair: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    emptied = []
    monkeypatch.setattr(there.driver, "_replace_wal", lambda connection: emptied.append(connection))
    here.member.turn.flags[0] = 1
    await begin(there.store)
    assert emptied


async def test_a_message_of_the_bus_reaches_its_worker_and_no_other(group: WorkerGroup) -> None:
    received: list[tuple[int, str]] = []
    came = asyncio.Event()

    def receive(number: int, message: str) -> None:
        received.append((number, message))
        came.set()

    transports = [group.member(number).transport for number in range(2)]
    for number, transport in enumerate(transports):
        await transport.open(group.replicas[number], partial(receive, number))
    transports[0].send("a replica of an earlier start", "lost")
    transports[0].send(group.replicas[1], "wake")
    async with asyncio.timeout(SECONDS):
        await came.wait()
    assert received == [(1, "wake")]
    for transport in transports:
        await transport.close()


async def test_messages_wait_for_a_slow_reader_and_beyond_a_bound_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "OUTBOX_BYTES", 1_000_000)
    boxes = Mailboxes(2)
    received: list[bytes] = []
    sender, receiver = boxes.of(0), boxes.of(1)
    sender.open(received.append)
    sent = [number.to_bytes(4) * 10_000 for number in range(100)]
    for message in sent:
        sender.send(1, message)
    receiver.open(received.append)
    async with asyncio.timeout(SECONDS):
        while len(received) < 25:  # noqa: ASYNC110 - of the operating system, which sets no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert received == sent[: len(received)]
    assert len(received) < len(sent)
    sender.close()
    receiver.close()
    boxes.close()


@contextmanager
def held_by_another_process(take: Callable[[], Any]) -> Iterator[None]:
    """Let another process take a lock, and hold it until it is killed at the end of the block."""
    taken, taken_there = os.pipe()
    other = os.fork()
    if not other:
        take()
        os.write(taken_there, b"x")
        signal.pause()
    try:
        assert os.read(taken, 1)
        yield
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        for end in (taken, taken_there):
            os.close(end)


def test_one_process_writes_at_a_time_and_a_dead_one_holds_no_turn(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_turn, "WAIT_SECONDS", 0.01)
    turn = group.turn.take()
    with held_by_another_process(turn.__enter__), pytest.raises(StoreUnavailable), group.turn.take():
        pass
    with group.turn.take():
        pass


def test_while_a_worker_hangs_in_the_lock_of_the_limits_each_other_one_counts_alone(group: WorkerGroup) -> None:
    limit = LocalRateLimit(1, lambda: 100.0, group.times)
    slots = [WorkerSlots(group.counts, number, LocalSlots(2, 0)) for number in range(2)]

    async def take_all() -> None:
        before = await slots[0].take("ada")
        assert await limit.take("ada")
        with held_by_another_process(group.times.__enter__), structlog.testing.capture_logs() as logs:
            begun = time.monotonic()
            assert await limit.take("ada")
            waited = time.monotonic() - begun
            assert waited >= shared_limits.LOCK_SECONDS
            for _ in range(10):
                with pytest.raises(RateLimited):
                    await limit.take("ada")
                alone = [await slots[1].take("ada") for _ in range(2)]
                with pytest.raises(TooManyGenerations):
                    await slots[1].take("ada")
                for slot in alone:
                    await slots[1].give_back(slot)
            await slots[0].give_back(before)
            assert time.monotonic() - begun < 2 * waited, "the lock is waited for once"
        with pytest.raises(RateLimited):
            await limit.take("ada")
        assert await slots[1].take("ada")
        assert await slots[1].take("ada"), "the one that was given back meanwhile"
        assert [line["event"] for line in logs] == ["limits counted alone: another worker hangs"]

    asyncio.run(take_all())


def test_workers_count_the_requests_of_a_group_together(group: WorkerGroup) -> None:
    times = group.times
    now = 100.0
    here, there = (LocalRateLimit(2, lambda: now, times) for _ in range(2))
    other = LeakyBuckets(2, lambda: now, times, "other ")
    left = [asyncio.run(one.take("ada")) for one in (here, there)]
    assert [limit and limit.remaining for limit in left] == [1, 0]
    with pytest.raises(RateLimited):
        asyncio.run(here.take("ada"))
    assert other.wait_seconds("ada") == 0
    for number in range(20_000):  # more than the table holds in some sets: the table does not grow, and no group waits
        times.set(f"group {number}", now + number, now)
    now += 60
    assert asyncio.run(there.take("ada"))


def test_workers_count_running_answers_together_until_their_place_is_taken(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "OWNERS", 3)
    counts = group.counts
    assert [counts.take(worker, "ada", 3, 0) for worker in (0, 1, 1, 0)] == [True, True, True, False]
    counts.give_back(1, "ada")
    assert counts.take(0, "ada", 3, 0)
    assert [counts.take(0, owner, 3, 0) for owner in ("bob", "eve")] == [True, True]
    with pytest.raises(Overloaded):
        counts.take(0, "one more than the table holds", 3, 0)
    with pytest.raises(Overloaded):
        counts.take(1, "bob", 3, 5)
    counts.give_back(0, "bob")
    counts.give_back(0, "bob")  # twice has no effect
    assert counts.take(1, "bob", 1, 5)
    counts.clear(0)  # the worker died, and its successor starts
    assert [counts.take(0, "ada", 3, 0) for _ in range(3)] == [True, True, False]
