"""Stateless completions: the upstream's answer passed on, frame for frame, and not stored.

Nothing of it can be read again, so a client that leaves ends it: the upstream's connection is closed.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.identity import mark_accepted
from chatapi.api.http.services import Services
from chatapi.api.http.streaming import ABORTED, RAW_SEND, stream_headers
from chatapi.api.http.supervision import StreamSupervisor
from chatapi.api.openai.errors import openai_error
from chatapi.auth.credentials import Credential
from chatapi.errors import ChatError
from chatapi.model import Limit
from chatapi.upstream.passthrough import Passthrough
from chatapi.wire import sse


class StreamPassthrough(Response):
    """A streamed completion. Its status waits for the upstream's, but at most `status_seconds`."""

    def __init__(
        self,
        services: Services,
        model: str,
        credential: Credential,
        owner: str,
        body: bytes,
        limit: Limit | None,
        choices: int,
    ) -> None:
        self._services, self._model, self._credential, self._owner = services, model, credential, owner
        self._body, self._limit = body, limit
        self._choices = choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upstream = self._services.upstream
        async with self._services.generations.admission.reserve_slot(self._owner):
            opening = asyncio.create_task(
                upstream.passthrough(self._model, self._credential, self._body, self._choices),
                name="passthrough-opening",
            )
            try:
                await self._pass_on(opening, scope, receive, send)
            finally:
                opening.cancel()
                if opening.done() and not opening.cancelled() and opening.exception() is None:
                    upstream.release(opening.result())

    async def _pass_on(self, opening: asyncio.Task[Passthrough], scope: Scope, receive: Receive, send: Send) -> None:
        write: Send = scope.get(RAW_SEND, send)
        started = writing = False

        async def send_body(data: bytes, more: bool = True) -> None:
            await write({"type": "http.response.body", "body": data, "more_body": more})

        async def send_heartbeat() -> None:
            if started and not writing:
                await send_body(sse.HEARTBEAT)

        settings = self._services.settings
        last = b""
        try:
            with StreamSupervisor(settings, receive, send_heartbeat) as supervisor:
                await asyncio.wait({opening}, timeout=settings.status_seconds)
                headers = self._stream_headers(opening.result() if opening.done() else None)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                started = True
                answer = await opening
                mark_accepted(HTTPConnection(scope), answer.metadata)
                async for frames in answer.read():
                    supervisor.on_data()
                    writing = True
                    await send_body(frames)
                    writing = False
            if supervisor.client_left:
                return
        except ChatError as error:
            if not started:
                raise
            if writing:  # the client does not read: it would not read the error either, so the connection is cut
                scope[ABORTED] = True
                return
            last = b"data: %b\n\n" % msgspec.json.encode(openai_error(error))
        await send_body(last, more=False)

    def _stream_headers(self, answer: Passthrough | None) -> list[tuple[bytes, bytes]]:
        metadata = answer.metadata if answer is not None else None
        headers = dict(metadata.headers) if metadata is not None else {}
        headers |= limit_headers(self._limit, metadata.limit if metadata is not None else None)
        return stream_headers(sse.MEDIA_TYPE, headers)
