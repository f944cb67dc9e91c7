"""POST /api/chat, a direct route: `routes` describes it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatapi.api.chat.queued import queued_response
from chatapi.api.chat.request import ChatBody, make_turn, place_beside, read_chat, requested_format
from chatapi.api.chat.stream import EventEncoder
from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.error_responses import Renderer, limit_headers, render, render_sentence, render_with
from chatapi.api.http.identity import authenticate, check_body_key, client_of, header_of, mark_accepted
from chatapi.api.http.request_body import KEY_FIELD, UNVERIFIED_INLINE_BYTES, read_json, receive_json
from chatapi.api.http.serializers import generation_json, parts_json
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import Encoder
from chatapi.api.http.text_stream import TextEncoder
from chatapi.api.turns import read_answer, stream_turn, turn_headers, unless_left
from chatapi.api.vercel import routes as vercel
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.auth.keys import Key
from chatapi.errors import BodyTooLarge
from chatapi.model import VISIBLE_KINDS, Generation, Kind, Piece, QueuedTurn
from chatapi.model.log import parts_of
from chatapi.settings import Settings, variable_name

direct = DirectRoutes()


class Dialect(NamedTuple):
    """A dialect of POST /api/chat."""

    limit: str  # the setting that limits its bodies, in bytes
    read: Callable[[Any], Any]  # validates a parsed body
    answer: Callable[[Request, Any], Awaitable[Response]]
    render_error: Renderer


def classify(data: bytes) -> Dialect:
    """Return the dialect of a body before it is parsed, by the names of its members."""
    if _MESSAGES.search(data) and _TRIGGER.search(data):
        return USE_CHAT
    return WITH_ATTACHMENTS if _ATTACHMENTS.search(data) else TEXT_ONLY


_MESSAGES, _TRIGGER, _ATTACHMENTS = (
    re.compile(rb'"%b"[ \t\r\n]*:' % name) for name in (b"messages", b"trigger", b"attachments")
)


@direct.post("/api/chat")
async def chat(request: Request) -> Response:
    """Send a message; the answer streams back as text, as events (`Accept: text/event-stream`), or as one JSON object
    (`"stream": false`). `user_message` is required unless there are `attachments`, or `replace` names an answer, which
    is then generated again. Requests of the Vercel AI SDK's `useChat` are answered in its own stream format."""
    settings = services_of(request).settings
    data = await receive_chat(request, settings)
    dialect = classify(data)
    if len(data) > (limit := getattr(settings, dialect.limit)):
        raise BodyTooLarge(f"The body must be at most {limit} bytes ({variable_name(dialect.limit)}).")
    render_with(request.scope, dialect.render_error)
    if len(data) > UNVERIFIED_INLINE_BYTES and KEY_FIELD.encode() not in data:
        authenticate(request)  # no large body is parsed for a caller without a key
    return await dialect.answer(request, await read_json(request, data, dialect.read))


async def receive_chat(request: Request, settings: Settings) -> bytes:
    """Receive a body. From an address over its limit only a small one is received, to look for a known key in it.

    Raises:
        RateLimited: it has none.
    """
    if not client_of(request).over_limit_seconds:
        return await receive_json(request, settings.max_media_bytes)
    try:
        data = await receive_json(request, settings.max_body_bytes)
    except BodyTooLarge:
        data = b""
    found = _KEY.search(data)
    await check_body_key(request, Key(found[1].decode()) if found is not None else None)
    return data


_KEY = re.compile(rb'"api_key"[ \t\r\n]*:[ \t\r\n]*"([!#-\[\]-~]{1,1024})"')


async def _answer(request: Request, body: ChatBody) -> Response:
    services = services_of(request)
    identity = authenticate(request, body.api_key, "This field is required, or the key as Authorization: Bearer.")
    turn = make_turn(
        services, body, identity.owner, requested_format(request, body), header_of(request, b"idempotency-key")
    )
    request.state.limit = await services.rate_limit.take(identity.owner)  # error responses show it too
    if body.replace is not None:
        turn = await place_beside(services, turn, body, body.replace)
    may_spend = make_authorizer(identity.caller, Action.SPEND)
    interrupt = body.if_busy == "interrupt"
    if body.if_busy == "queue":
        sent = await services.generations.send_or_queue(turn, identity.credential, may_spend)
        if isinstance(sent, QueuedTurn):
            return queued_response(sent, limit_headers(request.state.limit, None))
        handle = sent
    else:
        sending = services.generations.send(
            turn, identity.credential, may_spend, interrupt=interrupt, stop_if_cancelled=True
        )
        left = await unless_left(request, body.on_disconnect == "cancel", sending)
        if left is None:
            return Response(status_code=204)  # the client has left
        handle = left
    mark_accepted(request, handle.upstream)
    headers = turn_headers(handle, request.state.limit)
    cancel = body.on_disconnect == "cancel" and not handle.replayed
    if turn.dialect == "json":
        whole = await read_answer(services, request, handle.generation, handle.chunks, headers, cancel)
        return whole_response(whole, headers)
    encoder: Encoder = EventEncoder(handle.generation) if turn.dialect == "events" else TextEncoder()
    return stream_turn(services, handle, encoder, headers, cancel)


USE_CHAT = Dialect("max_media_bytes", vercel.read, vercel.send, render_sentence)
WITH_ATTACHMENTS = Dialect("max_media_bytes", read_chat, _answer, render)
TEXT_ONLY = Dialect("max_body_bytes", read_chat, _answer, render)


def whole_response(whole: tuple[Generation, list[Piece]] | None, headers: dict[str, str]) -> Response:
    """Return the answer as one JSON object; an empty response if the client has disconnected."""
    return JSONResponse(whole_json(*whole), headers=headers) if whole else Response(status_code=204)


def whole_json(generation: Generation, pieces: list[Piece]) -> dict[str, Any]:
    """Return an answer with its text, its reasoning and its parts."""
    visible_text = b"".join(piece.data for piece in pieces if piece.kind in VISIBLE_KINDS).decode()
    reasoning = b"".join(piece.data for piece in pieces if piece.kind is Kind.REASONING).decode()
    parts = parts_json(parts_of(pieces))
    return {**generation_json(generation), "text": visible_text, "reasoning": reasoning or None, "parts": parts}
