"""Messages: read the active path, add messages without an answer, and remove them."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from chatapi.errors import ContextTooLarge, MessageNotFound, SessionNotFound
from chatapi.model import (
    Authorizer,
    LeftOut,
    Message,
    Microseconds,
    NewMessage,
    PathMessage,
    Role,
    Session,
    Status,
    Usage,
    new_id,
)
from chatapi.store.aliases import name_messages
from chatapi.store.drivers.driver import Transaction
from chatapi.store.generations import find_generation
from chatapi.store.inputs import find_input
from chatapi.store.pieces import with_log
from chatapi.store.quotas import content_size
from chatapi.store.repository import Repository, durable_write, read
from chatapi.store.rows import GENERATION, MESSAGE, check_is, decode_parts, read_message, valid_id_or_empty
from chatapi.store.sessions import delete_session, find_session
from chatapi.store.statements import id_batches, id_parameters, run_each
from chatapi.store.tree import child_depth, delete_message, insert_messages, newest_leaf, require_idle
from chatapi.titles import title_of

RUN_BYTES = 16 * 1024 * 1024  # of answers and tool results that a client shows as one message
RUN_TOO_LARGE = "The answers and tool results of this message exceed 16 MiB. Send a new user message."
PAGE_BYTES = 1024 * 1024  # of messages read at once, so that a page of long messages does not have 25 MB
CHECKPOINT_MESSAGES = 64  # between two checkpoints of a path

_FROM_LOW = "SELECT CAST($2 AS INTEGER)"  # the lowest depth of a page
_UP_TO_HIGH = "SELECT CASE WHEN depth < $3 THEN depth ELSE $3 END - $2 FROM message WHERE id = $1"

_ANSWERED_PATH = (  # the path, and for each message whether its turn's answer has content, or is still to come
    "WITH RECURSIVE path (id, parent, answered) AS "
    "(SELECT id, parent, role <> 'assistant' OR content <> '[]' FROM message WHERE id = $1 "
    "UNION ALL SELECT m.id, m.parent, CASE m.role WHEN 'assistant' THEN m.content <> '[]' ELSE p.answered END "
    "FROM message m JOIN path p ON m.id = p.parent) "
)

_HISTORY = "FROM path p JOIN message m ON m.id = p.id WHERE p.answered OR m.role = 'tool'"


class Messages(Repository):
    """The messages of sessions, which form a tree."""

    @read
    def find(self, session_id: str, message_id: str) -> Transaction[Message | None]:
        """Return the message with this ID in this session, or None. Its siblings are not filled in."""
        rows = yield (
            f"SELECT {MESSAGE}, {GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id "
            "WHERE m.id = $1 AND m.session_id = $2",
            (valid_id_or_empty(message_id), session_id),
        )
        return (yield from with_log(read_message(rows[0]))) if rows else None

    @read
    def find_of_owner(self, owner: str, message_ids: list[str], max_bytes: int) -> Transaction[dict[str, Message]]:
        """Return those of these messages that are in a session of this owner, by ID, without running answers.

        Raises:
            ContextTooLarge: Their content is larger than `max_bytes`; no more than that was read.
        """
        found: dict[str, Message] = {}
        size = 0
        of_owner = f"WHERE s.owner = $1 AND m.id IN ({id_parameters(2)})"
        for batch in id_batches([valid_id_or_empty(message_id) for message_id in message_ids]):
            sizes = yield (
                f"SELECT coalesce(sum(length(m.content)), 0) FROM message m JOIN session s ON s.id = m.session_id "
                f"{of_owner}",
                (owner, *batch),
            )
            size += int(sizes[0][0])
            if size > max_bytes:
                raise ContextTooLarge
            rows = yield (
                f"SELECT s.owner, {MESSAGE}, {GENERATION} FROM message m JOIN session s ON s.id = m.session_id "
                f"LEFT JOIN generation g ON g.message_id = m.id {of_owner}",
                (owner, *batch),
            )
            for row in rows:
                check_is(row[0], owner)
                message = read_message(row[1:])
                if message.generation is None or message.generation.status is not Status.RUNNING:
                    found[message.id] = message
        return found

    @read
    def page_after(self, session_id: str, after_depth: int, limit: int) -> Transaction[list[Message]]:
        """Return the messages of the active path that are deeper than `after_depth`, the first one first.

        At most `limit`, and at most about `PAGE_BYTES`, but at least one if there is one.
        """
        return (yield from _page(session_id, after_depth + 1, after_depth + limit, _FROM_LOW, "m.depth"))

    @read
    def page_before(self, session_id: str, before_depth: int, limit: int) -> Transaction[list[Message]]:
        """Return the messages of the active path that are less deep than `before_depth`, the last one first.

        At most `limit`, and at most about `PAGE_BYTES`, but at least one if there is one.
        """
        return (yield from _page(session_id, limit - 1, before_depth - 1, _UP_TO_HIGH, "m.depth DESC"))

    @read
    def find_input(self, generation_id: str) -> Transaction[list[Message]]:
        """Return the messages of this generation's turn without its answer, the first one first."""
        return (yield from find_input(generation_id))

    @read
    def answer_run(self, session_id: str, message_id: str) -> Transaction[list[Message]]:
        """Return the answers and tool results around a message that follow each other without a user message.

        Some clients treat them as one message: those above `message_id`, itself, and the newest ones below it.

        Raises:
            MessageNotFound: The session has no such message.
            ContextTooLarge: They have more than `RUN_BYTES`.
        """
        above = (
            "WITH RECURSIVE run (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 AND session_id = $2 "
            "UNION ALL SELECT m.id, m.parent FROM message m JOIN run r ON m.id = r.parent "
            "WHERE m.role IN ('assistant', 'tool'))"
        )
        sizes = yield (
            f"{above} SELECT coalesce(sum(length(m.content)), 0) FROM run JOIN message m ON m.id = run.id",
            (message_id, session_id),
        )
        size = int(sizes[0][0])
        if size > RUN_BYTES:
            raise ContextTooLarge(RUN_TOO_LARGE)
        rows = yield (
            f"{above} SELECT {MESSAGE}, {GENERATION} FROM run "
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
            size += content_size(run[-1].parts)
            if size > RUN_BYTES:
                raise ContextTooLarge(RUN_TOO_LARGE)
        return run

    @read
    def history(self, session_id: str, head: str, max_bytes: int) -> Transaction[list[NewMessage]]:
        """Return the path that ends in `head`, in order, without turns whose answer has no content.

        A turn that was refused, or stopped before its first token, is left out with its question, before its text is
        read. Tool results are kept: the client may not send them again. `generations.history.select_history` makes the
        upstream's messages from this.

        Raises:
            ContextTooLarge: The stored content is larger than `max_bytes`.
        """
        return (yield from read_history(session_id, head, max_bytes))

    @read
    def context_path(self, session_id: str, head: str, max_bytes: int) -> Transaction[list[PathMessage]]:
        """Return the path as `history` does, with ids and the facts of answers; of a larger one, read only the end.

        The content of the last messages is read, up to `max_bytes`; those before them have none.
        """
        rows = yield (
            f"{_ANSWERED_PATH}, sized (id, tail) AS "
            f"(SELECT m.id, sum(length(m.content)) OVER (ORDER BY m.depth DESC) {_HISTORY}) "
            "SELECT m.id, m.session_id, m.role, CASE WHEN z.tail <= $2 THEN m.content END, g.model, g.usage, "
            "g.left_out FROM sized z JOIN message m ON m.id = z.id "
            "LEFT JOIN generation g ON g.message_id = m.id ORDER BY m.depth",
            (head, max_bytes),
        )
        found = []
        for message_id, found_session, role, content, model, usage, left_out in rows:
            check_is(found_session, session_id)
            found.append(
                PathMessage(
                    NewMessage(Role(role), decode_parts(content) if content is not None else ()),
                    message_id,
                    model,
                    msgspec.json.decode(usage, type=Usage) if usage is not None else None,
                    msgspec.json.decode(left_out, type=LeftOut) if left_out is not None else None,
                    content is not None,
                )
            )
        return found

    @read
    def path_checkpoints(self, session_id: str, head: str) -> Transaction[list[str]]:
        """Return messages on the path that ends in `head`, at most `CHECKPOINT_MESSAGES` apart, the head last.

        A path is found from its end. With checkpoints, `path_segment` reads it from its beginning in linear time.
        """
        rows = yield (
            "WITH RECURSIVE path (id, parent, depth, session_id) AS "
            "(SELECT id, parent, depth, session_id FROM message WHERE id = $1 UNION ALL "
            "SELECT m.id, m.parent, m.depth, m.session_id FROM message m JOIN path p ON m.id = p.parent) "
            f"SELECT session_id, id FROM path WHERE (depth + 1) % {CHECKPOINT_MESSAGES} = 0 OR id = $1 ORDER BY depth",
            (head,),
        )
        for row in rows:
            check_is(row[0], session_id)
        return [row[1] for row in rows]

    @read
    def path_segment(self, session_id: str, checkpoint: str, after_depth: int) -> Transaction[list[Message]]:
        """Return the messages deeper than `after_depth` on the path that ends in `checkpoint`, the first one first.

        At most about `PAGE_BYTES`, but at least one if there is one.
        """
        rows = yield (
            "WITH RECURSIVE path (id, parent) AS (SELECT id, parent FROM message WHERE id = $1 AND depth > $2 "
            "UNION ALL SELECT m.id, m.parent FROM message m JOIN path p ON m.id = p.parent WHERE m.depth > $2), "
            "page (id, before) AS (SELECT m.id, sum(length(m.content)) OVER (ORDER BY m.depth) - length(m.content) "
            "FROM path p JOIN message m ON m.id = p.id) "
            f"SELECT {MESSAGE}, {GENERATION} FROM page JOIN message m ON m.id = page.id "
            f"LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= {PAGE_BYTES} ORDER BY m.depth",
            (checkpoint, after_depth),
        )
        found = []
        for row in rows:
            message = read_message(row)
            check_is(message.session_id, session_id)
            found.append((yield from with_log(message)))
        return found

    async def add(
        self, session_id: str, owner: str, authorizer: Authorizer, messages: tuple[NewMessage, ...]
    ) -> list[str]:
        """Add messages at the session's head without asking for an answer; return their IDs.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            SessionBusy: The session has a running generation.
        """
        ids = tuple(new_id("msg") for _ in messages)
        await self._add(session_id, owner, authorizer, messages, ids)
        return list(ids)

    @durable_write
    def _add(
        self,
        session_id: str,
        owner: str,
        authorizer: Authorizer,
        messages: tuple[NewMessage, ...],
        ids: tuple[str, ...],
    ) -> Transaction[None]:
        now = self._clock()
        session = authorizer((yield from find_session(session_id, lock=True)))
        yield from require_idle(session_id)
        size = sum(content_size(message.parts) for message in messages)
        self._quotas.require_session_room(session, len(messages), size)
        yield from self._quotas.take(owner, 0, size)
        depth = 0
        if session.head is not None:
            depth, _ = yield from child_depth(session_id, session.head)
        yield from run_each(insert_messages(session_id, session.head, depth, messages, ids, now))
        yield from run_each(name_messages(owner, session_id, messages, ids))
        title = session.given_title if session.given_title is not None else title_of(messages)
        head = ids[-1] if ids else session.head
        yield from update_session(session, title, head, session.message_count + len(ids), now)
        yield "UPDATE session SET content_bytes = content_bytes + $2 WHERE id = $1", (session_id, size)

    @durable_write
    def remove(self, session_id: str, message_id: str, authorizer: Authorizer) -> Transaction[Session]:
        """Remove a message; its children are re-parented.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            MessageNotFound: The session has no such message.
            SessionBusy: The session has a running generation.
        """
        session = authorizer((yield from find_session(session_id, lock=True)))
        yield from require_idle(session_id)
        rows = yield (
            "SELECT parent, role, content FROM message WHERE id = $1 AND session_id = $2",
            (message_id, session_id),
        )
        if not rows:
            raise MessageNotFound
        parent, role, content = rows[0]
        yield from delete_message(session_id, message_id, parent, 1)
        head = parent if session.head == message_id else session.head
        return (yield from _shrink(session, 1, [NewMessage(Role(role), decode_parts(content))], head, self._clock()))

    @durable_write
    def remove_answer(self, generation_id: str, authorizer: Authorizer) -> Transaction[None]:
        """Remove an answer and its question, and the session if no message is left in it.

        A question that has another answer stays. The children of the answer are re-parented to the turn's parent.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            SessionBusy: The session has a running generation.
        """
        now = self._clock()
        generation = yield from find_generation(generation_id)
        session = authorizer(
            (yield from find_session(generation.session_id, lock=True)) if generation is not None else None
        )
        yield from require_idle(session.id)
        if generation is None or (yield from find_generation(generation_id)) is None:
            raise SessionNotFound  # a concurrent request removed it before the session was locked
        question = yield from find_input(generation_id)
        if question:
            parent = question[0].parent
        else:
            rows = yield "SELECT parent FROM message WHERE id = $1", (generation.message_id,)
            parent = rows[0][0]
        yield from delete_message(session.id, generation.message_id, parent, len(question) + 1)
        removed, head = 1, session.head
        removed_question: list[NewMessage] = []
        if head == generation.message_id:
            head = question[-1].id if question else parent
        for message in reversed(question):
            kept = yield (
                "SELECT 1 FROM message WHERE session_id = $1 AND parent = $2 LIMIT 1",
                (session.id, message.id),
            )
            if kept:
                break
            yield from delete_message(session.id, message.id, message.parent, 1)
            removed += 1
            removed_question.append(NewMessage(message.role, message.parts))
            head = message.parent if head == message.id else head
        if removed == session.message_count:
            yield from delete_session(session, now)
            return
        if head is not None:
            head = yield from newest_leaf(session.id, head)
        yield from _shrink(session, removed, removed_question, head, now)


def read_history(session_id: str, head: str, max_bytes: int) -> Transaction[list[NewMessage]]:
    """Read the path that ends in `head`, as `Messages.history`."""
    size = yield f"{_ANSWERED_PATH}SELECT sum(length(m.content)) {_HISTORY}", (head,)
    if (size[0][0] or 0) > max_bytes:
        raise ContextTooLarge
    rows = yield f"{_ANSWERED_PATH}SELECT m.role, m.content, m.session_id {_HISTORY} ORDER BY m.depth", (head,)
    found = []
    for role, content, found_session in rows:
        check_is(found_session, session_id)
        found.append(NewMessage(Role(role), decode_parts(content)))
    return found


def _page(session_id: str, low: int, high: int, lowest: str, order: str) -> Transaction[list[Message]]:
    """Return the messages of the active path with depths from `lowest`, a query that uses `low`, to `high`.

    The path is walked from the head, and no further than to `lowest`: a page near the head costs what it returns, and
    other messages on the way cost one index lookup each.
    """
    session = yield from find_session(session_id)
    if session is None:
        raise SessionNotFound
    rows = yield (
        f"WITH RECURSIVE bound (depth) AS ({lowest}), path (id, parent, depth) AS "
        "(SELECT id, parent, depth FROM message WHERE id = $1 UNION ALL SELECT m.id, m.parent, m.depth "
        "FROM path p JOIN message m ON m.id = p.parent WHERE p.depth > (SELECT depth FROM bound)), "
        f"page (id, before) AS (SELECT m.id, sum(length(m.content)) OVER (ORDER BY {order}) - length(m.content) "
        "FROM path p JOIN message m ON m.id = p.id WHERE p.depth >= (SELECT depth FROM bound) AND p.depth <= $3) "
        f"SELECT {MESSAGE}, {GENERATION} FROM page JOIN message m ON m.id = page.id "
        f"LEFT JOIN generation g ON g.message_id = m.id WHERE page.before <= {PAGE_BYTES} ORDER BY {order}",
        (session.head, low, high),
    )
    found = []
    for row in rows:
        message = read_message(row)
        check_is(message.session_id, session_id)
        found.append((yield from with_log(message)))
    siblings = yield from siblings_of(session_id, found)
    return [replace(message, siblings=tuple(siblings[message.parent])) for message in found]


def siblings_of(session_id: str, messages: list[Message]) -> Transaction[dict[str | None, list[str]]]:
    """Return the IDs of all children of the parents of these messages, by parent, the oldest first."""
    found: dict[str | None, list[str]] = {}
    for batch in id_batches([message.parent for message in messages if message.parent is not None]):
        rows = yield (
            f"SELECT DISTINCT parent, created_at, id FROM message WHERE session_id = $1 AND parent IN "
            f"({id_parameters(2)}) ORDER BY created_at, id",
            (session_id, *batch),
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


def _shrink(
    session: Session, count: int, removed: list[NewMessage], head: str | None, now: Microseconds
) -> Transaction[Session]:
    """Update the session after `count` messages were removed. A title derived from one of them is derived again."""
    title = session.given_title
    if title and title in {title_of([message]) for message in removed}:
        title = yield from _title_of_first_message(session.id)
    return (yield from update_session(session, title, head, session.message_count - count, now))


def _title_of_first_message(session_id: str) -> Transaction[str | None]:
    rows = yield (
        "SELECT content FROM message WHERE session_id = $1 AND role = 'user' ORDER BY depth, created_at, id LIMIT 1",
        (session_id,),
    )
    return title_of([NewMessage(Role.USER, decode_parts(row[0])) for row in rows])


def update_session(
    session: Session, title: str | None, head: str | None, message_count: int, now: Microseconds
) -> Transaction[Session]:
    """Set what a change of its messages changes in a session; return the session."""
    yield (
        "UPDATE session SET title = $2, head = $3, message_count = $4, updated_at = $5 WHERE id = $1",
        (session.id, title, head, message_count, now),
    )
    return replace(session, given_title=title, head=head, message_count=message_count, updated_at=now)
