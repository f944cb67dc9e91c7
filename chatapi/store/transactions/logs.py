"""Generations and their logs: append, end, sweep, and read from a position."""

from __future__ import annotations

from functools import cache
from typing import Any

from chatapi.errors import UpstreamRejectedKey
from chatapi.model import Generation, Kind, Microseconds, Outcome, Part, Piece, Status
from chatapi.model.log import contiguous, parts_of, pieces_of
from chatapi.store.drivers.driver import Fenced, Together, Transaction
from chatapi.store.transactions.rows import (
    GENERATION,
    Lease,
    Running,
    StoredLog,
    by_size,
    check_is,
    decode_call,
    decode_parts,
    encode_json,
    encode_parts,
    id_parameters,
    read_generation,
    valid_id_or_empty,
)
from chatapi.store.transactions.usage import count_answer, is_counted

SWEEP_AT_ONCE = 10  # generations closed in one transaction: each has up to `max_answer_bytes` of text


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


def still_ours(generation_ids: list[str], replica: str) -> Transaction[set[str]]:
    """Those of the generations to which this replica may append."""
    ours: set[str] = set()
    for some in by_size(generation_ids):
        rows = yield (
            f"SELECT id FROM generation WHERE id IN ({id_parameters(2)}) AND status = 'running' AND replica = $1",
            (replica, *some),
        )
        ours.update(row[0] for row in rows)
    return ours


def finish(
    generation_id: str,
    replica: str,
    ending: Outcome,
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
        f"SELECT {GENERATION} FROM session s JOIN generation g ON g.session_id = s.id WHERE g.id = $1 "
        "FOR UPDATE OF s, g",
        (generation_id,),
    )
    found = read_generation(rows[0]) if rows else None
    if found is None or found.replica != replica:
        raise Fenced
    check_is(found.id, generation_id)
    if found.status is Status.RUNNING:
        return (yield from _end(found, ending, parts, first_token_at, now))
    if (found.status, found.length) != (ending.status, _length(parts)):
        raise Fenced
    return found


def _length(parts: tuple[Part, ...]) -> int:
    return sum(len(part.text.encode()) for part in parts)


def _end(
    generation: Generation,
    ending: Outcome,
    parts: tuple[Part, ...],
    first_token_at: Microseconds | None,
    now: Microseconds,
) -> Transaction[Generation]:
    """End a generation that is running, and whose row is locked."""
    usage = encode_json(ending.usage) if ending.usage is not None else None
    length = _length(parts)
    end = (
        "UPDATE generation AS g SET status = $2, finish_reason = $3, usage = $4, error_code = $5, error_detail = $6, "
        "length = $7, first_token_at = $8, ended_at = $9 WHERE g.id = $1 AND g.status = 'running' "
        f"RETURNING {GENERATION.replace('g.', '')}",
        (
            generation.id,
            ending.status,
            ending.finish_reason,
            usage,
            ending.error_code,
            ending.error_detail,
            length,
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
            *([count_answer(generation.id, ending, now)] if is_counted(ending, length) else []),
        )
    )
    if ending.error_code == UpstreamRejectedKey.code:
        yield from _unbind(generation.session_id)
    return read_generation(rows[0])


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
        f"UPDATE generation SET lease_until = $2 WHERE id IN ({id_parameters(3)}) AND status = 'running' "
        "AND replica = $1",
        (lease.replica, lease.until, *generation_ids),
    )


def sweep(lapsed_before: int, now: Microseconds) -> Transaction[list[Generation]]:
    """Close generations whose lease has lapsed as interrupted, with the text they had; so many at once.

    One that another sweeper, or its own writer, has in hand just now is passed over.
    """
    rows = yield (
        f"SELECT {GENERATION} FROM session s JOIN generation g ON g.session_id = s.id "
        "WHERE g.status = 'running' AND g.lease_until < $1 LIMIT $2 FOR UPDATE OF s, g SKIP LOCKED",
        (lapsed_before, SWEEP_AT_ONCE),
    )
    closed = []
    for generation in map(read_generation, rows):
        pieces = yield from stored_pieces(generation.id, 0)
        ending = Outcome(Status.INTERRUPTED, error_code="interrupted")
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


def stored_pieces(generation_id: str, position: int) -> Transaction[list[Piece]]:
    """The stored text past `position`."""
    rows = yield (
        "SELECT generation_id, position, part, kind, text, call FROM piece WHERE generation_id = $1 AND position > $2 "
        "ORDER BY position",
        (generation_id, position),
    )
    return contiguous([_piece(row, generation_id) for row in rows], position)


def _piece(row: tuple[Any, ...], generation_id: str) -> Piece:
    found, end, part, kind, text, call = row
    check_is(found, generation_id)
    return Piece(end, part, Kind(kind), text.encode(), decode_call(call))


def read_log(generation_id: str, position: int) -> Transaction[StoredLog | None]:
    """A generation and its log past `position`: from its message when it has ended, from its pieces before.

    One statement, so that it is one state without a transaction around it: readers on other replicas repeat it.
    """
    rows = yield (
        f"SELECT p.generation_id, p.position, p.part, p.kind, p.text, p.call, m.content, {GENERATION} "
        "FROM generation g JOIN message m ON m.id = g.message_id "
        "LEFT JOIN piece p ON p.generation_id = g.id AND p.position > $2 WHERE g.id = $1 ORDER BY p.position",
        (generation_id, position),
    )
    if not rows:
        return None
    content, generation = rows[0][6], read_generation(rows[0][7:])
    check_is(generation.id, generation_id)
    if generation.status is not Status.RUNNING:
        return StoredLog(generation, pieces_of(decode_parts(content), position))
    stored = [_piece(row[:6], generation_id) for row in rows if row[0] is not None]
    return StoredLog(generation, contiguous(stored, position))


def find_generation(generation_id: str) -> Transaction[Generation | None]:
    """The generation of this id, if there is one."""
    rows = yield f"SELECT {GENERATION} FROM generation g WHERE g.id = $1", (valid_id_or_empty(generation_id),)
    if not rows:
        return None
    check_is(rows[0][0], generation_id)
    return read_generation(rows[0])


def latest_generation(session_id: str) -> Transaction[Generation | None]:
    """The generation of the session's last answer, running or not."""
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
