"""The store: its repositories, the group commit and the driver, opened and closed together."""

from __future__ import annotations

from chatapi.metrics import Metrics
from chatapi.model import Clock, new_id
from chatapi.store.aliases import Aliases
from chatapi.store.completions import Completions
from chatapi.store.concurrent_commit import ConcurrentCommit
from chatapi.store.deployment import Deployment
from chatapi.store.drivers.driver import Driver
from chatapi.store.edits import Edits
from chatapi.store.forks import UNFINISHED_MICROSECONDS, Forks
from chatapi.store.generations import EVERY_LEASE, LEASE_SECONDS, Generations
from chatapi.store.group_commit import WRITE_RETRY_SECONDS, GroupCommit
from chatapi.store.imports import Imports
from chatapi.store.journaled_commit import JournaledCommit
from chatapi.store.messages import Messages
from chatapi.store.queue import Queue
from chatapi.store.quotas import Quotas, StoreLimits
from chatapi.store.retention import Retention
from chatapi.store.scans import Scans
from chatapi.store.sessions import Sessions
from chatapi.store.shares import Shares
from chatapi.store.summaries import Summaries
from chatapi.store.turns import Turns
from chatapi.store.usage import Usages


class Store:
    """Every session, message, generation and log.

    `replica` identifies this process in the database. `lease_seconds` is how long a generation stays `running` after
    its replica died.
    """

    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        lease_seconds: float = LEASE_SECONDS,
        write_retry_seconds: float = WRITE_RETRY_SECONDS,
        limits: StoreLimits | None = None,
        metrics: Metrics | None = None,
        replica: str | None = None,
    ) -> None:
        self.replica = replica or new_id("rep")
        self.lease_seconds = lease_seconds
        self.write_retry_seconds = write_retry_seconds
        self.group_commit: GroupCommit = (
            ConcurrentCommit(driver, self.replica, write_retry_seconds, metrics)
            if driver.journal is None
            else JournaledCommit(driver, driver.journal, self.replica, write_retry_seconds, metrics)
        )
        shared = driver, self.group_commit, clock, Quotas(limits or StoreLimits())
        self.sessions = Sessions(*shared)
        self.messages = Messages(*shared)
        self.turns = Turns(*shared, self.replica, lease_seconds)
        self.generations = Generations(*shared, self.replica, lease_seconds)
        self.completions = Completions(*shared)
        self.queue = Queue(*shared, self.replica, lease_seconds)
        self.usage = Usages(*shared)
        self.summaries = Summaries(*shared)
        self.scans = Scans(*shared)
        self.edits = Edits(*shared)
        self.forks = Forks(*shared)
        self.imports = Imports(*shared)
        self.retention = Retention(*shared)
        self.aliases = Aliases(*shared)
        self.shares = Shares(*shared)
        self.deployment = Deployment(*shared, self.replica)
        self._driver = driver
        self._clock = clock

    async def open(self) -> None:
        """Open the database, and close the generations that earlier processes left running.

        All of them in a file of ours alone; those of our predecessor in one that several workers share.
        """
        await self._driver.open()
        self.group_commit.open()
        if self._driver.journal is not None:
            while await self.generations.sweep(EVERY_LEASE):
                pass
        lifetime = 0 if self._driver.exclusive else UNFINISHED_MICROSECONDS
        await self.forks.delete_unfinished(self._clock() - lifetime)

    async def close(self) -> None:
        """Commit the queue, as far as the database accepts it, and close the database."""
        await self.group_commit.close()
        await self._driver.close()

    async def erase_deleted(self) -> bool:
        """Remove the bytes of deleted rows from the files, as far as this service writes them; see `Driver`."""
        return await self._driver.erase_deleted()

    async def end_abandoned(self) -> int:
        """End transactions whose locks would last as long as another replica is paused; see `Driver`."""
        return await self._driver.end_abandoned()

    def load(self) -> dict[tuple[str, ...], float]:
        """Return the numbers of jobs in the queues of the store, by queue and state."""
        return {("group-commit", "waiting"): self.group_commit.waiting, **self._driver.load()}

    @property
    def journal_bytes(self) -> int:
        """The size of the journal; 0 where there is none."""
        return self._driver.journal.size_bytes if self._driver.journal is not None else 0

    @property
    def shared(self) -> bool:
        """Whether other replicas may have this database open."""
        return not self._driver.exclusive
