"""What a check finds: a level and a sentence."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well, or not as safely, as it could."""
    FAILURE = "failure"
    """It does not work, or a promise is broken."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result, for the operator; what to change is in the sentence."""

    level: Level
    about: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:8} {self.about}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Reporter:
    """Makes findings about one thing."""

    about: str

    def ok(self, sentence: str) -> Finding:
        """All is well."""
        return Finding(Level.OK, self.about, sentence)

    def warning(self, sentence: str) -> Finding:
        """It works, but."""
        return Finding(Level.WARNING, self.about, sentence)

    def failure(self, sentence: str) -> Finding:
        """It does not work."""
        return Finding(Level.FAILURE, self.about, sentence)

    def latency(self, what: str, seconds: float, most: float, advice: str) -> Finding:
        """A duration, and what to do where it is above `most`."""
        sentence = f"{what} takes {seconds * 1000:.2g} ms (median)."
        return self.ok(sentence) if seconds <= most else self.warning(f"{sentence} {advice}")


Check: TypeAlias = AsyncGenerator[Finding]

SAMPLES = 15  # enough for a median, and done in a moment


async def median_seconds(do: Callable[[], Awaitable[object]]) -> float:
    """How long it takes, usually."""
    await do()  # the first one opens connections and fills caches
    took = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        await do()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)
