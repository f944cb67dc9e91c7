"""What a database must do for the store, and no more.

A transaction is a generator function's generator: it yields statements (one, or some `Together`), is sent their rows,
and returns its result.
So its text is written once, for a database that is driven from a thread and for one that is awaited. A transaction
decides before it writes: it raises only while it has not written anything. It may be run more than once, so it changes
nothing outside the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple, Protocol, TypeVar

from chatapi.model import Piece

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Statement = tuple[str, tuple[Any, ...]]  # SQL with $1, $2, … and their values


@dataclass(frozen=True, slots=True)
class Together:
    """Statements of which none needs what another does; their rows are the first one's. A driver may run them as one.

    Then all of them see the state before any of them, in no order: no two may touch the same row.

    `whole`: the transaction consists of these and decides nothing after them.
    """

    statements: tuple[Statement, ...]
    whole: bool = False


Transaction = Generator[Statement | Together, Rows, T]


class CrossedRows(Exception):
    """A row is not of the session or generation that was asked for: whatever brought it must not be used again."""


class Unstorable(Exception):
    """A value that this database does not take, whenever it is offered."""


class Fenced(Exception):
    """The generation is no longer this replica's to write: it ended, was deleted, or its lease was lost."""


@dataclass(frozen=True, slots=True)
class Append:
    """The next pieces of one generation's log."""

    generation_id: str
    pieces: list[Piece]


@dataclass(slots=True)
class Batch:
    """What is committed together. `durable`: it must survive a power loss, not only the end of this process."""

    replica: str
    transactions: list[Callable[[], Transaction[Any]]] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    durable: bool = False


@dataclass(slots=True)
class Committed:
    """What became of a batch: a result or an exception for each transaction, and whose text was not taken.

    `fenced` are generations that are not this replica's to write, `unstored` those whose text cannot be written now.
    """

    results: list[Any]
    fenced: set[str] = field(default_factory=set)
    unstored: set[str] = field(default_factory=set)


class Migration(NamedTuple):
    """A numbered change of the schema."""

    number: int
    name: str
    sql: str


def migrations(database: str) -> list[Migration]:
    """All migrations of this kind of database, in order."""
    folder = resources.files("chatapi.store") / "migrations" / database
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", file.name)]
    return sorted(Migration(int(file.name[:4]), file.name, file.read_text()) for file in files)


class Driver(Protocol):
    """One database. Every method may raise `StoreUnavailable`.

    Then it is not known whether it has happened: where an answer was lost, it may have. Whoever repeats it finds that.
    """

    exclusive: bool
    """Whether no other process can have this database open: what runs in it without us is dead."""

    concurrent: bool
    """Whether transactions run side by side, each committed by itself; else one batch after the other is best."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""

    async def close(self) -> None:
        """Finish what is under way and let go."""

    async def commit(self, batch: Batch) -> Committed:
        """Run the transactions and the appends, and commit them together; where they are concurrent, each by itself.

        A transaction that raises, or an append that is not taken, has no effect and does not hurt the others.
        """

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """Run a transaction that only reads, on one consistent state."""
