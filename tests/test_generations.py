"""Generations in moments that no client can cause: late results of commits, and unforeseen faults.

The parts are real. The driver passes every batch to SQLite at once. If a test asks for it, it delivers the result only
when the test says so: the database has committed, and the process does not know yet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from chatapi.api.http.streaming import LogResponse
from chatapi.api.http.text_stream import TextEncoder
from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.bus import LocalBus
from chatapi.errors import Draining, SessionDeleted, SessionNotFound, StoreUnavailable, UpstreamRejectedKey
from chatapi.generations import maintenance, runner, running
from chatapi.generations.manager import Generations, TurnHandle
from chatapi.generations.reader import READ_BYTES
from chatapi.limits import LocalSlots
from chatapi.model import Generation, Microseconds, Session, Status, TurnRequest, user_text, wall_clock
from chatapi.settings import Settings
from chatapi.simulator import Chunks, Gate, Pause, ReceivedRequest, Script, Send, Simulator, Wait, refuse, scripts
from chatapi.store import Store
from chatapi.store.drivers.driver import Batch, Committed, Transaction
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.generations import LEASE_SECONDS
from chatapi.store.journaled_commit import JournaledCommit
from chatapi.upstream.client import Upstream
from tests.server_process import KEY

T = TypeVar("T")

SECONDS = 20.0  # for anything a test waits for; it takes milliseconds
SOON_SECONDS = 0.02  # between two periodic checks, if a test waits for one
OWNER = "the-owner-tag"
CHUNKS = Chunks()


@dataclass
class Held:
    """A commit: `committed` when the database has it, and not delivered before `deliver` is set."""

    committed: asyncio.Event = field(default_factory=asyncio.Event)
    deliver: asyncio.Event = field(default_factory=asyncio.Event)


class LateDriver:
    """The real driver, whose results a test can delay or replace with a fault.

    Each order is for the next batch that contains a transaction of that kind.
    """

    exclusive = True

    def __init__(self, driver: SQLiteDriver) -> None:
        self._driver = driver
        self.journal = driver.journal
        self._held: dict[str, Held] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._results: dict[str, tuple[Exception, asyncio.Event]] = {}
        self.was_read = asyncio.Event()

    def hold(self, kind: str) -> Held:
        """Deliver late."""
        return self._held.setdefault(kind, Held())

    def fail(self, kind: str, error: Exception, times: int = 1) -> None:
        """Raise instead of committing, this many times."""
        self._failures[kind] = [error] * times

    def spoil(self, kind: str, error: Exception) -> asyncio.Event:
        """Return this error as the result of the transaction; the event is set when it is returned."""
        self._results[kind] = error, asyncio.Event()
        return self._results[kind][1]

    async def open(self) -> None:
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()

    async def settle_reads(self) -> None:
        await self._driver.settle_reads()

    async def commit(self, batch: Batch) -> Committed:
        kinds = [cast(partial[Any], transaction).func.__qualname__ for transaction in batch.transactions]
        for kind in kinds:
            if self._failures.get(kind):
                raise self._failures[kind].pop()
        held = [self._held.pop(kind) for kind in set(kinds) if kind in self._held]
        outcome = await self._driver.commit(batch)
        for place, kind in enumerate(kinds):
            if kind in self._results:
                outcome.results[place], told = self._results.pop(kind)
                told.set()
        for one in held:
            one.committed.set()
            await one.deliver.wait()
        return outcome

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        try:
            return await self._driver.read(transaction)
        finally:
            self.was_read.set()

    def load(self) -> dict[tuple[str, ...], float]:
        return self._driver.load()

    async def end_abandoned(self) -> int:
        return await self._driver.end_abandoned()

    async def erase_deleted(self) -> bool:
        return await self._driver.erase_deleted()


def queue_of(store: Store) -> list[Any]:
    """Return the transactions that wait for the commit after the running one."""
    assert isinstance(store.group_commit, JournaledCommit)
    return store.group_commit._queue


class SteppingClock:
    """The wall clock, which a test may step."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> Microseconds:
        return Microseconds(wall_clock() + int(self.ahead_seconds * 1_000_000))


