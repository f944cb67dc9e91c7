"""Request limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A request limit and what is left of it now."""

    limit: int
    remaining: int
