"""Backups of a SQLite file and of all that belongs to it, and their restoration."""

from chatapi.backup.errors import BackupFailed
from chatapi.backup.restore import restore
from chatapi.backup.write import backup

__all__ = ["BackupFailed", "backup", "restore"]
