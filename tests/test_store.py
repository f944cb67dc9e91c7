"""The contract of the store, the same for every database. No test knows which one it uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chatapi.errors import (
    IdempotencyMismatch,
    SessionBusy,
    SessionNotFound,
    StoreUnavailable,
    UpstreamBroken,
    UpstreamRejectedKey,
)
from chatapi.model import (
    Generation,
    Kind,
    Microseconds,
    Outcome,
    Piece,
    Role,
    Session,
    Status,
    ToolCall,
    TurnRequest,
    Usage,
    new_id,
    user_text,
    visible_text,
)
from chatapi.model.log import Log, parts_of
from chatapi.store import Driver, Fenced, StartedTurn, Store, journaled_commit
from chatapi.store.drivers.driver import Batch, Committed, CrossedRows, RunningLog, Together, Transaction
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.generations import LEASE_SECONDS, SWEEP_BATCH
from chatapi.store.journal import recover
from chatapi.store.sessions import find_session, insert_session
from chatapi.store.values import Append
from tests.databases import postgres
from tests.transactions import transaction_of


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Driver]:
    yield SQLiteDriver(folder / "chat.db")


@contextmanager
def on_postgres(folder: Path) -> Iterator[Driver]:
    with postgres().lent_database() as url:
        yield PostgresDriver(url, 4, transaction_pooling=False)


DRIVERS = {"sqlite": on_sqlite, "postgres": on_postgres}
TEXT = "Grüße 👋🏽 aus 東京 'naïve' \"café\" %s \\ \u2028 end"
PLENTY = 1 << 20  # bytes of history
MANY = 1 << 20  # failures: until the test changes it
COMPLETED = Outcome(Status.COMPLETED, "stop", Usage(3, 4, 1, 2))
REFUSED = Outcome(Status.FAILED, None, None, UpstreamBroken.code, "It broke.")
KEY_REJECTED = Outcome(Status.FAILED, None, None, UpstreamRejectedKey.code, "No such key.")


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> Microseconds:
        return Microseconds(self.now)

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


class Watched:
    """A real driver, and the transactions that it was asked to commit."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.exclusive = driver.exclusive
        self.journal = driver.journal
        self.batches: list[Batch] = []

    async def open(self) -> None:
        await self.driver.open()

    async def close(self) -> None:
        await self.driver.close()

    async def commit(self, batch: Batch) -> Committed:
        self.batches.append(batch)
        return await self.driver.commit(batch)

    async def settle_reads(self) -> None:
        await self.driver.settle_reads()

    async def read(self, transaction: Callable[[], Transaction[Any]]) -> Any:
        return await self.driver.read(transaction)

    def load(self) -> dict[tuple[str, ...], float]:
        return self.driver.load()

    async def end_abandoned(self) -> int:
        return await self.driver.end_abandoned()

    async def erase_deleted(self) -> bool:
        return await self.driver.erase_deleted()


shared_database = pytest.mark.parametrize("driver", ["postgres"], indirect=True)
"""A test about replicas, which share a database and no journal."""


class Writer:
    """A running generation, and the store's answers to its writer."""

    def __init__(self, begun: StartedTurn) -> None:
        self.id = begun.generation.id
        self.bound = begun.bound
        self.log = Log()
        self.error: Exception | None = None

    def committed(self, position: int) -> None:
        self.log.committed = position

    def refused(self, error: Exception) -> None:
        self.error = error

    async def write(self, store: Store, text: str, kind: Kind = Kind.TEXT, call: ToolCall | None = None) -> Writer:
        """Write, and return when that is committed; raise the store's refusal."""
        self.log.write(kind, text, call)
        store.group_commit.schedule_append(self)
        await store.group_commit.flush()
        if self.error is not None:
            raise self.error
        return self

    async def finish(self, store: Store, ending: Outcome = COMPLETED) -> Generation:
        return await store.generations.finish(self, ending, self.log.parts(), None, bound=self.bound)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """A database that is not open yet."""
    with DRIVERS[request.param](tmp_path) as driver:
        yield Watched(driver)


@pytest.fixture
async def store(driver: Watched, clock: Clock) -> AsyncIterator[Store]:
    """An open, empty store."""
    store = Store(driver, clock)
    await store.open()
    yield store
    await store.close()


def anyone(session: Session | None) -> Session:
    if session is None:
        raise SessionNotFound
    return session


def nobody(session: Session | None) -> Session:
    raise SessionNotFound


def turn(session_id: str | None = None, text: str = "Hello", owner: str = "anna", **more: Any) -> TurnRequest:
    return TurnRequest(owner, session_id, more.pop("developer_message", None), user_text(text), "gpt", "text", **more)


async def begin(store: Store, session_id: str | None = None, text: str = "Hello", **more: Any) -> StartedTurn:
    return await store.turns.begin(turn(session_id, text, **more), anyone)


async def said(
    store: Store, session_id: str | None, question: str, answer: str, ending: Outcome = COMPLETED
) -> StartedTurn:
    """Commit a whole turn."""
    begun = await begin(store, session_id, question)
    writer = Writer(begun)
    if answer:
        await writer.write(store, answer)
    await writer.finish(store, ending)
    return begun


async def stored_text(store: Store, generation_id: str, position: int = 0) -> str:
    log = await store.generations.read_log(generation_id, position)
    assert log is not None
    return b"".join(piece.data for piece in log.pieces).decode()


