"""The migration as a whole: check both sides, copy, compare, and print the next steps."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from chatapi.auth.keys import fingerprint
from chatapi.migrate.errors import MigrationIncomplete
from chatapi.migrate.progress import progress_of
from chatapi.migrate.source import count_rows, open_source, read_only, source_path, source_tables
from chatapi.setting_types import POSTGRES_SCHEMES
from chatapi.settings import SettingsError, secret_beside

if TYPE_CHECKING:
    from chatapi.migrate.passes import Checksum


def migrate(source_url: str, target_url: str) -> str:
    """Copy the file into the database, compare both, and return a text with the next steps.

    Raises:
        SettingsError: It cannot begin; nothing was copied.
        MigrationIncomplete: It was interrupted, or the copy differs.
    """
    source = source_path(source_url)
    if not target_url.startswith(POSTGRES_SCHEMES):
        raise SettingsError("--to must be postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    _require_client()
    try:
        with asyncio.Runner() as runner:
            checksums = runner.run(_migrate(source, target_url))
    except KeyboardInterrupt:
        raise MigrationIncomplete("Stopped. Run the same command again to continue.") from None
    except sqlite3.Error as error:
        raise MigrationIncomplete(
            f"The file {source} cannot be read to its end: {error}. Repair it, and run this again."
        ) from error
    return _next_steps(source, checksums)


def _require_client() -> None:
    """Raise `SettingsError` if the PostgreSQL client is not installed: nothing imports it before this."""
    try:
        import asyncpg  # noqa: F401  # here: only a migration to PostgreSQL needs it
    except ModuleNotFoundError as missing:
        raise SettingsError(
            f"--to: the package {missing.name} is not installed for this Python ({sys.executable}). "
            "Run ./run migrate, or: pip install -r requirements-replicas.txt"
        ) from missing


async def _migrate(path: Path, target_url: str) -> list[Checksum]:
    from chatapi.connections.postgres import CANNOT  # here, and below: they import the client
    from chatapi.migrate.passes import compare_rows, copy_rows, reject_foreign_rows
    from chatapi.migrate.target import ONE_STATE, open_target, require_same_table, transaction

    try:
        async with open_target(target_url) as target, open_source(path) as source:
            tables = source_tables(source)
            for table in tables:
                await require_same_table(target, table)
            total = sum(count_rows(source, table) for table in tables)
            for table in tables:
                await reject_foreign_rows(source, target, table)
            with progress_of("Copying", total) as progress:
                for table in tables:
                    await copy_rows(source, target, table, progress)
            with progress_of("Comparing", total) as progress:
                async with transaction(target, ONE_STATE):
                    checksums = [await compare_rows(source, target, table, progress) for table in tables]
            for table in tables:
                await target.execute(f'ANALYZE "{table.name}"')
            return checksums
    except CANNOT as error:
        reason = str(error) or type(error).__name__
        raise MigrationIncomplete(
            f"PostgreSQL closed the connection: {reason}. Run the same command again to continue."
        ) from error


def _next_steps(source: Path, checksums: list[Checksum]) -> str:
    width = max(len(checksum.table) for checksum in checksums)
    copied = "\n".join(
        f"  {checksum.table:{width}}  {checksum.rows:>12,} rows  SHA-256 {checksum.digest[:16]}…"
        for checksum in checksums
    )
    return f"""All of {source} is in PostgreSQL, and both sides are identical:

{copied}

Next, for every replica:

1. Set DATABASE_URL to the URL of that database.
2. Set CHATAPI_SECRET to {_secret_source(source)}.
3. Run ./run doctor to check the settings; ./run serves.

Keep {source} as a backup, and start no server on it: messages stored there would not reach PostgreSQL.
"""


def _secret_source(source: Path) -> str:
    """Return where to find the secret that the file's sessions belong to; never the secret itself."""
    kept = secret_beside(source)
    with closing(read_only(source)) as connection:
        shared = connection.execute("SELECT value FROM agreement WHERE name = 'secret'").fetchone()
    if kept.exists() and (shared is None or shared[0] == fingerprint(kept.read_text().strip().encode())):
        return f'the content of the file {kept}:\n   export CHATAPI_SECRET="$(cat {kept})"'
    return "the value that it had for the server that used the file"
