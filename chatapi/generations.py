"""Generations: begin them, run them, follow them, stop them, and leave none behind.

A generation is a task that appends what the upstream says to a log. A reader reads the log from a position. Neither
knows the other: a reader that leaves stops nothing, and a reader that comes back is a reader like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from chatapi.bus import LocalBus
from chatapi.errors import (
    AnswerTooLarge,
    ChatError,
    ContextTooLarge,
    Draining,
    Interrupted,
    SessionBusy,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
    from_code,
)
from chatapi.keys import Key
from chatapi.limits import Slots
from chatapi.live import Live, Reading, Verdict
from chatapi.model import Clock, Ending, Generation, Role, Session, Status, Turn
from chatapi.settings import Settings
from chatapi.store import Begun, Fenced, Store
from chatapi.store.store import LEASE_SECONDS
from chatapi.store.transactions import Permit
from chatapi.upstream import Answer, Upstream

POLL_SECONDS = 1.0  # how late a reader may be when the bus drops a wake-up
RENEW_SECONDS = LEASE_SECONDS / 3  # two renewals may be lost before the lease is
UNCOMMITTED_BYTES = 256 * 1024  # of one answer, before its upstream is made to wait for the store
STORE_RETRY_SECONDS = 1.0  # between attempts to store an ending while the store takes none
DRAIN_STEP_SECONDS = 0.1  # between looks at what is still beginning
INTERRUPT_ATTEMPTS = 3  # a send that interrupts gives way (409) when others keep beginning before it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sent:
    """A turn that was taken: follow `generation` for its answer. `answer` is None until the upstream has spoken."""

    session: Session
    generation: Generation
    answer: Answer | None
    repeated: bool


class Generations:
    """All that run in this process, and how to read those that do not."""

    def __init__(
        self, store: Store, bus: LocalBus, upstream: Upstream, slots: Slots, settings: Settings, clock: Clock
    ) -> None:
        self._store = store
        self._bus = bus
        self._upstream = upstream
        self._slots = slots
        self._settings = settings
        self._clock = clock
        self._live: dict[str, Live] = {}
        self._running_in: dict[str, Live] = {}  # the same by session, which has one at most
        self._tasks: set[asyncio.Task[None]] = set()
        self._housekeeper: asyncio.Task[None] | None = None
        self.draining = False

    def __len__(self) -> int:
        return len(self._live)

    # Send

    async def send(self, turn: Turn, key: Key, permit: Permit, interrupt: bool = False) -> Sent:
        """Begin a turn and return when its upstream has spoken, or after `status_seconds` of silence.

        Raises:
            SessionNotFound, SessionBusy, IdempotencyMismatch: the turn was not begun.
            TooManyGenerations, Unavailable: this server does not begin it now.
            UpstreamError: it was begun, and the upstream refused it.
        """
        if turn.idempotency_key is not None and (begun := await self._store.begun_before(turn)):
            return await self._answered(begun)
        for _ in range(INTERRUPT_ATTEMPTS):
            if running := self._running_in.get(turn.session_id or ""):
                permit(await self._store.find_session(running.session_id))
                if not interrupt:
                    raise SessionBusy(running.id)
                await self._cancel(running, Verdict.STOPPED)  # before this turn asks for a place: it may have the last
            else:
                break
        return await self._answered(await self._begin(turn, key, permit))

    async def _begin(self, turn: Turn, key: Key, permit: Permit) -> Begun:
        """Start the task that runs the turn, and return when the turn is stored."""
        if self.draining:
            raise Draining
        self._slots.take(turn.owner)
        begun: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(turn, key, permit, begun), name="generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(begun)  # the caller may be cancelled, the turn is not

    async def _answered(self, begun: Begun) -> Sent:
        """Return when the turn's upstream has spoken, or has been silent for long; raise what it refused with."""
        live = self._live.get(begun.generation.id)
        if live is None:  # a repeated send, whose answer does not run here
            _raise_refusal(begun.generation)
            return Sent(begun.session, begun.generation, None, begun.repeated)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.status_seconds):
                await asyncio.shield(live.answered)
        if live.ended is not None:
            _raise_refusal(live.ended, live.cause)
        elif live.error is not None:
            raise live.error
        return Sent(begun.session, begun.generation, live.answer, begun.repeated)

    # Run

    async def _run(self, turn: Turn, key: Key, permit: Permit, begun: asyncio.Future[Begun]) -> None:
        """Begin the turn, relay the upstream's answer to its log, and store how it ended."""
        try:
            try:
                turn_begun = await self._store.begin(turn, permit)
            except Exception as error:  # carried to the one who waits for it, whatever it is
                begun.set_exception(error)
                return
            if turn_begun.repeated:
                begun.set_result(turn_begun)
                return
            generation_id = turn_begun.generation.id
            live = Live(turn_begun, self._settings, lambda: self._bus.publish(generation_id))
            self._live[live.id] = self._running_in[live.session_id] = live
            begun.set_result(turn_begun)
            try:
                await self._finish(live, await self._relay(live, turn, key, turn_begun))
            finally:
                del self._live[live.id], self._running_in[live.session_id]
                if not live.settled.done():
                    live.end(None, ChatError())  # nobody waits for ever
        finally:
            self._slots.give_back(turn.owner)

    async def _relay(self, live: Live, turn: Turn, key: Key, begun: Begun) -> Ending:
        """Write what the upstream says to the log until it ends, or is ended."""
        task = asyncio.current_task()
        assert task is not None
        live.task = task
        try:
            body = await self._request_body(turn, begun)
            async with self._upstream.stream(key, body) as answer:
                async for deltas in answer:
                    first = live.hear(answer, deltas, self._clock)
                    if deltas:
                        self._store.touch(live, urgent=first)
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
            log.exception("unforeseen error", generation_id=live.id)
            return live.failure(ChatError())
        finally:
            live.task = None

    async def _hold_back(self, live: Live) -> None:
        """Bound what an answer may hold: the whole of it, and what of it is not stored yet."""
        if live.log.position > self._settings.max_answer_bytes:
            raise AnswerTooLarge
        if live.log.position - live.log.committed > UNCOMMITTED_BYTES:
            await self._store.flush()

    async def _request_body(self, turn: Turn, begun: Begun) -> bytes:
        """What the upstream is asked: the developer message, what was said, and the new message."""
        said = await self._store.context(begun.parent) if begun.parent is not None else []
        messages = [{"role": role.value, "content": text} for role, text in said]
        messages.append({"role": Role.USER.value, "content": turn.user_message})
        if developer_message := begun.session.developer_message:
            messages.insert(0, {"role": self._settings.developer_role, "content": developer_message})
        body = msgspec.json.encode(
            {
                "model": turn.model,
                "messages": messages,
                "stream": True,
                "stream_options": {"include_usage": True},
                **turn.parameters,
            }
        )
        if len(body) > self._settings.max_context_bytes:
            raise ContextTooLarge
        return body

    async def _finish(self, live: Live, ending: Ending) -> None:
        """Store the whole answer and how it ended; only then do the readers see its end."""
        generation = None
        while generation is None:
            try:
                generation = await self._store.finish(live, ending, live.log.parts(), live.first_token_at)
            except Fenced:
                live.end(None, await self._why_fenced(live))
                return
            except StoreUnavailable as error:
                live.end(None, error)  # the readers are told now; the ending is stored as soon as it can be
                if self.draining:
                    return  # the next start closes it
                await asyncio.sleep(STORE_RETRY_SECONDS)
        if live.error is None:
            live.end(generation)
        _log_end(generation)

    async def _why_fenced(self, live: Live) -> ChatError:
        stored = await self._store.read_log(live.id, live.log.position)
        return SessionDeleted() if stored is None else Interrupted()

    # Follow

    async def follow(self, generation_id: str, position: int = 0) -> AsyncGenerator[Reading]:
        """Yield what was committed past `position`, then what is committed next, until the log ends.

        A reading without pieces comes about every `POLL_SECONDS` of silence: time for a heartbeat.

        Raises:
            ChatError: the log cannot come to its end.
        """
        live = self._live.get(generation_id)
        with self._bus.subscribe(generation_id) as wake:
            while True:
                wake.clear()  # before reading: a wake-up between read and wait must not be lost
                reading = live.read(position) if live else await self._read_stored(generation_id, position)
                yield reading
                if reading.ended:
                    return
                position = reading.position
                await wake.wait()

    async def read(self, generation_id: str, position: int = 0) -> Reading:
        """What is committed past `position` now."""
        live = self._live.get(generation_id)
        return live.read(position) if live else await self._read_stored(generation_id, position)

    async def _read_stored(self, generation_id: str, position: int) -> Reading:
        stored = await self._store.read_log(generation_id, position)
        if stored is None:
            raise SessionNotFound
        end = stored.pieces[-1].position if stored.pieces else position
        ended = None if stored.generation.status is Status.RUNNING else stored.generation
        return Reading(stored.pieces, end, ended)

    # End

    async def stop(self, generation_id: str) -> Reading:
        """End a generation and return all of its log; one that has ended already is left as it is.

        When this returns, the upstream's connection is closed and what was kept is stored.
        """
        if live := self._live.get(generation_id):
            await self._cancel(live, Verdict.STOPPED)
        return await self.read(generation_id)

    def abandon(self, generation_id: str) -> None:
        """Stop a generation whose only reader has left, without waiting."""
        if live := self._live.get(generation_id):
            live.cancel(Verdict.STOPPED)

    async def delete_session(self, session_id: str, permit: Permit) -> None:
        """Remove a session, and end what runs in it; nothing of it comes back."""
        await self._store.delete_session(session_id, permit)
        if live := self._running_in.get(session_id):
            await self._cancel(live, Verdict.DELETED)

    def refuse_new(self) -> None:
        """Begin nothing more: this server is about to end."""
        self.draining = True

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Begin nothing more, let what runs go on for so long or until `hurry`, and interrupt the rest, stored."""
        self.refuse_new()
        if self._tasks and seconds > 0:
            hurried = asyncio.create_task(hurry.wait(), name="drain-hurry")
            ended = asyncio.create_task(self._all_ended(), name="drain-ended")
            await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            ended.cancel()
        while self._tasks:  # again: one that was still beginning is running by now
            for live in list(self._live.values()):
                live.cancel(Verdict.INTERRUPTED)
            await asyncio.wait(self._tasks, timeout=DRAIN_STEP_SECONDS)

    async def _all_ended(self) -> None:
        await asyncio.wait(self._tasks)

    async def _cancel(self, live: Live, verdict: Verdict) -> None:
        """End it, and return when that is stored, or cannot be."""
        live.cancel(verdict)
        await asyncio.shield(live.settled)

    # Keep house

    async def open(self) -> None:
        """Begin to keep house: timers, leases, and what others left running."""
        self._housekeeper = asyncio.create_task(self._keep_house(), name="housekeeper")

    async def close(self) -> None:
        """Interrupt what still runs, and stop keeping house."""
        await self.drain(0, asyncio.Event())
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.wait([self._housekeeper])

    async def _keep_house(self) -> None:
        """Check every timer and wake every reader now and then; renew our leases, then close those that lapsed."""
        loop = asyncio.get_running_loop()
        tick = min(POLL_SECONDS, self._settings.first_token_seconds / 4, self._settings.idle_seconds / 4)
        poll_at = renew_at = loop.time()
        while True:
            await asyncio.sleep(tick)
            for live in list(self._live.values()):
                live.check()
            if loop.time() >= poll_at:
                poll_at = loop.time() + POLL_SECONDS
                self._bus.wake_all()
            if loop.time() >= renew_at:
                renew_at = loop.time() + RENEW_SECONDS
                await self._renew_and_sweep()

    async def _renew_and_sweep(self) -> None:
        try:
            if self._live:
                await self._store.renew(list(self._live))  # first: a process that was asleep must not sweep its own
            while closed := await self._store.sweep():
                for generation in closed:
                    self._bus.publish(generation.id)
                    _log_end(generation)
        except StoreUnavailable as error:
            log.warning("leases not renewed", code=error.code)


def _raise_refusal(generation: Generation, cause: ChatError | None = None) -> None:
    """Raise the error of a generation that failed before it said anything: its caller gets a real status."""
    if generation.status is Status.FAILED and not generation.length:
        error = cause or from_code(generation.error_code, generation.error_detail)
        error.headers |= {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
        raise error


def _log_end(generation: Generation) -> None:
    """One line for each generation; never what was said."""
    assert generation.ended_at is not None
    first = generation.first_token_at
    usage = generation.usage
    log.info(
        "generation",
        generation_id=generation.id,
        session_id=generation.session_id,
        model=generation.model,
        status=generation.status.value,
        error=generation.error_code,
        bytes=generation.length,
        input_tokens=usage and usage.input_tokens,
        output_tokens=usage and usage.output_tokens,
        first_token_ms=(first - generation.created_at) // 1000 if first else None,
        duration_ms=(generation.ended_at - generation.created_at) // 1000,
    )
