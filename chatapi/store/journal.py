"""The journal: text of running answers, in append-only files beside a SQLite database.

A record that `append` has written survives the death of the process: it is in the kernel's page cache. A power cut may
lose the records since the last `sync`; recovery then keeps the valid records before the damage and drops the rest. The
text of an answer that has ended is in the database, committed durably, and its records are no longer needed.

Files: `NNNNNNNN.segment`, or `WORKER-NNNNNNNN.segment` of one of several workers, of fixed size, zero-filled when they
are created. A segment starts with a header and holds records up to the first that is not valid. It is removed when all
generations in it have ended. A start as the only process reads those of all workers.

    header  magic, segment number (u64), checksum (u32)
    record  payload size (u32), checksum (u32), end position (u64), part number (u32), id size (u16), label size (u16),
            id, label (kind, or kind and tool call as JSON), text
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec.structs import replace

from chatapi.errors import StoreUnavailable
from chatapi.model import Kind, Piece, ToolCall
from chatapi.model.log import Log, contiguous, cut
from chatapi.store.values import Append

MAGIC = b"chatapi journal 1\n"
SEGMENT_BYTES = 16 * 1024 * 1024
RECORD_BYTES = 1024 * 1024  # of text in one record; longer text takes several
_HEADER = struct.Struct("<18sQI")
_SIZES = struct.Struct("<II")  # payload size, checksum of the payload
_PAYLOAD = struct.Struct("<QIHH")  # end position, part number, id size, label size


class JournalError(Exception):
    """The journal cannot be used: a sentence for the operator."""


class Recovered(msgspec.Struct):
    """Result of reading a journal: the text of each generation, and files that could not be read to their end."""

    pieces: dict[str, list[Piece]] = msgspec.field(default_factory=dict)
    damaged: list[str] = msgspec.field(default_factory=list)


class _Segment(msgspec.Struct):
    number: int
    path: Path
    descriptor: int
    end: int = _HEADER.size
    generations: set[str] = msgspec.field(default_factory=set)  # with records here, and running


class Journal:
    """Appends text in the calling thread without waiting for a disk; syncs, creates and removes files on another.

    `logs` are the logs of the generations in the journal, in memory, for readers on any thread: a log only grows.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES, worker: int | None = None) -> None:
        """`worker`: the number of this process among several, which read and write only segments with their number."""
        self.logs: dict[str, Log] = {}
        self._folder = folder
        self._prefix = "" if worker is None else f"{worker}-"
        self._segment_bytes = segment_bytes
        self._files: ThreadPoolExecutor
        self._current: _Segment | None = None
        self._spare: Future[_Segment] | None = None
        self._full: list[_Segment] = []  # older segments with running generations
        self._old: list[Path] = []  # of an earlier process, until `discard_old`
        self._number = 0
        self._folder_changed = True  # since it was synced
        self._labels: dict[tuple[Kind, ToolCall | None], bytes] = {}

    def open(self) -> Recovered:
        """Read what an earlier process left, and create a segment to write to.

        Raises:
            JournalError: the folder cannot be read or written, or another version of the service wrote it.
        """
        try:
            self._files = ThreadPoolExecutor(1, thread_name_prefix="journal-files")
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._old = sorted(self._folder.glob(f"{self._prefix}*.segment"))
            recovered = recover(self._old)
            names = [path.stem.removeprefix(self._prefix) for path in self._old]
            numbers = [int(name) for name in names if name.isdecimal()]
            self._number = max(numbers, default=0)
            self._current = self._create()
        except OSError as error:
            raise JournalError(f"{error.strerror or error}.") from error
        return recovered

    @property
    def size_bytes(self) -> int:
        """The size of the segments that are in use."""
        return self._segment_bytes * (len(self._full) + len(self._old) + (self._current is not None))

    def discard_old(self) -> None:
        """Remove the segments of earlier processes; call it when their text is stored durably."""
        for path in self._old:
            path.unlink(missing_ok=True)
        self._old = []

    def append(self, appends: Iterable[Append]) -> None:
        """Write the pieces; when it returns, they survive the death of this process.

        Raises:
            StoreUnavailable: the disk is full or failed, or the next segment is not ready; nothing counts as written.
        """
        segment = self._current
        if segment is None:
            raise StoreUnavailable("The journal is closed.")
        records: list[bytes] = []
        size = 0
        try:
            for append in appends:
                name = append.generation_id.encode()
                segment.generations.add(append.generation_id)  # first: a partial write must keep the segment
                for whole in append.pieces:
                    for piece in (whole,) if len(whole.data) <= RECORD_BYTES else _cut(whole):
                        record = self._encode(name, piece)
                        if segment.end + size + len(record) > self._segment_bytes:
                            self._write(segment, records, size)
                            segment = self._next()
                            segment.generations.add(append.generation_id)
                            records, size = [], 0
                        records.append(record)
                        size += len(record)
            self._write(segment, records, size)
        except OSError as error:
            raise StoreUnavailable from error

    def _write(self, segment: _Segment, records: list[bytes], size: int) -> None:
        if not records:
            return
        data = records[0] if len(records) == 1 else b"".join(records)
        written = os.pwrite(segment.descriptor, data, segment.end)
        if written != size:
            raise OSError(f"{written} of {size} bytes were written")
        segment.end += size
        if segment.end > self._segment_bytes // 2 and self._spare is None:
            self._prepare()

    def _next(self) -> _Segment:
        """Switch to the spare segment, and have another one created."""
        if self._spare is None:
            self._prepare()
        spare = self._spare
        assert spare is not None
        if not spare.done():
            raise StoreUnavailable
        self._spare = None
        segment = spare.result()  # OSError: the next call tries again
        assert self._current is not None
        self._retire(self._current)
        self._current = segment
        return segment

    def _retire(self, segment: _Segment) -> None:
        self._files.submit(os.close, segment.descriptor)  # behind a `sync` that still uses it
        if segment.generations:
            self._full.append(segment)
        else:
            self._files.submit(_remove, segment.path)

    def release(self, generation_id: str) -> None:
        """Forget a generation that has ended durably; remove segments that no running generation needs."""
        if self._current is not None:
            self._current.generations.discard(generation_id)
        for segment in self._full:
            segment.generations.discard(generation_id)
        needed = [segment for segment in self._full if segment.generations]
        if len(needed) != len(self._full):
            for segment in self._full:
                if not segment.generations:
                    self._files.submit(_remove, segment.path)
            self._full = needed

    def rotate(self) -> bool:
        """Continue in another segment if the current one has records; return False if that must be tried again later.

        The segment is removed as soon as no running generation needs it.
        """
        if self._current is None or self._current.end == _HEADER.size:
            return True
        try:
            self._next()
        except (OSError, StoreUnavailable):
            return False  # the next segment is not created yet, or cannot be
        return True

    def sync(self, failed: Callable[[], None]) -> None:
        """Start to sync all that is written, so that it survives a power cut as well.

        If that fails, a thread calls `failed`; the text stays readable, and the next sync is tried as usual.
        """
        if self._current is not None:
            done = self._files.submit(self._sync, self._current.descriptor)
            done.add_done_callback(lambda future: failed() if future.exception() else None)

    def _sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)
        if self._folder_changed:
            self._folder_changed = False
            _sync_folder(self._folder)

    def close(self) -> None:
        """Close all files, and remove those that no running generation needs."""
        spare, self._spare = self._spare, None
        current, self._current = self._current, None
        if current is None:
            return
        self._retire(current)
        self._files.shutdown()
        self._full = []
        self.logs.clear()
        if spare is not None and spare.exception() is None:
            os.close(spare.result().descriptor)
            _remove(spare.result().path)

    def _prepare(self) -> None:
        self._spare = self._files.submit(self._create)

    def _create(self) -> _Segment:
        """Create a zero-filled segment. Its header is not synced: a power cut loses it with its first records."""
        self._number += 1
        path = self._folder / f"{self._prefix}{self._number:08}.segment"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _allocate(descriptor, self._segment_bytes)  # a full disk fails here, not in `append`
            os.pwrite(descriptor, _header(self._number), 0)
        except OSError:
            os.close(descriptor)
            _remove(path)
            raise
        self._folder_changed = True
        return _Segment(self._number, path, descriptor)

    def _encode(self, name: bytes, piece: Piece) -> bytes:
        """Encode a piece of the generation with this ID as a record."""
        label = self._labels.get((piece.kind, piece.call)) or self._label(piece)
        head = _PAYLOAD.pack(piece.position, piece.part, len(name), len(label))
        payload = b"".join((head, name, label, piece.data))
        return _SIZES.pack(len(payload), crc32(payload)) + payload

    def _label(self, piece: Piece) -> bytes:
        label = msgspec.json.encode([piece.kind, *(piece.call or ())])
        if piece.call is None:  # few kinds, but many calls
            self._labels[piece.kind, None] = label
        return label


