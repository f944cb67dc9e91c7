"""The nouns of the product: what a session, a message, a generation, a part and a limit are.

Everything here is frozen. Times are whole microseconds since the epoch, UTC: one integer that sorts, that both
databases store exactly, and that a test can choose.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, NewType

Microseconds = NewType("Microseconds", int)
Clock = Callable[[], Microseconds]


def wall_clock() -> Microseconds:
    """The time now, in microseconds since the epoch."""
    return Microseconds(time.time_ns() // 1000)


_DIGITS = "0123456789abcdefghijklmnopqrstuv"  # five bits each, in the order in which text is sorted
_TIME_DIGITS = 10  # of a time in milliseconds; enough for 30,000 years


def new_id(prefix: str) -> str:
    """A fresh URL-safe id, such as `ses_01jd…`: the time, then 128 random bits. Clients never choose one.

    The time is there for the database: rows that are made together are stored together, and a commit of many turns
    writes few pages. Nothing reads it.
    """
    now = time.time_ns() // 1_000_000
    digits = "".join([_DIGITS[now >> shift & 31] for shift in _TIME_SHIFTS])
    return f"{prefix}_{digits}{secrets.token_urlsafe(16)}"


_TIME_SHIFTS = range(5 * (_TIME_DIGITS - 1), -1, -5)


class Role(StrEnum):
    """Who says a message."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"
    DEVELOPER = "developer"


class Kind(StrEnum):
    """What a part of a message is. The first five are what a model says, and so what a log is made of."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"
    ANNOTATION = "annotation"  # of the text before it: JSON objects as the upstream gave them, each ended by a LF
    TOOL_RESULT = "tool_result"
    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"


SPOKEN = frozenset({Kind.TEXT, Kind.REFUSAL})  # the parts that a plain-text client is given: what the model says


class Status(StrEnum):
    """The life of a generation: running, then exactly one of the others."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Call(NamedTuple):
    """A tool call, without its arguments: they are its part's text. A result's call has no name."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a recording or a file, as its sender gave it: never fetched and never opened here.

    `url` is a data or http(s) URL, `data` is base64 (of a file also a data URL), `file_id` is the upstream's.
    """

    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None  # how closely an image is looked at
    format: str | None = None  # of a recording, such as `wav`; of a file, its media type


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text of one kind, a tool call with its arguments, the result of one, or a medium.

    A part of a log is never empty: a call without arguments has `{}` (docs/decisions/tool-calls.md).
    """

    kind: Kind
    text: str = ""
    call: Call | None = None
    media: Media | None = None


class Alias(NamedTuple):
    """A name that a client chose for something of ours. It means something to its owner only, and within its kind.

    A dialect picks the kind (such as `vercel-chat`), so that two dialects' names never meet, and bounds the name.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Input:
    """A message to append: what a client says, or says was said. `alias` is the client's own id for it, if any."""

    role: Role
    parts: tuple[Part, ...]
    alias: Alias | None = None


def user_text(text: str) -> tuple[Input, ...]:
    """The input of a turn that is one text of the user's."""
    return (Input(Role.USER, (Part(Kind.TEXT, text),)),)


def spoken(parts: tuple[Part, ...]) -> str:
    """What the model or the user says in these parts: no reasoning."""
    return "".join(part.text for part in parts if part.kind in SPOKEN)


class Piece(NamedTuple):
    """Some bytes of a log: whole code points of one part. `position` is where the piece ends, in bytes of the log."""

    position: int
    part: int
    kind: Kind
    data: bytes
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent. `estimated` where the upstream was stopped before it counted them itself."""

    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    estimated: bool = False


DAY_MICROSECONDS = 86_400_000_000


class By(StrEnum):
    """What usage is told apart by, beside its owner."""

    DAY = "day"
    MODEL = "model"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Tally:
    """The usage of some answers of one model, added up.

    `day` counts from the epoch, UTC; it and `session_id` are None where days and sessions are not told apart. The
    session of no id is of all that were deleted.
    """

    day: int | None
    session_id: str | None
    title: str | None
    model: str
    answers: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    estimated: int  # of the answers: cut off before the upstream counted, so their output is estimated
    unknown: int  # of the answers: nothing is known of their tokens


class OwnUsage(NamedTuple):
    """What an owner used: tallies as they were asked for, and one for each model in all.

    Not `complete`: there are more of them than are read at once; those with the most tokens are here.
    """

    tallies: list[Tally]
    totals: list[Tally]
    complete: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with one developer message.

    `given_title` is None until it is named, and empty when somebody took its title away.
    """

    id: str
    owner: str | None
    developer_message: str
    given_title: str | None
    metadata: dict[str, str]
    head: str | None
    message_count: int
    created_at: Microseconds
    updated_at: Microseconds

    @property
    def title(self) -> str | None:
        """What it is called, if it has a title."""
        return self.given_title or None


Permit = Callable[["Session | None"], "Session"]
"""Asked with a session, or with None where there is none: returns it, or raises `SessionNotFound`."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One attempt to produce an answer.

    `length` is the end of its log in bytes, once it has ended. `replica` is the process that produces it.
    """

    id: str
    session_id: str
    message_id: str
    status: Status
    model: str
    dialect: str
    created_at: Microseconds
    first_token_at: Microseconds | None = None
    ended_at: Microseconds | None = None
    length: int | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    error_detail: str | None = None
    replica: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A stored role and its content. Messages form a tree through `parent`; `depth` counts the ancestors.

    `siblings` are the ids of all messages with this parent, itself among them, the oldest first; filled in by
    `Store.messages` and `Store.messages_before`.
    """

    id: str
    session_id: str
    parent: str | None
    depth: int
    role: Role
    parts: tuple[Part, ...]
    created_at: Microseconds
    generation: Generation | None = None
    siblings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was said: the text of the spoken parts."""
        return spoken(self.parts)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation ends: its last status and all that is known about it by then."""

    status: Status
    finish_reason: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    error_detail: str | None = None


class Restored(NamedTuple):
    """A session that was kept elsewhere, and all its messages, to be stored as they are."""

    session: Session
    messages: list[Message]


class Mark(NamedTuple):
    """A message as a place among the messages of its session: its parent ("" of a first one), its time and its id."""

    parent: str
    created_at: int
    id: str


class Place(NamedTuple):
    """A message, or before all messages, as a place among all that an owner has: the session, and the place in it.

    Without a `mark`: before the session itself.
    """

    created_at: int
    session_id: str
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Limit:
    """A request limit and what is left of it now."""

    limit: int
    remaining: int


DEEPEST = 2**31 - 1  # more than any message's depth
ROOT = ""  # as the parent of a turn: it hangs under nothing, beside the session's first message


@dataclass(frozen=True, slots=True)
class Turn:
    """What a caller asks for: messages to append, where, and how the answer to them is to be made.

    `owner` is the tag of the key that pays. `session_id` is None for a new session; with an `alias`, for the session
    that this owner knows by that name, or a new one that is known by it from now on. `parent` is the message under
    which the turn hangs: the session's head if None, `ROOT` for none at all. To edit a message, hang its new wording
    under its parent; to regenerate an answer, hang an empty input under the message that it answers. `parameters` are
    passed to the upstream as they are. `digest` tells two requests with the same idempotency key apart. `instructions`
    stand behind the developer message in this turn alone. `echo` is what OpenAI's Responses say of the request.
    """

    owner: str
    session_id: str | None
    developer_message: str | None
    input: tuple[Input, ...]
    model: str
    dialect: str
    parameters: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    digest: str | None = None
    parent: str | None = None
    alias: Alias | None = None
    instructions: str | None = None
    echo: str | None = None
