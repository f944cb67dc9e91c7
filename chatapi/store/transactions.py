"""Every SQL statement of the product, one text for both databases.

`$1` parameters, RETURNING, ON CONFLICT; no JSON operators; time is an argument. What must hold together is one
transaction and has one name.

`FOR UPDATE` and its kin lock rows where writers run side by side; a driver with one writer leaves them out. Everybody
locks a session before its generations, so that no two wait for each other. Appending takes the weakest lock on a
generation and ending it the strongest: when a transaction that ends one has its lock, all of the log is visible, and
no more comes.

Every row that is read by an id is checked to be of that id: a connection that brings another's is broken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgspec

from chatapi.errors import (
    ContextTooLarge,
    IdempotencyMismatch,
    MessageNotFound,
    NothingToAnswer,
    SessionBusy,
    SessionNotFound,
    UpstreamRejectedKey,
)
from chatapi.log import contiguous, parts_of, pieces_of
from chatapi.model import (
    Alias,
    Call,
    Ending,
    Generation,
    Input,
    Kind,
    Media,
    Message,
    Microseconds,
    Part,
    Permit,
    Piece,
    Role,
    Session,
    Status,
    Turn,
    Usage,
)
from chatapi.store.driver import CrossedRows, Fenced, Statement, Together, Transaction

_SESSION = "id, owner, developer_message, title, metadata, head, message_count, created_at, updated_at"
_GENERATION = (
    "g.id, g.session_id, g.message_id, g.status, g.model, g.dialect, g.created_at, g.first_token_at, g.ended_at, "
    "g.length, g.finish_reason, g.usage, g.error_code, g.error_detail, g.replica"
)
_MESSAGE = "m.id, m.session_id, m.parent, m.depth, m.role, m.content, m.created_at"
_MESSAGE_COLUMNS = 7
PAGE_BYTES = 1024 * 1024  # of messages read at once, so that long ones do not make a page of 25 MB
SWEEP_AT_ONCE = 10  # generations closed in one transaction: each has up to `max_answer_bytes` of text


@dataclass(frozen=True, slots=True)
class NewIds:
    """The ids of all that a turn makes: `session` when it begins one, `input` for each message that it brings."""

    session: str
    input: tuple[str, ...]
    answer: str
    generation: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may append to a generation, and until when."""

    replica: str
    until: Microseconds


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that is committed. `parent` is the message before it; `repeated`: an earlier request began it already.

    `input` are the ids of the messages that it brought; a repeated one has none.
    """

    session: Session
    generation: Generation
    parent: str | None = None
    repeated: bool = False
    input: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A generation and what is committed of its log past some position."""

    generation: Generation
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Running:
    """A generation that this replica is to be producing, and whether somebody asked to stop it."""

    id: str
    stop_requested: bool


def _askable(id: str) -> str:
    """An id that a caller brings, as a statement takes it: one that can be no id of ours is the empty one, of no row.

    PostgreSQL refuses a NUL, and no driver takes half a character.
    """
    return id if _ID.fullmatch(id) else ""


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _check_is(found: Any, asked: Any) -> None:
    if found != asked:
        raise CrossedRows


def _session(row: tuple[Any, ...]) -> Session:
    values = list(row)
    values[4] = msgspec.json.decode(row[4])
    return Session(*values)


def _generation(row: tuple[Any, ...]) -> Generation:
    values = list(row)
    values[3] = Status(row[3])
    values[11] = msgspec.json.decode(row[11], type=Usage) if row[11] is not None else None
    return Generation(*values)


def _message(row: tuple[Any, ...]) -> Message:
    values, its_generation = list(row[:_MESSAGE_COLUMNS]), row[_MESSAGE_COLUMNS:]
    values[4] = Role(row[4])
    values[5] = decode_parts(row[5])
    values.append(_generation(its_generation) if its_generation[0] is not None else None)
    return Message(*values)


class _StoredPart(msgspec.Struct, omit_defaults=True):
    type: Kind
    text: str | None = None
    call_id: str | None = None
    name: str | None = None
    media: Media | None = None


_decode_parts = msgspec.json.Decoder(list[_StoredPart]).decode


def decode_parts(content: str) -> tuple[Part, ...]:
    """A message's content, from its column."""
    return tuple(
        Part(
            part.type,
            part.text or "",
            Call(part.call_id, part.name or "") if part.call_id is not None else None,
            part.media,
        )
        for part in _decode_parts(content)
    )


def encode_parts(parts: tuple[Part, ...]) -> str:
    """A message's content, for its column."""
    return _json([_stored_part(part) for part in parts])


def _stored_part(part: Part) -> _StoredPart:
    call_id, name = part.call or (None, None)
    return _StoredPart(part.kind, part.text, call_id, name, part.media)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# Sessions


def create_conversation(session: Session, input: tuple[Input, ...], ids: tuple[str, ...]) -> Transaction[Session]:
    """Add a session that is not there yet, with messages in it."""
    session = replace(session, head=ids[-1] if ids else None, message_count=len(ids))
    yield from create_session(session)
    yield from _each(_insert_messages(session.id, None, 0, input, ids, session.created_at))
    yield from _each(_name_messages(session.owner or "", session.id, input, ids))
    return session


