"""A session as a document: everything that is kept of a conversation, in JSON that another server can read again.

Version 1. What writes a document and what reads one share these shapes, so that a round trip loses nothing but ids.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from chatapi.api.http.serializers import iso, iso_or_none
from chatapi.api.http.streaming import Aborted
from chatapi.errors import Interrupted, InvalidRequest, MalformedJSON
from chatapi.model import (
    Generation,
    ImportedSession,
    Kind,
    Media,
    Message,
    MessageCursor,
    Microseconds,
    Part,
    Role,
    Session,
    Status,
    ToolCall,
    Usage,
    new_id,
)
from chatapi.store import ScanSnapshot, Store
from chatapi.wire.chat_messages import URLS

FORMAT = "chatapi.session"
VERSION = 1
DIALECT = "import"  # of answers that came in a document: they are shown, and do not count as usage
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)  # a year before the last time that can be written
MOST_MESSAGES = 10_000  # in a document that is read: they are stored in one transaction, while other writers wait
MOST_PARTS = 50_000  # in all of them
MOST_ANNOTATIONS = 256 * 1024  # characters of them in a message: each is made anew whenever it is shown

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(max_length=1024)]
Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class PartDocument(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A part. Annotations are a text here: the upstream's JSON objects, each ended by a LF."""

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
    parts: Annotated[list[PartDocument], Meta(max_length=10_000)]
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

    title: Annotated[str, Meta(max_length=200)] | None  # "": somebody took it away
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


SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["format", "version", "exported_at", "session", "messages"],
                    "properties": {
                        "format": {"const": FORMAT},
                        "version": {"const": VERSION},
                        "exported_at": {"type": "string", "format": "date-time"},
                        "session": {"type": "object"},
                        "messages": {"type": "array", "maxItems": MOST_MESSAGES},
                    },
                }
            }
        },
    }
}


# Write


async def write(store: Store, walk: ScanSnapshot, now: Microseconds) -> AsyncGenerator[bytes, None]:
    """The document of a session, page by page.

    Raises:
        Aborted: messages were taken away meanwhile: what was written is not the whole of anything.
    """
    head = {"format": FORMAT, "version": VERSION, "exported_at": iso(now), "session": _session(walk.session)}
    yield msgspec.json.encode(head)[:-1] + b',"messages":['
    written = 0
    mark: MessageCursor | None = walk.first
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
        "title": session.given_title,
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


# Read


