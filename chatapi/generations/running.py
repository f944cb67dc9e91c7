"""Generations while they run in this process: log, timers, and why one is ended early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from chatapi.errors import AnswerTooLarge, ChatError, Interrupted, StoreUnavailable, UpstreamTimeout, from_code
from chatapi.model import Generation, LeftOut, Microseconds, Outcome, Piece, Status, Usage
from chatapi.model.log import Log
from chatapi.settings import Settings
from chatapi.store import Fenced
from chatapi.upstream.answer import Answer
from chatapi.upstream.metadata import UPSTREAM_NAME, ResponseMetadata
from chatapi.upstream.provider import Deltas

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Span

MAX_PARTS = 4096  # of an answer; each costs its readers some kilobytes in some dialects
AFTER_FINISH_SECONDS = 5.0  # for the usage to follow the finish reason


class CancelReason(Enum):
    """Why a generation is ended before its upstream has ended it."""

    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed out"
    REFUSED = "refused"  # by the store, which takes no more text
    DELETED = "deleted"  # or no longer ours


class LogChunk(NamedTuple):
    """Pieces of a log that a reader gets at once, and the position at which they end.

    `ended` is the generation if that was the end of its log. `more`: more can be read at once.
    """

    pieces: list[Piece]
    position: int
    ended: Generation | None
    more: bool = False


class RunningGeneration:
    """One running generation. Its runner's task owns it; readers only look.

    It has one future for each fact that others wait for: `responded` (the upstream has responded: with content that is
    stored, with an event without content, or with a refusal) and `finished` (its outcome is stored, or cannot be).
    """

    def __init__(self, generation: Generation, settings: Settings, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.id = generation.id
        self.session_id = generation.session_id
        self.log = Log()
        self.ended: Generation | None = None
        self.error: ChatError | None = None  # raised to readers when the log cannot come to its end
        self.cause: ChatError | None = None  # the error that failed it, as it was raised
        self.responded: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self.answer: Answer | None = None
        self.first_token_at: Microseconds | None = None
        self.longest_gap = 0.0  # between two pieces of content, in seconds
        self.cancel_reason: CancelReason | None = None
        self.is_interrupted = False  # by a turn that is to follow it, before those in the session's queue
        self.left_out: LeftOut | None = None  # of the request
        self.span: Span | None = None  # if traces are on
        self.was_sent = False  # the upstream was asked, so that it may cost something
        self.task: asyncio.Task[object] | None = None  # to cancel; None once the outcome is being stored
        self._idle_seconds = settings.idle_seconds  # settings cost as much as a method call to read
        self._max_answer_bytes = settings.max_answer_bytes
        self._time = loop.time
        self._wake = wake
        self._total_deadline = loop.time() + settings.total_seconds
        self._after_finish_deadline: float | None = None
        self._content_deadline = loop.time() + settings.first_token_seconds

    @property
    def metadata(self) -> ResponseMetadata | None:
        """The head of the upstream's response, once it has come."""
        return self.answer.metadata if self.answer is not None else None

    @property
    def upstream_name(self) -> str | None:
        """The name of the upstream that answered, of several; also if it failed."""
        headers = self.metadata.headers if self.metadata is not None else self.cause.headers if self.cause else {}
        return headers.get(UPSTREAM_NAME)

    # For its runner

    def append_deltas(self, answer: Answer, deltas: Deltas, now: Callable[[], Microseconds]) -> bool:
        """Append deltas to the log and move the timers. Return whether they are the first content."""
        self.answer = answer
        if not deltas:
            _resolve(self.responded)  # otherwise when the first text is stored: status and text are then one write
        for kind, text, call in deltas:
            self.log.write(kind, text, call)
        if answer.parser.finish_reason is not None and answer.is_complete:
            if self._after_finish_deadline is None:
                self._after_finish_deadline = self._time() + AFTER_FINISH_SECONDS
        elif deltas:
            self._after_finish_deadline = None  # the finish reason was not final
            deadline = self._time() + self._idle_seconds
            if self.first_token_at is not None and deadline - self._content_deadline > self.longest_gap:
                self.longest_gap = deadline - self._content_deadline
            self._content_deadline = deadline
        if not deltas or self.first_token_at is not None:
            return False
        self.first_token_at = now()
        return True

    def append_held(self, now: Callable[[], Microseconds]) -> None:
        """Append the content that the answer held when it was ended early."""
        if self.answer is not None and (held := self.answer.conclude()):
            self.append_deltas(self.answer, held, now)

    def outcome(self) -> Outcome:
        """Return how it ends if the cancel reason, or nothing, ended it."""
        self.log.release()
        usage = self.usage()
        if self.answer is not None and self.answer.is_complete:
            return Outcome(Status.COMPLETED, self.answer.finish_reason, usage)
        match self.cancel_reason:
            case None:
                finish_reason = self.answer.finish_reason if self.answer is not None else None
                return Outcome(Status.COMPLETED, finish_reason, usage)
            case CancelReason.STOPPED | CancelReason.DELETED:
                return Outcome(Status.STOPPED, None, usage)
            case CancelReason.INTERRUPTED:
                return Outcome(Status.INTERRUPTED, None, usage, Interrupted.code, Interrupted.message)
            case CancelReason.REFUSED:
                return self.failure(StoreUnavailable())
        return self.failure(UpstreamTimeout())

    def failure(self, error: ChatError) -> Outcome:
        """Return how it ends if this error ended it."""
        self.log.release()
        self.cause = error
        return Outcome(Status.FAILED, None, self.usage(), error.code, error.detail)

    def usage(self) -> Usage | None:
        """Return the tokens spent so far, if the upstream has responded."""
        return self.answer.spent if self.answer is not None else None

    def end(self, generation: Generation | None, error: ChatError | None = None) -> None:
        """Let the readers see the end of the log, or the error because of which it has none."""
        if generation is not None:
            self.log.cut()
            self.log.committed = self.log.position
        self.ended, self.error = generation, error
        _resolve(self.responded)
        _resolve(self.finished)
        self._wake()

    # For readers and others

    def read(self, position: int, most_bytes: int | None = None, by_cut: bool = False) -> LogChunk:
        """Return the committed pieces past `position`; of many, about the first `most_bytes`.

        Raises:
            ChatError: the log cannot come to its end, and all of it was read.
        """
        pieces = self.log.read(position, most_bytes, by_cut=by_cut)
        if pieces:
            position = pieces[-1].position
        elif self.error is not None:
            raise from_code(self.error.code, self.error.detail)  # a fresh one for each reader
        more = position < self.log.committed
        return LogChunk(pieces, position, None if more else self.ended, more or self.error is not None)

    def check_size(self) -> None:
        """Raise AnswerTooLarge if the answer has more bytes, or more parts, than this server stores."""
        if self.log.position > self._max_answer_bytes or self.log.part_count > MAX_PARTS:
            raise AnswerTooLarge

    def cancel(self, reason: CancelReason) -> None:
        """End it now, for this reason; without effect once its outcome is being stored."""
        if self.task is not None and self.cancel_reason is None:
            self.cancel_reason = reason
            self.task.cancel()

    def check(self) -> None:
        """End it if one of its timers has run out."""
        deadline = min(self._content_deadline, self._total_deadline)
        if self._after_finish_deadline is not None:
            deadline = min(deadline, self._after_finish_deadline)
        if self._time() > deadline:
            self.cancel(CancelReason.TIMED_OUT)

    def committed(self, position: int) -> None:
        """The store has the log up to here (see `store.group_commit.LogWriter`)."""
        log = self.log
        log.committed = max(log.committed, position)
        if not self.responded.done():
            self.responded.set_result(None)
        self._wake()

    def refused(self, error: Exception) -> None:
        """The store takes no more of it (see `store.group_commit.LogWriter`)."""
        self.cancel(CancelReason.DELETED if isinstance(error, Fenced) else CancelReason.REFUSED)


