"""The bus: readers are woken on their replica, and a stop reaches the replica that generates.

Two replicas in one process share a PostgreSQL, and each kind of transport carries messages between them. Their
maintenance runs so rarely that every arrival is due to the transport; with the deaf transport, which drops every
message, it is due to the maintenance.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import TypeVar

import pytest

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.bus import Bus, LocalBus, ReplicaBus, Transport, replicas
from chatapi.bus.postgres import OUTBOX, PostgresTransport
from chatapi.bus.redis import RedisTransport
from chatapi.connections import redis as redis_connection
from chatapi.connections.redis import MAX_CALLS, RedisConnection, RedisGone
from chatapi.errors import SessionDeleted, SessionNotFound
from chatapi.generations import maintenance
from chatapi.generations.manager import Generations, TurnHandle
from chatapi.generations.reader import LogChunks
from chatapi.limits import LocalSlots
from chatapi.model import Session, Status, TurnRequest, user_text, wall_clock
from chatapi.settings import Settings
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store import Store
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.upstream.client import Upstream
from tests.databases import Redis, free_port, postgres, redis
from tests.server_process import KEY

T = TypeVar("T")

SECONDS = 30.0  # for anything a test waits for; it takes milliseconds
FAR_SECONDS = 3600.0  # between periodic checks, longer than any test
SOON_SECONDS = 0.05
BEFORE, AFTER = "Hello", " there."


class DeafPost:
    """A transport that drops every message."""

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        pass

    async def close(self) -> None:
        pass

    def send(self, replica: str, message: str) -> None:
        pass


class RecordingPost(DeafPost):
    """Records the messages that are sent; `receive` delivers one."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.receive: Callable[[str], None] = lambda message: None

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        self.receive = receive

    def send(self, replica: str, message: str) -> None:
        self.sent.append((replica, message))


