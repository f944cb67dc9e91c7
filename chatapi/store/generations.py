"""Generations: read their logs, end them, renew their leases and close those of dead replicas."""

from __future__ import annotations

from typing import NamedTuple

from chatapi.errors import UpstreamRejectedKey
from chatapi.model import Generation, Kind, LeftOut, Microseconds, Outcome, Part, Status
from chatapi.model.log import contiguous, default_cuts, parts_of, pieces_of, split
from chatapi.store.drivers.driver import Fenced, Together, Transaction
from chatapi.store.group_commit import LogWriter
from chatapi.store.inputs import find_input
from chatapi.store.pieces import read_piece, stored_pieces
from chatapi.store.queue_start import QueuedStart, start_next
from chatapi.store.repository import LeasingRepository, durable_write, read, write
from chatapi.store.rows import (
    GENERATION,
    check_is,
    decode_cuts,
    decode_parts,
    encode_cuts,
    encode_json,
    encode_parts,
    read_generation,
    valid_id_or_empty,
)
from chatapi.store.statements import id_batches, id_parameters
from chatapi.store.usage import count_answer, is_counted
from chatapi.store.values import Lease, RunningHere, StoredLog

LEASE_SECONDS = 20.0  # how long a generation stays `running` after its replica died
SWEEP_BATCH = 10  # generations closed by one transaction: each has up to `max_answer_bytes` of text
EVERY_LEASE = 1 << 62  # later than every lease
TO_STOP, TO_INTERRUPT = 1, 2  # values of `generation.stop_requested`; 0: it is not requested
MEDIA_DELETED = "[attachments deleted: the model API rejected the key]"


class Ended(NamedTuple):
    """A generation that has ended, and the turn of the queue that the same transaction started."""

    generation: Generation
    next: QueuedStart | None


