"""The files that make up the data of a server on SQLite: the one list, for backups and restorations.

| beside the database `PATH` | in a backup | |
|---|---|---|
| `PATH` | `database` | copied by SQLite, with the content of `PATH-wal` |
| `PATH.secret` | `secret` | absent if CHATAPI_SECRET is set |
| `PATH.journal/*.segment` | `journal/*.segment` | text of running answers, if there is a journal |

Not copied: `PATH-wal` and `PATH-shm`, whose content the copy of the database has, and `PATH.lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatapi.backup.errors import BackupFailed
from chatapi.settings import secret_beside
from chatapi.store.drivers.sqlite_file import holder
from chatapi.store.journal import journal_folder

DATABASE = "database"
SECRET = "secret"  # noqa: S105 - the name of a file
JOURNAL = "journal"
SEGMENTS = "*.segment"
MANIFEST = "manifest.json"
READ_BYTES = 1024 * 1024


def target_of(name: str, database: Path) -> Path:
    """Return the place beside `database` of a file of a backup.

    Raises:
        BackupFailed: no backup has a file of this name.
    """
    folder, _, file = name.partition("/")
    if name == DATABASE:
        return database
    if name == SECRET:
        return secret_beside(database)
    if folder == JOURNAL and Path(file).match(SEGMENTS) and Path(file).name == file:
        return journal_folder(database) / file
    raise BackupFailed(f"The manifest names a file {name!r}, which is not part of a backup.")


def existing(database: Path) -> list[Path]:
    """Return the files and folders of the data that exist, the database's own temporary ones included."""
    beside = [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm")]
    return [path for path in (database, *beside, secret_beside(database), journal_folder(database)) if path.exists()]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file, readable by its owner only; when this returns, the copy survives a power cut."""
    with source.open("rb") as read:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as written:
            while data := read.read(READ_BYTES):
                written.write(data)
            written.flush()
            os.fsync(written.fileno())


def sync(path: Path) -> None:
    """Sync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def unused(database: Path) -> Iterator[None]:
    """Keep servers from opening the database for the length of the block.

    Raises:
        BackupFailed: a server has it open.
    """
    lock = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            server = holder(database) or "another process"
            raise BackupFailed(f"The file {database} is open in {server}. Stop that server first.") from None
        yield
    finally:
        os.close(lock)
