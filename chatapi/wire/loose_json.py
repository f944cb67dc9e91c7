"""JSON from an upstream, read tolerantly and made storable: proper Unicode without NUL."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import msgspec

REPLACEMENT = "\ufffd"
INTEGER_DIGITS = 19  # a longer integer is not a count of anything; it is read as null

# msgspec raises the first for bytes that are not UTF-8 and for surrogates too, and Python's decoder the others.
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


def storable(text: str) -> str:
    """Replace NUL and surrogates without their other half, which no database and no UTF-8 stream accepts."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def read_json(data: bytes | bytearray | str) -> Any:
    """Read JSON as tolerantly as possible: bytes that are not UTF-8 are replaced, control characters accepted.

    Strings may hold surrogates without their other half; see `storable`. NaN and infinities are read as None.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it nests too deeply.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return json.loads(
        text.lstrip("\ufeff"), strict=False, parse_float=_finite, parse_int=_integer, parse_constant=_no_number
    )


def nests_deeper_than(value: Any, levels: int) -> bool:
    """Return whether a JSON value has values in values beyond so many levels."""
    row = [value]
    for _ in range(levels):
        row = [
            inner
            for one in row
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not row:
            return False
    return True


def write_json(value: Any) -> str:
    """Write a value of `read_json` as storable JSON text."""
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_hidden))


def _hidden(_: Any) -> str:
    """Hide a value that is not JSON: a key, which a parser of requests has wrapped."""
    return "[redacted]"


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= INTEGER_DIGITS else None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if isfinite(number) else None


def _no_number(_: str) -> None:
    return None
