"""A response that is not kept (`store: false`): the upstream's answer, read into a log in memory and told as events.

Nothing of it is ever in the store, so nothing is found afterwards, also after a crash: not its text, and not its id. As
nobody can come back for it, a client that leaves ends it. What it goes on from is read, and stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.services import Services
from chatapi.api.http.streaming import RAW_SEND
from chatapi.api.openai.completions.passthrough import Watch
from chatapi.api.openai.responses.stream import ResponsesEncoder, whole_response
from chatapi.auth.keys import Key
from chatapi.errors import AnswerTooLarge, ChatError
from chatapi.model import Generation, Limit, Status, TurnRequest, new_id, wall_clock
from chatapi.model.log import Log
from chatapi.upstream.client import Answer


class _Passing(Response):
    """What both have in common."""

    def __init__(
        self, core: Services, key: Key, turn: TurnRequest, body: bytes, echo: dict[str, Any], limit: Limit | None
    ) -> None:
        self._core, self._key, self._turn, self._body, self._echo, self._limit = core, key, turn, body, echo, limit
        self._log = Log()
        self._generation = Generation(
            new_id("gen"), "", new_id("msg"), Status.RUNNING, turn.model, turn.dialect, wall_clock()
        )

    async def _read(self, answer: Answer, watch: Watch) -> AsyncGenerator[None]:
        """Write what the upstream says to the log; each step is one network read of it."""
        async with aclosing(answer.read()) as reads:
            async for deltas in reads:
                for kind, text, call in deltas:
                    self._log.write(kind, text, call)
                if self._log.position > self._core.settings.max_answer_bytes:
                    raise AnswerTooLarge
                self._log.committed = self._log.position  # there is no store to wait for
                if deltas:
                    watch.heard()
                yield

    def _ended(self, answer: Answer) -> Generation:
        return replace(
            self._generation,
            status=Status.COMPLETED,
            ended_at=wall_clock(),
            length=self._log.position,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
        )

    def _failed(self, error: ChatError) -> Generation:
        return replace(
            self._generation,
            status=Status.FAILED,
            ended_at=wall_clock(),
            length=self._log.position,
            error_code=error.code,
            error_detail=error.detail,
        )

    def _told_headers(self, answer: Answer | None) -> dict[str, str]:
        headers = dict(answer.headers) if answer is not None else {}
        return headers | limit_headers(self._limit, answer.limit if answer is not None else None)


class PassingWhole(_Passing):
    """The response in one piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        core = self._core
        async with core.generations.place(self._turn.owner):
            watch = Watch(core, receive, None)
            try:
                async with core.upstream.stream(self._key, self._body) as answer:
                    async for _ in self._read(answer, watch):
                        pass
            except asyncio.CancelledError:
                error = watch.why()
                if error is None:
                    return
                raise error from None
            finally:
                watch.end()
            whole = whole_response(self._ended(answer), self._echo, self._log.parts())
            await JSONResponse(whole, headers=self._told_headers(answer))(scope, receive, send)


class EphemeralStream(_Passing):
    """The response's events. The status waits for the upstream's, but not for ever."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        core = self._core
        async with core.generations.place(self._turn.owner), AsyncExitStack() as stack:
            opening = asyncio.create_task(
                stack.enter_async_context(core.upstream.stream(self._key, self._body)), name="response-opening"
            )
            try:
                await self._pass_on(opening, scope, receive, send)
            finally:
                opening.cancel()
                await asyncio.wait({opening})

    async def _pass_on(self, opening: asyncio.Task[Answer], scope: Scope, receive: Receive, send: Send) -> None:
        write: Send = scope.get(RAW_SEND, send)
        encoder = ResponsesEncoder(self._generation, self._echo)
        started = False

        async def put(chunk: bytes) -> None:
            await write({"type": "http.response.body", "body": chunk, "more_body": True})

        async def beat() -> None:
            if started:
                await put(encoder.quiet())

        watch = Watch(self._core, receive, lambda: asyncio.create_task(beat(), name="response-heartbeat"))
        try:
            try:
                await asyncio.wait({opening}, timeout=self._core.settings.status_seconds)
                headers = self._told_headers(opening.result() if opening.done() else None)
                await send({"type": "http.response.start", "status": 200, "headers": _head(headers)})
                started = True
                await put(encoder.begin())
                answer = await asyncio.shield(opening)
                position = 0
                async with aclosing(self._read(answer, watch)) as reads:
                    async for _ in reads:
                        pieces = self._log.read(position)
                        position = self._log.committed
                        for chunk in encoder.pieces(pieces):
                            await put(chunk)
                last = encoder.end(self._ended(answer))
            except asyncio.CancelledError:
                error = watch.why()
                if error is None:
                    return
                raise error from None
        except ChatError as error:
            if not started:
                raise
            last = encoder.end(self._failed(error))
        finally:
            watch.end()
        await write({"type": "http.response.body", "body": last, "more_body": False})


def _head(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    headers |= {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
    }
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
