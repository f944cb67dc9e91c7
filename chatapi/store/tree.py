"""The tree of messages: steps of transactions that find a position in it, insert messages and delete them."""

from __future__ import annotations

from typing import Any

from chatapi.errors import MessageNotFound, SessionBusy
from chatapi.model import Microseconds, NewMessage, Role
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.rows import encode_parts, valid_id_or_empty
from chatapi.store.statements import insert_rows

MESSAGE_INTO = "message (id, session_id, parent, depth, role, content, created_at)"


def require_idle(session_id: str) -> Transaction[None]:
    """Raise `SessionBusy` when the session has a running generation."""
    running = yield "SELECT id FROM generation WHERE session_id = $1 AND status = 'running'", (session_id,)
    if running:
        raise SessionBusy(running[0][0])


def child_depth(session_id: str, parent: str) -> Transaction[tuple[int, Role]]:
    """Return the depth of the children of a message, and the role of the message.

    Raises:
        MessageNotFound: The session has no such message.
    """
    rows = yield (
        "SELECT depth + 1, role FROM message WHERE id = $1 AND session_id = $2",
        (valid_id_or_empty(parent), session_id),
    )
    if not rows:
        raise MessageNotFound
    return rows[0][0], Role(rows[0][1])


def newest_leaf(session_id: str, message_id: str) -> Transaction[str]:
    """Follow the newest child of each message, from `message_id` on, and return the last one."""
    rows = yield (
        "WITH RECURSIVE walk (id, step) AS (SELECT id, 0 FROM message WHERE id = $2 UNION ALL "
        "SELECT (SELECT m.id FROM message m WHERE m.session_id = $1 AND m.parent = w.id "
        "ORDER BY m.created_at DESC, m.id DESC LIMIT 1), w.step + 1 FROM walk w WHERE w.id IS NOT NULL) "
        "SELECT id FROM walk WHERE id IS NOT NULL ORDER BY step DESC LIMIT 1",
        (session_id, message_id),
    )
    return str(rows[0][0])


def insert_messages(
    session_id: str,
    parent: str | None,
    depth: int,
    messages: tuple[NewMessage, ...],
    ids: tuple[str, ...],
    now: Microseconds,
    answer: str | None = None,
) -> list[Statement]:
    """Insert messages as a chain below `parent`, and below them an empty answer with the ID `answer`, if there is one.

    Nearly always one statement.
    """
    rows: list[tuple[Any, ...]] = []
    for message, message_id in zip(messages, ids, strict=True):
        rows.append((message_id, session_id, parent, depth, message.role, encode_parts(message.parts), now))
        parent, depth = message_id, depth + 1
    if answer is not None:
        rows.append((answer, session_id, parent, depth, Role.ASSISTANT, "[]", now))
    return insert_rows(MESSAGE_INTO, rows)


def delete_message(session_id: str, message_id: str, new_parent: str | None, depths: int) -> Transaction[None]:
    """Delete one message, its generation and its aliases. Its children are re-parented, and move up `depths` levels.

    The summaries of the session are deleted: they may hold its text.
    """
    yield "DELETE FROM summary WHERE session_id = $1", (session_id,)
    yield (
        "UPDATE session SET content_bytes = content_bytes - (SELECT length(content) FROM message WHERE id = $2) "
        "WHERE id = $1",
        (session_id, message_id),
    )
    yield (
        "WITH RECURSIVE below (id) AS (SELECT id FROM message WHERE session_id = $1 AND parent = $2 "
        "UNION ALL SELECT m.id FROM message m JOIN below b ON m.session_id = $1 AND m.parent = b.id) "
        "UPDATE message SET depth = depth - $3 WHERE id IN (SELECT id FROM below)",
        (session_id, message_id, depths),
    )
    for table in ("message", "response"):
        yield (
            f"UPDATE {table} SET parent = $3 WHERE session_id = $1 AND parent = $2",
            (session_id, message_id, new_parent),
        )
    of_message = "generation_id IN (SELECT id FROM generation WHERE message_id = $1)"
    yield f"DELETE FROM response WHERE {of_message}", (message_id,)
    yield f"DELETE FROM piece WHERE {of_message}", (message_id,)
    yield "DELETE FROM generation WHERE message_id = $1", (message_id,)
    yield "DELETE FROM alias WHERE session_id = $1 AND target = $2", (session_id, message_id)
    yield "DELETE FROM message WHERE id = $1 AND session_id = $2", (message_id, session_id)
