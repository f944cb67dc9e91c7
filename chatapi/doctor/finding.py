"""Findings: the result of a check, as a level and a sentence."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well, or not as safely, as it could."""
    FAILURE = "failure"
    """It does not work, or a promise is broken."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, for the operator. The sentence says how to fix it."""

    level: Level
    about: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:8} {self.about}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Reporter:
    """Creates findings about one subject."""

    about: str

    def ok(self, sentence: str) -> Finding:
        """Return a finding without a problem."""
        return Finding(Level.OK, self.about, sentence)

    def warning(self, sentence: str) -> Finding:
        """Return a finding of something that works, but could be better or safer."""
        return Finding(Level.WARNING, self.about, sentence)

    def failure(self, sentence: str) -> Finding:
        """Return a finding of something that does not work."""
        return Finding(Level.FAILURE, self.about, sentence)

    def latency(self, action: str, seconds: float, max_seconds: float, advice: str) -> Finding:
        """Return a finding with a duration; a warning with advice if it is above `max_seconds`."""
        sentence = f"{action} takes {seconds * 1000:.2g} ms (median)."
        return self.ok(sentence) if seconds <= max_seconds else self.warning(f"{sentence} {advice}")


Check: TypeAlias = AsyncGenerator[Finding]

SAMPLES = 15  # enough for a median


async def median_seconds(do: Callable[[], Awaitable[object]]) -> float:
    """Return the median duration of `SAMPLES` calls, after one that opens connections and fills caches."""
    await do()
    took = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        await do()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)
