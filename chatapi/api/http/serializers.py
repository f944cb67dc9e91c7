"""Sessions, messages, generations and their parts as JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import asdict

from chatapi.model import Generation, Kind, Message, Microseconds, Part, Session, Status, Usage, visible_text
from chatapi.wire.loose_json import nests_deeper_than

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_ANNOTATION_DEPTH = 64  # nested values; JSON readers here go some hundreds deep, not all equally far


def iso(at: Microseconds) -> str:
    """Return a time in ISO 8601, UTC, with its offset."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat()


def iso_or_none(at: Microseconds | None) -> str | None:
    """Return a time in ISO 8601, or None."""
    return None if at is None else iso(at)


def session_json(session: Session) -> dict[str, Any]:
    """Return a session: the seed's fields and ours."""
    return {
        "session_id": session.id,
        "developer_message": session.developer_message,
        "message_count": session.message_count,
        "created_at": iso(session.created_at),
        "last_updated": iso(session.updated_at),
        "title": session.title,
        "metadata": session.metadata,
        "head": session.head,
        "keep": session.keep,
        "temporary": session.temporary,
        "expires_at": iso(session.expires_at) if session.expires_at is not None else None,
        "queued": session.queued,
        "context": session.context,
    }


def usage_json(usage: Usage | None) -> dict[str, Any] | None:
    """Return token counts, or None where they are unknown."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cached_tokens": usage.cached_tokens,
        "estimated": usage.estimated,
    }


def generation_json(generation: Generation) -> dict[str, Any]:
    """Return the state of a generation."""
    return {
        "session_id": generation.session_id,
        "generation_id": generation.id,
        "message_id": generation.message_id,
        "model": generation.model,
        "status": generation.status.value,
        "finish_reason": generation.finish_reason,
        "usage": usage_json(generation.usage),
        "error": error_json(generation),
        "left_out": left_out_json(generation),
        **upstream_json(generation),
    }


def upstream_json(generation: Generation) -> dict[str, str]:
    """Return the member with the upstream that answered, if there are several."""
    return {"upstream": generation.upstream} if generation.upstream is not None else {}


def left_out_json(generation: Generation) -> dict[str, Any] | None:
    """Return the messages that were left out of a request, or None if it had all."""
    return asdict(generation.left_out) if generation.left_out is not None else None


def error_json(generation: Generation) -> dict[str, Any] | None:
    """Return the error of a generation, or None."""
    if generation.error_code is None:
        return None
    return {"code": generation.error_code, "detail": generation.error_detail}


def parts_json(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Return the parts of a message in order, annotations as the upstream sent them."""
    shown: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is Kind.ANNOTATION:
            shown += [{"type": part.kind.value, "annotation": one} for one in annotations_of(part)]
        elif part.kind is Kind.TOOL_CALL and part.call is not None:
            called = {"call_id": part.call.id, "name": part.call.name, "arguments": part.text}
            shown.append({"type": part.kind.value, **called})
        elif part.kind in {Kind.TOOL_RESULT, Kind.EXTRA} and part.call is not None:
            shown.append({"type": part.kind.value, "call_id": part.call.id, "text": part.text})
        elif part.media is not None:
            media = {name: value for name, value in asdict(part.media).items() if value is not None}
            shown.append({"type": part.kind.value, **media})
        else:
            shown.append({"type": part.kind.value, "text": part.text})
    return shown


def annotations_of(part: Part) -> list[Any]:
    """Return the annotations in an annotation part, without an incomplete last one."""
    return [one for line in part.text.split("\n")[:-1] if (one := read_annotation(line)) is not None]


def read_annotation(line: str | bytes) -> Any:
    """Return the annotation in a line of JSON, or None for one that cannot be written again.

    It nests too deeply, or has an infinite number, which earlier versions stored.
    """
    try:
        annotation = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if nests_deeper_than(annotation, MAX_ANNOTATION_DEPTH) else annotation


def message_json(message: Message) -> dict[str, Any]:
    """Return a message; an answer includes the state of its generation."""
    generation = message.generation
    shown = {
        "id": message.id,
        "role": message.role.value,
        "content": visible_text(message.parts),
        "status": generation.status.value if generation else Status.COMPLETED.value,
        "model": generation.model if generation else None,
        "usage": usage_json(generation.usage) if generation else None,
        "created_at": iso(message.created_at),
        "parent_id": message.parent,
        "parts": parts_json(message.parts),
        "sibling_ids": list(message.siblings),
    }
    if generation is not None:
        shown |= {
            "reasoning": "".join(part.text for part in message.parts if part.kind is Kind.REASONING) or None,
            "generation_id": generation.id,
            "finish_reason": generation.finish_reason,
            "error": error_json(generation),
            "first_token_at": iso_or_none(generation.first_token_at),
            "ended_at": iso_or_none(generation.ended_at),
            "left_out": left_out_json(generation),
            **upstream_json(generation),
        }
    return shown