def read(data: bytes, owner: str, developer_bytes: int) -> ImportedSession:
    """The session that a document tells of, with ids of its own, for this owner. Nothing in it runs.

    Raises:
        MalformedJSON, InvalidRequest: it is no such document; the error names what is wrong and echoes nothing.
    """
    try:
        document = msgspec.json.decode(data, type=Document)
    except msgspec.ValidationError as error:
        raise _not_as_documented(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSON from None
    if sum(len(message.parts) for message in document.messages) > MOST_PARTS:
        raise InvalidRequest.field("messages", f"They have more than {MOST_PARTS} parts in all.")
    if b"\\u0000" in data:
        _refuse_nul(document)
    if len(document.session.developer_message.encode()) > developer_bytes:
        raise InvalidRequest.field("session.developer_message", f"It is longer than {developer_bytes} bytes.")
    depths = _depths(document.messages)
    exported_at = _microseconds(document.exported_at, "exported_at")
    session_id = new_id("ses")
    # In the order of the document: siblings of one time keep theirs.
    fresh = sorted(new_id("msg") for _ in document.messages)
    ids = dict(zip((message.id for message in document.messages), fresh, strict=True))
    messages = [
        _read_message(message, f"messages.{index}", session_id, ids, depths[message.id], exported_at)
        for index, message in enumerate(document.messages)
    ]
    told = document.session
    if told.head is not None and told.head not in ids:
        raise InvalidRequest.field("session.head", "It is the id of no message in this document.")
    session = Session(
        session_id,
        owner,
        told.developer_message,
        told.title,
        told.metadata,
        ids[told.head] if told.head is not None else None,
        len(messages),
        _microseconds(told.created_at, "session.created_at"),
        _microseconds(told.last_updated, "session.last_updated"),
    )
    return ImportedSession(session, messages)


def _not_as_documented(error: str) -> InvalidRequest:
    """A decoder's sentence as ours: where it is, and nothing that was in the document."""
    # It may quote what was sent, and that may look like anything: only the end of it tells the place.
    message, _, place = error.rpartition(" - at ")
    found = _PLACE.fullmatch(place)
    if found is None or not _FIELDS.issuperset(re.findall("[a-z_]+", found[1])):
        message, found = error, None
    path = re.sub(r"\[(\d+)\]", r".\1", found[1].replace("[...]", "")).strip(".") if found is not None else ""
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return InvalidRequest.field(f"{path}.{missing[1]}".strip("."), "This field is required.")
    if message.startswith("Object contains unknown field"):
        message = "A document has no such field here"
    elif not message.startswith("Expected "):
        message = "It is none of the values that are possible here"
    return InvalidRequest.field(path or "body", f"{message}.")


_PLACE = re.compile(r"(?:`key` in )?`\$((?:\.[a-z_]+|\[(?:\d+|\.\.\.)\])*)`")
_FIELDS = {
    name
    for struct in (Document, SessionDocument, MessageDocument, PartDocument, UsageDocument, ErrorDocument)
    for name in struct.__struct_fields__
}


def _refuse_nul(document: Document) -> None:
    pending: list[Any] = [msgspec.to_builtins(document)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and "\0" in value:
            raise InvalidRequest.field("body", "It has a NUL character.")


def _depths(messages: list[MessageDocument]) -> dict[str, int]:
    """How many messages are before each.

    Raises:
        InvalidRequest: they are no tree.
    """
    indexes: dict[str, int] = {}
    below: dict[str | None, list[str]] = {}
    for index, message in enumerate(messages):
        if message.id in indexes:
            raise InvalidRequest.field(f"messages.{index}.id", "Another message has this id.")
        indexes[message.id] = index
        below.setdefault(message.parent_id, []).append(message.id)
    depths: dict[str, int] = {}
    row, depth = below.pop(None, []), 0
    while row:
        depths |= dict.fromkeys(row, depth)
        row, depth = [id for parent in row for id in below.pop(parent, ())], depth + 1
    for parent, left in below.items():
        what = "Its parent comes after itself." if parent in indexes else "It is the id of no message in this document."
        raise InvalidRequest.field(f"messages.{indexes[left[0]]}.parent_id", what)
    return depths


def _read_message(
    message: MessageDocument, path: str, session_id: str, ids: dict[str, str], depth: int, exported_at: Microseconds
) -> Message:
    parent = ids[message.parent_id] if message.parent_id is not None else None
    kinds = _KINDS[message.role]
    for index, part in enumerate(message.parts):
        if part.type not in kinds:
            raise InvalidRequest.field(f"{path}.parts.{index}.type", "This role's messages have no such part.")
    if message.role is Role.TOOL and len(message.parts) != 1:
        raise InvalidRequest.field(f"{path}.parts", "A tool's message has one part.")
    if sum(len(part.text or "") for part in message.parts if part.type is Kind.ANNOTATION) > MOST_ANNOTATIONS:
        raise InvalidRequest.field(f"{path}.parts", f"It has more than {MOST_ANNOTATIONS} characters of annotations.")
    parts = tuple(_read_part(part, f"{path}.parts.{index}") for index, part in enumerate(message.parts))
    created_at = _microseconds(message.created_at, f"{path}.created_at")
    generation = _read_generation(message, path, session_id, ids[message.id], parts, exported_at)
    return Message(ids[message.id], session_id, parent, depth, message.role, parts, created_at, generation)


_KINDS = {
    Role.USER: {Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE},
    Role.ASSISTANT: {Kind.TEXT, Kind.REASONING, Kind.REFUSAL, Kind.TOOL_CALL, Kind.ANNOTATION},
    Role.TOOL: {Kind.TOOL_RESULT},
    Role.SYSTEM: {Kind.TEXT},
    Role.DEVELOPER: {Kind.TEXT},
}
_NEEDED = {  # and what else a part may have
    Kind.TEXT: ({"text"}, set[str]()),
    Kind.REASONING: ({"text"}, set[str]()),
    Kind.REFUSAL: ({"text"}, set[str]()),
    Kind.ANNOTATION: ({"text"}, set[str]()),
    Kind.TOOL_CALL: ({"call_id", "name", "arguments"}, set[str]()),
    Kind.TOOL_RESULT: ({"call_id", "text"}, {"name"}),
    Kind.IMAGE: ({"url"}, {"detail", "filename", "format"}),
    Kind.AUDIO: ({"data", "format"}, {"filename"}),
    Kind.FILE: (set[str](), {"url", "data", "file_id", "filename", "format", "detail"}),
}
_CONTENT = tuple(name for name in PartDocument.__struct_fields__ if name != "type")


def _read_part(part: PartDocument, path: str) -> Part:
    given = {name for name in _CONTENT if getattr(part, name) is not None}
    needed, possible = _NEEDED[part.type]
    for name in _CONTENT:
        if name in needed - given:
            raise InvalidRequest.field(f"{path}.{name}", "This field is required.")
        if name in given - needed - possible:
            raise InvalidRequest.field(f"{path}.{name}", "This part has no such field.")
    if part.type in _MEDIA:
        if not (part.url or part.data or part.file_id):
            raise InvalidRequest.field(path, "It needs url, data or file_id.")
        if part.url is not None and not part.url.lower().startswith(URLS):
            raise InvalidRequest.field(f"{path}.url", "It must be a http, https or data URL.")
        return Part(part.type, media=Media(**{name: getattr(part, name) for name in _OF_MEDIA}))
    if part.type is Kind.ANNOTATION:
        _check_annotations(part.text or "", f"{path}.text")
    call = ToolCall(part.call_id, part.name or "") if part.call_id is not None else None
    text = part.arguments if part.type is Kind.TOOL_CALL else part.text
    if not text and part.type is Kind.TOOL_CALL:
        raise InvalidRequest.field(f"{path}.arguments", "A call without arguments has {}.")
    return Part(part.type, text or "", call)


_MEDIA = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.FILE})


