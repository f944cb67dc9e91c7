"""Changing a conversation without asking for an answer: add messages, and take them out."""

from __future__ import annotations

from dataclasses import replace

from chatapi.errors import MessageNotFound, SessionNotFound
from chatapi.model import Authorizer, Microseconds, NewMessage, Role, Session
from chatapi.store.drivers.driver import Transaction
from chatapi.store.transactions.logs import find_generation
from chatapi.store.transactions.reading import input_of
from chatapi.store.transactions.rows import decode_parts, each
from chatapi.store.transactions.sessions import delete_session, find_session
from chatapi.store.transactions.tree import depth_under, insert_messages, leaf_of, name_messages, require_idle
from chatapi.titles import title_of


def add_messages(
    session_id: str,
    owner: str,
    permit: Authorizer,
    input: tuple[NewMessage, ...],
    ids: tuple[str, ...],
    now: Microseconds,
) -> Transaction[Session]:
    """Add messages at the session's head, without asking for an answer.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    yield from require_idle(session_id)
    depth = 0
    if session.head is not None:
        depth, _ = yield from depth_under(session_id, session.head)
    yield from each(insert_messages(session_id, session.head, depth, input, ids, now))
    yield from each(name_messages(owner, session_id, input, ids))
    changed = replace(
        session,
        given_title=session.given_title if session.given_title is not None else title_of(input),
        head=ids[-1] if ids else session.head,
        message_count=session.message_count + len(ids),
        updated_at=now,
    )
    yield (
        "UPDATE session SET title = $2, head = $3, message_count = $4, updated_at = $5 WHERE id = $1",
        (session_id, changed.given_title, changed.head, changed.message_count, now),
    )
    return changed


def remove_message(session_id: str, message_id: str, permit: Authorizer, now: Microseconds) -> Transaction[Session]:
    """Take a message out of the tree: what hung under it hangs under its parent from now on.

    Raises:
        SessionNotFound: not this caller's, or not there.
        MessageNotFound: the session has no such message.
        SessionBusy: the session has a running generation.
    """
    session = permit((yield from find_session(session_id, lock=True)))
    yield from require_idle(session_id)
    rows = yield (
        "SELECT parent, role, content FROM message WHERE id = $1 AND session_id = $2",
        (message_id, session_id),
    )
    if not rows:
        raise MessageNotFound
    parent, role, content = rows[0]
    yield from _take_out(session_id, message_id, parent, 1)
    head = parent if session.head == message_id else session.head
    return (yield from _shrink(session, 1, [NewMessage(Role(role), decode_parts(content))], head, now))


def remove_answer(generation_id: str, permit: Authorizer, now: Microseconds) -> Transaction[None]:
    """Take an answer and its question out of the tree, and the session too where nothing is left of it.

    A question to which there is another answer stays. What hung under the answer hangs under the turn's parent from now
    on.

    Raises:
        SessionNotFound: not this caller's, or not there.
        SessionBusy: the session has a running generation.
    """
    generation = yield from find_generation(generation_id)
    session = permit((yield from find_session(generation.session_id, lock=True)) if generation is not None else None)
    yield from require_idle(session.id)
    if generation is None or (yield from find_generation(generation_id)) is None:
        raise SessionNotFound  # somebody was faster
    input = yield from input_of(generation_id)
    if input:
        parent = input[0].parent
    else:
        rows = yield "SELECT parent FROM message WHERE id = $1", (generation.message_id,)
        parent = rows[0][0]
    yield from _take_out(session.id, generation.message_id, parent, len(input) + 1)
    removed, head = 1, session.head
    asked: list[NewMessage] = []  # and is removed
    if head == generation.message_id:
        head = input[-1].id if input else parent
    for message in reversed(input):
        kept = yield "SELECT 1 FROM message WHERE session_id = $1 AND parent = $2 LIMIT 1", (session.id, message.id)
        if kept:
            break
        yield from _take_out(session.id, message.id, message.parent, 1)
        removed += 1
        asked.append(NewMessage(message.role, message.parts))
        head = message.parent if head == message.id else head
    if removed == session.message_count:
        yield from delete_session(session.id, permit, now)
        return
    if head is not None:
        head = yield from leaf_of(session.id, head)
    yield from _shrink(session, removed, asked, head, now)


def _take_out(session_id: str, message_id: str, parent: str | None, depths: int) -> Transaction[None]:
    """Remove one message, its generation and its names; what hangs under it comes up by so many depths."""
    yield (
        "WITH RECURSIVE below (id) AS (SELECT id FROM message WHERE session_id = $1 AND parent = $2 "
        "UNION ALL SELECT m.id FROM message m JOIN below b ON m.session_id = $1 AND m.parent = b.id) "
        "UPDATE message SET depth = depth - $3 WHERE id IN (SELECT id FROM below)",
        (session_id, message_id, depths),
    )
    yield (
        "UPDATE message SET parent = $3 WHERE session_id = $1 AND parent = $2",
        (session_id, message_id, parent),
    )
    yield "UPDATE response SET parent = $3 WHERE session_id = $1 AND parent = $2", (session_id, message_id, parent)
    of_message = "generation_id IN (SELECT id FROM generation WHERE message_id = $1)"
    yield f"DELETE FROM response WHERE {of_message}", (message_id,)
    yield f"DELETE FROM piece WHERE {of_message}", (message_id,)
    yield "DELETE FROM generation WHERE message_id = $1", (message_id,)
    yield "DELETE FROM alias WHERE session_id = $1 AND target = $2", (session_id, message_id)
    yield "DELETE FROM message WHERE id = $1 AND session_id = $2", (message_id, session_id)


def _shrink(
    session: Session, removed: int, inputs: list[NewMessage], head: str | None, now: Microseconds
) -> Transaction[Session]:
    """Let the session know that so many messages, these among them, were taken out. A title made of one goes too."""
    title = session.given_title
    if title and title in {title_of([message]) for message in inputs}:
        title = yield from _title_of_the_rest(session.id)
    changed = replace(
        session, given_title=title, head=head, message_count=session.message_count - removed, updated_at=now
    )
    yield (
        "UPDATE session SET title = $2, head = $3, message_count = $4, updated_at = $5 WHERE id = $1",
        (session.id, changed.given_title, changed.head, changed.message_count, now),
    )
    return changed


def _title_of_the_rest(session_id: str) -> Transaction[str | None]:
    rows = yield (
        "SELECT content FROM message WHERE session_id = $1 AND role = 'user' ORDER BY depth, created_at, id LIMIT 1",
        (session_id,),
    )
    return title_of([NewMessage(Role.USER, decode_parts(row[0])) for row in rows])
