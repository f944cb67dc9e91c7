"""Logs: one line for each request and each generation, never what was said, and never a key.

Colour on a terminal, JSON otherwise. Whatever the standard library's loggers say goes the same way, so that nothing
passes the redaction.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from chatapi.auth.keys import KeyPolicy
from chatapi.settings import Settings

CUT_ON_PURPOSE = "ASGI callable returned without completing response."  # how a plain-text answer tells of a failure


def configure(settings: Settings) -> None:
    """Send all logs to stderr, in the format and from the level that the settings say."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    redact = _redaction(KeyPolicy(settings.key_pattern))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(_encode)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    handler.addFilter(lambda record: record.getMessage() != CUT_ON_PURPOSE)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _redaction(policy: KeyPolicy) -> Processor:
    """A processor that takes keys out of every string of an event, however deep."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return policy.redact(value)
        if isinstance(value, dict):
            return {name: clean(member) for name, member in value.items()}
        if isinstance(value, list | tuple):
            return [clean(member) for member in value]
        return value

    def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {name: clean(value) for name, value in event.items()}

    return redact


def _encode(value: Any, **_: Any) -> str:
    return msgspec.json.encode(value, enc_hook=repr).decode()
