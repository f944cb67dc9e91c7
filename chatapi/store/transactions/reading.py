"""Reading messages: the active path, what the upstream is told, and what a turn was asked."""

from __future__ import annotations

from dataclasses import replace

from chatapi.errors import ContextTooLarge, MessageNotFound, SessionNotFound
from chatapi.model import Message, NewMessage, Role, Status
from chatapi.model.log import parts_of
from chatapi.store.drivers.driver import Transaction
from chatapi.store.transactions.logs import stored_pieces
from chatapi.store.transactions.rows import (
    GENERATION,
    MESSAGE,
    by_size,
    check_is,
    decode_parts,
    id_parameters,
    read_message,
    valid_id_or_empty,
)
from chatapi.store.transactions.sessions import find_session

PAGE_BYTES = 1024 * 1024  # of messages read at once, so that long ones do not make a page of 25 MB


_PATH = (
    "WITH RECURSIVE path (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 "
    "UNION ALL SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent)"
)


_SAID = (  # the path, and for each message whether its turn's answer has content, or is still to come
    "WITH RECURSIVE path (id, parent, said) AS "
    "(SELECT id, parent, role <> 'assistant' OR content <> '[]' FROM message WHERE id = $1 "
    "UNION ALL SELECT m.id, m.parent, CASE m.role WHEN 'assistant' THEN m.content <> '[]' ELSE p.said END "
    "FROM message m JOIN path p ON m.id = p.parent) "
)


_TOLD = "FROM path p JOIN message m ON m.id = p.id WHERE p.said OR m.role = 'tool'"


def context(session_id: str, head: str, most_bytes: int) -> Transaction[list[NewMessage]]:
    """What was said on the path that ends in `head`, in order; `context.select_history` makes of it what is sent.

    A turn whose answer says nothing (it was refused, or stopped before its first word) is left out with its question:
    here, before its text is read. What tools gave is kept: nobody may send it again.

    Raises:
        ContextTooLarge: it is more than `most_bytes`.
    """
    size = yield f"{_SAID}SELECT sum(length(m.content)) {_TOLD}", (head,)
    if (size[0][0] or 0) > most_bytes:
        raise ContextTooLarge
    rows = yield f"{_SAID}SELECT m.role, m.content, m.session_id {_TOLD} ORDER BY m.depth", (head,)
    said = []
    for role, content, found in rows:
        check_is(found, session_id)
        said.append(NewMessage(Role(role), decode_parts(content)))
    return said


def find_dialect_data(generation_id: str) -> Transaction[str | None]:
    """Return the `TurnRequest.dialect_data` that this generation began with, if its dialect gave any."""
    rows = yield "SELECT generation_id, echo FROM response WHERE generation_id = $1", (generation_id,)
    if not rows:
        return None
    check_is(rows[0][0], generation_id)
    return str(rows[0][1])


_INPUT = (  # the messages between an answer and the one under which its turn hangs, at this depth, or the last answer
    "WITH RECURSIVE path (id, parent) AS "
    "(SELECT id, parent FROM message WHERE id = $1 AND depth > $2 AND (role <> 'assistant' OR $3 = 1) UNION ALL "
    "SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent "
    "WHERE m.depth > $2 AND (m.role <> 'assistant' OR $3 = 1)) "
)


def input_of(generation_id: str) -> Transaction[list[Message]]:
    """The messages to which this generation's answer is the answer: those of its turn, the first first."""
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


def find_message(session_id: str, message_id: str) -> Transaction[Message | None]:
    """The message of this id in this session, with its generation and without its siblings."""
    rows = yield (
        f"SELECT {MESSAGE}, {GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id "
        "WHERE m.id = $1 AND m.session_id = $2",
        (valid_id_or_empty(message_id), session_id),
    )
    return (yield from with_log(read_message(rows[0]))) if rows else None


def with_log(message: Message) -> Transaction[Message]:
    """A message whose answer still runs, with what is committed of it."""
    if message.generation is None or message.generation.status is not Status.RUNNING:
        return message
    return replace(message, parts=parts_of((yield from stored_pieces(message.generation.id, 0))))


