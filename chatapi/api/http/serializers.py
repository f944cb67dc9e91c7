"""How the product's nouns look in JSON."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from chatapi.errors import InvalidRequest
from chatapi.model import Generation, Kind, Message, Microseconds, Part, Session, Status, Usage, visible_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEEPEST_ANNOTATION = 64  # values in values; what reads JSON here goes some hundreds deep, and not everywhere as far


def iso(at: Microseconds) -> str:
    """A time in ISO 8601, UTC, with its offset."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat()


def iso_or_none(at: Microseconds | None) -> str | None:
    """A time, if there is one."""
    return None if at is None else iso(at)


def session_json(session: Session) -> dict[str, Any]:
    """A session, as the seed shows it, and more."""
    return {
        "session_id": session.id,
        "developer_message": session.developer_message,
        "message_count": session.message_count,
        "created_at": iso(session.created_at),
        "last_updated": iso(session.updated_at),
        "title": session.title,
        "metadata": session.metadata,
        "head": session.head,
    }


def usage_json(usage: Usage | None) -> dict[str, Any] | None:
    """Tokens spent, if that is known."""
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
    """How a generation stands."""
    return {
        "session_id": generation.session_id,
        "generation_id": generation.id,
        "message_id": generation.message_id,
        "model": generation.model,
        "status": generation.status.value,
        "finish_reason": generation.finish_reason,
        "usage": usage_json(generation.usage),
        "error": error_json(generation),
    }


def error_json(generation: Generation) -> dict[str, Any] | None:
    """Why a generation failed, if it did."""
    if generation.error_code is None:
        return None
    return {"code": generation.error_code, "detail": generation.error_detail}


def parts_json(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """The parts of a message, in order. An annotation is shown as the upstream gave it."""
    shown: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is Kind.ANNOTATION:
            shown += [{"type": part.kind.value, "annotation": one} for one in annotations_of(part)]
        elif part.kind is Kind.TOOL_CALL and part.call is not None:
            called = {"call_id": part.call.id, "name": part.call.name, "arguments": part.text}
            shown.append({"type": part.kind.value, **called})
        elif part.kind is Kind.TOOL_RESULT and part.call is not None:
            shown.append({"type": part.kind.value, "call_id": part.call.id, "text": part.text})
        elif part.media is not None:
            media = {name: value for name, value in asdict(part.media).items() if value is not None}
            shown.append({"type": part.kind.value, **media})
        else:
            shown.append({"type": part.kind.value, "text": part.text})
    return shown


def annotations_of(part: Part) -> list[Any]:
    """The annotations in a part of them; one that was cut off in its middle is left out."""
    return [one for line in part.text.split("\n")[:-1] if (one := read_annotation(line)) is not None]


def read_annotation(line: str | bytes) -> Any:
    """An annotation from its line; None for one that nests so deeply that it could not be written again."""
    try:
        annotation = msgspec.json.decode(line)
    except RecursionError:
        return None
    row = [annotation]
    for _ in range(DEEPEST_ANNOTATION):
        row = [
            inner
            for value in row
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not row:
            return annotation
    return None


def message_json(message: Message) -> dict[str, Any]:
    """A message of the conversation; an answer with how it came to be."""
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
        }
    return shown


def encode_cursor(*values: int | str) -> str:
    """A place in a list, opaque to the caller."""
    return base64.urlsafe_b64encode(":".join(map(str, values)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, pattern: str) -> tuple[str, ...]:
    """What `encode_cursor` was given: the groups of `pattern`.

    Raises:
        InvalidRequest: no list gave this cursor.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found = re.fullmatch(pattern, text, re.ASCII)
    if found is None:
        raise InvalidRequest.field("cursor", "It is no cursor that this list gave.")
    return found.groups()
