"""Summaries of the beginning of paths, which a model wrote. They hold text of messages, and are deleted with them."""

from __future__ import annotations

from chatapi.errors import SummaryNotFound
from chatapi.model import Authorizer, Summary, Usage
from chatapi.store.drivers.driver import Transaction
from chatapi.store.repository import Repository, durable_write, read
from chatapi.store.rows import check_is, valid_id_or_empty
from chatapi.store.sessions import find_session, note_deletion
from chatapi.store.usage import count_tokens

_COLUMNS = "id, session_id, last, messages, model, content, created_at"
MAX_SUMMARIES = 100  # of a session; the oldest are deleted


class Summaries(Repository):
    """The summaries of sessions."""

    @read
    def find_all(self, session_id: str) -> Transaction[list[Summary]]:
        """Return the summaries of a session, the newest first."""
        rows = yield (
            f"SELECT {_COLUMNS} FROM summary WHERE session_id = $1 ORDER BY created_at DESC, id DESC",
            (session_id,),
        )
        for row in rows:
            check_is(row[1], session_id)
        return [Summary(*row) for row in rows]

    @durable_write
    def add(self, summary: Summary, owner: str, usage: Usage | None) -> Transaction[bool]:
        """Store a summary and count its tokens for its owner; only the latter if a message was deleted meanwhile.

        Return whether it was stored.
        """
        session = yield from find_session(summary.session_id, lock=True)
        yield count_tokens(
            owner, summary.session_id if session is not None else "", summary.model, usage, self._clock()
        )
        rows = yield "SELECT 1 FROM message WHERE id = $1 AND session_id = $2", (summary.last, summary.session_id)
        if session is None or not rows:
            return False
        yield (
            f"INSERT INTO summary ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            (
                summary.id,
                summary.session_id,
                summary.last,
                summary.messages,
                summary.model,
                summary.text,
                summary.created_at,
            ),
        )
        yield (
            "DELETE FROM summary WHERE session_id = $1 AND id IN (SELECT id FROM summary WHERE session_id = $1 "
            f"ORDER BY created_at DESC, id DESC LIMIT {MAX_SUMMARIES} OFFSET {MAX_SUMMARIES})",
            (summary.session_id,),
        )
        return True

    @durable_write
    def count(self, session_id: str | None, owner: str, model: str, usage: Usage | None) -> Transaction[None]:
        """Count the tokens of a summary that is not stored for its owner, and for the session if it is still there."""
        session = (yield from find_session(session_id, lock=True)) if session_id is not None else None
        yield count_tokens(owner, session.id if session is not None else "", model, usage, self._clock())

    @durable_write
    def remove(self, session_id: str, summary_id: str, authorizer: Authorizer) -> Transaction[None]:
        """Remove a summary: later requests have the messages again, as far as the model takes them.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            SummaryNotFound: The session has no such summary.
        """
        authorizer((yield from find_session(session_id, lock=True)))
        rows = yield (
            "DELETE FROM summary WHERE id = $1 AND session_id = $2 RETURNING id",
            (valid_id_or_empty(summary_id), session_id),
        )
        if not rows:
            raise SummaryNotFound
        yield note_deletion(self._clock())
