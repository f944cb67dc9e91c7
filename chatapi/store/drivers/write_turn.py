"""The turn to write: of several processes on one SQLite file, one writes at a time and the others wait in line here.

SQLite's own lock would do, but a process that waits for it sleeps longer and longer, and gives up when others write
all the time. The lock here is the system's, which releases it with its process.
"""

from __future__ import annotations

import fcntl
import mmap
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatapi.errors import StoreUnavailable

POLL_SECONDS = 0.0005
WAIT_SECONDS = 60.0  # for the turn; only a rebuild of a large file takes longer than moments


class WriteTurn:
    """Make it before the fork. `flags` is memory that all processes share; they change it in their turn only."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the processes; it has no name
        self.flags = mmap.mmap(-1, mmap.PAGESIZE)

    def close(self) -> None:
        """Close it in this process."""
        self._file.close()
        self.flags.close()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the turn for the length of the block.

        Raises:
            StoreUnavailable: another process held it for `WAIT_SECONDS`.
        """
        give_up_at = 0.0
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                give_up_at = give_up_at or now + WAIT_SECONDS
                if now >= give_up_at:
                    raise StoreUnavailable from None
                time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
