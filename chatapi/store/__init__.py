"""The store: every session, message, generation and log, on disk."""

from __future__ import annotations

from chatapi.store.drivers.driver import Driver, Fenced
from chatapi.store.store import Candidate, ScanSnapshot, SessionTime, StartedTurn, Store, StoredLog

__all__ = ["StartedTurn", "Candidate", "Driver", "Fenced", "SessionTime", "Store", "StoredLog", "ScanSnapshot"]