async def refused_with(coroutine: Awaitable[Any]) -> type[Exception] | None:
    """Return the type of the error that it raises, if any."""
    try:
        await coroutine
    except (IdempotencyMismatch, SessionBusy, SessionNotFound, StoreUnavailable, Fenced) as error:
        return type(error)
    return None


# Sessions


async def test_a_session_is_read_as_created(store: Store, clock: Clock) -> None:
    session = await store.sessions.create("anna", TEXT)
    assert await store.sessions.find(session.id) == session
    assert (session.owner, session.developer_message, session.message_count) == ("anna", TEXT, 0)
    assert session.created_at == session.updated_at == clock.now
    assert await store.sessions.find("ses_none") is None
    assert await store.sessions.count() == 1


async def test_a_change_sets_the_named_fields_and_leaves_the_rest(store: Store, clock: Clock) -> None:
    session = await store.sessions.create("anna", "Be brief.")
    clock.advance(1)
    await store.sessions.change(session.id, anyone, title=TEXT, metadata={"a": TEXT})
    changed = await store.sessions.change(session.id, anyone, developer_message="Be kind.")
    assert changed == await store.sessions.find(session.id)
    assert (changed.title, changed.metadata, changed.developer_message) == (TEXT, {"a": TEXT}, "Be kind.")
    assert (changed.owner, changed.created_at, changed.updated_at) == ("anna", session.created_at, clock.now)
    assert (await store.sessions.change(session.id, anyone, title="")).title is None


async def test_an_unauthorized_caller_changes_nothing(store: Store) -> None:
    begun = await said(store, None, "Hello", "Hi")
    before = await store.sessions.find(begun.session.id)
    assert await refused_with(store.sessions.change(begun.session.id, nobody, title="mine")) is SessionNotFound
    assert await refused_with(store.sessions.delete(begun.session.id, nobody)) is SessionNotFound
    assert await refused_with(store.turns.begin(turn(begun.session.id), nobody)) is SessionNotFound
    assert await store.sessions.find(begun.session.id) == before
    assert len(await store.messages.page_after(begun.session.id, -1, 10)) == 2


async def test_unknown_ids_cannot_be_used(store: Store) -> None:
    assert await refused_with(begin(store, "ses_none")) is SessionNotFound
    assert await refused_with(store.sessions.change("ses_none", anyone, title="a")) is SessionNotFound
    assert await refused_with(store.sessions.delete("ses_none", anyone)) is SessionNotFound
    assert await refused_with(store.messages.page_after("ses_none", -1, 10)) is SessionNotFound
    assert await store.generations.read_log("gen_none", 0) is None
    assert await store.generations.find_latest("ses_none") is None
    assert await store.sessions.count() == 0


async def test_the_pages_of_the_list_are_the_whole_list(store: Store, clock: Clock) -> None:
    made = []
    for number in range(9):
        made.append(await store.sessions.create("anna", str(number)))
        await store.sessions.create("ben", "not hers")
        clock.advance(number % 3 == 2)  # three at a time have the same time
    newest_first = sorted(made, key=lambda session: (session.created_at, session.id), reverse=True)
    for size in (1, 2, 4, 9, 20):
        found: list[Session] = []
        while page := await store.sessions.page("anna", (found[-1].created_at, found[-1].id) if found else None, size):
            assert len(page) <= size
            found += page
            assert found == newest_first[: len(found)]
        assert found == newest_first


# Turns


async def test_a_started_turn_is_stored(store: Store, clock: Clock) -> None:
    begun = await begin(store, text=TEXT, developer_message="Be brief.")
    assert (begun.parent, begun.replayed) == (None, False)
    assert begun.generation.status is Status.RUNNING
    assert await store.sessions.find(begun.session.id) == begun.session
    assert (begun.session.owner, begun.session.developer_message, begun.session.message_count) == (
        "anna",
        "Be brief.",
        2,
    )
    question, answer = await store.messages.page_after(begun.session.id, -1, 10)
    assert (question.role, question.text, question.depth, question.parent) == (Role.USER, TEXT, 0, None)
    assert (answer.role, answer.text, answer.depth, answer.parent) == (Role.ASSISTANT, "", 1, question.id)
    assert answer.id == begun.session.head == begun.generation.message_id
    assert answer.generation == begun.generation == await store.generations.find_latest(begun.session.id)


async def test_a_second_turn_follows_the_first(store: Store) -> None:
    first = await said(store, None, "one", "1")
    second = await begin(store, first.session.id, "two", developer_message="Be kind.")
    assert second.parent == first.session.head
    assert (second.session.developer_message, second.session.message_count) == ("Be kind.", 4)
    messages = await store.messages.page_after(first.session.id, -1, 10)
    assert [message.text for message in messages] == ["one", "1", "two", ""]
    assert [message.depth for message in messages] == [0, 1, 2, 3]
    assert [message.parent for message in messages[1:]] == [message.id for message in messages[:-1]]


async def test_a_session_without_an_owner_is_bound_by_its_first_turn(store: Store) -> None:
    session = await store.sessions.create(None, "Be brief.")
    begun = await begin(store, session.id, owner="ben")
    assert begun.session.owner == "ben"
    assert begun.session.developer_message == "Be brief."
    assert await store.sessions.find(session.id) == begun.session


