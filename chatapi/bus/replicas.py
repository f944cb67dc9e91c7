"""Wake-ups between replicas.

Most answers are read where they are produced. So a replica announces the growth of a log only to replicas that have
recently announced a reader of it. Without readers on other replicas no message is sent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from chatapi.bus.local import LocalBus
from chatapi.model import Generation

GATHER_SECONDS = 0.01  # wake-ups for one replica share a message
WATCH_SECONDS = 5.0  # how long a watch lasts; a reader renews it long before
RENEW_SECONDS = 1.0
MOST_WATCHED = 10_000  # generations of ours that others may watch at once; beyond, readers there look once a second
MOST_WATCHERS = 64  # replicas that may watch the same one; beyond, likewise
ID_CHARACTERS = 48  # of an id; ours have 36, and a channel's name has room for these
MESSAGE_IDS = 64  # in one message, which keeps it far below the 8,000 bytes that NOTIFY takes
WATCH, WAKE, STOP = "watch", "wake", "stop"


class Transport(Protocol):
    """Carries short messages between replicas: each at most once, in any order."""

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        """Start to receive the messages for `replica`. Returns even if that is not possible now."""

    async def close(self) -> None:
        """Stop."""

    def send(self, replica: str, message: str) -> None:
        """Send now, or drop the message if that is not possible."""


class ReplicaBus(LocalBus):
    """The local bus, and messages from and to other replicas."""

    def __init__(self, replica: str, post: Transport) -> None:
        super().__init__()
        self._replica = replica
        self._post = post
        self._watchers: dict[str, dict[str, float]] = {}  # of our generations: replica, and until when
        self._announced: dict[str, float] = {}  # when a watch of each generation was sent last
        self._to_wake: defaultdict[str, set[str]] = defaultdict(set)
        self._gathering: asyncio.TimerHandle | None = None
        self._stop: Callable[[str], None]
        self._loop: asyncio.AbstractEventLoop

    async def open(self, stop: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        await self._post.open(self._replica, self._receive)

    async def close(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
        self._send_wakes()  # the ends of the last answers, for readers elsewhere
        await self._post.close()

    def watch(self, generation: Generation) -> None:
        now = self._loop.time()
        if generation.replica == self._replica or now - self._announced.get(generation.id, -1e9) < RENEW_SECONDS:
            return
        self._announced[generation.id] = now
        self._post.send(generation.replica, f"{WATCH} {self._replica} {generation.id}")

    def publish(self, generation_id: str) -> None:
        super().publish(generation_id)
        watchers = self._watchers.get(generation_id)
        if watchers is None:
            return
        if not self._to_wake:
            self._gathering = self._loop.call_later(GATHER_SECONDS, self._send_wakes)
        for replica in watchers:
            self._to_wake[replica].add(generation_id)

    def wake_all(self) -> None:
        super().wake_all()
        now = self._loop.time()
        self._announced = {name: at for name, at in self._announced.items() if now - at < RENEW_SECONDS}
        for generation_id, watchers in list(self._watchers.items()):
            lasting = {replica: until for replica, until in watchers.items() if until > now}
            if lasting:
                self._watchers[generation_id] = lasting
            else:
                del self._watchers[generation_id]

    def request_stop(self, generation_id: str, replica: str) -> None:
        self._post.send(replica, f"{STOP} {generation_id}")

    def _send_wakes(self) -> None:
        to_wake, self._to_wake = self._to_wake, defaultdict(set)
        for replica, ids in to_wake.items():
            listed = sorted(ids)
            for first in range(0, len(listed), MESSAGE_IDS):
                self._post.send(replica, " ".join([WAKE, *listed[first : first + MESSAGE_IDS]]))

    def _receive(self, message: str) -> None:
        """Act on a message; an unknown one is of a newer version, and ignored."""
        kind, *words = message.split(" ")
        if kind == WAKE:
            for generation_id in words:
                super().publish(generation_id)
        elif kind == STOP and len(words) == 1:
            self._stop(words[0])
        elif kind == WATCH and len(words) == 2:
            self._on_watch(*words)

    def _on_watch(self, replica: str, generation_id: str) -> None:
        if len(replica) > ID_CHARACTERS or len(generation_id) > ID_CHARACTERS:
            return
        watchers = self._watchers.get(generation_id)
        if watchers is None:
            if len(self._watchers) >= MOST_WATCHED:
                return
            watchers = self._watchers[generation_id] = {}
        if replica not in watchers and len(watchers) >= MOST_WATCHERS:
            return
        watchers[replica] = self._loop.time() + WATCH_SECONDS
        self._post.send(replica, f"{WAKE} {generation_id}")  # it may have grown since the watcher looked
