"""Scans: all messages of a session, on every branch, and all titles and messages of an owner.

A scan goes in steps, each of which reads little and returns a cursor for the next one; any time may pass between two
steps. It follows the index of siblings and needs none of its own: messages come by parent, and so roughly by time; a
parent may come after its children.
"""

from __future__ import annotations

from typing import Any

from chatapi.model import Message, MessageCursor, Microseconds, SearchCursor
from chatapi.store.drivers.driver import Transaction
from chatapi.store.messages import PAGE_BYTES
from chatapi.store.pieces import with_log
from chatapi.store.repository import Repository, read
from chatapi.store.rows import GENERATION, MESSAGE, check_is, read_message
from chatapi.store.sessions import find_session
from chatapi.store.values import Candidate, ScanSnapshot

STEP_ROWS = 64  # maximum read by one statement
SEARCH_BATCH = 512  # candidates returned at once, about
SESSIONS_PER_BATCH = 64

FIRST = MessageCursor("", 0, "")
LAST = MessageCursor("~", 1 << 62, "~")  # after all IDs
_FIRST_CHILD = MessageCursor("!", 0, "")  # before all IDs, which do not contain this character
_LAST_ROOT = MessageCursor("", 1 << 62, "~")

_ORDER = "parent {0}, created_at {0}, id {0}"


class Scans(Repository):
    """Scans of a session or an owner."""

    @read
    def begin(self, session_id: str) -> Transaction[ScanSnapshot | None]:
        """Return the start of a scan of this session, or None if there is no such session."""
        session = yield from find_session(session_id)
        if session is None:
            return None
        rows = yield "SELECT count(*), max(created_at) FROM message WHERE session_id = $1", (session.id,)
        return ScanSnapshot(session, FIRST, int(rows[0][0]), Microseconds(rows[0][1] or 0))

    @read
    def next_messages(
        self, session_id: str, cursor: MessageCursor
    ) -> Transaction[tuple[list[Message], MessageCursor | None]]:
        """Return the next messages of a session, which may be none, and the next cursor: None at the end."""
        rows, after = yield from _step(session_id, cursor, f"{MESSAGE}, {GENERATION}", backwards=False)
        found = []
        for row in rows:
            found.append((yield from with_log(read_message(row[4:]))))
        return found, after

    @read
    def search_batch(
        self, owner: str, cursor: SearchCursor | None
    ) -> Transaction[tuple[list[Candidate], SearchCursor | None]]:
        """Return the owner's next titles and messages, the newest session first, and the next cursor: None at the end.

        About `SEARCH_BATCH` and about `PAGE_BYTES`; there may be none, and more to come. Each session is read by its
        owner, so a forged cursor finds nothing of another owner.
        """
        at, session_id, mark = cursor or SearchCursor(1 << 62, "~", None)
        sessions = yield (
            "SELECT owner, id, title, created_at FROM session WHERE owner = $1 "
            f"AND (created_at < $2 OR (created_at = $2 AND id <= $3)) ORDER BY created_at DESC, id DESC "
            f"LIMIT {SESSIONS_PER_BATCH}",
            (owner, at, session_id),
        )
        found: list[Candidate] = []
        size = 0
        for found_owner, found_id, title, created_at in sessions:
            check_is(found_owner, owner)
            step = mark if found_id == session_id else None
            if step is None:
                step = LAST
                if title:
                    place = SearchCursor(created_at, found_id, LAST)
                    found.append(Candidate(place, found_id, title, None, None, created_at, title))
            while step is not None:
                rows, step = yield from _step(found_id, step, "m.role, m.content", backwards=True)
                for _, parent, made_at, message_id, role, content in rows:
                    place = SearchCursor(created_at, found_id, MessageCursor(parent or "", made_at, message_id))
                    found.append(Candidate(place, found_id, title, message_id, role, made_at, content))
                    size += len(content)
                if step is not None and (len(found) >= SEARCH_BATCH or size >= PAGE_BYTES):
                    return found, SearchCursor(created_at, found_id, step)
        if len(sessions) < SESSIONS_PER_BATCH:
            return found, None
        _, found_id, _, created_at = sessions[-1]
        return found, SearchCursor(created_at, found_id, FIRST)


def _step(
    session_id: str, cursor: MessageCursor, columns: str, backwards: bool
) -> Transaction[tuple[list[Any], MessageCursor | None]]:
    """Return the next rows past a cursor, and the next cursor: None at the end.

    At most `STEP_ROWS`, and at most about `PAGE_BYTES`. There may be none, and more to come.
    """
    roots = cursor.parent == ""
    compared, order = ("<", _ORDER.format("DESC")) if backwards else (">", _ORDER.format("ASC"))
    values: tuple[Any, ...] = (session_id, cursor.created_at, cursor.id)
    if roots:
        condition = f"parent IS NULL AND (created_at, id) {compared} ($2, $3)"
    else:
        condition = f"(parent, created_at, id) {compared} ($4, $2, $3)"
        values = (*values, cursor.parent)
    rows = yield (
        "WITH page (id, before) AS (SELECT id, sum(length(content)) OVER "
        f"(ORDER BY {order} ROWS UNBOUNDED PRECEDING) - length(content) FROM (SELECT id, parent, created_at, content "
        f"FROM message WHERE session_id = $1 AND {condition} ORDER BY {order} LIMIT {STEP_ROWS}) AS batch) "
        f"SELECT m.session_id, m.parent, m.created_at, m.id, {columns} FROM page JOIN message m ON m.id = page.id "
        f"LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= {PAGE_BYTES} "
        f"ORDER BY {', '.join(f'm.{column}' for column in order.split(', '))}",
        values,
    )
    for row in rows:
        check_is(row[0], session_id)
    if rows:
        return list(rows), MessageCursor(rows[-1][1] or "", *rows[-1][2:4])
    if backwards:
        return [], None if roots else _LAST_ROOT
    return [], _FIRST_CHILD if roots else None
