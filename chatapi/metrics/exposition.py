"""The text formats of Prometheus and OpenMetrics, written by `prometheus-client`. Runs on a thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from chatapi.metrics.instruments import Counter, Histogram, Snapshot, Sums


class Exposition(NamedTuple):
    """The body of a scrape and its content type."""

    body: bytes
    content_type: str


def expose(snapshots: Sequence[Snapshot], accept: str) -> Exposition:
    """Write the values, and those of the process, in the format that the scraper accepts."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Snapshots(snapshots))
    encode, content_type = choose_encoder(accept)
    return Exposition(encode(registry), content_type)


class _Snapshots(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        return map(_family, self._snapshots)


def _family(one: Snapshot) -> Metric:
    instrument, values = one
    if isinstance(instrument, Histogram):
        histogram = HistogramMetricFamily(instrument.name, instrument.help, labels=instrument.labels)
        names = [*map(str, instrument.bounds), "+Inf"]
        for labels, sums in cast(dict[tuple[str, ...], Sums], values).items():
            buckets = list(zip(names, accumulate(sums.counts), strict=True))
            histogram.add_metric(labels, buckets, sums.total[0])
        return histogram
    family: CounterMetricFamily | GaugeMetricFamily
    if isinstance(instrument, Counter):
        family = CounterMetricFamily(instrument.name, instrument.help, labels=instrument.labels)
    else:
        family = GaugeMetricFamily(instrument.name, instrument.help, labels=instrument.labels)
    for labels, value in cast(dict[tuple[str, ...], float], values).items():
        family.add_metric(labels, value)
    return family
