"""Table `piece`: the log of a running generation, appended by the drivers and read from a position."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from chatapi.model import Kind, Message, Piece, Status
from chatapi.model.log import contiguous, parts_of
from chatapi.store.drivers.driver import RunningLog, Transaction
from chatapi.store.rows import check_is, decode_call, encode_call
from chatapi.store.statements import id_batches, id_parameters
from chatapi.store.values import Append

PIECE_COLUMNS = 6


def append_rows(appends: list[Append]) -> list[tuple[Any, ...]]:
    """Return a row of `PIECE_COLUMNS` values for each piece."""
    return [
        (append.generation_id, piece.position, piece.part, piece.kind, piece.data.decode(), encode_call(piece.call))
        for append in appends
        for piece in append.pieces
    ]


RESTORE_PIECE = (  # SQLite's, with a row of `append_rows`: text from the journal of a process that died
    "INSERT INTO piece (generation_id, position, part, kind, text, call) SELECT ?1, ?2, ?3, ?4, ?5, ?6 "
    "WHERE EXISTS (SELECT 1 FROM generation WHERE id = ?1 AND status = 'running') "
    "ON CONFLICT (generation_id, position) DO NOTHING"
)

APPEND_ARRAYS = (  # PostgreSQL's, with an array for each column, $2 to $7: one text for any number of pieces
    # A generation that is locked is skipped, so that it does not delay the text of all others: its text is part of the
    # next commit, or fenced by then. Returns the IDs of the generations whose pieces are stored.
    "WITH g AS (SELECT id FROM generation WHERE id = ANY($2::text[]) AND status = 'running' AND replica = $1 "
    "ORDER BY id FOR KEY SHARE SKIP LOCKED), stored AS ("
    "INSERT INTO piece (generation_id, position, part, kind, text, call) "
    "SELECT v.* FROM unnest($2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[]) "
    "AS v (generation_id, position, part, kind, text, call) JOIN g ON g.id = v.generation_id "
    "ON CONFLICT (generation_id, position) DO NOTHING) "
    "SELECT id FROM g"
)


def writable_generations(generation_ids: list[str], replica: str) -> Transaction[set[str]]:
    """Return the IDs of the generations to which this replica may append."""
    writable: set[str] = set()
    for batch in id_batches(generation_ids):
        rows = yield (
            f"SELECT id FROM generation WHERE id IN ({id_parameters(2)}) AND status = 'running' AND replica = $1",
            (replica, *batch),
        )
        writable.update(row[0] for row in rows)
    return writable


def stored_pieces(generation_id: str, position: int) -> Transaction[list[Piece]]:
    """Return the stored log past `position`."""
    rows = yield RunningLog(generation_id, position)
    return contiguous([read_piece(row, generation_id) for row in rows], position)


def read_piece(row: tuple[Any, ...], generation_id: str) -> Piece:
    """Convert the columns `generation_id, position, part, kind, text, call`."""
    found, end, part, kind, text, call = row
    check_is(found, generation_id)
    return Piece(end, part, Kind(kind), text.encode(), decode_call(call))


def with_log(message: Message) -> Transaction[Message]:
    """Return the message; while its answer is running, with the committed log as its parts."""
    if message.generation is None or message.generation.status is not Status.RUNNING:
        return message
    return replace(message, parts=parts_of((yield from stored_pieces(message.generation.id, 0))))
