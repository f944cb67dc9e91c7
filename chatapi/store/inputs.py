"""The input of a turn: its messages without the answer."""

from __future__ import annotations

from chatapi.errors import SessionNotFound
from chatapi.model import Message
from chatapi.store.drivers.driver import Transaction
from chatapi.store.rows import GENERATION, MESSAGE, check_is, read_message

_INPUT = (  # the messages between an answer and its turn's parent, which has this depth; else up to the last answer
    "WITH RECURSIVE path (id, parent) AS "
    "(SELECT id, parent FROM message WHERE id = $1 AND depth > $2 AND (role <> 'assistant' OR $3 = 1) UNION ALL "
    "SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent "
    "WHERE m.depth > $2 AND (m.role <> 'assistant' OR $3 = 1)) "
)


def find_input(generation_id: str) -> Transaction[list[Message]]:
    """Return the messages of this generation's turn without its answer, the first one first."""
    rows = yield (
        "SELECT m.parent, m.session_id, r.generation_id, p.depth FROM generation g "
        "JOIN message m ON m.id = g.message_id LEFT JOIN response r ON r.generation_id = g.id "
        "LEFT JOIN message p ON p.id = r.parent WHERE g.id = $1",
        (generation_id,),
    )
    if not rows:
        raise SessionNotFound
    last, session_id, known, depth = rows[0]
    rows = yield (
        f"{_INPUT} SELECT {MESSAGE}, {GENERATION} FROM path JOIN message m ON m.id = path.id "
        "LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth",
        (last, -1 if depth is None else depth, int(known is not None)),
    )
    found = [read_message(row) for row in rows]
    for message in found:
        check_is(message.session_id, session_id)
    return found
