"""Write a session as a document: one page of messages at a time, so memory does not grow with the session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from chatapi.api.http.serializers import iso, iso_or_none
from chatapi.api.http.streaming import Aborted
from chatapi.api.sessions.document import ANSWER_FIELDS, FORMAT, MEDIA_FIELDS, VERSION, PartDocument
from chatapi.model import Kind, Message, MessageCursor, Microseconds, Part, QueuedTurn, Session
from chatapi.store import ScanSnapshot, Store


async def write_document(store: Store, snapshot: ScanSnapshot, now: Microseconds) -> AsyncGenerator[bytes, None]:
    """Yield the document of a session, page by page, without the messages that are added meanwhile.

    Raises:
        Aborted: messages were deleted meanwhile, so the document cannot be completed.
    """
    head = {"format": FORMAT, "version": VERSION, "exported_at": iso(now), "session": _session_json(snapshot.session)}
    yield msgspec.json.encode(head)[:-1] + b',"messages":['
    written = 0
    cursor: MessageCursor | None = snapshot.first
    while cursor is not None:
        page, cursor = await store.scans.next_messages(snapshot.session.id, cursor)
        page = [message for message in page if message.created_at <= snapshot.newest]
        if page:
            lines = b",\n".join([msgspec.json.encode(_message_json(message)) for message in page])
            yield b",\n" + lines if written else b"\n" + lines
        written += len(page)
    if written != snapshot.messages:
        raise Aborted
    yield b"\n]"
    if queue := await store.queue.find_all(snapshot.session.id):
        yield b',"queue":' + msgspec.json.encode([_queued_json(queued) for queued in queue])
    yield b"}\n"


def _session_json(session: Session) -> dict[str, Any]:
    return {
        "title": session.given_title,
        "developer_message": session.developer_message,
        "metadata": session.metadata,
        "created_at": iso(session.created_at),
        "last_updated": iso(session.updated_at),
        "head": session.head,
        **({"context": session.context} if session.context is not None else {}),  # earlier versions do not know it
    }


def _queued_json(queued: QueuedTurn) -> dict[str, Any]:
    return {
        "id": queued.id,
        "parts": [_part_document(part) for part in queued.parts],
        "model": queued.turn.model,
        "created_at": iso(queued.created_at),
    }


def _message_json(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": message.id,
        "parent_id": message.parent,
        "role": message.role,
        "parts": [_part_document(part) for part in message.parts],
        "created_at": iso(message.created_at),
    }
    generation = message.generation
    if generation is None:
        return shown | dict.fromkeys(ANSWER_FIELDS)
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
        **({"left_out": generation.left_out} if generation.left_out is not None else {}),
    }


def _part_document(part: Part) -> PartDocument:
    shown = PartDocument(part.kind)
    if part.media is not None:
        for name in MEDIA_FIELDS:
            setattr(shown, name, getattr(part.media, name))
        return shown
    if part.call is not None:
        shown.call_id, shown.name = part.call.id, part.call.name or None
    if part.kind is Kind.TOOL_CALL:
        shown.arguments = part.text
    else:
        shown.text = part.text
    return shown