def _check_annotations(text: str, path: str) -> None:
    """Only the last one may have been cut off."""
    for line in text.split("\n")[:-1]:
        try:
            is_object = isinstance(msgspec.json.decode(line), dict)
        except (msgspec.DecodeError, RecursionError):
            is_object = False
        if not is_object:
            raise InvalidRequest.field(path, "It must be JSON objects, each ended by a LF.")


def _read_generation(
    message: MessageDocument,
    path: str,
    session_id: str,
    message_id: str,
    parts: tuple[Part, ...],
    exported_at: Microseconds,
) -> Generation | None:
    """How an answer came to be; one that ran is interrupted, as it would be by the end of its process."""
    if message.status is None:
        for name in _OF_ANSWERS:
            if getattr(message, name) is not None:
                raise InvalidRequest.field(f"{path}.{name}", "Only a message with a status has this.")
        return None
    if message.role is not Role.ASSISTANT or message.model is None:
        raise InvalidRequest.field(f"{path}.status", "Only an assistant's message with a model has this.")
    runs = message.status is Status.RUNNING
    if message.ended_at is None and not runs:
        raise InvalidRequest.field(f"{path}.ended_at", "This field is required of an answer that has ended.")
    error = ErrorDocument(Interrupted.code, None) if runs else message.error
    usage = message.usage
    return Generation(
        id=new_id("gen"),
        session_id=session_id,
        message_id=message_id,
        status=Status.INTERRUPTED if runs else message.status,
        model=message.model,
        dialect=DIALECT,
        created_at=_microseconds(message.created_at, f"{path}.created_at"),
        first_token_at=_moment(message.first_token_at, f"{path}.first_token_at"),
        ended_at=_moment(message.ended_at, f"{path}.ended_at") or exported_at,
        length=sum(len(part.text.encode()) for part in parts),
        finish_reason=message.finish_reason,
        usage=Usage(**{name: getattr(usage, name) for name in UsageDocument.__struct_fields__}) if usage else None,
        error_code=error.code if error is not None else None,
        error_detail=error.detail if error is not None else None,
    )


def _moment(at: datetime | None, path: str) -> Microseconds | None:
    return None if at is None else _microseconds(at, path)


def _microseconds(at: datetime, path: str) -> Microseconds:
    """A time, if it is one that can be shown again."""
    if at.tzinfo is None or not EARLIEST <= at < LATEST:
        raise InvalidRequest.field(path, "It must be a time from 1970 on, with an offset.")
    return Microseconds((at - EARLIEST) // timedelta(microseconds=1))
