"""Token usage of one answer, and usage reports over many."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent. `estimated` where the upstream was stopped before it counted them itself."""

    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    estimated: bool = False


DAY_MICROSECONDS = 86_400_000_000


class GroupBy(StrEnum):
    """What usage is told apart by, beside its owner."""

    DAY = "day"
    MODEL = "model"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The usage of some answers of one model, added up.

    `day` counts from the epoch, UTC; it and `session_id` are None where days and sessions are not told apart. The
    session of no id is of all that were deleted.
    """

    day: int | None
    session_id: str | None
    title: str | None
    model: str
    answers: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    estimated: int  # of the answers: cut off before the upstream counted, so their output is estimated
    unknown: int  # of the answers: nothing is known of their tokens


class UsageReport(NamedTuple):
    """What an owner used: tallies as they were asked for, and one for each model in all.

    Not `complete`: there are more of them than are read at once; those with the most tokens are here.
    """

    tallies: list[UsageTotal]
    totals: list[UsageTotal]
    complete: bool
