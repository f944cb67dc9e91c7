"""The base of the repositories: a method that is a transaction becomes a coroutine that runs it.

A repository method is written as a generator that yields SQL statements and is sent their rows (`driver.Transaction`).
`read`, `write` and `durable_write` turn it into a coroutine function with the same parameters. Statements that must
hold together are in one method, so they are one transaction with one name. A method may run more than once, and on the
driver's thread, so it changes nothing outside the database.

The SQL is one text for both databases: `$1` parameters, RETURNING, ON CONFLICT; no JSON operators and no `now()`.
`FOR UPDATE` and its variants lock rows where writers run concurrently; SQLite, with one writer, omits them. Every
transaction locks a session before its generations, so that no two wait for each other. An append takes the weakest lock
on a generation and an ending the strongest: a transaction that has the lock to end one sees its whole log.

Each row that is read by an ID is checked to have that ID: a connection that returns another one is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from chatapi.model import Clock
from chatapi.store.drivers.driver import Driver, Transaction
from chatapi.store.group_commit import GroupCommit
from chatapi.store.quotas import Quotas

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Repository")
Method = Callable[Concatenate[R, P], Transaction[T]]
Query = Callable[Concatenate[R, P], Coroutine[Any, Any, T]]


class Repository:
    """Queries about one subject. All of them may raise `StoreUnavailable`."""

    def __init__(self, driver: Driver, group_commit: GroupCommit, clock: Clock, quotas: Quotas) -> None:
        self._driver = driver
        self._group_commit = group_commit
        self._clock = clock
        self._quotas = quotas


class LeasingRepository(Repository):
    """A repository that gives leases on generations to this process: `replica`, for `lease_seconds`."""

    def __init__(
        self,
        driver: Driver,
        group_commit: GroupCommit,
        clock: Clock,
        quotas: Quotas,
        replica: str,
        lease_seconds: float,
    ) -> None:
        super().__init__(driver, group_commit, clock, quotas)
        self._replica = replica
        self._lease_seconds = lease_seconds


def read(method: Method[R, P, T]) -> Query[R, P, T]:
    """Run the transaction on one consistent state; it writes nothing."""

    async def run(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.read(partial(method, self, *args, **kwargs))

    update_wrapper(run, method)
    return run


def write(method: Method[R, P, T]) -> Query[R, P, T]:
    """Run and commit the transaction. The commit survives the end of this process."""

    async def run(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._group_commit.commit(partial(method, self, *args, **kwargs), durable=False)

    update_wrapper(run, method)
    return run


def durable_write(method: Method[R, P, T]) -> Query[R, P, T]:
    """Run and commit the transaction. The commit survives a power loss."""

    async def run(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._group_commit.commit(partial(method, self, *args, **kwargs), durable=True)

    update_wrapper(run, method)
    return run
