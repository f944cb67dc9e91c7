"""The connection to a Redis or Valkey server: scripts and messages, each in a task that no request can cancel.

All data there may be lost. So every call is short, and while the server is down, calls fail at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from redis import asyncio as redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from chatapi.settings import SettingsError

CALL_SECONDS = 1.0  # maximum wait of a caller
DOWN_SECONDS = 1.0  # how long calls are refused at once after a failure
MAX_CALLS = 1_000  # at once; more are refused
CONNECTIONS = 32  # for calls, which wait for a free one; one more listens
ECHO_SECONDS = 5.0  # between messages to ourselves, which show that the listening connection works
DEAF_SECONDS = 15.0  # without such a message, the listening connection is replaced
OLDEST_REDIS = (6, 2)
CANNOT = (RedisError, OSError, TimeoutError)

T = TypeVar("T")

logger = structlog.get_logger()


class RedisGone(Exception):
    """The server cannot be used now."""


class RedisConnection:
    """One pooled client."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._down_until = 0.0
        self._calls: set[asyncio.Task[Any]] = set()
        self._scripts: dict[str, AsyncScript] = {}
        self._client: redis.Redis
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Connect.

        Raises:
            SettingsError: The server is not usable.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._client = client_of(self._url)
            version = (await self._client.info("server"))["redis_version"]
        except (ValueError, TypeError):  # its message may contain the password; an unknown option is a TypeError
            raise SettingsError(
                "REDIS_URL must be redis://USER:PASSWORD@HOST:PORT/NUMBER, with %-escapes where USER or PASSWORD "
                "contain characters other than letters and digits."
            ) from None
        except CANNOT as error:
            await self._client.aclose()
            raise SettingsError(f"REDIS_URL: {why_not(error)}") from error
        if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_REDIS:
            await self._client.aclose()
            raise SettingsError(f"REDIS_URL: Redis must be 6.2 or newer, or any Valkey; this server is {version}.")

    async def close(self) -> None:
        """Wait for running calls, and close every connection."""
        if self._calls:
            await asyncio.wait(self._calls)
        await self._client.aclose()

    async def run(self, script: str, key: str, *arguments: Any) -> Any:
        """Run a Lua script with one key and these arguments, and return its result.

        Raises:
            RedisGone: The server cannot be used now. The script may have run.
        """
        if not self._is_up():
            raise RedisGone
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        try:
            return await asyncio.shield(self._start(lambda: known([key], arguments)))
        except CANNOT as error:
            raise RedisGone from error

    def publish(self, channel: str, message: str) -> None:
        """Send a message; drop it if the server is down."""
        if self._is_up():
            self._start(lambda: self._client.publish(channel, message))

    async def listen(self, channel: str, receive: Callable[[str], None], listening: asyncio.Event) -> None:
        """Call `receive` with every message on the channel until cancelled; reconnect when the connection breaks.

        A connection may break without an error. So an empty message is sent every `ECHO_SECONDS`, and a connection that
        has received none for `DEAF_SECONDS` is replaced.
        """
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(channel)
                    listening.set()
                    await self._receive_messages(subscription, channel, receive)
            except CANNOT as error:
                logger.warning("bus out of order", reason=type(error).__name__)
            except Exception:  # reconnect after any error
                logger.exception("unexpected error", where="bus")
            finally:
                listening.set()
            await asyncio.sleep(DOWN_SECONDS)

    async def _receive_messages(self, subscription: PubSub, channel: str, receive: Callable[[str], None]) -> None:
        heard_at = self._loop.time()
        echo_at = 0.0
        while True:
            now = self._loop.time()
            if now - heard_at > DEAF_SECONDS:
                raise TimeoutError
            if now >= echo_at:
                echo_at = now + ECHO_SECONDS
                self.publish(channel, "")
            message = await subscription.get_message(timeout=CALL_SECONDS)
            if message is not None:
                heard_at = self._loop.time()
                receive(message["data"].decode(errors="replace"))

    def _is_up(self) -> bool:
        return self._loop.time() >= self._down_until and len(self._calls) < MAX_CALLS

    def _start(self, do: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        task = asyncio.create_task(self._bounded(do), name="redis-call")
        self._calls.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _bounded(self, do: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await do()
        except CANNOT:  # the pool's idle connections are broken too, and each would fail once
            await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()):
            if self._loop.time() >= self._down_until:
                logger.warning("redis out of order", reason=type(error).__name__)
            self._down_until = self._loop.time() + DOWN_SECONDS


def client_of(url: str) -> redis.Redis:
    """Create a client that fails fast."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=CALL_SECONDS,  # to wait for a free connection
        socket_connect_timeout=CALL_SECONDS,
        socket_timeout=2 * CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        client_name="chatapi",
    )
    return redis.Redis.from_pool(pool)


def why_not(error: Exception) -> str:
    """Return a sentence that says why the server cannot be used and what to change."""
    reason = str(error) or type(error).__name__
    if any(word in reason.lower() for word in ("auth", "password", "wrongpass", "noperm")):
        return "the server refuses the user or the password. Correct them."
    return f"Redis cannot be reached there: {reason.rstrip('.')}. Start it, or correct the URL."
