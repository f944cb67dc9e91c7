"""Content of messages: roles, parts, and the pieces of a log."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import Struct

from chatapi.model.ids import Alias


class Role(StrEnum):
    """Role of a message's author."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"
    DEVELOPER = "developer"


class Kind(StrEnum):
    """Kind of a message part. A log consists of the first six only: those are model output."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"
    ANNOTATION = "annotation"  # on the text before it: JSON objects as received from the upstream, one per line
    EXTRA = "extra"  # members that are not interpreted here, kept to be sent back: JSON objects, one per line
    TOOL_RESULT = "tool_result"
    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"


VISIBLE_KINDS = frozenset({Kind.TEXT, Kind.REFUSAL})  # the parts that a plain-text client receives


class ToolCall(NamedTuple):
    """Id and name of a tool call. The arguments are the text of its part; the call of a result has no name."""

    id: str
    name: str = ""


class Media(msgspec.Struct, frozen=True):
    """An image, audio recording or file, as received; it is neither fetched nor decoded here.

    `url` is a `data:`, `http:` or `https:` URL. `data` is base64, for a file also a data URL. `file_id` is an id of the
    upstream.
    """

    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None  # image resolution: OpenAI's `detail`
    format: str | None = None  # audio format such as `wav`; media type of a file


class Part(msgspec.Struct, frozen=True):
    """Text of one kind, a tool call with its arguments, a tool result, or media.

    A part of a log is never empty: a call without arguments holds `{}` (docs/decisions/tool-calls.md).
    """

    kind: Kind
    text: str = ""
    call: ToolCall | None = None
    media: Media | None = None


class NewMessage(msgspec.Struct, frozen=True):
    """A message to append. `alias` is the client's own id for it, if the client assigns ids."""

    role: Role
    parts: tuple[Part, ...]
    alias: Alias | None = None


def user_text(text: str) -> tuple[NewMessage, ...]:
    """Return one user message of one text part."""
    return (NewMessage(Role.USER, (Part(Kind.TEXT, text),)),)


def visible_text(parts: tuple[Part, ...]) -> str:
    """Join the text and refusal parts; reasoning and tool calls are left out."""
    return "".join(part.text for part in parts if part.kind in VISIBLE_KINDS)


def with_text(parts: tuple[Part, ...], text: str) -> tuple[Part, ...]:
    """Return the parts with this text, where the text was, or before the images."""
    others = [part for part in parts if part.kind is not Kind.TEXT]
    files = tuple(part for part in others if part.kind is Kind.FILE)
    return (*files, Part(Kind.TEXT, text), *(part for part in others if part.kind is not Kind.FILE))


class Piece(Struct, frozen=True, gc=False):  # built in C: there is one for each chunk of text
    """A run of bytes of a log: whole UTF-8 code points of one part. `position` is its end, in bytes of the log."""

    position: int
    part: int
    kind: Kind
    data: bytes
    call: ToolCall | None = None
