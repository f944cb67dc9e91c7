"""Sessions: create, find, list, change and delete."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from chatapi.model import (
    Authorizer,
    Clock,
    ContextPolicy,
    Generation,
    Microseconds,
    NewMessage,
    Outcome,
    Session,
    Status,
    new_id,
)
from chatapi.store.aliases import name_messages
from chatapi.store.drivers.driver import Driver, Statement, Transaction
from chatapi.store.group_commit import GroupCommit
from chatapi.store.quotas import Quotas, content_size, growth
from chatapi.store.repository import Repository, durable_write, read
from chatapi.store.rows import (
    GENERATION,
    SESSION,
    check_is,
    encode_json,
    read_generation,
    read_session,
    valid_id_or_empty,
)
from chatapi.store.statements import run_each
from chatapi.store.tree import child_depth, insert_messages, newest_leaf, require_idle
from chatapi.store.usage import count_answer, keep_usage
from chatapi.titles import title_of

SLOW_COUNT_SECONDS = 0.25  # a count of sessions that took longer is cached
COUNT_CACHE_FACTOR = 100  # for this many times as long as it took

DELETED_SESSIONS = 50  # by one transaction
DELETED_MESSAGES = 500  # by one transaction, unless a single session has more

DELETED = "deleted"  # a row of `agreement`: when rows were last deleted whose bytes may still be in the files

SessionTime = Literal["created_at", "updated_at"]
"""The time that orders a list of sessions; each has an index."""


class RetentionChoice(NamedTuple):
    """The values to set; those that are None stay. `expires_at` is set if `sets_expiry`, also to None."""

    keep: bool | None = None
    temporary: bool | None = None
    expires_at: Microseconds | None = None
    sets_expiry: bool = False

    def apply(self, session: Session) -> Session:
        """Return the session with these values."""
        return replace(
            session,
            keep=session.keep if self.keep is None else self.keep,
            temporary=session.temporary if self.temporary is None else self.temporary,
            expires_at=self.expires_at if self.sets_expiry else session.expires_at,
        )


class ContextChoice(NamedTuple):
    """The context policy to set; None for the server's."""

    policy: ContextPolicy | None


class Sessions(Repository):
    """Sessions, each with one developer message and a tree of messages."""

    def __init__(self, driver: Driver, group_commit: GroupCommit, clock: Clock, quotas: Quotas) -> None:
        super().__init__(driver, group_commit, clock, quotas)
        self._count = 0
        self._count_until = 0.0

    @durable_write
    def create(
        self,
        owner: str | None,
        developer_message: str,
        retention: RetentionChoice | None = None,
        context: ContextPolicy | None = None,
    ) -> Transaction[Session]:
        """Create a session without messages."""
        size = growth(None, developer_message)
        session = new_session(owner, developer_message, {}, self._clock())
        session = replace(session, context=context, content_bytes=size)
        if retention is not None:
            session = retention.apply(session)
        yield from self._quotas.take(owner, 1, size)
        yield insert_session(session)
        return session

    @durable_write
    def create_with_messages(
        self, owner: str, metadata: dict[str, str], messages: tuple[NewMessage, ...]
    ) -> Transaction[Session]:
        """Create a session with these messages."""
        ids = tuple(new_id("msg") for _ in messages)
        size = sum(content_size(message.parts) for message in messages)
        session = new_session(owner, "", metadata, self._clock())
        self._quotas.require_session_room(None, len(ids), size)
        yield from self._quotas.take(owner, 1, size)
        session = replace(
            session,
            given_title=title_of(messages),
            head=ids[-1] if ids else None,
            message_count=len(ids),
            content_bytes=size,
        )
        yield insert_session(session)
        yield from run_each(insert_messages(session.id, None, 0, messages, ids, session.created_at))
        yield from run_each(name_messages(owner, session.id, messages, ids))
        return session

    @read
    def find(self, session_id: str) -> Transaction[Session | None]:
        """Return the session with this ID, or None."""
        return (yield from find_session(session_id))

    @read
    def page(
        self, owner: str, before: tuple[int, str] | None, limit: int, by: SessionTime = "created_at"
    ) -> Transaction[list[Session]]:
        """Return this owner's sessions whose time and ID are before `before`, the newest first."""
        at, session_id = before or (1 << 62, "")
        rows = yield (
            f"SELECT {SESSION} FROM session WHERE owner = $1 AND {by} <= $2 AND ({by} < $2 OR id < $3) "
            f"ORDER BY {by} DESC, id DESC LIMIT $4",
            (owner, at, session_id, limit),
        )
        found = [read_session(row) for row in rows]
        for session in found:
            check_is(session.owner, owner)
        return found

    @read
    def count(self) -> Transaction[int]:
        """Return the number of sessions."""
        rows = yield "SELECT count(*) FROM session", ()
        return int(rows[0][0])

    async def recent_count(self) -> int:
        """Return the number of sessions, at most `COUNT_CACHE_FACTOR` times as old as counting them takes."""
        time = asyncio.get_running_loop().time
        started = time()
        if started >= self._count_until:
            self._count = await self.count()
            took = time() - started
            self._count_until = started + took * COUNT_CACHE_FACTOR if took > SLOW_COUNT_SECONDS else 0.0
        return self._count

    @durable_write
    def change(
        self,
        session_id: str,
        authorizer: Authorizer,
        developer_message: str | None = None,
        title: str | None = None,
        metadata: dict[str, str] | None = None,
        head: str | None = None,
        retention: RetentionChoice | None = None,
        context: ContextChoice | None = None,
    ) -> Transaction[Session]:
        """Set the values that are not None; an empty title removes the title.

        `head` is a message that the active path goes through; below it, the path follows the newest message at each
        level.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            MessageNotFound: The session has no message `head`.
            SessionBusy: The path cannot be changed while a generation writes to it.
            SessionFull, QuotaExceeded: The session, its owner or the store has no room for the developer message.
        """
        session = authorizer((yield from find_session(session_id, lock=True)))
        if (grown := growth(session, developer_message)) > 0:
            self._quotas.require_session_room(session, 0, grown)
            yield from self._quotas.take(session.owner, 0, grown)
        if head is not None:
            yield from require_idle(session_id)
            yield from child_depth(session_id, head)
            head = yield from newest_leaf(session_id, head)
        changed = replace(
            session,
            head=session.head if head is None else head,
            developer_message=session.developer_message if developer_message is None else developer_message,
            given_title=session.given_title if title is None else title,
            metadata=session.metadata if metadata is None else metadata,
            updated_at=self._clock(),
            context=session.context if context is None else context.policy,
            content_bytes=max(0, session.content_bytes + grown),  # sessions of earlier versions do not count theirs
        )
        if retention is not None:
            changed = retention.apply(changed)
        yield (
            "UPDATE session SET developer_message = $2, title = $3, metadata = $4, head = $5, updated_at = $6, "
            "keep = $7, expires_at = $8, temporary = $9, context = $10, content_bytes = $11 WHERE id = $1",
            (
                session_id,
                changed.developer_message,
                changed.given_title,
                encode_json(changed.metadata),
                changed.head,
                changed.updated_at,
                int(changed.keep),
                changed.expires_at,
                int(changed.temporary),
                changed.context,
                changed.content_bytes,
            ),
        )
        return changed

    @durable_write
    def delete(self, session_id: str, authorizer: Authorizer) -> Transaction[Generation | None]:
        """Delete a session and everything in it except its usage; return the generation that was running in it.

        That generation is fenced. Its tokens are counted as unknown.
        """
        session = authorizer((yield from find_session(session_id, lock=True)))
        return (yield from delete_session(session, self._clock()))

    @durable_write
    def delete_some(self, owner: str, created_until: Microseconds) -> Transaction[tuple[int, list[Generation]]]:
        """Delete some of this owner's sessions that were created until then, as `delete` does each.

        Return their number, and the generations that were running in them. Call it again until it deletes none: other
        writers wait for one call only.
        """
        rows = yield (
            f"SELECT {SESSION} FROM session WHERE owner = $1 AND created_at <= $2 ORDER BY created_at, id "
            f"LIMIT {DELETED_SESSIONS} FOR UPDATE",
            (owner, created_until),
        )
        sessions = some_of([read_session(row) for row in rows])
        running = []
        for session in sessions:
            check_is(session.owner, owner)
            generation = yield from delete_session(session, self._clock())
            if generation is not None:
                running.append(generation)
        return len(sessions), running


