"""Excerpts of the logs of servers, for the report of a test that failed."""

from __future__ import annotations

import json

from tests.server_process import STARTED

LAST_LINES = 30
WARNINGS = 20  # of each server, above its last lines
LINE_LENGTH = 600


def log_lengths() -> dict[int, int]:
    """Return the number of lines in each log, by the identity of the log: replicas share one."""
    return {id(service.log): len(service.log) for service in STARTED}


def excerpts(before: dict[int, int]) -> list[tuple[str, str]]:
    """Return a title and an excerpt of each log that has grown since `before` was taken with `log_lengths`."""
    logs = {id(service.log): service for service in sorted(STARTED, key=lambda service: service.folder)}
    found = []
    for identity, service in logs.items():
        lines = service.log[before.get(identity, 0) :]
        if lines:
            found.append((f"log of {service.folder.parent.name}/{service.folder.name}", excerpt(lines)))
    return found


def excerpt(lines: list[str]) -> str:
    """Return the last lines, and the warnings and errors before them."""
    last = lines[-LAST_LINES:]
    warnings = [line for line in lines[: -len(last)] if _is_warning(line)][-WARNINGS:]
    return "\n".join(line.rstrip("\n")[:LINE_LENGTH] for line in [*warnings, *last])


def _is_warning(line: str) -> bool:
    try:
        return json.loads(line)["level"] not in ("debug", "info")
    except (ValueError, TypeError, KeyError):
        return False  # the middle of a traceback: its end is what is printed
