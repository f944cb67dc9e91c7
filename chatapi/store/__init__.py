"""The store: every session, message, generation and log, on disk."""

from __future__ import annotations

from chatapi.store.driver import Driver, Fenced
from chatapi.store.store import Begun, Candidate, SessionTime, Store, StoredLog, Walk

__all__ = ["Begun", "Candidate", "Driver", "Fenced", "SessionTime", "Store", "StoredLog", "Walk"]
