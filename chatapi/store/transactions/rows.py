"""What the other modules share: columns, how rows become nouns, and lists of ids of one length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from chatapi.model import (
    VISIBLE_KINDS,
    Generation,
    Kind,
    Media,
    Message,
    MessageCursor,
    Microseconds,
    Part,
    Piece,
    Role,
    SearchCursor,
    Session,
    Status,
    ToolCall,
    Usage,
)
from chatapi.store.drivers.driver import CrossedRows, Statement, Transaction

SESSION = "id, owner, developer_message, title, metadata, head, message_count, created_at, updated_at"


GENERATION = (
    "g.id, g.session_id, g.message_id, g.status, g.model, g.dialect, g.created_at, g.first_token_at, g.ended_at, "
    "g.length, g.finish_reason, g.usage, g.error_code, g.error_detail, g.replica"
)


MESSAGE = "m.id, m.session_id, m.parent, m.depth, m.role, m.content, m.created_at"


MESSAGE_COLUMNS = 7


@dataclass(frozen=True, slots=True)
class NewIds:
    """The ids of all that a turn makes: `session` when it begins one, `input` for each message that it brings."""

    session: str
    input: tuple[str, ...]
    answer: str
    generation: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may append to a generation, and until when."""

    replica: str
    until: Microseconds


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A turn that is committed. `parent` is the message before it; `repeated`: an earlier request began it already.

    `input` are the ids of the messages that it brought; a repeated one has none.
    """

    session: Session
    generation: Generation
    parent: str | None = None
    repeated: bool = False
    input: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A generation and what is committed of its log past some position."""

    generation: Generation
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Running:
    """A generation that this replica is to be producing, and whether somebody asked to stop it."""

    id: str
    stop_requested: bool


class ScanSnapshot(NamedTuple):
    """What a walk over all messages of a session is over: those that are there by now, and not what comes meanwhile."""

    session: Session
    first: MessageCursor
    messages: int
    newest: Microseconds


class Candidate(NamedTuple):
    """A title or a message that somebody may look for, and its place. A title has no message; content is stored."""

    place: SearchCursor
    session_id: str
    title: str | None
    message_id: str | None
    role: str | None
    created_at: Microseconds
    content: str

    @property
    def text(self) -> str:
        """What was said; of a title, itself."""
        if self.message_id is None:
            return self.content
        parts = _decode_texts(self.content)
        return "".join([part.text for part in parts if part.type in VISIBLE_KINDS and part.text is not None])


class _StoredText(msgspec.Struct):
    """A part, as far as its text; a medium is passed over without being read."""

    type: Kind
    text: str | None = None


_decode_texts = msgspec.json.Decoder(list[_StoredText]).decode


def valid_id_or_empty(id: str) -> str:
    """An id that a caller brings, as a statement takes it: one that can be no id of ours is the empty one, of no row.

    PostgreSQL refuses a NUL, and no driver takes half a character.
    """
    return id if ID.fullmatch(id) else ""


ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_is(found: Any, asked: Any) -> None:
    """Raise `CrossedRows` unless the row is the one that was asked for."""
    if found != asked:
        raise CrossedRows


def read_session(row: tuple[Any, ...]) -> Session:
    """A session, from its columns."""
    values = list(row)
    values[4] = msgspec.json.decode(row[4])
    return Session(*values)


def read_generation(row: tuple[Any, ...]) -> Generation:
    """A generation, from its columns."""
    values = list(row)
    values[3] = Status(row[3])
    values[11] = msgspec.json.decode(row[11], type=Usage) if row[11] is not None else None
    return Generation(*values)


def read_message(row: tuple[Any, ...]) -> Message:
    """A message, from its columns and those of its generation, if it has one."""
    values, its_generation = list(row[:MESSAGE_COLUMNS]), row[MESSAGE_COLUMNS:]
    values[4] = Role(row[4])
    values[5] = decode_parts(row[5])
    values.append(read_generation(its_generation) if its_generation[0] is not None else None)
    return Message(*values)


class _StoredPart(msgspec.Struct, omit_defaults=True):
    type: Kind
    text: str | None = None
    call_id: str | None = None
    name: str | None = None
    media: Media | None = None


_decode_parts = msgspec.json.Decoder(list[_StoredPart]).decode


def decode_parts(content: str) -> tuple[Part, ...]:
    """A message's content, from its column."""
    return tuple(
        Part(
            part.type,
            part.text or "",
            ToolCall(part.call_id, part.name or "") if part.call_id is not None else None,
            part.media,
        )
        for part in _decode_parts(content)
    )


def encode_parts(parts: tuple[Part, ...]) -> str:
    """A message's content, for its column."""
    return encode_json([_stored_part(part) for part in parts])


def _stored_part(part: Part) -> _StoredPart:
    call_id, name = part.call or (None, None)
    return _StoredPart(part.kind, part.text, call_id, name, part.media)


def encode_json(value: Any) -> str:
    """A value as JSON, for its column."""
    return msgspec.json.encode(value).decode()


def each(statements: list[Statement]) -> Transaction[None]:
    """Statements one by one, whatever their rows."""
    for statement in statements:  # noqa: UP028  # rows are sent here, which a list's own iterator does not take
        yield statement


IDS_A_STATEMENT = 64  # named in one statement; shorter lists are filled up, so that there is one text for all of them


def by_size(ids: list[str]) -> list[list[str]]:
    """`ids` in lists of `IDS_A_STATEMENT`; the last one is filled up with its last id."""
    lists = [ids[first : first + IDS_A_STATEMENT] for first in range(0, len(ids), IDS_A_STATEMENT)]
    return [some + some[-1:] * (IDS_A_STATEMENT - len(some)) for some in lists]


def id_parameters(first: int) -> str:
    """The parameters of `IDS_A_STATEMENT` ids, from this number on."""
    return ", ".join(f"${number}" for number in range(first, first + IDS_A_STATEMENT))


def encode_call(call: ToolCall | None) -> str | None:
    """A piece's call, for its column."""
    return None if call is None else encode_json(call)


def decode_call(call: str | None) -> ToolCall | None:
    """A piece's call, from its column."""
    return None if call is None else msgspec.json.decode(call, type=ToolCall)