def some_of(sessions: list[Session]) -> list[Session]:
    """Return the first sessions, as many as one transaction deletes: at least one."""
    messages, count = 0, 0
    for session in sessions:
        messages += session.message_count
        if count and messages > DELETED_MESSAGES:
            break
        count += 1
    return sessions[:count]


def new_session(owner: str | None, developer_message: str, metadata: dict[str, str], now: Microseconds) -> Session:
    """Return a session with a new ID and no messages."""
    return Session(new_id("ses"), owner, developer_message, None, metadata, None, 0, now, now)


def insert_session(session: Session) -> Statement:
    """Insert a session that is not stored yet."""
    return (
        f"INSERT INTO session ({SESSION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        (
            session.id,
            session.owner,
            session.developer_message,
            session.given_title,
            encode_json(session.metadata),
            session.head,
            session.message_count,
            session.created_at,
            session.updated_at,
            session.content_bytes,
            int(session.keep),
            session.expires_at,
            int(session.temporary),
            session.queued,
            session.context,
        ),
    )


def find_session(session_id: str, lock: bool = False) -> Transaction[Session | None]:
    """Return the session with this ID, or None. `lock` it before its messages or generations are changed."""
    rows = yield (
        f"SELECT {SESSION} FROM session WHERE id = $1{' FOR UPDATE' if lock else ''}",
        (valid_id_or_empty(session_id),),
    )
    if not rows:
        return None
    check_is(rows[0][0], session_id)
    return read_session(rows[0])


def note_deletion(now: Microseconds) -> Statement:
    """Note that bytes of deleted rows are to be removed from the files; see `store.retention`."""
    return (
        "INSERT INTO agreement (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (DELETED, str(now)),
    )


def delete_session(session: Session, now: Microseconds) -> Transaction[Generation | None]:
    """Delete a session that is locked; return the generation that was running in it."""
    running: list[tuple[Any, ...]] = yield (
        f"SELECT {GENERATION} FROM generation g WHERE g.session_id = $1 AND g.status = 'running' FOR UPDATE",
        (session.id,),
    )
    if running:
        yield from run_each(count_answer(read_generation(running[0]).id, Outcome(Status.STOPPED), now))
    if session.owner is not None:
        yield from run_each(keep_usage(session.owner, session.id))
    messages_of = "SELECT id FROM message WHERE session_id = $1"
    generations_of = f"SELECT id FROM generation WHERE message_id IN ({messages_of})"
    yield f"DELETE FROM piece WHERE generation_id IN ({generations_of})", (session.id,)
    yield f"DELETE FROM generation WHERE message_id IN ({messages_of})", (session.id,)
    for table in ("message", "alias", "response", "queued_turn", "summary", "share"):
        yield f"DELETE FROM {table} WHERE session_id = $1", (session.id,)
    yield "DELETE FROM session WHERE id = $1", (session.id,)
    yield note_deletion(now)
    return read_generation(running[0]) if running else None
