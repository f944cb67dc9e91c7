"""Limits: requests per key and minute, and running answers per key and in all."""

from __future__ import annotations

from chatapi.limits.local import LocalRateLimit, LocalSlots, RateLimit, Slot, Slots

__all__ = ["LocalRateLimit", "LocalSlots", "RateLimit", "Slot", "Slots"]
