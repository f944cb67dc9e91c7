"""Run one generation: store its turn, write the upstream's answer to its log, and store its outcome.

    start    the turn is committed                       -> `started`
    produce  content is appended to the log and committed -> `RunningGeneration.responded`
    finish   the whole answer and its outcome are stored  -> `RunningGeneration.finished`

Every step may fail or be cancelled; the generation ends with an outcome all the same, and its text is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import structlog
from msgspec.structs import replace

from chatapi.auth.credentials import Credential
from chatapi.bus import Bus
from chatapi.errors import (
    ChatError,
    Interrupted,
    SessionDeleted,
    StoreUnavailable,
)
from chatapi.generations.compaction import Compactor
from chatapi.generations.context import ContextPlan, send_fitting
from chatapi.generations.maintenance import log_outcome
from chatapi.generations.running import RunningGeneration, RunningGenerations
from chatapi.generations.spans import traced_call
from chatapi.limits import Slot, Slots
from chatapi.metrics import Metrics
from chatapi.model import Authorizer, Clock, ContextPolicy, LeftOut, Outcome, PathMessage, Session, TurnRequest
from chatapi.settings import Settings
from chatapi.store import Fenced, QueuedStart, StartedTurn, Store
from chatapi.store.generations import Ended
from chatapi.tracing import describe_answer
from chatapi.upstream.answer import Answer
from chatapi.upstream.api import ModelAPI
from chatapi.upstream.context_limits import ContextLimits
from chatapi.upstream.provider import Deltas
from chatapi.upstream.request import ModelRequest

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Tracing

MAX_UNCOMMITTED_BYTES = 256 * 1024  # of one answer, before its upstream has to wait for the store
STORE_RETRY_SECONDS = 0.5  # between attempts to store an outcome while the store takes none

logger = structlog.get_logger()


class _Next(NamedTuple):
    """A turn of the queue that an ending has started, and its generation here."""

    running: RunningGeneration
    queued: QueuedStart


class GenerationRunner:
    """Runs generations, one task each. `draining`: the server shuts down, so nothing waits for the store any more."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        upstream: ModelAPI,
        slots: Slots,
        running: RunningGenerations,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._tracing = tracing
        self._upstream = upstream
        self._slots = slots
        self._running = running
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self.context_limits = ContextLimits(settings.context_limits)
        self.compactor = Compactor(store, upstream, settings, clock)
        self.draining = False

    async def run(
        self,
        turn: TurnRequest,
        credential: Credential,
        authorizer: Authorizer,
        slot: Slot,
        started: asyncio.Future[StartedTurn],
    ) -> None:
        """Run a turn to its end. `started` gets the stored turn, or the error because of which there is none."""
        try:
            try:
                stored = await self._store.turns.begin(turn, authorizer)
            except Exception as error:  # whatever it is, the caller that waits for the turn raises it
                await self._slots.give_back(slot)
                started.set_exception(error)
                return
            if stored.replayed:
                self._metrics.replayed()
                await self._slots.give_back(slot)
                started.set_result(stored)
                return
            running = self._add(stored)
            started.set_result(stored)
            await self._answer(running, turn, credential, stored, slot)
        finally:
            if not started.done():
                started.set_exception(ChatError())  # nor does the caller
            await self._slots.give_back(slot)

    async def run_queued(
        self, session_id: str, credential: Credential, after_failure: bool, slot: Slot, started: asyncio.Future[bool]
    ) -> None:
        """Start the first turn in a session's queue, if the owner of the slot pays for it, and run it to its end.

        `started` gets whether there is one that can start, or the error because of which that is not known.
        `after_failure`: see `store.queue.Queue.start`.
        """
        try:
            try:
                queued = await self._store.queue.start(
                    session_id, slot.owner, after_failure, has_key=not credential.is_admitted
                )
            except Exception as error:  # of any kind: the caller that waits for the turn raises it
                await self._slots.give_back(slot)
                started.set_exception(error)
                return
            if queued is None:
                await self._slots.give_back(slot)
                started.set_result(False)
                return
            running = self._add(queued.stored)
            started.set_result(True)
            await self._answer(running, queued.turn, credential, queued.stored, slot)
        finally:
            if not started.done():
                started.set_exception(ChatError())
            await self._slots.give_back(slot)

    def _add(self, stored: StartedTurn) -> RunningGeneration:
        running = RunningGeneration(stored.generation, self._settings, partial(self._bus.publish, stored.generation.id))
        if self._tracing is not None:
            running.span = self._tracing.begin_answer(f"answer {stored.generation.model}")
        self._running.add(running)
        return running

    async def _answer(
        self, running: RunningGeneration, turn: TurnRequest, credential: Credential, stored: StartedTurn, slot: Slot
    ) -> None:
        """Produce and store an answer, and then those to the queued turns that the endings start."""
        after: _Next | None = None
        while True:
            try:
                outcome = await self._produce(running, turn, credential, stored)
                if running.upstream_name is not None:
                    outcome = replace(outcome, upstream=running.upstream_name)
                after = await self._finish(running, outcome, stored, slot, has_key=not credential.is_admitted)
            finally:
                self._running.remove(running)
                if not running.finished.done():
                    running.end(None, ChatError())  # no reader waits forever
                if running.span is not None:
                    ended = running.ended or stored.generation
                    running.span.end(f"answer {ended.model}", describe_answer(ended))
            if after is None:
                return
            running, stored, turn = after.running, after.queued.stored, after.queued.turn

    async def plan(
        self, turn: TurnRequest, session: Session | None, parent: str | None, ids: Sequence[str] = ()
    ) -> ContextPlan:
        """Return the request to the model: the developer message, the history up to `parent`, and the new messages.

        `ids` are those of the new messages, if they are stored.

        Raises:
            ContextTooLarge: the history is larger than this server sends.
        """
        policy = self._policy(turn, session)
        truncates = policy is not ContextPolicy.ERROR
        history: list[PathMessage] = []
        if session is not None and parent is not None:
            most, messages = self._settings.max_context_bytes, self._store.messages
            if truncates:
                history = await messages.context_path(session.id, parent, most)
            else:
                history = [PathMessage(message) for message in await messages.history(session.id, parent, most)]
        developer_message = session.developer_message if session is not None else None
        request = ModelRequest(
            model=turn.model,
            messages=(),
            instructions=tuple(text for text in (developer_message, turn.instructions) if text),
            parameters=turn.parameters,
            responses=turn.responses_parameters,
        )
        new = [PathMessage(message, message_id) for message, message_id in zip_longest(turn.input, ids)]
        plan = ContextPlan(request, (*history, *new), truncates, self.context_limits.find(turn.model))
        if session is not None and history and self._compacts(policy):
            plan = plan.with_summary(await self._store.summaries.find_all(session.id))
        return plan.fit() if truncates else plan

    def _policy(self, turn: TurnRequest, session: Session | None) -> ContextPolicy:
        own = session.context if session is not None else None
        return turn.context or own or ContextPolicy(self._settings.context)

    def _compacts(self, policy: ContextPolicy) -> bool:
        return self._settings.summary_model is not None and policy in {ContextPolicy.COMPACT, ContextPolicy.AUTO}

    async def _produce(
        self, running: RunningGeneration, turn: TurnRequest, credential: Credential, started: StartedTurn
    ) -> Outcome:
        """Write the upstream's answer to the log until it ends, or is ended."""
        task = asyncio.current_task()
        assert task is not None
        running.task = task
        try:
            plan = await self.plan(turn, started.session, started.parent, started.input)

            async def send(request: ModelRequest) -> None:
                running.was_sent = True
                append, wait = partial(self._append, running), partial(self._wait_for_commit, running)
                async with traced_call(self._tracing, running, request.model):
                    await self._upstream.deliver(request, credential, append, wait)

            async def note(left_out: LeftOut) -> None:
                await self._store.generations.set_left_out(running.id, left_out)
                running.left_out = left_out

            async def compact(plan: ContextPlan) -> ContextPlan:
                return await self.compactor.compact(plan, running.session_id, turn.owner, credential)

            compacts = self._compacts(self._policy(turn, started.session))
            await send_fitting(plan, send, note, compact if compacts else None)
            return running.outcome()
        except asyncio.CancelledError:
            if running.cancel_reason is None:
                raise
            task.uncancel()
            running.append_held(self._clock)
            return running.outcome()
        except ChatError as error:
            return running.failure(error)
        except Exception:  # the last resort of this task: the generation ends, and its text is kept
            logger.exception("unexpected error", generation_id=running.id)
            return running.failure(ChatError())
        finally:
            running.task = None

    def _append(self, running: RunningGeneration, answer: Answer, deltas: Deltas) -> bool:
        """Append content to the log; return whether more can be appended before a commit.

        Raises:
            AnswerTooLarge: the answer is larger than this server stores.
        """
        first = running.append_deltas(answer, deltas, self._clock)
        if deltas:
            self._store.group_commit.schedule_append(running, first)
            running.check_size()
        log = running.log
        return log.position - log.committed <= MAX_UNCOMMITTED_BYTES

    async def _wait_for_commit(self, running: RunningGeneration) -> None:
        """Return when little enough is uncommitted."""
        while running.log.position - running.log.committed > MAX_UNCOMMITTED_BYTES:
            await self._store.group_commit.flush()
            if running.log.committed < running.log.position:  # not possible now; the store reports when that is final
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _finish(
        self, running: RunningGeneration, outcome: Outcome, started: StartedTurn, slot: Slot, *, has_key: bool
    ) -> _Next | None:
        """Store the whole answer and its outcome; only then do readers see the end.

        The same transaction starts the next turn of the session's queue if the same owner pays for it: that one has the
        slot. Otherwise the slot is free when readers see the end: a client that sees it may send again at once.
        """
        ended: Ended | None = None
        retry_until = asyncio.get_running_loop().time() + self._store.write_retry_seconds
        has_slot = True
        while ended is None:
            may_start = has_slot and not self.draining and not running.is_interrupted
            try:
                ended = await self._store.generations.finish_and_start(
                    running,
                    outcome,
                    running.log.parts(),
                    running.first_token_at,
                    bound=started.bound,
                    counted=running.was_sent,
                    next_owner=slot.owner if may_start else None,
                    has_key=has_key,
                )
            except Fenced:
                await self._slots.give_back(slot)
                running.end(None, await self._why_fenced(running))
                return None
            except StoreUnavailable as error:
                too_late = asyncio.get_running_loop().time() >= retry_until
                if has_slot:
                    await self._slots.give_back(slot)
                    has_slot = False
                if running.error is None and (self.draining or too_late):
                    running.end(None, error)  # readers see it now; the outcome is stored as soon as that is possible
                if self.draining:
                    return None  # the next start, or another replica, closes it
                await asyncio.sleep(STORE_RETRY_SECONDS)
        generation, queued = ended
        after = _Next(self._add(queued.stored), queued) if queued is not None else None
        if after is None:
            await self._slots.give_back(slot)
        self._metrics.answer_ended(generation, running.longest_gap)  # first: a client that sees the end may look
        if running.error is None:
            running.end(generation)
        log_outcome(generation)
        return after

    async def _why_fenced(self, running: RunningGeneration) -> ChatError:
        try:
            return Interrupted() if await self._store.generations.find(running.id) else SessionDeleted()
        except StoreUnavailable as error:
            return error
