"""Columns of queued turns, and the conversion between rows and values."""

from __future__ import annotations

from typing import Any

import msgspec

from chatapi.errors import IdempotencyMismatch
from chatapi.model import ContextPolicy, Microseconds, NewMessage, QueuedTurn, Role, Session, TurnRequest
from chatapi.store.drivers.driver import Transaction
from chatapi.store.quotas import content_size
from chatapi.store.rows import decode_parts, encode_json

QUEUED_TURN = (
    "id, session_id, generation_id, place, owner, content, request, idempotency_key, digest, created_at, needs_key"
)


class _Request(msgspec.Struct):
    """The column `queued_turn.request`."""

    model: str
    dialect: str
    developer_message: str | None = None
    parameters: dict[str, Any] = {}
    context: ContextPolicy | None = None


def encode_request(turn: TurnRequest) -> str:
    """Encode the column `queued_turn.request`."""
    return encode_json(_Request(turn.model, turn.dialect, turn.developer_message, turn.parameters, turn.context))


def read_queued_turn(row: tuple[Any, ...]) -> QueuedTurn:
    """Convert the columns `QUEUED_TURN`."""
    message_id, session_id, generation_id, place, owner, content, request, *rest = row
    idempotency_key, digest, created_at, needs_key = rest
    read = msgspec.json.decode(request, type=_Request)
    turn = TurnRequest(
        owner=owner,
        session_id=session_id,
        developer_message=read.developer_message,
        input=(NewMessage(Role.USER, decode_parts(content)),),
        model=read.model,
        dialect=read.dialect,
        parameters=read.parameters,
        context=read.context,
        idempotency_key=idempotency_key,
        digest=digest,
    )
    return QueuedTurn(message_id, session_id, generation_id, place, turn, created_at, bool(needs_key))


def find_queued(turn: TurnRequest) -> Transaction[QueuedTurn | None]:
    """Return the turn that an earlier request with this idempotency key queued, if it still waits.

    Raises:
        IdempotencyMismatch: That was another request.
    """
    if turn.idempotency_key is None:
        return None
    rows = yield (
        f"SELECT {QUEUED_TURN} FROM queued_turn WHERE owner = $1 AND idempotency_key = $2",
        (turn.owner, turn.idempotency_key),
    )
    if not rows:
        return None
    queued = read_queued_turn(rows[0])
    if queued.turn.digest != turn.digest:
        raise IdempotencyMismatch
    return queued


def take_queued(session: Session, turn: TurnRequest, now: Microseconds) -> Transaction[QueuedTurn | None]:
    """Remove a turn from the queue of its session, which is locked, because the same request starts it now.

    Raises:
        IdempotencyMismatch: see `find_queued`.
    """
    queued = (yield from find_queued(turn)) if session.queued else None
    if queued is None or queued.session_id != session.id:
        return None
    yield "DELETE FROM queued_turn WHERE id = $1", (queued.id,)
    yield from resize_queue(session.id, -1, -content_size(queued.parts), now)
    return queued


def resize_queue(session_id: str, turns: int, size: int, now: Microseconds) -> Transaction[None]:
    """Count so many more turns and bytes of a session's queue."""
    yield (
        "UPDATE session SET queued = queued + $2, content_bytes = content_bytes + $3, updated_at = $4 WHERE id = $1",
        (session_id, turns, size, now),
    )
