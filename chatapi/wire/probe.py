"""The paths of health checks, and the stream by which `doctor --url` finds out whether a proxy delays streams."""

from __future__ import annotations

HEALTH_PATH = "/api/health"
LIVENESS_PATH = "/livez"
READINESS_PATH = "/readyz"
PROBE_PATH = "/api/health/stream"
PROBE_LINES = 6
PROBE_SECONDS = 0.2  # between two lines: longer than the jitter of a network, and soon over
