"""Fork: a new session that begins with a copy of what was said in another. No text passes through this process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from chatapi.errors import ContextTooLarge, MessageNotFound, SessionBusy
from chatapi.model import Authorizer, Microseconds, Session, Status, new_id
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.transactions.rows import check_is, each, valid_id_or_empty
from chatapi.store.transactions.sessions import find_session, insert_session

MOST_COPIED = 10_000  # messages: while they are copied, SQLite writes nothing else
COPIES_A_STATEMENT = 64

_PATH = (
    "WITH RECURSIVE path (id, parent, step) AS (SELECT id, parent, 1 FROM message WHERE id = $1 AND session_id = $2 "
    "UNION ALL SELECT m.id, m.parent, p.step + 1 FROM message m JOIN path p ON m.id = p.parent WHERE p.step <= $3) "
    "SELECT m.id, m.session_id, length(m.content), g.id, g.status FROM path p JOIN message m ON m.id = p.id "
    "LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth"
)


def fork(
    session_id: str,
    permit: Authorizer,
    message_id: str | None,
    fork_id: str,
    most_bytes: int,
    now: Microseconds,
) -> Transaction[Session]:
    """Add a session of the same owner with a copy of the path that ends in this message, or in the head.

    The copies have ids of their own, and no client's names. Nothing of what they cost is counted again.

    Raises:
        SessionNotFound: not this caller's, or not there.
        MessageNotFound: the session has no such message.
        SessionBusy: the path ends in an answer that is running.
        ContextTooLarge: the path has more than `most_bytes`, or than `MOST_COPIED` messages.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    last = session.head if message_id is None else message_id
    path = (yield _PATH, (valid_id_or_empty(last), session_id, MOST_COPIED)) if last is not None else []
    if last is not None and not path:
        raise MessageNotFound
    if len(path) > MOST_COPIED or sum(row[2] for row in path) > most_bytes:
        raise ContextTooLarge
    copies: list[tuple[str, str, str | None, str]] = []  # from which message; its id, parent and generation's id
    for original, found, _, generation_id, status in path:
        check_is(found, session_id)
        if status == Status.RUNNING:
            raise SessionBusy(generation_id)
        copies.append((original, new_id("msg"), copies[-1][1] if copies else None, new_id("gen")))
    made = replace(
        session,
        id=fork_id,
        head=copies[-1][1] if copies else None,
        message_count=len(copies),
        created_at=now,
        updated_at=now,
    )
    yield insert_session(made)
    for first in range(0, len(copies), COPIES_A_STATEMENT):
        yield from each(_copy(session_id, fork_id, copies[first : first + COPIES_A_STATEMENT]))
    return made


def _copy(session_id: str, fork_id: str, copies: list[tuple[str, str, str | None, str]]) -> list[Statement]:
    """Copy messages, and the generations of those that are answers."""
    values: tuple[Any, ...] = (session_id, fork_id, *(value for copy in copies for value in copy))
    return [(sql, values) for sql in _copy_statements(len(copies))]


_KEPT = (  # of a generation; an idempotency key is the original's alone
    "status, replica, lease_until, model, dialect, owner, created_at, first_token_at, ended_at, length, finish_reason, "
    "usage, error_code, error_detail"
)


@cache
def _copy_statements(count: int) -> tuple[str, str]:
    rows = ", ".join(
        "(" + ", ".join(f"${number}" for number in range(first, first + 4)) + ")"
        for first in range(3, 3 + 4 * count, 4)
    )
    kept = ", ".join(f"g.{column}" for column in _KEPT.split(", "))
    return (
        "INSERT INTO message (id, session_id, parent, depth, role, content, created_at) "
        "SELECT v.column2, $2, v.column3, m.depth, m.role, m.content, m.created_at "
        f"FROM (VALUES {rows}) AS v JOIN message m ON m.id = v.column1 WHERE m.session_id = $1",
        f"INSERT INTO generation (id, session_id, message_id, {_KEPT}) SELECT v.column4, $2, v.column2, {kept} "
        f"FROM (VALUES {rows}) AS v JOIN generation g ON g.message_id = v.column1 WHERE g.session_id = $1",
    )