@dataclass
class Parts:
    """A service without HTTP, and the actions of its users."""

    driver: LateDriver
    store: Store
    bus: LocalBus
    slots: LocalSlots
    generations: Generations
    clock: SteppingClock

    async def send(self, text: str = "Hello", interrupt: bool = False, **more: Any) -> TurnHandle:
        turn = TurnRequest(
            OWNER, more.pop("session_id", None), "Be brief.", user_text(text), "gpt-4.1-mini", "text", **more
        )
        return await self.generations.send(turn, Credential(Key(KEY)), allow_any, interrupt)

    async def session(self) -> str:
        return (await self.store.sessions.create(OWNER, "Be brief.")).id

    async def newest(self) -> Generation:
        """Return the generation that was committed last, as stored."""
        (session,) = await self.store.sessions.page(OWNER, None, 1)
        found = await self.store.generations.find_latest(session.id)
        assert found is not None
        return found

    async def queued(self) -> None:
        """Return when a transaction waits for the commit after the running one."""

        async def look() -> None:
            while not queue_of(self.store):  # noqa: ASYNC110  # the queue has no bell of its own
                await asyncio.sleep(0)

        await soon(look())

    async def idle(self) -> None:
        """Return when nothing is being committed."""

        async def look() -> None:
            while self.store.group_commit.waiting:  # noqa: ASYNC110  # nor has this
                await asyncio.sleep(0)

        await soon(look())


Make = Callable[..., Awaitable[Parts]]


