"""Values that the store takes and returns, and that exist nowhere else."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from chatapi.model import (
    VISIBLE_KINDS,
    Generation,
    Kind,
    MessageCursor,
    Microseconds,
    Piece,
    SearchCursor,
    Session,
)


class Lease(msgspec.Struct, frozen=True):
    """The replica that may append to a generation, and until when."""

    replica: str
    until: Microseconds

    @classmethod
    def begin(cls, now: Microseconds, replica: str, seconds: float) -> Lease:
        """Return a lease that begins now."""
        return cls(replica, Microseconds(now + int(seconds * 1_000_000)))


class Append(msgspec.Struct, frozen=True, gc=False):
    """The next pieces of one generation's log."""

    generation_id: str
    pieces: list[Piece]


class StartedTurn(msgspec.Struct, frozen=True):
    """A turn that is committed.

    `parent` is the message before it, `input` the IDs of the messages that it added. `replayed`: an earlier request
    with the same idempotency key started it; `input` is empty then. `bound`: the session had no owner before it.
    """

    session: Session
    generation: Generation
    parent: str | None = None
    replayed: bool = False
    input: tuple[str, ...] = ()
    bound: bool = False


class StoredLog(msgspec.Struct, frozen=True):
    """A generation and its committed log past some position."""

    generation: Generation
    pieces: list[Piece]


class RunningHere(msgspec.Struct, frozen=True):
    """A generation that is stored as running on this replica, and whether a stop was requested."""

    id: str
    stop_requested: bool


class ScanSnapshot(NamedTuple):
    """A session to scan: where the scan starts, and the number and newest time of its messages when it began."""

    session: Session
    first: MessageCursor
    messages: int
    newest: Microseconds


class Candidate(NamedTuple):
    """A title or a message to search, and its cursor. `content` is the title, or the stored content of the message."""

    place: SearchCursor
    session_id: str
    title: str | None
    message_id: str | None
    role: str | None
    created_at: Microseconds
    content: str

    @property
    def text(self) -> str:
        """The title, or the visible text of the message."""
        if self.message_id is None:
            return self.content
        parts = _decode_texts(self.content)
        return "".join([part.text for part in parts if part.type in VISIBLE_KINDS and part.text is not None])


class _StoredText(msgspec.Struct):
    """The text of a stored part; other members are skipped without being decoded."""

    type: Kind
    text: str | None = None


_decode_texts = msgspec.json.Decoder(list[_StoredText]).decode
