"""Limits that the workers of one machine count together, in memory that they share.

The memory is the supervisor's too, so no worker's death loses a count. What a dead worker held is free when its
successor starts; until then it stays taken. Each change is made under a lock that the system releases with its process.
It is held for microseconds. While a worker that was stopped holds it, each of the others counts alone.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import structlog

from chatapi.connections.file_lock import FileLock
from chatapi.errors import Overloaded, TooManyGenerations
from chatapi.limits.local import LocalSlots, Slot
from chatapi.limits.times import LocalTimes, Times

NAME_BYTES = 16  # of a digest that stands for a group
SETS = 8192  # of the table of times; a group is in one of them
WAYS = 8  # groups in a set; of more, the one whose bucket is empty first is forgotten
OWNERS = 8192  # with running answers in one worker
RETRY_SECONDS = 0.1  # between attempts to take a slot: another worker may give one back
LOCK_SECONDS = 0.25  # all requests of a worker wait meanwhile; a busy machine may not run the holder for moments

_TIME = struct.Struct(f"<{NAME_BYTES}sd")
_COUNT = struct.Struct(f"<{NAME_BYTES}sQ")
_HEAD = struct.Struct("<QQ")  # owners in use, and the sum of their counts

logger = structlog.get_logger()


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=NAME_BYTES).digest()


class WorkerLock:
    """The lock of the memory of all limits. Make it before the fork.

    A worker that was stopped while it held the lock delays each other worker once, by `LOCK_SECONDS`: after that they
    make single attempts, until one succeeds.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder)
        self._is_stuck = False

    def close(self) -> None:
        """Close it in this process."""
        self._lock.close()

    def take(self) -> bool:
        """Take the lock; return False if another worker holds it for too long."""
        is_taken = self._lock.take(0.0 if self._is_stuck else LOCK_SECONDS)
        if is_taken == self._is_stuck:
            self._is_stuck = not is_taken
            logger.warning("limits shared again" if is_taken else "limits counted alone: another worker hangs")
        return is_taken

    def give_back(self) -> None:
        """Release the lock."""
        self._lock.give_back()


class WorkerTimes:
    """`Times` of all workers; those of this worker while the lock is stuck. Make it before the fork."""

    def __init__(self, lock: WorkerLock) -> None:
        self._lock = lock
        self._is_locked = False
        self._alone = LocalTimes()
        self._table = mmap.mmap(-1, SETS * WAYS * _TIME.size)

    def __enter__(self) -> Times:
        self._is_locked = self._lock.take()
        return self if self._is_locked else self._alone

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_locked:
            self._lock.give_back()

    def get(self, group: str) -> float:
        name = _digest(group)
        for _, found, empty_at in self._set_of(name):
            if found == name:
                return empty_at
        return 0.0

    def set(self, group: str, empty_at: float, _: float) -> None:
        name = _digest(group)
        ways = self._set_of(name)
        place = next((at for at, found, _ in ways if found == name), None)
        if place is None:
            place = min(ways, key=lambda way: way[2])[0]
        _TIME.pack_into(self._table, place, name, empty_at)

    def _set_of(self, name: bytes) -> list[tuple[int, bytes, float]]:
        """Return the place, the name and the time of each way of a set."""
        begin = int.from_bytes(name[:4], "little") % SETS * WAYS * _TIME.size
        entries = _TIME.iter_unpack(self._table[begin : begin + WAYS * _TIME.size])
        return [(begin + way * _TIME.size, *entry) for way, entry in enumerate(entries)]


