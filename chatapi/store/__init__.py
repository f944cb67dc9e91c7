"""The store: every session, message, generation and log, in a database."""

from __future__ import annotations

from chatapi.store.drivers.driver import Driver, Fenced
from chatapi.store.queue_start import QueuedStart
from chatapi.store.quotas import StoreLimits
from chatapi.store.sessions import SessionTime
from chatapi.store.store import Store
from chatapi.store.values import Candidate, ScanSnapshot, StartedTurn, StoredLog

__all__ = [
    "Candidate",
    "Driver",
    "Fenced",
    "QueuedStart",
    "ScanSnapshot",
    "SessionTime",
    "StartedTurn",
    "Store",
    "StoreLimits",
    "StoredLog",
]
