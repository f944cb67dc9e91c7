"""The store's one interface, and its group commit.

Text goes through one queue, and so does every other write, where the database does one thing after the other. When
nothing is being committed, the next commit begins at once; what arrives meanwhile goes into the one after it. Text
alone does not hurry: it waits until `PACE_SECONDS` after the last commit, so that many streams share one. Load makes
the batches bigger, not the queue longer.

Text that cannot be stored now is offered again, for `patience_seconds`: a database that restarts costs a running answer
a pause, not its life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.model import (
    Alias,
    Authorizer,
    Clock,
    Generation,
    GroupBy,
    ImportedSession,
    Message,
    MessageCursor,
    Microseconds,
    NewMessage,
    Outcome,
    Part,
    SearchCursor,
    Session,
    TurnRequest,
    UsageReport,
    new_id,
)
from chatapi.model.log import Log
from chatapi.store import transactions
from chatapi.store.drivers.driver import Append, Batch, Committed, Driver, Fenced, Transaction
from chatapi.store.transactions import (
    Candidate,
    Lease,
    NewIds,
    Running,
    ScanSnapshot,
    SessionTime,
    StartedTurn,
    StoredLog,
)

logger = structlog.get_logger()

T = TypeVar("T")

PACE_SECONDS = 0.004  # the most that text waits for company; an eye cannot see it, and streams share commits
LEASE_SECONDS = 20.0  # how long an answer whose replica died stays `running`
PATIENCE_SECONDS = 10.0  # how long text waits for a store that takes none, before its answer fails
RETRY_SECONDS = 0.25  # between attempts to store text while the store takes none
SLOW_COUNT_SECONDS = 0.25  # a count of sessions that took longer is shown again
COUNT_AGAIN = 100  # for so many times as long as it took
EVERYTHING = 1 << 62  # later than every lease

__all__ = ["StartedTurn", "Candidate", "Running", "SessionTime", "Store", "StoredLog", "ScanSnapshot", "Writing"]


class Writing(Protocol):
    """A generation whose log is being written; told what became of its text."""

    id: str
    log: Log

    def committed(self, position: int) -> None:
        """The log is stored up to `position`."""

    def refused(self, error: Exception) -> None:
        """What was not committed by now never will be."""


class Store:
    """Every session, message, generation and log. All methods may raise `StoreUnavailable`."""

    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        lease_seconds: float = LEASE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.replica = new_id("rep")
        self.lease_seconds = lease_seconds
        self.patience_seconds = patience_seconds
        self._driver = driver
        self._clock = clock
        self._waiting: list[tuple[Callable[[], Transaction[Any]], asyncio.Future[Any]]] = []
        self._durable = False
        self._touched: dict[str, Writing] = {}
        self._unstored_since: dict[str, float] = {}  # when text of these was refused first
        self._flushing: list[asyncio.Future[None]] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last_commit = 0.0
        self._count = 0
        self._count_until = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the database and close what an earlier process of ours left running in it."""
        self._loop = asyncio.get_running_loop()
        await self._driver.open()
        self._writer = asyncio.create_task(self._write_until_closed(), name="store-group-commit")
        if self._driver.exclusive:
            while await self.sweep(EVERYTHING):
                pass

    async def close(self) -> None:
        """Commit what is queued, as far as that works, and let go of the database."""
        if self._writer is not None:
            writer, self._writer = self._writer, None  # from here on nothing more is queued
            self._due.set()
            await writer
        await self._driver.close()

    @property
    def shared(self) -> bool:
        """Whether other replicas may have this store open."""
        return not self._driver.exclusive

    async def probe(self) -> None:
        """Return when a write has worked.

        Raises:
            StoreUnavailable: writes do not work now.
        """
        await self._commit(partial(transactions.probe, self.replica), durable=False)

    async def agrees(self, name: str, value: str) -> bool:
        """Whether everyone who has opened this database brought the same value under this name."""
        return await self._commit(partial(transactions.agree, name, value), durable=True)

    # Sessions

    async def create_session(self, owner: str | None, developer_message: str) -> Session:
        """A new session without messages."""
        now = self._clock()
        session = Session(new_id("ses"), owner, developer_message, None, {}, None, 0, now, now)
        return await self._commit(partial(transactions.create_session, session), durable=True)

    async def create_conversation(self, owner: str, metadata: dict[str, str], input: tuple[NewMessage, ...]) -> Session:
        """A new session with these messages."""
        now = self._clock()
        session = Session(new_id("ses"), owner, "", None, metadata, None, 0, now, now)
        ids = tuple(new_id("msg") for _ in input)
        return await self._commit(partial(transactions.create_conversation, session, input, ids), durable=True)

    async def restore(self, restored: ImportedSession) -> Session:
        """Store a session that was kept elsewhere, as it was; what it cost was counted there."""
        statements = await asyncio.to_thread(transactions.restoring, *restored)
        return await self._commit(partial(transactions.restore, restored.session, statements), durable=True)

    async def find_session(self, session_id: str) -> Session | None:
        """The session of this id, if there is one."""
        return await self._driver.read(partial(transactions.find_session, session_id))

    async def change_session(
        self,
        session_id: str,
        permit: Authorizer,
        developer_message: str | None = None,
        title: str | None = None,
        metadata: dict[str, str] | None = None,
        head: str | None = None,
    ) -> Session:
        """Set what is not None, if `permit` allows; see `transactions.change_session`."""
        change = partial(
            transactions.change_session, session_id, permit, self._clock(), developer_message, title, metadata, head
        )
        return await self._commit(change, durable=True)

    async def delete_session(self, session_id: str, permit: Authorizer) -> Generation | None:
        """Remove the session and all that is in it, if `permit` allows; the generation that ran in it, if one did."""
        return await self._commit(partial(transactions.delete_session, session_id, permit, self._clock()), durable=True)

    async def fork(self, session_id: str, permit: Authorizer, message_id: str | None, most_bytes: int) -> Session:
        """A new session with a copy of the path to a message, if `permit` allows; see `transactions.fork`."""
        copy = partial(transactions.fork, session_id, permit, message_id, new_id("ses"), most_bytes, self._clock())
        return await self._commit(copy, durable=True)

    async def count_sessions(self) -> int:
        """How many sessions there are."""
        return await self._driver.read(transactions.count_sessions)

    async def recent_count(self) -> int:
        """How many sessions there were a moment ago, for those who ask often and where counting takes long."""
        begun = self._loop.time()
        if begun >= self._count_until:
            self._count = await self.count_sessions()
            took = self._loop.time() - begun
            self._count_until = begun + took * COUNT_AGAIN if took > SLOW_COUNT_SECONDS else 0.0
        return self._count

    async def list_sessions(
        self, owner: str, before: tuple[int, str] | None, limit: int, by: SessionTime = "created_at"
    ) -> list[Session]:
        """This owner's sessions that were created, or last used, before `before` (time and id), the newest first."""
        return await self._driver.read(partial(transactions.list_sessions, owner, before, limit, by))

    async def candidates(self, owner: str, place: SearchCursor | None) -> tuple[list[Candidate], SearchCursor | None]:
        """What of this owner's is to be looked through next; see `transactions.candidates`."""
        return await self._driver.read(partial(transactions.candidates, owner, place))

    async def begin_scan(self, session_id: str) -> ScanSnapshot | None:
        """What a walk over all messages of this session is over, if there is such a session."""
        return await self._driver.read(partial(transactions.begin_scan, session_id))

    async def walk(self, session_id: str, mark: MessageCursor) -> tuple[list[Message], MessageCursor | None]:
        """The next messages of a walk, and from where to go on; see `transactions.walk`."""
        return await self._driver.read(partial(transactions.walk, session_id, mark))

    async def stops(self, session_id: str, head: str) -> list[str]:
        """Messages on the path that ends in `head`, from which it can be read piecemeal; see `transactions.stops`."""
        return await self._driver.read(partial(transactions.stops, session_id, head))

    async def stretch(self, session_id: str, stop: str, after_depth: int) -> list[Message]:
        """The next messages on the path to a stop; see `transactions.stretch`."""
        return await self._driver.read(partial(transactions.stretch, session_id, stop, after_depth))

    async def usage_of(self, owner: str, first_day: int, last_day: int, by: frozenset[GroupBy]) -> UsageReport:
        """This owner's usage on these days, which count from the epoch; see `transactions.usage_of`."""
        return await self._driver.read(partial(transactions.usage_of, owner, first_day, last_day, by))

    async def messages(self, session_id: str, after_depth: int, limit: int) -> list[Message]:
        """The messages of the active path that are deeper than `after_depth`, the first first."""
        return await self._driver.read(partial(transactions.messages, session_id, after_depth, limit))

    async def messages_before(self, session_id: str, before_depth: int, limit: int) -> list[Message]:
        """The messages of the active path that are less deep than `before_depth`, the last first."""
        return await self._driver.read(partial(transactions.messages_before, session_id, before_depth, limit))

    async def remove_message(self, session_id: str, message_id: str, permit: Authorizer) -> Session:
        """Take a message out of the tree, if `permit` allows; see `transactions.remove_message`."""
        remove = partial(transactions.remove_message, session_id, message_id, permit, self._clock())
        return await self._commit(remove, durable=True)

    async def remove_answer(self, generation_id: str, permit: Authorizer) -> None:
        """Take an answer and its question out of the tree, if `permit` allows; see `transactions.remove_answer`."""
        remove = partial(transactions.remove_answer, generation_id, permit, self._clock())
        return await self._commit(remove, durable=True)

    async def input_of(self, generation_id: str) -> list[Message]:
        """The messages of this generation's turn, without its answer, the first first."""
        return await self._driver.read(partial(transactions.input_of, generation_id))

    async def find_dialect_data(self, generation_id: str) -> str | None:
        """The `TurnRequest.dialect_data` of this generation; None where its dialect gave none."""
        return await self._driver.read(partial(transactions.find_dialect_data, generation_id))

    async def find_message(self, session_id: str, message_id: str) -> Message | None:
        """The message of this id in this session, if there is one: its parent is where an edit of it hangs."""
        return await self._driver.read(partial(transactions.find_message, session_id, message_id))

    async def find_messages_of(self, owner: str, message_ids: list[str], most_bytes: int) -> dict[str, Message]:
        """Those of these messages that are this owner's, by id; see `transactions.find_messages_of`."""
        return await self._driver.read(partial(transactions.find_messages_of, owner, message_ids, most_bytes))

    async def answer_run(self, session_id: str, message_id: str) -> list[Message]:
        """What some clients know as one message: answers and results of tools; see `transactions.answer_run`."""
        return await self._driver.read(partial(transactions.answer_run, session_id, message_id))

    async def add_messages(
        self, session_id: str, owner: str, permit: Authorizer, input: tuple[NewMessage, ...]
    ) -> list[str]:
        """Add messages at the session's head without asking for an answer; their ids."""
        ids = tuple(new_id("msg") for _ in input)
        add = partial(transactions.add_messages, session_id, owner, permit, input, ids, self._clock())
        await self._commit(add, durable=True)
        return list(ids)

    async def resolve(self, owner: str, alias: Alias) -> str | None:
        """The id of the session or message that this owner knows by this name, if there is one.

        A dialect whose clients make their own ids stores them as `TurnRequest.alias` (of the session: found or created
        with the turn) and `NewMessage.alias` (of a message). Deleting the session deletes them. Access to the id found
        is still checked by an `Authorizer`.
        """
        return await self._driver.read(partial(transactions.resolve, owner, alias))

    async def context(self, session_id: str, head: str, most_bytes: int) -> list[NewMessage]:
        """What was said on the path that ends in `head`; see `transactions.context`.

        Raises:
            ContextTooLarge: it is more than `most_bytes`.
        """
        return await self._driver.read(partial(transactions.context, session_id, head, most_bytes))

    # Generations

    async def begin(self, turn: TurnRequest, permit: Authorizer) -> StartedTurn:
        """Commit a turn's messages, its empty answer and its running generation; see `transactions.begin`."""
        now = self._clock()
        ids = NewIds(new_id("ses"), tuple(new_id("msg") for _ in turn.input), new_id("msg"), new_id("gen"))
        return await self._commit(partial(transactions.begin, turn, ids, permit, self._lease(now), now), durable=True)

    async def find_by_idempotency_key(self, turn: TurnRequest) -> StartedTurn | None:
        """Find the turn that an earlier request with this idempotency key began."""
        return await self._driver.read(partial(transactions.find_by_idempotency_key, turn))

    def touch(self, writing: Writing, urgent: bool = False) -> None:
        """Commit what `writing`'s log has gained; soon, or at once. It is told when that is done."""
        self._touched[writing.id] = writing
        if urgent:
            self._due.set()
        elif self._timer is None and not self._due.is_set():
            wait = self._last_commit + PACE_SECONDS - self._loop.time()
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._due.set)
            else:
                self._due.set()

    async def flush(self) -> None:
        """Return when all text before this call has been committed, refused, or tried."""
        self._require_open()
        done: asyncio.Future[None] = self._loop.create_future()
        self._flushing.append(done)
        self._due.set()
        await done

    async def finish(
        self, writing: Writing, ending: Outcome, parts: tuple[Part, ...], first_token_at: Microseconds | None
    ) -> Generation:
        """End a generation with its whole text, durably.

        Raises:
            Fenced: it is no longer ours to end.
        """
        self._touched.pop(writing.id, None)  # the whole text goes with the ending
        self._unstored_since.pop(writing.id, None)
        finish = partial(transactions.finish, writing.id, self.replica, ending, parts, first_token_at, self._clock())
        return await self._commit(finish, durable=True)

    async def renew(self, generation_ids: list[str]) -> None:
        """Extend this replica's leases on these generations."""
        lease = self._lease(self._clock())
        for some in transactions.by_size(generation_ids):
            await self._commit(partial(transactions.renew, some, lease), durable=False)

    async def expire_orphans(self, generation_ids: list[str]) -> None:
        """Let this replica's leases on these generations lapse at once."""
        for some in transactions.by_size(generation_ids):
            await self._commit(partial(transactions.renew, some, Lease(self.replica, Microseconds(0))), durable=False)

    async def sweep(self, lapsed_before: int | None = None) -> list[Generation]:
        """Close some of the generations whose lease has lapsed as interrupted; call again until there is none."""
        now = self._clock()
        before = now if lapsed_before is None else lapsed_before
        return await self._commit(partial(transactions.sweep, before, now), durable=True)

    async def request_stop(self, generation_id: str) -> str | None:
        """Leave word that somebody wants this generation stopped; the replica that will find it, if it runs."""
        return await self._commit(partial(transactions.request_stop, generation_id), durable=False)

    async def running_here(self) -> list[Running]:
        """What this replica is to be producing, as the store knows it."""
        return await self._driver.read(partial(transactions.running_of, self.replica))

    async def read_log(self, generation_id: str, position: int) -> StoredLog | None:
        """A generation and what is committed of its log past `position`."""
        return await self._driver.read(partial(transactions.read_log, generation_id, position))

    async def find_generation(self, generation_id: str) -> Generation | None:
        """The generation of this id, if there is one."""
        return await self._driver.read(partial(transactions.find_generation, generation_id))

    async def latest_generation(self, session_id: str) -> Generation | None:
        """The generation of the session's last answer."""
        return await self._driver.read(partial(transactions.latest_generation, session_id))

    def _lease(self, now: Microseconds) -> Lease:
        return Lease(self.replica, Microseconds(now + int(self.lease_seconds * 1_000_000)))

    # Group commit

    def _require_open(self) -> None:
        if self._writer is None or self._writer.done():
            raise StoreUnavailable("The store is closed.")

    async def _commit(self, transaction: Callable[[], Transaction[T]], durable: bool) -> T:
        self._require_open()
        if self._driver.concurrent:
            (result,) = (await self._driver.commit(Batch(self.replica, [transaction], durable=durable))).results
            if isinstance(result, Exception):
                raise result
            alone: T = result
            return alone
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((transaction, done))
        self._durable |= durable
        self._due.set()
        return await done

    async def _write_until_closed(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._last_commit = self._loop.time()
            await self._write_once()
            if self._writer is None and not self._waiting and not self._flushing:
                return

    async def _write_once(self) -> None:
        """Commit all that is queued, and tell everyone what became of theirs."""
        waiting, self._waiting = self._waiting, []
        touched, self._touched = list(self._touched.values()), {}
        flushing, self._flushing = self._flushing, []
        durable, self._durable = self._durable, False
        appends = [Append(writing.id, writing.log.uncommitted()) for writing in touched]
        batch = Batch(self.replica, [transaction for transaction, _ in waiting], appends, durable)
        try:
            outcome = await self._driver.commit(batch) if waiting or appends else Committed([])
        except Exception as error:  # whatever it is, everyone who waits is told, and the next batch is tried
            if not isinstance(error, StoreUnavailable):
                logger.exception("unforeseen error", where="group commit")
            failed = StoreUnavailable()
            failed.__cause__ = error.__cause__ or error
            outcome = Committed([failed] * len(waiting), unstored={writing.id for writing in touched})
        for writing, append in zip(touched, appends, strict=True):
            if writing.id in outcome.unstored:
                self._offer_again(writing)
                continue
            self._unstored_since.pop(writing.id, None)
            if writing.id in outcome.fenced:
                writing.refused(Fenced())
            elif append.pieces:
                writing.committed(append.pieces[-1].position)
        for flushed in flushing:
            if not flushed.done():
                flushed.set_result(None)
        for (_, done), result in zip(waiting, outcome.results, strict=True):
            if done.cancelled():
                continue
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)

    def _offer_again(self, writing: Writing) -> None:
        """Text that was not stored goes into a later commit, unless it has waited too long."""
        now = self._loop.time()
        since = self._unstored_since.setdefault(writing.id, self._last_commit)  # when it was first offered
        if self._writer is None or now - since >= self.patience_seconds:
            del self._unstored_since[writing.id]
            writing.refused(StoreUnavailable())
            return
        self._touched.setdefault(writing.id, writing)
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY_SECONDS, self._due.set)
