"""Start queued turns whose session has become idle without starting them itself.

The transaction that ends an answer starts the turn after it. This module starts the others: of a session whose replica
died or had no free slot, and of one that was idle when the turn was queued.

A turn needs its owner's key, which is never stored. `QueueKeys` holds it in the memory of each replica that received it
with the turn, until the queue of the session is empty. A queue whose keys no replica holds waits for the next request
that brings one (docs/decisions/queue.md).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chatapi.auth.credentials import ADMITTED, Credential
from chatapi.errors import SessionBusy, StoreUnavailable, TooManyGenerations, Unavailable
from chatapi.generations.maintenance import POLL_SECONDS, repeat
from chatapi.generations.runner import GenerationRunner
from chatapi.generations.running import RunningGenerations
from chatapi.limits import Slot
from chatapi.model import Authorizer, Clock, Microseconds, QueuedTurn, Session, TurnRequest
from chatapi.settings import Settings
from chatapi.store import StartedTurn, Store
from chatapi.upstream.api import ModelAPI

MAX_KEYS = 10_000  # sessions; the queue of one that is dropped waits for a request with its key
GRACE_SECONDS = 1.0  # after the end of an answer: a turn that interrupted it comes first


class QueueKeys:
    """The keys that queued turns will send upstream, by session and owner."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[str, Credential]] = OrderedDict()

    def hold(self, session_id: str, owner: str, credential: Credential) -> None:
        """Hold a key; of too many, the one that was held first is dropped."""
        self._held[session_id] = owner, credential
        self._held.move_to_end(session_id)
        if len(self._held) > MAX_KEYS:
            self._held.popitem(last=False)

    def find(self, session_id: str) -> tuple[str, Credential] | None:
        """Return the owner of a session's queue and its key, if it is held here."""
        return self._held.get(session_id)

    def sessions(self) -> list[str]:
        """Return the sessions whose keys are held here."""
        return list(self._held)

    def drop(self, session_ids: list[str]) -> None:
        """Drop the keys of these sessions."""
        for session_id in session_ids:
            self._held.pop(session_id, None)


class SessionQueues:
    """The queues of sessions, as far as this process starts their turns: with the keys that it holds."""

    def __init__(
        self,
        store: Store,
        upstream: ModelAPI,
        running: RunningGenerations,
        runner: GenerationRunner,
        take_slot: Callable[[str], Awaitable[Slot]],
        tasks: set[asyncio.Task[None]],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.keys = QueueKeys()
        self._store = store
        self._upstream = upstream
        self._running = running
        self._runner = runner
        self._take_slot = take_slot  # unless the server is draining
        self._settings = settings
        self._clock = clock
        self._look_task: asyncio.Task[None] | None = None
        self._tasks = tasks  # of the owner of this, which a drain waits for

    def open(self) -> None:
        """Start the task that looks at the sessions whose keys are held here."""
        self._look_task = asyncio.create_task(repeat(self._look, POLL_SECONDS), name="queues")

    async def close(self) -> None:
        """Stop that task."""
        if self._look_task is not None:
            self._look_task.cancel()
            await asyncio.wait([self._look_task])

    async def add(self, turn: TurnRequest, credential: Credential, authorizer: Authorizer) -> QueuedTurn | StartedTurn:
        """Add a turn to its session's queue; it starts at once if the session has become idle meanwhile.

        Return the started turn if an earlier request with its idempotency key has begun it.

        Raises: as `store.queue.Queue.add` and `ModelAPI.require` do.
        """
        self._upstream.require(turn.model, credential)
        needs_key = self._upstream.needs_callers_key(turn.model, credential)
        queued = await self._store.queue.add(turn, authorizer, self._settings.max_queued, needs_key)
        if isinstance(queued, StartedTurn):
            return queued
        self.keys.hold(queued.session_id, turn.owner, credential)
        await self._try_start(queued.session_id, turn.owner, credential, after_failure=False)
        return queued

    async def offer_key(self, session: Session, owner: str, credential: Credential, *, resume: bool = False) -> None:
        """Use the key of a request for the queue of a session that belongs to its owner.

        It is held for the turns that wait, and the first of them starts if no answer runs; after an answer that failed,
        only with `resume`.
        """
        if session.queued:
            self.keys.hold(session.id, owner, credential)
            await self._try_start(session.id, owner, credential, after_failure=resume)

    async def _look(self) -> None:
        """Start what can start, and drop the keys of sessions without a queue."""
        before = Microseconds(self._clock() - int(GRACE_SECONDS * 1_000_000))
        sessions = self.keys.sessions()
        try:
            waiting = await self._store.queue.find_waiting(sessions) if sessions else []
            without_key = await self._store.queue.find_without_key(before) if self._upstream.has_own_keys else []
        except StoreUnavailable:
            return  # the next look comes soon
        self.keys.drop(sorted(set(sessions) - {session.id for session in waiting}))
        ready = [session.id for session in waiting if session.ready and session.updated_at <= before]
        found = {session_id: (owner, ADMITTED) for session_id, owner in without_key}
        found |= {session_id: held for session_id in ready if (held := self.keys.find(session_id)) is not None}
        starts = [self._try_start(session_id, *held, after_failure=False) for session_id, held in found.items()]
        await asyncio.gather(*starts)  # one that waits for a slot delays no other

    async def _try_start(self, session_id: str, owner: str, credential: Credential, *, after_failure: bool) -> None:
        """Start the first turn that waits, if that is possible now; the next look tries again."""
        if self._running.in_session(session_id) is not None:
            return
        try:
            slot = await self._take_slot(owner)
        except (TooManyGenerations, Unavailable):
            return
        started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._running.add_starting(started)
        task = asyncio.create_task(
            self._runner.run_queued(session_id, credential, after_failure, slot, started), name="queued-generation"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(SessionBusy, StoreUnavailable):
            await asyncio.shield(started)  # the caller may be cancelled, the turn is not
