"""The tree of messages: where something hangs, and how messages are put in and named."""

from __future__ import annotations

from functools import cache
from typing import Any

from chatapi.errors import MessageNotFound, SessionBusy
from chatapi.model import Alias, Microseconds, NewMessage, Role
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.transactions.rows import MESSAGE_COLUMNS, encode_parts, valid_id_or_empty


def require_idle(session_id: str) -> Transaction[None]:
    """Raise `SessionBusy` when the session has a running generation."""
    running = yield "SELECT id FROM generation WHERE session_id = $1 AND status = 'running'", (session_id,)
    if running:
        raise SessionBusy(running[0][0])


def depth_under(session_id: str, parent: str) -> Transaction[tuple[int, Role]]:
    """The depth of what hangs under this message, and the message's role.

    Raises:
        MessageNotFound: the session has no such message.
    """
    rows = yield (
        "SELECT depth + 1, role FROM message WHERE id = $1 AND session_id = $2",
        (valid_id_or_empty(parent), session_id),
    )
    if not rows:
        raise MessageNotFound
    return rows[0][0], Role(rows[0][1])


def leaf_of(session_id: str, message_id: str) -> Transaction[str]:
    """The end of the path that goes on from a message by the newest one after each, however long it is."""
    rows = yield (
        "WITH RECURSIVE walk (id, step) AS (SELECT id, 0 FROM message WHERE id = $2 UNION ALL "
        "SELECT (SELECT m.id FROM message m WHERE m.session_id = $1 AND m.parent = w.id "
        "ORDER BY m.created_at DESC, m.id DESC LIMIT 1), w.step + 1 FROM walk w WHERE w.id IS NOT NULL) "
        "SELECT id FROM walk WHERE id IS NOT NULL ORDER BY step DESC LIMIT 1",
        (session_id, message_id),
    )
    return str(rows[0][0])


MESSAGES_A_STATEMENT = 32


def insert_messages(
    session_id: str,
    parent: str | None,
    depth: int,
    input: tuple[NewMessage, ...],
    ids: tuple[str, ...],
    now: Microseconds,
    answer: str | None = None,
) -> list[Statement]:
    """Add messages one under the other, and an empty answer under the last, if one is named; nearly always at once."""
    rows: list[tuple[Any, ...]] = []
    for message, message_id in zip(input, ids, strict=True):
        rows.append((message_id, session_id, parent, depth, message.role, encode_parts(message.parts), now))
        parent, depth = message_id, depth + 1
    if answer is not None:
        rows.append((answer, session_id, parent, depth, Role.ASSISTANT, "[]", now))
    lots = [rows[first : first + MESSAGES_A_STATEMENT] for first in range(0, len(rows), MESSAGES_A_STATEMENT)]
    return [(_insert_rows(len(lot)), tuple(value for row in lot for value in row)) for lot in lots]


@cache
def _insert_rows(count: int) -> str:
    rows = ", ".join(
        "(" + ", ".join(f"${number}" for number in range(first, first + MESSAGE_COLUMNS)) + ")"
        for first in range(1, 1 + MESSAGE_COLUMNS * count, MESSAGE_COLUMNS)
    )
    return f"INSERT INTO message (id, session_id, parent, depth, role, content, created_at) VALUES {rows}"


def name_messages(owner: str, session_id: str, input: tuple[NewMessage, ...], ids: tuple[str, ...]) -> list[Statement]:
    """Let the owner's names stand for messages; the newest wins, as a client that repeats itself expects."""
    return [
        (
            "INSERT INTO alias (owner, kind, name, session_id, target) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (owner, kind, name) DO UPDATE SET session_id = excluded.session_id, target = excluded.target",
            (owner, message.alias.kind, message.alias.name, session_id, message_id),
        )
        for message, message_id in zip(input, ids, strict=True)
        if message.alias is not None
    ]


def resolve(owner: str, alias: Alias) -> Transaction[str | None]:
    """What the owner's name stands for, if it stands for anything."""
    rows = yield (
        "SELECT target FROM alias WHERE owner = $1 AND kind = $2 AND name = $3",
        (owner, alias.kind, alias.name),
    )
    return str(rows[0][0]) if rows else None
