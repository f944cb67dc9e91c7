"""Metrics: numbers that this process counts, and their exposition for Prometheus."""

from chatapi.metrics.instruments import Counter, Gauge, Histogram
from chatapi.metrics.lag import LoopLag
from chatapi.metrics.metrics import Metrics
from chatapi.metrics.models import ModelLabels
from chatapi.metrics.off import NoMetrics

__all__ = ["Counter", "Gauge", "Histogram", "LoopLag", "Metrics", "ModelLabels", "NoMetrics"]
