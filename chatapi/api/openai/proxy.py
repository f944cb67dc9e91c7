"""The rest of OpenAI's API: requests of an allow-list, passed on byte for byte in both directions.

No body is held whole: each piece is sent on before the next is read. Nothing is stored here, and nothing is sent
twice. Every other path under `/v1` is an error that lists those which exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import structlog
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.framework import ENDS_WITH_A_SLASH
from chatapi.api.http.identity import client_of, mark_accepted
from chatapi.api.http.services import Services, services_of
from chatapi.api.http.streaming import ABORTED, NO_BUFFERING, RAW_SEND, RENEW
from chatapi.api.http.supervision import StreamSupervisor
from chatapi.api.openai.common import require_key
from chatapi.api.openai.forward_paths import FAMILIES, methods_of
from chatapi.api.openai.schemas import FORWARD_DELETE, FORWARD_GET, FORWARD_POST
from chatapi.auth.credentials import Credential
from chatapi.errors import BodyTooLarge, ChatError, NotFound
from chatapi.model import Limit
from chatapi.upstream.forwarding import ForwardedRequest

router = APIRouter(tags=["openai"])

PATH = "/v1/{path:path}"
RENEW_BYTES = 256 * 1024  # of a body, for which a client gets as much time as for a whole request elsewhere
_FORWARDED = ("accept", "content-type", "idempotency-key", "range")  # request headers that go upstream
_FORWARDED_PREFIX = "openai-"
_ISOLATED = {"Content-Security-Policy": "default-src 'none'; sandbox"}  # no file runs as a page of this site
NOTHING_THERE = (
    f"Unknown path. Besides chat/completions, responses, conversations and models, {', '.join(FAMILIES)} are passed on "
    "to the model API. /docs lists the routes."
)


class _ClientLeft(Exception):
    """The client left before its request was complete."""


@router.get(PATH, **FORWARD_GET)
async def forward_get(request: Request, path: str) -> Response:
    """Pass a request on that reads something."""
    return await _forward(request, path)


@router.post(PATH, **FORWARD_POST)
async def forward_post(request: Request, path: str) -> Response:
    """Pass a request on that creates or changes something."""
    return await _forward(request, path)


@router.delete(PATH, **FORWARD_DELETE)
async def forward_delete(request: Request, path: str) -> Response:
    """Pass a request on that deletes something."""
    return await _forward(request, path)


@router.api_route(PATH, methods=["PUT", "PATCH"], include_in_schema=False)
async def refuse_method(request: Request, path: str) -> Response:
    """Refuse a request that no route has, with a sentence."""
    return await _forward(request, path)


async def _forward(request: Request, path: str) -> Response:
    methods = methods_of(path)
    if methods is None:
        raise _not_here(request)
    if request.method not in methods:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
    key = require_key(request)
    services = services_of(request)
    length = _length(request, services.settings.max_passthrough_bytes)
    owner = services.owner(key)
    limit = request.state.limit = await services.rate_limit.take(owner)
    headers = [(name, value) for name, value in request.headers.items() if _is_forwarded(name)]
    headers.append(("X-Client-Request-Id", str(structlog.contextvars.get_contextvars().get("request_id", ""))))
    asked = ForwardedRequest(request.method, path, request.scope["query_string"].decode("latin-1"), headers, length)
    return ForwardedResponse(services, Credential(key), owner, asked, limit)


def _not_here(request: Request) -> Exception:
    """Return the error for a path that is not passed on: of a route with other methods, or of none."""
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is Match.PARTIAL and getattr(route, "path", "") != PATH:
            return HTTPException(405, headers={"Allow": ", ".join(sorted(route.methods))})
    return NotFound(ENDS_WITH_A_SLASH if request.scope["path"].endswith("/") else NOTHING_THERE)


def _length(request: Request, limit: int) -> int | None:
    """Return the length of the body; None if it comes in chunks."""
    if "transfer-encoding" in request.headers:
        return None
    announced = request.headers.get("content-length", "0")
    length = int(announced[:20]) if announced.isascii() and announced.isdecimal() else 0
    if length > limit:
        raise _too_large(limit)
    return length


def _too_large(limit: int) -> BodyTooLarge:
    error = BodyTooLarge(f"The body must be at most {limit} bytes (CHATAPI_MAX_PASSTHROUGH_BYTES).")
    error.headers["Connection"] = "close"  # the rest of it is not read
    return error


def _is_forwarded(name: str) -> bool:
    return name in _FORWARDED or name.startswith(_FORWARDED_PREFIX)


class _Upload:
    """A request body on its way. `receive` waits for its end, and then for the client to leave."""

    def __init__(self, scope: Scope, receive: Receive, length: int | None, limit: int) -> None:
        self._client = client_of(HTTPConnection(scope))
        self._receive = receive
        self._limit = limit
        self._renew: Callable[[], None] | None = scope.get(RENEW)
        self._ended = asyncio.Event()
        if length == 0:
            self._ended.set()
        self.on_data: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives.

        Raises:
            BodyTooLarge: it has more than the limit.
        """
        received = renewed = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.error = _ClientLeft()
                raise self.error
            data = message.get("body", b"")
            received += len(data)
            self._client.received_bytes = received
            if received > self._limit:
                self.error = _too_large(self._limit)
                raise self.error
            if self._renew is not None and received - renewed >= RENEW_BYTES:
                renewed = received
                self._renew()
            self.on_data()
            if not message.get("more_body", False):
                self._ended.set()
            if data:
                yield data
            if self._ended.is_set():
                return

    async def receive(self) -> Message:
        """Wait for the end of the body, and return the message after it: the client leaves."""
        await self._ended.wait()
        return await self._receive()


