"""Limits: requests per caller and minute, running answers, and turns in a queue."""

from __future__ import annotations

from chatapi.limits.admission import Admission
from chatapi.limits.body_budget import BodyBudget
from chatapi.limits.buckets import KnownOwners, LeakyBuckets
from chatapi.limits.fair_queue import FairQueue
from chatapi.limits.local import LocalRateLimit, LocalSlots, RateLimit, Slot, Slots
from chatapi.limits.networks import network_of
from chatapi.limits.places import Places
from chatapi.limits.workers import WorkerCounts, WorkerLock, WorkerSlots, WorkerTimes

__all__ = [
    "Admission",
    "BodyBudget",
    "FairQueue",
    "KnownOwners",
    "LeakyBuckets",
    "LocalRateLimit",
    "LocalSlots",
    "Places",
    "RateLimit",
    "Slot",
    "Slots",
    "WorkerCounts",
    "WorkerLock",
    "WorkerSlots",
    "WorkerTimes",
    "network_of",
]
