"""The metrics of a service that serves none: nothing is counted."""

from __future__ import annotations

from chatapi.metrics.metrics import Metrics
from chatapi.model import Generation


class NoMetrics(Metrics):
    """Has the methods of `Metrics`; an event costs one call."""

    enabled = False

    def request_ended(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        pass

    def answer_ended(self, generation: Generation, longest_gap: float | None = None) -> None:
        pass

    def upstream_responded(self, model: str, code: str | None = None) -> None:
        pass

    def committed(self, seconds: float, transactions: int, appends: int, failed: bool = False) -> None:
        pass
