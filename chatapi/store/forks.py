"""Forks: a new session that begins with a copy of a path. The database copies; no text passes through this process."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from chatapi.errors import ContextTooLarge, MessageNotFound, SessionBusy
from chatapi.model import Authorizer, Session, Status, new_id
from chatapi.store.drivers.driver import Transaction
from chatapi.store.quotas import growth
from chatapi.store.repository import Repository, durable_write, write
from chatapi.store.rows import SESSION, check_is, read_session, valid_id_or_empty
from chatapi.store.sessions import delete_session, find_session, insert_session
from chatapi.store.statements import parameters, run_each, value_rows

MAX_FORKED_MESSAGES = 10_000
COPIES_PER_SLICE = 128  # copied by one transaction
UNFINISHED = "unfinished fork"  # as an owner; owner tags have no spaces
UNFINISHED_MICROSECONDS = 3_600_000_000  # after which a replica that began a fork is dead

_PATH = (
    "WITH RECURSIVE path (id, parent, step) AS (SELECT id, parent, 1 FROM message WHERE id = $1 AND session_id = $2 "
    "UNION ALL SELECT m.id, m.parent, p.step + 1 FROM message m JOIN path p ON m.id = p.parent WHERE p.step <= $3) "
    "SELECT m.id, m.session_id, length(m.content), g.id, g.status FROM path p JOIN message m ON m.id = p.id "
    "LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth"
)


class _Copy(NamedTuple):
    """A message to copy, and the IDs of its copy and of the copy's parent and generation."""

    original: str
    id: str
    parent: str | None
    generation: str


class _Plan(NamedTuple):
    """The session to create, and the messages to copy into it."""

    fork: Session
    copies: list[_Copy]


class Forks(Repository):
    """Copies of sessions.

    A fork is copied in slices, each a transaction, so that other writers wait for one slice only. Until it is complete,
    it belongs to the owner `UNFINISHED`, whom no key can have.
    """

    async def create(self, session_id: str, authorizer: Authorizer, message_id: str | None, max_bytes: int) -> Session:
        """Create a session of the same owner with a copy of the path that ends in this message, or in the head.

        The copies have new IDs and no aliases. Their usage is not counted again.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            MessageNotFound: The session has no such message, or it was removed meanwhile.
            SessionBusy: The path ends in a running answer.
            ContextTooLarge: The path has more than `max_bytes`, or than `MAX_FORKED_MESSAGES` messages.
            SessionFull, QuotaExceeded: There is no room for it.
        """
        fork, copies = await self._begin(session_id, authorizer, message_id, max_bytes)
        try:
            for start in range(0, len(copies), COPIES_PER_SLICE):
                await self._copy(session_id, fork.id, copies[start : start + COPIES_PER_SLICE])
            return await self._publish(fork)
        except MessageNotFound:
            await self._delete(fork)
            raise

    @durable_write
    def _begin(
        self, session_id: str, authorizer: Authorizer, message_id: str | None, max_bytes: int
    ) -> Transaction[_Plan]:
        now = self._clock()
        session = authorizer((yield from find_session(session_id, lock=True)))
        last = session.head if message_id is None else message_id
        path = (yield _PATH, (valid_id_or_empty(last), session_id, MAX_FORKED_MESSAGES)) if last is not None else []
        if last is not None and not path:
            raise MessageNotFound
        size = sum(row[2] for row in path)
        if len(path) > MAX_FORKED_MESSAGES or size > max_bytes:
            raise ContextTooLarge
        copies: list[_Copy] = []
        for original, found, _, generation_id, status in path:
            check_is(found, session_id)
            if status == Status.RUNNING:
                raise SessionBusy(generation_id)
            copies.append(_Copy(original, new_id("msg"), copies[-1].id if copies else None, new_id("gen")))
        size += growth(None, session.developer_message)
        self._quotas.require_session_room(None, len(copies), size)
        yield from self._quotas.take(session.owner, 1, size)
        fork = replace(
            session,
            id=new_id("ses"),
            head=copies[-1].id if copies else None,
            message_count=len(copies),
            created_at=now,
            updated_at=now,
            content_bytes=size,
            queued=0,
        )
        yield insert_session(replace(fork, owner=UNFINISHED))
        return _Plan(fork, copies)

    @write
    def _copy(self, session_id: str, fork_id: str, copies: list[_Copy]) -> Transaction[None]:
        rows = yield (
            f"SELECT id FROM message WHERE session_id = $1 AND id IN ({parameters(len(copies), 2)})",
            (session_id, *(copy.original for copy in copies)),
        )
        if len(rows) < len(copies):
            raise MessageNotFound  # one of them was removed, or the session was
        values = (session_id, fork_id, *chain.from_iterable(copies))
        yield from run_each([(sql, values) for sql in _copy_statements(len(copies))])

    @durable_write
    def _publish(self, fork: Session) -> Transaction[Session]:
        yield "UPDATE session SET owner = $2 WHERE id = $1", (fork.id, fork.owner)
        return fork

    @write
    def _delete(self, fork: Session) -> Transaction[None]:
        yield from delete_session(replace(fork, owner=None), self._clock())

    @durable_write
    def delete_unfinished(self, before: int) -> Transaction[None]:
        """Delete the forks that were begun before `before`, in microseconds since the epoch, and not completed."""
        rows = yield f"SELECT {SESSION} FROM session WHERE owner = $1 AND created_at < $2", (UNFINISHED, before)
        for row in rows:
            yield from delete_session(replace(read_session(row), owner=None), self._clock())


_COPIED_COLUMNS = (  # of a generation; its idempotency key stays the original's alone
    "status, replica, lease_until, model, dialect, owner, created_at, first_token_at, ended_at, length, finish_reason, "
    "usage, error_code, error_detail"
)


@cache
def _copy_statements(count: int) -> tuple[str, str]:
    rows = value_rows(count, len(_Copy._fields), first=3)
    copied = ", ".join(f"g.{column}" for column in _COPIED_COLUMNS.split(", "))
    return (
        "INSERT INTO message (id, session_id, parent, depth, role, content, created_at) "
        "SELECT v.column2, $2, v.column3, m.depth, m.role, m.content, m.created_at "
        f"FROM (VALUES {rows}) AS v JOIN message m ON m.id = v.column1 WHERE m.session_id = $1",
        f"INSERT INTO generation (id, session_id, message_id, {_COPIED_COLUMNS}) "
        f"SELECT v.column4, $2, v.column2, {copied} "
        f"FROM (VALUES {rows}) AS v JOIN generation g ON g.message_id = v.column1 WHERE g.session_id = $1",
    )