async def test_a_session_takes_one_turn_at_a_time(store: Store) -> None:
    # Promise 5.
    begun = await begin(store)
    with pytest.raises(SessionBusy) as busy:
        await begin(store, begun.session.id)
    assert busy.value.generation_id == begun.generation.id
    assert len(await store.messages.page_after(begun.session.id, -1, 10)) == 2, "a refused turn leaves nothing"
    await begin(store)  # another session is not blocked
    await Writer(begun).finish(store)
    await begin(store, begun.session.id)


async def test_of_concurrent_turns_one_is_accepted(store: Store) -> None:
    # Promise 5.
    session = await store.sessions.create("anna", "Be brief.")
    outcomes = await asyncio.gather(*(refused_with(begin(store, session.id)) for _ in range(20)))
    assert sorted(map(str, outcomes)) == sorted(map(str, [None] + [SessionBusy] * 19))
    assert len(await store.messages.page_after(session.id, -1, 10)) == 2


async def test_a_repeated_turn_starts_once(store: Store) -> None:
    # Promise 7.
    again = {"idempotency_key": "once", "digest": "of this"}
    first = await begin(store, **again)
    repeats = [await begin(store, **again)]
    await (await Writer(first).write(store, "Hi")).finish(store)
    repeats += [await begin(store, **again)]
    assert all(repeat.replayed and repeat.generation.id == first.generation.id for repeat in repeats)
    assert [repeat.generation.status for repeat in repeats] == [Status.RUNNING, Status.COMPLETED]
    assert await store.sessions.count() == 1
    assert len(await store.messages.page_after(first.session.id, -1, 10)) == 2


async def test_concurrent_repeats_of_a_turn_start_once(store: Store) -> None:
    # Promise 7.
    begun = await asyncio.gather(*(begin(store, idempotency_key="once", digest="of this") for _ in range(20)))
    assert sorted(one.replayed for one in begun) == [False] + [True] * 19
    assert len({one.generation.id for one in begun}) == 1
    assert await store.sessions.count() == 1


async def test_an_idempotency_key_belongs_to_its_owner_and_to_one_request(store: Store) -> None:
    first = await begin(store, idempotency_key="once", digest="of this")
    assert await refused_with(begin(store, idempotency_key="once", digest="of that")) is IdempotencyMismatch
    other = await begin(store, owner="ben", idempotency_key="once", digest="of this")
    assert other.generation.id != first.generation.id
    await store.sessions.delete(first.session.id, anyone)
    assert not (await begin(store, idempotency_key="once", digest="of this")).replayed, "a deleted one is forgotten"


# Logs


async def test_appended_text_reads_the_same_from_every_position_before_and_after_the_end(store: Store) -> None:
    # Promise 3.
    begun = await begin(store)
    writer = Writer(begun)
    for kind, text, call in [
        (Kind.REASONING, "Hm, ", None),
        (Kind.REASONING, "天", None),
        (Kind.TEXT, TEXT, None),
        (Kind.TOOL_CALL, '{"city": ', ToolCall("call_1", "weather")),
        (Kind.TOOL_CALL, '"京"}', ToolCall("call_1", "weather")),
        (Kind.TOOL_CALL, "{}", ToolCall("call_2", "weather")),
        (Kind.REFUSAL, "No 👩‍👩‍👧", None),
    ]:
        await writer.write(store, text, kind, call)
        assert writer.log.committed == writer.log.position

    async def check() -> None:
        for position in range(writer.log.position + 1):
            log = await store.generations.read_log(writer.id, position)
            assert log is not None
            joined: dict[int, tuple[Kind, ToolCall | None, bytes]] = {}
            for piece in log.pieces:
                before = joined.get(piece.part, (piece.kind, piece.call, b""))[2]
                joined[piece.part] = piece.kind, piece.call, before + piece.data
            expected = {piece.part: (piece.kind, piece.call, piece.data) for piece in writer.log.read(position)}
            assert joined == expected
            assert [piece.position for piece in log.pieces][-1:] == [writer.log.position][: len(log.pieces)]

    await check()
    await writer.finish(store)
    await check()


async def test_a_running_answer_has_its_committed_text(store: Store) -> None:
    begun = await begin(store)
    writer = await Writer(begun).write(store, "thinking", Kind.REASONING)
    await writer.write(store, TEXT)
    writer.log.write(Kind.TEXT, "not committed")
    answer = (await store.messages.page_after(begun.session.id, -1, 10))[1]
    assert [(part.kind, part.text) for part in answer.parts] == [(Kind.REASONING, "thinking"), (Kind.TEXT, TEXT)]


async def test_an_outcome_is_stored_whole(store: Store, clock: Clock) -> None:
    # Promise 2.
    begun = await begin(store)
    writer = await Writer(begun).write(store, "Hello")
    writer.log.write(Kind.TEXT, " there")  # never scheduled: it is stored with the outcome
    clock.advance(5)
    first_token_at = Microseconds(clock.now - 1_000_000)
    ended = await store.generations.finish(writer, COMPLETED, writer.log.parts(), first_token_at)
    log = await store.generations.read_log(writer.id, 0)
    assert log is not None
    assert log.generation == ended == await store.generations.find_latest(begun.session.id)
    assert (ended.status, ended.finish_reason, ended.usage) == (Status.COMPLETED, "stop", Usage(3, 4, 1, 2))
    assert (ended.length, ended.first_token_at, ended.ended_at) == (11, first_token_at, clock.now)
    assert await stored_text(store, writer.id) == "Hello there"
    session = await store.sessions.find(begun.session.id)
    assert session is not None
    assert session.updated_at == clock.now


