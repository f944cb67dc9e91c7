"""The queue of a session: turns that wait for the answers before them to end.

A turn starts in the transaction that deletes its row, so it starts once. Every transaction here locks the session
first. `session.queued` is the number of its rows: an ending, which has locked the session, needs no query to see that
none waits.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from chatapi.errors import QueuedMessageNotFound, QueueFull
from chatapi.model import (
    Authorizer,
    Microseconds,
    NewMessage,
    QueuedTurn,
    Role,
    Session,
    Status,
    TurnRequest,
    new_id,
    with_text,
)
from chatapi.store.drivers.driver import Transaction
from chatapi.store.queue_rows import QUEUED_TURN, encode_request, find_queued, read_queued_turn, resize_queue
from chatapi.store.queue_start import QueuedStart, start_next
from chatapi.store.quotas import content_size
from chatapi.store.repository import LeasingRepository, durable_write, read
from chatapi.store.rows import check_is, decode_parts, encode_parts, valid_id_or_empty
from chatapi.store.sessions import find_session, note_deletion
from chatapi.store.statements import id_batches, id_parameters
from chatapi.store.tree import require_idle
from chatapi.store.turn_rows import find_started
from chatapi.store.values import Lease, StartedTurn

MOST_WITHOUT_KEY = 100  # sessions that are found at once


class WaitingSession(NamedTuple):
    """A session with a queue. `ready`: no answer runs in it, and the last one did not fail."""

    id: str
    ready: bool
    updated_at: Microseconds


class WithoutKey(NamedTuple):
    """A session whose first turn that waits needs no key, and the owner who pays for it."""

    session_id: str
    owner: str


class Queue(LeasingRepository):
    """Turns that wait. `replica` produces the answers of those that start here."""

    @durable_write
    def add(
        self, turn: TurnRequest, authorizer: Authorizer, limit: int, needs_key: bool = True
    ) -> Transaction[QueuedTurn | StartedTurn]:
        """Add a turn to the end of its session's queue; or find the one that an earlier request with its key added.

        It may have started meanwhile.

        `needs_key`: see `QueuedTurn`.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            QueueFull: `limit` turns wait already.
            IdempotencyMismatch: The idempotency key came with another request before.
            SessionFull, QuotaExceeded: There is no room for it.
        """
        now = self._clock()
        session = authorizer((yield from find_session(turn.session_id or "", lock=True)))
        if turn.idempotency_key is not None:
            if (earlier := (yield from find_queued(turn))) is not None:
                return earlier
            if (started := (yield from find_started(turn))) is not None:
                return started
        if session.queued >= limit:
            raise QueueFull
        size = content_size(turn.input[0].parts)
        self._quotas.require_session_room(session, 2 * (session.queued + 1), size)
        yield from self._quotas.take(turn.owner, 0, size)
        rows = yield "SELECT coalesce(max(place), 0) + 1 FROM queued_turn WHERE session_id = $1", (session.id,)
        queued = QueuedTurn(new_id("msg"), session.id, new_id("gen"), int(rows[0][0]), turn, now, needs_key)
        yield (
            f"INSERT INTO queued_turn ({QUEUED_TURN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            (
                queued.id,
                session.id,
                queued.generation_id,
                queued.place,
                turn.owner,
                encode_parts(turn.input[0].parts),
                encode_request(turn),
                turn.idempotency_key,
                turn.digest,
                now,
                int(needs_key),
            ),
        )
        yield from resize_queue(session.id, 1, size, now)
        return queued

    @read
    def find_all(self, session_id: str) -> Transaction[list[QueuedTurn]]:
        """Return the turns that wait in a session, in the order in which they start."""
        rows = yield f"SELECT {QUEUED_TURN} FROM queued_turn WHERE session_id = $1 ORDER BY place", (session_id,)
        found = [read_queued_turn(row) for row in rows]
        for queued in found:
            check_is(queued.session_id, session_id)
        return found

    @durable_write
    def change(self, session_id: str, message_id: str, authorizer: Authorizer, text: str) -> Transaction[QueuedTurn]:
        """Replace the text of a turn that waits; its attachments stay.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            QueuedMessageNotFound: The turn has started, or was removed.
            SessionFull, QuotaExceeded: There is no room for it.
        """
        now = self._clock()
        session, queued = yield from _find(session_id, message_id, authorizer)
        parts = with_text(queued.parts, text)
        growth = content_size(parts) - content_size(queued.parts)
        self._quotas.require_session_room(session, 0, growth)
        yield from self._quotas.take(session.owner, 0, max(growth, 0))
        yield "UPDATE queued_turn SET content = $2 WHERE id = $1", (queued.id, encode_parts(parts))
        yield from resize_queue(session_id, 0, growth, now)
        yield note_deletion(now)
        return replace(queued, turn=replace(queued.turn, input=(NewMessage(Role.USER, parts),)))

    @durable_write
    def remove(self, session_id: str, message_id: str, authorizer: Authorizer) -> Transaction[None]:
        """Remove a turn that waits.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            QueuedMessageNotFound: The turn has started, or was removed.
        """
        now = self._clock()
        _, queued = yield from _find(session_id, message_id, authorizer)
        yield "DELETE FROM queued_turn WHERE id = $1", (queued.id,)
        yield from resize_queue(session_id, -1, -content_size(queued.parts), now)
        yield note_deletion(now)

    @durable_write
    def clear(self, session_id: str, authorizer: Authorizer) -> Transaction[int]:
        """Remove all turns that wait in a session; return their number.

        Raises:
            SessionNotFound: Not the caller's, or not there.
        """
        now = self._clock()
        authorizer((yield from find_session(session_id, lock=True)))
        rows = yield "DELETE FROM queued_turn WHERE session_id = $1 RETURNING content", (session_id,)
        if rows:
            size = sum(content_size(decode_parts(row[0])) for row in rows)
            yield from resize_queue(session_id, -len(rows), -size, now)
            yield note_deletion(now)
        return len(rows)

    @durable_write
    def start(
        self, session_id: str, owner: str, after_failure: bool, has_key: bool = True
    ) -> Transaction[QueuedStart | None]:
        """Start the first turn that waits, if this owner pays for it and no answer runs.

        `after_failure`: also if the session's last answer failed. `has_key`: also if it needs the owner's key.

        Raises:
            SessionBusy: The session has a running generation.
        """
        session = yield from find_session(session_id, lock=True)
        if session is None or not session.queued:
            return None
        yield from require_idle(session_id)
        if not after_failure:
            rows = yield "SELECT status FROM generation WHERE message_id = $1", (session.head,)
            if any(row[0] == Status.FAILED for row in rows):
                return None
        now = self._clock()
        lease = Lease.begin(now, self._replica, self._lease_seconds)
        return (yield from start_next(session_id, owner, lease, now, has_key))

    @read
    def find_without_key(self, before: Microseconds) -> Transaction[list[WithoutKey]]:
        """Return idle sessions whose first turn that waits needs no key, and that were not used since `before`."""
        rows = yield (
            "SELECT q.session_id, q.owner FROM queued_turn q JOIN session s ON s.id = q.session_id "
            "LEFT JOIN generation g ON g.message_id = s.head "
            "WHERE q.needs_key = 0 AND s.updated_at <= $1 AND (g.status IS NULL OR g.status <> 'failed') "
            "AND q.place = (SELECT min(f.place) FROM queued_turn f WHERE f.session_id = q.session_id) "
            "AND NOT EXISTS (SELECT 1 FROM generation r WHERE r.session_id = s.id AND r.status = 'running') "
            f"LIMIT {MOST_WITHOUT_KEY}",
            (before,),
        )
        return [WithoutKey(*row) for row in rows]

    @read
    def find_waiting(self, session_ids: list[str]) -> Transaction[list[WaitingSession]]:
        """Return those of these sessions that have a queue."""
        found = {}
        for batch in id_batches(session_ids):
            rows = yield (
                "SELECT s.id, s.updated_at, g.status, EXISTS (SELECT 1 FROM generation r WHERE r.session_id = s.id "
                "AND r.status = 'running') FROM session s LEFT JOIN generation g ON g.message_id = s.head "
                f"WHERE s.queued > 0 AND s.id IN ({id_parameters(1)})",
                tuple(batch),
            )
            for session_id, updated_at, status, runs in rows:
                found[session_id] = WaitingSession(session_id, not runs and status != Status.FAILED, updated_at)
        return list(found.values())


def _find(session_id: str, message_id: str, authorizer: Authorizer) -> Transaction[tuple[Session, QueuedTurn]]:
    session = authorizer((yield from find_session(session_id, lock=True)))
    rows = yield (
        f"SELECT {QUEUED_TURN} FROM queued_turn WHERE id = $1 AND session_id = $2",
        (valid_id_or_empty(message_id), session_id),
    )
    if not rows:
        raise QueuedMessageNotFound
    return session, read_queued_turn(rows[0])
