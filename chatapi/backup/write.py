"""Make a backup while the server runs.

Everything that was acknowledged before the backup began is in it. The copy of the database is one state of it. The text
of a running answer may be in the journal instead, so the segments are linked before that state is read, and again
after: a segment that the server removes meanwhile is still in the backup, with all of its records.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from chatapi import __version__
from chatapi.auth.keys import fingerprint
from chatapi.backup.errors import BackupFailed
from chatapi.backup.files import DATABASE, JOURNAL, SECRET, SEGMENTS, copy_synced, digest_of, sync
from chatapi.backup.manifest import FORMAT, File, Manifest, write_manifest
from chatapi.settings import Settings, secret_beside
from chatapi.store.journal import journal_folder
from chatapi.store.schema import pending

PAGES_PER_STEP = 4096  # copied between two lines of progress
LOCKED_MILLISECONDS = 10_000
LINKS = "links"  # a folder that exists while the backup is made

Progress = Callable[[str], None]


def backup(settings: Settings, folder: Path, progress: Progress) -> Manifest:
    """Make a backup in a new folder, verify it, and return its manifest. The server may run.

    The folder appears when the backup is complete and verified.

    Raises:
        BackupFailed: it cannot be made; nothing that looks like a backup is left.
    """
    database = settings.database_path
    if settings.uses_postgres:
        raise BackupFailed("DATABASE_URL: PostgreSQL has its own backups, such as pg_dump; keep CHATAPI_SECRET too.")
    if not database.is_file():
        raise BackupFailed(f"DATABASE_URL: there is no file {database}. Set it as the server has it.")
    if folder.exists():
        raise BackupFailed(f"{folder} exists. Name a folder that does not exist.")
    partial = folder.with_name(folder.name + ".partial")
    lock = _claim(partial)
    try:
        manifest = _write(settings, database, partial, progress)
        partial.rename(folder)
        sync(folder.parent)
        return manifest
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"The backup failed: {error}. Nothing was kept.") from error
    finally:
        if partial.exists():
            shutil.rmtree(partial)
        os.close(lock)


def _claim(partial: Path) -> int:
    """Create the folder of an unfinished backup, or take over one that an earlier process left."""
    try:
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BackupFailed(f"The folder {partial} cannot be created: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except BlockingIOError:
        os.close(lock)
        raise BackupFailed(f"Another process writes to {partial}.") from None
    except OSError as error:
        os.close(lock)
        raise BackupFailed(f"The folder {partial} cannot be emptied: {error}.") from error
    return lock


def _write(settings: Settings, database: Path, folder: Path, progress: Progress) -> Manifest:
    _link_segments(database, folder)
    progress("copying the database")
    _copy_database(database, folder / DATABASE, progress)
    _link_segments(database, folder)
    _copy_segments(folder)
    if settings.secret is None and secret_beside(database).exists():
        copy_synced(secret_beside(database), folder / SECRET)
    progress("verifying")
    schema, sessions, messages = _verify(folder / DATABASE, _secret(settings, folder))
    files = [
        File(path.relative_to(folder).as_posix(), path.stat().st_size, digest_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(FORMAT, __version__, now, schema, sessions, messages, files)
    write_manifest(folder, manifest)
    for path in (*folder.rglob("*"), folder):
        sync(path)
    return manifest


def _link_segments(database: Path, folder: Path) -> None:
    """Link the segments of the journal, so that they stay when the server removes them."""
    links = folder / LINKS
    for segment in sorted(journal_folder(database).glob(SEGMENTS)):
        links.mkdir(mode=0o700, exist_ok=True)
        # One that is not found was removed since: all of its answers have ended, and are in the database.
        with suppress(FileNotFoundError):
            try:
                os.link(segment, links / segment.name)
            except FileExistsError:
                pass  # linked before
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                copy_synced(segment, links / segment.name)


def _copy_segments(folder: Path) -> None:
    """Copy the linked segments, which the server may still write to, and remove the links."""
    links = folder / LINKS
    if not links.exists():
        return
    (folder / JOURNAL).mkdir(mode=0o700)
    for segment in links.iterdir():
        copy_synced(segment, folder / JOURNAL / segment.name)
    shutil.rmtree(links)


def _copy_database(database: Path, copy: Path, progress: Progress) -> None:
    """Copy one state of the database. Writers continue meanwhile."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def report(_: int, remaining: int, total: int) -> None:
        progress(f"copying the database: {100 * (total - remaining) // max(total, 1)} %")

    with closing(_connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchall()  # from here on it reads one state
        source.backup(target, pages=PAGES_PER_STEP, progress=report)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout = {LOCKED_MILLISECONDS}")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _secret(settings: Settings, folder: Path) -> str | None:
    """Return the secret that a server would use with the backup."""
    if settings.secret is not None:
        return settings.secret
    copy = folder / SECRET
    return copy.read_text().strip() if copy.exists() else None


def _verify(copy: Path, secret: str | None) -> tuple[int, int, int]:
    """Check a copy as a whole; return the number of its newest migration, of its sessions and of its messages.

    Raises:
        BackupFailed: it is damaged, or belongs to another secret.
    """
    with closing(_connect(copy)) as connection:
        faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise BackupFailed(f"The database is damaged: {'; '.join(faults)}. Restore an earlier backup.")
        applied = {row[0] for row in connection.execute("SELECT number FROM migration")}
        pending("sqlite", applied)
        stored = connection.execute("SELECT value FROM agreement WHERE name = 'secret'").fetchone()
        if stored is not None and (secret is None or fingerprint(secret.encode()) != stored[0]):
            raise BackupFailed(
                "The database belongs to another secret: set CHATAPI_SECRET, or restore the file of the secret."
            )
        ((sessions, messages),) = connection.execute(
            "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM message)"
        )
    return max(applied), int(sessions), int(messages)
