"""Every log, and how to read it: in memory where it runs here, in the store where it runs elsewhere or has ended.

A reader is one integer. It is woken when the log has grown, looks, and takes what is past its position.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from chatapi.bus import Bus
from chatapi.errors import SessionDeleted, SessionNotFound, StoreUnavailable
from chatapi.generations.running import LogChunk, RunningGeneration
from chatapi.model.log import first_of
from chatapi.store import Store, StoredLog

READ_BYTES = 64 * 1024  # given to a reader at once: what a slow one costs
STORED_READ_BYTES = 256 * 1024  # the same from the database, which reads the whole message for each
REMOTE_PACE_SECONDS = 0.04  # between reads of an answer that another replica produces; an eye cannot see it
RETRY_SECONDS = 0.5  # between attempts to read while the store cannot be read


class LogReader:
    """The logs of all generations. `running` are those of this process."""

    def __init__(self, store: Store, bus: Bus, running: Mapping[str, RunningGeneration]) -> None:
        self._store = store
        self._bus = bus
        self._running = running

    def follow(self, generation_id: str, position: int = 0) -> AsyncGenerator[LogChunk]:
        """Yield what was committed past `position`, then what is committed next, until the log ends.

        A reading without pieces comes about every `housekeeper.POLL_SECONDS` of silence: time for a heartbeat.

        Raises:
            ChatError: the log cannot come to its end.
        """
        return self._follow(self._running.get(generation_id), generation_id, position)

    def follow_live(self, live: RunningGeneration) -> AsyncGenerator[LogChunk]:
        """The same for one that runs here, or did a moment ago."""
        return self._follow(live, live.id, 0)

    async def read(self, generation_id: str, position: int = 0) -> LogChunk:
        """All that is committed past `position` now.

        Raises:
            SessionNotFound: there is no such generation.
        """
        if live := self._running.get(generation_id):
            return live.read(position)
        return _portion(await self._stored(generation_id, position), position)

    async def _follow(
        self, live: RunningGeneration | None, generation_id: str, position: int
    ) -> AsyncGenerator[LogChunk]:
        if live is not None and (reading := live.read(position, READ_BYTES)).ended:
            yield reading  # all of it: there is nothing to wait for
            return
        with self._bus.subscribe(generation_id) as wake:
            seen = False
            while True:
                wake.clear()  # before reading: a wake-up between read and wait must not be lost
                live = live or self._running.get(generation_id)
                if live is None:
                    reading = await self._read_remote(generation_id, position, seen)
                    seen = True
                else:
                    reading = live.read(position, READ_BYTES)
                yield reading
                if reading.ended:
                    return
                position = reading.position
                if not reading.more:
                    if live is None:
                        await asyncio.sleep(REMOTE_PACE_SECONDS)
                    await wake.wait()

    async def _read_remote(self, generation_id: str, position: int, seen: bool) -> LogChunk:
        """A portion of a log that does not run here; where it still grows, its replica is told that it is watched.

        A store that takes a pause makes the reader wait, for a while.

        Raises:
            SessionDeleted: it was `seen` before, and is there no more.
        """
        time = asyncio.get_running_loop().time
        patient_until = time() + self._store.write_retry_seconds
        while True:
            try:
                stored = await self._stored(generation_id, position)
                break
            except SessionNotFound:
                raise SessionDeleted if seen else SessionNotFound from None
            except StoreUnavailable:
                if time() >= patient_until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        reading = _portion(stored, position, STORED_READ_BYTES)
        if reading.ended is None:
            self._bus.watch(stored.generation)
        return reading

    async def _stored(self, generation_id: str, position: int) -> StoredLog:
        stored = await self._store.generations.read_log(generation_id, position)
        if stored is None:
            raise SessionNotFound
        return stored


def _portion(stored: StoredLog, position: int, most_bytes: int | None = None) -> LogChunk:
    """What is stored past `position`; of much, about the first `most_bytes`."""
    pieces = stored.pieces if most_bytes is None else first_of(stored.pieces, most_bytes)
    end = pieces[-1].position if pieces else position
    length = stored.generation.length
    whole = length is not None and end >= length
    more = bool(pieces) and end < stored.pieces[-1].position
    return LogChunk(pieces, end, stored.generation if whole else None, more)
