"""A WebSocket on /v1/responses: OpenAI's WebSocket mode, and responses that continue on a new connection.

Each `response.create` of a client becomes a `POST /v1/responses` inside of this process, with the headers of the
handshake, and each `response.resume` a `GET /v1/responses/{id}` from after an event. So key, limits, access, bodies and
log lines are those of HTTP, and the events are those of its stream. Requests are answered one after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from chatapi.api.http.identity import address_group, is_verified, work_group
from chatapi.api.http.request_body import parse, run_fairly
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import USE_SHARE
from chatapi.api.openai.common import check_surrogates, require_key
from chatapi.api.openai.errors import openai_error, render
from chatapi.api.openai.responses.unstored import WARM_UP, UnstoredResponses, encode_json
from chatapi.errors import ChatError, Draining, InvalidRequest, Overloaded, TooManyConnections

router = APIRouter(tags=["openai"])

PATH = "/v1/responses"
LIFETIME_SECONDS = 3600.0  # as in OpenAI's API: clients are written to open another connection then
MAX_QUEUED = 8  # requests that wait for the answer to an earlier one
MAX_QUEUED_BYTES = 1024 * 1024
GOING_AWAY, NORMAL, POLICY = 1001, 1000, 1008  # statuses of a close (RFC 6455, section 7.4.1)
_DROPPED = frozenset(
    {
        *("connection", "upgrade", "content-length", "content-type", "transfer-encoding", "x-request-id"),
        *("idempotency-key", "x-stainless-retry-count"),  # of the handshake: they would join all requests to one
    }
)
_DATA = b"\ndata: "


@router.websocket(PATH)
async def connect(websocket: WebSocket) -> None:
    """Serve a WebSocket of a caller with a key."""
    services = services_of(websocket)
    settings = services.settings
    try:
        owner = services.owner(require_key(websocket))
        if services.generations.draining:
            raise Draining
        with (
            services.websockets.take(owner, settings.max_websockets_per_key) as of_key,
            services.websockets.take(address_group(websocket), settings.max_websockets_per_address) as of_address,
        ):
            if not (of_key and of_address):
                raise TooManyConnections
            if (use_share := websocket.scope.get(USE_SHARE)) is not None:
                use_share(services.bodies.open(work_group(websocket), is_verified(websocket)))
            await websocket.accept()
            await _Conversation(websocket, settings.websocket_idle_seconds, settings.max_media_bytes).serve()
    except ChatError as error:
        await render(error)(websocket.scope, websocket.receive, websocket.send)


class _Conversation:
    """The requests of one WebSocket, and their answers."""

    def __init__(self, websocket: WebSocket, idle_seconds: float, most_bytes: int) -> None:
        self._websocket = websocket
        self._idle_seconds = idle_seconds
        self._unstored = UnstoredResponses(most_bytes)
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()

    async def serve(self) -> None:
        """Answer requests until the client leaves, sends none for long, or the connection is old."""
        reading = asyncio.create_task(self._read(), name="websocket-reader")
        ends_at = asyncio.get_running_loop().time() + LIFETIME_SECONDS
        try:
            while not self._left.is_set():
                text = await self._next(ends_at)
                if text is None:
                    break
                await self._answer(text)
            if not self._left.is_set():
                await self._close(ends_at)
        except WebSocketDisconnect:
            pass
        finally:
            reading.cancel()

    async def _read(self) -> None:
        """Keep the requests that arrive; refuse those beyond the limit. A text that waits is read of the connection."""
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                text = message.get("text")
                size = len(text or "")
                if text is None:
                    await self._send_error(InvalidRequest.field("body", "Must be sent as text, not as bytes."))
                elif self._waiting and (
                    len(self._waiting) >= MAX_QUEUED or self._waiting_bytes + size > MAX_QUEUED_BYTES
                ):
                    error = InvalidRequest.field("body", "Too many requests wait for an earlier one. Wait for its end.")
                    await self._send_error(error, code="too_many_queued_requests")
                else:
                    self._waiting.append(text)
                    self._waiting_bytes += size
                    self._arrived.set()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client left before an error was sent
        finally:
            self._left.set()
            self._arrived.set()

    async def _next(self, ends_at: float) -> str | None:
        """Return the next request; None if none comes in time."""
        now = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(now + self._idle_seconds, ends_at)):
                await self._arrived.wait()
        if self._left.is_set() or not self._waiting or now >= ends_at:
            return None
        text = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        if not self._waiting:
            self._arrived.clear()
        return text

    async def _close(self, ends_at: float) -> None:
        if asyncio.get_running_loop().time() >= ends_at:
            error = InvalidRequest.field("connection", "It has been open for an hour. Open another one, and continue.")
            await self._send_error(error, code="websocket_connection_limit_reached")
        await self._websocket.close(GOING_AWAY)

    async def _answer(self, text: str) -> None:
        """Answer a request; an error is an event, and the connection stays open."""
        raw = text.encode("utf-8", "surrogatepass")
        settings = services_of(self._websocket).settings
        try:
            body = await run_fairly(self._websocket, len(raw), lambda: _read_event(raw, settings.max_body_values))
            match body.pop("type", None):
                case "response.create":
                    await self._create(body, len(raw))
                case "response.resume":
                    await self._resume(body)
                case _:
                    raise InvalidRequest.field("type", "Must be response.create or response.resume.")
        except ChatError as error:
            await self._send_error(error)

    async def _create(self, body: dict[str, Any], size: int) -> None:
        if body.get("stream_id") is not None:
            raise InvalidRequest.field(
                "stream_id", "Not supported: requests are answered one after the other. Omit it."
            )
        warm_up = body.pop("generate", None)
        if not (warm_up is None or isinstance(warm_up, bool)):
            raise InvalidRequest.field("generate", "Must be true or false.")
        size += self._unstored.size
        sent = self._unstored.expand(body)
        sent |= {"stream": True} | ({"store": False} if warm_up is False else {})
        collect = warm_up is False or sent.get("store") is False
        content = await run_fairly(self._websocket, size, lambda: encode_json(sent))
        scope = self._scope("POST", PATH, "", content)
        if warm_up is False:
            scope[WARM_UP] = True
        last = await self._request(scope, content)
        if collect and last is not None:
            with suppress(Overloaded):  # it is not kept, as if it were too large
                await run_fairly(
                    self._websocket, len(content) + len(last), lambda: self._unstored.keep(sent.get("input"), last)
                )

    async def _resume(self, body: dict[str, Any]) -> None:
        name, after = body.pop("response_id", None), body.pop("starting_after", None)
        if body:
            raise InvalidRequest.field("type", "A response.resume has response_id and starting_after, nothing else.")
        if not isinstance(name, str) or not 0 < len(name) <= 128:
            raise InvalidRequest.field("response_id", "Must be the id of a response.")
        if after is not None and (not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < 2**53):
            raise InvalidRequest.field("starting_after", "Must be the sequence number of an event of this response.")
        query = "stream=true" + (f"&starting_after={after}" if after is not None else "")
        await self._request(self._scope("GET", f"{PATH}/{quote(name, safe='')}", query, b""), b"")

    def _scope(self, method: str, path: str, query: str, content: bytes) -> Scope:
        """Return the scope of a request with the headers of the handshake."""
        scope = self._websocket.scope
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name.decode("latin-1") not in _DROPPED and not name.startswith(b"sec-websocket-")
        ]
        made: Scope = {
            **{name: scope[name] for name in ("app", "asgi", "client", "http_version", "root_path", "server")},
            "type": "http",
            "method": method,
            "scheme": "https" if scope.get("scheme") == "wss" else "http",
            "path": scope["root_path"] + path,
            "raw_path": (scope["root_path"] + path).encode(),
            "query_string": query.encode(),
            "headers": headers,
            "state": dict(scope.get("state") or {}),
        }
        if content:
            added = MutableHeaders(scope=made)
            added["content-type"], added["content-length"] = "application/json", str(len(content))
        return made

    async def _request(self, scope: Scope, content: bytes) -> bytes | None:
        """Make a request and send the events of its response, or its error. Return the last event, if it had any."""
        response = _EventReader(self._websocket)
        received = False

        async def receive() -> Message:
            nonlocal received
            if received:
                await self._left.wait()
                return {"type": "http.disconnect"}
            received = True
            return {"type": "http.request", "body": content, "more_body": False}

        await asyncio.create_task(scope["app"](scope, receive, response.send), name="websocket-request")
        if (error := response.error()) is not None:
            await self._send(error)
        return response.last

    async def _send_error(self, error: ChatError, code: str | None = None) -> None:
        body = openai_error(error)["error"]
        await self._send(
            {"type": "error", "status": render(error).status_code, "error": body | ({"code": code} if code else {})}
        )

    async def _send(self, event: dict[str, Any]) -> None:
        await self._websocket.send_text(msgspec.json.encode(event).decode())


def _read_event(raw: bytes, max_values: int) -> dict[str, Any]:
    body = parse(raw, hide_keys=False, max_values=max_values)
    if not isinstance(body, dict):
        raise InvalidRequest.field("body", "Must be a JSON object.")
    check_surrogates(raw, body)
    return body


class _EventReader:
    """Takes a response, and sends each event of its stream as one message."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._status = 0
        self._is_stream = False
        self._headers: dict[str, str] = {}
        self._unread = b""
        self._gone = False
        self.last: bytes | None = None

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
            }
            self._is_stream = self._headers.get("content-type", "").startswith("text/event-stream")
            return
        self._unread += message.get("body", b"")
        if not self._is_stream:
            return
        *frames, self._unread = self._unread.split(b"\n\n")
        for frame in frames:
            _, found, data = frame.partition(_DATA)
            if found:  # else a comment, or the mark of the end
                self.last = data
                await self._forward(data.decode())

    async def _forward(self, text: str) -> None:
        """Send an event; a client that has left gets none, and a stored answer continues without it."""
        if not self._gone:
            try:
                await self._websocket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                self._gone = True

    def error(self) -> dict[str, Any] | None:
        """Return the event of a response that is not a stream: its error."""
        if self._is_stream or self._status < Response().status_code:
            return None
        try:
            error = msgspec.json.decode(self._unread)["error"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return None
        shown = {name: value for name, value in self._headers.items() if name in {"retry-after", "x-request-id"}}
        return {"type": "error", "status": self._status, "error": error | {"headers": shown}}
