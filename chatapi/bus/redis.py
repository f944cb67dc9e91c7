"""Publish and subscribe on Redis or Valkey: the transport of replicas that have one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatapi.connections.redis import RedisConnection


class RedisTransport:
    """A channel for each replica."""

    def __init__(self, link: RedisConnection) -> None:
        self._link = link
        self._task: asyncio.Task[None] | None = None

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        listening = asyncio.Event()
        self._task = asyncio.create_task(self._link.listen(_channel(replica), receive, listening), name="bus-post")
        await listening.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def send(self, replica: str, message: str) -> None:
        self._link.publish(_channel(replica), message)


def _channel(replica: str) -> str:
    return f"chatapi:{replica}"