async def test_an_error_is_stored_with_the_text_before_it(store: Store) -> None:
    begun = await said(store, None, "Hello", "partly", REFUSED)
    answer = (await store.messages.page_after(begun.session.id, -1, 10))[1]
    assert answer.text == "partly"
    assert answer.generation is not None
    assert (answer.generation.status, answer.generation.error_code, answer.generation.error_detail) == (
        Status.FAILED,
        UpstreamBroken.code,
        "It broke.",
    )


async def test_scheduled_text_is_committed_when_the_store_closes(driver: Watched, clock: Clock) -> None:
    store = Store(driver, clock)
    await store.open()
    begun = await begin(store)
    writer = Writer(begun)
    writer.log.write(Kind.TEXT, TEXT)
    store.group_commit.schedule_append(writer)
    await store.close()
    assert writer.log.committed == writer.log.position
    assert await refused_with(begin(store)) is StoreUnavailable
    assert await refused_with(store.sessions.find(begun.session.id)) is StoreUnavailable
    store = Store(driver, clock)
    await store.open()
    assert await stored_text(store, writer.id) == TEXT
    await store.close()


# Leases and fences


async def test_a_lease_expires_at_its_time_and_not_before(store: Store, clock: Clock) -> None:
    # Promise 6.
    begun = await begin(store)
    await Writer(begun).write(store, TEXT)
    clock.advance(LEASE_SECONDS)
    assert await store.generations.sweep() == []
    clock.now += 1
    (closed,) = await store.generations.sweep()
    assert (closed.id, closed.status, closed.error_code) == (begun.generation.id, Status.INTERRUPTED, "interrupted")
    assert (closed.length, closed.ended_at) == (len(TEXT.encode()), clock.now)
    assert await stored_text(store, begun.generation.id) == TEXT
    assert await store.generations.sweep() == []
    assert (await begin(store, begun.session.id)).parent == begun.session.head, "the next turn works"


async def test_a_renewed_lease_does_not_expire(store: Store, clock: Clock) -> None:
    renewed, forgotten = await begin(store), await begin(store)
    clock.advance(LEASE_SECONDS)
    await store.generations.renew([renewed.generation.id])
    clock.advance(LEASE_SECONDS)
    assert [closed.id for closed in await store.generations.sweep()] == [forgotten.generation.id]
    clock.now += 1
    assert [closed.id for closed in await store.generations.sweep()] == [renewed.generation.id]


async def test_a_replica_renews_only_its_own_leases(store: Store, clock: Clock) -> None:
    begun = await begin(store)
    store.generations._replica = new_id("rep")  # as the next process would have
    clock.advance(LEASE_SECONDS)
    await store.generations.renew([begun.generation.id])
    clock.now += 1
    assert [closed.id for closed in await store.generations.sweep()] == [begun.generation.id]


async def test_an_ended_generation_is_not_revived_by_a_renewal(store: Store, clock: Clock) -> None:
    begun = await said(store, None, "Hello", "Hi")
    await store.generations.renew([begun.generation.id])
    found = await store.generations.find_latest(begun.session.id)
    assert found is not None
    assert found.status is Status.COMPLETED


async def test_a_sweep_continues_until_nothing_is_left(store: Store, clock: Clock) -> None:
    count = SWEEP_BATCH + 3
    await asyncio.gather(*(begin(store) for _ in range(count)))
    clock.advance(LEASE_SECONDS + 1)
    closed = [len(await store.generations.sweep()) for _ in range(3)]
    assert closed == [SWEEP_BATCH, 3, 0]


async def test_the_next_process_finds_the_generations_of_the_last_one(driver: Watched, clock: Clock) -> None:
    # Promise 6.
    store = Store(driver, clock)
    await store.open()
    begun = await begin(store)
    await Writer(begun).write(store, TEXT)
    await store.close()
    clock.advance(LEASE_SECONDS + 1)
    store = Store(driver, clock)
    await store.open()
    await store.generations.sweep()
    found = await store.generations.find_latest(begun.session.id)
    assert found is not None
    assert found.status is Status.INTERRUPTED
    assert await stored_text(store, found.id) == TEXT
    await begin(store, begun.session.id)
    await store.close()


async def test_a_swept_or_ended_generation_shows_no_late_text(driver: Watched, store: Store, clock: Clock) -> None:
    swept, ended = await begin(store), await begin(store)
    writers = [await Writer(begun).write(store, "shown") for begun in (swept, ended)]
    await writers[1].finish(store)
    clock.advance(LEASE_SECONDS + 1)
    await store.generations.sweep()
    for writer in writers:
        assert await refused_with(writer.write(store, " late")) is (Fenced if driver.journal is None else None)
        assert await refused_with(writer.finish(store, REFUSED)) is Fenced
        assert await stored_text(store, writer.id) == "shown"


