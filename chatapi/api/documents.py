"""A session as a document: everything that is kept of a conversation, in JSON that another server can read again.

Version 1. What writes a document and what reads one share these shapes, so that a round trip loses nothing but ids.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from chatapi.api.answers import Aborted
from chatapi.api.formats import iso, iso_or_none
from chatapi.model import Kind, Mark, Message, Microseconds, Part, Role, Session, Status
from chatapi.store import Store, Walk

FORMAT = "chatapi.session"
VERSION = 1
MOST_MESSAGES = 10_000  # in a document that is read: they are stored in one transaction, while other writers wait

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class PartDocument(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A part. Annotations are a text here: the upstream's JSON objects, each ended by a LF."""

    type: Kind
    text: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None
    format: str | None = None


class UsageDocument(Struct, forbid_unknown_fields=True):
    """Tokens spent."""

    input_tokens: Tokens | None
    output_tokens: Tokens | None
    reasoning_tokens: Tokens | None
    cached_tokens: Tokens | None
    estimated: bool


class ErrorDocument(Struct, forbid_unknown_fields=True):
    """Why an answer failed."""

    code: Annotated[str, Meta(pattern="^[a-z_]{1,64}$")]
    detail: Annotated[str, Meta(max_length=10_000)] | None


class MessageDocument(Struct, forbid_unknown_fields=True):
    """A message. `status` and what follows are of an answer that a model was asked for here."""

    id: Id
    parent_id: Id | None
    role: Role
    parts: list[PartDocument]
    created_at: datetime
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    status: Status | None = None
    finish_reason: Annotated[str, Meta(max_length=256)] | None = None
    usage: UsageDocument | None = None
    error: ErrorDocument | None = None
    first_token_at: datetime | None = None
    ended_at: datetime | None = None


class SessionDocument(Struct, forbid_unknown_fields=True):
    """What is kept of a session beside its messages."""

    title: Annotated[str, Meta(min_length=1, max_length=200)] | None
    developer_message: str
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
    ]
    created_at: datetime
    last_updated: datetime
    head: Id | None


class Document(Struct, forbid_unknown_fields=True):
    """A session and all its messages, in no order: `parent_id` is what tells it."""

    format: Literal["chatapi.session"]
    version: Literal[1]
    exported_at: datetime
    session: SessionDocument
    messages: Annotated[list[MessageDocument], Meta(max_length=MOST_MESSAGES)]


# Write


async def write(store: Store, walk: Walk, now: Microseconds) -> AsyncGenerator[bytes, None]:
    """The document of a session, page by page.

    Raises:
        Aborted: messages were taken away meanwhile: what was written is not the whole of anything.
    """
    head = {"format": FORMAT, "version": VERSION, "exported_at": iso(now), "session": _session(walk.session)}
    yield msgspec.json.encode(head)[:-1] + b',"messages":['
    written = 0
    mark: Mark | None = walk.first
    while mark is not None:
        page, mark = await store.walk(walk.session.id, mark)
        page = [message for message in page if message.created_at <= walk.newest]
        if page:
            lines = b",\n".join([msgspec.json.encode(_message(message)) for message in page])
            yield b",\n" + lines if written else b"\n" + lines
        written += len(page)
    if written != walk.messages:
        raise Aborted
    yield b"\n]}\n"


def _session(session: Session) -> dict[str, Any]:
    return {
        "title": session.title,
        "developer_message": session.developer_message,
        "metadata": session.metadata,
        "created_at": iso(session.created_at),
        "last_updated": iso(session.updated_at),
        "head": session.head,
    }


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": message.id,
        "parent_id": message.parent,
        "role": message.role,
        "parts": [_part(part) for part in message.parts],
        "created_at": iso(message.created_at),
    }
    generation = message.generation
    if generation is None:
        return shown | dict.fromkeys(_OF_ANSWERS)
    error = None
    if generation.error_code is not None:
        error = {"code": generation.error_code, "detail": generation.error_detail}
    return shown | {
        "model": generation.model,
        "status": generation.status,
        "finish_reason": generation.finish_reason,
        "usage": generation.usage,
        "error": error,
        "first_token_at": iso_or_none(generation.first_token_at),
        "ended_at": iso_or_none(generation.ended_at),
    }


_OF_ANSWERS = ("model", "status", "finish_reason", "usage", "error", "first_token_at", "ended_at")


def _part(part: Part) -> PartDocument:
    shown = PartDocument(part.kind)
    if part.media is not None:
        for name in _OF_MEDIA:
            setattr(shown, name, getattr(part.media, name))
        return shown
    if part.call is not None:
        shown.call_id, shown.name = part.call.id, part.call.name or None
    if part.kind is Kind.TOOL_CALL:
        shown.arguments = part.text
    else:
        shown.text = part.text
    return shown


_OF_MEDIA = ("url", "data", "file_id", "filename", "detail", "format")
