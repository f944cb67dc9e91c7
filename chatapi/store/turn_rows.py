"""The rows of a turn that begins: its generation, and its session."""

from __future__ import annotations

from msgspec.structs import replace

from chatapi.errors import IdempotencyMismatch
from chatapi.model import Generation, Microseconds, Session, TurnRequest
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.rows import GENERATION, read_generation
from chatapi.store.sessions import find_session
from chatapi.store.values import Lease, StartedTurn
from chatapi.titles import title_of


def continue_session(
    session: Session, turn: TurnRequest, head: str, added: int, now: Microseconds, *, size: int = 0, dequeued: int = 0
) -> Session:
    """Return the session with a turn: so many messages of `size` bytes, of which `dequeued` turns had waited."""
    developer_message = turn.developer_message
    return replace(
        session,
        owner=turn.owner,
        developer_message=session.developer_message if developer_message is None else developer_message,
        given_title=session.given_title if session.given_title is not None else title_of(turn.input),
        head=head,
        message_count=session.message_count + added,
        updated_at=now,
        content_bytes=max(0, session.content_bytes + size),  # a shorter developer message makes it smaller
        queued=session.queued - dequeued,
    )


def update_session(session: Session) -> Statement:
    """Update the columns that a turn changes."""
    return (
        "UPDATE session SET owner = $2, developer_message = $3, title = $4, head = $5, message_count = $6, "
        "updated_at = $7, content_bytes = $8 WHERE id = $1",
        (
            session.id,
            session.owner,
            session.developer_message,
            session.given_title,
            session.head,
            session.message_count,
            session.updated_at,
            session.content_bytes,
        ),
    )


def find_started(turn: TurnRequest) -> Transaction[StartedTurn | None]:
    """Return the turn that an earlier request with this idempotency key began, or None.

    Raises:
        IdempotencyMismatch: That was another request.
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
        return None  # deleted since, and its idempotency keys with it
    return StartedTurn(session, generation, replayed=True)


def insert_generation(turn: TurnRequest, generation: Generation, lease: Lease) -> Statement:
    """Insert the running generation of a turn."""
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
