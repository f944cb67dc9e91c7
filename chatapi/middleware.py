"""Plain ASGI middleware: work per request, none per piece of text."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatapi.api.http.error_responses import ERROR_CODE, render_for
from chatapi.api.http.identity import (
    Client,
    add_client,
    address_group,
    caller_key,
    client_of,
    comes_from_a_page,
    header_of,
    is_forwarded,
    is_verified,
    refuse_over_limit,
)
from chatapi.api.http.request_body import UNVERIFIED_INLINE_BYTES
from chatapi.api.http.services import SERVICES, Services, WorkQueue
from chatapi.api.http.streaming import ABORTED, RAW_SEND, WRITE_HEAD
from chatapi.errors import ChatError, InvalidKeyFormat, RateLimited, RequestError
from chatapi.model import new_id
from chatapi.tracing import describe_request
from chatapi.wire.probe import HEALTH_PATH, LIVENESS_PATH, PROBE_PATH, READINESS_PATH

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Span

MAX_REQUEST_ID = 64
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")  # an id that a caller may choose, unless it looks like a key
LOGGED_PATH = 200  # characters
SEARCHED_PATH = 1000  # characters, in which keys are searched
_UNCACHED = (b"cache-control", b"no-store")  # responses are private; X-API-Key alone does not prevent caching
API = ("/api/", "/v1/")
CHAT = "/api/chat"
_KEY_IN_BODY = frozenset({CHAT, "/api/test-key"})
HEALTH = frozenset({HEALTH_PATH, LIVENESS_PATH, READINESS_PATH})  # balancers request these every second
HINTS = {InvalidKeyFormat.code: "CHATAPI_KEY_PATTERN sets the form of valid keys"}  # for the operator, by error code
_PUBLIC = frozenset({HEALTH_PATH, PROBE_PATH, "/api/config"})  # need no key
SHARES = "/api/shares/"
_UNSTORED = frozenset({"/api/test-key"})
_FAILED = frozenset({400, 401, 403, 413, 415, 422})  # of a request without an accepted key
FOREIGN_ORIGIN = (
    "Pages of this origin may not call this API: it is not in CHATAPI_CORS_ORIGINS. The demo allows only the origins "
    "that are named there."
)
FAILURE_COST = 9.0  # requests, beside the one that it is
COST_PER_MIB = 8.0
MIB = 1024 * 1024
STARTS = WorkQueue("starts", at_once=4, max_waiting=100_000)  # bounded by the connections
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_SAFE_AND_VARY = [*_SAFE, (b"vary", b"Origin")]

logger = structlog.get_logger()


class Boundary:
    """Gives each request an id, headers that every response has, and one line in the log.

    It puts the server's own `send` into the scope: streamed bodies bypass all middleware.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self._services = services
        self._key_policy = services.key_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, session_id = 0, None
        client = add_client(scope, self._services.settings)
        request_id = self._request_id(client.fields.get(b"x-request-id"))
        write_head = scope.get(WRITE_HEAD)
        own = _SAFE if comes_from_a_page(scope) else _SAFE_AND_VARY

        async def send_with_id(message: Message) -> None:
            nonlocal status, session_id
            if message["type"] == "http.response.start":
                status = message["status"]
                found = dict(message.get("headers", ()))
                session_id = found.get(b"x-session-id")
                headers = [*message.get("headers", ()), *own, (b"x-request-id", request_id.encode())]
                if b"cache-control" not in found:
                    headers.append(_UNCACHED)
                if write_head is not None and write_head(status, headers):
                    return
                message = {**message, "headers": headers}
            await send(message)

        scope[RAW_SEND] = send
        scope[SERVICES] = self._services
        self._services.open_requests += 1
        structlog.contextvars.bind_contextvars(request_id=request_id)
        span = self._begin_span(scope, client)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - begun
            self._services.open_requests -= 1
            self._services.metrics.request_ended(
                scope["method"], _route_of(scope), status, seconds, scope.get(ERROR_CODE)
            )
            client.release_body()
            if span is not None:
                route, code = _route_of(scope), scope.get(ERROR_CODE)
                span.end(f"{scope['method']} {route}", describe_request(scope["method"], route, status, code))
            path = _printable(self._shorten(scope["path"]))
            is_healthy = scope["path"] in HEALTH and status < HTTPStatus.BAD_REQUEST
            (logger.debug if is_healthy else logger.info)(
                "request",
                method=scope["method"],
                path=path,
                status=status,
                aborted=scope.get(ABORTED, False),
                duration_ms=round(seconds * 1000, 1),
                address=client.address,
                owner=client.owner,
                **_failure(scope),
                **(_audit(scope, session_id) if 200 <= status < 300 and _is_audited(scope) else {}),
            )

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket. Each of its requests comes here again, as one of HTTP."""
        begun = time.perf_counter()
        scope[SERVICES] = self._services
        client = add_client(scope, self._services.settings)
        structlog.contextvars.bind_contextvars(request_id=new_id("req"))
        try:
            await self.app(scope, receive, send)
        finally:
            logger.info(
                "websocket closed",
                path=_printable(self._shorten(scope["path"])),
                duration_ms=round((time.perf_counter() - begun) * 1000, 1),
                address=client.address,
                owner=client.owner,
                **_failure(scope),
            )

    def _begin_span(self, scope: Scope, client: Client) -> Span | None:
        """Begin the span of a request, if traces are on and the request is of a client and not of a balancer."""
        tracing = self._services.tracing
        if tracing is None or scope["path"] in HEALTH:
            return None
        span = tracing.begin_request(scope["method"], client.fields)
        structlog.contextvars.bind_contextvars(trace_id=span.trace_id)
        return span

    def _request_id(self, asked: bytes | None) -> str:
        """Return the id that the caller chose, if it is one that this server takes, or else a new one."""
        if asked is not None and len(asked) <= MAX_REQUEST_ID:
            chosen = asked.decode("latin-1")
            if _REQUEST_ID.fullmatch(chosen) and self._key_policy.redact(chosen) == chosen:
                return chosen
        return new_id("req")

    def _shorten(self, path: str) -> str:
        """Return the part of a path that is logged. The log hides keys; a key that was cut may not look like one.

        Of a very long path, a segment that is not searched to its end is left out.
        """
        if path.startswith(SHARES):
            return SHARES  # the token lets anyone read
        if len(path) > SEARCHED_PATH:
            path = path[: path.rfind("/", 0, SEARCHED_PATH) + 1]
        return path if len(path) <= LOGGED_PATH else self._key_policy.redact(path)[:LOGGED_PATH]


def _failure(scope: Scope) -> dict[str, str]:
    """Return the code of the error that answered a request, and a hint for the operator."""
    code = scope.get(ERROR_CODE)
    if code is None:
        return {}
    return {"code": code, "hint": HINTS[code]} if code in HINTS else {"code": code}


def _is_audited(scope: Scope) -> bool:
    """Return whether a request changes stored data or exports it."""
    path: str = scope["path"]
    if scope["method"] in {"GET", "HEAD"}:
        return path.startswith("/api/") and path.endswith("/export")
    return path.startswith(API) and path not in _UNSTORED


def _audit(scope: Scope, session_id: bytes | None) -> dict[str, str | None]:
    """Return the fields that make a `request` line an entry of the audit log: the route, and the session it names."""
    return {
        "action": f"{scope['method']} {_route_of(scope)}",
        "session_id": session_id.decode("latin-1") if session_id is not None else None,
    }


def _route_of(scope: Scope) -> str:
    """Return the path template of the route that answered."""
    return str(getattr(scope.get("route"), "path", ""))


def _check_key(request: HTTPConnection) -> None:
    """Raise `InvalidKeyFormat` for a malformed key in the headers.

    A small body of the chat route is read first: only its dialect knows how its client shows errors.
    """
    try:
        caller_key(request)
    except InvalidKeyFormat:
        length = header_of(request, b"content-length") or ""
        is_small = length.isdecimal() and int(length[:20]) <= UNVERIFIED_INLINE_BYTES
        if request.scope["path"] != CHAT or not is_small:
            raise


class Admission:
    """Refuses requests before anything is read of them: a malformed head or key, or a caller over its limits.

    A refusal over a limit is delayed, so that a caller that ignores it costs little, and closes the connection. The
    outcome of each request without an accepted key is added to the limit of its address.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        client = client_of(request)
        try:
            self._check_head(request)
            counts = scope["path"].startswith(API) and scope["path"] not in _PUBLIC
            if counts:
                _check_key(request)
            await self._check_limits(request, counts)
        except ChatError as error:
            if not isinstance(error, RateLimited):
                self._services.unverified.add(client.network, FAILURE_COST)
            elif is_forwarded(request):
                self._warn_of_shared_address(client.address)
            await _refuse(scope, receive, send, error)
            return
        if is_verified(request):
            await self.app(scope, receive, send)
            return
        await self._services.queue(STARTS).take_start(address_group(request))
        if not counts:
            await self.app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            is_head = message["type"] in {"http.response.start", "websocket.http.response.start"}
            if is_head and not is_verified(request):  # the model API may have accepted the key by now
                has_failed = client.failed or message["status"] in _FAILED
                cost = COST_PER_MIB * client.received_bytes / MIB + (FAILURE_COST if has_failed else 0.0)
                self._services.unverified.add(client.network, cost)
            await send(message)

        self._services.unverified.add(client.network)
        await self.app(scope, receive, count)

    def _warn_of_shared_address(self, address: str) -> None:
        """Warn once that a proxy's address has reached a limit, which all of its clients share."""
        if not self._services.warned_of_shared_address:
            self._services.warned_of_shared_address = True
            advice = "set CHATAPI_TRUSTED_PROXIES to the proxy's address, so that limits apply to its clients"
            logger.warning("the clients of a proxy share one address", address=address, advice=advice)

    def _check_head(self, request: HTTPConnection) -> None:
        has_host = b"host" in client_of(request).fields
        if (not has_host and request.scope.get("http_version") != "1.0") or _has_several_hosts(request):
            raise RequestError("The request must have exactly one Host header.")

    async def _check_limits(self, request: HTTPConnection, counts: bool) -> None:
        """Count the request, and raise `RateLimited` if its address or its key has sent too many.

        Where the key comes in the body, the route decides when it has read that: see `check_body_key`.
        """
        client, services = client_of(request), self._services
        groups = [address_group(request)] + ([client.owner] if client.owner is not None else [])
        for group in groups:
            if (wait := services.requests.wait_seconds(group)) > 0:
                await refuse_over_limit("CHATAPI_REQUEST_LIMIT", wait)
            services.requests.add(group)
        if counts and not is_verified(request):
            wait = services.unverified.wait_seconds(client.network)
            if wait > 0 and client.owner is None and request.scope["path"] in _KEY_IN_BODY:
                client.over_limit_seconds = wait
            elif wait > 0:
                await refuse_over_limit("CHATAPI_UNVERIFIED_LIMIT", wait)


