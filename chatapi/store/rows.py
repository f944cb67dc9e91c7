"""Columns of the tables, and the conversion between rows and values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from chatapi.model import (
    ContextPolicy,
    Generation,
    Kind,
    LeftOut,
    Media,
    Message,
    Part,
    Role,
    Session,
    Status,
    ToolCall,
    Usage,
)
from chatapi.store.drivers.driver import CrossedRows

SESSION = (
    "id, owner, developer_message, title, metadata, head, message_count, created_at, updated_at, content_bytes, keep, "
    "expires_at, temporary, queued, context"
)
GENERATION = (
    "g.id, g.session_id, g.message_id, g.status, g.model, g.dialect, g.created_at, g.first_token_at, g.ended_at, "
    "g.length, g.finish_reason, g.usage, g.error_code, g.error_detail, g.replica, g.left_out, "
    "g.upstream"
)
MESSAGE = "m.id, m.session_id, m.parent, m.depth, m.role, m.content, m.created_at"
MESSAGE_COLUMNS = 7

VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def valid_id_or_empty(value: str) -> str:
    """Return an ID from a caller as a parameter; the empty string, which no row has, if it cannot be an ID of ours.

    PostgreSQL refuses a NUL, and neither driver encodes an unpaired surrogate.
    """
    return value if VALID_ID.fullmatch(value) else ""


def check_is(found: Any, expected: Any) -> None:
    """Raise `CrossedRows` unless the row is the one that was asked for."""
    if found != expected:
        raise CrossedRows


def read_session(row: tuple[Any, ...]) -> Session:
    """Convert the columns `SESSION`."""
    values = list(row)
    values[4] = msgspec.json.decode(row[4])
    values[10], values[12] = bool(row[10]), bool(row[12])
    values[14] = ContextPolicy(row[14]) if row[14] is not None else None
    return Session(*values)


def read_generation(row: tuple[Any, ...]) -> Generation:
    """Convert the columns `GENERATION`."""
    values = list(row)
    values[3] = Status(row[3])
    values[11] = msgspec.json.decode(row[11], type=Usage) if row[11] is not None else None
    values[15] = msgspec.json.decode(row[15], type=LeftOut) if row[15] is not None else None
    return Generation(*values)


def read_message(row: tuple[Any, ...]) -> Message:
    """Convert the columns `MESSAGE, GENERATION`; those of the generation are NULL where the message has none."""
    values, generation = list(row[:MESSAGE_COLUMNS]), row[MESSAGE_COLUMNS:]
    values[4] = Role(row[4])
    values[5] = decode_parts(row[5])
    values.append(read_generation(generation) if generation[0] is not None else None)
    return Message(*values)


class _StoredPart(msgspec.Struct, omit_defaults=True):
    type: Kind
    text: str | None = None
    call_id: str | None = None
    name: str | None = None
    media: Media | None = None


_decode_parts = msgspec.json.Decoder(list[_StoredPart]).decode


def decode_parts(content: str) -> tuple[Part, ...]:
    """Decode the column `message.content`."""
    return tuple(
        Part(
            part.type,
            part.text or "",
            ToolCall(part.call_id, part.name or "") if part.call_id is not None else None,
            part.media,
        )
        for part in _decode_parts(content)
    )


def encode_parts(parts: tuple[Part, ...]) -> str:
    """Encode parts for the column `message.content`."""
    return encode_json([_stored_part(part) for part in parts])


def _stored_part(part: Part) -> _StoredPart:
    call_id, name = part.call or (None, None)
    return _StoredPart(part.kind, part.text, call_id, name, part.media)


def encode_json(value: Any) -> str:
    """Encode a value as JSON text."""
    return msgspec.json.encode(value).decode()


def encode_call(call: ToolCall | None) -> str | None:
    """Encode the column `piece.call`."""
    return None if call is None else encode_json(call)


def decode_call(call: str | None) -> ToolCall | None:
    """Decode the column `piece.call`."""
    return None if call is None else msgspec.json.decode(call, type=ToolCall)


# A cut as the distance from the one before it, five bits a character, the lowest first; the last character of a number
# is of the first half. So a cut after less than 32 bytes takes one character, and one after less than 1,024 takes two.
_CUT_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef" + "ghijklmnopqrstuvwxyz0123456789-_"
_CUT_VALUES = {digit: value for value, digit in enumerate(_CUT_DIGITS)}


def encode_cuts(cuts: Sequence[int]) -> str:
    """Encode the column `message.cuts`: positions that rise."""
    digits = []
    before = 0
    for position in cuts:
        distance, before = position - before, position
        while distance >= 32:
            digits.append(_CUT_DIGITS[32 + (distance & 31)])
            distance >>= 5
        digits.append(_CUT_DIGITS[distance])
    return "".join(digits)


def decode_cuts(encoded: str) -> list[int]:
    """Decode the column `message.cuts`."""
    cuts = []
    position = distance = shift = 0
    for digit in encoded:
        value = _CUT_VALUES[digit]
        distance |= (value & 31) << shift
        shift += 5
        if value < 32:
            position += distance
            cuts.append(position)
            distance = shift = 0
    return cuts
