"""Shares: links with which anyone can read the path that ends in a message.

A link is found by the digest of its token only. It shows the messages as they are now: a message that is deleted
disappears from it, and the link ends with its last message, its session, or its time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chatapi.errors import SessionFull, ShareNotFound
from chatapi.model import Authorizer, Microseconds, NewMessage, Share, ShareAuthorizer, new_id
from chatapi.store.drivers.driver import Transaction
from chatapi.store.messages import read_history
from chatapi.store.repository import Repository, durable_write, read
from chatapi.store.rows import valid_id_or_empty
from chatapi.store.sessions import find_session
from chatapi.store.tree import require_idle

MAX_SHARES = 100  # of a session
_COLUMNS = "id, session_id, message_id, created_at, expires_at"


class SharedPath(NamedTuple):
    """The messages that a link shows, and the title of their session."""

    share: Share
    title: str | None
    messages: list[NewMessage]


class Shares(Repository):
    """Links to conversations. Expired ones are removed when the next one is created; until then they are not found."""

    @durable_write
    def create(
        self, session_id: str, authorizer: Authorizer, digest: str, lifetime: int, max_bytes: int
    ) -> Transaction[Share]:
        """Create a link to the active path of a session. `lifetime` is in microseconds.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            ShareNotFound: The session has no messages to share.
            SessionBusy: Its last answer is running.
            ContextTooLarge: The path is larger than `max_bytes`.
            SessionFull: The session has `MAX_SHARES` links.
        """
        now = self._clock()
        session = authorizer((yield from find_session(session_id, lock=True)))
        yield from require_idle(session_id)
        if session.head is None:
            raise ShareNotFound
        yield "DELETE FROM share WHERE expires_at <= $1", (now,)
        rows = yield "SELECT count(*) FROM share WHERE session_id = $1", (session_id,)
        if rows[0][0] >= MAX_SHARES:
            raise SessionFull
        yield from read_history(session_id, session.head, max_bytes)
        share = Share(new_id("shr"), session_id, session.head, now, Microseconds(now + lifetime))
        yield (
            f"INSERT INTO share (digest, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)",
            (digest, share.id, share.session_id, share.message_id, share.created_at, share.expires_at),
        )
        return share

    @durable_write
    def remove(self, session_id: str, share_id: str, authorizer: Authorizer) -> Transaction[None]:
        """Remove a link.

        Raises:
            SessionNotFound: Not the caller's, or not there.
            ShareNotFound: The session has no such link.
        """
        authorizer((yield from find_session(session_id, lock=True)))
        rows = yield (
            "DELETE FROM share WHERE id = $1 AND session_id = $2 RETURNING id",
            (valid_id_or_empty(share_id), session_id),
        )
        if not rows:
            raise ShareNotFound

    @read
    def of_session(self, session_id: str) -> Transaction[list[Share]]:
        """Return the links of a session that have not expired, the oldest first."""
        rows = yield (
            f"SELECT {_COLUMNS} FROM share WHERE session_id = $1 AND expires_at > $2 ORDER BY created_at, id",
            (session_id, self._clock()),
        )
        return [_read_row(row) for row in rows]

    @read
    def find(self, digest: str, authorizer: ShareAuthorizer, max_bytes: int) -> Transaction[SharedPath]:
        """Return what the link with this digest shows.

        Raises:
            ShareNotFound: `authorizer` refuses it, or its session or its last message was deleted.
            ContextTooLarge: The path is larger than `max_bytes`.
        """
        rows = yield f"SELECT {_COLUMNS} FROM share WHERE digest = $1", (digest,)
        share = authorizer(_read_row(rows[0]) if rows else None, self._clock())
        session = yield from find_session(share.session_id)
        last = yield (
            "SELECT id FROM message WHERE id = $1 AND session_id = $2",
            (share.message_id, share.session_id),
        )
        if session is None or not last:
            raise ShareNotFound
        return SharedPath(share, session.title, (yield from read_history(session.id, share.message_id, max_bytes)))


def _read_row(row: tuple[Any, ...]) -> Share:
    share_id, session_id, message_id, created_at, expires_at = row
    return Share(share_id, session_id, message_id, Microseconds(created_at), Microseconds(expires_at))
