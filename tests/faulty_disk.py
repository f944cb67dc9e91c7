"""A disk for SQLite whose syncs can fail and whose power can be cut, made with ctypes from SQLite's own `unix` VFS.

It models the page cache of Linux: a write is durable once a later sync of its file succeeded; writes before a sync that
failed are lost, even if the next sync succeeds, because the kernel has marked their pages as clean.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, byref, c_char_p, c_int, c_int64, c_void_p, cast
from pathlib import Path
from typing import Any

SQLITE_OK = 0
SQLITE_IOERR_FSYNC = 10 | (4 << 8)
METHODS = 19  # of `sqlite3_io_methods`, version 3, its number among them
WRITE, TRUNCATE, SYNC = 3, 4, 5  # their places in it
VFS_POINTERS = 22
NAME, OPEN = 3, 5  # places in `sqlite3_vfs`, in words of eight bytes

_Open = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p, c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class FaultyDisk:
    """The files of one test, as programs see them and as the disk has them."""

    def __init__(self) -> None:
        self.failing = False  # every sync fails
        self.failures = 0
        self._written: dict[str, list[tuple[int, bytes | None]]] = {}  # since the last sync; None truncates
        self._durable: dict[str, bytearray] = {}
        self._names: dict[int, str] = {}

    def opened(self, file: int, name: str) -> None:
        self._names[file] = name
        self._written.setdefault(name, [])
        self._durable.setdefault(name, bytearray(Path(name).read_bytes()))

    def wrote(self, file: int, offset: int, data: bytes | None) -> None:
        self._written[self._names[file]].append((offset, data))

    def sync(self, file: int) -> bool:
        """Return whether the sync succeeds."""
        name = self._names[file]
        written, self._written[name] = self._written[name], []
        if self.failing:
            self.failures += 1
            return False
        durable = self._durable[name]
        for offset, data in written:
            if data is None:
                del durable[offset:]
                continue
            durable.extend(bytes(max(0, offset + len(data) - len(durable))))
            durable[offset : offset + len(data)] = data
        return True

    def cut_power(self, path: Path, to: Path) -> None:
        """Copy the database at `path` to `to` as the disk has it."""
        for suffix in ("", "-wal"):
            if (durable := self._durable.get(f"{path}{suffix}")) is not None:
                Path(f"{to}{suffix}").write_bytes(durable)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Let every connection that is opened meanwhile use a disk whose syncs can fail."""
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_vfs_find.restype = c_void_p
    usual = library.sqlite3_vfs_find(c_char_p(b"unix"))
    words = (c_void_p * VFS_POINTERS).from_buffer_copy((c_void_p * VFS_POINTERS).from_address(usual))
    disk = FaultyDisk()
    kept: list[Any] = []  # what C has pointers to
    tables: dict[int, Any] = {}
    open_usual = _Open(words[OPEN] or 0)

    def methods_of(table: int) -> Any:
        """Return a copy of a file's methods that tells the disk of writes and syncs."""
        methods = (c_void_p * METHODS).from_buffer_copy((c_void_p * METHODS).from_address(table))
        write, truncate, sync = (
            _Write(methods[WRITE] or 0),
            _Truncate(methods[TRUNCATE] or 0),
            _Sync(methods[SYNC] or 0),
        )

        def do_write(file: int, data: int, count: int, offset: int) -> int:
            disk.wrote(file, offset, ctypes.string_at(data, count))
            return int(write(file, data, count, offset))

        def do_truncate(file: int, size: int) -> int:
            disk.wrote(file, size, None)
            return int(truncate(file, size))

        def do_sync(file: int, flags: int) -> int:
            return int(sync(file, flags)) if disk.sync(file) else SQLITE_IOERR_FSYNC

        for place, made in ((WRITE, _Write(do_write)), (TRUNCATE, _Truncate(do_truncate)), (SYNC, _Sync(do_sync))):
            kept.append(made)
            methods[place] = cast(made, c_void_p).value
        return methods

    def do_open(vfs: int, name: bytes | None, file: int, flags: int, out: int | None) -> int:
        result = int(open_usual(usual, name, file, flags, out))
        table = c_void_p.from_address(file)
        if result == SQLITE_OK and name is not None and table.value:
            disk.opened(file, name.decode())
            if table.value not in tables:
                tables[table.value] = methods_of(table.value)
            table.value = ctypes.addressof(tables[table.value])
        return result

    opener: Callable[..., int] = _Open(do_open)
    name = ctypes.create_string_buffer(b"faulty")
    kept += [opener, name, words]
    words[NAME] = ctypes.addressof(name)
    words[OPEN] = cast(opener, c_void_p).value  # type: ignore[arg-type]
    library.sqlite3_vfs_register(byref(words), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(byref(words))
        library.sqlite3_vfs_register(c_void_p(usual), 1)
