"""Connections that tasks own, one each: a job comes to a connection, and no connection goes to a caller.

Callers wait for a future. A caller that is cancelled leaves its job to run to its end, so no connection is ever left in
the middle of something; and one whose job was cut short is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import structlog

from chatapi.errors import StoreUnavailable

DOWN_SECONDS = 0.5  # after a failed attempt to connect, jobs are refused at once for so long

logger = structlog.get_logger()

T = TypeVar("T")


class Closable(Protocol):
    """A connection, as far as it matters here."""

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...


C = TypeVar("C", bound=Closable)


class _Job(NamedTuple):
    do: Callable[[Any], Awaitable[Any]]
    done: asyncio.Future[Any]
    begin_by: float  # on the loop's clock; so the queue is bounded by what its callers may send within that time


class Connections(Generic[C]):
    """Some connections to one server, and the jobs for them, first come first served."""

    def __init__(
        self,
        name: str,
        count: int,
        connect: Callable[[], Awaitable[C]],
        broken: tuple[type[Exception], ...],
        job_seconds: float,
    ) -> None:
        """`broken` are the exceptions after which a connection is not used again.

        A job may wait for half of `job_seconds` and then run for the other half. Were it one time for both, then under
        too much load every job would be begun just before its end, and nothing would ever be done.
        """
        self._name = name
        self._count = count
        self._connect = connect
        self._broken = broken
        self._seconds = job_seconds / 2
        self._down_until = 0.0
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop

    def open(self) -> None:
        """Take jobs. Each connection is made when its first job comes."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"{self._name}-{number}") for number in range(self._count)
        ]

    async def close(self) -> None:
        """Finish what is queued, and close the connections."""
        tasks, self._tasks = self._tasks, []
        for _ in tasks:
            self._jobs.put_nowait(None)
        if tasks:
            await asyncio.wait(tasks)

    async def run(self, do: Callable[[C], Awaitable[T]]) -> T:
        """What the job returns or raises.

        Raises:
            StoreUnavailable: the server cannot be reached, or did not do it in time; whether it did it is not known.
        """
        if not self._tasks:
            raise StoreUnavailable("The store is closed.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put_nowait(_Job(do, done, self._loop.time() + self._seconds))
        return await done

    async def _work(self) -> None:
        connection: C | None = None
        while (job := await self._jobs.get()) is not None:
            result: Any = None
            failure: Exception | None = None
            try:
                if self._loop.time() > job.begin_by:
                    raise StoreUnavailable  # its caller has waited long enough, and the connection is spared
                async with asyncio.timeout(self._seconds):
                    if connection is None or connection.is_closed():
                        connection = await self._connected()
                    result = await job.do(connection)
            except self._broken as error:
                failure = StoreUnavailable()
                failure.__cause__ = error
                logger.warning("store connection closed", connection=self._name, reason=type(error).__name__)
                if connection is not None:
                    connection.terminate()
                    connection = None
            except Exception as error:  # the job's own, carried to the one who waits for it
                failure = error
            if not job.done.cancelled():
                if failure is None:
                    job.done.set_result(result)
                else:
                    job.done.set_exception(failure)
            del job, result, failure  # hold nothing while waiting: a job holds text
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> C:
        if self._loop.time() < self._down_until:
            raise StoreUnavailable
        try:
            return await self._connect()
        except self._broken:
            self._down_until = self._loop.time() + DOWN_SECONDS
            raise