class RunningGenerations(Mapping[str, RunningGeneration]):
    """The generations that run in this process, by id and by session. A session has at most one."""

    def __init__(self) -> None:
        self._by_id: dict[str, RunningGeneration] = {}
        self._by_session: dict[str, RunningGeneration] = {}
        self._starting: set[asyncio.Future[Any]] = set()

    def __getitem__(self, generation_id: str) -> RunningGeneration:
        return self._by_id[generation_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def in_session(self, session_id: str) -> RunningGeneration | None:
        """Return the generation that runs in this session here, if one does."""
        return self._by_session.get(session_id)

    def add(self, running: RunningGeneration) -> None:
        """Add one that begins to run."""
        self._by_id[running.id] = self._by_session[running.session_id] = running

    def remove(self, running: RunningGeneration) -> None:
        """Remove one that has ended; the next one of its session may be here already."""
        del self._by_id[running.id]
        if self._by_session[running.session_id] is running:
            del self._by_session[running.session_id]

    def add_starting(self, started: asyncio.Future[Any]) -> None:
        """Add a turn that may be stored already while its generation is not here yet; its future removes it."""
        self._starting.add(started)
        started.add_done_callback(self._starting.discard)

    async def find_started(self, generation_id: str) -> RunningGeneration | None:
        """Return the generation once every turn that is starting has started, if it runs here."""
        running = self._by_id.get(generation_id)
        if running is None and self._starting:
            await asyncio.wait(list(self._starting))
        return self._by_id.get(generation_id)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