class WorkerCounts:
    """The running answers of each owner in each worker. Make it before the fork.

    A worker changes its own part only. A part is a list without gaps: the owners in use, in any order.
    """

    def __init__(self, count: int, lock: WorkerLock) -> None:
        self._lock = lock
        self._size = _HEAD.size + OWNERS * _COUNT.size
        self._parts = range(0, count * self._size, self._size)
        self._memory = mmap.mmap(-1, count * self._size)
        self._changes: list[Callable[[], None]] = []  # at most one for each answer that was counted

    def clear(self, worker: int) -> None:
        """Forget the answers of this worker's predecessor."""
        self._change(lambda: _HEAD.pack_into(self._memory, self._parts[worker], 0, 0))

    def take(self, worker: int, owner: str, per_owner: int, in_all: int) -> bool | None:
        """Count one more answer of the owner, unless all workers together have `per_owner`; 0: no limit.

        Return whether it was counted; None while the lock is stuck, and nothing is counted or refused.

        Raises:
            Overloaded: all workers together have `in_all` answers of all owners; 0: no limit.
        """
        if not self._lock.take():
            return None
        try:
            self._make_changes()
            return self._take(self._parts[worker], _digest(owner), per_owner, in_all)
        finally:
            self._lock.give_back()

    def _take(self, part: int, name: bytes, per_owner: int, in_all: int) -> bool:
        if in_all and sum(_HEAD.unpack_from(self._memory, one)[1] for one in self._parts) >= in_all:
            raise Overloaded(retry_after=1)
        if per_owner and sum(self._count(one, name)[1] for one in self._parts) >= per_owner:
            return False
        used, total = _HEAD.unpack_from(self._memory, part)
        place, count = self._count(part, name)
        if not count and used >= OWNERS:
            raise Overloaded(retry_after=1)
        _COUNT.pack_into(self._memory, place, name, count + 1)
        _HEAD.pack_into(self._memory, part, used + (not count), total + 1)
        return True

    def give_back(self, worker: int, owner: str) -> None:
        """Count one answer less."""
        self._change(lambda: self._give_back(self._parts[worker], _digest(owner)))

    def _give_back(self, part: int, name: bytes) -> None:
        used, total = _HEAD.unpack_from(self._memory, part)
        place, count = self._count(part, name)
        if count > 1:
            _COUNT.pack_into(self._memory, place, name, count - 1)
        elif count:
            used -= 1
            last = part + _HEAD.size + used * _COUNT.size
            self._memory[place : place + _COUNT.size] = self._memory[last : last + _COUNT.size]
        _HEAD.pack_into(self._memory, part, used, total - bool(count))

    def _change(self, change: Callable[[], None]) -> None:
        """Make a change that nothing refuses: now or, while the lock is stuck, before the next one."""
        self._changes.append(change)
        if self._lock.take():
            try:
                self._make_changes()
            finally:
                self._lock.give_back()

    def _make_changes(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            change()

    def _count(self, part: int, name: bytes) -> tuple[int, int]:
        """Return the place of an owner in a part, and its count; the first unused place, if it has none."""
        begin = part + _HEAD.size
        used: int = _HEAD.unpack_from(self._memory, part)[0]
        end = begin + used * _COUNT.size
        place = self._memory.find(name, begin, end)
        while place >= 0 and (place - begin) % _COUNT.size:  # bytes of two neighbours
            place = self._memory.find(name, place + 1, end)
        if place < 0:
            return end, 0
        return place, _COUNT.unpack_from(self._memory, place)[1]


class WorkerSlots:
    """Slots, counted by all workers together: those of an owner, and all; `alone` are those of this one."""

    def __init__(self, counts: WorkerCounts, worker: int, alone: LocalSlots) -> None:
        self._counts = counts
        self._worker = worker
        self._alone = alone
        self._taken: set[Slot] = set()

    async def open(self) -> None:
        """Free the slots of a dead predecessor."""
        self._counts.clear(self._worker)

    async def close(self) -> None:
        """Do nothing: the answers have given their slots back."""

    async def take(self, owner: str) -> Slot:
        alone = self._alone
        slot = await alone.take(owner)
        time = asyncio.get_running_loop().time
        wait_until = time() + alone.wait_seconds
        try:
            while (counted := self._counts.take(self._worker, owner, alone.per_owner, alone.in_all)) is False:
                if time() >= wait_until:
                    raise TooManyGenerations(retry_after=1)
                await asyncio.sleep(RETRY_SECONDS)
        except BaseException:  # also a caller that is cancelled
            await alone.give_back(slot)
            raise
        if counted:
            self._taken.add(slot)
        return slot

    async def give_back(self, slot: Slot) -> None:
        if slot in self._taken:
            self._taken.discard(slot)
            self._counts.give_back(self._worker, slot.owner)
        await self._alone.give_back(slot)
