"""A generation while it runs in this process: its log, its timers, and the verdict that ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from chatapi.errors import ChatError, Interrupted, StoreUnavailable, UpstreamTimeout, from_code
from chatapi.model import Generation, Microseconds, Outcome, Piece, Status, Usage
from chatapi.model.log import Log
from chatapi.settings import Settings
from chatapi.store import Fenced
from chatapi.upstream.client import Answer, Deltas

AFTER_FINISH_SECONDS = 5.0  # for the usage to follow the finish reason; the answer is whole by then


class CancelReason(Enum):
    """Why a generation is ended before its upstream has."""

    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed out"
    REFUSED = "refused"  # by the store, which takes no more text
    DELETED = "deleted"  # or no longer ours


class LogChunk(NamedTuple):
    """What a reader is given at once: pieces, where they end, and the generation when that was the end of the log.

    `more`: there is more that can be read at once.
    """

    pieces: list[Piece]
    position: int
    ended: Generation | None
    more: bool = False


class RunningGeneration:
    """One running generation. The task that runs it owns it; readers only look."""

    def __init__(self, generation: Generation, settings: Settings, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.id = generation.id
        self.session_id = generation.session_id
        self.log = Log()
        self.ended: Generation | None = None
        self.error: ChatError | None = None  # what readers are told when the log cannot come to its end
        self.cause: ChatError | None = None  # what made it fail, as it was raised
        self.answered: asyncio.Future[None] = loop.create_future()  # the upstream has said something, or refused
        self.settled: asyncio.Future[None] = loop.create_future()  # its ending is stored, or cannot be
        self.answer: Answer | None = None
        self.first_token_at: Microseconds | None = None
        self.verdict: CancelReason | None = None
        self.task: asyncio.Task[object] | None = None  # to cancel; None once the answer is being stored
        self._settings = settings
        self._time = loop.time
        self._wake = wake
        self._must_end_by = loop.time() + settings.total_seconds
        self.deadline = loop.time() + settings.first_token_seconds

    # What the task does

    def hear(self, answer: Answer, deltas: Deltas, now: Callable[[], Microseconds]) -> bool:
        """Write what the upstream said to the log, and move the timer; whether that was the first content."""
        self.answer = answer
        if not deltas:
            _resolve(self.answered)  # else when the first text is stored: its status and its text are then one write
        for kind, text, call in deltas:
            self.log.write(kind, text, call)
        if answer.finish_reason is not None:
            self._must_end_by = min(self._must_end_by, self._time() + AFTER_FINISH_SECONDS)
        elif deltas:
            self.deadline = self._time() + self._settings.idle_seconds
        if not deltas or self.first_token_at is not None:
            return False
        self.first_token_at = now()
        return True

    def ending(self) -> Outcome:
        """How it ends when the verdict, or nothing, ended it."""
        usage = self.usage()
        if self.answer is not None and self.answer.finish_reason is not None:
            return Outcome(Status.COMPLETED, self.answer.finish_reason, usage)
        if self.verdict in {None, CancelReason.STOPPED, CancelReason.DELETED}:
            status = Status.COMPLETED if self.verdict is None else Status.STOPPED
            return Outcome(status, None, usage)
        if self.verdict is CancelReason.INTERRUPTED:
            return Outcome(Status.INTERRUPTED, None, usage, Interrupted.code, Interrupted.message)
        return self.failure(StoreUnavailable() if self.verdict is CancelReason.REFUSED else UpstreamTimeout())

    def failure(self, error: ChatError) -> Outcome:
        """How it ends when this error ended it."""
        self.cause = error
        return Outcome(Status.FAILED, None, self.usage(), error.code, error.detail)

    def usage(self) -> Usage | None:
        """The tokens spent: as the upstream counted them, or one for each delta where it was cut off before."""
        if self.answer is None:
            return None
        if self.answer.usage is None and self.answer.deltas:
            return Usage(None, self.answer.deltas, estimated=True)
        return self.answer.usage

    def end(self, generation: Generation | None, error: ChatError | None = None) -> None:
        """The log has come to its end, or cannot. Tell the readers."""
        if generation is not None:
            self.log.committed = self.log.position
        self.ended, self.error = generation, error
        _resolve(self.answered)
        _resolve(self.settled)
        self._wake()

    # What others do

    def read(self, position: int, most_bytes: int | None = None) -> LogChunk:
        """What is committed past `position`; of much, about the first `most_bytes`.

        Raises:
            ChatError: the log cannot come to its end, and all of it was read.
        """
        pieces = self.log.read(position, most_bytes)
        if pieces:
            position = pieces[-1].position
        elif self.error is not None:
            raise from_code(self.error.code, self.error.detail)  # a fresh one for each reader
        more = position < self.log.committed
        return LogChunk(pieces, position, None if more else self.ended, more or self.error is not None)

    def cancel(self, verdict: CancelReason) -> None:
        """End it now, for this reason; without effect once its answer is being stored."""
        if self.task is not None and self.verdict is None:
            self.verdict = verdict
            self.task.cancel()

    def check(self) -> None:
        """End it if one of its timers has run out."""
        if self._time() > min(self.deadline, self._must_end_by):
            self.cancel(CancelReason.TIMED_OUT)

    def committed(self, position: int) -> None:
        """The store has the log up to here (see `store.group_commit.LogWriter`)."""
        self.log.committed = max(self.log.committed, position)
        _resolve(self.answered)
        self._wake()

    def refused(self, error: Exception) -> None:
        """The store will not take more (see `store.group_commit.LogWriter`)."""
        self.cancel(CancelReason.DELETED if isinstance(error, Fenced) else CancelReason.REFUSED)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
