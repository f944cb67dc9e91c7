"""Request limits."""

from __future__ import annotations

import msgspec


class Limit(msgspec.Struct, frozen=True):
    """A request limit and the number of requests that remain."""

    limit: int
    remaining: int
