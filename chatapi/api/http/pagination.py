"""Pages of lists: sizes, and cursors that are opaque to clients."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal

from fastapi import Query

from chatapi.errors import InvalidRequest

PageSize = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=300)]
After = Annotated[str | None, Query(max_length=128)]
Order = Literal["asc", "desc"]


def encode_cursor(*values: int | str) -> str:
    """Return a cursor that holds `values`, none of which contains a colon."""
    return base64.urlsafe_b64encode(":".join(map(str, values)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, pattern: str) -> tuple[str, ...]:
    """Return the values of a cursor: the groups of `pattern`, which must match all of it.

    Raises:
        InvalidRequest: this list did not return the cursor.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found = re.fullmatch(pattern, text, re.ASCII)
    if found is None:
        raise InvalidRequest.field("cursor", "It must be the `next_cursor` of an earlier page of this list.")
    return found.groups()