def _cut(piece: Piece) -> Iterator[Piece]:
    """Yield a large piece as pieces of at most `RECORD_BYTES` each."""
    end = piece.position - len(piece.data)
    for data in cut(piece.data, RECORD_BYTES):
        end += len(data)
        yield replace(piece, position=end, data=data)


def journal_folder(database: Path) -> Path:
    """Return the folder of the journal beside a database file."""
    return database.with_name(f"{database.name}.journal")


def recover(paths: Iterable[Path]) -> Recovered:
    """Read segments in any order; keep valid records, and of each generation the text up to the first gap.

    Raises:
        JournalError: a segment has another version.
        OSError: a segment cannot be read.
    """
    recovered = Recovered()
    pieces: dict[str, list[Piece]] = defaultdict(list)
    for path in paths:
        data = path.read_bytes()
        if not _read_segment(data, lambda name, piece: pieces[name].append(piece)):
            recovered.damaged.append(path.name)
    for name, of_generation in pieces.items():
        of_generation.sort(key=lambda piece: piece.position)
        recovered.pieces[name] = contiguous(of_generation, 0)
    return recovered


def _read_segment(data: bytes, take: Callable[[str, Piece], None]) -> bool:
    """Pass on all records up to the first that is not valid; return whether the rest is empty."""
    if not data.startswith(MAGIC[:-2]) or len(data) < _HEADER.size:
        return not data.strip(b"\0")
    magic, number, _ = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise JournalError(
            "it was written by another version of this service. Start that version, or remove the journal."
        )
    if data[: _HEADER.size] != _header(number):
        return False
    position = _HEADER.size
    while position + _SIZES.size <= len(data):
        size, checksum = _SIZES.unpack_from(data, position)
        payload = data[position + _SIZES.size : position + _SIZES.size + size]
        if len(payload) < size or size < _PAYLOAD.size or crc32(payload) != checksum:
            break
        record = _decode(payload)
        if record is None:
            break
        take(*record)
        position += _SIZES.size + size
    return not data[position:].strip(b"\0")


def _decode(payload: bytes) -> tuple[str, Piece] | None:
    end, part, name_size, label_size = _PAYLOAD.unpack_from(payload)
    name_end = _PAYLOAD.size + name_size
    text = payload[name_end + label_size :]
    try:
        name = payload[_PAYLOAD.size : name_end].decode()
        kind, *call = msgspec.json.decode(payload[name_end : name_end + label_size], type=list[str])
        return name, Piece(end, part, Kind(kind), text, ToolCall(*call) if call else None)
    except (ValueError, TypeError, msgspec.MsgspecError):
        return None


def _header(number: int) -> bytes:
    return _HEADER.pack(MAGIC, number, crc32(MAGIC + struct.pack("<Q", number)))


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.pwrite(descriptor, bytes(size), 0)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