def _has_several_hosts(request: HTTPConnection) -> bool:
    headers = request.scope["headers"]
    if len(headers) == len(client_of(request).fields):
        return False  # no header is repeated
    return len([name for name, _ in headers if name == b"host"]) > 1


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ChatError) -> None:
    """Respond with an error and close the connection: the rest of its request is not read."""
    response = render_for(scope, error)
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


class CrossOrigin(CORSMiddleware):
    """CORS for requests with an `Origin`. The others pass; `Boundary` adds to their responses that it matters.

    A preflight from an origin that is not allowed gets the name of the setting: browsers show its body to developers.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not comes_from_a_page(scope):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        if self.is_allowed_origin(request_headers["origin"]):
            return super().preflight_response(request_headers)
        return PlainTextResponse(FOREIGN_ORIGIN, HTTPStatus.BAD_REQUEST, dict(self.preflight_headers))


class HeadAsGet:
    """Answers HEAD as GET without the body (RFC 9110, section 9.3.2): only the head of the response is computed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _HeadSent

        with suppress(_HeadSent):
            await self.app({**scope, "method": "GET"}, receive, send_head)


class _HeadSent(BaseException):
    """Ends the handling of a HEAD request after the head; not an `Exception`, so that no handler takes it for one."""


def _printable(text: str) -> str:
    """Return `text` without control characters, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else "\ufffd" for character in text])


class LastResort:
    """The last handler of unexpected exceptions: logs them, and responds with 500 or cuts the response."""

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
            logger.exception("unexpected error")
            if started:
                scope[ABORTED] = True
            else:
                response = render_for(scope, ChatError())
                assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
                await response(scope, receive, send)