def create_session(session: Session) -> Transaction[Session]:
    """Add a session that is not there yet."""
    yield _insert_session(session)
    return session


def _insert_session(session: Session) -> Statement:
    return (
        f"INSERT INTO session ({_SESSION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        (
            session.id,
            session.owner,
            session.developer_message,
            session.title,
            _json(session.metadata),
            session.head,
            session.message_count,
            session.created_at,
            session.updated_at,
        ),
    )


def find_session(session_id: str, lock: bool = False) -> Transaction[Session | None]:
    """The session of this id, if there is one."""
    rows = yield f"SELECT {_SESSION} FROM session WHERE id = $1{' FOR UPDATE' if lock else ''}", (_askable(session_id),)
    if not rows:
        return None
    _check_is(rows[0][0], session_id)
    return _session(rows[0])


def change_session(
    session_id: str,
    permit: Permit,
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
        yield from _require_idle(session_id)
        yield from _depth(session_id, head)
        head = yield from _leaf(session_id, head)
    changed = replace(
        session,
        head=session.head if head is None else head,
        developer_message=session.developer_message if developer_message is None else developer_message,
        title=session.title if title is None else title or None,
        metadata=session.metadata if metadata is None else metadata,
        updated_at=now,
    )
    yield (
        "UPDATE session SET developer_message = $2, title = $3, metadata = $4, head = $5, updated_at = $6 "
        "WHERE id = $1",
        (session_id, changed.developer_message, changed.title, _json(changed.metadata), changed.head, now),
    )
    return changed


def delete_session(session_id: str, permit: Permit) -> Transaction[Generation | None]:
    """Remove a session and all that is in it. Whoever still generates for it is fenced from here on, and returned."""
    permit((yield from find_session(session_id, lock=True)))
    running = yield (
        f"SELECT {_GENERATION} FROM generation g WHERE g.session_id = $1 AND g.status = 'running' FOR UPDATE",
        (session_id,),
    )
    messages_of = "SELECT id FROM message WHERE session_id = $1"
    generations_of = f"SELECT id FROM generation WHERE message_id IN ({messages_of})"
    yield f"DELETE FROM piece WHERE generation_id IN ({generations_of})", (session_id,)
    yield f"DELETE FROM generation WHERE message_id IN ({messages_of})", (session_id,)
    yield "DELETE FROM message WHERE session_id = $1", (session_id,)
    yield "DELETE FROM alias WHERE session_id = $1", (session_id,)
    yield "DELETE FROM response WHERE session_id = $1", (session_id,)
    yield "DELETE FROM session WHERE id = $1", (session_id,)
    return _generation(running[0]) if running else None


def count_sessions() -> Transaction[int]:
    """How many sessions there are."""
    rows = yield "SELECT count(*) FROM session", ()
    return int(rows[0][0])


def list_sessions(owner: str, before: tuple[int, str] | None, limit: int) -> Transaction[list[Session]]:
    """This owner's sessions that were created before `before` (time and id), the newest first."""
    at, session_id = before or (1 << 62, "")
    rows = yield (
        f"SELECT {_SESSION} FROM session WHERE owner = $1 AND (created_at < $2 OR (created_at = $2 AND id < $3)) "
        "ORDER BY created_at DESC, id DESC LIMIT $4",
        (owner, at, session_id, limit),
    )
    found = [_session(row) for row in rows]
    for session in found:
        _check_is(session.owner, owner)
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


# Turns


def begin(turn: Turn, new: NewIds, permit: Permit, lease: Lease, now: Microseconds) -> Transaction[Begun]:
    """Add the turn's messages, an empty answer and a running generation; or find that the turn was begun before.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
        MessageNotFound: the session has no such message to hang the turn under.
        NothingToAnswer: the turn brings no message, and hangs under an answer or under nothing.
        IdempotencyMismatch: the idempotency key came with another request before.
    """
    if turn.idempotency_key is not None:
        repeated = yield from begun_before(turn)
        if repeated:
            return repeated
    found = yield from _session_of(turn, new)
    if found is None:
        session = Session(new.session, turn.owner, turn.developer_message or "", None, {}, None, 0, now, now)
        parent, depth = None, 0
    else:
        session = permit(found)
        yield from _require_idle(session.id)
        parent = session.head if turn.parent is None else turn.parent or None
        depth = 0
        if parent is not None:
            depth, role = yield from _depth(session.id, parent)
            if not turn.input and role is Role.ASSISTANT:
                raise NothingToAnswer
        elif not turn.input:
            raise NothingToAnswer
    session = replace(
        session,
        owner=turn.owner,
        developer_message=session.developer_message if turn.developer_message is None else turn.developer_message,
        head=new.answer,
        message_count=session.message_count + len(turn.input) + 1,
        updated_at=now,
    )
    generation = Generation(
        new.generation, session.id, new.answer, Status.RUNNING, turn.model, turn.dialect, now, replica=lease.replica
    )
    *earlier, last = _insert_messages(session.id, parent, depth, turn.input, new.input, now, new.answer)
    yield from _each([*earlier, *_name_messages(turn.owner, session.id, turn.input, new.input)])
    yield Together(
        (
            _insert_session(session) if found is None else _move_head(session),
            last,
            _insert_generation(turn, generation, lease),
            *_insert_response(turn, generation, parent),
        ),
        whole=found is None and turn.alias is None and turn.idempotency_key is None and not earlier,
    )
    return Begun(session, generation, parent, input=new.input)


def _session_of(turn: Turn, new: NewIds) -> Transaction[Session | None]:
    """The session that a turn continues, or None where it begins one; its name, if it has one, is taken by then.

    Raises:
        SessionNotFound: there is no session of the id that it names.
        NothingToAnswer, MessageNotFound: it is not such that it can begin a session.
    """
    session_id = turn.session_id
    if session_id is None and turn.alias is not None:
        session_id = yield from resolve(turn.owner, turn.alias)
    if session_id is None:
        if not turn.input:
            raise NothingToAnswer
        if turn.parent:
            raise MessageNotFound
        if turn.alias is None:
            return None
        taken = yield (
            "INSERT INTO alias (owner, kind, name, session_id, target) VALUES ($1, $2, $3, $4, $4) "
            "ON CONFLICT (owner, kind, name) DO NOTHING RETURNING target",
            (turn.owner, turn.alias.kind, turn.alias.name, new.session),
        )
        if taken:
            return None
        session_id = yield from resolve(turn.owner, turn.alias)  # somebody was faster, and has committed
        if session_id is None:
            raise SessionNotFound  # and deleted it since
    session = yield from find_session(session_id, lock=True)
    if session is None:
        raise SessionNotFound
    return session


def _require_idle(session_id: str) -> Transaction[None]:
    running = yield "SELECT id FROM generation WHERE session_id = $1 AND status = 'running'", (session_id,)
    if running:
        raise SessionBusy(running[0][0])


def _depth(session_id: str, parent: str) -> Transaction[tuple[int, Role]]:
    """The depth of what hangs under this message, and the message's role.

    Raises:
        MessageNotFound: the session has no such message.
    """
    rows = yield "SELECT depth + 1, role FROM message WHERE id = $1 AND session_id = $2", (_askable(parent), session_id)
    if not rows:
        raise MessageNotFound
    return rows[0][0], Role(rows[0][1])


def _leaf(session_id: str, message_id: str) -> Transaction[str]:
    """The end of the path that goes on from a message by the newest one after each, however long it is."""
    rows = yield (
        "WITH RECURSIVE walk (id, step) AS (SELECT id, 0 FROM message WHERE id = $2 UNION ALL "
        "SELECT (SELECT m.id FROM message m WHERE m.session_id = $1 AND m.parent = w.id "
        "ORDER BY m.created_at DESC, m.id DESC LIMIT 1), w.step + 1 FROM walk w WHERE w.id IS NOT NULL) "
        "SELECT id FROM walk WHERE id IS NOT NULL ORDER BY step DESC LIMIT 1",
        (session_id, message_id),
    )
    return str(rows[0][0])


MESSAGES_A_STATEMENT = 32


def _insert_messages(
    session_id: str,
    parent: str | None,
    depth: int,
    input: tuple[Input, ...],
    ids: tuple[str, ...],
    now: Microseconds,
    answer: str | None = None,
) -> list[Statement]:
    """Add messages one under the other, and an empty answer under the last, if one is named; nearly always at once."""
    rows: list[tuple[Any, ...]] = []
    for message, message_id in zip(input, ids, strict=True):
        rows.append((message_id, session_id, parent, depth, message.role, encode_parts(message.parts), now))
        parent, depth = message_id, depth + 1
    if answer is not None:
        rows.append((answer, session_id, parent, depth, Role.ASSISTANT, "[]", now))
    lots = [rows[first : first + MESSAGES_A_STATEMENT] for first in range(0, len(rows), MESSAGES_A_STATEMENT)]
    return [(_insert_rows(len(lot)), tuple(value for row in lot for value in row)) for lot in lots]


def _each(statements: list[Statement]) -> Transaction[None]:
    for statement in statements:  # noqa: UP028  # rows are sent here, which a list's own iterator does not take
        yield statement


@cache
def _insert_rows(count: int) -> str:
    rows = ", ".join(
        "(" + ", ".join(f"${number}" for number in range(first, first + _MESSAGE_COLUMNS)) + ")"
        for first in range(1, 1 + _MESSAGE_COLUMNS * count, _MESSAGE_COLUMNS)
    )
    return f"INSERT INTO message (id, session_id, parent, depth, role, content, created_at) VALUES {rows}"


def _name_messages(owner: str, session_id: str, input: tuple[Input, ...], ids: tuple[str, ...]) -> list[Statement]:
    """Let the owner's names stand for messages; the newest wins, as a client that repeats itself expects."""
    return [
        (
            "INSERT INTO alias (owner, kind, name, session_id, target) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (owner, kind, name) DO UPDATE SET session_id = excluded.session_id, target = excluded.target",
            (owner, message.alias.kind, message.alias.name, session_id, message_id),
        )
        for message, message_id in zip(input, ids, strict=True)
        if message.alias is not None
    ]


def add_messages(
    session_id: str,
    owner: str,
    permit: Permit,
    input: tuple[Input, ...],
    ids: tuple[str, ...],
    now: Microseconds,
) -> Transaction[Session]:
    """Add messages at the session's head, without asking for an answer.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    yield from _require_idle(session_id)
    depth = 0
    if session.head is not None:
        depth, _ = yield from _depth(session_id, session.head)
    yield from _each(_insert_messages(session_id, session.head, depth, input, ids, now))
    yield from _each(_name_messages(owner, session_id, input, ids))
    changed = replace(
        session,
        head=ids[-1] if ids else session.head,
        message_count=session.message_count + len(ids),
        updated_at=now,
    )
    yield (
        "UPDATE session SET head = $2, message_count = $3, updated_at = $4 WHERE id = $1",
        (session_id, changed.head, changed.message_count, now),
    )
    return changed


# Taking messages out


def remove_message(session_id: str, message_id: str, permit: Permit, now: Microseconds) -> Transaction[Session]:
    """Take a message out of the tree: what hung under it hangs under its parent from now on.

    Raises:
        SessionNotFound: not this caller's, or not there.
        MessageNotFound: the session has no such message.
        SessionBusy: the session has a running generation.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    yield from _require_idle(session_id)
    rows = yield "SELECT parent FROM message WHERE id = $1 AND session_id = $2", (message_id, session_id)
    if not rows:
        raise MessageNotFound
    parent = rows[0][0]
    yield from _take_out(session_id, message_id, parent, 1)
    head = parent if session.head == message_id else session.head
    return (yield from _shrink(session, 1, head, now))


def remove_answer(generation_id: str, permit: Permit, now: Microseconds) -> Transaction[None]:
    """Take an answer and its question out of the tree, and the session too where nothing is left of it.

    A question to which there is another answer stays. What hung under the answer hangs under the turn's parent from now
    on.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
    """
    generation = yield from find_generation(generation_id)
    session = permit((yield from find_session(generation.session_id, lock=True)) if generation is not None else None)
    yield from _require_idle(session.id)
    if generation is None or (yield from find_generation(generation_id)) is None:
        raise SessionNotFound  # somebody was faster
    input = yield from input_of(generation_id)
    if input:
        parent = input[0].parent
    else:
        rows = yield "SELECT parent FROM message WHERE id = $1", (generation.message_id,)
        parent = rows[0][0]
    yield from _take_out(session.id, generation.message_id, parent, len(input) + 1)
    removed, head = 1, session.head
    if head == generation.message_id:
        head = input[-1].id if input else parent
    for message in reversed(input):
        kept = yield "SELECT 1 FROM message WHERE session_id = $1 AND parent = $2 LIMIT 1", (session.id, message.id)
        if kept:
            break
        yield from _take_out(session.id, message.id, message.parent, 1)
        removed += 1
        head = message.parent if head == message.id else head
    if removed == session.message_count:
        yield from delete_session(session.id, permit)
        return
    if head is not None:
        head = yield from _leaf(session.id, head)
    yield from _shrink(session, removed, head, now)


def _take_out(session_id: str, message_id: str, parent: str | None, depths: int) -> Transaction[None]:
    """Remove one message, its generation and its names; what hangs under it comes up by so many depths."""
    yield (
        "WITH RECURSIVE below (id) AS (SELECT id FROM message WHERE session_id = $1 AND parent = $2 "
        "UNION ALL SELECT m.id FROM message m JOIN below b ON m.session_id = $1 AND m.parent = b.id) "
        "UPDATE message SET depth = depth - $3 WHERE id IN (SELECT id FROM below)",
        (session_id, message_id, depths),
    )
    yield (
        "UPDATE message SET parent = $3 WHERE session_id = $1 AND parent = $2",
        (session_id, message_id, parent),
    )
    yield "UPDATE response SET parent = $3 WHERE session_id = $1 AND parent = $2", (session_id, message_id, parent)
    of_message = "generation_id IN (SELECT id FROM generation WHERE message_id = $1)"
    yield f"DELETE FROM response WHERE {of_message}", (message_id,)
    yield f"DELETE FROM piece WHERE {of_message}", (message_id,)
    yield "DELETE FROM generation WHERE message_id = $1", (message_id,)
    yield "DELETE FROM alias WHERE session_id = $1 AND target = $2", (session_id, message_id)
    yield "DELETE FROM message WHERE id = $1 AND session_id = $2", (message_id, session_id)


def _shrink(session: Session, removed: int, head: str | None, now: Microseconds) -> Transaction[Session]:
    changed = replace(session, head=head, message_count=session.message_count - removed, updated_at=now)
    yield (
        "UPDATE session SET head = $2, message_count = $3, updated_at = $4 WHERE id = $1",
        (session.id, changed.head, changed.message_count, now),
    )
    return changed


# Aliases


def resolve(owner: str, alias: Alias) -> Transaction[str | None]:
    """What the owner's name stands for, if it stands for anything."""
    rows = yield (
        "SELECT target FROM alias WHERE owner = $1 AND kind = $2 AND name = $3",
        (owner, alias.kind, alias.name),
    )
    return str(rows[0][0]) if rows else None


def _move_head(session: Session) -> Statement:
    return (
        "UPDATE session SET owner = $2, developer_message = $3, head = $4, message_count = $5, updated_at = $6 "
        "WHERE id = $1",
        (
            session.id,
            session.owner,
            session.developer_message,
            session.head,
            session.message_count,
            session.updated_at,
        ),
    )


def _insert_generation(turn: Turn, generation: Generation, lease: Lease) -> Statement:
    return (
        "INSERT INTO generation (id, session_id, message_id, status, replica, lease_until, model, dialect, owner, "
        "idempotency_key, digest, created_at) VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8, $9, $10, $11)",
        (
            generation.id,
            generation.session_id,
            generation.message_id,
            lease.replica,
            lease.until,
            turn.model,
            turn.dialect,
            turn.owner,
            turn.idempotency_key,
            turn.digest,
            generation.created_at,
        ),
    )


def _insert_response(turn: Turn, generation: Generation, parent: str | None) -> list[Statement]:
    """What a Responses client asked with, if one asks."""
    if turn.echo is None:
        return []
    return [
        (
            "INSERT INTO response (generation_id, session_id, parent, echo) VALUES ($1, $2, $3, $4)",
            (generation.id, generation.session_id, parent, turn.echo),
        )
    ]


def begun_before(turn: Turn) -> Transaction[Begun | None]:
    """The turn that an earlier request with this idempotency key began, if one did.

    Raises:
        IdempotencyMismatch: that was another request.
    """
    rows = yield (
        f"SELECT {_GENERATION}, g.digest FROM generation g WHERE g.owner = $1 AND g.idempotency_key = $2",
        (turn.owner, turn.idempotency_key),
    )
    if not rows:
        return None
    if rows[0][-1] != turn.digest:
        raise IdempotencyMismatch
    generation = _generation(rows[0][:-1])
    session = yield from find_session(generation.session_id)
    if session is None:
        return None  # deleted since, and forgotten with it
    return Begun(session, generation, repeated=True)


@cache
def append(pieces: int) -> str:
    """The statement that appends so many pieces: $1 is the replica, then six values a piece.

    The guard is inside: nothing is written to a generation that is not running, or not this replica's.
    """
    rows = ", ".join(
        "(" + ", ".join(f"${number}" for number in range(first, first + 6)) + ")"
        for first in range(2, 2 + 6 * pieces, 6)
    )
    return (
        "INSERT INTO piece (generation_id, position, part, kind, text, call) "
        f"SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6 FROM (VALUES {rows}) AS v "
        "JOIN generation g ON g.id = v.column1 WHERE g.status = 'running' AND g.replica = $1 "
        "ON CONFLICT (generation_id, position) DO NOTHING"
    )


APPEND_ARRAYS = (  # PostgreSQL's, with an array for each column, $2 to $7: one text for any number of pieces
    # A generation that somebody has locked is passed over: its text comes with the next commit, or is fenced by then,
    # and the text of all others does not wait. Returns the ids of those whose pieces are stored.
    "WITH g AS (SELECT id FROM generation WHERE id = ANY($2::text[]) AND status = 'running' AND replica = $1 "
    "ORDER BY id FOR KEY SHARE SKIP LOCKED), stored AS ("
    "INSERT INTO piece (generation_id, position, part, kind, text, call) "
    "SELECT v.* FROM unnest($2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[]) "
    "AS v (generation_id, position, part, kind, text, call) JOIN g ON g.id = v.generation_id "
    "ON CONFLICT (generation_id, position) DO NOTHING) "
    "SELECT id FROM g"
)

IDS_A_STATEMENT = 64  # named in one statement; shorter lists are filled up, so that there is one text for all of them


def by_size(ids: list[str]) -> list[list[str]]:
    """`ids` in lists of `IDS_A_STATEMENT`; the last one is filled up with its last id."""
    lists = [ids[first : first + IDS_A_STATEMENT] for first in range(0, len(ids), IDS_A_STATEMENT)]
    return [some + some[-1:] * (IDS_A_STATEMENT - len(some)) for some in lists]


def _id_parameters(first: int) -> str:
    return ", ".join(f"${number}" for number in range(first, first + IDS_A_STATEMENT))


def still_ours(generation_ids: list[str], replica: str) -> Transaction[set[str]]:
    """Those of the generations to which this replica may append."""
    ours: set[str] = set()
    for some in by_size(generation_ids):
        rows = yield (
            f"SELECT id FROM generation WHERE id IN ({_id_parameters(2)}) AND status = 'running' AND replica = $1",
            (replica, *some),
        )
        ours.update(row[0] for row in rows)
    return ours


def finish(
    generation_id: str,
    replica: str,
    ending: Ending,
    parts: tuple[Part, ...],
    first_token_at: Microseconds | None,
    now: Microseconds,
) -> Transaction[Generation]:
    """End a generation: join its log into its message, and give it its last status.

    An ending that was stored, and whose storing was not told, is found and returned.

    Raises:
        Fenced: it is no longer this replica's to end.
    """
    rows = yield (
        f"SELECT {_GENERATION} FROM session s JOIN generation g ON g.session_id = s.id WHERE g.id = $1 "
        "FOR UPDATE OF s, g",
        (generation_id,),
    )
    found = _generation(rows[0]) if rows else None
    if found is None or found.replica != replica:
        raise Fenced
    _check_is(found.id, generation_id)
    if found.status is Status.RUNNING:
        return (yield from _end(found, ending, parts, first_token_at, now))
    if (found.status, found.length) != (ending.status, _length(parts)):
        raise Fenced
    return found


def _length(parts: tuple[Part, ...]) -> int:
    return sum(len(part.text.encode()) for part in parts)


def _end(
    generation: Generation,
    ending: Ending,
    parts: tuple[Part, ...],
    first_token_at: Microseconds | None,
    now: Microseconds,
) -> Transaction[Generation]:
    """End a generation that is running, and whose row is locked."""
    usage = _json(ending.usage) if ending.usage is not None else None
    end = (
        "UPDATE generation AS g SET status = $2, finish_reason = $3, usage = $4, error_code = $5, error_detail = $6, "
        "length = $7, first_token_at = $8, ended_at = $9 WHERE g.id = $1 AND g.status = 'running' "
        f"RETURNING {_GENERATION.replace('g.', '')}",
        (
            generation.id,
            ending.status,
            ending.finish_reason,
            usage,
            ending.error_code,
            ending.error_detail,
            _length(parts),
            first_token_at,
            now,
        ),
    )
    rows = yield Together(
        (
            end,
            ("UPDATE message SET content = $2 WHERE id = $1", (generation.message_id, encode_parts(parts))),
            ("DELETE FROM piece WHERE generation_id = $1", (generation.id,)),
            ("UPDATE session SET updated_at = $2 WHERE id = $1", (generation.session_id, now)),
        )
    )
    if ending.error_code == UpstreamRejectedKey.code:
        yield from _unbind(generation.session_id)
    return _generation(rows[0])


def _unbind(session_id: str) -> Transaction[None]:
    """Free a session in which no key was ever accepted: a key that the upstream does not know owns nothing."""
    yield (
        "UPDATE session SET owner = NULL WHERE id = $1 AND NOT EXISTS "
        "(SELECT 1 FROM message m JOIN generation g ON g.message_id = m.id "
        "WHERE m.session_id = $1 AND (g.error_code IS NULL OR g.error_code <> $2))",
        (session_id, UpstreamRejectedKey.code),
    )


def renew(generation_ids: list[str], lease: Lease) -> Transaction[None]:
    """Extend this replica's leases on these generations, one list of `by_size`."""
    yield (
        f"UPDATE generation SET lease_until = $2 WHERE id IN ({_id_parameters(3)}) AND status = 'running' "
        "AND replica = $1",
        (lease.replica, lease.until, *generation_ids),
    )


def sweep(lapsed_before: int, now: Microseconds) -> Transaction[list[Generation]]:
    """Close generations whose lease has lapsed as interrupted, with the text they had; so many at once.

    One that another sweeper, or its own writer, has in hand just now is passed over.
    """
    rows = yield (
        f"SELECT {_GENERATION} FROM session s JOIN generation g ON g.session_id = s.id "
        "WHERE g.status = 'running' AND g.lease_until < $1 LIMIT $2 FOR UPDATE OF s, g SKIP LOCKED",
        (lapsed_before, SWEEP_AT_ONCE),
    )
    closed = []
    for generation in map(_generation, rows):
        pieces = yield from _pieces(generation.id, 0)
        ending = Ending(Status.INTERRUPTED, error_code="interrupted")
        closed.append((yield from _end(generation, ending, parts_of(pieces), None, now)))
    return closed


def request_stop(generation_id: str) -> Transaction[str | None]:
    """Leave word that somebody wants it stopped; the replica that will find it, or None when nothing runs."""
    rows = yield (
        "UPDATE generation SET stop_requested = 1 WHERE id = $1 AND status = 'running' RETURNING replica",
        (generation_id,),
    )
    return str(rows[0][0]) if rows else None


def running_of(replica: str) -> Transaction[list[Running]]:
    """What this replica is to be producing."""
    rows = yield "SELECT id, stop_requested FROM generation WHERE replica = $1 AND status = 'running'", (replica,)
    return [Running(generation_id, bool(stop_requested)) for generation_id, stop_requested in rows]


# Reading


def encode_call(call: Call | None) -> str | None:
    """A piece's call, for its column."""
    return None if call is None else _json(call)


def decode_call(call: str | None) -> Call | None:
    """A piece's call, from its column."""
    return None if call is None else msgspec.json.decode(call, type=Call)


def _pieces(generation_id: str, position: int) -> Transaction[list[Piece]]:
    """The stored text past `position`."""
    rows = yield (
        "SELECT generation_id, position, part, kind, text, call FROM piece WHERE generation_id = $1 AND position > $2 "
        "ORDER BY position",
        (generation_id, position),
    )
    return contiguous([_piece(row, generation_id) for row in rows], position)


def _piece(row: tuple[Any, ...], generation_id: str) -> Piece:
    found, end, part, kind, text, call = row
    _check_is(found, generation_id)
    return Piece(end, part, Kind(kind), text.encode(), decode_call(call))


def read_log(generation_id: str, position: int) -> Transaction[StoredLog | None]:
    """A generation and its log past `position`: from its message when it has ended, from its pieces before.

    One statement, so that it is one state without a transaction around it: readers on other replicas repeat it.
    """
    rows = yield (
        f"SELECT p.generation_id, p.position, p.part, p.kind, p.text, p.call, m.content, {_GENERATION} "
        "FROM generation g JOIN message m ON m.id = g.message_id "
        "LEFT JOIN piece p ON p.generation_id = g.id AND p.position > $2 WHERE g.id = $1 ORDER BY p.position",
        (generation_id, position),
    )
    if not rows:
        return None
    content, generation = rows[0][6], _generation(rows[0][7:])
    _check_is(generation.id, generation_id)
    if generation.status is not Status.RUNNING:
        return StoredLog(generation, pieces_of(decode_parts(content), position))
    stored = [_piece(row[:6], generation_id) for row in rows if row[0] is not None]
    return StoredLog(generation, contiguous(stored, position))


def find_generation(generation_id: str) -> Transaction[Generation | None]:
    """The generation of this id, if there is one."""
    rows = yield f"SELECT {_GENERATION} FROM generation g WHERE g.id = $1", (_askable(generation_id),)
    if not rows:
        return None
    _check_is(rows[0][0], generation_id)
    return _generation(rows[0])


def latest_generation(session_id: str) -> Transaction[Generation | None]:
    """The generation of the session's last answer, running or not."""
    rows = yield (
        f"SELECT {_GENERATION} FROM session s JOIN generation g ON g.message_id = s.head WHERE s.id = $1 "
        "ORDER BY g.created_at DESC LIMIT 1",
        (session_id,),
    )
    if not rows:
        return None
    generation = _generation(rows[0])
    _check_is(generation.session_id, session_id)
    return generation


_PATH = (
    "WITH RECURSIVE path (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 "
    "UNION ALL SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent)"
)


_SAID = (  # the path, and for each message whether its turn's answer has content, or is still to come
    "WITH RECURSIVE path (id, parent, said) AS "
    "(SELECT id, parent, role <> 'assistant' OR content <> '[]' FROM message WHERE id = $1 "
    "UNION ALL SELECT m.id, m.parent, CASE m.role WHEN 'assistant' THEN m.content <> '[]' ELSE p.said END "
    "FROM message m JOIN path p ON m.id = p.parent) "
)
_TOLD = "FROM path p JOIN message m ON m.id = p.id WHERE p.said OR m.role = 'tool'"


def context(session_id: str, head: str, most_bytes: int) -> Transaction[list[Input]]:
    """What was said on the path that ends in `head`, in order; `context.for_upstream` makes of it what is sent.

    A turn whose answer says nothing (it was refused, or stopped before its first word) is left out with its question:
    here, before its text is read. What tools gave is kept: nobody may send it again.

    Raises:
        ContextTooLarge: it is more than `most_bytes`.
    """
    size = yield f"{_SAID}SELECT sum(length(m.content)) {_TOLD}", (head,)
    if (size[0][0] or 0) > most_bytes:
        raise ContextTooLarge
    rows = yield f"{_SAID}SELECT m.role, m.content, m.session_id {_TOLD} ORDER BY m.depth", (head,)
    said = []
    for role, content, found in rows:
        _check_is(found, session_id)
        said.append(Input(Role(role), decode_parts(content)))
    return said


def find_echo(generation_id: str) -> Transaction[str | None]:
    """What the response of this generation says of its request, if it was asked for through OpenAI's Responses."""
    rows = yield "SELECT generation_id, echo FROM response WHERE generation_id = $1", (generation_id,)
    if not rows:
        return None
    _check_is(rows[0][0], generation_id)
    return str(rows[0][1])


_INPUT = (  # the messages between an answer and the one under which its turn hangs, at this depth, or the last answer
    "WITH RECURSIVE path (id, parent) AS "
    "(SELECT id, parent FROM message WHERE id = $1 AND depth > $2 AND (role <> 'assistant' OR $3 = 1) UNION ALL "
    "SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent "
    "WHERE m.depth > $2 AND (m.role <> 'assistant' OR $3 = 1)) "
)


def input_of(generation_id: str) -> Transaction[list[Message]]:
    """The messages to which this generation's answer is the answer: those of its turn, the first first."""
    rows = yield (
        "SELECT m.parent, m.session_id, r.generation_id, p.depth FROM generation g "
        "JOIN message m ON m.id = g.message_id LEFT JOIN response r ON r.generation_id = g.id "
        "LEFT JOIN message p ON p.id = r.parent WHERE g.id = $1",
        (generation_id,),
    )
    if not rows:
        raise SessionNotFound
    last, session_id, known, depth = rows[0]
    rows = yield (
        f"{_INPUT} SELECT {_MESSAGE}, {_GENERATION} FROM path JOIN message m ON m.id = path.id "
        "LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth",
        (last, -1 if depth is None else depth, int(known is not None)),
    )
    found = [_message(row) for row in rows]
    for message in found:
        _check_is(message.session_id, session_id)
    return found


def find_message(session_id: str, message_id: str) -> Transaction[Message | None]:
    """The message of this id in this session, with its generation and without its siblings."""
    rows = yield (
        f"SELECT {_MESSAGE}, {_GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id "
        "WHERE m.id = $1 AND m.session_id = $2",
        (_askable(message_id), session_id),
    )
    return (yield from _with_log(_message(rows[0]))) if rows else None


def _with_log(message: Message) -> Transaction[Message]:
    """A message whose answer still runs, with what is committed of it."""
    if message.generation is None or message.generation.status is not Status.RUNNING:
        return message
    return replace(message, parts=parts_of((yield from _pieces(message.generation.id, 0))))


def answer_run(session_id: str, message_id: str) -> Transaction[list[Message]]:
    """The answers and results of tools that follow each other without a user between them: those above this message,
    itself, and the newest below it.

    Raises:
        MessageNotFound: the session has no such message.
    """
    rows = yield (
        "WITH RECURSIVE run (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 AND session_id = $2 "
        "UNION ALL SELECT m.id, m.parent FROM message m JOIN run r ON m.id = r.parent "
        f"WHERE m.role IN ('assistant', 'tool')) SELECT {_MESSAGE}, {_GENERATION} FROM run "
        "JOIN message m ON m.id = run.id LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth",
        (message_id, session_id),
    )
    if not rows:
        raise MessageNotFound
    run = []
    for row in rows:
        message = _message(row)
        _check_is(message.session_id, session_id)
        run.append((yield from _with_log(message)))
    while rows := (
        yield (
            f"SELECT {_MESSAGE}, {_GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id "
            "WHERE m.session_id = $1 AND m.parent = $2 AND m.role IN ('assistant', 'tool') "
            "ORDER BY m.created_at DESC, m.id DESC LIMIT 1",
            (session_id, run[-1].id),
        )
    ):
        run.append((yield from _with_log(_message(rows[0]))))
    return run


def _siblings(session_id: str, messages: list[Message]) -> Transaction[dict[str | None, list[str]]]:
    """The ids of all messages that have the same parents as these, by parent, the oldest first."""
    found: dict[str | None, list[str]] = {}
    for some in by_size([message.parent for message in messages if message.parent is not None]):
        rows = yield (
            f"SELECT DISTINCT parent, created_at, id FROM message WHERE session_id = $1 AND parent IN "
            f"({_id_parameters(2)}) ORDER BY created_at, id",
            (session_id, *some),
        )
        for parent, _, message_id in rows:
            found.setdefault(parent, []).append(message_id)
    if any(message.parent is None for message in messages):
        rows = yield (
            "SELECT id FROM message WHERE session_id = $1 AND parent IS NULL ORDER BY created_at, id",
            (session_id,),
        )
        found[None] = [row[0] for row in rows]
    return found


def messages(session_id: str, after_depth: int, limit: int) -> Transaction[list[Message]]:
    """The messages of the session's active path that are deeper than `after_depth`, the first first.

    At most `limit`, and at most about `PAGE_BYTES`, but one in any case.
    """
    session = yield from find_session(session_id)
    if session is None:
        raise SessionNotFound
    rows = yield (
        f"{_PATH}, page (id, before) AS "
        "(SELECT m.id, sum(length(m.content)) OVER (ORDER BY m.depth) - length(m.content) "
        "FROM path p JOIN message m ON m.id = p.id WHERE m.depth > $2) "
        f"SELECT {_MESSAGE}, {_GENERATION} FROM page JOIN message m ON m.id = page.id "
        "LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= $4 ORDER BY m.depth LIMIT $3",
        (session.head, after_depth, limit, PAGE_BYTES),
    )
    found = []
    for row in rows:
        message = _message(row)
        _check_is(message.session_id, session_id)
        found.append((yield from _with_log(message)))
    siblings = yield from _siblings(session_id, found)
    return [replace(message, siblings=tuple(siblings[message.parent])) for message in found]


def messages_before(session_id: str, before_depth: int, limit: int) -> Transaction[list[Message]]:
    """The messages of the session's active path that are less deep than `before_depth`, the last first.

    At most `limit`, and at most about `PAGE_BYTES`, but one in any case.
    """
    session = yield from find_session(session_id)
    if session is None:
        raise SessionNotFound
    rows = yield (
        f"{_PATH}, page (id, before) AS "
        "(SELECT m.id, sum(length(m.content)) OVER (ORDER BY m.depth DESC) - length(m.content) "
        "FROM path p JOIN message m ON m.id = p.id WHERE m.depth < $2) "
        f"SELECT {_MESSAGE}, {_GENERATION} FROM page JOIN message m ON m.id = page.id "
        "LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= $4 ORDER BY m.depth DESC LIMIT $3",
        (session.head, before_depth, limit, PAGE_BYTES),
    )
    found = []
    for row in rows:
        message = _message(row)
        _check_is(message.session_id, session_id)
        found.append((yield from _with_log(message)))
    return found
