"""Limits that all replicas count together, in Redis or Valkey; each count is one atomic script.

While the server is unreachable each replica counts for itself, as without one. A limit is then multiplied by the number
of replicas at most; no request is refused because a counter is missing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog

from chatapi.connections.redis import RedisConnection, RedisGone
from chatapi.errors import TooManyGenerations
from chatapi.limits.local import WINDOW_SECONDS, LocalRateLimit, LocalSlots, Slot, too_many_requests
from chatapi.model import Limit

logger = structlog.get_logger()

SLOT_SECONDS = 60  # how long the slots of a dead replica stay taken
KEEP_SECONDS = SLOT_SECONDS / 3
RETRY_SECONDS = 0.1  # between attempts to take a slot

NOW = "local time = redis.call('TIME') local now = time[1] * 1000000 + time[2] "  # in microseconds

TAKE_REQUEST = (  # the bucket of local.py; returns 1 and the requests left, or 0 and the time to wait
    NOW
    + """
local cost, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local empty_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + cost
local excess = empty_at - now - window
if excess > 1 then return {0, excess} end
redis.call('SET', KEYS[1], string.format('%.0f', empty_at), 'PX', math.ceil((empty_at - now) / 1000) + 1)
return {1, math.floor((window - (empty_at - now) + 1) / cost)}
"""
)
TAKE_SLOT = (  # a set of slots, scored by when they lapse
    NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2] * 1000000), ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
KEEP_SLOT = (  # added again if the server lost it: a running answer holds its slot
    NOW
    + """
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1] * 1000000), ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
)
GIVE_BACK_SLOT = "redis.call('ZREM', KEYS[1], ARGV[1])"


class SharedRateLimit:
    """The rate limit, counted by all replicas together; `alone` counts while the server is unreachable."""

    def __init__(self, link: RedisConnection, alone: LocalRateLimit) -> None:
        self._link = link
        self._alone = alone

    async def take(self, owner: str) -> Limit | None:
        limit = self._alone.limit
        if not limit:
            return None
        window = int(WINDOW_SECONDS * 1_000_000)
        try:
            taken, left = await self._link.run(TAKE_REQUEST, f"chatapi:rate:{owner}", window / limit, window)
        except RedisGone:
            return await self._alone.take(owner)
        if not taken:
            raise too_many_requests(limit, left / 1_000_000)
        return Limit(limit, left)


class SharedSlots:
    """Slots per owner, counted by all replicas together; `alone` limits this process, and all of it while the server is
    unreachable."""

    def __init__(self, link: RedisConnection, alone: LocalSlots, replica: str) -> None:
        self._link = link
        self._alone = alone
        self._replica = replica
        self._taken: set[Slot] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="slots-keeper")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def take(self, owner: str) -> Slot:
        slot = await self._alone.take(owner)
        limit = self._alone.per_owner
        if not limit:
            return slot
        time = asyncio.get_running_loop().time
        wait_until = time() + self._alone.wait_seconds
        try:
            while not (taken := await self._run(TAKE_SLOT, slot, limit, SLOT_SECONDS, self._name(slot))):
                if time() >= wait_until:
                    break
                await asyncio.sleep(RETRY_SECONDS)  # a slot is given back on any replica
        except RedisGone:
            taken = True
        except BaseException:  # the caller is cancelled; a slot that the script still takes lapses
            await self._alone.give_back(slot)
            raise
        if not taken:
            await self._alone.give_back(slot)
            raise TooManyGenerations(retry_after=1)
        self._taken.add(slot)
        return slot

    async def give_back(self, slot: Slot) -> None:
        await self._alone.give_back(slot)
        if slot in self._taken:
            self._taken.discard(slot)
            with suppress(RedisGone):  # it lapses
                await self._run(GIVE_BACK_SLOT, slot, self._name(slot))

    async def _keep(self) -> None:
        """Renew every taken slot periodically."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                for slot in list(self._taken):
                    await self._run(KEEP_SLOT, slot, SLOT_SECONDS, self._name(slot))
                    if slot not in self._taken:  # given back meanwhile
                        await self._run(GIVE_BACK_SLOT, slot, self._name(slot))
            except RedisGone:
                continue
            except Exception:  # without this task every slot would lapse
                logger.exception("unexpected error", where="slots")

    async def _run(self, script: str, slot: Slot, *arguments: Any) -> Any:
        return await self._link.run(script, _key(slot), *arguments)

    def _name(self, slot: Slot) -> str:
        return f"{self._replica}:{slot.number}"


def _key(slot: Slot) -> str:
    return f"chatapi:slots:{slot.owner}"
