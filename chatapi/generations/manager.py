"""Generations: begin them, run them, follow them, stop them, and leave none behind.

A generation is a task that appends what the upstream says to a log. A reader reads the log from a position. Neither
knows the other: a reader that leaves stops nothing, and a reader that comes back is a reader like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
import structlog

from chatapi.auth.keys import Key
from chatapi.bus import Bus
from chatapi.errors import (
    AnswerTooLarge,
    ChatError,
    ContextTooLarge,
    Draining,
    Interrupted,
    SessionBusy,
    SessionDeleted,
    StoreUnavailable,
    TooManyGenerations,
    from_code,
)
from chatapi.generations.ephemeral import EphemeralGeneration
from chatapi.generations.history import select_history
from chatapi.generations.maintenance import Maintenance, log_outcome
from chatapi.generations.reader import LogReader
from chatapi.generations.running import CancelReason, LogChunk, RunningGeneration
from chatapi.limits import Slot, Slots
from chatapi.model import Authorizer, Clock, Generation, Outcome, Session, Status, TurnRequest
from chatapi.settings import Settings
from chatapi.store import Fenced, StartedTurn, Store
from chatapi.upstream.client import Answer, Upstream
from chatapi.wire.chat_messages import write_messages

UNCOMMITTED_BYTES = 256 * 1024  # of one answer, before its upstream is made to wait for the store
STORE_RETRY_SECONDS = 0.5  # between attempts to store an ending while the store takes none
GOODBYE_SECONDS = 1.0  # for what is passed on, and was cancelled, to let go
DRAIN_STEP_SECONDS = 0.1  # between looks at what is still beginning
INTERRUPT_ATTEMPTS = 3  # a send that interrupts gives way (409) when others keep beginning before it

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TurnHandle:
    """A turn that was taken, and its log from the beginning. `answer` is None until the upstream has spoken."""

    session: Session
    generation: Generation
    readings: AsyncGenerator[LogChunk]
    answer: Answer | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class EphemeralHandle:
    """An answer that is not stored, and its log from the beginning. `answer` as in `TurnHandle`."""

    generation: Generation
    readings: AsyncGenerator[LogChunk]
    answer: Answer | None


class Generations:
    """All that run in this process, and how to read those that do not."""

    def __init__(
        self, store: Store, bus: Bus, upstream: Upstream, slots: Slots, settings: Settings, clock: Clock
    ) -> None:
        self._store = store
        self._bus = bus
        self._upstream = upstream
        self._slots = slots
        self._settings = settings
        self._clock = clock
        self._live: dict[str, RunningGeneration] = {}
        self._running_in: dict[str, RunningGeneration] = {}  # the same by session, which has one at most
        self._beginning: set[asyncio.Future[StartedTurn]] = set()  # may be stored, and not be in `_live` yet
        self._ephemeral: dict[str, EphemeralGeneration] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._relays: set[asyncio.Task[None]] = set()  # requests whose answers are passed on and not kept
        self._logs = LogReader(store, bus, self._live)
        self._housekeeper = Maintenance(store, bus, self._live, self._ephemeral, settings)
        self.draining = False

    def __len__(self) -> int:
        return len(self._live) + len(self._ephemeral) + len(self._relays)

    # Send

    async def send(self, turn: TurnRequest, key: Key, permit: Authorizer, interrupt: bool = False) -> TurnHandle:
        """Begin a turn and return when its upstream has spoken, or after `status_seconds` of silence.

        Raises:
            SessionNotFound, SessionBusy, IdempotencyMismatch: the turn was not begun.
            TooManyGenerations, Unavailable: this server does not begin it now.
            UpstreamError: it was begun, and the upstream refused it.
        """
        if turn.idempotency_key is not None and (begun := await self._store.turns.find_by_idempotency_key(turn)):
            return await self._answered(begun)
        for attempt in range(1, INTERRUPT_ATTEMPTS + 1):
            if self.draining:
                raise Draining
            try:
                await self._check_free(turn, permit)
                return await self._answered(await self._begin(turn, key, permit))
            except SessionBusy as busy:
                if not interrupt or attempt == INTERRUPT_ATTEMPTS:
                    raise
                await self.stop(busy.generation_id)
        raise AssertionError("the last attempt returns or raises")

    async def start(self, turn: TurnRequest, key: Key, permit: Authorizer) -> StartedTurn:
        """Begin a turn and return when it is stored, whatever its upstream will say.

        Raises: as `send` does, but for what the upstream refuses.
        """
        if turn.idempotency_key is not None and (begun := await self._store.turns.find_by_idempotency_key(turn)):
            return begun
        if self.draining:
            raise Draining
        await self._check_free(turn, permit)
        return await self._begin(turn, key, permit)

    async def _check_free(self, turn: TurnRequest, permit: Authorizer) -> None:
        """Raise `SessionBusy` where that is known already: what interrupts needs no place beside the interrupted."""
        if running := self._running_in.get(turn.session_id or ""):
            permit(await self._store.sessions.find(running.session_id))
            raise SessionBusy(running.id)

    async def _begin(self, turn: TurnRequest, key: Key, permit: Authorizer) -> StartedTurn:
        """Start the task that runs the turn, and return when the turn is stored."""
        slot = await self._take_slot(turn, permit)
        if self.draining:  # by now
            await self._slots.give_back(slot)
            raise Draining
        begun: asyncio.Future[StartedTurn] = asyncio.get_running_loop().create_future()
        self._beginning.add(begun)
        begun.add_done_callback(self._beginning.discard)
        task = asyncio.create_task(self._run(turn, key, permit, slot, begun), name="generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(begun)  # the caller may be cancelled, the turn is not

    async def _take_slot(self, turn: TurnRequest, permit: Authorizer) -> Slot:
        """A place for the turn. Where none is left, a session that is busy elsewhere is the better reason."""
        try:
            return await self._slots.take(turn.owner)
        except TooManyGenerations:
            if turn.session_id is not None:
                session = permit(await self._store.sessions.find(turn.session_id))
                latest = await self._store.generations.find_latest(session.id)
                if latest is not None and latest.status is Status.RUNNING:
                    raise SessionBusy(latest.id) from None
            raise

    async def _answered(self, begun: StartedTurn) -> TurnHandle:
        """Return when the turn's upstream has spoken, or has been silent for long; raise what it refused with."""
        live = await self._find_live(begun.generation)
        if live is None:  # a repeated send, whose answer does not run here
            await self._spoken(begun.generation)
            generation = await self._store.generations.find(begun.generation.id) or begun.generation
            _raise_refusal(generation)
            return TurnHandle(begun.session, generation, self.follow(generation.id), None, begun.replayed)
        await self._wait_for_status(live)
        readings = self._logs.follow_live(live)
        return TurnHandle(begun.session, begun.generation, readings, live.answer, begun.replayed)

    async def _wait_for_status(self, live: RunningGeneration) -> None:
        """Return when the upstream has answered, or after `status_seconds`; raise what it refused with."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.status_seconds):
                await asyncio.shield(live.answered)
        if live.ended is not None:
            _raise_refusal(live.ended, live.cause)
        elif live.error is not None and not live.log.committed:
            raise live.error

    # Answers that are not stored

    async def send_ephemeral(self, turn: TurnRequest, key: Key, body: bytes) -> EphemeralHandle:
        """Ask the upstream without storing anything; return as `send` does. Cancelling the call ends the answer.

        Raises:
            TooManyGenerations, Unavailable: this server does not begin it now.
            UpstreamError: the upstream refused it.
        """
        if self.draining:
            raise Draining
        slot = await self._slots.take(turn.owner)
        if self.draining:  # by now
            await self._slots.give_back(slot)
            raise Draining
        live = EphemeralGeneration(turn, self._settings, self._clock, self._bus.publish)
        self._ephemeral[live.id] = live
        task = asyncio.create_task(self._run_ephemeral(live, key, body, slot), name="ephemeral-generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._wait_for_status(live)
        except asyncio.CancelledError:
            live.cancel(CancelReason.STOPPED)
            raise
        return EphemeralHandle(live.generation, self._logs.follow_live(live), live.answer)

    async def _run_ephemeral(self, live: EphemeralGeneration, key: Key, body: bytes, slot: Slot) -> None:
        try:
            outcome = await live.produce(self._upstream, key, body)
            await self._slots.give_back(slot)  # first: a reader that sees the end may send again at once
            live.finish(outcome)
        finally:
            del self._ephemeral[live.id]
            await self._slots.give_back(slot)
            if not live.settled.done():
                live.end(None, ChatError())  # no reader waits for ever

    async def _spoken(self, generation: Generation) -> None:
        """Return when an answer that another replica produces has text or has ended, or has been silent for long."""
        if generation.status is not Status.RUNNING:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.status_seconds), aclosing(self.follow(generation.id)) as readings:
                async for reading in readings:
                    if reading.pieces or reading.ended:
                        return

    async def _find_live(self, generation: Generation) -> RunningGeneration | None:
        """The generation as it runs here, if it does.

        What the database shows as running may have been committed a moment ago, and its task not know yet.
        """
        if generation.status is Status.RUNNING and generation.replica == self._store.replica:
            live = self._live.get(generation.id)
            if live is None and self._beginning:
                await asyncio.wait(list(self._beginning))
        return self._live.get(generation.id)

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """A place among the running answers for one that is passed on and not kept. A drain cancels its task.

        Raises:
            TooManyGenerations, Unavailable: there is none now.
        """
        if self.draining:
            raise Draining
        task = asyncio.current_task()
        assert task is not None
        slot = await self._slots.take(owner)
        if self.draining:  # by now
            await self._slots.give_back(slot)
            raise Draining
        self._relays.add(task)
        try:
            yield
        finally:
            self._relays.discard(task)
            await self._slots.give_back(slot)

    # Run

    async def _run(
        self, turn: TurnRequest, key: Key, permit: Authorizer, slot: Slot, begun: asyncio.Future[StartedTurn]
    ) -> None:
        """Begin the turn, relay the upstream's answer to its log, and store how it ended."""
        try:
            try:
                turn_begun = await self._store.turns.begin(turn, permit)
            except Exception as error:  # carried to the one who waits for it, whatever it is
                await self._slots.give_back(slot)
                begun.set_exception(error)
                return
            if turn_begun.replayed:
                await self._slots.give_back(slot)
                begun.set_result(turn_begun)
                return
            generation_id = turn_begun.generation.id
            live = RunningGeneration(turn_begun.generation, self._settings, lambda: self._bus.publish(generation_id))
            self._live[live.id] = self._running_in[live.session_id] = live
            begun.set_result(turn_begun)
            try:
                ending = await self._produce(live, turn, key, turn_begun)
                await self._slots.give_back(slot)  # first: who sees the end may send again at once
                await self._finish(live, ending)
            finally:
                del self._live[live.id], self._running_in[live.session_id]
                if not live.settled.done():
                    live.end(None, ChatError())  # nobody waits for ever
        finally:
            if not begun.done():
                begun.set_exception(ChatError())  # nobody waits for ever
            await self._slots.give_back(slot)

    async def _produce(self, live: RunningGeneration, turn: TurnRequest, key: Key, begun: StartedTurn) -> Outcome:
        """Write what the upstream says to the log until it ends, or is ended."""
        task = asyncio.current_task()
        assert task is not None
        live.task = task
        try:
            body = await self.request_body(turn, begun.session, begun.parent)
            async with self._upstream.stream(key, body) as answer, aclosing(answer.read()) as reads:
                async for deltas in reads:
                    first = live.hear(answer, deltas, self._clock)
                    if deltas:
                        self._store.group_commit.schedule_append(live, urgent=first)
                        await self._hold_back(live)
            return live.ending()
        except asyncio.CancelledError:
            if live.verdict is None:
                raise
            task.uncancel()
            return live.ending()
        except ChatError as error:
            return live.failure(error)
        except Exception:  # this task's last resort: whatever happens, the generation ends and its text is kept
            logger.exception("unexpected error", generation_id=live.id)
            return live.failure(ChatError())
        finally:
            live.task = None

    async def _hold_back(self, live: RunningGeneration) -> None:
        """Bound what an answer may hold: the whole of it, and what of it is not stored yet."""
        if live.log.position > self._settings.max_answer_bytes:
            raise AnswerTooLarge
        while live.log.position - live.log.committed > UNCOMMITTED_BYTES:
            await self._store.group_commit.flush()
            if live.log.committed < live.log.position:  # the store takes none now; it says when that is final
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def request_body(self, turn: TurnRequest, session: Session | None, parent: str | None) -> bytes:
        """What the upstream is asked: the developer message, what was said up to `parent`, and the new messages."""
        most_bytes = self._settings.max_context_bytes
        said = []
        if session is not None and parent is not None:
            said = await self._store.messages.history(session.id, parent, most_bytes)
        messages = write_messages(select_history([*said, *turn.input]), self._settings.developer_role)
        for text in (turn.instructions, session.developer_message if session is not None else None):
            if text:
                messages.insert(0, {"role": self._settings.developer_role, "content": text})
        body = msgspec.json.encode(
            {
                "model": turn.model,
                "messages": messages,
                "stream": True,
                "stream_options": {"include_usage": True},
                **turn.parameters,
            }
        )
        if len(body) > most_bytes:
            raise ContextTooLarge
        return body

    async def _finish(self, live: RunningGeneration, ending: Outcome) -> None:
        """Store the whole answer and how it ended; only then do the readers see its end."""
        generation = None
        patient_until = asyncio.get_running_loop().time() + self._store.write_retry_seconds
        while generation is None:
            try:
                generation = await self._store.generations.finish(live, ending, live.log.parts(), live.first_token_at)
            except Fenced:
                live.end(None, await self._why_fenced(live))
                return
            except StoreUnavailable as error:
                if live.error is None and (self.draining or asyncio.get_running_loop().time() >= patient_until):
                    live.end(None, error)  # the readers are told now; the ending is stored as soon as it can be
                if self.draining:
                    return  # the next start, or another replica, closes it
                await asyncio.sleep(STORE_RETRY_SECONDS)
        if live.error is None:
            live.end(generation)
        log_outcome(generation)

    async def _why_fenced(self, live: RunningGeneration) -> ChatError:
        try:
            return Interrupted() if await self._store.generations.find(live.id) else SessionDeleted()
        except StoreUnavailable as error:
            return error

    # Follow

    def follow(self, generation_id: str, position: int = 0) -> AsyncGenerator[LogChunk]:
        """Yield what was committed past `position`, then what is committed next; see `LogReader.follow`."""
        return self._logs.follow(generation_id, position)

    async def read(self, generation_id: str, position: int = 0) -> LogChunk:
        """All that is committed past `position` now."""
        return await self._logs.read(generation_id, position)

    # End

    async def stop(self, generation_id: str) -> LogChunk:
        """End a generation and return all of its log; one that has ended already is left as it is.

        When this returns, the upstream's connection is closed and what was kept is stored.
        """
        generation = await self._store.generations.find(generation_id)
        if generation and (live := await self._find_live(generation)):
            await self._cancel(live, CancelReason.STOPPED)
            if live.error is not None:
                raise live.error
        elif generation and generation.status is Status.RUNNING:
            await self._stop_elsewhere(generation_id)
        return await self.read(generation_id)

    async def _stop_elsewhere(self, generation_id: str) -> None:
        """Have another replica stop it, and return when it has ended; at the latest when its lease lapses."""
        if replica := await self._store.generations.request_stop(generation_id):
            self._bus.request_stop(generation_id, replica)
            async with aclosing(self.follow(generation_id)) as readings:
                async for _ in readings:
                    pass

    def _on_stop_request(self, generation_id: str) -> None:
        """Another replica asks."""
        if live := self._live.get(generation_id):
            live.cancel(CancelReason.STOPPED)

    def abandon(self, generation_id: str) -> None:
        """Stop a generation whose only reader has left, without waiting."""
        if live := self._live.get(generation_id) or self._ephemeral.get(generation_id):
            live.cancel(CancelReason.STOPPED)

    async def delete_session(self, session_id: str, permit: Authorizer) -> None:
        """Remove a session, and end what runs in it; nothing of it comes back."""
        running = await self._store.sessions.delete(session_id, permit)
        if running is None:
            return
        if live := await self._find_live(running):
            await self._cancel(live, CancelReason.DELETED)
        else:
            self._bus.request_stop(running.id, running.replica)

    def refuse_new(self) -> None:
        """Begin nothing more: this server is about to end."""
        self.draining = True

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Begin nothing more, let what runs go on for so long or until `hurry`, and interrupt the rest, stored."""
        self.refuse_new()
        if (self._tasks or self._relays) and seconds > 0:
            hurried = asyncio.create_task(hurry.wait(), name="drain-hurry")
            ended = asyncio.create_task(self._all_ended(), name="drain-ended")
            await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            ended.cancel()
        while self._tasks:  # again: one that was still beginning is running by now
            for live in [*self._live.values(), *self._ephemeral.values()]:
                live.cancel(CancelReason.INTERRUPTED)
            await asyncio.wait(self._tasks, timeout=DRAIN_STEP_SECONDS)
        for relay in self._relays:
            relay.cancel()
        if self._relays:
            await asyncio.wait(self._relays, timeout=GOODBYE_SECONDS)

    async def _all_ended(self) -> None:
        await asyncio.wait(self._tasks | self._relays)

    async def _cancel(self, live: RunningGeneration, verdict: CancelReason) -> None:
        """End it, and return when that is stored, or cannot be."""
        live.cancel(verdict)
        await asyncio.shield(live.settled)

    # Open and close

    async def open(self) -> None:
        """Begin to look after what runs."""
        await self._slots.open()
        await self._bus.open(self._on_stop_request)
        self._housekeeper.open()

    async def close(self) -> None:
        """Interrupt what still runs, and look after nothing more."""
        await self.drain(0, asyncio.Event())
        await self._housekeeper.close()
        await self._bus.close()
        await self._slots.close()


def _raise_refusal(generation: Generation, cause: ChatError | None = None) -> None:
    """Raise the error of a generation that failed before it said anything: its caller gets a real status."""
    if generation.status in {Status.FAILED, Status.INTERRUPTED} and not generation.length:
        error = cause or from_code(generation.error_code, generation.error_detail)
        if generation.session_id:
            error.headers |= {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
        raise error
