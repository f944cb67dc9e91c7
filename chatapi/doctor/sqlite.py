"""The SQLite file, its folder, its disk and its secret."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from chatapi.auth.keys import SECRET_BYTES, fingerprint
from chatapi.doctor.finding import SAMPLES, Check, Finding, Reporter
from chatapi.settings import Settings
from chatapi.store.drivers.sqlite_file import OLDEST_SQLITE, holder
from chatapi.store.journal import JournalError, journal_folder, recover
from chatapi.store.schema import migrations

MIB = 1024 * 1024
MIN_FREE = 64 * MIB
ENOUGH_FREE = 1024 * MIB
SLOW_SYNC_SECONDS = 0.02  # every turn waits for two
MOUNTS = Path("/proc/self/mountinfo")
ELSEWHERE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "glusterfs",
    "beegfs",
    "gfs2",
    "ocfs2",
}
IN_MEMORY = {"tmpfs", "ramfs"}
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space in a mount point is written \040

found = Reporter("SQLite")


async def check(settings: Settings) -> Check:
    """Check everything that a server on this file needs. Nothing that is created stays."""
    for finding in _all(settings):
        yield finding


def _all(settings: Settings) -> Iterator[Finding]:
    path = settings.database_path.absolute()
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield found.failure(f"SQLite must be 3.35 or newer, but this Python has {sqlite3.sqlite_version}.")
        return
    yield found.ok(f"version {sqlite3.sqlite_version}.")
    if not path.parent.exists():
        yield from _new_folder(path.parent)
        return
    yield from _folder(path.parent, settings)
    yield from _file(path)
    yield from _secret(settings)


def _new_folder(folder: Path) -> Iterator[Finding]:
    """Check a folder that the first start creates."""
    above = next(parent for parent in folder.parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        yield found.ok(f"the folder {folder} does not exist; the first start creates it.")
    else:
        yield found.failure(f"the folder {folder} does not exist and cannot be created in {above}. Create it.")


def _folder(folder: Path, settings: Settings) -> Iterator[Finding]:
    try:
        took = _sync_seconds(folder)
    except OSError as error:
        yield found.failure(
            f"the folder {folder} cannot be written: {error.strerror}. Let this user write it, or set another."
        )
        return
    yield found.ok(f"the folder {folder} can be written.")
    yield found.latency(
        "syncing a write to its disk", took, SLOW_SYNC_SECONDS, "Every turn waits for two: use another disk."
    )
    free = shutil.disk_usage(folder).free
    sentence = f"{free // MIB:,} MiB of its disk are free."
    if free < MIN_FREE:
        yield found.failure(f"{sentence} Free space: on a full disk nothing is stored.")
    elif free < ENOUGH_FREE:
        yield found.warning(f"{sentence} Free space soon.")
    else:
        yield found.ok(sentence)
    if settings.max_store_bytes > free:
        quota = f"CHATAPI_MAX_STORE_BYTES allows {settings.max_store_bytes // MIB:,} MiB"
        yield found.ok(f"{quota}, more than the free disk space: it does not keep the disk from filling up.")
    if MOUNTS.exists():
        yield _kind_of_disk(file_system(folder.resolve(), MOUNTS.read_text(errors="surrogateescape")))


def _sync_seconds(folder: Path) -> float:
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SAMPLES):
            begun = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def file_system(folder: Path, mounts: str) -> str:
    """Return the type of the file system of a folder, from the text of `MOUNTS`."""
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        fields, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def _kind_of_disk(kind: str) -> Finding:
    if kind in ELSEWHERE or kind.startswith("fuse.sshfs"):
        return found.failure(
            f"the file would be on a network file system ({kind}), where SQLite's locks do not work. Use a local disk, "
            "or PostgreSQL."
        )
    if kind in IN_MEMORY:
        return found.warning(f"the file would be in memory ({kind}), and lost when the machine restarts. Use a disk.")
    return found.ok(f"its file system is local ({kind}).")


def _file(path: Path) -> Iterator[Finding]:
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield found.failure(f"this user must be allowed to read and write the file {path}: chown it.")
        return
    who = holder(path)
    yield found.ok(f"{who} serves the file now." if who else "no server has the file open.")
    if not path.exists():
        yield found.ok(f"the file {path} does not exist; the first start creates it.")
        return
    if path.stat().st_mode & 0o077:
        yield found.warning(f"others may read the file {path}, which contains all conversations. chmod 600 it.")
    try:
        with closing(_read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            applied = set()
            if "migration" in tables:
                applied = {number for (number,) in connection.execute("SELECT number FROM migration")}
    except sqlite3.Error as error:
        yield found.failure(f"the file {path} cannot be used: {error}. Restore it from a backup, or set another.")
        return
    known = {migration.number for migration in migrations("sqlite")}
    if tables and not applied:
        yield found.failure(f"the file {path} is a database of another program. Set another file.")
    elif applied - known:
        yield found.failure("the file was written by a newer version of this server. Install that version.")
    elif missing := len(known - applied):
        yield found.ok(f"the next start changes the schema ({missing} to apply); back the file up before it.")
    else:
        yield found.ok("the schema is up to date.")
    yield from _journal(path, in_use=who is not None)


def _journal(path: Path, *, in_use: bool) -> Iterator[Finding]:
    """Check the text of running answers beside the file; a server that runs may change it meanwhile."""
    segments = sorted(journal_folder(path).glob("*.segment"))
    if in_use or not segments:
        return
    try:
        recovered = recover(segments)
    except (JournalError, OSError) as error:
        yield found.failure(f"the journal beside the file cannot be used: {error}")
        return
    if recovered.damaged:
        yield found.warning(
            f"the journal is damaged ({', '.join(recovered.damaged)}). The next start keeps the text before the damage."
        )
    if answers := len(recovered.pieces):
        yield found.ok(f"the journal has the text of {answers} answers; the next start stores it.")


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def _secret(settings: Settings) -> Iterator[Finding]:
    about = Reporter("Secret")
    kept = settings.secret_path
    agreed = _agreed(settings.database_path)
    if settings.secret is not None:
        secret, where = settings.secret.encode(), "CHATAPI_SECRET"
    elif not kept.exists():
        if agreed is None:
            yield about.ok(f"there is none yet; the first start creates {kept}.")
        else:
            yield about.failure(f"the file {kept} is gone, and every session belongs to it. Restore it from a backup.")
        return
    else:
        where = f"the file {kept}"
        if kept.stat().st_mode & 0o077:
            yield about.warning(f"others may read {where}. chmod 600 it.")
        try:
            secret = kept.read_bytes().strip()
        except OSError as error:
            yield about.failure(f"{where} cannot be read: {error.strerror}. Give it to the user that runs the server.")
            return
        if len(secret) < SECRET_BYTES:
            yield about.failure(f"{where} does not contain a secret. Restore it from a backup, or set CHATAPI_SECRET.")
            return
    if agreed is not None and agreed != fingerprint(secret):
        yield about.failure(f"{where} must be the one that the sessions belong to; it is another. Restore that one.")
    else:
        yield about.ok(f"{where} has it" + (", the one that the sessions belong to." if agreed else "."))


def _agreed(path: Path) -> str | None:
    """Return the fingerprint of the secret that the file's sessions belong to."""
    if not path.exists():
        return None
    try:
        with closing(_read_only(path)) as connection:
            row = connection.execute("SELECT value FROM agreement WHERE name = 'secret'").fetchone()
    except sqlite3.Error:  # an old schema, or not a database; another check reports that
        return None
    return str(row[0]) if row else None
