"""Quotas: limits on the messages and bytes of a session, and on the sessions and bytes of an owner and of the store.

Sizes are those of stored content, in characters; `session.content_bytes` adds them up. The limits of a session are
exact. Those of an owner and of the store are checked against a count that is repeated after a tenth of the room that it
found was used here, so that a turn normally costs no query; each replica may exceed them by a tenth of that room.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from chatapi.errors import QuotaExceeded, SessionFull
from chatapi.model import Part, Session
from chatapi.store.drivers.driver import Transaction

KNOWN_OWNERS = 10_000  # whose room is remembered
REFUSAL_SECONDS = 5.0  # before an owner without room is counted again
NO_LIMIT = 1 << 62
OWNER_IS_FULL = "This key has reached CHATAPI_MAX_OWNER_SESSIONS or CHATAPI_MAX_OWNER_BYTES."
STORE_IS_FULL = "The server has reached CHATAPI_MAX_SESSIONS or CHATAPI_MAX_STORE_BYTES."


class StoreLimits(msgspec.Struct, frozen=True):
    """Limits of the store; 0 switches one off."""

    session_messages: int = 0
    session_bytes: int = 0
    owner_sessions: int = 0
    owner_bytes: int = 0
    sessions: int = 0
    bytes: int = 0


class _Room:
    """The sessions and bytes that an owner, or all of them, may add before the next count.

    It begins with a hundredth of the limits, so that an owner who stores little is never counted.
    """

    def __init__(self, max_sessions: int, max_bytes: int, owner: str | None, refusal: str) -> None:
        self._max_sessions = max_sessions or NO_LIMIT
        self._max_bytes = max_bytes or NO_LIMIT
        self._owner = owner
        self._refusal = refusal
        self._sessions = self._max_sessions // 100
        self._bytes = self._max_bytes // 100
        self._refused_until = 0.0

    def take(self, sessions: int, size: int) -> bool:
        """Take room, and return whether there was as much. If not, `count_again` must follow."""
        self._sessions -= sessions
        self._bytes -= size
        return self._sessions >= 0 and self._bytes >= 0

    def count_again(self, sessions: int, size: int) -> Transaction[None]:
        """Count the stored sessions and bytes, with those just taken, and set the room that is left.

        Raises:
            QuotaExceeded: There is none left.
        """
        now = time.monotonic()
        if now < self._refused_until:
            raise QuotaExceeded(self._refusal)
        condition, values = ("WHERE owner = $1", (self._owner,)) if self._owner is not None else ("", ())
        rows = yield f"SELECT count(*), coalesce(sum(content_bytes), 0) FROM session {condition}", values
        left_sessions = self._max_sessions - int(rows[0][0]) - sessions
        left_bytes = self._max_bytes - int(rows[0][1]) - size
        if left_sessions < 0 or left_bytes < 0:
            self._refused_until = now + REFUSAL_SECONDS
            raise QuotaExceeded(self._refusal)
        self._sessions, self._bytes = left_sessions // 10, left_bytes // 10


class Quotas:
    """The room that is left, shared by the repositories that add sessions or messages."""

    def __init__(self, limits: StoreLimits) -> None:
        self._limits = limits
        self._owners: OrderedDict[str, _Room] = OrderedDict()
        self._store = _Room(limits.sessions, limits.bytes, None, STORE_IS_FULL)

    def require_session_room(self, session: Session | None, messages: int, size: int) -> None:
        """Raise `SessionFull` if a session, or a new one, cannot take so many more messages and bytes."""
        if session is not None:
            messages += session.message_count
            size += session.content_bytes
        if messages > (self._limits.session_messages or NO_LIMIT) or size > (self._limits.session_bytes or NO_LIMIT):
            raise SessionFull

    def take(self, owner: str | None, sessions: int, size: int) -> Transaction[None]:
        """Use room of the owner and of the store; call it before the transaction writes.

        Raises:
            QuotaExceeded: There is none left.
        """
        for room in (self._store,) if owner is None else (self._room_of(owner), self._store):
            if not room.take(sessions, size):
                yield from room.count_again(sessions, size)

    def _room_of(self, owner: str) -> _Room:
        room = self._owners.get(owner)
        if room is None:
            room = _Room(self._limits.owner_sessions, self._limits.owner_bytes, owner, OWNER_IS_FULL)
            self._owners[owner] = room
            if len(self._owners) > KNOWN_OWNERS:
                self._owners.popitem(last=False)
        self._owners.move_to_end(owner)
        return room


def growth(session: Session | None, developer_message: str | None) -> int:
    """Return by how much a session grows, or a new one, with this developer message; None: it keeps its own."""
    if developer_message is None:
        return 0
    return len(developer_message) - (len(session.developer_message) if session is not None else 0)


def content_size(parts: Iterable[Part]) -> int:
    """Return the approximate size of stored parts, without encoding them."""
    return sum(
        [
            len(part.text) + 32
            if part.media is None
            else len(part.text) + len(part.media.url or "") + len(part.media.data or "") + 64
            for part in parts
        ]
    )
