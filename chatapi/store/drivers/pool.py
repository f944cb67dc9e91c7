"""A pool whose connections are each owned by a task: callers submit jobs, and never hold a connection.

A caller waits for a future. If it is cancelled, its job runs to its end, so that no connection is left inside a
transaction. A connection whose job timed out is closed. Why not `asyncpg.Pool`: docs/decisions/connection-pool.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import structlog

from chatapi.errors import StoreUnavailable

DOWN_SECONDS = 0.5  # how long jobs are refused at once after a failed attempt to connect

logger = structlog.get_logger()

T = TypeVar("T")


class Closable(Protocol):
    """The part of a connection that the pool uses."""

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...


C = TypeVar("C", bound=Closable)


class _Job(NamedTuple):
    do: Callable[[Any], Awaitable[Any]]
    done: asyncio.Future[Any]
    begin_by: float  # in seconds of the loop's clock; it bounds the queue to the jobs submitted within that time


class Connections(Generic[C]):
    """Connections to one server, and a first-in-first-out queue of jobs for them."""

    def __init__(
        self,
        name: str,
        count: int,
        connect: Callable[[], Awaitable[C]],
        broken: tuple[type[Exception], ...],
        job_seconds: float,
    ) -> None:
        """Run at most `count` jobs at once.

        A connection is closed after an exception of type `broken`. A job may wait for half of `job_seconds`, and then
        run for the other half: with one limit for both, an overloaded pool would start each job just before its limit
        and finish none.
        """
        self.name = name
        self.busy = 0  # connections that run a job
        self._count = count
        self._connect = connect
        self._broken = broken
        self._seconds = job_seconds / 2
        self._down_until = 0.0
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for a connection."""
        return self._jobs.qsize()

    def open(self) -> None:
        """Start to accept jobs. Each connection is opened for its first job."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._work(), name=f"{self.name}-{number}") for number in range(self._count)]

    async def close(self) -> None:
        """Finish queued jobs, and close the connections."""
        tasks, self._tasks = self._tasks, []
        for _ in tasks:
            self._jobs.put_nowait(None)
        if tasks:
            await asyncio.wait(tasks)

    async def run(self, do: Callable[[C], Awaitable[T]]) -> T:
        """Run a job and return its result.

        Raises:
            StoreUnavailable: The server cannot be reached or did not answer in time. The job may have been done.
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
            self.busy += 1
            try:
                if self._loop.time() > job.begin_by:
                    raise StoreUnavailable  # its caller has stopped waiting by now
                async with asyncio.timeout(self._seconds):
                    if connection is None or connection.is_closed():
                        connection = await self._connected()
                    result = await job.do(connection)
            except self._broken as error:
                failure = StoreUnavailable()
                failure.__cause__ = error
                logger.warning("store connection closed", connection=self.name, reason=type(error).__name__)
                if connection is not None:
                    connection.terminate()
                    connection = None
            except Exception as error:  # the job's own exception, raised to its caller
                failure = error
            finally:
                self.busy -= 1
            if not job.done.cancelled():
                if failure is None:
                    job.done.set_result(result)
                else:
                    job.done.set_exception(failure)
            del job, result, failure  # keep no reference to a job's text while waiting
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
