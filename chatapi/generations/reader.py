"""Read logs: in memory where a generation runs here, in the store where it runs elsewhere or has ended.

A reader is one integer. It is woken when the log has grown, looks, and takes the pieces past its position. A reader
that keeps up with a generation of this process is not woken: it gives a sink, which is called with the pieces
themselves in the pass of the event loop in which they were committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from chatapi.bus import Bus
from chatapi.errors import PositionOutOfRange, SessionDeleted, SessionNotFound, StoreUnavailable
from chatapi.generations.running import LogChunk, RunningGeneration
from chatapi.model import VISIBLE_KINDS, Piece
from chatapi.model.log import character_end, first_of, first_pieces, up_to
from chatapi.store import Store, StoredLog

READ_BYTES = 64 * 1024  # given to a reader at once: the memory that a slow one holds
STORED_READ_BYTES = 256 * 1024  # the same from the database, which reads the whole message for each
REMOTE_PACE_SECONDS = 0.04  # between reads of an answer that another replica produces; not visible to the eye
RETRY_SECONDS = 0.5  # between attempts to read while the store cannot be read


Sink = Callable[[list[Piece]], bool]
"""Takes pieces without waiting, while its reader's task sleeps; returns whether it can take more in this way."""


class LogChunks(AsyncIterator[LogChunk]):
    """The chunks of a log from a position on; iterate once, and close.

    Set `sink` before to get pieces as soon as they are committed. Only pieces that it has not taken come as chunks.
    """

    def __init__(self, follow: Callable[[LogChunks], AsyncGenerator[LogChunk]]) -> None:
        self.sink: Sink | None = None
        self._chunks = follow(self)

    def __aiter__(self) -> AsyncIterator[LogChunk]:
        return self._chunks

    async def __anext__(self) -> LogChunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stop to follow the log."""
        await self._chunks.aclose()


class FollowedLog(NamedTuple):
    """A log from a position on: the pieces before it, and the chunks past it as they are committed."""

    position: int
    before: list[Piece]
    chunks: LogChunks


class LogReader:
    """The logs of all generations. `running` are those of this process."""

    def __init__(self, store: Store, bus: Bus, running: Mapping[str, RunningGeneration]) -> None:
        self._store = store
        self._bus = bus
        self._running = running

    async def follow(
        self, generation_id: str, position: int = 0, *, text_offset: int = 0, by_cut: bool = False
    ) -> FollowedLog:
        """Follow a log from a position, or from behind so many bytes of its visible text.

        The chunks are the committed text past the position, then the next commits, until the log ends. A chunk
        without pieces comes about every `maintenance.POLL_SECONDS` of silence: time for a heartbeat. They raise a
        `ChatError` if the log cannot come to its end. `by_cut`: the pieces end at the cuts of the log (`model.log`), so
        that every read gets the same ones.

        Raises:
            PositionOutOfRange: no reader of this log can be there.
            SessionNotFound: there is no such generation; from the start of a log, its chunks raise it.
        """
        running = self._running.get(generation_id)
        if not position and not text_offset:
            return FollowedLog(0, [], self._chunks(running, generation_id, 0, by_cut))
        if running is not None:
            whole = running.read(0, by_cut=by_cut)
        else:
            whole = _chunk(await self._stored(generation_id, 0, by_cut), 0)
        if text_offset:
            position = position_of_text(whole.pieces, text_offset)
        else:
            check_position(whole.pieces, position)
        before = up_to(whole.pieces, position)
        if running is not None:
            return FollowedLog(position, before, self._chunks(running, generation_id, position, by_cut))
        rest = LogChunk(pieces_past(whole.pieces, position), whole.position, whole.ended)
        return FollowedLog(position, before, self._chunks(None, generation_id, position, by_cut, rest))

    def follow_running(self, running: RunningGeneration, *, by_cut: bool) -> LogChunks:
        """Follow the log of a generation that runs here, or did a moment ago, from its start; see `follow`."""
        return self._chunks(running, running.id, 0, by_cut)

    async def read(self, generation_id: str, position: int = 0) -> LogChunk:
        """Return all that is committed past `position` now.

        Raises:
            SessionNotFound: there is no such generation.
        """
        if running := self._running.get(generation_id):
            return running.read(position)
        return _chunk(await self._stored(generation_id, position, by_cut=False), position)

    def _chunks(
        self,
        running: RunningGeneration | None,
        generation_id: str,
        position: int,
        by_cut: bool,
        first: LogChunk | None = None,
    ) -> LogChunks:
        return LogChunks(partial(self._follow, running, generation_id, position, by_cut, first))

    async def _follow(
        self,
        running: RunningGeneration | None,
        generation_id: str,
        position: int,
        by_cut: bool,
        first: LogChunk | None,
        chunks: LogChunks,
    ) -> AsyncGenerator[LogChunk]:
        """Yield the log past `position`; `first` was read already."""
        if first is None and running is not None and (chunk := running.read(position, READ_BYTES, by_cut)).ended:
            first = chunk  # all of it: there is nothing to wait for
        if first is not None:
            yield first
            if first.ended:
                return
            position = first.position
        with self._bus.subscribe(generation_id) as wakeup:
            seen = first is not None
            while True:
                wakeup.clear()  # before reading: a wake-up between read and wait must not be lost
                running = running or self._running.get(generation_id)
                if running is None:
                    chunk = await self._read_remote(generation_id, position, by_cut, seen)
                    seen = True
                else:
                    chunk = running.read(position, READ_BYTES, by_cut)
                yield chunk
                if chunk.ended:
                    return
                position = chunk.position
                if chunk.more:
                    continue
                if running is None:
                    await asyncio.sleep(REMOTE_PACE_SECONDS)
                    await wakeup.wait()
                elif chunks.sink is None:
                    await wakeup.wait()
                else:
                    live = _LivePosition(running, position, by_cut, chunks.sink)
                    await wakeup.wait_pushing(live.push)
                    position = live.position
                    if live.error is not None:
                        raise live.error

    async def _read_remote(self, generation_id: str, position: int, by_cut: bool, seen: bool) -> LogChunk:
        """Read a portion of a log that does not run here; if it still grows, its replica learns of this reader.

        While the store cannot be read, this waits for some time.

        Raises:
            SessionDeleted: it was `seen` before, and does not exist any more.
        """
        time = asyncio.get_running_loop().time
        retry_until = time() + self._store.write_retry_seconds
        while True:
            try:
                stored = await self._stored(generation_id, position, by_cut)
                break
            except SessionNotFound:
                raise SessionDeleted if seen else SessionNotFound from None
            except StoreUnavailable:
                if time() >= retry_until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        chunk = _chunk(stored, position, STORED_READ_BYTES, first_pieces if by_cut else first_of)
        if chunk.ended is None:
            self._bus.watch(stored.generation)
        return chunk

    async def _stored(self, generation_id: str, position: int, by_cut: bool) -> StoredLog:
        stored = await self._store.generations.read_log(generation_id, position, by_cut)
        if stored is None:
            raise SessionNotFound
        return stored


class _LivePosition:
    """The position of a reader that has all that is committed, while its sink takes the rest."""

    __slots__ = ("_by_cut", "_running", "_sink", "error", "position")

    def __init__(self, running: RunningGeneration, position: int, by_cut: bool, sink: Sink) -> None:
        self.position = position
        self.error: Exception | None = None
        self._running = running
        self._by_cut = by_cut
        self._sink = sink

    def push(self) -> bool:
        """Give the sink all pieces past the position; return whether there is nothing for the reader's task to do."""
        running = self._running
        if running.ended is not None or running.error is not None:
            return False
        log, more = running.log, False
        begin, end, pieces = log.offered
        if begin == self.position and end == log.committed and end - begin <= READ_BYTES:
            self.position = end  # nearly every reader follows the commits
        else:
            chunk = running.read(self.position, READ_BYTES, self._by_cut)
            pieces, self.position, more = chunk.pieces, chunk.position, chunk.more
        if not pieces:
            return True
        try:
            return self._sink(pieces) and not more
        except Exception as error:  # raised in the reader's own task: the writer and other readers go on
            self.error = error
            return False


