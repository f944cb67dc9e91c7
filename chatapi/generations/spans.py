"""The span of a call of the model API, for answers of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from chatapi.errors import ChatError
from chatapi.generations.running import RunningGeneration
from chatapi.tracing import describe_call

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Span, Tracing


def traced_call(tracing: Tracing | None, running: RunningGeneration, model: str) -> AbstractAsyncContextManager[None]:
    """Trace the block as the call of the model API for an answer, if traces are on. A stop is not a failure of it."""
    if tracing is None or running.span is None:
        return _UNTRACED
    return _trace(tracing.begin_call(f"chat {model}", running.span), running, model)


_UNTRACED: AbstractAsyncContextManager[None] = nullcontext()


@asynccontextmanager
async def _trace(span: Span, running: RunningGeneration, model: str) -> AsyncIterator[None]:
    code = None
    try:
        yield
    except ChatError as error:
        code = error.code
        raise
    finally:
        finish_reason = running.answer.finish_reason if running.answer is not None else None
        attributes = describe_call(model, running.upstream_name, finish_reason, running.usage(), code)
        span.end(f"chat {model}", attributes)
