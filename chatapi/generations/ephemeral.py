"""An answer that is not stored: the log, timers and readers of a stored one, and nothing in the database.

Its text counts as committed when it is written, and its log is gone with its last reader. So a reader that leaves
ends it: nothing of it can be read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from chatapi.auth.credentials import Credential
from chatapi.errors import ChatError
from chatapi.generations.context import ContextPlan, send_fitting
from chatapi.generations.running import CancelReason, RunningGeneration
from chatapi.generations.spans import traced_call
from chatapi.metrics import Metrics
from chatapi.model import Clock, Generation, LeftOut, Outcome, Status, TurnRequest, new_id
from chatapi.settings import Settings
from chatapi.upstream.answer import Answer
from chatapi.upstream.api import ModelAPI
from chatapi.upstream.provider import Deltas
from chatapi.upstream.request import ModelRequest

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Tracing

logger = structlog.get_logger()


class EphemeralGeneration(RunningGeneration):
    """A running generation that is in no session and in no store."""

    def __init__(self, turn: TurnRequest, settings: Settings, clock: Clock, wake: Callable[[str], None]) -> None:
        generation = Generation(new_id("gen"), "", new_id("msg"), Status.RUNNING, turn.model, turn.dialect, clock())
        super().__init__(generation, settings, lambda: wake(generation.id))
        self.generation = generation
        self._clock = clock

    def cancel(self, reason: CancelReason) -> None:
        """End it now, for this reason; also before its task has begun."""
        if self.task is not None:
            super().cancel(reason)
        elif self.cancel_reason is None:
            self.cancel_reason = reason

    async def produce(
        self, upstream: ModelAPI, plan: ContextPlan, credential: Credential, tracing: Tracing | None
    ) -> Outcome:
        """Read the upstream's answer into the log until it ends, or is ended."""
        task = asyncio.current_task()
        assert task is not None
        if self.cancel_reason is not None:
            return self.outcome()
        self.task = task
        try:

            async def send(request: ModelRequest) -> None:
                async with traced_call(tracing, self, request.model):
                    await upstream.deliver(request, credential, self._append, room_is_unlimited)

            await send_fitting(plan, send, self._note)
            return self.outcome()
        except asyncio.CancelledError:
            if self.cancel_reason is None:
                raise
            task.uncancel()
            self.append_held(self._clock)
            return self.outcome()
        except ChatError as error:
            return self.failure(error)
        except Exception:  # whatever happens, the answer ends and its reader sees an end
            logger.exception("unexpected error", generation_id=self.id)
            return self.failure(ChatError())
        finally:
            self.task = None

    async def _note(self, left_out: LeftOut) -> None:
        self.generation = replace(self.generation, left_out=left_out)

    def _append(self, answer: Answer, deltas: Deltas) -> bool:
        """Append content to the log, for its reader to see at once.

        Raises:
            AnswerTooLarge: the answer is larger than this server stores.
        """
        self.append_deltas(answer, deltas, self._clock)
        self.check_size()
        self.log.uncommitted()
        self.committed(self.log.position)
        return True

    def finish(self, outcome: Outcome, metrics: Metrics) -> None:
        """Count the answer and end the log: its readers see how the answer ended."""
        ended = replace(
            self.generation,
            status=outcome.status,
            first_token_at=self.first_token_at,
            ended_at=self._clock(),
            length=self.log.position,
            finish_reason=outcome.finish_reason,
            usage=outcome.usage,
            error_code=outcome.error_code,
            error_detail=outcome.error_detail,
        )
        metrics.answer_ended(ended, self.longest_gap)
        self.end(ended)


async def room_is_unlimited() -> None:
    """Do nothing: `_append` always has room."""