@pytest.fixture
async def make(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Make]:
    """Assemble the parts: `await make(idle_seconds=0.5)`. At the end all resources must be released."""
    made: list[tuple[Parts, Upstream]] = []

    async def put_together(**settings: Any) -> Parts:
        driver = LateDriver(SQLiteDriver(tmp_path / "chat.db"))
        clock = SteppingClock()
        store, bus, slots = Store(driver, clock), LocalBus(), LocalSlots(8, 8)
        upstream = Upstream(simulator.url, 5)
        parts = Parts(
            driver, store, bus, slots, Generations(store, bus, upstream, slots, Settings(**settings), clock), clock
        )
        made.append((parts, upstream))
        await store.open()
        await upstream.open()
        await parts.generations.open()
        return parts

    yield put_together
    for parts, upstream in made:
        await soon(parts.generations.close())
        await upstream.close()
        await soon(parts.store.close())
        assert not parts.generations._tasks
        assert not parts.slots._taken, "every slot is released"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make periodic checks frequent."""
    monkeypatch.setattr(maintenance, "POLL_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(maintenance, "RENEWALS", LEASE_SECONDS / SOON_SECONDS)


def allow_any(session: Session | None) -> Session:
    if session is None:
        raise SessionNotFound
    return session


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, SECONDS)


async def read_all(sent: TurnHandle) -> tuple[str, Generation]:
    """Return the text of an answer, and its final status."""
    text = b""
    async with aclosing(sent.chunks) as readings:
        async for reading in readings:
            text += b"".join(piece.data for piece in reading.pieces)
    assert reading.ended is not None
    return text.decode(), reading.ended


async def read_first(sent: TurnHandle, size: int = 1) -> None:
    """Read this many bytes, and stay subscribed."""
    async for reading in sent.chunks:
        if reading.position >= size:
            return


async def all_left(requests: list[ReceivedRequest]) -> bool:
    return all([await asyncio.to_thread(request.left.wait, SECONDS) for request in requests])


def to_each_its_own(**answers: Script) -> Callable[[ReceivedRequest], Script]:
    """Set an upstream that answers by the question: `First=…, Second=…`."""
    return lambda request: answers[json.loads(request.raw)["messages"][-1]["content"]]


# A start that is committed, but whose task does not know it yet


async def test_a_stop_reaches_a_generation_whose_start_is_not_confirmed_yet(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Half")
    parts = await make()
    begin = parts.driver.hold("Turns.begin")
    sending = asyncio.create_task(parts.send())
    await soon(begin.committed.wait())
    generation = await parts.newest()
    assert generation.status is Status.RUNNING
    parts.driver.was_read.clear()
    stopping = asyncio.create_task(parts.generations.stop(generation.id))
    await soon(parts.driver.was_read.wait())
    begin.deliver.set()
    kept = await soon(stopping)
    assert kept.ended is not None
    assert kept.ended.status is Status.STOPPED
    assert await all_left(simulator.requests), "the upstream was not called, or is closed"
    _, ended = await soon(read_all(await soon(sending)))
    assert ended == kept.ended == await parts.newest()


async def test_a_caller_that_leaves_while_its_turn_is_stored_stops_the_answer(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Half")
    parts = await make()
    begin = parts.driver.hold("Turns.begin")
    turn = TurnRequest(OWNER, None, "Be brief.", user_text("Hello"), "gpt-4.1-mini", "text")
    sending = asyncio.create_task(parts.generations.send(turn, Credential(Key(KEY)), allow_any, stop_if_cancelled=True))
    await soon(begin.committed.wait())
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(sending)
    begin.deliver.set()
    await soon(asyncio.wait(parts.generations._tasks))
    assert (await parts.newest()).status is Status.STOPPED
    assert await all_left(simulator.requests), "the upstream was not called, or is closed"


@pytest.mark.parametrize("moment", ["before the commit", "before its answer"])
async def test_a_repeated_request_shares_the_refusal(make: Make, simulator: Simulator, moment: str) -> None:
    simulator.script = refuse(401)
    parts = await make()
    once: dict[str, Any] = {"idempotency_key": "once", "digest": "same"}
    begin = parts.driver.hold("Turns.begin")
    senders = [asyncio.create_task(parts.send(**once))]
    if moment == "before its answer":
        await soon(begin.committed.wait())
    parts.driver.was_read.clear()
    senders.append(asyncio.create_task(parts.send(**once)))
    if moment == "before its answer":
        await soon(parts.driver.was_read.wait())
    await soon(begin.committed.wait())
    begin.deliver.set()
    for refused in await soon(asyncio.gather(*senders, return_exceptions=True)):
        assert isinstance(refused, UpstreamRejectedKey)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("owner", [OWNER, None])
async def test_a_rejected_key_frees_only_a_session_that_its_own_turn_bound(
    make: Make, simulator: Simulator, owner: str | None
) -> None:
    simulator.script = refuse(401)
    parts = await make()
    session = await parts.store.sessions.create(owner, "Be brief.")
    with pytest.raises(UpstreamRejectedKey):
        await soon(parts.send(session_id=session.id))
    found = await parts.store.sessions.find(session.id)
    assert found is not None
    assert found.owner == owner


async def test_a_turn_that_is_stopped_before_its_upstream_is_asked_is_not_counted(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await make()
    reading = asyncio.Event()

    async def never(*_: Any, **__: Any) -> Any:
        reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(parts.generations._runner, "plan", never)
    started = await soon(
        parts.generations.start(
            TurnRequest(OWNER, None, "Be brief.", user_text("Hello"), "gpt", "text"), Credential(Key(KEY)), allow_any
        )
    )
    await soon(reading.wait())
    kept = await soon(parts.generations.stop(started.generation.id))
    assert kept.ended is not None
    assert kept.ended.status is Status.STOPPED
    report = await parts.store.usage.report(OWNER, 0, 2**31, frozenset())
    assert report.totals == []


async def test_an_interrupting_send_stops_a_generation_whose_start_is_not_confirmed_yet(
    make: Make, simulator: Simulator
) -> None:
    simulator.script = to_each_its_own(First=scripts.silent_after("Half"), Second=scripts.answer("Another."))
    parts = await make()
    session_id = await parts.session()
    begin = parts.driver.hold("Turns.begin")
    first = asyncio.create_task(parts.send("First", session_id=session_id))
    await soon(begin.committed.wait())
    second = asyncio.create_task(parts.send("Second", interrupt=True, session_id=session_id))
    await parts.queued()
    begin.deliver.set()
    text, ended = await soon(read_all(await soon(second)))
    assert (text, ended.status) == ("Another.", Status.COMPLETED)
    _, ended = await soon(read_all(await soon(first)))
    assert ended.status is Status.STOPPED


async def test_a_session_deleted_while_its_turn_starts_does_not_reappear(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Half")
    parts = await make()
    session_id = await parts.session()
    begin = parts.driver.hold("Turns.begin")
    sending = asyncio.create_task(parts.send(session_id=session_id))
    await soon(begin.committed.wait())
    deleting = asyncio.create_task(parts.generations.delete_session(session_id, allow_any))
    await parts.queued()
    begin.deliver.set()
    await soon(deleting)
    assert len(parts.generations) == 0, "its generation has ended when the delete is answered"

    async def read() -> None:
        async for _ in (await sending).chunks:
            pass

    with pytest.raises(SessionDeleted):  # by the send, or by its answer if the upstream was quicker than the delete
        await soon(read())
    assert await all_left(simulator.requests)
    assert await parts.store.sessions.find(session_id) is None
    assert await parts.store.sessions.count() == 0


async def test_an_interrupting_send_does_no_harm_while_the_server_drains(
    make: Make, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate)
    parts = await make()
    session_id = await parts.session()
    running = await soon(parts.send(session_id=session_id))
    parts.generations.refuse_new()
    with pytest.raises(Draining):
        await soon(parts.send(interrupt=True, session_id=session_id))
    gate.open()
    text, ended = await soon(read_all(running))
    assert (text, ended.status) == ("Hello there.", Status.COMPLETED)


# Unforeseen faults


async def test_an_unforeseen_fault_of_a_commit_fails_only_that_commit(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.answer("Hi")
    parts = await make()
    parts.driver.fail("Turns.begin", MemoryError())
    refused = await soon(asyncio.gather(parts.send(), parts.send(), return_exceptions=True))
    assert [type(error) for error in refused] == [StoreUnavailable] * 2
    assert not simulator.requests, "a turn that is not stored is not sent upstream"
    text, _ = await soon(read_all(await soon(parts.send())))
    assert text == "Hi"
    await soon(parts.generations.drain(SECONDS * 2, asyncio.Event()))


async def test_an_outcome_that_cannot_be_stored_at_once_is_stored_later(
    make: Make, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STORE_RETRY_SECONDS", SOON_SECONDS)
    simulator.script = scripts.answer("Hi")
    parts = await make()
    parts.driver.fail("Generations._finish", MemoryError())
    text, ended = await soon(read_all(await soon(parts.send())))
    assert (text, ended.status) == ("Hi", Status.COMPLETED), "its readers wait for it"


async def test_an_outcome_that_cannot_be_stored_for_long_is_stored_later_and_its_readers_do_not_wait(
    make: Make, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STORE_RETRY_SECONDS", SOON_SECONDS)
    simulator.script = scripts.answer("Hi")
    parts = await make()
    parts.store.write_retry_seconds = 0
    parts.driver.fail("Generations._finish", MemoryError())
    with pytest.raises(StoreUnavailable):
        await soon(read_all(await soon(parts.send())))
    await soon(parts.generations.drain(SECONDS * 2, asyncio.Event()))
    assert (await parts.newest()).status is Status.COMPLETED


async def test_a_drain_ends_despite_an_unforeseen_fault_of_the_store(
    make: Make, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate)
    parts = await make()
    sent = await soon(parts.send())
    parts.driver.fail("Generations._finish", MemoryError(), times=1000)
    await soon(parts.generations.drain(0, asyncio.Event()))
    assert len(parts.generations) == 0
    with pytest.raises(StoreUnavailable):
        await soon(read_all(sent))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["Generations._set_lease", "Generations.sweep"])
async def test_maintenance_continues_after_a_fault(make: Make, simulator: Simulator, gate: Gate, kind: Any) -> None:
    simulator.script = scripts.held(gate, "Half", " and half")  # it runs until then: an ended one has no lease to renew
    parts = await make()
    sent = await soon(parts.send())
    await soon(parts.driver.spoil(kind, ZeroDivisionError("unexpected")).wait())
    again = parts.driver.hold(kind)
    await soon(again.committed.wait())
    again.deliver.set()
    gate.open()
    text, ended = await soon(read_all(sent))
    assert (text, ended.status) == ("Half and half", Status.COMPLETED)


async def test_a_periodic_task_survives_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    again = asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps > 2:
            again.set()
        raise ZeroDivisionError

    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(maintenance.logger, "exception", fail)
    task = asyncio.create_task(maintenance.repeat(step, 0))
    await soon(again.wait())
    task.cancel()


# Timers


@pytest.mark.usefixtures("quick")
async def test_a_wall_clock_that_steps_forward_interrupts_nothing(make: Make, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate, "Half", " and half")
    parts = await make()
    sent = await soon(parts.send())
    parts.clock.ahead_seconds = 7200
    for _ in range(3):  # whole looks at the store
        renewed = parts.driver.hold("Generations._set_lease")
        await soon(renewed.committed.wait())
        renewed.deliver.set()
    assert await parts.store.generations.sweep(spare_own=True) == [], "its own leases are not judged by the wall clock"
    gate.open()
    text, ended = await soon(read_all(sent))
    assert (text, ended.status) == ("Half and half", Status.COMPLETED)


@pytest.mark.usefixtures("quick")
async def test_a_slow_commit_delays_no_timer_and_no_reader(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Half")
    parts = await make(idle_seconds=0.3)
    sent = await soon(parts.send())
    await soon(read_first(sent))
    renewal = parts.driver.hold("Generations._set_lease")
    await soon(renewal.committed.wait())
    for _ in range(3):
        reading = await soon(anext(sent.chunks))
        assert (reading.pieces, reading.ended) == ([], None), "time for a heartbeat"
    assert await all_left(simulator.requests), "its timer expired"
    assert not renewal.deliver.is_set()
    renewal.deliver.set()
    _, ended = await soon(read_all(sent))
    assert ended.error_code == "upstream_timeout"


async def test_an_upstream_that_sends_more_after_its_finish_is_not_waited_for(
    make: Make, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "AFTER_FINISH_SECONDS", 0.2)
    monkeypatch.setattr(maintenance, "POLL_SECONDS", SOON_SECONDS)
    chatter = (Send(b'data: {"choices": []}\n\n'), Pause(0.01)) * 10_000
    simulator.script = scripts.event_stream(Send(CHUNKS.content("Done.")), Send(CHUNKS.finish("stop")), *chatter)
    parts = await make()
    text, ended = await soon(read_all(await soon(parts.send())))
    assert (text, ended.status, ended.finish_reason) == ("Done.", Status.COMPLETED, "stop")
    assert await all_left(simulator.requests)


# Readers


def a_long_answer(gate: Gate) -> tuple[str, Script]:
    """Return a megabyte of characters of one to four bytes, and an answer of it that ends when the gate is open."""
    said = "aé漢👩" * 4000
    says = (Send(CHUNKS.content(said)),) * 26
    ends = (Wait(gate), Send(CHUNKS.finish("stop")), Send(b"data: [DONE]\n\n"))
    return said * len(says), scripts.event_stream(*says, *ends)


async def test_a_reader_of_a_long_answer_gets_a_bounded_chunk_at_a_time(
    make: Make, simulator: Simulator, gate: Gate
) -> None:
    said, simulator.script = a_long_answer(gate)
    size = len(said.encode())
    parts = await make()
    sent = await soon(parts.send())
    await soon(read_first(sent, size))  # all of it is generated
    text, readings = "", 0
    async with aclosing((await parts.generations.follow(sent.generation.id)).chunks) as late:
        while len(text) < len(said):
            reading = await soon(anext(late))
            data = b"".join(piece.data for piece in reading.pieces)
            assert 0 < len(data) <= READ_BYTES
            text += data.decode()  # whole characters
            assert reading.position == len(text.encode())
            readings += 1
            if readings == 3:
                gate.open()  # it may end meanwhile: the rest still comes in chunks
    assert text == said
    assert readings < 2 * size / READ_BYTES
    await sent.chunks.aclose()
    assert not parts.bus._readers


async def test_a_reader_that_stops_early_leaves_no_subscription(make: Make, simulator: Simulator, gate: Gate) -> None:
    said, simulator.script = a_long_answer(gate)
    parts = await make()
    sent = await soon(parts.send())
    await soon(read_first(sent))
    assert set(parts.bus._readers) == {sent.generation.id}
    await sent.chunks.aclose()
    assert not parts.bus._readers
    gate.open()
    text, _ = await soon(read_all(await resumed(parts, sent)))
    assert text == said, "no other reader lost anything"
    assert not parts.bus._readers


@pytest.mark.usefixtures("quick")
async def test_a_client_that_disconnects_leaves_no_reader(make: Make, simulator: Simulator) -> None:
    simulator.script = scripts.silent_after("Half")
    parts = await make()
    sent = await soon(parts.send())
    goes, has_read = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        await goes.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            has_read.set()

    answering = asyncio.create_task(LogResponse(sent.chunks, TextEncoder(), {}, 10)({"type": "http"}, receive, send))
    await soon(has_read.wait())
    goes.set()
    await soon(answering)
    assert not parts.bus._readers
    assert len(parts.generations) == 1, "a disconnect stops nothing"


async def resumed(parts: Parts, sent: TurnHandle) -> TurnHandle:
    followed = await parts.generations.follow(sent.generation.id)
    return TurnHandle(sent.session, sent.generation, followed.chunks, None, replayed=True)


# Closing the store


async def test_no_caller_waits_for_a_closed_store(make: Make) -> None:
    parts = await make()
    session = parts.driver.hold("Sessions.create")
    waiting = [asyncio.create_task(parts.session())]
    await soon(session.committed.wait())
    waiting.append(asyncio.create_task(parts.session()))
    await parts.queued()
    closing = asyncio.create_task(parts.store.close())
    session.deliver.set()
    await soon(closing)
    done, pending = await asyncio.wait(waiting, timeout=SECONDS)
    assert not pending
    assert all(task.exception() is None for task in done), "transactions queued before are stored"
    for late in (parts.session(), parts.store.group_commit.flush(), parts.store.sessions.count()):
        with pytest.raises(StoreUnavailable):
            await soon(late)


async def test_a_transaction_starts_in_the_task_of_its_caller_where_nothing_is_being_committed(make: Make) -> None:
    parts = await make()
    await parts.idle()
    first, second = asyncio.create_task(parts.session()), asyncio.create_task(parts.session())
    await asyncio.sleep(0)  # both tasks have run
    assert len(queue_of(parts.store)) == 1, "the second waits for the first"
    assert parts.store.group_commit.waiting == 2
    await soon(asyncio.gather(first, second))
    assert parts.store.group_commit.waiting == 0


async def test_transactions_that_come_during_a_batch_are_in_the_next_one(tmp_path: Path) -> None:
    driver = LateDriver(SQLiteDriver(tmp_path / "chat.db"))
    store = Store(driver, wall_clock)  # and no jobs that commit beside
    await store.open()
    held, tasks = [], []
    for number in range(3):  # the first is alone, the second a batch, and the third comes during that
        held.append(driver.hold("Sessions.create"))
        tasks.append(asyncio.create_task(store.sessions.create(OWNER, "Be brief.")))
        await asyncio.sleep(0)
        if number > 0:
            assert queue_of(store)
            held[-2].deliver.set()
        await soon(held[-1].committed.wait())
    held[-1].deliver.set()
    await soon(asyncio.gather(*tasks))
    await store.close()


async def test_a_caller_that_is_cancelled_during_its_commit_stops_no_other(make: Make) -> None:
    parts = await make()
    await parts.idle()
    held = parts.driver.hold("Sessions.create")
    cancelled = asyncio.create_task(parts.session())
    await soon(held.committed.wait())
    behind = asyncio.create_task(parts.session())
    await parts.queued()
    cancelled.cancel()
    await soon(behind)
    await soon(parts.session())
    assert cancelled.cancelled()
    assert await parts.store.sessions.count() == 3


async def test_transactions_queued_while_the_store_closes_get_a_result(make: Make) -> None:
    parts = await make()
    probe = parts.driver.hold("Deployment.probe")
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(parts.store.deployment.probe())]
    await soon(probe.committed.wait())
    waiting.append(asyncio.create_task(parts.session()))
    await parts.queued()
    closing = asyncio.create_task(parts.store.close())
    probe.deliver.set()
    await soon(closing)
    _, pending = await asyncio.wait(waiting, timeout=SECONDS)
    assert not pending, "each was stored or refused"
    refused = [task.exception() for task in waiting if task.exception() is not None]
    assert all(isinstance(error, StoreUnavailable) for error in refused)