class Generations(LeasingRepository):
    """Attempts to answer a turn, and their logs. `replica` is the process that this store serves."""

    @read
    def find(self, generation_id: str) -> Transaction[Generation | None]:
        """Return the generation with this ID, or None."""
        return (yield from find_generation(generation_id))

    @read
    def find_latest(self, session_id: str) -> Transaction[Generation | None]:
        """Return the generation of the session's last answer, running or not."""
        rows = yield (
            f"SELECT {GENERATION} FROM session s JOIN generation g ON g.message_id = s.head WHERE s.id = $1 "
            "ORDER BY g.created_at DESC LIMIT 1",
            (session_id,),
        )
        if not rows:
            return None
        generation = read_generation(rows[0])
        check_is(generation.session_id, session_id)
        return generation

    @read
    def find_dialect_data(self, generation_id: str) -> Transaction[str | None]:
        """Return the `TurnRequest.dialect_data` that this generation began with, or None."""
        rows = yield "SELECT generation_id, echo FROM response WHERE generation_id = $1", (generation_id,)
        if not rows:
            return None
        check_is(rows[0][0], generation_id)
        return str(rows[0][1])

    @read
    def find_all_dialect_data(self, generation_ids: list[str]) -> Transaction[dict[str, str]]:
        """Return the `TurnRequest.dialect_data` of these generations by ID, of those that have any."""
        found: dict[str, str] = {}
        for batch in id_batches(generation_ids):
            rows = yield (
                f"SELECT generation_id, echo FROM response WHERE generation_id IN ({id_parameters(1)})",
                tuple(batch),
            )
            found.update(rows)
        return found

    @read
    def read_log(self, generation_id: str, position: int, by_cut: bool = False) -> Transaction[StoredLog | None]:
        """Return a generation and its committed log past `position`, a number of bytes.

        `by_cut`: the pieces end at cuts (see `model.log`).

        The log is in the message once the generation has ended, and in pieces before. One statement reads both, so that
        it is one state without a transaction around it: readers on other replicas repeat it.
        """
        rows = yield (
            f"SELECT p.generation_id, p.position, p.part, p.kind, p.text, p.call, m.content, m.cuts, {GENERATION} "
            "FROM generation g JOIN message m ON m.id = g.message_id "
            "LEFT JOIN piece p ON p.generation_id = g.id AND p.position > $2 WHERE g.id = $1 ORDER BY p.position",
            (generation_id, position),
        )
        if not rows:
            return None
        content, cuts, generation = rows[0][6], rows[0][7], read_generation(rows[0][8:])
        check_is(generation.id, generation_id)
        if generation.status is not Status.RUNNING:
            parts = decode_parts(content)
            pieces = pieces_of(parts, position)
            if by_cut:
                pieces = split(pieces, decode_cuts(cuts) if cuts is not None else default_cuts(parts))
            return StoredLog(generation, pieces)
        stored = [read_piece(row[:6], generation_id) for row in rows if row[0] is not None]
        if self._driver.journal is not None:
            return StoredLog(generation, (yield from stored_pieces(generation_id, position)))
        return StoredLog(generation, contiguous(stored, position))

    @read
    def running_here(self) -> Transaction[list[RunningHere]]:
        """Return the generations that are stored as running on this replica."""
        rows = yield (
            "SELECT id, stop_requested FROM generation WHERE replica = $1 AND status = 'running'",
            (self._replica,),
        )
        return [RunningHere(generation_id, bool(stop_requested)) for generation_id, stop_requested in rows]

    async def finish(
        self,
        writer: LogWriter,
        outcome: Outcome,
        parts: tuple[Part, ...],
        first_token_at: Microseconds | None,
        *,
        bound: bool = True,
        counted: bool = True,
    ) -> Generation:
        """End a generation as `finish_and_start` does, and start nothing."""
        ended = await self.finish_and_start(writer, outcome, parts, first_token_at, bound=bound, counted=counted)
        return ended.generation

    async def finish_and_start(
        self,
        writer: LogWriter,
        outcome: Outcome,
        parts: tuple[Part, ...],
        first_token_at: Microseconds | None,
        *,
        bound: bool = True,
        counted: bool = True,
        next_owner: str | None = None,
        has_key: bool = True,
    ) -> Ended:
        """End a generation with its whole log, durably.

        `bound`: its turn gave its session an owner, which is cleared again if the upstream rejected the key and no key
        was ever accepted there. `counted`: it counts as an answer in its owner's usage, if it may have cost something.
        If the upstream rejected the key, the media of the turn are deleted: anyone can send them with an invented key.
        `next_owner`: the same transaction starts the first turn in the session's queue if this owner pays for it
        (`has_key`: also if it needs this owner's key),
        unless this answer failed, or a turn that interrupts it is to follow it (`request_stop`).

        An ending that is stored already is returned: its commit succeeded, but the answer to the commit was lost.

        Raises:
            Fenced: The generation is no longer this replica's to end.
        """
        self._group_commit.withdraw(writer.id)  # the ending stores the whole log
        cuts = encode_cuts(writer.log.cuts())
        try:
            ended = await self._finish(
                writer.id, outcome, parts, cuts, first_token_at, bound, counted, next_owner, has_key
            )
        except Fenced:
            self._group_commit.release(writer.id)
            raise
        self._group_commit.release(writer.id)
        return ended

    @durable_write
    def _finish(
        self,
        generation_id: str,
        outcome: Outcome,
        parts: tuple[Part, ...],
        cuts: str,
        first_token_at: Microseconds | None,
        bound: bool,
        counted: bool,
        next_owner: str | None,
        has_key: bool,
    ) -> Transaction[Ended]:
        now = self._clock()
        rows = yield (
            f"SELECT s.queued, g.stop_requested, {GENERATION} FROM session s JOIN generation g "
            "ON g.session_id = s.id WHERE g.id = $1 FOR UPDATE OF s, g",
            (generation_id,),
        )
        found = read_generation(rows[0][2:]) if rows else None
        if found is None or found.replica != self._replica:
            raise Fenced
        check_is(found.id, generation_id)
        if found.status is Status.RUNNING:
            ended = yield from _end(found, outcome, parts, cuts, first_token_at, now, counted)
            if bound and outcome.error_code == UpstreamRejectedKey.code:
                yield from _unbind(found.session_id)
            if outcome.error_code == UpstreamRejectedKey.code:
                yield from _delete_media(generation_id)
            queued, stop_requested = rows[0][:2]
            if not queued or next_owner is None or outcome.status is Status.FAILED or stop_requested == TO_INTERRUPT:
                return Ended(ended, None)
            lease = Lease.begin(now, self._replica, self._lease_seconds)
            return Ended(ended, (yield from start_next(found.session_id, next_owner, lease, now, has_key)))
        if (found.status, found.length) != (outcome.status, _length(parts)):
            raise Fenced
        return Ended(found, None)

    @write
    def set_left_out(self, generation_id: str, left_out: LeftOut) -> Transaction[None]:
        """Store the messages that are left out of the request of a generation that runs here."""
        yield (
            "UPDATE generation SET left_out = $2 WHERE id = $1 AND status = 'running' AND replica = $3",
            (generation_id, encode_json(left_out), self._replica),
        )

    @write
    def request_stop(self, generation_id: str, interrupts: bool = False) -> Transaction[str | None]:
        """Store a request to stop a generation; return the replica that produces it, or None if it is not running.

        `interrupts`: the caller's turn is to follow it, before those in the session's queue.
        """
        rows = yield (
            "UPDATE generation SET stop_requested = $2 WHERE id = $1 AND status = 'running' RETURNING replica",
            (generation_id, TO_INTERRUPT if interrupts else TO_STOP),
        )
        return str(rows[0][0]) if rows else None

    async def renew(self, generation_ids: list[str]) -> None:
        """Extend this replica's leases on these generations."""
        lease = Lease.begin(self._clock(), self._replica, self._lease_seconds)
        for batch in id_batches(generation_ids):
            await self._set_lease(batch, lease)

    async def expire_orphans(self, generation_ids: list[str]) -> None:
        """End this replica's leases on these generations now."""
        for batch in id_batches(generation_ids):
            await self._set_lease(batch, Lease(self._replica, Microseconds(0)))

    @write
    def expire_replica(self, replica: str) -> Transaction[None]:
        """End the leases of a replica that is known to be dead, so that the next sweep closes its generations."""
        yield (
            "UPDATE generation SET lease_until = 0 WHERE status = 'running' AND replica = $1",
            (replica,),
        )

    @write
    def _set_lease(self, generation_ids: list[str], lease: Lease) -> Transaction[None]:
        """Set the leases of one list of `id_batches`."""
        yield (
            f"UPDATE generation SET lease_until = $2 WHERE id IN ({id_parameters(3)}) AND status = 'running' "
            "AND replica = $1",
            (lease.replica, lease.until, *generation_ids),
        )

    @durable_write
    def sweep(self, expired_before: int | None = None, *, spare_own: bool = False) -> Transaction[list[Generation]]:
        """Close up to `SWEEP_BATCH` generations whose lease has expired as `interrupted`, with the text they have.

        Generations that another sweep or their own writer has locked are skipped. So are this replica's with
        `spare_own`, except those of `expire_orphans`. Call it again until it returns none.

        Where several workers share a file, only this replica's are closed: the text of others is in their journals, and
        the supervisor knows which of them are dead.
        """
        now = self._clock()
        before = now if expired_before is None else expired_before
        whose, replica = "g.replica <> $3 OR g.lease_until = 0", self._replica if spare_own else ""
        if self._driver.journal is not None and not self._driver.exclusive:
            whose, replica = "g.replica = $3", self._replica
            before = 1 if spare_own else before  # 1: those of `expire_orphans`
        rows = yield (
            f"SELECT {GENERATION} FROM session s JOIN generation g ON g.session_id = s.id "
            f"WHERE g.status = 'running' AND g.lease_until < $1 AND ({whose}) "
            "LIMIT $2 FOR UPDATE OF s, g SKIP LOCKED",
            (before, SWEEP_BATCH, replica),
        )
        closed = []
        for generation in map(read_generation, rows):
            pieces = yield from stored_pieces(generation.id, 0)
            outcome = Outcome(Status.INTERRUPTED, error_code="interrupted")
            cuts = encode_cuts([piece.position for piece in pieces])
            closed.append((yield from _end(generation, outcome, parts_of(pieces), cuts, None, now)))
        return closed


