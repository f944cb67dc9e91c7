"""The schema: numbered migrations for each kind of database."""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

from chatapi.settings import SettingsError

MIGRATION_TABLE = "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"


class Migration(NamedTuple):
    """A numbered change of the schema."""

    number: int
    name: str
    sql: str


def migrations(database: str) -> list[Migration]:
    """Return all migrations of this kind of database, `sqlite` or `postgres`, in order."""
    folder = resources.files("chatapi.store") / "migrations" / database
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", file.name)]
    return sorted(Migration(int(file.name[:4]), file.name, file.read_text()) for file in files)


def pending(database: str, applied: set[int]) -> list[Migration]:
    """Return the migrations to apply, given the numbers of those that were applied.

    Raises:
        SettingsError: A newer version of this server applied one that is not known here.
    """
    known = migrations(database)
    if applied - {migration.number for migration in known}:
        raise SettingsError(
            "DATABASE_URL: this database was written by a newer version of this server. Install that version."
        )
    return [migration for migration in known if migration.number not in applied]
