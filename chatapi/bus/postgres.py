"""LISTEN and NOTIFY: the transport of replicas that share PostgreSQL and have no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from chatapi.connections.postgres import CANNOT, JOB_SECONDS, Connection, connect_to

RECONNECT_SECONDS = 1.0
LOOK_SECONDS = 1.0  # between looks at a connection on which nothing is sent
OUTBOX = 10_000  # messages that wait to be sent; more are dropped

logger = structlog.get_logger()


class PostgresTransport:
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
            await asyncio.sleep(0)  # the task takes what was sent a moment ago
            self._task.cancel()
            await asyncio.wait([self._task])

    def send(self, replica: str, message: str) -> None:
        if not self._outbox.full():
            self._outbox.put_nowait((replica, message))

    async def _carry(self, replica: str, receive: Callable[[str], None], tried: asyncio.Event) -> None:
        """Listen and send; connect again whenever the connection breaks."""

        def on_message(connection: Any, pid: int, channel: str, payload: str) -> None:
            receive(payload)

        while True:
            connection: Connection | None = None
            try:
                connection = await connect_to(self._url, transaction_pooling=False)
                await connection.add_listener(_channel(replica), on_message)
                tried.set()
                await self._send_from(connection)
            except CANNOT as error:
                logger.warning("bus out of order", reason=type(error).__name__)
            except Exception:  # the next connection may work
                logger.exception("unexpected error", where="bus")
            finally:
                tried.set()
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _send_from(self, connection: Connection) -> None:
        """Send the outbox, and a probe once in a while: a connection may break without a sign."""
        while not connection.is_closed():
            statement: tuple[str, ...] = ("SELECT 1",)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    replica, message = await self._outbox.get()
                    statement = ("SELECT pg_notify($1, $2)", _channel(replica), message)
            async with asyncio.timeout(JOB_SECONDS):
                await connection.execute(*statement)


def _channel(replica: str) -> str:
    """A replica's channel. Identifiers of PostgreSQL end at 63 bytes; ids of ours are shorter."""
    return f"chatapi {replica}"