class Mute:
    """A relay between a client and a server. After `mute`, its open connections stay open and carry nothing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._muted: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Mute:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._open:
            writer.close()

    def mute(self) -> None:
        self._muted = set(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, server = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, server}
        for source, target in ((reader, server), (there, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, target)))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if target not in self._muted:
                target.write(data)
        target.close()


@dataclass
class Replica:
    """A replica without HTTP."""

    store: Store
    bus: Bus
    generations: Generations
    post: Transport | None

    async def send(self) -> TurnHandle:
        turn = TurnRequest("the-owner-tag", None, "Be brief.", user_text("Hello"), "gpt-4.1-mini", "text")
        return await self.generations.send(turn, Credential(Key(KEY)), allow_any)

    async def begin(self) -> TurnHandle:
        """Start a turn whose answer has said `BEFORE` and waits. The status may arrive before that is stored."""
        sent = await soon(self.send())
        assert await soon(next_with_text(sent.chunks)) == BEFORE
        return sent


Make = Callable[[str], Awaitable[list[Replica]]]


def allow_any(session: Session | None) -> Session:
    if session is None:
        raise SessionNotFound
    return session


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, SECONDS)


async def happens(event: threading.Event) -> None:
    """Return when the simulator has seen the disconnect."""
    assert await asyncio.to_thread(event.wait, SECONDS)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make periodic checks too late for any test."""
    monkeypatch.setattr(maintenance, "POLL_SECONDS", FAR_SECONDS)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make periodic checks frequent."""
    monkeypatch.setattr(maintenance, "POLL_SECONDS", SOON_SECONDS)


@pytest.fixture
async def make(simulator: Simulator) -> AsyncIterator[Make]:
    """Return two replicas with this kind of transport between them; with the local bus, one that is both."""
    closers: list[Callable[[], Awaitable[None]]] = []
    lent = ExitStack()

    async def one(database: str, kind: str) -> Replica:
        store = Store(PostgresDriver(database, 2, transaction_pooling=False), wall_clock, FAR_SECONDS)
        post: Transport | None = None
        if kind == "redis":
            link = RedisConnection(redis().url)
            await link.open()
            closers.append(link.close)
            post = RedisTransport(link)
        elif kind == "notify":
            post = PostgresTransport(database)
        elif kind == "deaf":
            post = DeafPost()
        bus = ReplicaBus(store.replica, post) if post else LocalBus()
        upstream = Upstream(simulator.url, 5)
        settings = Settings(first_token_seconds=FAR_SECONDS * 4, idle_seconds=FAR_SECONDS * 4)
        generations = Generations(store, bus, upstream, LocalSlots(8, 8), settings, wall_clock)
        await store.open()
        closers.append(store.close)
        await upstream.open()
        closers.append(upstream.close)
        await generations.open()
        closers.append(generations.close)
        return Replica(store, bus, generations, post)

    async def put_together(kind: str) -> list[Replica]:
        database = lent.enter_context(postgres().lent_database())
        first = await one(database, kind)
        return [first, first if kind == "local" else await one(database, kind)]

    yield put_together
    for close in reversed(closers):
        await soon(close())
    lent.close()


async def next_with_text(readings: LogChunks) -> str:
    """Return the text of the next chunk that has any."""
    async for reading in readings:
        if reading.pieces:
            return b"".join(piece.data for piece in reading.pieces).decode()
    raise AssertionError("the log ended without more")


async def rest(readings: LogChunks) -> tuple[str, Status | None]:
    """Return the rest of the text, and the final status."""
    text, status = b"", None
    async for reading in readings:
        text += b"".join(piece.data for piece in reading.pieces)
        status = reading.ended.status if reading.ended else None
    return text.decode(), status


POSTS = pytest.mark.parametrize("kind", ["local", "redis", "notify"])


@POSTS
@pytest.mark.usefixtures("far")
async def test_a_reader_on_another_replica_is_woken_without_a_periodic_check(
    make: Make, simulator: Simulator, gate: Gate, kind: str
) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make(kind)
    sent = await writer.begin()
    async with aclosing((await other.generations.follow(sent.generation.id)).chunks) as readings:
        assert await soon(next_with_text(readings)) == BEFORE
        gate.open()
        assert await soon(rest(readings)) == (AFTER, Status.COMPLETED)


@pytest.mark.usefixtures("far")
async def test_a_reader_whose_wake_ups_are_all_lost_gets_the_text_at_the_next_check(
    make: Make, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make("deaf")
    sent = await writer.begin()
    async with aclosing((await other.generations.follow(sent.generation.id)).chunks) as readings:
        assert await soon(next_with_text(readings)) == BEFORE
        waits = asyncio.ensure_future(rest(readings))
        gate.open()
        assert await soon(rest(sent.chunks)) == (AFTER, Status.COMPLETED)
        assert not waits.done(), "no wake-up came, and no check was due"
        other.bus.wake_all()
        assert await soon(waits) == (AFTER, Status.COMPLETED)


@pytest.mark.usefixtures("near")
async def test_maintenance_checks_periodically(make: Make, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make("deaf")
    sent = await writer.begin()
    async with aclosing((await other.generations.follow(sent.generation.id)).chunks) as readings:
        assert await soon(next_with_text(readings)) == BEFORE
        gate.open()
        assert await soon(rest(readings)) == (AFTER, Status.COMPLETED)


@POSTS
@pytest.mark.usefixtures("far")
async def test_a_stop_reaches_the_generating_replica_without_a_periodic_check(
    make: Make, simulator: Simulator, gate: Gate, kind: str
) -> None:
    await check_stop(make, simulator, gate, kind)


@pytest.mark.usefixtures("near")
async def test_a_stop_that_the_bus_loses_is_found_in_the_store(make: Make, simulator: Simulator, gate: Gate) -> None:
    await check_stop(make, simulator, gate, "deaf")


async def check_stop(make: Make, simulator: Simulator, gate: Gate, kind: str) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make(kind)
    sent = await writer.begin()
    kept = await soon(other.generations.stop(sent.generation.id))
    assert b"".join(piece.data for piece in kept.pieces).decode() == BEFORE
    assert kept.ended is not None
    assert kept.ended.status is Status.STOPPED
    await happens(simulator.requests[0].left)
    assert await soon(rest(sent.chunks)) == ("", Status.STOPPED)
    again = await soon(other.generations.stop(sent.generation.id))
    assert again == kept, "a second stop changes nothing"


@POSTS
@pytest.mark.usefixtures("far")
async def test_a_delete_reaches_the_generating_replica_without_a_periodic_check(
    make: Make, simulator: Simulator, gate: Gate, kind: str
) -> None:
    await check_delete(make, simulator, gate, kind)


@pytest.mark.usefixtures("near")
async def test_a_delete_that_the_bus_loses_is_found_in_the_store(make: Make, simulator: Simulator, gate: Gate) -> None:
    await check_delete(make, simulator, gate, "deaf")


async def check_delete(make: Make, simulator: Simulator, gate: Gate, kind: str) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make(kind)
    sent = await writer.begin()
    await soon(other.generations.delete_session(sent.session.id, allow_any))
    await happens(simulator.requests[0].left)
    with pytest.raises(SessionDeleted):
        await soon(rest(sent.chunks))
    assert await writer.store.sessions.find(sent.session.id) is None


@pytest.mark.parametrize("kind", ["redis", "notify"])
@pytest.mark.usefixtures("far")
async def test_messages_of_a_newer_version_are_ignored(make: Make, simulator: Simulator, gate: Gate, kind: str) -> None:
    simulator.script = scripts.held(gate, BEFORE, AFTER)
    writer, other = await make(kind)
    sent = await writer.begin()
    assert other.post is not None
    for message in ["sing", "", "wake", "stop", "stop one two", "watch", "watch one", "watch one two three", "STOP x"]:
        other.post.send(writer.store.replica, message)
    other.post.send(writer.store.replica, f"watch {'x' * 200} {sent.generation.id}")
    other.post.send(writer.store.replica, f"watch x {'x' * 7_000}")
    other.post.send(writer.store.replica, f"stop {sent.generation.id}")
    assert await soon(rest(sent.chunks)) == ("", Status.STOPPED)


@pytest.mark.usefixtures("far")
async def test_a_replica_without_readers_elsewhere_sends_nothing(
    make: Make, simulator: Simulator, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.script = scripts.answer("many words " * 50)
    writer, _ = await make("deaf")
    said: list[str] = []
    monkeypatch.setattr(writer.post, "send", lambda replica, message: said.append(message))
    text, status = await soon(rest((await soon(writer.send())).chunks))
    assert (text, status) == ("many words " * 50, Status.COMPLETED)
    assert said == []


async def test_a_replica_remembers_a_bounded_number_of_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    post = RecordingPost()
    bus = ReplicaBus("rep_one", post)
    await bus.open(lambda _: None)

    def accepted(*watches: str) -> list[str]:
        """Return the generations of the accepted watches: each is answered with a wake-up."""
        post.sent.clear()
        for watch in watches:
            post.receive(f"watch {watch}")
        return [message.removeprefix("wake ") for _, message in post.sent]

    monkeypatch.setattr(replicas, "MOST_WATCHED", 3)
    assert accepted(*(f"rep_two gen_{number}" for number in range(10))) == ["gen_0", "gen_1", "gen_2"]
    assert not accepted(f"{'x' * 200} gen_0"), "no replica has such a name, and no channel"
    monkeypatch.setattr(replicas, "MOST_WATCHERS", 3)
    assert len(accepted(*(f"rep_{number} gen_0" for number in range(10)))) == 2, "there is one already"
    monkeypatch.setattr(replicas, "WATCH_SECONDS", -1)
    assert len(accepted("rep_two gen_0", "rep_0 gen_0", "rep_1 gen_0")) == 3
    bus.wake_all()
    post.sent.clear()
    for number in range(10):
        bus.publish(f"gen_{number}")
    await bus.close()
    assert post.sent == [("rep_two", "wake gen_1 gen_2")], "a watch that is not renewed ends"


async def test_undeliverable_messages_are_dropped_by_notify() -> None:
    post = PostgresTransport(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    await soon(post.open("rep_one", lambda _: None))
    for number in range(OUTBOX + 100):
        post.send("rep_two", f"wake gen_{number}")
    assert post._outbox.qsize() == OUTBOX
    await soon(post.close())


async def test_undeliverable_messages_are_dropped_by_redis() -> None:
    server = Redis()
    link = RedisConnection(server.url)
    await link.open()
    post = RedisTransport(link)
    await soon(post.open("rep_one", lambda _: None))
    server.pause()
    for number in range(MAX_CALLS + 100):
        post.send("rep_two", f"wake gen_{number}")
    assert len(link._calls) == MAX_CALLS
    await soon(asyncio.wait(link._calls))
    under_way = set(link._calls)  # possibly an echo of the listener
    post.send("rep_two", "wake gen_more")
    assert link._calls == under_way, "for a while nothing is sent"
    server.kill()
    await soon(post.close())
    await soon(link.close())
    server.remove()


async def test_a_restart_of_redis_costs_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its old connections are still in the pool. Each could fail one more request.
    monkeypatch.setattr(redis_connection, "DOWN_SECONDS", 0.0)
    server = Redis()
    link = RedisConnection(server.url)
    await link.open()

    async def at_once() -> list[int]:
        return await soon(asyncio.gather(*(link.run("return 1", "key") for _ in range(10))))

    assert await at_once() == [1] * 10
    server.kill()
    server.start()
    with pytest.raises(RedisGone):
        await soon(link.run("return 1", "key"))
    assert await at_once() == [1] * 10
    await soon(link.close())
    server.remove()


@pytest.mark.usefixtures("near")
async def test_a_turn_whose_start_was_stored_and_not_confirmed_is_closed_at_the_second_check(make: Make) -> None:
    # Otherwise its session is busy for a whole lease, which is an hour here.
    replica, _ = await make("deaf")
    turn = TurnRequest("the-owner-tag", None, "Be brief.", user_text("Hello"), "gpt-4.1-mini", "text")
    begun = await replica.store.turns.begin(turn, allow_any)  # and no task runs it
    async with aclosing((await replica.generations.follow(begun.generation.id)).chunks) as readings:
        assert await soon(rest(readings)) == ("", Status.INTERRUPTED)


@pytest.mark.usefixtures("far")
async def test_a_listener_whose_connection_is_silent_reconnects(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a failover, or in a network that drops idle connections: no error says that the connection is gone."""
    monkeypatch.setattr(redis_connection, "ECHO_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(redis_connection, "DEAF_SECONDS", 1.0)
    async with Mute(redis().port) as between:
        link = RedisConnection(f"redis://127.0.0.1:{between.port}/0")
        await link.open()
        heard: asyncio.Queue[str] = asyncio.Queue()
        post = RedisTransport(link)
        await post.open("rep_one", lambda message: heard.put_nowait(message) if message else None)
        between.mute()
        async with asyncio.timeout(SECONDS):
            while heard.empty():
                post.send("rep_one", "wake gen_one")
                await asyncio.sleep(SOON_SECONDS)
        assert heard.get_nowait() == "wake gen_one"
        await post.close()
        await link.close()


async def test_calls_in_excess_of_the_connections_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "CALL_SECONDS", SECONDS)  # not the deadline, but the queue is tested
    link = RedisConnection(redis().url)
    await link.open()
    values = await asyncio.gather(*(link.run("return ARGV[1]", "key", number) for number in range(200)))
    assert [int(value) for value in values] == list(range(200))
    await link.close()
