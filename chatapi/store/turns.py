"""Turns: begin one, with its messages, an empty answer and a running generation, in one transaction."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from chatapi.errors import MessageNotFound, NothingToAnswer, SessionNotFound
from chatapi.model import Authorizer, Generation, Role, Session, Status, TurnRequest, new_id
from chatapi.store.aliases import name_messages, resolve_alias, take_alias
from chatapi.store.drivers.driver import Statement, Together, Transaction
from chatapi.store.queue_rows import take_queued
from chatapi.store.quotas import content_size, growth
from chatapi.store.repository import LeasingRepository, durable_write, read
from chatapi.store.rows import GENERATION, read_generation
from chatapi.store.sessions import find_session, insert_session
from chatapi.store.statements import run_each
from chatapi.store.tree import child_depth, insert_messages, require_idle
from chatapi.store.turn_rows import continue_session, find_started, insert_generation, update_session
from chatapi.store.values import Lease, StartedTurn


class _NewIds(msgspec.Struct, frozen=True):
    """The IDs of the rows of a turn: `session` where it creates one, `messages` for each message that it adds."""

    session: str
    messages: tuple[str, ...]
    answer: str
    generation: str


class Turns(LeasingRepository):
    """The start of turns. `replica` produces their answers."""

    @durable_write
    def begin(self, turn: TurnRequest, authorizer: Authorizer) -> Transaction[StartedTurn]:
        """Add the turn's messages, an empty answer and a running generation; or find the turn that was replayed.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            SessionBusy: The session has a running generation.
            MessageNotFound: The session has no such message to add the turn below.
            NothingToAnswer: The turn has no message, and is added below an answer or at the root.
            IdempotencyMismatch: The idempotency key came with another request before.
            SessionFull, QuotaExceeded: The session is full, or the owner or the store.
        """
        now = self._clock()
        lease = Lease.begin(now, self._replica, self._lease_seconds)
        ids = _NewIds(new_id("ses"), tuple(new_id("msg") for _ in turn.input), new_id("msg"), new_id("gen"))
        if turn.idempotency_key is not None:
            replayed = yield from find_started(turn)
            if replayed:
                return replayed
        size = sum([content_size(message.parts) for message in turn.input])
        found = yield from self._find_or_name_session(turn, ids.session, size + growth(None, turn.developer_message))
        size += growth(found, turn.developer_message)
        if found is None:
            session = Session(ids.session, turn.owner, turn.developer_message or "", None, {}, None, 0, now, now)
            parent, depth = None, 0
        else:
            session = authorizer(found)
            yield from require_idle(session.id)
            queued = yield from take_queued(session, turn, now)
            if queued is not None:
                ids = _NewIds(ids.session, (queued.id,), ids.answer, queued.generation_id)
                session = replace(session, queued=session.queued - 1)
                size -= content_size(queued.parts)
            parent = session.head if turn.parent is None else turn.parent or None
            depth = 0
            if parent is not None:
                depth, role = yield from child_depth(session.id, parent)
                if not turn.input and role is Role.ASSISTANT:
                    raise NothingToAnswer
            elif not turn.input:
                raise NothingToAnswer
            self._quotas.require_session_room(session, len(turn.input) + 1, size)
            yield from self._quotas.take(turn.owner, 0, max(size, 0))
        session = continue_session(session, turn, ids.answer, len(turn.input) + 1, now, size=size)
        generation = Generation(
            ids.generation, session.id, ids.answer, Status.RUNNING, turn.model, turn.dialect, now, replica=lease.replica
        )
        *earlier, last = insert_messages(session.id, parent, depth, turn.input, ids.messages, now, ids.answer)
        yield from run_each([*earlier, *name_messages(turn.owner, session.id, turn.input, ids.messages)])
        yield Together(
            (
                insert_session(session) if found is None else update_session(session),
                last,
                insert_generation(turn, generation, lease),
                *_insert_dialect_data(turn, generation, parent),
            ),
            whole=found is None and turn.alias is None and turn.idempotency_key is None and not earlier,
        )
        bound = found is None or found.owner is None
        return StartedTurn(session, generation, parent, input=ids.messages, bound=bound)

    def _find_or_name_session(self, turn: TurnRequest, new_session_id: str, size: int) -> Transaction[Session | None]:
        """Return the session that the turn continues, locked; None where it creates one, whose alias is then stored.

        Raises:
            SessionNotFound: No session has the ID that the turn names.
            NothingToAnswer, MessageNotFound: The turn cannot create a session.
            SessionFull, QuotaExceeded: The session would be too large, or there is no room for another one.
        """
        session_id = turn.session_id
        if session_id is None and turn.alias is not None:
            session_id = yield from resolve_alias(turn.owner, turn.alias)
        if session_id is None:
            if not turn.input:
                raise NothingToAnswer
            if turn.parent:
                raise MessageNotFound
            self._quotas.require_session_room(None, len(turn.input) + 1, size)
            yield from self._quotas.take(turn.owner, 1, size)
            if turn.alias is None or (yield from take_alias(turn.owner, turn.alias, new_session_id)):
                return None
            session_id = yield from resolve_alias(turn.owner, turn.alias)  # a concurrent turn committed it first
            if session_id is None:
                raise SessionNotFound  # and it was deleted since
        session = yield from find_session(session_id, lock=True)
        if session is None:
            raise SessionNotFound
        return session

    @read
    def find_by_idempotency_key(self, turn: TurnRequest) -> Transaction[StartedTurn | None]:
        """Return the turn that an earlier request with this idempotency key began, or None.

        Raises:
            IdempotencyMismatch: That was another request.
        """
        return (yield from find_started(turn))

    @read
    def find_running_attempt(self, turn: TurnRequest) -> Transaction[StartedTurn | None]:
        """Return the turn of an earlier attempt at the same request whose answer is still running, or None."""
        rows = yield (
            f"SELECT {GENERATION} FROM generation g WHERE g.status = 'running' AND g.owner = $1 AND g.digest = $2 "
            "ORDER BY g.created_at DESC LIMIT 1",
            (turn.owner, turn.digest),
        )
        if not rows:
            return None
        generation = read_generation(rows[0])
        session = yield from find_session(generation.session_id)
        return StartedTurn(session, generation, replayed=True) if session is not None else None


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