def _chunk(
    stored: StoredLog,
    position: int,
    most_bytes: int | None = None,
    first: Callable[[list[Piece], int], list[Piece]] = first_of,
) -> LogChunk:
    """The stored pieces past `position`; of many, about the `first` ones with `most_bytes`."""
    pieces = stored.pieces if most_bytes is None else first(stored.pieces, most_bytes)
    end = pieces[-1].position if pieces else position
    length = stored.generation.length
    whole = length is not None and end >= length
    more = bool(pieces) and end < stored.pieces[-1].position
    return LogChunk(pieces, end, stored.generation if whole else None, more)


def pieces_past(pieces: list[Piece], position: int) -> list[Piece]:
    """The pieces past a position, each byte once."""
    rest = [piece for piece in pieces if piece.position > position]
    if rest and (first := rest[0]).position - len(first.data) < position:
        rest[0] = replace(first, data=first.data[position - first.position :])
    return rest


def position_of_text(pieces: list[Piece], text_offset: int) -> int:
    """The position of a reader that has so many bytes of the visible text.

    Raises:
        PositionOutOfRange: there is not so much text.
    """
    left = text_offset
    for piece in pieces:
        if piece.kind in VISIBLE_KINDS:
            if left <= len(piece.data):
                return piece.position - len(piece.data) + left
            left -= len(piece.data)
    raise PositionOutOfRange


def check_position(pieces: list[Piece], position: int) -> None:
    """Raise `PositionOutOfRange` unless an event may end there: between two characters of the log so far."""
    begin = 0
    for piece in pieces:
        if position <= piece.position:
            if character_end(piece.data, position - begin) != position - begin:
                raise PositionOutOfRange
            return
        begin = piece.position
    if position != begin:
        raise PositionOutOfRange
