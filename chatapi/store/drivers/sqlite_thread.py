"""A thread with a connection of its own: the event loop never waits for SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from chatapi.errors import StoreUnavailable

T = TypeVar("T")


class ConnectionThread:
    """A thread that owns one connection and runs one job after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return self._jobs.qsize()

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, args=(connect, opened), name=self.name, daemon=True)
        self._thread.start()
        await opened

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job and return its result. The job runs to its end even if the caller is cancelled."""
        if self._thread is None:
            raise StoreUnavailable("The store is closed.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, done))
        return await done

    async def stop(self) -> None:
        """Finish queued jobs and close the connection."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    def _work(self, connect: Callable[[], sqlite3.Connection], opened: asyncio.Future[None]) -> None:
        try:
            connection = connect()
        except (OSError, sqlite3.Error) as error:
            self._resolve(opened, None, error)
            return
        self._resolve(opened, None, None)
        while (item := self._jobs.get()) is not None:
            job, done = item
            try:
                result, failure = job(connection), None
            except Exception as error:  # raised to the caller, on the loop's thread
                result, failure = None, error
            self._resolve(done, result, failure)
            del item, job, done, result, failure  # keep no reference to a batch's text while waiting
        connection.close()

    def _resolve(self, done: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
        self._loop.call_soon_threadsafe(_settle, done, result, failure)


def _settle(done: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)
