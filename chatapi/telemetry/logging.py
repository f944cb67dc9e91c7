"""Logs: one line for each request and each generation on stderr, without message text and without keys.

A log write neither raises nor waits: the service continues when the disk is full, when the pipe is closed, and when
nothing reads the pipe. Records of the standard library's loggers pass the same redaction and the same writer.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from chatapi.auth.keys import Key, KeyPolicy
from chatapi.settings import Settings

STDERR = 2
BACKLOG_BYTES = 256 * 1024  # lines that wait for a full pipe; further lines are dropped and counted
FLUSH_SECONDS = 1.0  # for waiting lines, at the end of the process
# uvicorn's message for a plain-text answer that is cut on purpose, so that the client sees the failure.
INTENDED_CUT = "ASGI callable returned without completing response."
_OWN_KEYS: list[Key] = []
RED, YELLOW, DIM, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
TRACE_ID = "trace_id"  # 32 hexadecimal digits, as some keys have; the collector shows the same ones
LONG_MS = 10_000  # durations from here on are shown in seconds


def configure(settings: Settings) -> None:
    """Send all logs to stderr, in the format and from the level of the settings."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = settings.log_format == "console" or (settings.log_format == "auto" and is_terminal)
    redact = _redaction(KeyPolicy(settings.key_pattern))
    renderer = ConsoleRenderer(colours=is_terminal and not settings.no_color) if console else render_json
    stamp = structlog.processors.TimeStamper("%H:%M:%S" if console else "iso", utc=not console)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        stamp,
        structlog.processors.format_exc_info,
        redact,
    ]

    def report(lines: int) -> str:
        event: EventDict = {"event": "log lines lost", "lines": lines, "level": "warning"}
        return str(renderer(None, "warning", stamp(None, "warning", event)))

    writer = LineWriter(None if sys.stderr is None else STDERR, report)
    atexit.register(writer.close)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    handler.addFilter(lambda record: record.getMessage() != INTENDED_CUT)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


class LineWriter:
    """Write lines to a file descriptor without ever raising or waiting; usable from any thread.

    Lines that a full pipe does not take wait in memory, up to `BACKLOG_BYTES`, for the next write. Lines that are lost
    (no room left, disk full, pipe closed) are counted; the count is logged as soon as a line can be written again.
    """

    def __init__(self, descriptor: int | None, report: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._report = report  # the line that reports a number of lost lines
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._lost = 0
        self._in_line = False  # the last byte written did not end its line

    def write(self, line: str) -> None:
        """Write a line, or keep it until the descriptor takes it, or drop it."""
        if self._descriptor is None:
            return
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if len(self._waiting) + len(data) > BACKLOG_BYTES:
                self._lost += 1
            else:
                self._waiting += data
            self._flush(self._descriptor, 0)

    # The names by which structlog calls it, one for each level.
    debug = info = warning = error = critical = write

    def close(self) -> None:
        """Write the waiting lines; give up after `FLUSH_SECONDS`."""
        deadline = time.monotonic() + FLUSH_SECONDS
        with self._lock:
            while self._descriptor is not None and self._waiting and (left := deadline - time.monotonic()) > 0:
                self._flush(self._descriptor, left)

    def _flush(self, descriptor: int, seconds: float) -> None:
        try:
            while self._waiting and select.select((), (descriptor,), (), seconds)[1]:
                # A pipe that is ready takes PIPE_BUF bytes without waiting.
                written = os.write(descriptor, self._waiting[: select.PIPE_BUF])
                self._in_line = self._waiting[written - 1 : written] != b"\n"
                del self._waiting[:written]
                if self._lost and not self._waiting:
                    lost, self._lost = self._lost, 0
                    self._waiting += self._report(lost).encode() + b"\n"
        except BlockingIOError:
            return
        except (OSError, ValueError):  # disk full, pipe closed, descriptor closed
            self._lost += self._waiting.count(b"\n")
            self._waiting[:] = b"\n" if self._in_line else b""


class _Handler(logging.Handler):
    """Pass the records of the standard library's loggers to the writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception as error:  # a record whose arguments do not fit its format
            self._writer.write(render_json(None, "error", {"event": "unformattable log record", "error": error}))


def render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render an event as one JSON object. Values that JSON does not know are shown by their `repr`."""
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except Exception:  # unpaired surrogates, very large integers, keys that are not strings
        return json.dumps({str(name): ascii(value) for name, value in event.items()})


class ConsoleRenderer:
    """Render an event for people: `12:06:52 GET /api/health 200 36 ms`, with failures in colour on request."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Return the event as one line, followed by its traceback where it has one."""
        fields = dict(event)
        clock = self._paint(DIM, str(fields.pop("timestamp", "")))
        level = fields.pop("level", method)
        exception = fields.pop("exception", None)
        name = str(fields.pop("event", ""))
        text = self._request(fields) if name == "request" else self._other(name, level, fields)
        return f"{clock} {text}" + (f"\n{exception}" if exception else "")

    def _request(self, fields: EventDict) -> str:
        status = fields.get("status", 0)
        text = f"{fields.get('method')} {fields.get('path')} {status} {_duration(fields.get('duration_ms', 0))}"
        if fields.get("aborted"):
            text += " aborted"
        if status >= 400:
            text += f" {fields['code']}" if "code" in fields else ""
            text += f" {fields['request_id']}" if "request_id" in fields else ""
            text += f" ({fields['hint']})" if "hint" in fields else ""
        return self._paint(RED if status >= 500 else YELLOW if status >= 400 else "", text)

    def _other(self, name: str, level: str, fields: EventDict) -> str:
        if level in {"warning", "error", "critical"}:
            name = self._paint(YELLOW if level == "warning" else RED, f"{level}: {name}")
        return " ".join([name, *(f"{field}={_value(value)}" for field, value in fields.items())])

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colours and colour else text


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < LONG_MS else f"{milliseconds / 1000:.1f} s"


def _value(value: Any) -> str:
    """Return a value as one word; text with spaces or control characters is quoted and escaped."""
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def keep_out(keys: Iterable[Key]) -> None:
    """Keep the keys that this server has for upstreams out of every line, whatever form they have."""
    _OWN_KEYS.extend(keys)


def _redaction(policy: KeyPolicy) -> Processor:
    """Return a processor that removes keys from every string of an event, at any depth."""

    def hide(text: str) -> str:
        for key in _OWN_KEYS:
            if key.is_in(text):
                text = key.hide(text)
        return policy.redact(text)

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, dict):
            return {name: clean(member) for name, member in value.items()}
        if isinstance(value, list | tuple):
            return [clean(member) for member in value]
        return value

    def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        texts, is_flat = [], True
        for name, value in event.items():
            if isinstance(value, str):
                if name != TRACE_ID:
                    texts.append(value)
            elif isinstance(value, dict | list | tuple):
                is_flat = False
        if is_flat:  # one search instead of one for each value: no key contains NUL, and NUL ends one
            joined = "\0".join(texts)
            if hide(joined) == joined:
                return event
        return {name: value if name == TRACE_ID else clean(value) for name, value in event.items()}

    return redact
