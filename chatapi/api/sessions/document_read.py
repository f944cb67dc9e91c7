"""Read a session document. Strict: an unknown field or an inconsistent tree is rejected, and errors echo no content."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from chatapi.api.sessions.document import (
    ANSWER_FIELDS,
    MAX_PARTS,
    MEDIA_FIELDS,
    Document,
    ErrorDocument,
    LeftOutDocument,
    MessageDocument,
    PartDocument,
    QueuedDocument,
    SessionDocument,
    UsageDocument,
)
from chatapi.errors import Interrupted, InvalidRequest, MalformedJSON
from chatapi.model import (
    Generation,
    ImportedSession,
    Kind,
    LeftOut,
    Media,
    Message,
    Microseconds,
    Part,
    Role,
    Session,
    Status,
    ToolCall,
    Usage,
    new_id,
)
from chatapi.wire.json_values import URL_SCHEMES
from chatapi.wire.text import MESSAGE_LIMIT

DIALECT = "import"  # of answers that came in a document: they are listed and do not count as usage
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)  # a year before the last time that ISO 8601 can express
MAX_ANNOTATION_CHARACTERS = 256 * 1024  # in one message: they are parsed again for each response that lists it
MAX_TOKENS = 2**53  # above this, a JSON number is not exact in every client


def read_document(data: bytes, owner: str, max_developer_bytes: int) -> ImportedSession:
    """Return the session in a document, with new ids, for this owner. No answer in it is running.

    Raises:
        MalformedJSON: it is not JSON in UTF-8, or a member occurs twice in one object.
        InvalidRequest: it is not a session document; the error names the field.
    """
    document = _decode(data)
    if sum(len(message.parts) for message in document.messages) > MAX_PARTS:
        raise InvalidRequest.field("messages", f"All messages together must have at most {MAX_PARTS} parts.")
    if b"\\u0000" in data:
        _reject_nul(document)
    if len(document.session.developer_message.encode()) > max_developer_bytes:
        limit = f"{max_developer_bytes} bytes ({MESSAGE_LIMIT})"
        raise InvalidRequest.field("session.developer_message", f"It must have at most {limit}.")
    depths = _depths(document.messages)
    exported_at = _microseconds(document.exported_at, "exported_at")
    session_id = new_id("ses")
    # Ids are assigned in the document's order, because siblings with equal times are ordered by id.
    new_ids = sorted(new_id("msg") for _ in document.messages)
    ids = dict(zip((message.id for message in document.messages), new_ids, strict=True))
    messages = [
        _read_message(message, f"messages.{index}", session_id, ids, depths[message.id], exported_at)
        for index, message in enumerate(document.messages)
    ]
    return ImportedSession(_read_session(document.session, session_id, owner, ids), messages)


def _decode(data: bytes) -> Document:
    try:
        document = msgspec.json.decode(data, type=Document)
        json.loads(data.decode(), object_pairs_hook=_check_unique)
    except msgspec.ValidationError as error:
        raise _schema_error(str(error)) from None
    except (ValueError, RecursionError):  # ValueError is the base of msgspec's and the standard library's errors
        raise MalformedJSON from None
    return document


def _check_unique(members: list[tuple[str, Any]]) -> None:
    """Reject a repeated name: msgspec would take its last value, and another reader its first."""
    if len(dict(members)) != len(members):
        raise ValueError("a name occurs twice")


def _schema_error(error: str) -> InvalidRequest:
    """Convert a decoder's message into ours: it names the field and quotes nothing from the document."""
    # The message may quote the document, which may contain anything: only the last " - at " gives the path.
    message, _, place = error.rpartition(" - at ")
    found = _PATH.fullmatch(place)
    if found is None or not _FIELDS.issuperset(re.findall("[a-z_]+", found[1])):
        message, found = error, None
    path = re.sub(r"\[(\d+)\]", r".\1", found[1].replace("[...]", "")).strip(".") if found is not None else ""
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return InvalidRequest.field(f"{path}.{missing[1]}".strip("."), "This field is required.")
    if message.startswith("Object contains unknown field"):
        message = "Unknown field"
    elif not message.startswith("Expected "):
        message = "Invalid value"
    return InvalidRequest.field(path or "body", f"{message}.")


_PATH = re.compile(r"(?:`key` in )?`\$((?:\.[a-z_]+|\[(?:\d+|\.\.\.)\])*)`")
_FIELDS = {
    name
    for struct in (
        LeftOutDocument,
        Document,
        SessionDocument,
        MessageDocument,
        PartDocument,
        UsageDocument,
        ErrorDocument,
        QueuedDocument,
    )
    for name in struct.__struct_fields__
}


