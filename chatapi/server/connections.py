"""All open connections: how many there may be, and which ones make no progress."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from chatapi.limits import network_of

RESERVED_FILES = 128  # for databases, upstream connections and the log
FILES_PER_CONNECTION = 2  # a client's, and the upstream's of its answer
MAX_DEFAULT = 10_000
REPORT_SECONDS = 10.0  # between two log lines about one subject
CHECKS_PER_DEADLINE = 4

logger = structlog.get_logger()


class Connection(Protocol):
    """A connection, as this module sees it."""

    @property
    def address(self) -> str:
        """The address of its other end."""

    @property
    def unwritten_bytes(self) -> int:
        """The bytes that were written to it and that the system has not taken yet."""

    @property
    def written_bytes(self) -> int:
        """All bytes that were written to it."""

    def abort(self) -> None:
        """Close it at once."""


class Reports:
    """Log lines about refused clients: one per subject and interval, with the number of events in between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warn(self, event: str, address: str, **fields: object) -> None:
        """Log a warning, or count it if the subject was logged a moment ago."""
        now = self._loop.time()
        if now < self._next_at.get(event, 0.0):
            self._suppressed[event] = self._suppressed.get(event, 0) + 1
            return
        self._next_at[event] = now + REPORT_SECONDS
        logger.warning(event, address=address, more=self._suppressed.pop(event, 0), **fields)


class ConnectionTable:
    """Bounds connections in all and per address, and ends those whose writes make no progress.

    At a limit the connection that has waited longest for its client to finish a request makes room: an honest client
    sends its request at once. Only if none waits, the new connection is refused.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_in_all: int, max_per_address: int, write_seconds: float
    ) -> None:
        self._loop = loop
        self._max_in_all = max_in_all
        self._max_per_address = max_per_address
        self._write_seconds = write_seconds
        self._open: dict[Connection, _Writes] = {}
        self._waiting: dict[Connection, None] = {}  # for the rest of a request; the longest first
        self._by_network: dict[str, dict[Connection, None]] = {}
        self._checker: asyncio.TimerHandle | None = None
        self.reports = Reports(loop)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, unlimited: bool = False) -> bool:
        """Add a connection that waits for its first request; return False if it must be refused.

        Args:
            unlimited: its address is a trusted proxy, which has no limit of its own.
        """
        address = connection.address
        network = network_of(address)
        here = self._by_network.setdefault(network, {})
        if not unlimited and len(here) >= self._max_per_address:
            victim = next((one for one in self._waiting if one in here), None)
            self._report(address, "CHATAPI_MAX_CONNECTIONS_PER_ADDRESS", refused=victim is None)
            if victim is None:
                return False
            self._evict(victim)
        if len(self._open) >= self._max_in_all:
            victim = next(iter(self._waiting), None)
            self._report(address, "CHATAPI_MAX_CONNECTIONS", refused=victim is None)
            if victim is None:
                if not here:
                    del self._by_network[network]
                return False
            self._evict(victim)
        self._by_network.setdefault(network, {})[connection] = None
        self._open[connection] = _Writes(self._loop.time())
        self._waiting[connection] = None
        if self._checker is None:
            self._schedule()
        return True

    def remove(self, connection: Connection) -> None:
        """Remove a connection that has closed. A second call has no effect."""
        if self._open.pop(connection, None) is None:
            return
        self._waiting.pop(connection, None)
        network = network_of(connection.address)
        here = self._by_network[network]
        del here[connection]
        if not here:
            del self._by_network[network]

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for the rest of a request, or for the next one."""
        if connection in self._open:
            self._waiting.setdefault(connection)

    def serve(self, connection: Connection) -> None:
        """Note that the whole request of a connection has come."""
        self._waiting.pop(connection, None)

    def close(self) -> None:
        """Stop checking."""
        if self._checker is not None:
            self._checker.cancel()
            self._checker = None

    def _evict(self, connection: Connection) -> None:
        self.remove(connection)
        connection.abort()

    def _report(self, address: str, setting: str, *, refused: bool) -> None:
        event = "connection refused" if refused else "waiting connection closed for a new one"
        self.reports.warn(event, address, connections=len(self._open), setting=setting)

    def _schedule(self) -> None:
        self._checker = self._loop.call_later(self._write_seconds / CHECKS_PER_DEADLINE, self._check_writes)

    def _check_writes(self) -> None:
        now = self._loop.time()
        for connection, writes in list(self._open.items()):
            unwritten = connection.unwritten_bytes
            flushed = connection.written_bytes - unwritten
            if not unwritten or flushed != writes.flushed:
                writes.flushed, writes.progress_at = flushed, now
            elif now - writes.progress_at >= self._write_seconds:
                self.reports.warn("connection closed: its client reads nothing", connection.address,
                                  setting="CHATAPI_WRITE_SECONDS")  # fmt: skip
                self._evict(connection)
        self._checker = None
        if self._open:
            self._schedule()


class _Writes:
    """How far the writes to a connection were at the last check that saw progress."""

    __slots__ = ("flushed", "progress_at")

    def __init__(self, now: float) -> None:
        self.flushed = 0
        self.progress_at = now


def default_limit(max_files: int) -> int:
    """Return how many connections a process with this limit of open files can serve."""
    return max(16, min(MAX_DEFAULT, (max_files - RESERVED_FILES) // FILES_PER_CONNECTION))
