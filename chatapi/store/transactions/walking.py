"""A walk over all messages of a session, whatever branch they are on, along one of its paths, or over all that an owner
has.

It goes step by step, each of which reads little: a step says from where the next one goes on, and two steps may lie far
apart in time. It follows the index that keeps siblings in order, and wants none of its own: messages come by their
parents, and so nearly by their times; a parent may come after what hangs under it.
"""

from __future__ import annotations

from typing import Any

from chatapi.model import Message, MessageCursor, Microseconds, SearchCursor
from chatapi.store.drivers.driver import Transaction
from chatapi.store.transactions.reading import PAGE_BYTES, with_log
from chatapi.store.transactions.rows import GENERATION, MESSAGE, Candidate, ScanSnapshot, check_is, read_message
from chatapi.store.transactions.sessions import find_session

STEP_ROWS = 64  # read by one statement at most, and the lengths of as many
STRETCH = 64  # messages of a path between two stops
LOT_ROWS = 512  # candidates given at once
SESSIONS_A_LOT = 64

FIRST = MessageCursor("", 0, "")
_FIRST_CHILD = MessageCursor("!", 0, "")  # before all ids, which have no such character
LAST = MessageCursor("~", 1 << 62, "~")  # behind all ids
_LAST_ROOT = MessageCursor("", 1 << 62, "~")

_ORDER = "parent {0}, created_at {0}, id {0}"


def _step(
    session_id: str, mark: MessageCursor, columns: str, backwards: bool
) -> Transaction[tuple[list[Any], MessageCursor | None]]:
    """The next rows past a mark, and the mark to go on from: None when that was the end.

    At most `STEP_ROWS`, and at most about `PAGE_BYTES`. There may be none, and more to come.
    """
    roots = mark.parent == ""
    compared, order = ("<", _ORDER.format("DESC")) if backwards else (">", _ORDER.format("ASC"))
    values: tuple[Any, ...] = (session_id, mark.created_at, mark.id)
    if roots:
        which = f"parent IS NULL AND (created_at, id) {compared} ($2, $3)"
    else:
        which = f"(parent, created_at, id) {compared} ($4, $2, $3)"
        values = (*values, mark.parent)
    rows = yield (
        "WITH page (id, before) AS (SELECT id, sum(length(content)) OVER "
        f"(ORDER BY {order} ROWS UNBOUNDED PRECEDING) - length(content) FROM (SELECT id, parent, created_at, content "
        f"FROM message WHERE session_id = $1 AND {which} ORDER BY {order} LIMIT {STEP_ROWS}) AS lot) "
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


def begin_scan(session_id: str) -> Transaction[ScanSnapshot | None]:
    """What a walk is over: the session, if there is one, and how many messages it has by now."""
    session = yield from find_session(session_id)
    if session is None:
        return None
    rows = yield "SELECT count(*), max(created_at) FROM message WHERE session_id = $1", (session.id,)
    return ScanSnapshot(session, FIRST, int(rows[0][0]), Microseconds(rows[0][1] or 0))


def walk(session_id: str, mark: MessageCursor) -> Transaction[tuple[list[Message], MessageCursor | None]]:
    """The next messages of a session, with what is committed of an answer that runs, and from where to go on."""
    rows, after = yield from _step(session_id, mark, f"{MESSAGE}, {GENERATION}", backwards=False)
    found = []
    for row in rows:
        found.append((yield from with_log(read_message(row[4:]))))
    return found, after


def stops(session_id: str, head: str) -> Transaction[list[str]]:
    """Messages on the path that ends in `head`, no more than `STRETCH` apart, from the first on; the last is the head.

    A path is known from its end: with stops on the way, it can be read from its beginning without being gone again
    and again.
    """
    rows = yield (
        "WITH RECURSIVE path (id, parent, depth, session_id) AS "
        "(SELECT id, parent, depth, session_id FROM message WHERE id = $1 UNION ALL "
        "SELECT m.id, m.parent, m.depth, m.session_id FROM message m JOIN path p ON m.id = p.parent) "
        f"SELECT session_id, id FROM path WHERE (depth + 1) % {STRETCH} = 0 OR id = $1 ORDER BY depth",
        (head,),
    )
    for row in rows:
        check_is(row[0], session_id)
    return [row[1] for row in rows]


def stretch(session_id: str, stop: str, after_depth: int) -> Transaction[list[Message]]:
    """The messages that are deeper than `after_depth` on the path that ends in `stop`, the first first.

    At most about `PAGE_BYTES`, but one in any case, if there is one.
    """
    rows = yield (
        "WITH RECURSIVE path (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 AND depth > $2 UNION ALL "
        "SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent WHERE m.depth > $2), "
        "page (id, before) AS (SELECT m.id, sum(length(m.content)) OVER (ORDER BY m.depth) - length(m.content) "
        "FROM path p JOIN message m ON m.id = p.id) "
        f"SELECT {MESSAGE}, {GENERATION} FROM page JOIN message m ON m.id = page.id "
        f"LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= {PAGE_BYTES} ORDER BY m.depth",
        (stop, after_depth),
    )
    found = []
    for row in rows:
        message = read_message(row)
        check_is(message.session_id, session_id)
        found.append((yield from with_log(message)))
    return found


def candidates(owner: str, place: SearchCursor | None) -> Transaction[tuple[list[Candidate], SearchCursor | None]]:
    """The next titles and messages of this owner's to be looked through, the newest sessions first; where to go on.

    About `LOT_ROWS`, and about `PAGE_BYTES`; there may be none, and more to come. What tells the owner apart is asked
    with each session, wherever the place came from.
    """
    at, session_id, mark = place or SearchCursor(1 << 62, "~", None)
    sessions = yield (
        "SELECT owner, id, title, created_at FROM session WHERE owner = $1 "
        f"AND (created_at < $2 OR (created_at = $2 AND id <= $3)) ORDER BY created_at DESC, id DESC "
        f"LIMIT {SESSIONS_A_LOT}",
        (owner, at, session_id),
    )
    found: list[Candidate] = []
    size = 0
    for whose, id, title, created_at in sessions:
        check_is(whose, owner)
        going_on = mark if id == session_id else None
        if going_on is None:
            going_on = LAST
            if title:
                found.append(Candidate(SearchCursor(created_at, id, LAST), id, title, None, None, created_at, title))
        while going_on is not None:
            rows, after = yield from _step(id, going_on, "m.role, m.content", backwards=True)
            for _, parent, made_at, message_id, role, content in rows:
                place = SearchCursor(created_at, id, MessageCursor(parent or "", made_at, message_id))
                found.append(Candidate(place, id, title, message_id, role, made_at, content))
                size += len(content)
            going_on = after
            if going_on is not None and (len(found) >= LOT_ROWS or size >= PAGE_BYTES):
                return found, SearchCursor(created_at, id, going_on)
        if len(found) >= LOT_ROWS or size >= PAGE_BYTES:
            return found, SearchCursor(created_at, id, FIRST)
    if len(sessions) < SESSIONS_A_LOT:
        return found, None
    _, id, _, created_at = sessions[-1]
    return found, SearchCursor(created_at, id, FIRST)
