"""The begin of a turn: its messages, an empty answer and a running generation, all or nothing."""

from __future__ import annotations

from dataclasses import replace

from chatapi.errors import IdempotencyMismatch, MessageNotFound, NothingToAnswer, SessionNotFound
from chatapi.model import Authorizer, Generation, Microseconds, Role, Session, Status, TurnRequest
from chatapi.store.drivers.driver import Statement, Together, Transaction
from chatapi.store.transactions.rows import GENERATION, Lease, NewIds, StartedTurn, each, read_generation
from chatapi.store.transactions.sessions import find_session, insert_session
from chatapi.store.transactions.tree import depth_under, insert_messages, name_messages, require_idle, resolve
from chatapi.titles import title_of


def begin(
    turn: TurnRequest, new: NewIds, permit: Authorizer, lease: Lease, now: Microseconds
) -> Transaction[StartedTurn]:
    """Add the turn's messages, an empty answer and a running generation; or find that the turn was begun before.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
        MessageNotFound: the session has no such message to hang the turn under.
        NothingToAnswer: the turn brings no message, and hangs under an answer or under nothing.
        IdempotencyMismatch: the idempotency key came with another request before.
    """
    if turn.idempotency_key is not None:
        repeated = yield from find_by_idempotency_key(turn)
        if repeated:
            return repeated
    found = yield from _session_of(turn, new)
    if found is None:
        session = Session(new.session, turn.owner, turn.developer_message or "", None, {}, None, 0, now, now)
        parent, depth = None, 0
    else:
        session = permit(found)
        yield from require_idle(session.id)
        parent = session.head if turn.parent is None else turn.parent or None
        depth = 0
        if parent is not None:
            depth, role = yield from depth_under(session.id, parent)
            if not turn.input and role is Role.ASSISTANT:
                raise NothingToAnswer
        elif not turn.input:
            raise NothingToAnswer
    session = replace(
        session,
        owner=turn.owner,
        developer_message=session.developer_message if turn.developer_message is None else turn.developer_message,
        given_title=session.given_title if session.given_title is not None else title_of(turn.input),
        head=new.answer,
        message_count=session.message_count + len(turn.input) + 1,
        updated_at=now,
    )
    generation = Generation(
        new.generation, session.id, new.answer, Status.RUNNING, turn.model, turn.dialect, now, replica=lease.replica
    )
    *earlier, last = insert_messages(session.id, parent, depth, turn.input, new.input, now, new.answer)
    yield from each([*earlier, *name_messages(turn.owner, session.id, turn.input, new.input)])
    yield Together(
        (
            insert_session(session) if found is None else _move_head(session),
            last,
            _insert_generation(turn, generation, lease),
            *_insert_dialect_data(turn, generation, parent),
        ),
        whole=found is None and turn.alias is None and turn.idempotency_key is None and not earlier,
    )
    return StartedTurn(session, generation, parent, input=new.input)


def _session_of(turn: TurnRequest, new: NewIds) -> Transaction[Session | None]:
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


def _move_head(session: Session) -> Statement:
    return (
        "UPDATE session SET owner = $2, developer_message = $3, title = $4, head = $5, message_count = $6, "
        "updated_at = $7 WHERE id = $1",
        (
            session.id,
            session.owner,
            session.developer_message,
            session.given_title,
            session.head,
            session.message_count,
            session.updated_at,
        ),
    )


def _insert_generation(turn: TurnRequest, generation: Generation, lease: Lease) -> Statement:
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


def _insert_dialect_data(turn: TurnRequest, generation: Generation, parent: str | None) -> list[Statement]:
    """Store the dialect's own data about the request, if there is any. The table is named after its first user."""
    if turn.dialect_data is None:
        return []
    return [
        (
            "INSERT INTO response (generation_id, session_id, parent, echo) VALUES ($1, $2, $3, $4)",
            (generation.id, generation.session_id, parent, turn.dialect_data),
        )
    ]


def find_by_idempotency_key(turn: TurnRequest) -> Transaction[StartedTurn | None]:
    """The turn that an earlier request with this idempotency key began, if one did.

    Raises:
        IdempotencyMismatch: that was another request.
    """
    rows = yield (
        f"SELECT {GENERATION}, g.digest FROM generation g WHERE g.owner = $1 AND g.idempotency_key = $2",
        (turn.owner, turn.idempotency_key),
    )
    if not rows:
        return None
    if rows[0][-1] != turn.digest:
        raise IdempotencyMismatch
    generation = read_generation(rows[0][:-1])
    session = yield from find_session(generation.session_id)
    if session is None:
        return None  # deleted since, and forgotten with it
    return StartedTurn(session, generation, repeated=True)
