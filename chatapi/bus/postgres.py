"""LISTEN and NOTIFY: the post of replicas that share PostgreSQL and have no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from chatapi.postgres_link import CANNOT, Connection, connect_to

RECONNECT_SECONDS = 1.0
OUTBOX = 10_000  # messages that wait to be sent; more are dropped

log = structlog.get_logger()


class PostgresPost:
    """One connection that listens on this replica's channel, and sends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._outbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue(OUTBOX)
        self._task: asyncio.Task[None] | None = None

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        listening = asyncio.Event()
        self._task = asyncio.create_task(self._carry(replica, receive, listening), name="bus-post")
        await listening.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def send(self, replica: str, message: str) -> None:
        if not self._outbox.full():
            self._outbox.put_nowait((replica, message))

    async def _carry(self, replica: str, receive: Callable[[str], None], tried: asyncio.Event) -> None:
        """Listen and send; connect again whenever the connection breaks."""

        def heard(connection: Any, pid: int, channel: str, payload: str) -> None:
            receive(payload)

        while True:
            connection: Connection | None = None
            try:
                connection = await connect_to(self._url, transaction_pooling=False)
                await connection.add_listener(_channel(replica), heard)
                tried.set()
                await self._send_from(connection)
            except CANNOT as error:
                log.warning("bus out of order", reason=type(error).__name__)
            finally:
                tried.set()
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _send_from(self, connection: Connection) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.add_termination_listener(lambda _: None if lost.done() else lost.set_result(None))
        while True:
            waiting: asyncio.Task[tuple[str, str]] = asyncio.create_task(self._outbox.get())
            try:
                either: set[asyncio.Future[Any]] = {waiting, lost}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if lost.done():
                    raise asyncpg.ConnectionDoesNotExistError
                replica, message = waiting.result()
            finally:
                waiting.cancel()
            await connection.execute("SELECT pg_notify($1, $2)", _channel(replica), message)


def _channel(replica: str) -> str:
    """A replica's channel. Identifiers of PostgreSQL end at 63 bytes; ids of ours are shorter."""
    return f"chatapi {replica}"
