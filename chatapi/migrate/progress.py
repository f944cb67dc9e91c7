"""Progress lines on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

FILE_SECONDS = 5.0  # between lines in a file
TERMINAL_SECONDS = 0.1  # between updates of the line on a terminal


class Progress:
    """The share of rows that one pass has handled: one line that changes on a terminal, several lines in a file."""

    def __init__(self, action: str, total: int) -> None:
        self._action = action
        self._total = total
        self._done = 0
        self._terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic() if not self._terminal else 0.0

    def advance(self, rows: int, table: str) -> None:
        """Add `rows` of a table."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown_at >= (TERMINAL_SECONDS if self._terminal else FILE_SECONDS):
            self._shown_at = now
            self.show(table)

    def end_line(self) -> None:
        """Start a new line on a terminal."""
        if self._terminal:
            sys.stderr.write("\n")

    def show(self, table: str) -> None:
        """Write the current state."""
        share = self._done / self._total if self._total else 1.0
        text = f"{self._action}: {self._done:,} of {self._total:,} rows, {share:.0%} ({table})"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{text[:width]}\x1b[K")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextmanager
def progress_of(action: str, total: int) -> Iterator[Progress]:
    """Show the progress of one pass, and its end if it succeeds."""
    progress = Progress(action, total)
    try:
        yield progress
        progress.show("all tables")
    finally:
        progress.end_line()
