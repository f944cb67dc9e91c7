"""The bus wakes readers when a log has grown. Losing every message costs latency, never data."""

from __future__ import annotations

from chatapi.bus.local import LocalBus, Wake

__all__ = ["LocalBus", "Wake"]
