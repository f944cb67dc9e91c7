"""The interface between the store and a database.

A transaction is a generator: it yields statements (one, or several `Together`), is sent their rows, and returns its
result. So it is written once, for a database that is driven from a thread and for one that is awaited. A transaction
decides before it writes: it raises only while it has written nothing. It may run more than once, so it changes nothing
outside the database.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

import msgspec

from chatapi.errors import StoreUnavailable
from chatapi.store.journal import Journal
from chatapi.store.values import Append

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Statement = tuple[str, tuple[Any, ...]]  # SQL with $1, $2, … and their values


class Together(msgspec.Struct, frozen=True):
    """Statements that do not depend on each other; the transaction is sent the rows of the first one.

    A driver may run them as one statement. Then all of them see the state before any of them, in no order: no two may
    touch the same row. `whole`: the transaction consists of these and decides nothing after them.
    """

    statements: tuple[Statement, ...]
    whole: bool = False


class RunningLog(msgspec.Struct, frozen=True):
    """A request for the committed log of a running generation past `position`, as rows of table `piece`."""

    generation_id: str
    position: int

    @property
    def statement(self) -> Statement:
        """The query, for a database that holds the log in that table."""
        return (
            "SELECT generation_id, position, part, kind, text, call FROM piece WHERE generation_id = $1 "
            "AND position > $2 ORDER BY position",
            (self.generation_id, self.position),
        )


Asked = Statement | Together | RunningLog
Transaction = Generator[Asked, Rows, T]


class CrossedRows(Exception):
    """A row does not belong to the session or generation that was asked for: the connection must be discarded."""


class Unstorable(Exception):
    """The database will never accept this value."""


class Fenced(Exception):
    """This replica may no longer write the generation: it ended, was deleted, or its lease was lost."""


class Batch(msgspec.Struct):
    """Writes that are committed together. `durable`: the commit must survive a power loss, not only this process."""

    replica: str
    transactions: list[Callable[[], Transaction[Any]]] = msgspec.field(default_factory=list)
    appends: list[Append] = msgspec.field(default_factory=list)
    durable: bool = False


class Committed(msgspec.Struct):
    """The result of a batch: a value or an exception for each transaction, and the text that is not stored.

    `fenced` are generations that this replica may not write, `locked` those that another transaction has locked (such
    as their own ending), and `unstored` those whose text cannot be written now, because of `refusal`.
    """

    results: list[Any]
    fenced: set[str] = msgspec.field(default_factory=set)
    locked: set[str] = msgspec.field(default_factory=set)
    unstored: set[str] = msgspec.field(default_factory=set)
    refusal: StoreUnavailable | None = None


class Driver(Protocol):
    """One database. Every method may raise `StoreUnavailable`.

    Then it is not known whether the work was committed: the answer to the commit may have been lost. A transaction that
    is repeated must find that out.
    """

    exclusive: bool
    """Whether no other process can have this database open: generations that run in it without us are dead."""

    @property
    def journal(self) -> Journal | None:
        """The journal that takes the text of running answers, beside one batch of transactions after the other.

        None if the database takes the text, with `Batch.appends`, and runs transactions concurrently.
        """

    async def open(self) -> None:
        """Connect, and apply pending migrations."""

    async def close(self) -> None:
        """Finish queued work and disconnect."""

    async def commit(self, batch: Batch) -> Committed:
        """Run the transactions and the appends, and commit them together.

        A driver without a journal commits each transaction by itself. A transaction that raises, or an append that is
        not accepted, has no effect on the others.
        """

    async def settle_reads(self) -> None:
        """Return when every read that had begun before this call has ended; for a driver with a journal."""

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """Run a transaction that only reads, on one consistent state."""

    async def erase_deleted(self) -> bool:
        """Remove the bytes of deleted rows from the files; return False if it must be tried again later.

        A server that writes the files itself removes them in its own time.
        """

    async def end_abandoned(self) -> int:
        """End transactions of processes that stopped in the middle of a message, and return how many there were.

        Their locks would last as long as such a process is paused. There are none where no lock outlives a statement.
        """

    def load(self) -> dict[tuple[str, ...], float]:
        """Return the numbers of jobs, by queue and state (`waiting` or `busy`), for the metrics."""
