"""Restore a backup: check all of it first, then put it in place with the database last."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from chatapi.backup.errors import BackupFailed
from chatapi.backup.files import DATABASE, copy_synced, digest_of, existing, sync, target_of, unused
from chatapi.backup.manifest import Manifest, read_manifest
from chatapi.settings import Settings
from chatapi.store.schema import migrations

UNFINISHED = ".restoring"  # the suffix of a copy that is not in place yet


def restore(settings: Settings, folder: Path, replace: bool) -> tuple[Manifest, Path | None]:
    """Restore a backup to the place of the settings; return its manifest, and the folder of the replaced files.

    Without `replace`, there must be no data. With it, the data that is there is moved into a folder beside it. After an
    interruption, the same call continues.

    Raises:
        BackupFailed: the backup is damaged, a server runs, or there is data; nothing was changed.
    """
    if settings.uses_postgres:
        raise BackupFailed("DATABASE_URL: name the SQLite file to restore to; then `chatapi migrate` copies it.")
    manifest = read_manifest(folder)
    database = settings.database_path.absolute()
    targets = {folder / file.name: target_of(file.name, database) for file in manifest.files}
    _check(folder, manifest)
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with unused(database):
            replaced = _clear(database, targets, replace)
            _place(targets, database)
    except OSError as error:
        raise BackupFailed(
            f"The backup was not restored: {error}. Remove the cause, then run the command again."
        ) from error
    return manifest, replaced


def _check(folder: Path, manifest: Manifest) -> None:
    """Check that a backup is complete and unchanged, and not newer than this version."""
    known = max(migration.number for migration in migrations("sqlite"))
    if manifest.schema > known:
        raise BackupFailed(f"{folder} was written by a newer version of this server. Install that version.")
    if DATABASE not in {file.name for file in manifest.files}:
        raise BackupFailed(f"{folder} has no database.")
    for file in manifest.files:
        path = folder / file.name
        try:
            well = path.stat().st_size == file.size and digest_of(path) == file.sha256
        except OSError as error:
            raise BackupFailed(f"The file {path} cannot be read: {error.strerror}.") from error
        if not well:
            raise BackupFailed(f"The file {path} differs from the backup that was made. Use another backup.")


def _clear(database: Path, targets: dict[Path, Path], replace: bool) -> Path | None:
    """Move data that is in the way into a folder, and return that."""
    in_the_way = existing(database)
    of_this_backup = {target for source, target in targets.items() if _is_same(source, target)}
    if database not in in_the_way and _files_in(in_the_way) <= of_this_backup:
        return None  # nothing, or the files of a restoration that was interrupted
    if not replace:
        raise BackupFailed(f"{in_the_way[0]} exists. With --replace, it is moved aside first.")
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = database.with_name(f"{database.name}.replaced-{now}")
    aside.mkdir(mode=0o700)
    for path in in_the_way:
        path.rename(aside / path.name)
    sync(database.parent)
    return aside


def _files_in(paths: list[Path]) -> set[Path]:
    """Return the files among these paths and in them, except those of an unfinished copy."""
    found = {file for path in paths for file in (path, *path.rglob("*")) if file.is_file()}
    return {file for file in found if file.suffix != UNFINISHED}


def _is_same(source: Path, target: Path) -> bool:
    return target.is_file() and digest_of(source) == digest_of(target)


def _place(targets: dict[Path, Path], database: Path) -> None:
    """Copy the files to their places; each appears whole, and the database last."""
    for source, target in sorted(targets.items(), key=lambda pair: pair[1] == database):
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = target.with_name(target.name + UNFINISHED)
        copy_synced(source, temporary)
        os.replace(temporary, target)
        sync(target.parent)
