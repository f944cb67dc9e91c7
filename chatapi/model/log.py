"""The live log of one generation: what the model has said, and how much of it is committed.

A log is bytes of UTF-8 in parts of one kind each; a part that is a tool call also has that call's id and name. It
grows at its end, by whole code points, and no part is empty; `committed` follows behind, and nobody is shown a byte
past it. A reader is one integer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from chatapi.model import Kind, Part, Piece, ToolCall


class _Start(NamedTuple):
    """Where a part begins."""

    position: int
    kind: Kind
    call: ToolCall | None


class Log:
    """The append-only text of a generation, in memory while it runs."""

    __slots__ = ("_parts", "_text", "committed")

    def __init__(self) -> None:
        self._text = bytearray()
        self._parts: list[_Start] = []
        self.committed = 0

    @property
    def position(self) -> int:
        """The end of the log, in bytes."""
        return len(self._text)

    def write(self, kind: Kind, text: str, call: ToolCall | None = None) -> None:
        """Append `text`, which is not empty; a change of kind, or of the call, begins a new part."""
        if not self._parts or (last := self._parts[-1]).kind is not kind or last.call != call:
            self._parts.append(_Start(len(self._text), kind, call))
        self._text += text.encode()

    def read(self, position: int, most_bytes: int | None = None) -> list[Piece]:
        """The committed pieces past `position`; of many, about the first `most_bytes`, up to the end of a character."""
        end = self.committed
        if most_bytes is not None and end - position > most_bytes:
            end = character_end(self._text, position + most_bytes)
        return self._slice(position, end)

    def uncommitted(self) -> list[Piece]:
        """What was written and is not committed yet, a piece for each part."""
        return self._slice(self.committed, len(self._text))

    def _slice(self, begin: int, end: int) -> list[Piece]:
        if begin >= end:
            return []
        parts = self._parts
        part = len(parts) - 1  # nearly every reader is in the last part
        if parts[part].position > begin:
            part = bisect_right(parts, begin, key=lambda start: start.position) - 1
        pieces = []
        while begin < end:
            after = parts[part + 1].position if part + 1 < len(parts) else end
            stop = min(after, end)
            start = parts[part]
            pieces.append(Piece(stop, part, start.kind, bytes(self._text[begin:stop]), start.call))
            begin = stop
            part += 1
        return pieces

    def parts(self) -> tuple[Part, ...]:
        """The whole log, committed or not, as the parts of a message."""
        return parts_of(self._slice(0, len(self._text)))


def character_end(data: bytes | bytearray, at: int) -> int:
    """The last place not past `at` where a character of UTF-8 ends."""
    if at >= len(data):
        return len(data)
    while data[at] & 0xC0 == 0x80:  # a continuation byte: `at` is inside a character
        at -= 1
    return at


def cut(data: bytes, most_bytes: int) -> Iterator[bytes]:
    """`data` in runs of whole characters and at most so many bytes."""
    begin = 0
    while begin < len(data):
        end = character_end(data, begin + most_bytes)
        yield data[begin:end]
        begin = end


def first_of(pieces: list[Piece], most_bytes: int) -> list[Piece]:
    """About the first `most_bytes` of the pieces, up to the end of a character."""
    taken = []
    for piece in pieces:
        if len(piece.data) > most_bytes:
            end = character_end(piece.data, most_bytes)
            left = len(piece.data) - end
            if end:
                taken.append(piece._replace(position=piece.position - left, data=piece.data[:end]))
            break
        taken.append(piece)
        most_bytes -= len(piece.data)
    return taken


def up_to(pieces: list[Piece], position: int) -> list[Piece]:
    """The pieces of a log, from its start, up to a position."""
    before = []
    for piece in pieces:
        begin = piece.position - len(piece.data)
        if begin >= position:
            break
        end = min(piece.position, position)
        before.append(piece._replace(position=end, data=piece.data[: end - begin]))
    return before


def parts_of(pieces: list[Piece]) -> tuple[Part, ...]:
    """A log's pieces, from its start, joined into the parts of a message."""
    data: dict[int, list[bytes]] = {}
    first: dict[int, Piece] = {}
    for piece in pieces:
        data.setdefault(piece.part, []).append(piece.data)
        first.setdefault(piece.part, piece)
    return tuple(Part(first[part].kind, b"".join(runs).decode(), first[part].call) for part, runs in data.items())


def contiguous(pieces: list[Piece], position: int) -> list[Piece]:
    """The pieces from `position` on, each byte once, up to the first hole.

    Stored pieces overlap where text was committed, its committer was not told, and committed it again with more. A
    database that failed over may have lost some: what is past such a hole is shown when the whole message is stored.
    """
    run = []
    for piece in pieces:
        begin = piece.position - len(piece.data)
        if begin > position:
            break
        if piece.position > position:
            run.append(piece if begin == position else piece._replace(data=piece.data[position - begin :]))
            position = piece.position
    return run


def pieces_of(parts: tuple[Part, ...], position: int = 0) -> list[Piece]:
    """The parts of a message as its log's pieces past `position`: what `parts_of` joined, taken apart again."""
    pieces = []
    end = 0
    for number, part in enumerate(parts):
        data = part.text.encode()
        begin, end = end, end + len(data)
        if end > position:
            pieces.append(Piece(end, number, part.kind, data[max(0, position - begin) :], part.call))
    return pieces