@shared_database
async def test_a_replica_cannot_write_to_a_generation_of_another(store: Store) -> None:
    begun = await begin(store)
    writer = await Writer(begun).write(store, "shown")
    store.generations._replica = store.group_commit._replica = new_id("rep")
    assert await refused_with(writer.write(store, " by another")) is Fenced
    assert await refused_with(writer.finish(store)) is Fenced
    store.generations._replica = store.group_commit._replica = store.replica
    assert await stored_text(store, writer.id) == "shown"


@shared_database
async def test_a_fence_stops_one_writer_and_not_its_neighbours(store: Store) -> None:
    gone, here = await begin(store), await begin(store)
    await store.sessions.delete(gone.session.id, anyone)
    writers = [Writer(gone), Writer(here)]
    for writer in writers:
        writer.log.write(Kind.TEXT, TEXT)
        store.group_commit.schedule_append(writer)
    await store.group_commit.flush()
    assert isinstance(writers[0].error, Fenced)
    assert (writers[1].error, await stored_text(store, here.generation.id)) == (None, TEXT)


async def test_two_sweepers_close_each_generation_once(driver: Watched, store: Store, clock: Clock) -> None:
    count = SWEEP_BATCH * 2
    await asyncio.gather(*(begin(store) for _ in range(count)))
    clock.advance(LEASE_SECONDS + 1)
    other = store_beside(driver, store, clock)
    closed: list[str] = []

    async def sweep(sweeper: Store) -> None:
        while some := await sweeper.generations.sweep():
            closed.extend(generation.id for generation in some)

    await asyncio.gather(*(sweep(sweeper) for sweeper in (store, other) * 2))
    await sweep(store)  # a locked row makes the other sweeper skip it
    assert len(closed) == len(set(closed)) == count


@shared_database
async def test_a_writer_and_a_sweeper_agree_on_the_committed_text(driver: Watched, store: Store, clock: Clock) -> None:
    # Promise 1: text that the writer knows as committed is in the message that the sweeper makes.
    for _ in range(10):
        writers = [Writer(await begin(store)) for _ in range(5)]
        other = store_beside(driver, store, clock)
        clock.advance(LEASE_SECONDS + 1)
        sweeping = asyncio.create_task(other.generations.sweep())
        while not sweeping.done():
            for writer in writers:
                writer.log.write(Kind.TEXT, "more ")
                store.group_commit.schedule_append(writer)
            await store.group_commit.flush()
        await other.generations.sweep()
        for writer in writers:
            shown = writer.log.committed
            assert len((await stored_text(store, writer.id)).encode()) == shown
            assert await refused_with(writer.write(store, "late")) is Fenced


def store_beside(driver: Watched, store: Store, clock: Clock) -> Store:
    """Return the store of another replica on the same driver: with a name and a lane of its own."""
    other = Store(driver, clock)
    other.group_commit._loop, other.group_commit._task = store.group_commit._loop, store.group_commit._task
    if driver.journal is not None:
        other.group_commit.commit = store.group_commit.commit  # type: ignore[method-assign]  # one process has one queue
    return other


async def test_a_stop_request_is_stored_for_the_replica_that_generates(store: Store) -> None:
    begun, other = await begin(store), await begin(store)
    assert await store.generations.request_stop(begun.generation.id) == store.replica == begun.generation.replica
    running = await store.generations.running_here()
    assert {one.id: one.stop_requested for one in running} == {begun.generation.id: True, other.generation.id: False}
    await Writer(begun).finish(store, Outcome(Status.STOPPED))
    assert await store.generations.request_stop(begun.generation.id) is None
    assert await store.generations.request_stop("gen_none") is None
    store.generations._replica = new_id("rep")
    assert await store.generations.running_here() == []


# A database that does not answer


