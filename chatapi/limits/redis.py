"""Limits that all replicas count together, in Redis or Valkey; each count is one atomic script.

The policy when the server is gone: each replica counts for itself, as it does without one. A limit is then at most so
many times higher as there are replicas; nobody is refused for want of a counter.
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

SLOT_SECONDS = 60  # how long the slots of a replica that died stay taken
KEEP_SECONDS = SLOT_SECONDS / 3

NOW = "local time = redis.call('TIME') local now = time[1] * 1000000 + time[2] "  # in microseconds

TAKE_REQUEST = (  # the bucket of local.py; returns whether it was taken, and what is left or how long to wait
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
KEEP_SLOT = (  # put back where the server forgot it; what is running is taken
    NOW
    + """
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1] * 1000000), ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
)
GIVE_BACK_SLOT = "redis.call('ZREM', KEYS[1], ARGV[1])"


class SharedRateLimit:
    """The rate limit, counted by all replicas together; `alone` counts when the server is gone."""

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
    """Slots per owner, counted by all replicas together; `alone` bounds this process, and counts for itself when the
    server is gone."""

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
        try:
            taken = await self._run(TAKE_SLOT, slot, limit, SLOT_SECONDS, self._name(slot))
        except RedisGone:
            taken = True
        except BaseException:  # the caller is cancelled; if the script takes the slot all the same, it lapses
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
        """Say of every slot, now and then, that it is still taken."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                for slot in list(self._taken):
                    await self._run(KEEP_SLOT, slot, SLOT_SECONDS, self._name(slot))
                    if slot not in self._taken:  # given back meanwhile, and perhaps before
                        await self._run(GIVE_BACK_SLOT, slot, self._name(slot))
            except RedisGone:
                continue
            except Exception:  # a keeper that ends would let every slot lapse
                logger.exception("unforeseen error", where="slots")

    async def _run(self, script: str, slot: Slot, *arguments: Any) -> Any:
        return await self._link.run(script, _key(slot), *arguments)

    def _name(self, slot: Slot) -> str:
        return f"{self._replica}:{slot.number}"


def _key(slot: Slot) -> str:
    return f"chatapi:slots:{slot.owner}"