def find_generation(generation_id: str) -> Transaction[Generation | None]:
    """Return the generation with this ID, or None."""
    rows = yield f"SELECT {GENERATION} FROM generation g WHERE g.id = $1", (valid_id_or_empty(generation_id),)
    if not rows:
        return None
    check_is(rows[0][0], generation_id)
    return read_generation(rows[0])


def _length(parts: tuple[Part, ...]) -> int:
    return sum(len(part.text.encode()) for part in parts)


def _end(
    generation: Generation,
    outcome: Outcome,
    parts: tuple[Part, ...],
    cuts: str,
    first_token_at: Microseconds | None,
    now: Microseconds,
    counted: bool = True,
) -> Transaction[Generation]:
    """End a generation that is running and locked: move its log into its message, set its status, count its usage."""
    usage = encode_json(outcome.usage) if outcome.usage is not None else None
    length = _length(parts)
    content = encode_parts(parts)
    end = (
        "UPDATE generation AS g SET status = $2, finish_reason = $3, usage = $4, error_code = $5, error_detail = $6, "
        "length = $7, first_token_at = $8, ended_at = $9, upstream = $10 WHERE g.id = $1 AND g.status = 'running' "
        f"RETURNING {GENERATION.replace('g.', '')}",
        (
            generation.id,
            outcome.status,
            outcome.finish_reason,
            usage,
            outcome.error_code,
            outcome.error_detail,
            length,
            first_token_at,
            now,
            outcome.upstream,
        ),
    )
    rows = yield Together(
        (
            end,
            (
                "UPDATE message SET content = $2, cuts = $3 WHERE id = $1",
                (generation.message_id, content, cuts),
            ),
            ("DELETE FROM piece WHERE generation_id = $1", (generation.id,)),
            (
                "UPDATE session SET updated_at = $2, content_bytes = content_bytes + $3 WHERE id = $1",
                (generation.session_id, now, len(content)),
            ),
            *(count_answer(generation.id, outcome, now) if counted and is_counted(outcome, length) else []),
        )
    )
    return read_generation(rows[0])


def _unbind(session_id: str) -> Transaction[None]:
    """Clear the owner of a session in which no key was ever accepted: a key that the upstream rejects owns nothing."""
    yield (
        "UPDATE session SET owner = NULL WHERE id = $1 AND NOT EXISTS "
        "(SELECT 1 FROM message m JOIN generation g ON g.message_id = m.id "
        "WHERE m.session_id = $1 AND (g.error_code IS NULL OR g.error_code <> $2))",
        (session_id, UpstreamRejectedKey.code),
    )


def _delete_media(generation_id: str) -> Transaction[None]:
    """Replace the images, audio and files of a turn with a note."""
    for message in (yield from find_input(generation_id)):
        kept = tuple(part for part in message.parts if part.media is None)
        if len(kept) < len(message.parts):
            kept += (Part(Kind.TEXT, MEDIA_DELETED),)
            yield "UPDATE message SET content = $2 WHERE id = $1", (message.id, encode_parts(kept))