class Failing(Watched):
    """A real driver that raises, before or after it commits."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.failures = 0
        self.commits_all_the_same = False
        if driver.journal is not None:
            self._append = driver.journal.append
            driver.journal.append = self.append  # type: ignore[method-assign]

    def append(self, appends: Iterable[Append]) -> None:
        """Append to the journal as `commit` commits."""
        if not self.failures:
            return self._append(appends)
        self.failures -= 1
        if self.commits_all_the_same:
            self._append(appends)
        raise StoreUnavailable

    async def commit(self, batch: Batch) -> Committed:
        if not self.failures:
            return await super().commit(batch)
        self.failures -= 1
        if self.commits_all_the_same:
            await super().commit(batch)
        raise StoreUnavailable


@pytest.fixture
async def failing(driver: Watched, clock: Clock) -> AsyncIterator[tuple[Failing, Store]]:
    """A store on a driver that fails when the test asks for it."""
    failing = Failing(driver.driver)
    store = Store(failing, clock)
    await store.open()
    yield failing, store
    await store.close()


@pytest.mark.parametrize("commits_all_the_same", [False, True])
async def test_text_whose_commit_failed_is_offered_again_and_stored_once(
    failing: tuple[Failing, Store], commits_all_the_same: bool
) -> None:
    driver, store = failing
    driver.commits_all_the_same = commits_all_the_same
    writer = await Writer(await begin(store)).write(store, "one ")
    driver.failures = MANY  # by any caller, including the store's own timer
    for word in ("two ", "three "):
        await writer.write(store, word)
    assert writer.log.committed == len("one ")
    driver.failures = 0
    await writer.write(store, "four")
    assert writer.log.committed == writer.log.position
    for position in range(writer.log.position):
        assert await stored_text(store, writer.id, position) == "one two three four"[position:]
    assert (await writer.finish(store)).length == writer.log.position
    assert await stored_text(store, writer.id) == "one two three four"


async def test_refused_text_is_offered_again_without_a_caller(failing: tuple[Failing, Store]) -> None:
    driver, store = failing
    writer = Writer(await begin(store))
    driver.failures = 1
    await writer.write(store, "Hi")
    assert writer.log.committed == 0
    while writer.log.committed == 0:  # noqa: ASYNC110  # the store's own timer, and nothing touches it again
        await asyncio.sleep(0)
    assert await stored_text(store, writer.id) == "Hi"


async def test_text_that_is_refused_for_too_long_is_given_up(failing: tuple[Failing, Store]) -> None:
    driver, store = failing
    writer = Writer(await begin(store))
    store.group_commit._write_retry_seconds = 0
    driver.failures = 1
    assert await refused_with(writer.write(store, "Hi")) is StoreUnavailable


@pytest.mark.parametrize("ending", [COMPLETED, REFUSED], ids=["completed", "failed"])
async def test_an_outcome_that_was_stored_and_not_confirmed_is_found(
    failing: tuple[Failing, Store], ending: Outcome
) -> None:
    _, store = failing
    writer = await Writer(await begin(store)).write(store, "Hi")
    ended = await writer.finish(store, ending)
    assert await writer.finish(store, ending) == ended
    assert await refused_with(writer.finish(store, Outcome(Status.STOPPED))) is Fenced


@shared_database
async def test_a_log_with_a_gap_is_read_up_to_the_gap(driver: Watched, store: Store) -> None:
    begun = await begin(store)
    pieces = [Piece(3, 0, Kind.TEXT, b"one"), Piece(9, 0, Kind.TEXT, b"ree")]  # a database lost the piece between
    await driver.commit(Batch(store.replica, appends=[Append(begun.generation.id, pieces)]))
    assert await stored_text(store, begun.generation.id) == "one"
    assert await stored_text(store, begun.generation.id, 3) == ""


async def test_the_first_replica_sets_the_shared_values(store: Store) -> None:
    assert await store.deployment.check_shared_setting("secret", "one")
    assert await store.deployment.check_shared_setting("secret", "one")
    assert not await store.deployment.check_shared_setting("secret", "two")
    assert await store.deployment.check_shared_setting("something else", "two")


async def test_a_row_of_another_session_is_never_returned(driver: Watched, store: Store) -> None:
    """As from a connection that was left within another request."""
    mine, other = await said(store, None, "Hello", "mine"), await said(store, None, "Hello", "other's")

    def crossed(reads: Callable[[], Transaction[Any]]) -> Transaction[Any]:
        transaction, rows = reads(), None
        try:
            while True:
                asked = next(transaction) if rows is None else transaction.send(rows)
                assert not isinstance(asked, Together), "reading does not need it"
                sql, values = asked.statement if isinstance(asked, RunningLog) else asked
                swapped = {mine.session.id: other.session.id, mine.generation.id: other.generation.id}
                rows = yield sql, tuple(swapped.get(value, value) for value in values)
        except StopIteration as end:
            return end.value

    everything: list[Callable[[], Transaction[Any]]] = [
        partial(transaction_of, store.sessions.find, mine.session.id),
        partial(transaction_of, store.generations.find, mine.generation.id),
        partial(transaction_of, store.generations.read_log, mine.generation.id, 0),
        partial(transaction_of, store.messages.page_after, mine.session.id, -1, 10),
        partial(transaction_of, store.generations.find_latest, mine.session.id),
    ]
    for reads in everything:
        with pytest.raises((CrossedRows, StoreUnavailable)):
            await driver.read(partial(crossed, reads))
    assert await store.sessions.find(mine.session.id) is not None, "the next one gets a good connection"


# Deleting


async def test_a_delete_returns_the_running_generation(store: Store) -> None:
    begun = await begin(store)
    assert await store.sessions.delete(begun.session.id, anyone) == begun.generation
    ended = await said(store, None, "Hello", "Hi")
    assert await store.sessions.delete(ended.session.id, anyone) is None


async def test_a_deleted_session_does_not_reappear(driver: Watched, store: Store) -> None:
    # Promise 4.
    kept = await said(store, None, "Hello", "Hi")
    before = await said(store, None, "one", "1")
    begun = await begin(store, before.session.id)
    writer = await Writer(begun).write(store, "shown")
    await store.sessions.delete(begun.session.id, anyone)
    assert await refused_with(writer.write(store, " late")) is (Fenced if driver.journal is None else None)
    assert await refused_with(writer.finish(store)) is Fenced
    assert await store.sessions.find(begun.session.id) is None
    assert await store.generations.read_log(before.generation.id, 0) is None
    assert await store.generations.read_log(begun.generation.id, 0) is None
    assert await store.messages.history(before.session.id, before.session.head or "", PLENTY) == []
    assert await store.sessions.count() == 1
    assert await stored_text(store, kept.generation.id) == "Hi"


# The history for the upstream


async def test_the_history_has_the_messages_in_order(store: Store) -> None:
    begun = await begin(store, text="one")
    writer = Writer(begun)
    writer.log.write(Kind.REASONING, "thoughts")
    writer.log.write(Kind.TEXT, "1")
    await writer.finish(store)
    session_id = begun.session.id
    await said(store, session_id, "refused", "", REFUSED)
    await said(store, session_id, "stopped at once", "", Outcome(Status.STOPPED))
    last = await said(store, session_id, "two", "2 and", Outcome(Status.INTERRUPTED, error_code="interrupted"))
    assert last.session.head is not None
    assert [
        (line.role, visible_text(line.parts))
        for line in await store.messages.history(session_id, last.session.head, PLENTY)
    ] == [
        (Role.USER, "one"),
        (Role.ASSISTANT, "1"),
        (Role.USER, "two"),
        (Role.ASSISTANT, "2 and"),
    ]


async def test_the_pages_of_a_conversation_are_the_whole_of_it(store: Store) -> None:
    session_id = None
    for number in range(4):
        session_id = (await said(store, session_id, f"question {number}", f"answer {number}")).session.id
    assert session_id is not None
    whole = await store.messages.page_after(session_id, -1, 100)
    assert [message.text for message in whole] == [f"{what} {n}" for n in range(4) for what in ("question", "answer")]
    for size in (1, 3, 8, 9):
        found: list[Any] = []
        while page := await store.messages.page_after(session_id, found[-1].depth if found else -1, size):
            assert len(page) <= size
            found += page
            assert found == whole[: len(found)]
        assert found == whole


# Rejected keys


async def test_a_key_that_was_never_accepted_owns_nothing(store: Store) -> None:
    begun = await said(store, None, "Hello", "", KEY_REJECTED)
    session = await store.sessions.find(begun.session.id)
    assert session is not None
    assert session.owner is None
    await begin(store, session.id, owner="ben")
    session = await store.sessions.find(session.id)
    assert session is not None
    assert session.owner == "ben"


@pytest.mark.parametrize("before", [COMPLETED, REFUSED])
async def test_a_key_that_was_accepted_once_keeps_its_session(store: Store, before: Outcome) -> None:
    begun = await said(store, None, "Hello", "", before)
    await said(store, begun.session.id, "Hello", "", KEY_REJECTED)
    session = await store.sessions.find(begun.session.id)
    assert session is not None
    assert session.owner == "anna"


async def test_a_good_turn_of_another_session_does_not_bind_this_one(store: Store) -> None:
    await said(store, None, "Hello", "Hi")
    begun = await said(store, None, "Hello", "", KEY_REJECTED)
    session = await store.sessions.find(begun.session.id)
    assert session is not None
    assert session.owner is None


# Group commit


async def test_concurrent_transactions_are_committed_together(store: Store, driver: Watched) -> None:
    driver.batches.clear()
    begun = await asyncio.gather(*(begin(store) for _ in range(100)))
    assert driver.journal is None or len(driver.batches) <= 2
    driver.batches.clear()
    writers = [Writer(one) for one in begun]
    for writer in writers:
        writer.log.write(Kind.TEXT, TEXT)
        store.group_commit.schedule_append(writer)
    await store.group_commit.flush()
    assert len(driver.batches) <= 2
    assert all(writer.log.committed == writer.log.position for writer in writers)


@pytest.mark.parametrize("driver", ["sqlite"], indirect=True)
async def test_text_that_is_scheduled_beside_a_transaction_is_in_the_journal(
    store: Store, tmp_path: Path, driver: Watched
) -> None:
    writer = Writer(await begin(store))
    for number in range(20):
        beginning = asyncio.create_task(begin(store))
        await asyncio.sleep(0)  # the next commit is due
        writer.log.write(Kind.TEXT, f"word {number} ")
        store.group_commit.schedule_append(writer)
        await beginning
        assert writer.log.committed == writer.log.position
    assert [batch.appends for batch in driver.batches] == [[]] * len(driver.batches)
    assert parts_of(recover(segments_in(tmp_path)).pieces[writer.id]) == writer.log.parts()


@pytest.mark.parametrize("driver", ["sqlite"], indirect=True)
async def test_the_text_of_ended_answers_leaves_the_memory_and_the_journal(
    driver: Watched, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled_commit, "FORGET_SECONDS", 0.0)
    synced = asyncio.Event()
    assert driver.journal is not None
    monkeypatch.setattr(driver.journal, "sync", lambda _: synced.set())
    monkeypatch.setattr(journaled_commit, "SYNC_SECONDS", 0.0)
    store = Store(driver, clock)
    await store.open()
    writers = [await Writer(await begin(store)).write(store, TEXT) for _ in range(3)]
    await asyncio.wait_for(synced.wait(), 5)
    assert set(driver.journal.logs) == {writer.id for writer in writers}
    await writers[0].finish(store)
    deleted = await store.generations.find(writers[1].id)
    assert deleted is not None
    await store.sessions.delete(deleted.session_id, anyone)
    await writers[1].write(store, "late")
    assert await refused_with(writers[1].finish(store)) is Fenced
    async with asyncio.timeout(5):
        while set(driver.journal.logs) != {writers[2].id}:  # noqa: ASYNC110  # a task of the store ends it
            await asyncio.sleep(0)
    await store.close()
    assert set(recover(segments_in(tmp_path)).pieces) >= {writers[2].id}, "it still runs"
    store = Store(driver, clock)
    await store.open()
    assert await stored_text(store, writers[2].id) == TEXT
    assert await driver.read(all_pieces) == [], "the text of the deleted answer was not restored"
    await (await Writer(await begin(store)).write(store, TEXT)).finish(store)
    await store.close()
    assert segments_in(tmp_path) == []


def all_pieces() -> Transaction[list[tuple[Any, ...]]]:
    return (yield "SELECT generation_id FROM piece", ())


def segments_in(folder: Path) -> list[Path]:
    return list((folder / "chat.db.journal").iterdir())


async def test_the_start_and_the_end_of_a_turn_survive_a_power_loss(store: Store, driver: Watched) -> None:
    # Promise 2; the driver's own test checks `durable`.
    async def durable(coroutine: Awaitable[Any]) -> tuple[set[bool], Any]:
        driver.batches.clear()
        result = await coroutine
        return {batch.durable for batch in driver.batches}, result

    session_durable, session = await durable(store.sessions.create("anna", ""))
    begin_durable, begun = await durable(begin(store, session.id))
    writer = Writer(begun)
    text_durable, _ = await durable(writer.write(store, "shown"))
    finish_durable, _ = await durable(writer.finish(store))
    delete_durable, _ = await durable(store.sessions.delete(session.id, anyone))
    assert [session_durable, begin_durable, finish_durable, delete_durable] == [{True}] * 4
    assert text_durable == ({False} if driver.journal is None else set())


async def test_a_failing_transaction_does_not_hurt_the_others(store: Store) -> None:
    busy = await begin(store)
    writer = Writer(busy)
    writer.log.write(Kind.TEXT, TEXT)
    store.group_commit.schedule_append(writer)
    outcomes = await asyncio.gather(
        *(refused_with(begin(store)) for _ in range(5)),
        refused_with(begin(store, busy.session.id)),
        refused_with(begin(store, "ses_none")),
        *(refused_with(begin(store)) for _ in range(5)),
    )
    assert outcomes == [None] * 5 + [SessionBusy, SessionNotFound] + [None] * 5
    assert await store.sessions.count() == 11
    await store.group_commit.flush()  # PostgreSQL commits text apart from starts
    assert await stored_text(store, writer.id) == TEXT


async def test_a_cancelled_caller_does_not_hurt_the_others(store: Store) -> None:
    tasks = [asyncio.create_task(begin(store)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[0], tasks[2])
    await begin(store)


def new_session() -> Session:
    return Session(new_id("ses"), "anna", "", None, {}, None, 0, Microseconds(0), Microseconds(0))


def create_session(session: Session) -> Transaction[Session]:
    yield insert_session(session)
    return session


async def test_a_transaction_that_the_database_rejects_does_not_hurt_the_others(store: Store, driver: Watched) -> None:
    first, second = new_session(), new_session()
    batch = Batch("rep", [lambda: create_session(first), lambda: create_session(first), lambda: create_session(second)])
    outcome = await driver.commit(batch)
    twice, once = outcome.results[:2], outcome.results[2]  # either of the two may be first
    assert {type(result) for result in twice} == {Session, StoreUnavailable}
    assert once == second
    assert await store.sessions.count() == 2


async def test_a_transaction_that_raises_leaves_nothing(store: Store, driver: Watched) -> None:
    first, second = new_session(), new_session()

    def spoilt() -> Transaction[None]:
        yield from create_session(first)
        raise SessionNotFound

    begun = await begin(store)
    piece = Piece(2, 0, Kind.TEXT, b"Hi")
    appends = [Append(begun.generation.id, [piece])] if driver.journal is None else []
    outcome = await refused_with(driver.commit(Batch(store.replica, [spoilt, lambda: create_session(second)], appends)))
    assert outcome is None
    assert await store.sessions.find(first.id) is None
    assert await store.sessions.find(second.id) == second
    assert await stored_text(store, begun.generation.id) == ("Hi" if appends else "")


@shared_database
async def test_a_transaction_reported_as_failed_is_not_stored(store: Store, driver: Watched) -> None:
    begun = await begin(store)
    await Writer(begun).write(store, "Hi")
    session = new_session()
    there_already = Append(begun.generation.id, [Piece(2, 0, Kind.TEXT, b"Hi")])
    batch = Batch(store.replica, [lambda: create_session(session)], [there_already])
    told = await refused_with(driver.commit(batch))
    happened = await store.sessions.find(session.id) is not None
    assert happened is (told is None)


async def test_a_reader_sees_a_commit_whole_or_not_at_all(store: Store, driver: Watched) -> None:
    writing = asyncio.gather(*(begin(store) for _ in range(200)))

    def counts() -> Transaction[tuple[int, ...]]:
        found = []
        for table in ("session", "message", "generation"):
            found.append((yield f"SELECT count(*) FROM {table}", ())[0][0])
        return tuple(found)

    seen = set()
    while not writing.done():
        seen.add(await driver.read(counts))
    await writing
    assert all(messages == 2 * sessions and generations == sessions for sessions, messages, generations in seen)


async def test_a_reader_that_fails_does_not_hurt_the_next(store: Store, driver: Watched) -> None:
    session = await store.sessions.create("anna", "")

    def wrong() -> Transaction[None]:
        yield "SELECT nonsense FROM nowhere", ()

    for _ in range(4):
        assert await refused_with(driver.read(wrong)) is StoreUnavailable
    for _ in range(4):
        assert await driver.read(lambda: find_session(session.id)) == session
