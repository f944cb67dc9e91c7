"""Redis or Valkey, which wakes replicas and counts their limits."""

from __future__ import annotations

import time
from typing import Any

from redis import asyncio as client
from redis.exceptions import RedisError

from chatapi.connections.redis import CALL_SECONDS, CANNOT, OLDEST_REDIS, client_of, why_not
from chatapi.doctor.finding import Check, Finding, Reporter, median_seconds
from chatapi.model import new_id

FAR_SECONDS = 0.005
HEARD_SECONDS = 2.0  # maximum for a message
NEARLY_FULL = 0.9
MIB = 1024 * 1024
COUNT = "redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', ARGV[1]) return redis.call('GET', KEYS[1])"

found = Reporter("Redis")


async def check(url: str) -> Check:
    """Check everything that replicas need from it. One key is set, which expires within a second."""
    try:
        redis = client_of(url)
    except ValueError:  # its message may contain parts of the URL
        yield found.failure("REDIS_URL must be redis://USER:PASSWORD@HOST:PORT/NUMBER.")
        return
    async with redis:
        try:
            about = await redis.info("server")
        except CANNOT as error:
            yield found.failure(why_not(error))
            return
        yield _version(about)
        took = await median_seconds(redis.ping)
        yield found.latency("a round trip", took, FAR_SECONDS, "Put the service near it.")
        yield await _scripts(redis)
        yield await _messages(redis)
        yield _memory(await redis.info("memory"))


def _version(about: dict[str, Any]) -> Finding:
    name = "Valkey" if about.get("server_name") == "valkey" else "Redis"
    version = str(about.get("valkey_version", about["redis_version"]))
    if tuple(int(number) for number in str(about["redis_version"]).split(".")[:2]) < OLDEST_REDIS:
        return found.failure(f"Redis must be 6.2 or newer, or any Valkey; this is {name} {version}.")
    return found.ok(f"it can be reached, and is {name} {version}.")


async def _scripts(redis: client.Redis) -> Finding:
    """Check that scripts run: limits are counted by scripts."""
    try:
        await redis.register_script(COUNT)([f"chatapi:doctor:{new_id('doc')}"], [1000])
    except RedisError as error:
        return found.failure(
            f"it does not run our scripts ({error}): each replica would count limits by itself. Permit "
            "SCRIPT, EVALSHA, GET, SET, TIME, EXPIRE and Z… on keys chatapi:*."
        )
    return found.ok("it runs scripts.")


async def _messages(redis: client.Redis) -> Finding:
    """Check that messages are delivered: wake-ups are messages."""
    channel = f"chatapi:{new_id('doc')}"
    try:
        async with redis.pubsub() as subscription:
            await subscription.subscribe(channel)
            if await subscription.get_message(timeout=HEARD_SECONDS) is None:
                return _deaf()
            begun = time.perf_counter()
            await redis.publish(channel, "")
            message = None
            while message is None and time.perf_counter() - begun < HEARD_SECONDS:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=CALL_SECONDS)
            took = time.perf_counter() - begun
    except RedisError as error:
        return found.failure(
            f"it refuses to publish and subscribe ({error}): readers would poll once a second. Permit PUBLISH and "
            "SUBSCRIBE on channels chatapi:*."
        )
    return found.ok(f"a message is delivered in {took * 1000:.1f} ms.") if message is not None else _deaf()


def _deaf() -> Finding:
    return found.failure(
        f"messages are not delivered within {HEARD_SECONDS:g} s: readers on other replicas would poll once a second. "
        "Connect to the server directly, and to its primary."
    )


def _memory(memory: dict[str, Any]) -> Finding:
    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if not most:
        return found.ok(f"it uses {used / MIB:.1f} MiB, and its memory is not limited.")
    sentence = f"it uses {used / MIB:.1f} of {most / MIB:.1f} MiB, and its policy is {policy}"
    if used > most * NEARLY_FULL:
        return found.warning(f"{sentence}: it is nearly full, and limits count wrongly then. Raise its maxmemory.")
    if policy != "noeviction":
        return found.warning(
            f"{sentence}: when it is full it drops counters, and limits admit more. Use noeviction, or a "
            "separate server."
        )
    return found.ok(f"{sentence}.")
