"""The manifest of a backup: its files with their checksums, and the version that wrote it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chatapi.backup.errors import BackupFailed
from chatapi.backup.files import MANIFEST

FORMAT = 1
MAX_BYTES = 16 * 1024 * 1024


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a backup. `name` is relative to its folder."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a backup. `schema` is the number of the newest migration."""

    format: int
    version: str
    created_at: str
    schema: int
    sessions: int
    messages: int
    files: list[File]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a backup.

    Raises:
        BackupFailed: the folder is not a backup that this version can read.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            found = msgspec.json.decode(file.read(MAX_BYTES), type=Manifest)
    except OSError as error:
        raise BackupFailed(f"{folder} is not a backup: {MANIFEST} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise BackupFailed(f"{folder} is not a backup: {MANIFEST} is damaged: {error}.") from error
    if found.format != FORMAT:
        raise BackupFailed(f"{folder} was written by a newer version of this server. Install that version.")
    return found
