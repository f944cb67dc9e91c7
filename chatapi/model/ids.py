"""Time and ids.

Times are whole microseconds since the epoch, UTC: one integer that sorts, that both databases store exactly, and that
a test can choose.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple, NewType

Microseconds = NewType("Microseconds", int)
Clock = Callable[[], Microseconds]


def wall_clock() -> Microseconds:
    """The time now, in microseconds since the epoch."""
    return Microseconds(time.time_ns() // 1000)


_DIGITS = "0123456789abcdefghijklmnopqrstuv"  # five bits each, in the order in which text is sorted
_TIME_DIGITS = 10  # of a time in milliseconds; enough for 30,000 years


def new_id(prefix: str) -> str:
    """A fresh URL-safe id, such as `ses_01jd…`: the time, then 128 random bits. Clients never choose one.

    The time is there for the database: rows that are made together are stored together, and a commit of many turns
    writes few pages. Nothing reads it.
    """
    now = time.time_ns() // 1_000_000
    digits = "".join([_DIGITS[now >> shift & 31] for shift in _TIME_SHIFTS])
    return f"{prefix}_{digits}{secrets.token_urlsafe(16)}"


_TIME_SHIFTS = range(5 * (_TIME_DIGITS - 1), -1, -5)


class Alias(NamedTuple):
    """A name that a client chose for something of ours. It means something to its owner only, and within its kind.

    A dialect picks the kind (such as `vercel-chat`), so that two dialects' names never meet, and bounds the name.
    """

    kind: str
    name: str
