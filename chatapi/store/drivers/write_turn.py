"""The turn to write: of several processes on one SQLite file, one writes at a time and the others wait in line here.

SQLite's own lock would do, but a process that waits for it sleeps longer and longer, and gives up when others write
all the time.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatapi.connections.file_lock import FileLock
from chatapi.errors import StoreUnavailable

WAIT_SECONDS = 60.0  # for the turn; only a rebuild of a large file takes longer than moments


class WriteTurn:
    """Make it before the fork. `flags` is memory that all processes share; they change it in their turn only."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder)
        self.flags = mmap.mmap(-1, mmap.PAGESIZE)

    def close(self) -> None:
        """Close it in this process."""
        self._lock.close()
        self.flags.close()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the turn for the length of the block.

        Raises:
            StoreUnavailable: another process held it for `WAIT_SECONDS`.
        """
        if not self._lock.take(WAIT_SECONDS):
            raise StoreUnavailable
        try:
            yield
        finally:
            self._lock.give_back()
