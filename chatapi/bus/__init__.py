"""The bus wakes readers when a log has grown, and carries requests to the replica that can fulfil them.

Losing every message costs latency, never data: readers look for themselves once a second, and so does the replica that
is asked to stop something.
"""

from __future__ import annotations

from chatapi.bus.local import Bus, LocalBus, Wakeup
from chatapi.bus.replicas import ReplicaBus, Transport

__all__ = ["Bus", "LocalBus", "Transport", "ReplicaBus", "Wakeup"]