def _reject_nul(document: Document) -> None:
    pending: list[Any] = [msgspec.to_builtins(document)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and "\0" in value:
            raise InvalidRequest.field("body", "It must not contain a NUL character.")


def _depths(messages: list[MessageDocument]) -> dict[str, int]:
    """Return the number of ancestors of each message, by its id.

    Raises:
        InvalidRequest: the messages do not form a tree.
    """
    indexes: dict[str, int] = {}
    children: dict[str | None, list[str]] = {}
    for index, message in enumerate(messages):
        if message.id in indexes:
            raise InvalidRequest.field(f"messages.{index}.id", "Another message has this id.")
        indexes[message.id] = index
        children.setdefault(message.parent_id, []).append(message.id)
    depths: dict[str, int] = {}
    level, depth = children.pop(None, []), 0
    while level:
        depths |= dict.fromkeys(level, depth)
        level, depth = [name for parent in level for name in children.pop(parent, ())], depth + 1
    for parent, names in children.items():
        reason = "The parent must not be a descendant." if parent in indexes else "No message has this id."
        raise InvalidRequest.field(f"messages.{indexes[names[0]]}.parent_id", reason)
    return depths


def _read_session(session: SessionDocument, session_id: str, owner: str, ids: dict[str, str]) -> Session:
    if session.head is not None and session.head not in ids:
        raise InvalidRequest.field("session.head", "No message has this id.")
    return Session(
        session_id,
        owner,
        session.developer_message,
        session.title,
        session.metadata,
        ids[session.head] if session.head is not None else None,
        len(ids),
        _microseconds(session.created_at, "session.created_at"),
        _microseconds(session.last_updated, "session.last_updated"),
        context=session.context,
    )


def _read_message(
    message: MessageDocument, path: str, session_id: str, ids: dict[str, str], depth: int, exported_at: Microseconds
) -> Message:
    parent = ids[message.parent_id] if message.parent_id is not None else None
    kinds = _KINDS[message.role]
    for index, part in enumerate(message.parts):
        if part.type not in kinds:
            raise InvalidRequest.field(f"{path}.parts.{index}.type", "Messages of this role have no such part.")
    results = [part.type is Kind.TOOL_RESULT for part in message.parts]
    if message.role is Role.TOOL and (results.count(True) != 1 or not results[0]):
        raise InvalidRequest.field(f"{path}.parts", "A tool message must have one result, first.")
    annotations = sum(len(part.text or "") for part in message.parts if part.type is Kind.ANNOTATION)
    if annotations > MAX_ANNOTATION_CHARACTERS:
        limit = f"The annotations of a message must have at most {MAX_ANNOTATION_CHARACTERS} characters."
        raise InvalidRequest.field(f"{path}.parts", limit)
    parts = tuple(_read_part(part, f"{path}.parts.{index}") for index, part in enumerate(message.parts))
    created_at = _microseconds(message.created_at, f"{path}.created_at")
    generation = _read_generation(message, path, session_id, ids, parts, exported_at)
    return Message(ids[message.id], session_id, parent, depth, message.role, parts, created_at, generation)


_KINDS = {
    Role.USER: {Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE, Kind.EXTRA},
    Role.ASSISTANT: {Kind.TEXT, Kind.REASONING, Kind.REFUSAL, Kind.TOOL_CALL, Kind.ANNOTATION, Kind.EXTRA},
    Role.TOOL: {Kind.TOOL_RESULT, Kind.IMAGE, Kind.FILE},
    Role.SYSTEM: {Kind.TEXT},
    Role.DEVELOPER: {Kind.TEXT},
}
_PART_FIELDS = {  # the required and the optional fields of each kind
    Kind.TEXT: ({"text"}, set[str]()),
    Kind.REASONING: ({"text"}, set[str]()),
    Kind.REFUSAL: ({"text"}, set[str]()),
    Kind.ANNOTATION: ({"text"}, set[str]()),
    Kind.EXTRA: ({"text"}, {"call_id", "name"}),
    Kind.TOOL_CALL: ({"call_id", "name", "arguments"}, set[str]()),
    Kind.TOOL_RESULT: ({"call_id", "text"}, {"name"}),
    Kind.IMAGE: (set[str](), {"url", "file_id", "detail", "filename", "format"}),
    Kind.AUDIO: ({"data", "format"}, {"filename"}),
    Kind.FILE: (set[str](), {"url", "data", "file_id", "filename", "format", "detail"}),
}
_CONTENT_FIELDS = tuple(name for name in PartDocument.__struct_fields__ if name != "type")
_MEDIA = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.FILE})


