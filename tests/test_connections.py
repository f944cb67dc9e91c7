"""A pool of connections that tasks own: excess jobs, and the connection of a failed job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chatapi.errors import StoreUnavailable
from chatapi.store.drivers.pool import Connections

JOB_SECONDS = 4.0  # half of it to wait, half to run
TAKES_SECONDS = 0.01
LONG_SECONDS = 1.5  # of a job whose successor starts in time, and could not end before the latest start


class Connection:
    """A connection that counts its events."""

    def __init__(self, made: list[Connection]) -> None:
        self.closed = False
        made.append(self)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


@pytest.fixture
def made() -> list[Connection]:
    """All connections that were made."""
    return []


@pytest.fixture
async def connections(made: list[Connection]) -> AsyncIterator[Connections[Connection]]:
    async def connect() -> Connection:
        return Connection(made)

    connections = Connections("test", 2, connect, (OSError, TimeoutError), JOB_SECONDS)
    connections.open()
    yield connections
    await connections.close()
    assert all(connection.closed for connection in made)


async def work(connection: Connection) -> Connection:
    await asyncio.sleep(TAKES_SECONDS)
    return connection


async def test_excess_jobs_are_refused_and_cost_no_connection(
    connections: Connections[Connection], made: list[Connection]
) -> None:
    async def long(connection: Connection) -> None:
        await asyncio.sleep(LONG_SECONDS)

    outcomes = await asyncio.gather(*(connections.run(long) for _ in range(8)), return_exceptions=True)
    assert outcomes[:4] == [None] * 4, "a started job gets its time"
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[4:]), "the others have waited too long"
    assert not any(connection.closed for connection in made)
    assert isinstance(await connections.run(work), Connection), "afterwards jobs run as before"
    assert len(made) == 2


async def test_a_connection_whose_job_was_cancelled_is_not_reused(
    connections: Connections[Connection], made: list[Connection]
) -> None:
    async def never_ends(connection: Connection) -> None:
        await asyncio.Event().wait()

    async def breaks(connection: Connection) -> None:
        raise ConnectionResetError

    for job in (never_ends, breaks):
        before = len(made)
        with pytest.raises(StoreUnavailable):
            await connections.run(job)
        assert made[-1].closed or made[before - 1].closed
    used = await connections.run(work)
    assert not used.closed


async def test_a_cancelled_caller_leaves_its_job_running_to_its_end(
    connections: Connections[Connection], made: list[Connection]
) -> None:
    ended = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await asyncio.sleep(TAKES_SECONDS)
        ended.set()

    caller = asyncio.create_task(connections.run(slow))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    assert not any(connection.closed for connection in made)


async def test_an_error_of_a_job_is_raised_to_its_caller_and_costs_no_connection(
    connections: Connections[Connection], made: list[Connection]
) -> None:
    async def decides(connection: Connection) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await connections.run(decides)
    assert not any(connection.closed for connection in made)
