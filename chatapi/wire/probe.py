"""The stream by which `doctor --url` tells whether a proxy holds streams back: known to both sides."""

from __future__ import annotations

PROBE_PATH = "/api/health/stream"
PROBE_LINES = 6
PROBE_SECONDS = 0.2  # between two lines: longer than the jitter of a network, and soon over
