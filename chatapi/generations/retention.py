"""The retention job: deletes sessions that have expired, and removes deleted bytes from the files."""

from __future__ import annotations

import asyncio

import structlog

from chatapi.errors import StoreUnavailable
from chatapi.generations.maintenance import repeat
from chatapi.metrics import Metrics
from chatapi.model import Clock, Microseconds
from chatapi.settings import Settings
from chatapi.store import Store
from chatapi.store.retention import Expired, Rule

INTERVAL_SECONDS = 600.0  # between two runs
LEASE_SECONDS = 60.0  # another replica continues so long after one that died
RESTS = 19  # times as long as a transaction took, before the next: others write in between
ERASE_ATTEMPTS = 10  # of one run: a reader may use the files
ERASE_SECONDS = 0.5  # between two attempts
DAY_SECONDS = 86_400

logger = structlog.get_logger()


class RetentionJob:
    """Runs at the start and every `INTERVAL_SECONDS`."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run_always(), name="retention")

    async def close(self) -> None:
        """Stop the task. A transaction that has begun is committed or not, as a whole."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run_always(self) -> None:
        await repeat(self.run, INTERVAL_SECONDS, at_once=True)

    async def run(self) -> Expired:
        """Delete what has expired, and remove deleted bytes from the files; return the number of each that it deleted.

        If the store is unavailable, the next run continues.
        """
        deleted = Expired(0, 0)
        try:
            deleted = await self._delete_expired()
            await self._erase()
        except StoreUnavailable as error:
            logger.warning("retention postponed", code=error.code)
        return deleted

    async def _erase(self) -> None:
        """Remove the bytes of deleted rows from the files, if there are any. After a crash, the next run does it."""
        deletion = await self._store.retention.find_deletion()
        for _ in range(ERASE_ATTEMPTS if deletion is not None else 0):
            if await self._store.erase_deleted():
                assert deletion is not None
                await self._store.retention.note_erased(deletion)
                return
            await asyncio.sleep(ERASE_SECONDS)

    async def _has_lease(self) -> bool:
        """Take or extend the lease; a store that no other replica can open needs none."""
        return not self._store.shared or await self._store.retention.take_lease(self._store.replica, LEASE_SECONDS)

    async def _delete_expired(self) -> Expired:
        sessions = messages = 0
        time = asyncio.get_running_loop().time
        for rule, before in rules(self._settings, self._clock()):
            while await self._has_lease():
                begun = time()
                some = await self._store.retention.delete_expired(rule, before)
                if not some.sessions:
                    break
                sessions, messages = sessions + some.sessions, messages + some.messages
                self._metrics.sessions_expired(some.sessions)
                await asyncio.sleep(RESTS * (time() - begun))
        if sessions:
            logger.info("sessions expired", sessions=sessions, messages=messages)
        return Expired(sessions, messages)


def rules(settings: Settings, now: Microseconds) -> list[tuple[Rule, Microseconds]]:
    """Return the rules that apply, each with its time."""

    def days_ago(days: float) -> Microseconds:
        return Microseconds(now - int(days * DAY_SECONDS * 1_000_000))

    found = [(Rule.EXPIRES_AT, now), (Rule.UNUSED_TEMPORARY, days_ago(settings.temporary_days))]
    if settings.retention_days is not None:
        found.append((Rule.UNUSED, days_ago(settings.retention_days)))
    return found
