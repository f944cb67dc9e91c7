"""The bus wakes readers when a log has grown, and carries requests to the replica that can fulfil them.

A lost message costs latency, never data: readers look for themselves once a second, and so does the replica that has
to stop a generation.
"""

from __future__ import annotations

from chatapi.bus.local import Bus, LocalBus, Wakeup
from chatapi.bus.replicas import ReplicaBus, Transport

__all__ = ["Bus", "LocalBus", "Transport", "ReplicaBus", "Wakeup"]
