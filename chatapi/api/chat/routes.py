"""POST /api/chat and the routes of its answers: the stream, and the stop."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator

from chatapi.api.chat.queue import offer_key, queued_response
from chatapi.api.chat.request import (
    ChatBody,
    StopBody,
    make_turn,
    place_beside,
    read_chat,
    requested_format,
    requested_replay,
)
from chatapi.api.chat.schemas import SEND_MESSAGE, STOP_ANSWER, STREAM_ANSWER
from chatapi.api.chat.stream import EventEncoder
from chatapi.api.http.direct_route import DirectRoute
from chatapi.api.http.error_responses import Renderer, limit_headers, render, render_sentence, render_with
from chatapi.api.http.identity import authenticate, authorized, check_body_key, client_of, header_of, mark_accepted
from chatapi.api.http.request_body import (
    KEY_FIELD,
    UNVERIFIED_INLINE_BYTES,
    read_json,
    read_optional_body,
    receive_json,
)
from chatapi.api.http.serializers import generation_json, parts_json
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import Encoder, LogResponse
from chatapi.api.http.text_stream import TextEncoder
from chatapi.api.turns import find_generation, log_headers, read_answer, stream_turn, turn_headers
from chatapi.api.vercel import routes as vercel
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.auth.keys import Key
from chatapi.errors import BodyTooLarge, InvalidRequest
from chatapi.model import VISIBLE_KINDS, Generation, Kind, Piece, QueuedTurn, Status
from chatapi.model.log import parts_of
from chatapi.settings import Settings, variable_name

router = APIRouter(tags=["chat"])
sending = APIRouter(tags=["chat"], route_class=DirectRoute)


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


@sending.post("/api/chat", **SEND_MESSAGE)
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
    missing = InvalidRequest.field("api_key", "This field is required, or the key as Authorization: Bearer.")
    identity = authenticate(request, body.api_key, missing)
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
        handle = await services.generations.send(turn, identity.credential, may_spend, interrupt=interrupt)
    mark_accepted(request, handle.upstream)
    headers = turn_headers(handle, request.state.limit)
    cancel = body.on_disconnect == "cancel" and not handle.replayed
    if turn.dialect == "json":
        whole = await read_answer(services, request, handle.generation, handle.chunks, headers, cancel)
        return _whole_response(whole, headers)
    encoder: Encoder = EventEncoder(handle.generation) if turn.dialect == "events" else TextEncoder()
    return stream_turn(services, handle, encoder, headers, cancel)


USE_CHAT = Dialect("max_media_bytes", vercel.read, vercel.send, render_sentence)
WITH_ATTACHMENTS = Dialect("max_media_bytes", read_chat, _answer, render)
TEXT_ONLY = Dialect("max_body_bytes", read_chat, _answer, render)


def _none_if_empty(value: Any) -> Any:
    """Return None for an empty `Last-Event-ID`, which an EventSource sends after an event with an empty id."""
    return None if value == "" else value


@router.get("/api/chat/{session_id}/stream", **STREAM_ANSWER)
async def stream(
    request: Request,
    session_id: str,
    generation_id: Annotated[str | None, Query()] = None,
    offset: Annotated[int | None, Query(ge=0, lt=2**53)] = None,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**53), BeforeValidator(_none_if_empty)] = None,
) -> Response:
    """Read the session's running answer, or an ended one, from a position on: `offset` is the number of bytes of text
    already received, `Last-Event-ID` the id of the last event. 204 if nothing runs and the request names no answer."""
    services = services_of(request)
    if not vercel.is_session_id(session_id):
        return await vercel.stream(request, session_id, generation_id)
    session = await authorized(request, session_id, Action.READ)
    await offer_key(request, session)
    generation = await find_generation(services, session_id, generation_id)
    asked = generation_id is not None or offset is not None or last_event_id is not None
    if generation is None or (generation.status is not Status.RUNNING and not asked):
        return Response(status_code=204)
    headers = log_headers(generation)
    dialect = requested_replay(request, last_event_id) or generation.dialect
    if dialect == "json":
        chunks = (await services.generations.follow(generation.id)).chunks
        return _whole_response(await read_answer(services, request, generation, chunks, headers), headers)
    if dialect == vercel.DIALECT:
        return await vercel.replay(services, generation)
    encoder: Encoder
    if dialect == "events":
        followed = await services.generations.follow(generation.id, last_event_id or offset or 0)
        encoder = EventEncoder(generation, followed.position)
    else:
        followed = await services.generations.follow(generation.id, text_offset=offset or 0)
        encoder = TextEncoder()
    return LogResponse(followed.chunks, encoder, headers, services.settings.heartbeat_seconds)


@router.post("/api/chat/{session_id}/stop", **STOP_ANSWER)
async def stop(request: Request, session_id: str) -> JSONResponse:
    """Stop the running answer, and return its text after the upstream's connection is closed. An answer that has ended
    is returned unchanged."""
    services = services_of(request)
    if vercel.is_session_id(session_id):
        await authorized(request, session_id, Action.CHANGE)
    else:
        session_id = await vercel.session_of(request, session_id)
    # After that: a client that may stop something may send the message that it shows along.
    body = await read_optional_body(request, StopBody, services.settings.max_media_bytes)
    generation = await find_generation(services, session_id, body.generation_id)
    if generation is None or body.active_stream_id not in {None, generation.id}:
        return JSONResponse({"session_id": session_id, "generation_id": None, "status": None, "text": ""})
    kept = await services.generations.stop(generation.id)
    return JSONResponse(_whole_json(kept.ended or generation, kept.pieces))


def _whole_response(whole: tuple[Generation, list[Piece]] | None, headers: dict[str, str]) -> Response:
    """Return the answer as one JSON object; an empty response if the client has disconnected."""
    return JSONResponse(_whole_json(*whole), headers=headers) if whole else Response(status_code=204)


def _whole_json(generation: Generation, pieces: list[Piece]) -> dict[str, Any]:
    visible_text = b"".join(piece.data for piece in pieces if piece.kind in VISIBLE_KINDS).decode()
    reasoning = b"".join(piece.data for piece in pieces if piece.kind is Kind.REASONING).decode()
    parts = parts_json(parts_of(pieces))
    return {**generation_json(generation), "text": visible_text, "reasoning": reasoning or None, "parts": parts}
