"""A session that was kept elsewhere, stored as it was: all or nothing.

Its answers have ended, and were paid for elsewhere: they do not count as usage.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chatapi.model import Generation, Message, Session
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.transactions.rows import MESSAGE_COLUMNS, each, encode_json, encode_parts
from chatapi.store.transactions.sessions import insert_session

ROWS_A_STATEMENT = 32

_MESSAGE = "message (id, session_id, parent, depth, role, content, created_at)"
_GENERATION = (
    "generation (id, session_id, message_id, status, replica, lease_until, model, dialect, owner, created_at, "
    "first_token_at, ended_at, length, finish_reason, usage, error_code, error_detail)"
)
_GENERATION_COLUMNS = 17


def restoring(session: Session, messages: list[Message]) -> list[Statement]:
    """What puts a session and its messages into the store; made beforehand, for a transaction keeps others waiting."""
    owner = session.owner or ""
    generations = [message.generation for message in messages if message.generation is not None]
    return [
        insert_session(session),
        *_insert(_MESSAGE, MESSAGE_COLUMNS, [_message_row(message) for message in messages]),
        *_insert(_GENERATION, _GENERATION_COLUMNS, [_generation_row(one, owner) for one in generations]),
    ]


def restore(session: Session, statements: list[Statement]) -> Transaction[Session]:
    """Store a session that is not there yet."""
    yield from each(statements)
    return session


def _message_row(message: Message) -> tuple[Any, ...]:
    content = encode_parts(message.parts)
    return (
        message.id,
        message.session_id,
        message.parent,
        message.depth,
        message.role,
        content,
        message.created_at,
    )


def _generation_row(generation: Generation, owner: str) -> tuple[Any, ...]:
    return (
        generation.id,
        generation.session_id,
        generation.message_id,
        generation.status,
        "",  # nobody's: nothing of it runs
        0,
        generation.model,
        generation.dialect,
        owner,
        generation.created_at,
        generation.first_token_at,
        generation.ended_at,
        generation.length,
        generation.finish_reason,
        encode_json(generation.usage) if generation.usage is not None else None,
        generation.error_code,
        generation.error_detail,
    )


def _insert(table: str, columns: int, rows: list[tuple[Any, ...]]) -> list[Statement]:
    lots = [rows[first : first + ROWS_A_STATEMENT] for first in range(0, len(rows), ROWS_A_STATEMENT)]
    return [(_insert_rows(table, columns, len(lot)), tuple(value for row in lot for value in row)) for lot in lots]


@cache
def _insert_rows(table: str, columns: int, count: int) -> str:
    rows = ", ".join(
        "(" + ", ".join(f"${number}" for number in range(first, first + columns)) + ")"
        for first in range(1, 1 + columns * count, columns)
    )
    return f"INSERT INTO {table} VALUES {rows}"