def _read_part(part: PartDocument, path: str) -> Part:
    given = {name for name in _CONTENT_FIELDS if getattr(part, name) is not None}
    required, optional = _PART_FIELDS[part.type]
    for name in _CONTENT_FIELDS:
        if name in required - given:
            raise InvalidRequest.field(f"{path}.{name}", "This field is required.")
        if name in given - required - optional:
            raise InvalidRequest.field(f"{path}.{name}", "Parts of this type have no such field.")
    if part.type in _MEDIA:
        if not (part.url or part.data or part.file_id):
            raise InvalidRequest.field(path, "It must have `url`, `data` or `file_id`.")
        if part.url is not None and not part.url.lower().startswith(URL_SCHEMES):
            raise InvalidRequest.field(f"{path}.url", "It must be an http, https or data URL.")
        return Part(part.type, media=Media(**{name: getattr(part, name) for name in MEDIA_FIELDS}))
    if part.type in {Kind.ANNOTATION, Kind.EXTRA}:
        _check_annotations(part.text or "", f"{path}.text")
    call = ToolCall(part.call_id, part.name or "") if part.call_id is not None else None
    text = part.arguments if part.type is Kind.TOOL_CALL else part.text
    if not text and part.type is Kind.TOOL_CALL:
        raise InvalidRequest.field(f"{path}.arguments", "It must not be empty; a call without arguments has `{}`.")
    return Part(part.type, text or "", call)


def _check_annotations(text: str, path: str) -> None:
    """Check that each line is a JSON object; the text after the last line feed may be the beginning of one."""
    for line in text.split("\n")[:-1]:
        try:
            is_object = isinstance(msgspec.json.decode(line), dict)
        except (msgspec.DecodeError, RecursionError):
            is_object = False
        if not is_object:
            raise InvalidRequest.field(path, "It must be JSON objects, each followed by a line feed.")


def _read_generation(
    message: MessageDocument,
    path: str,
    session_id: str,
    ids: dict[str, str],
    parts: tuple[Part, ...],
    exported_at: Microseconds,
) -> Generation | None:
    """Return the generation of an answer. One that was running is `interrupted`, as after the end of its process."""
    if message.status is None:
        for name in ANSWER_FIELDS:
            if getattr(message, name) is not None:
                raise InvalidRequest.field(f"{path}.{name}", "It must be null in a message without a `status`.")
        return None
    if message.role is not Role.ASSISTANT or message.model is None:
        reason = "It must be null, except in an assistant message with a `model`."
        raise InvalidRequest.field(f"{path}.status", reason)
    is_running = message.status is Status.RUNNING
    if message.ended_at is None and not is_running:
        raise InvalidRequest.field(f"{path}.ended_at", "This field is required in an answer that has ended.")
    error = ErrorDocument(Interrupted.code, None) if is_running else message.error
    return Generation(
        id=new_id("gen"),
        session_id=session_id,
        message_id=ids[message.id],
        status=Status.INTERRUPTED if is_running else message.status,
        model=message.model,
        dialect=DIALECT,
        created_at=_microseconds(message.created_at, f"{path}.created_at"),
        first_token_at=_microseconds_or_none(message.first_token_at, f"{path}.first_token_at"),
        ended_at=_microseconds_or_none(message.ended_at, f"{path}.ended_at") or exported_at,
        length=sum(len(part.text.encode()) for part in parts),
        finish_reason=message.finish_reason,
        usage=_read_usage(message.usage) if message.usage is not None else None,
        error_code=error.code if error is not None else None,
        error_detail=error.detail if error is not None else None,
        left_out=_read_left_out(message.left_out, ids) if message.left_out is not None else None,
    )


def _read_left_out(left_out: LeftOutDocument, ids: dict[str, str]) -> LeftOut:
    """Return which messages were left out, by their new ids; those that were deleted since have none."""
    ends = ids.get(left_out.first or ""), ids.get(left_out.last or "")
    return LeftOut(left_out.messages, *ends, summarised=left_out.summarised)


def _read_usage(usage: UsageDocument) -> Usage:
    """Return the usage with each count between 0 and 2**53: some upstreams report others, and exports contain them."""
    counts = {
        name: None if (count := getattr(usage, name)) is None else max(0, min(count, MAX_TOKENS))
        for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    }
    return Usage(**counts, estimated=usage.estimated)


def _microseconds_or_none(at: datetime | None, path: str) -> Microseconds | None:
    return None if at is None else _microseconds(at, path)


def _microseconds(at: datetime, path: str) -> Microseconds:
    """Convert a time; reject one that cannot be written in a response."""
    if at.tzinfo is None or not EARLIEST <= at < LATEST:
        raise InvalidRequest.field(path, "It must be a time with an offset, from 1970 to 9998.")
    return Microseconds((at - EARLIEST) // timedelta(microseconds=1))
