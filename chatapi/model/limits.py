"""Request limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A request limit and the number of requests that remain."""

    limit: int
    remaining: int
