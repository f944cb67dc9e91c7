"""Counters, histograms and gauges. An observation is a few dictionary operations, without a lock.

Only the thread of the event loop changes and copies them. `exposition` renders a copy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import NamedTuple

Labels = tuple[str, ...]


class Sums(NamedTuple):
    """The observations of one histogram with the same labels: their number in each bucket, and their sum."""

    counts: list[int]  # one more than there are bounds: the last bucket has no bound
    total: list[float]  # one value, so that it can change


class Counter:
    """A number that only grows, for each combination of labels."""

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        self.name = name
        self.help = help_text
        self.labels = labels
        self.values: dict[Labels, float] = {} if labels else {(): 0.0}

    def start_at_zero(self, *values: str) -> None:
        """Expose these values of the only label before the first event: a rate needs a value before it."""
        for value in values:
            self.values.setdefault((value,), 0.0)

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add an amount, which is not negative."""
        self.values[labels] = self.values.get(labels, 0.0) + amount


class Histogram:
    """Observations, counted in buckets. A bucket contains the values up to its bound."""

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...], labels: Labels = ()) -> None:
        self.name = name
        self.help = help_text
        self.bounds = bounds
        self.labels = labels
        self.values: dict[Labels, Sums] = {} if labels else {(): self._empty()}

    def observe(self, value: float, *labels: str) -> None:
        """Count an observation."""
        sums = self.values.get(labels)
        if sums is None:
            sums = self.values[labels] = self._empty()
        sums.counts[bisect_left(self.bounds, value)] += 1
        sums.total[0] += value

    def _empty(self) -> Sums:
        return Sums([0] * (len(self.bounds) + 1), [0.0])


class Gauge(NamedTuple):
    """A value, or a value for each combination of labels, that is read at each scrape."""

    name: str
    help: str
    read: Callable[[], float | Mapping[Labels, float]]
    labels: Labels = ()


Instrument = Counter | Histogram | Gauge


class Snapshot(NamedTuple):
    """A copy of an instrument's values."""

    instrument: Instrument
    values: Mapping[Labels, float] | Mapping[Labels, Sums]


def snapshot(instrument: Instrument) -> Snapshot:
    """Return a copy that a thread may read."""
    if isinstance(instrument, Counter):
        return Snapshot(instrument, dict(instrument.values))
    if isinstance(instrument, Histogram):
        copies = {labels: Sums(list(sums.counts), list(sums.total)) for labels, sums in instrument.values.items()}
        return Snapshot(instrument, copies)
    value = instrument.read()
    values: dict[Labels, float] = dict(value) if isinstance(value, Mapping) else {(): value}
    return Snapshot(instrument, values)
