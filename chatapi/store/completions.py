"""Stored chat completions: ended answers whose request said `store: true`, as a list of their owner."""

from __future__ import annotations

from typing import NamedTuple

from chatapi.errors import SessionNotFound
from chatapi.model import Authorizer, Generation, Part
from chatapi.store.drivers.driver import Transaction
from chatapi.store.generations import find_generation
from chatapi.store.repository import Repository, durable_write, read
from chatapi.store.rows import GENERATION, decode_parts, read_generation, valid_id_or_empty
from chatapi.store.sessions import find_session

_HIGHEST_ID = "~"  # after every id, in the order of both databases


class StoredCompletion(NamedTuple):
    """An ended answer, and the dialect's own data about its request."""

    generation: Generation
    parts: tuple[Part, ...]
    dialect_data: str


class Completions(Repository):
    """Completions in the order of their creation."""

    @read
    def page(
        self, owner: str, model: str | None, marks: list[str], after: str | None, limit: int, *, newest_first: bool
    ) -> Transaction[list[StoredCompletion]]:
        """Return completions of this owner that ended well, from after the generation `after`.

        `marks`: texts of letters and digits, all of which have to be in the dialect's data.
        """
        start = _HIGHEST_ID if newest_first else ""
        start = valid_id_or_empty(after) if after is not None else start
        compared, order = ("<", "DESC") if newest_first else (">", "ASC")
        wanted = "".join(f" AND r.echo LIKE ${number}" for number in range(5, 5 + len(marks)))
        rows = yield (
            f"SELECT {GENERATION}, m.content, r.echo FROM generation g JOIN session s ON s.id = g.session_id "
            "JOIN message m ON m.id = g.message_id JOIN response r ON r.generation_id = g.id "
            f"WHERE g.dialect = 'completions' AND g.owner = $1 AND g.id {compared} $2 AND s.owner = $1 "
            f"AND g.status IN ('completed', 'stopped') AND ($3 = '' OR g.model = $3){wanted} "
            f"ORDER BY g.id {order} LIMIT $4",
            (owner, start, model or "", limit, *(f"%{mark}%" for mark in marks)),
        )
        return [StoredCompletion(read_generation(row[:-2]), decode_parts(row[-2]), row[-1]) for row in rows]

    @durable_write
    def set_data(self, generation_id: str, data: str, authorizer: Authorizer) -> Transaction[None]:
        """Replace the dialect's data of a stored completion.

        Raises:
            SessionNotFound: it is not there, not stored as a completion, or not the caller's.
        """
        generation = yield from find_generation(generation_id)
        authorizer((yield from find_session(generation.session_id, lock=True)) if generation is not None else None)
        changed = yield (
            "UPDATE response SET echo = $2 WHERE generation_id = $1 AND EXISTS "
            "(SELECT 1 FROM generation g WHERE g.id = $1 AND g.dialect = 'completions') RETURNING generation_id",
            (generation_id, data),
        )
        if not changed:
            raise SessionNotFound
