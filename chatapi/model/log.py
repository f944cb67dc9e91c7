"""The in-memory log of one running generation.

A log is UTF-8 text in parts of one kind each; a tool-call part also has the call's id and name. It is append-only,
grows by whole code points, and has no empty part. Readers see bytes up to `committed` only. A reader's state is one
integer, its position in bytes.

A log has cuts: the positions at which its text was offered for a commit, and so could first be read. They are stored
with it. A reader that asks for pieces by cut gets the same pieces on every read, on every replica, while the log grows
and afterwards.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from chatapi.model import Kind, Part, Piece, ToolCall

JOIN_AFTER_PARTS = 256  # an upstream that alternates between kinds gets larger parts from here on
JOINED_CHARACTERS = 1024  # of such a part, at least
_JOINED_KINDS = frozenset({Kind.TEXT, Kind.REASONING, Kind.REFUSAL})
CUT_BYTES = 16 * 1024  # the most text between two cuts: a client may hold an event whole before it parses it


class _Start(NamedTuple):
    """Start of a part."""

    position: int
    kind: Kind
    call: ToolCall | None


class Log:
    """The append-only text of a generation, in memory while it runs."""

    __slots__ = ("_cuts", "_held", "_last", "_parts", "_text", "committed", "offered", "part_count", "position")

    def __init__(self) -> None:
        self._text = bytearray()
        self._last = b""  # the bytes of the last `write`
        self._cuts: list[int] = []
        self._held: dict[Kind, str] = {}  # text that waits for more of its kind
        self._parts: list[_Start] = []
        self.position = 0  # the end of the log, in bytes
        self.part_count = 0
        self.committed = 0
        self.offered: tuple[int, int, list[Piece]] = (0, 0, [])  # for the last commit: from, to, and the pieces

    def write(self, kind: Kind, text: str, call: ToolCall | None = None) -> None:
        """Append `text`, which must not be empty; a new kind or call starts a new part.

        Each part costs a reader some kilobytes in some dialects. So from `JOIN_AFTER_PARTS` on, text of another kind is
        held until there are `JOINED_CHARACTERS` of it, or `release` is called.
        """
        last = self._parts[-1] if self._parts else None
        if last is None or last.kind is not kind or last.call != call:
            if last is not None and len(self._parts) >= JOIN_AFTER_PARTS:
                if kind in _JOINED_KINDS and (kind, last.kind) != (Kind.TEXT, Kind.ANNOTATION):
                    text = self._held.pop(kind, "") + text
                    if len(text) < JOINED_CHARACTERS:
                        self._held[kind] = text
                        return
                elif kind not in _JOINED_KINDS:
                    self.release()  # an annotation follows its text
            self._begin_part(kind, call)
        data = self._last = text.encode()
        self._text += data
        self.position += len(data)

    def release(self) -> None:
        """Append the text that is held; call it before the log ends."""
        held, self._held = self._held, {}
        for kind, text in held.items():
            self._begin_part(kind, None)
            self.write(kind, text)

    def _begin_part(self, kind: Kind, call: ToolCall | None) -> None:
        self._parts.append(_Start(self.position, kind, call))
        self.part_count += 1

    def cut(self) -> None:
        """Make the end of the log a cut."""
        end = self.position
        last = self._cuts[-1] if self._cuts else 0
        while end - last > CUT_BYTES:
            last = character_end(self._text, last + CUT_BYTES)
            self._cuts.append(last)
        if end > last:
            self._cuts.append(end)

    def cuts(self) -> tuple[int, ...]:
        """Make the end of the log a cut, and return all cuts in order."""
        self.cut()
        return tuple(self._cuts)

    def read(self, position: int, most_bytes: int | None = None, *, by_cut: bool = False) -> list[Piece]:
        """Return committed pieces after `position`, at most `most_bytes`, cut at a code point.

        `by_cut`: the pieces end at cuts and at the ends of parts. `most_bytes` must be at least `CUT_BYTES` then.
        """
        end = self.committed
        begin_of_last, end_of_last, last = self.offered
        is_too_much = most_bytes is not None and end - position > most_bytes
        if position == begin_of_last and end == end_of_last and not is_too_much:
            return last  # nearly every reader follows the commits
        if most_bytes is not None and is_too_much:
            if by_cut:
                end = self._cuts[bisect_right(self._cuts, position + most_bytes) - 1]
            else:
                end = character_end(self._text, position + most_bytes)
        pieces = self._slice(position, end)
        return split(pieces, self._cuts) if by_cut else pieces

    def uncommitted(self) -> list[Piece]:
        """Make the end of the log a cut, and return the uncommitted text by cut.

        Text that is offered again, because its commit failed or its acknowledgement was lost, is the same pieces again.
        """
        begin, end, cuts = self.committed, self.position, self._cuts
        is_last_write = begin + len(self._last) == end and (cuts[-1] if cuts else 0) == begin < end
        if is_last_write and end - begin <= CUT_BYTES and (start := self._parts[-1]).position <= begin:
            cuts.append(end)
            pieces = [Piece(end, self.part_count - 1, start.kind, self._last, start.call)]
        else:
            self.cut()
            pieces = self._slice(begin, end)
            if len(cuts) > 1 and cuts[-2] > begin:
                pieces = split(pieces, cuts)
        self.offered = begin, end, pieces
        return pieces

    def _slice(self, begin: int, end: int) -> list[Piece]:
        if begin >= end:
            return []
        parts = self._parts
        part = len(parts) - 1
        if (start := parts[part]).position <= begin:  # nearly always it is in the last part
            return [Piece(end, part, start.kind, bytes(self._text[begin:end]), start.call)]
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
        """Return the whole log, uncommitted text included, as message parts."""
        return parts_of(self._slice(0, self.position))


def character_end(data: bytes | bytearray, at: int) -> int:
    """Return the largest code-point boundary of UTF-8 `data` that is at most `at`."""
    if at >= len(data):
        return len(data)
    while data[at] & 0xC0 == 0x80:  # a continuation byte: `at` is inside a character
        at -= 1
    return at


def cut(data: bytes, most_bytes: int) -> Iterator[bytes]:
    """Yield `data` in runs of whole code points of at most `most_bytes` bytes each."""
    begin = 0
    while begin < len(data):
        end = character_end(data, begin + most_bytes)
        yield data[begin:end]
        begin = end


def split(pieces: list[Piece], cuts: Sequence[int]) -> list[Piece]:
    """Split consecutive pieces at these positions, which rise. Positions inside a code point are ignored."""
    if not pieces:
        return pieces
    at = bisect_right(cuts, pieces[0].position - len(pieces[0].data))
    found = []
    for piece in pieces:
        begin = piece.position - len(piece.data)
        start = 0
        while at < len(cuts) and cuts[at] < piece.position:
            end = cuts[at] - begin
            at += 1
            if end > start and character_end(piece.data, end) == end:
                found.append(replace(piece, position=begin + end, data=piece.data[start:end]))
                start = end
        found.append(replace(piece, data=piece.data[start:]) if start else piece)
    return found


def default_cuts(parts: tuple[Part, ...]) -> list[int]:
    """Return the cuts of a log that was stored without any: every `CUT_BYTES` of each part."""
    cuts = []
    position = 0
    for part in parts:
        for run in cut(part.text.encode(), CUT_BYTES):
            position += len(run)
            cuts.append(position)
    return cuts


def first_pieces(pieces: list[Piece], most_bytes: int) -> list[Piece]:
    """Return the first pieces with at most `most_bytes` in all, but at least one, each whole."""
    size = 0
    for number, piece in enumerate(pieces):
        size += len(piece.data)
        if size > most_bytes and number:
            return pieces[:number]
    return pieces


def first_of(pieces: list[Piece], most_bytes: int) -> list[Piece]:
    """Return the first `most_bytes` bytes of the pieces, cut at a code point."""
    taken = []
    for piece in pieces:
        if len(piece.data) > most_bytes:
            end = character_end(piece.data, most_bytes)
            left = len(piece.data) - end
            if end:
                taken.append(replace(piece, position=piece.position - left, data=piece.data[:end]))
            break
        taken.append(piece)
        most_bytes -= len(piece.data)
    return taken


def up_to(pieces: list[Piece], position: int) -> list[Piece]:
    """Return the part of `pieces` before `position`."""
    before = []
    for piece in pieces:
        begin = piece.position - len(piece.data)
        if begin >= position:
            break
        end = min(piece.position, position)
        before.append(replace(piece, position=end, data=piece.data[: end - begin]))
    return before


def parts_of(pieces: list[Piece]) -> tuple[Part, ...]:
    """Join all pieces of a log into message parts."""
    data: dict[int, list[bytes]] = {}
    first: dict[int, Piece] = {}
    for piece in pieces:
        data.setdefault(piece.part, []).append(piece.data)
        first.setdefault(piece.part, piece)
    return tuple(Part(first[part].kind, b"".join(runs).decode(), first[part].call) for part, runs in data.items())


def contiguous(pieces: list[Piece], position: int) -> list[Piece]:
    """Return the bytes after `position`, each once, up to the first gap.

    Stored pieces overlap if the acknowledgement of a commit was lost and the text was committed again with more. A
    failed-over database may have lost pieces: text after a gap is visible once the whole message is stored.
    """
    run = []
    for piece in pieces:
        begin = piece.position - len(piece.data)
        if begin > position:
            break
        if piece.position > position:
            run.append(piece if begin == position else replace(piece, data=piece.data[position - begin :]))
            position = piece.position
    return run


def pieces_of(parts: tuple[Part, ...], position: int = 0) -> list[Piece]:
    """Split message parts into log pieces after `position`; the inverse of `parts_of`."""
    pieces = []
    end = 0
    for number, part in enumerate(parts):
        data = part.text.encode()
        begin, end = end, end + len(data)
        if end > position:
            pieces.append(Piece(end, number, part.kind, data[max(0, position - begin) :], part.call))
    return pieces