def find_messages_of(owner: str, message_ids: list[str], most_bytes: int) -> Transaction[dict[str, Message]]:
    """Return those of these messages that are in a session of this owner, by id; a running answer is left out.

    Raises:
        ContextTooLarge: their content has more than `most_bytes`.
    """
    found: dict[str, Message] = {}
    size = 0
    for some in by_size([valid_id_or_empty(message_id) for message_id in message_ids]):
        rows = yield (
            f"SELECT s.owner, {MESSAGE}, {GENERATION} FROM message m JOIN session s ON s.id = m.session_id "
            f"LEFT JOIN generation g ON g.message_id = m.id WHERE s.owner = $1 AND m.id IN ({id_parameters(2)})",
            (owner, *some),
        )
        for row in rows:
            check_is(row[0], owner)
            message = read_message(row[1:])
            if message.generation is None or message.generation.status is not Status.RUNNING:
                found[message.id] = message
            size += sum(len(part.text) for part in message.parts)
        if size > most_bytes:
            raise ContextTooLarge
    return found


def answer_run(session_id: str, message_id: str) -> Transaction[list[Message]]:
    """The answers and results of tools that follow each other without a user between them: those above this message,
    itself, and the newest below it.

    Raises:
        MessageNotFound: the session has no such message.
    """
    rows = yield (
        "WITH RECURSIVE run (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 AND session_id = $2 "
        "UNION ALL SELECT m.id, m.parent FROM message m JOIN run r ON m.id = r.parent "
        f"WHERE m.role IN ('assistant', 'tool')) SELECT {MESSAGE}, {GENERATION} FROM run "
        "JOIN message m ON m.id = run.id LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth",
        (message_id, session_id),
    )
    if not rows:
        raise MessageNotFound
    run = []
    for row in rows:
        message = read_message(row)
        check_is(message.session_id, session_id)
        run.append((yield from with_log(message)))
    while rows := (
        yield (
            f"SELECT {MESSAGE}, {GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id "
            "WHERE m.session_id = $1 AND m.parent = $2 AND m.role IN ('assistant', 'tool') "
            "ORDER BY m.created_at DESC, m.id DESC LIMIT 1",
            (session_id, run[-1].id),
        )
    ):
        run.append((yield from with_log(read_message(rows[0]))))
    return run


def _siblings(session_id: str, messages: list[Message]) -> Transaction[dict[str | None, list[str]]]:
    """The ids of all messages that have the same parents as these, by parent, the oldest first."""
    found: dict[str | None, list[str]] = {}
    for some in by_size([message.parent for message in messages if message.parent is not None]):
        rows = yield (
            f"SELECT DISTINCT parent, created_at, id FROM message WHERE session_id = $1 AND parent IN "
            f"({id_parameters(2)}) ORDER BY created_at, id",
            (session_id, *some),
        )
        for parent, _, message_id in rows:
            found.setdefault(parent, []).append(message_id)
    if any(message.parent is None for message in messages):
        rows = yield (
            "SELECT id FROM message WHERE session_id = $1 AND parent IS NULL ORDER BY created_at, id",
            (session_id,),
        )
        found[None] = [row[0] for row in rows]
    return found


def messages(session_id: str, after_depth: int, limit: int) -> Transaction[list[Message]]:
    """The messages of the session's active path that are deeper than `after_depth`, the first first.

    At most `limit`, and at most about `PAGE_BYTES`, but one in any case.
    """
    return (yield from _page(session_id, after_depth, limit, "m.depth > $2", "m.depth"))


def messages_before(session_id: str, before_depth: int, limit: int) -> Transaction[list[Message]]:
    """The messages of the session's active path that are less deep than `before_depth`, the last first.

    At most `limit`, and at most about `PAGE_BYTES`, but one in any case.
    """
    return (yield from _page(session_id, before_depth, limit, "m.depth < $2", "m.depth DESC"))


def _page(session_id: str, depth: int, limit: int, which: str, order: str) -> Transaction[list[Message]]:
    """Messages of the active path: `which` compares their depth with `depth`, and `order` is the order of the page."""
    session = yield from find_session(session_id)
    if session is None:
        raise SessionNotFound
    rows = yield (
        f"{_PATH}, page (id, before) AS "
        f"(SELECT m.id, sum(length(m.content)) OVER (ORDER BY {order}) - length(m.content) "
        f"FROM path p JOIN message m ON m.id = p.id WHERE {which}) "
        f"SELECT {MESSAGE}, {GENERATION} FROM page JOIN message m ON m.id = page.id "
        f"LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= $4 ORDER BY {order} LIMIT $3",
        (session.head, depth, limit, PAGE_BYTES),
    )
    found = []
    for row in rows:
        message = read_message(row)
        check_is(message.session_id, session_id)
        found.append((yield from with_log(message)))
    siblings = yield from _siblings(session_id, found)
    return [replace(message, siblings=tuple(siblings[message.parent])) for message in found]
