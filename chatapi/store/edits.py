"""Edits: store another version of a message without asking a model for an answer."""

from __future__ import annotations

from msgspec.structs import replace

from chatapi.errors import IdempotencyMismatch, InvalidRequest, MessageNotFound
from chatapi.model import (
    Authorizer,
    Generation,
    Kind,
    Message,
    NewMessage,
    Part,
    Role,
    Status,
    new_id,
    visible_text,
    with_text,
)
from chatapi.store.drivers.driver import Transaction
from chatapi.store.imports import insert_generations
from chatapi.store.messages import siblings_of, update_session
from chatapi.store.quotas import content_size
from chatapi.store.repository import Repository, durable_write
from chatapi.store.rows import GENERATION, MESSAGE, check_is, read_message, valid_id_or_empty
from chatapi.store.sessions import find_session
from chatapi.store.statements import run_each
from chatapi.store.tree import insert_messages, require_idle
from chatapi.titles import title_of

EDITED = "edited"  # the finish reason of an answer that a user has written
DIALECT = "edit"  # of these answers: no request asked for them, and they do not count as usage
UNKNOWN_MODEL = "unknown"  # of an answer that no model of this server wrote
EDITABLE = frozenset({Role.USER, Role.ASSISTANT})


class Edits(Repository):
    """Versions of messages that users have written."""

    @durable_write
    def replace_text(
        self, session_id: str, message_id: str, authorizer: Authorizer, text: str, new_message_id: str
    ) -> Transaction[Message]:
        """Store a sibling of a message with this text, and make it the head; its siblings are filled in.

        A user message keeps its attachments. An answer keeps its text only: reasoning, tool calls and sources belong
        to the old text. If `new_message_id` is stored already, an earlier request with the same idempotency key did
        that: its message is returned, and nothing changes.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            MessageNotFound: The session has no such message.
            InvalidRequest: The message is neither of the user nor an answer.
            SessionBusy: The session has a running generation.
            IdempotencyMismatch: `new_message_id` came with another request before.
            SessionFull, QuotaExceeded: There is no room for it.
        """
        session = authorizer((yield from find_session(session_id, lock=True)))
        stored = yield from _find(new_message_id)
        replaced = yield from _find(message_id)
        if stored is not None:
            if (
                stored.session_id != session_id
                or visible_text(stored.parts) != text
                or (replaced is not None and replaced.parent != stored.parent)
            ):
                raise IdempotencyMismatch
            return (yield from _with_siblings(stored))
        if replaced is None or replaced.session_id != session_id:
            raise MessageNotFound
        if replaced.role not in EDITABLE:
            raise InvalidRequest.field("replace", "It must be the id of a user message or of an answer.")
        yield from require_idle(session_id)
        now = self._clock()
        is_answer = replaced.role is Role.ASSISTANT
        new = NewMessage(replaced.role, (Part(Kind.TEXT, text),) if is_answer else with_text(replaced.parts, text))
        size = content_size(new.parts)
        self._quotas.require_session_room(session, 1, size)
        yield from self._quotas.take(session.owner, 0, size)
        depth = replaced.depth
        yield from run_each(insert_messages(session_id, replaced.parent, depth, (new,), (new_message_id,), now))
        edited = Message(new_message_id, session_id, replaced.parent, depth, new.role, new.parts, now)
        if is_answer:
            model = replaced.generation.model if replaced.generation is not None else UNKNOWN_MODEL
            edited = replace(
                edited,
                generation=Generation(
                    new_id("gen"),
                    session_id,
                    new_message_id,
                    Status.COMPLETED,
                    model,
                    DIALECT,
                    created_at=now,
                    ended_at=now,
                    length=len(text.encode()),
                    finish_reason=EDITED,
                ),
            )
            yield from run_each(insert_generations([edited], session.owner or ""))
        title = session.given_title if session.given_title is not None else title_of([new])
        yield from update_session(session, title, new_message_id, session.message_count + 1, now)
        yield "UPDATE session SET content_bytes = content_bytes + $2 WHERE id = $1", (session_id, size)
        return (yield from _with_siblings(edited))


def _find(message_id: str) -> Transaction[Message | None]:
    rows = yield (
        f"SELECT {MESSAGE}, {GENERATION} FROM message m LEFT JOIN generation g ON g.message_id = m.id WHERE m.id = $1",
        (valid_id_or_empty(message_id),),
    )
    if not rows:
        return None
    check_is(rows[0][0], message_id)
    return read_message(rows[0])


def _with_siblings(message: Message) -> Transaction[Message]:
    siblings = yield from siblings_of(message.session_id, [message])
    return replace(message, siblings=tuple(siblings[message.parent]))
