"""`doctor`: the settings of this environment, checked against the real machine and the real servers."""

from __future__ import annotations

from chatapi.doctor.checks import run_checks
from chatapi.doctor.finding import Finding, Level, Reporter

__all__ = ["Finding", "Reporter", "Level", "run_checks"]
