"""Time and ids.

Times are integer microseconds since the Unix epoch, UTC: sortable, stored exactly by both databases, and easy to inject
in tests.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple, NewType

Microseconds = NewType("Microseconds", int)
Clock = Callable[[], Microseconds]


def wall_clock() -> Microseconds:
    """Return the current time in microseconds since the epoch."""
    return Microseconds(time.time_ns() // 1000)


_DIGITS = "0123456789abcdefghijklmnopqrstuv"  # base 32 in sort order, so that ids sort by time
_TIME_DIGITS = 10  # base-32 digits of a time in milliseconds: enough for 30,000 years


def new_id(prefix: str) -> str:
    """Return a new URL-safe id such as `ses_01jd…`: the time, then 128 random bits.

    The time prefix keeps rows created together on few database pages. No code reads it back.
    """
    now = time.time_ns() // 1_000_000
    digits = "".join([_DIGITS[now >> shift & 31] for shift in _TIME_SHIFTS])
    return f"{prefix}_{digits}{secrets.token_urlsafe(16)}"


_TIME_SHIFTS = range(5 * (_TIME_DIGITS - 1), -1, -5)


def named_id(prefix: str, *names: str) -> str:
    """Return the id that always belongs to these names, which cannot be read from it: 144 bits of a hash."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return f"{prefix}_{base64.urlsafe_b64encode(digest[:18]).decode()}"


class Alias(NamedTuple):
    """A client's own id for a session or message. It is unique per owner and kind.

    Each dialect has its own kind (such as `vercel-chat`) and limits the length of the name.
    """

    kind: str
    name: str
