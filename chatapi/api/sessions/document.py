"""The schema of an exported session: JSON with all that is kept of a conversation.

Version 1. `document_write` and `document_read` share these types, so an import restores everything but the ids.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatapi.api.http.request_body import METADATA_ENTRIES, METADATA_NAME, METADATA_VALUE
from chatapi.model import ContextPolicy, Kind, Role, Status

FORMAT = "chatapi.session"
VERSION = 1
MAX_MESSAGES = 10_000  # in a document that is imported: one transaction stores them while other writers wait
MAX_PARTS = 50_000  # in all messages of a document that is imported
MEDIA_FIELDS = ("url", "data", "file_id", "filename", "detail", "format")
ANSWER_FIELDS = ("model", "status", "finish_reason", "usage", "error", "first_token_at", "ended_at")

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(max_length=1024)]


class PartDocument(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a message. In an annotation, `text` holds the upstream's JSON objects, each followed by a line feed."""

    type: Kind
    text: str | None = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: str | None = None
    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None
    format: str | None = None


class UsageDocument(Struct, forbid_unknown_fields=True):
    """The tokens of an answer."""

    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    estimated: bool


class ErrorDocument(Struct, forbid_unknown_fields=True):
    """Why an answer failed."""

    code: Annotated[str, Meta(pattern="^[a-z_]{1,64}$")]
    detail: Annotated[str, Meta(max_length=10_000)] | None


class LeftOutDocument(Struct, forbid_unknown_fields=True):
    """The messages that were left out of the request for an answer: their number, and the first and last of them."""

    messages: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    first: Id | None
    last: Id | None
    summary: Id | None = None  # an import leaves it out: summaries are not exported
    summarised: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class MessageDocument(Struct, forbid_unknown_fields=True):
    """A message. The fields from `model` on are null unless this server asked a model for the message."""

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
    left_out: LeftOutDocument | None = None


class SessionDocument(Struct, forbid_unknown_fields=True):
    """A session without its messages. The title is null before the first turn and empty after a client removed it."""

    title: Annotated[str, Meta(max_length=200)] | None
    developer_message: str
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=METADATA_NAME)], Annotated[str, Meta(max_length=METADATA_VALUE)]],
        Meta(max_length=METADATA_ENTRIES),
    ]
    created_at: datetime
    last_updated: datetime
    head: Id | None
    context: ContextPolicy | None = None


class QueuedDocument(Struct, forbid_unknown_fields=True):
    """A message that waited in the session's queue. An import leaves it out: nothing that it restores may start."""

    id: Id
    parts: list[PartDocument]
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    created_at: datetime


class Document(Struct, forbid_unknown_fields=True):
    """A session and the messages of all its branches, in any order. `parent_id` gives the tree."""

    format: Literal["chatapi.session"]
    version: Literal[1]
    exported_at: datetime
    session: SessionDocument
    messages: Annotated[list[MessageDocument], Meta(max_length=MAX_MESSAGES)]
    queue: Annotated[list[QueuedDocument], Meta(max_length=1000)] = []
