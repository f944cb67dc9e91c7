"""Start the first turn of a session's queue: the last steps of an ending, or a transaction of its own."""

from __future__ import annotations

from typing import NamedTuple

from chatapi.model import Generation, Microseconds, QueuedTurn, Session, Status, TurnRequest, new_id
from chatapi.store.drivers.driver import Transaction
from chatapi.store.queue_rows import QUEUED_TURN, read_queued_turn, resize_queue
from chatapi.store.quotas import content_size
from chatapi.store.rows import check_is
from chatapi.store.sessions import find_session
from chatapi.store.statements import run_each
from chatapi.store.tree import child_depth, insert_messages
from chatapi.store.turn_rows import continue_session, insert_generation, update_session
from chatapi.store.values import Lease, StartedTurn


class QueuedStart(NamedTuple):
    """A turn of the queue that has started, as it is stored, and the request that it was queued with."""

    stored: StartedTurn
    turn: TurnRequest


def start_next(
    session_id: str, owner: str, lease: Lease, now: Microseconds, has_key: bool = True
) -> Transaction[QueuedStart | None]:
    """Start the first turn that waits in a session that is locked and idle; None if this owner does not pay for it.

    None also if it needs its owner's key, and the caller does not have that.

    It never raises, because an ending must not fail. A turn whose idempotency key another turn has taken since is
    dropped: it has been answered.
    """
    rows = yield (
        f"SELECT {QUEUED_TURN} FROM queued_turn q WHERE session_id = $1 ORDER BY place",
        (session_id,),
    )
    for row in rows:
        queued = read_queued_turn(row)
        check_is(queued.session_id, session_id)
        session = yield from find_session(session_id, lock=True)
        if session is None or queued.turn.owner != owner or session.owner not in {None, owner}:
            return None
        if queued.needs_key and not has_key:
            return None
        yield "DELETE FROM queued_turn WHERE id = $1", (queued.id,)
        if (yield from _is_answered(queued.turn)):
            yield from resize_queue(session_id, -1, -content_size(queued.parts), now)
            continue
        return (yield from _begin(session, queued, lease, now))
    return None


def _is_answered(turn: TurnRequest) -> Transaction[bool]:
    if turn.idempotency_key is None:
        return False
    rows = yield (
        "SELECT 1 FROM generation WHERE owner = $1 AND idempotency_key = $2",
        (turn.owner, turn.idempotency_key),
    )
    return bool(rows)


def _begin(session: Session, queued: QueuedTurn, lease: Lease, now: Microseconds) -> Transaction[QueuedStart]:
    turn, parent, depth = queued.turn, session.head, 0
    if parent is not None:
        depth, _ = yield from child_depth(session.id, parent)
    answer = new_id("msg")
    session = continue_session(session, turn, answer, 2, now, dequeued=1)
    generation = Generation(
        queued.generation_id,
        session.id,
        answer,
        Status.RUNNING,
        turn.model,
        turn.dialect,
        now,
        replica=lease.replica,
    )
    yield from run_each(insert_messages(session.id, parent, depth, turn.input, (queued.id,), now, answer))
    yield update_session(session)
    yield "UPDATE session SET queued = $2 WHERE id = $1", (session.id, session.queued)
    yield insert_generation(turn, generation, lease)
    return QueuedStart(StartedTurn(session, generation, parent, input=(queued.id,)), turn)
