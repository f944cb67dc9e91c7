"""Generations: begin them, run them, follow them, stop them, and leave none behind.

A generation is a task that appends what the upstream says to a log. A reader reads the log from a position. Neither
knows the other: a reader that leaves stops nothing, and a reader that comes back is a reader like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass

import msgspec
import structlog

from chatapi.bus import LocalBus
from chatapi.context import for_upstream
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
from chatapi.housekeeper import Housekeeper, log_end
from chatapi.keys import Key
from chatapi.limits import Slots
from chatapi.live import Live, Reading, Verdict
from chatapi.log import first_of
from chatapi.model import Clock, Ending, Generation, Permit, Session, Status, Turn
from chatapi.protocol import write_messages
from chatapi.settings import Settings
from chatapi.store import Begun, Fenced, Store
from chatapi.upstream import Answer, Upstream

READ_BYTES = 64 * 1024  # given to a reader at once: what a slow one costs
STORED_READ_BYTES = 256 * 1024  # the same from the database, which reads the whole message for each
UNCOMMITTED_BYTES = 256 * 1024  # of one answer, before its upstream is made to wait for the store
STORE_RETRY_SECONDS = 1.0  # between attempts to store an ending while the store takes none
DRAIN_STEP_SECONDS = 0.1  # between looks at what is still beginning
INTERRUPT_ATTEMPTS = 3  # a send that interrupts gives way (409) when others keep beginning before it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sent:
    """A turn that was taken, and its log from the beginning. `answer` is None until the upstream has spoken."""

    session: Session
    generation: Generation
    readings: AsyncGenerator[Reading]
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
        self._relays: set[asyncio.Task[None]] = set()  # requests whose answers are passed on and not kept
        self._housekeeper = Housekeeper(store, bus, self._live, settings)
        self.draining = False

    def __len__(self) -> int:
        return len(self._live) + len(self._relays)

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

    async def _check_free(self, turn: Turn, permit: Permit) -> None:
        """Raise `SessionBusy` where that is known already: what interrupts needs no place beside the interrupted."""
        if running := self._running_in.get(turn.session_id or ""):
            permit(await self._store.find_session(running.session_id))
            raise SessionBusy(running.id)

    async def _begin(self, turn: Turn, key: Key, permit: Permit) -> Begun:
        """Start the task that runs the turn, and return when the turn is stored."""
        self._slots.take(turn.owner)
        begun: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(turn, key, permit, begun), name="generation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(begun)  # the caller may be cancelled, the turn is not

    async def _answered(self, begun: Begun) -> Sent:
        """Return when the turn's upstream has spoken, or has been silent for long; raise what it refused with."""
        live = await self._find_live(begun.generation)
        if live is None:  # a repeated send, whose answer does not run here
            generation = await self._store.find_generation(begun.generation.id) or begun.generation
            _raise_refusal(generation)
            return Sent(begun.session, generation, self.follow(generation.id), None, begun.repeated)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.status_seconds):
                await asyncio.shield(live.answered)
        if live.ended is not None:
            _raise_refusal(live.ended, live.cause)
        elif live.error is not None and not live.log.committed:
            raise live.error
        readings = self._follow(live, live.id, 0)
        return Sent(begun.session, begun.generation, readings, live.answer, begun.repeated)

    async def _find_live(self, generation: Generation) -> Live | None:
        """The generation as it runs here, if it does.

        What the database shows as running may have been committed a moment ago, and its task not know yet: by the time
        that a later commit is through, it does.
        """
        live = self._live.get(generation.id)
        if live is None and generation.status is Status.RUNNING:
            await self._store.flush()
            live = self._live.get(generation.id)
        return live

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """A place among the running answers for one that is passed on and not kept. A drain cancels its task.

        Raises:
            TooManyGenerations, Unavailable: there is none now.
        """
        if self.draining:
            raise Draining
        task = asyncio.current_task()
        assert task is not None
        self._slots.take(owner)
        self._relays.add(task)
        try:
            yield
        finally:
            self._relays.discard(task)
            self._slots.give_back(owner)

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
            async with self._upstream.stream(key, body) as answer, aclosing(answer.read()) as reads:
                async for deltas in reads:
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
        """What the upstream is asked: the developer message, what was said, and the new messages."""
        most_bytes = self._settings.max_context_bytes
        said = await self._store.context(begun.parent, most_bytes) if begun.parent is not None else []
        messages = write_messages(for_upstream([*said, *turn.input]), self._settings.developer_role)
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
        if len(body) > most_bytes:
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
        log_end(generation)

    async def _why_fenced(self, live: Live) -> ChatError:
        try:
            return Interrupted() if await self._store.find_generation(live.id) else SessionDeleted()
        except StoreUnavailable as error:
            return error

    # Follow

    def follow(self, generation_id: str, position: int = 0) -> AsyncGenerator[Reading]:
        """Yield what was committed past `position`, then what is committed next, until the log ends.

        A reading without pieces comes about every `POLL_SECONDS` of silence: time for a heartbeat.

        Raises:
            ChatError: the log cannot come to its end.
        """
        return self._follow(self._live.get(generation_id), generation_id, position)

    async def _follow(self, live: Live | None, generation_id: str, position: int) -> AsyncGenerator[Reading]:
        if live is not None and (reading := live.read(position, READ_BYTES)).ended:
            yield reading  # all of it: there is nothing to wait for
            return
        with self._bus.subscribe(generation_id) as wake:
            while True:
                wake.clear()  # before reading: a wake-up between read and wait must not be lost
                live = live or self._live.get(generation_id)
                if live is None:
                    reading = await self._read_stored(generation_id, position, STORED_READ_BYTES)
                else:
                    reading = live.read(position, READ_BYTES)
                yield reading
                if reading.ended:
                    return
                position = reading.position
                if live.is_quiet(position) if live else not reading.pieces:
                    await wake.wait()

    async def read(self, generation_id: str, position: int = 0) -> Reading:
        """All that is committed past `position` now."""
        live = self._live.get(generation_id)
        return live.read(position) if live else await self._read_stored(generation_id, position)

    async def _read_stored(self, generation_id: str, position: int, most_bytes: int | None = None) -> Reading:
        stored = await self._store.read_log(generation_id, position)
        if stored is None:
            raise SessionNotFound
        pieces = stored.pieces if most_bytes is None else first_of(stored.pieces, most_bytes)
        end = pieces[-1].position if pieces else position
        whole = stored.generation.length is not None and end >= stored.generation.length
        return Reading(pieces, end, stored.generation if whole else None)

    # End

    async def stop(self, generation_id: str) -> Reading:
        """End a generation and return all of its log; one that has ended already is left as it is.

        When this returns, the upstream's connection is closed and what was kept is stored.
        """
        generation = await self._store.find_generation(generation_id)
        if generation and (live := await self._find_live(generation)):
            await self._cancel(live, Verdict.STOPPED)
            if live.error is not None:
                raise live.error
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
        if (self._tasks or self._relays) and seconds > 0:
            hurried = asyncio.create_task(hurry.wait(), name="drain-hurry")
            ended = asyncio.create_task(self._all_ended(), name="drain-ended")
            await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            ended.cancel()
        while self._tasks:  # again: one that was still beginning is running by now
            for live in list(self._live.values()):
                live.cancel(Verdict.INTERRUPTED)
            await asyncio.wait(self._tasks, timeout=DRAIN_STEP_SECONDS)
        for relay in self._relays:
            relay.cancel()

    async def _all_ended(self) -> None:
        await asyncio.wait(self._tasks | self._relays)

    async def _cancel(self, live: Live, verdict: Verdict) -> None:
        """End it, and return when that is stored, or cannot be."""
        live.cancel(verdict)
        await asyncio.shield(live.settled)

    # Open and close

    async def open(self) -> None:
        """Begin to look after what runs."""
        self._housekeeper.open()

    async def close(self) -> None:
        """Interrupt what still runs, and look after nothing more."""
        await self.drain(0, asyncio.Event())
        await self._housekeeper.close()


def _raise_refusal(generation: Generation, cause: ChatError | None = None) -> None:
    """Raise the error of a generation that failed before it said anything: its caller gets a real status."""
    if generation.status in {Status.FAILED, Status.INTERRUPTED} and not generation.length:
        error = cause or from_code(generation.error_code, generation.error_detail)
        error.headers |= {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
        raise error
