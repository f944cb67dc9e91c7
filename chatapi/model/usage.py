"""Token usage of one answer, and usage reports over many."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one answer. `estimated` is true if the upstream was stopped before it reported them."""

    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    estimated: bool = False


DAY_MICROSECONDS = 86_400_000_000


class GroupBy(StrEnum):
    """Dimensions of a usage report."""

    DAY = "day"
    MODEL = "model"
    SESSION = "session"
    UPSTREAM = "upstream"


class UsageTotal(msgspec.Struct, frozen=True):
    """Summed usage of answers of one model.

    `day` is the number of days since the Unix epoch, UTC. `day` and `session_id` are None if the report is not grouped
    by them. An empty `session_id` stands for all deleted sessions.
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
    estimated: int  # number of answers whose output tokens are estimated
    unknown: int  # number of answers without token counts
    upstream: str | None = None  # None if the report is not grouped by it; '': not known, or the only one


class UsageReport(NamedTuple):
    """Usage of one owner: totals per requested group, and one total per model.

    If `complete` is false, the report holds only the groups with the most tokens.
    """

    tallies: list[UsageTotal]
    totals: list[UsageTotal]
    complete: bool
