"""A lock between processes that were forked from one, which the system releases when its process ends.

The system's own wait has no limit, and a process that was stopped keeps its locks. So a wait here is a series of
attempts.
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from pathlib import Path

POLL_SECONDS = 0.0005  # between attempts


class FileLock:
    """Make it before the fork. It excludes processes; threads of one process must take turns themselves."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the processes; it has no name

    def close(self) -> None:
        """Close it in this process."""
        self._file.close()

    def take(self, seconds: float) -> bool:
        """Take the lock; return False if another process held it for so long. With 0, there is one attempt."""
        give_up_at = 0.0
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                now = time.monotonic()
                give_up_at = give_up_at or now + seconds
                if now >= give_up_at:
                    return False
                time.sleep(POLL_SECONDS)

    def give_back(self) -> None:
        """Release the lock."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)
