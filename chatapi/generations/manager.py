"""Start generations, find them, and end them. A generation is a task that appends to a log; readers follow the log.

    caller                      task of the generation (`runner`)             readers (`reader`)
    send ── slot ──────────────▶ store the turn
         ◀──────────── started ─┤
                                 ask the upstream, append, commit ─── bus ───▶ read past their position, wait
         ◀────────── responded ─┤
    chunks of the log            upstream ends, or stop, drain, timer
                                 store answer and outcome ─────────── bus ───▶ see the end
         ◀─────────── finished ─┘ (`stop` waits for it)

A reader that leaves stops nothing, and a reader that comes back is a reader like any other. The caller may be cancelled
at any point; the turn is not.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from chatapi.auth.credentials import Credential
from chatapi.bus import Bus
from chatapi.errors import ChatError, Draining, SessionBusy, TooManyGenerations, from_code
from chatapi.generations.compaction import MadeSummary
from chatapi.generations.context import ContextPlan
from chatapi.generations.ephemeral import EphemeralGeneration
from chatapi.generations.maintenance import Maintenance
from chatapi.generations.queue import SessionQueues
from chatapi.generations.reader import FollowedLog, LogChunks, LogReader
from chatapi.generations.retention import RetentionJob
from chatapi.generations.runner import GenerationRunner
from chatapi.generations.running import CancelReason, LogChunk, RunningGeneration, RunningGenerations
from chatapi.limits import Admission, Slot, Slots
from chatapi.metrics import Metrics
from chatapi.model import Authorizer, Clock, Generation, QueuedTurn, Session, Status, TurnRequest
from chatapi.settings import Settings
from chatapi.store import StartedTurn, Store
from chatapi.tracing import describe_answer
from chatapi.upstream.api import ModelAPI
from chatapi.upstream.metadata import ResponseMetadata

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Tracing

DRAIN_STEP_SECONDS = 0.1  # between looks at turns that are still starting
INTERRUPT_ATTEMPTS = 3  # a send that interrupts gives up (409) when others keep starting before it


class TurnHandle(msgspec.Struct, frozen=True):
    """A turn that has started, and its log from the beginning.

    `upstream` is the head of the upstream's response; None until that has come, and for a turn that runs elsewhere.
    `replayed`: an earlier request with the same idempotency key started it.
    """

    session: Session
    generation: Generation
    chunks: LogChunks
    upstream: ResponseMetadata | None
    replayed: bool


class EphemeralHandle(msgspec.Struct, frozen=True):
    """An answer that is not stored, and its log from the beginning. `upstream` as in `TurnHandle`."""

    generation: Generation
    chunks: LogChunks
    upstream: ResponseMetadata | None


class Generations:
    """The generations that run in this process, and access to the logs of all others."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        upstream: ModelAPI,
        slots: Slots,
        settings: Settings,
        clock: Clock,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._tracing = tracing
        self._upstream = upstream
        self._slots = slots
        self._settings = settings
        self._clock = clock
        self._metrics = metrics = metrics or Metrics()
        self._running = RunningGenerations()
        self._runner = GenerationRunner(store, bus, upstream, slots, self._running, settings, clock, metrics, tracing)
        self._logs = LogReader(store, bus, self._running)
        self._ephemeral: dict[str, EphemeralGeneration] = {}
        self._maintenance = Maintenance(store, bus, self._running, self._ephemeral, settings, clock, metrics)
        self._tasks: set[asyncio.Task[None]] = set()  # one for each turn that starts, runs or is being finished
        self.queues = SessionQueues(
            store, upstream, self._running, self._runner, self._take_slot_unless_draining, self._tasks, settings, clock
        )
        self.retention = RetentionJob(store, settings, clock, metrics)
        self.admission = Admission(slots)  # of answers that are not stored
        self.draining = False

    def learn_models(self, body: bytes) -> None:
        """Learn the contexts of models from an upstream's list of models."""
        self._runner.context_limits.learn(body)

    def __len__(self) -> int:
        return len(self._running) + len(self._ephemeral) + len(self.admission)

    # Start

    async def send(
        self,
        turn: TurnRequest,
        credential: Credential,
        authorizer: Authorizer,
        interrupt: bool = False,
        by_cut: bool = False,
        stop_if_cancelled: bool = False,
    ) -> TurnHandle:
        """Start a turn and return when its upstream has responded, or after `status_seconds` of silence.

        `turn.owner` identifies the caller, `credential` goes upstream, and `authorizer` decides on the session. With
        `interrupt`, a generation that runs in the session is stopped first. `by_cut`: as in `LogReader.follow`. With
        `stop_if_cancelled`, cancelling the call stops the answer, unless an earlier request began it.

        Raises:
            SessionNotFound, SessionBusy, IdempotencyMismatch: the turn was not started.
            TooManyGenerations, Unavailable: this server cannot start it now.
            UpstreamError: it was started, and the upstream refused it.
        """
        if (earlier := await self._find_replayed(turn)) is not None:
            return await self._wait_for_response(earlier, by_cut)
        for attempt in range(1, INTERRUPT_ATTEMPTS + 1):
            starting: asyncio.Future[StartedTurn] | None = None
            try:
                starting = await self._begin(turn, credential, authorizer)
                return await self._wait_for_response(await asyncio.shield(starting), by_cut)
            except asyncio.CancelledError:
                if stop_if_cancelled and starting is not None:
                    starting.add_done_callback(self._abandon_started)  # it may not be stored yet
                raise
            except SessionBusy as busy:
                if not interrupt or attempt == INTERRUPT_ATTEMPTS:
                    raise
                await self.stop(busy.generation_id, interrupts=True)
        raise AssertionError("the last attempt returns or raises")

    async def start(self, turn: TurnRequest, credential: Credential, authorizer: Authorizer) -> StartedTurn:
        """Start a turn and return when it is stored, whatever its upstream will say.

        Raises: as `send` does, except for refusals of the upstream.
        """
        if (earlier := await self._find_replayed(turn)) is not None:
            return earlier
        return await self._start(turn, credential, authorizer)

    async def plan(self, turn: TurnRequest, session: Session | None) -> ContextPlan:
        """Return the plan of the request that the model would get for a turn, which is not started.

        Raises:
            ContextTooLarge: the conversation is larger than this server sends.
        """
        parent = turn.parent or (session.head if session is not None else None)
        return await self._runner.plan(turn, session, parent)

    async def summarise(
        self, model: str, plan: ContextPlan, session_id: str | None, owner: str, credential: Credential
    ) -> MadeSummary:
        """Return a summary of a whole conversation, as `Compactor.summarise` does."""
        return await self._runner.compactor.summarise(model, plan, session_id, owner, credential)

    async def send_ephemeral(
        self, turn: TurnRequest, credential: Credential, session: Session | None
    ) -> EphemeralHandle:
        """Ask the upstream without storing anything; return as `send` does by cut. Cancelling the call ends the answer.

        Raises:
            ContextTooLarge: the conversation is larger than this server sends.
            TooManyGenerations, Unavailable: this server cannot start it now.
            UpstreamError: the upstream refused it.
        """
        self._upstream.require(turn.model, credential)
        plan = await self._runner.plan(turn, session, turn.parent)
        slot = await self._take_slot_unless_draining(turn.owner)
        running = EphemeralGeneration(turn, self._settings, self._clock, self._bus.publish)
        if self._tracing is not None:
            running.span = self._tracing.begin_answer(f"answer {turn.model}")
        self._ephemeral[running.id] = running
        task = asyncio.create_task(self._run_ephemeral(running, plan, credential, slot), name="ephemeral-generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._wait_for_status(running)
        except asyncio.CancelledError:
            running.cancel(CancelReason.STOPPED)
            raise
        return EphemeralHandle(running.generation, self._logs.follow_running(running, by_cut=True), running.metadata)

    async def _run_ephemeral(
        self, running: EphemeralGeneration, plan: ContextPlan, credential: Credential, slot: Slot
    ) -> None:
        try:
            outcome = await running.produce(self._upstream, plan, credential, self._tracing)
            await self._slots.give_back(slot)  # first: a client that sees the end may send again at once
            running.finish(outcome, self._metrics)
        finally:
            del self._ephemeral[running.id]
            await self._slots.give_back(slot)
            if not running.finished.done():
                running.end(None, ChatError())  # no reader waits forever
            if running.span is not None:
                ended = running.ended or running.generation
                running.span.end(f"answer {ended.model}", describe_answer(ended))

    async def _find_replayed(self, turn: TurnRequest) -> StartedTurn | None:
        if (earlier := await self._find_earlier(turn)) is not None:
            self._metrics.replayed()
        return earlier

    async def _find_earlier(self, turn: TurnRequest) -> StartedTurn | None:
        if turn.is_retry and (running := await self._store.turns.find_running_attempt(turn)) is not None:
            return running
        if turn.idempotency_key is None:
            return None
        return await self._store.turns.find_by_idempotency_key(turn)

    async def _start(self, turn: TurnRequest, credential: Credential, authorizer: Authorizer) -> StartedTurn:
        """Start the task that runs the turn, and return when the turn is stored."""
        return await asyncio.shield(await self._begin(turn, credential, authorizer))

    async def _begin(
        self, turn: TurnRequest, credential: Credential, authorizer: Authorizer
    ) -> asyncio.Future[StartedTurn]:
        """Start the task that runs the turn; the future gets the turn when it is stored.

        Shield it: the caller may be cancelled, the turn is not.
        """
        if self.draining:
            raise Draining
        self._upstream.require(turn.model, credential)  # before anything is stored
        if running := self._running.in_session(turn.session_id or ""):  # known already: no slot has to be free for that
            authorizer(await self._store.sessions.find(running.session_id))
            raise SessionBusy(running.id)
        slot = await self._take_slot(turn, authorizer)
        started: asyncio.Future[StartedTurn] = asyncio.get_running_loop().create_future()
        self._running.add_starting(started)
        task = asyncio.create_task(self._runner.run(turn, credential, authorizer, slot, started), name="generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return started

    def _abandon_started(self, started: asyncio.Future[StartedTurn]) -> None:
        """Stop the answer of a turn, if it was stored and no earlier request began it."""
        if started.exception() is None and not started.result().replayed:
            self.abandon(started.result().generation.id)

    # The queue

    async def send_or_queue(
        self, turn: TurnRequest, credential: Credential, authorizer: Authorizer
    ) -> TurnHandle | QueuedTurn:
        """Start a turn as `send` does, or queue it in a session that is busy or has a queue.

        Raises:
            QueueFull: as many turns wait there as this server allows.
            IdempotencyMismatch, SessionNotFound, SessionFull, QuotaExceeded: the turn was not queued.
            ChatError: as `send` does.
        """
        if (earlier := await self._find_replayed(turn)) is not None:
            return await self._wait_for_response(earlier, by_cut=False)
        session = await self._store.sessions.find(turn.session_id) if turn.session_id is not None else None
        if turn.session_id is None or (session is not None and not session.queued):
            try:
                return await self.send(turn, credential, authorizer)
            except SessionBusy:
                pass
        self._upstream.require(turn.model, credential)
        queued = await self.queues.add(turn, credential, authorizer)
        return await self._wait_for_response(queued, by_cut=False) if isinstance(queued, StartedTurn) else queued

    async def _take_slot(self, turn: TurnRequest, authorizer: Authorizer) -> Slot:
        """Take a slot for the turn. If none is free, a session that is busy elsewhere is the better reason."""
        try:
            return await self._take_slot_unless_draining(turn.owner)
        except TooManyGenerations:
            if turn.session_id is not None:
                session = authorizer(await self._store.sessions.find(turn.session_id))
                latest = await self._store.generations.find_latest(session.id)
                if latest is not None and latest.status is Status.RUNNING:
                    raise SessionBusy(latest.id) from None
            raise

    async def _take_slot_unless_draining(self, owner: str) -> Slot:
        if self.draining:
            raise Draining
        slot = await self._slots.take(owner)
        if self.draining:  # meanwhile
            await self._slots.give_back(slot)
            raise Draining
        return slot

    async def _wait_for_response(self, started: StartedTurn, by_cut: bool) -> TurnHandle:
        """Return when the turn's upstream has responded, or has been silent for long; raise its refusal."""
        running = await self._find_running(started.generation)
        if running is None:  # a replayed send, whose answer does not run here
            await self._wait_for_text(started.generation)
            generation = await self._store.generations.find(started.generation.id) or started.generation
            _raise_refusal(generation)
            chunks = (await self.follow(generation.id, by_cut=by_cut)).chunks
            return TurnHandle(started.session, generation, chunks, None, started.replayed)
        await self._wait_for_status(running)
        chunks = self._logs.follow_running(running, by_cut=by_cut)
        generation = started.generation
        if running.left_out is not None:
            generation = replace(generation, left_out=running.left_out)
        return TurnHandle(started.session, generation, chunks, running.metadata, started.replayed)

    async def _wait_for_status(self, running: RunningGeneration) -> None:
        """Return when the upstream has responded, or after `status_seconds`; raise its refusal."""
        await _wait_at_most(running.responded, self._settings.status_seconds)
        if running.ended is not None:
            _raise_refusal(running.ended, running.cause)
        elif running.error is not None and not running.log.committed:
            raise running.error

    async def _wait_for_text(self, generation: Generation) -> None:
        """Return when an answer of another replica has text or has ended, or has been silent for long."""
        if generation.status is not Status.RUNNING:
            return
        followed = await self.follow(generation.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.status_seconds), aclosing(followed.chunks) as chunks:
                async for chunk in chunks:
                    if chunk.pieces or chunk.ended:
                        return

    async def _find_running(self, generation: Generation) -> RunningGeneration | None:
        """Return the generation as it runs here, if it does.

        A row that says `running` may have been committed a moment ago, before its task has learned of it.
        """
        if generation.status is Status.RUNNING and generation.replica == self._store.replica:
            return await self._running.find_started(generation.id)
        return self._running.get(generation.id)

    # Read

    async def follow(
        self, generation_id: str, position: int = 0, *, text_offset: int = 0, by_cut: bool = False
    ) -> FollowedLog:
        """Follow a log from a position, or from an offset in its visible text; see `LogReader.follow`."""
        if position or text_offset:
            self._metrics.resumed()
        if self._tracing is not None and (running := self._running.get(generation_id)) and running.span is not None:
            self._tracing.link(running.span)
        return await self._logs.follow(generation_id, position, text_offset=text_offset, by_cut=by_cut)

    async def read(self, generation_id: str, position: int = 0) -> LogChunk:
        """Return all that is committed past `position` now."""
        return await self._logs.read(generation_id, position)

    # End

    async def stop(self, generation_id: str, interrupts: bool = False) -> LogChunk:
        """End a generation and return all of its log; one that has ended already is left as it is.

        The next turn of the session's queue starts, unless the caller `interrupts` to start its own.

        When this returns, the connection to the upstream is closed, and the answer so far is stored.
        """
        generation = await self._store.generations.find(generation_id)
        if generation and (running := await self._find_running(generation)):
            running.is_interrupted = interrupts
            await self._cancel(running, CancelReason.STOPPED)
            if running.error is not None:
                raise running.error
        elif generation and generation.status is Status.RUNNING:
            await self._stop_elsewhere(generation_id, interrupts)
        return await self.read(generation_id)

    async def _stop_elsewhere(self, generation_id: str, interrupts: bool) -> None:
        """Have another replica stop it, and return when it has ended; at the latest when its lease lapses."""
        if replica := await self._store.generations.request_stop(generation_id, interrupts):
            self._bus.request_stop(generation_id, replica)
            async with aclosing((await self.follow(generation_id)).chunks) as chunks:
                async for _ in chunks:
                    pass

    def abandon(self, generation_id: str) -> None:
        """Stop a generation that runs here, without waiting for its end."""
        if running := self._running.get(generation_id) or self._ephemeral.get(generation_id):
            running.cancel(CancelReason.STOPPED)

    async def delete_session(self, session_id: str, authorizer: Authorizer) -> None:
        """Remove a session, and end the generation that runs in it; nothing of it is stored afterwards."""
        generation = await self._store.sessions.delete(session_id, authorizer)
        if generation is not None:
            await self._end_deleted(generation)

    async def delete_all_sessions(self, owner: str) -> int:
        """Remove all sessions that this owner has now, as `delete_session` does each; return their number.

        After an interruption, a part of them is left, and none of them in part.
        """
        now, deleted = self._clock(), 0
        while True:
            count, generations = await self._store.sessions.delete_some(owner, now)
            for generation in generations:
                await self._end_deleted(generation)
            if not count:
                return deleted
            deleted += count

    async def _end_deleted(self, generation: Generation) -> None:
        """End a generation whose session was deleted, here or on its replica."""
        if running := await self._find_running(generation):
            await self._cancel(running, CancelReason.DELETED)
        else:
            self._bus.request_stop(generation.id, generation.replica)

    async def _cancel(self, running: RunningGeneration, reason: CancelReason) -> None:
        """End it, and return when its outcome is stored, or cannot be."""
        running.cancel(reason)
        await asyncio.shield(running.finished)

    # Open, drain and close

    async def open(self) -> None:
        """Start periodic maintenance."""
        await self._slots.open()
        await self._bus.open(self.abandon)
        self._maintenance.open()
        self.queues.open()
        self.retention.open()

    def refuse_new(self) -> None:
        """Start nothing more: this server is about to end."""
        self.draining = self._runner.draining = True
        self.admission.refuse_new()

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Start nothing more, let generations go on for so many seconds or until `hurry`, and interrupt the rest."""
        self.refuse_new()
        if (self._tasks or self.admission) and seconds > 0:
            hurried = asyncio.create_task(hurry.wait(), name="drain-hurry")
            ended = asyncio.create_task(self._all_ended(), name="drain-ended")
            await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            ended.cancel()
        while self._tasks:  # again: a turn that was still starting is running by now
            for running in [*self._running.values(), *self._ephemeral.values()]:
                running.cancel(CancelReason.INTERRUPTED)
            await asyncio.wait(self._tasks, timeout=DRAIN_STEP_SECONDS)
        await self.admission.cancel_all()

    async def _all_ended(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.admission.ended()

    async def close(self) -> None:
        """Interrupt running generations, and stop maintenance."""
        await self.drain(0, asyncio.Event())
        await self.retention.close()
        await self.queues.close()
        await self._maintenance.close()
        await self._bus.close()
        await self._slots.close()


async def _wait_at_most(future: asyncio.Future[None], seconds: float) -> None:
    """Return when the future is done, or after so many seconds. Cheaper than `asyncio.timeout` around a shield."""
    if future.done():
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(seconds, wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        future.remove_done_callback(wake)


def _raise_refusal(generation: Generation, cause: ChatError | None = None) -> None:
    """Raise the error of a generation that failed before any content: its caller gets a real status."""
    if generation.status in {Status.FAILED, Status.INTERRUPTED} and not generation.length:
        error = cause or from_code(generation.error_code, generation.error_detail)
        if generation.session_id:
            error.headers |= {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
        raise error
