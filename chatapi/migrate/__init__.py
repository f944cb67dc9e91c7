"""`migrate`: copies a SQLite file into PostgreSQL, and compares both."""

from __future__ import annotations

from chatapi.migrate.errors import MigrationIncomplete
from chatapi.migrate.run import migrate

__all__ = ["MigrationIncomplete", "migrate"]
