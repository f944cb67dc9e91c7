"""Sessions: make, find, change, list and delete them; and what all that open a database must agree on."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from chatapi.model import Authorizer, Generation, Microseconds, NewMessage, Outcome, Session, Status
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.transactions.rows import (
    GENERATION,
    SESSION,
    check_is,
    each,
    encode_json,
    read_generation,
    read_session,
    valid_id_or_empty,
)
from chatapi.store.transactions.tree import depth_under, insert_messages, leaf_of, name_messages, require_idle
from chatapi.store.transactions.usage import count_answer, fold_usage
from chatapi.titles import title_of

SessionTime = Literal["created_at", "updated_at"]
"""By which time sessions are listed: an index has each."""


def create_conversation(session: Session, input: tuple[NewMessage, ...], ids: tuple[str, ...]) -> Transaction[Session]:
    """Add a session that is not there yet, with messages in it."""
    session = replace(session, given_title=title_of(input), head=ids[-1] if ids else None, message_count=len(ids))
    yield from create_session(session)
    yield from each(insert_messages(session.id, None, 0, input, ids, session.created_at))
    yield from each(name_messages(session.owner or "", session.id, input, ids))
    return session


def create_session(session: Session) -> Transaction[Session]:
    """Add a session that is not there yet."""
    yield insert_session(session)
    return session


def insert_session(session: Session) -> Statement:
    """Add a session that is not there yet."""
    return (
        f"INSERT INTO session ({SESSION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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
        ),
    )


def find_session(session_id: str, lock: bool = False) -> Transaction[Session | None]:
    """The session of this id, if there is one."""
    rows = yield (
        f"SELECT {SESSION} FROM session WHERE id = $1{' FOR UPDATE' if lock else ''}",
        (valid_id_or_empty(session_id),),
    )
    if not rows:
        return None
    check_is(rows[0][0], session_id)
    return read_session(rows[0])


def change_session(
    session_id: str,
    permit: Authorizer,
    now: Microseconds,
    developer_message: str | None,
    title: str | None,
    metadata: dict[str, str] | None,
    head: str | None,
) -> Transaction[Session]:
    """Set what is not None; an empty title takes the title away.

    `head` names a message: the active path goes through it, and from there on by the newest message after each.

    Raises:
        SessionNotFound: not this caller's, or not there.
        MessageNotFound: the session has no message `head`.
        SessionBusy: the path cannot be changed while it is being written.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    if head is not None:
        yield from require_idle(session_id)
        yield from depth_under(session_id, head)
        head = yield from leaf_of(session_id, head)
    changed = replace(
        session,
        head=session.head if head is None else head,
        developer_message=session.developer_message if developer_message is None else developer_message,
        given_title=session.given_title if title is None else title,
        metadata=session.metadata if metadata is None else metadata,
        updated_at=now,
    )
    yield (
        "UPDATE session SET developer_message = $2, title = $3, metadata = $4, head = $5, updated_at = $6 "
        "WHERE id = $1",
        (session_id, changed.developer_message, changed.given_title, encode_json(changed.metadata), changed.head, now),
    )
    return changed


def delete_session(session_id: str, permit: Authorizer, now: Microseconds) -> Transaction[Generation | None]:
    """Remove a session and all that is in it, but for what it cost.

    Whoever still generates for it is fenced from here on, and returned: how many tokens that took is not known.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    running = yield (
        f"SELECT {GENERATION} FROM generation g WHERE g.session_id = $1 AND g.status = 'running' FOR UPDATE",
        (session_id,),
    )
    if running:
        yield count_answer(read_generation(running[0]).id, Outcome(Status.STOPPED), now)
    if session.owner is not None:
        yield from each(fold_usage(session.owner, session_id))
    messages_of = "SELECT id FROM message WHERE session_id = $1"
    generations_of = f"SELECT id FROM generation WHERE message_id IN ({messages_of})"
    yield f"DELETE FROM piece WHERE generation_id IN ({generations_of})", (session_id,)
    yield f"DELETE FROM generation WHERE message_id IN ({messages_of})", (session_id,)
    yield "DELETE FROM message WHERE session_id = $1", (session_id,)
    yield "DELETE FROM alias WHERE session_id = $1", (session_id,)
    yield "DELETE FROM response WHERE session_id = $1", (session_id,)
    yield "DELETE FROM session WHERE id = $1", (session_id,)
    return read_generation(running[0]) if running else None


def count_sessions() -> Transaction[int]:
    """How many sessions there are."""
    rows = yield "SELECT count(*) FROM session", ()
    return int(rows[0][0])


def list_sessions(
    owner: str, before: tuple[int, str] | None, limit: int, by: SessionTime = "created_at"
) -> Transaction[list[Session]]:
    """This owner's sessions that were created, or last used, before `before` (time and id), the newest first."""
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


def probe(replica: str) -> Transaction[None]:
    """Write something and take it back, to see whether writing works. A row set to what it is would write nothing.

    Each replica has its own row: one that stands still with it holds up no other.
    """
    yield "INSERT INTO piece (generation_id, position, part, kind, text) VALUES ($1, 0, 0, '', '')", (replica,)
    yield "DELETE FROM piece WHERE generation_id = $1", (replica,)


def agree(name: str, value: str) -> Transaction[bool]:
    """Whether this is the value that the first to ask brought."""
    yield "INSERT INTO agreement (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", (name, value)
    rows = yield "SELECT value FROM agreement WHERE name = $1", (name,)
    return bool(rows[0][0] == value)
