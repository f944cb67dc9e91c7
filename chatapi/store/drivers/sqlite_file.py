"""The SQLite file: its lock, its connections, its schema, and SQL in its syntax."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from contextlib import suppress
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from chatapi.model import ContextPolicy, Role, Status
from chatapi.settings import SettingsError
from chatapi.store.schema import MIGRATION_TABLE, pending

LOCKED_MILLISECONDS = 2000  # how long to wait for another program that has locked the file, such as a backup
CACHED_STATEMENTS = 256  # more than there are distinct texts
OLDEST_SQLITE = (3, 35)  # the first with RETURNING
_ROW_LOCK = re.compile(r" FOR UPDATE(?: OF [a-z](?:, [a-z])*)?(?: SKIP LOCKED)?")

# The sqlite3 module looks for an adapter of each value that is not exactly an int, a float or a str. Where it finds
# none, it prepares errors that it then drops, which costs more than to bind the value.
sqlite3.register_adapter(type(None), {None: None}.get)
for _values in (ContextPolicy, Role, Status):
    sqlite3.register_adapter(_values, attrgetter("_value_"))


def claim(path: Path) -> int:
    """Lock the file for this process; return the descriptor of the lock. The system releases it with the process.

    Raises:
        SettingsError: another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SettingsError(
            f"DATABASE_URL: another server has the file {path} open. One SQLite file serves one service: "
            "stop the other, set another file, or use PostgreSQL for several (docs/scaling.md)."
        ) from None
    with suppress(OSError):  # on a full disk the lock holds without the process ID in it
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def holder(path: Path) -> str | None:
    """Return a description of the process that has the file open, or None.

    Holds the lock for an instant, shared with other calls of this function.
    """
    try:
        lock = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.read(lock, 20).decode(errors="replace").strip()
        return f"process {number}" if number.isdecimal() else "another process"
    finally:
        os.close(lock)
    return None


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in WAL mode, without checkpoints of its own. Only the owner of the file may read a new one."""
    if not read_only:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable by all users
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=CACHED_STATEMENTS)
    try:
        connection.execute(f"PRAGMA busy_timeout = {LOCKED_MILLISECONDS}")
        connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten with zeros
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Apply pending migrations.

    Raises:
        SettingsError: The file was written by a newer version.
    """
    connection.execute(MIGRATION_TABLE)
    applied = {row[0] for row in connection.execute("SELECT number FROM migration")}
    for number, name, sql in pending("sqlite", applied):
        connection.executescript(
            f"BEGIN IMMEDIATE; {sql} INSERT INTO migration (number, name) VALUES ({number}, '{name}'); COMMIT;"
        )


@lru_cache(CACHED_STATEMENTS)
def dialect(sql: str) -> str:
    """Return the statement in SQLite's syntax: `?1` for `$1`, and no row locks, as there is one writer."""
    return _ROW_LOCK.sub("", re.sub(r"\$(\d+)", r"?\1", sql))
