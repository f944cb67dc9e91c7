"""Content of messages: roles, parts, and the pieces of a log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from chatapi.model.ids import Alias


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


VISIBLE_KINDS = frozenset({Kind.TEXT, Kind.REFUSAL})  # the parts that a plain-text client is given: what the model says


class ToolCall(NamedTuple):
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
    call: ToolCall | None = None
    media: Media | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append: what a client says, or says was said. `alias` is the client's own id for it, if any."""

    role: Role
    parts: tuple[Part, ...]
    alias: Alias | None = None


def user_text(text: str) -> tuple[NewMessage, ...]:
    """The input of a turn that is one text of the user's."""
    return (NewMessage(Role.USER, (Part(Kind.TEXT, text),)),)


def visible_text(parts: tuple[Part, ...]) -> str:
    """What the model or the user says in these parts: no reasoning."""
    return "".join(part.text for part in parts if part.kind in VISIBLE_KINDS)


class Piece(NamedTuple):
    """Some bytes of a log: whole code points of one part. `position` is where the piece ends, in bytes of the log."""

    position: int
    part: int
    kind: Kind
    data: bytes
    call: ToolCall | None = None
