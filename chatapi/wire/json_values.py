"""Checks of single JSON values in a client's request. Each returns the value with its type, or names the field.

Texts that pass are proper Unicode without NUL: every database and every upstream takes them.
"""

from __future__ import annotations

from typing import Any

from chatapi.errors import InvalidRequest
from chatapi.wire.text import check_text

NAME_CHARACTERS = 256  # of a call's id, or of a function's name
URL_SCHEMES = ("https://", "http://", "data:")  # a URL is passed on, and never fetched


def require_object(value: Any, path: str) -> dict[str, Any]:
    """Return `value`, a JSON object; else raise InvalidRequest for `path`, as all functions here do."""
    if not isinstance(value, dict):
        raise InvalidRequest.field(path, "Must be an object.")
    return value


def require_list(value: Any, path: str, expected: str = "a list") -> list[Any]:
    """Return `value`, a JSON array; `expected` describes it in the error."""
    if not isinstance(value, list):
        raise InvalidRequest.field(path, f"Must be {expected}.")
    return value


def require_text(value: Any, path: str) -> str:
    """Return `value`, a string that can be stored."""
    if not isinstance(value, str):
        raise InvalidRequest.field(path, "Must be a string.")
    return check_text(value, path)


def optional_text(value: Any, path: str) -> str | None:
    """Return `value`, a string that can be stored, or None."""
    return None if value is None else require_text(value, path)


def require_name(value: Any, path: str) -> str:
    """Return `value`, a string of 1 to `NAME_CHARACTERS` characters."""
    name = require_text(value, path)
    if not 0 < len(name) <= NAME_CHARACTERS:
        raise InvalidRequest.field(path, f"Must have 1 to {NAME_CHARACTERS} characters.")
    return name


def require_url(value: Any, path: str) -> str:
    """Return `value`, a http, https or data URL."""
    url = require_text(value, path)
    if not url.lower().startswith(URL_SCHEMES):
        raise InvalidRequest.field(path, "Must be a http, https or data URL.")
    return url


def optional_flag(value: Any, path: str) -> bool:
    """Return `value`, a boolean; None is False."""
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest.field(path, "Must be true or false.")
    return bool(value)
