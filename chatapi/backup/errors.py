"""The error of backups and restorations."""

from __future__ import annotations


class BackupFailed(Exception):
    """A backup was not made, or not restored; the message names the remedy."""