class ForwardedResponse(Response):
    """The upstream's response, with its own status and body. A refusal is read first: it may contain the key."""

    def __init__(
        self,
        services: Services,
        credential: Credential,
        owner: str,
        asked: ForwardedRequest,
        limit: Limit | None,
    ) -> None:
        super().__init__()
        self._services, self._credential, self._owner = services, credential, owner
        self._asked, self._limit = asked, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._services.settings
        upload = _Upload(scope, receive, self._asked.length, settings.max_passthrough_bytes)
        async with self._services.generations.admission.reserve_slot(self._owner):
            with StreamSupervisor(settings, upload.receive) as supervisor:
                upload.on_data = supervisor.on_upload
                try:
                    await self._pass_on(scope, send, upload, supervisor)
                except ChatError:
                    if isinstance(upload.error, _ClientLeft):
                        return
                    if isinstance(upload.error, ChatError):
                        raise upload.error from None
                    raise

    async def _pass_on(self, scope: Scope, send: Send, upload: _Upload, supervisor: StreamSupervisor) -> None:
        settings, upstream = self._services.settings, self._services.upstream
        body = upload.pieces()
        started = False
        try:
            async with upstream.forward(self._asked, body, self._credential) as answer:
                supervisor.on_data()
                if answer.status < 400:
                    mark_accepted(HTTPConnection(scope), answer.metadata)
                headers = answer.headers | limit_headers(self._limit, answer.limit) | NO_BUFFERING | _ISOLATED
                raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
                await send({"type": "http.response.start", "status": answer.status, "headers": raw})
                started = True
                write: Send = scope.get(RAW_SEND, send)
                async for data in answer.read(settings.max_passthrough_bytes):
                    supervisor.on_data()
                    await write({"type": "http.response.body", "body": data, "more_body": True})
                await write({"type": "http.response.body", "body": b"", "more_body": False})
        except ChatError:
            if not started:
                raise
            scope[ABORTED] = True  # its status is out: the connection is cut, so that no client takes it for whole
        finally:
            await body.aclose()
