"""Middleware, plain ASGI: what every request gets, and nothing for each piece of text."""

from __future__ import annotations

import re
import time
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatapi.api.http.error_responses import render_for
from chatapi.api.http.streaming import ABORTED, RAW_SEND
from chatapi.auth.keys import KeyPolicy
from chatapi.errors import ChatError
from chatapi.model import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")  # one that a caller may choose, unless it looks like a key
_UNCACHED = (b"cache-control", b"no-store")  # an answer is its caller's; X-API-Key does not keep a cache away by itself
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]

logger = structlog.get_logger()


class Boundary:
    """Gives each request an id, and its one line in the log.

    It keeps the server's own `send` in the scope: a streamed body goes there without passing anything in between.
    """

    def __init__(self, app: ASGIApp, key_policy: KeyPolicy) -> None:
        self.app = app
        self._key_policy = key_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0
        asked = Headers(scope=scope).get("x-request-id", "")
        chosen = _REQUEST_ID.fullmatch(asked) and self._key_policy.redact(asked) == asked
        request_id = asked if chosen else new_id("req")
        added = [*_SAFE, (b"x-request-id", request_id.encode())]

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append(_UNCACHED)
                message = {**message, "headers": headers + added}
            await send(message)

        scope[RAW_SEND] = send
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            logger.info(
                "request",
                method=scope["method"],
                path=_printable(self._key_policy.redact(scope["path"])[:200]),
                status=status,
                aborted=scope.get(ABORTED, False),
                duration_ms=round((time.perf_counter() - begun) * 1000, 1),
            )


def _printable(text: str) -> str:
    """`text` without what a terminal would obey."""
    return "".join([character if character.isprintable() else "\ufffd" for character in text])


class LastResort:
    """The one place where an error that nobody foresaw ends: it is logged, and the caller gets a 500 or a cut."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            if scope["type"] != "http":
                raise
            logger.exception("unforeseen error")
            if started:
                scope[ABORTED] = True
            else:
                response = render_for(scope["path"], ChatError())
                assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
                await response(scope, receive, send)
