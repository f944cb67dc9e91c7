"""The Vercel AI SDK's chat protocol: requests of `useChat`, answered with its UI message stream, version 1.

A chat's id is the client's own, an alias within its owner; an id with the prefix of a session's names that session.
`api.chat.routes` dispatches to these functions.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chatapi.api.http.error_responses import render_sentence, render_with
from chatapi.api.http.identity import authenticate, authorized, is_trusted, key_of, mark_accepted
from chatapi.api.http.request_body import validate
from chatapi.api.http.services import Services, services_of
from chatapi.api.http.streaming import LogResponse
from chatapi.api.http.text_stream import TextEncoder
from chatapi.api.turns import find_generation, log_headers, stream_turn, turn_headers, unless_left, with_digest
from chatapi.api.vercel.history import find_chat, is_session_id, steps_before
from chatapi.api.vercel.request import UIChatBody, digest_content, make_turn
from chatapi.api.vercel.stream import HEADERS, VercelEncoder
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.errors import ContextTooLarge, KeyRequired, SessionNotFound
from chatapi.model import Generation, Role, Status

__all__ = ["DIALECT", "is_session_id", "read", "replay", "send", "session_of", "stream"]

DIALECT = "vercel"


def read(value: Any) -> UIChatBody:
    """Return the body of a `useChat` request.

    Raises:
        InvalidRequest: a field is missing or invalid.
    """
    return validate(UIChatBody, value)


async def send(request: Request, body: UIChatBody) -> Response:
    """Send the turn of a `useChat` request; stream UI message chunks, or plain text if `Accept` asks for it."""
    services = services_of(request)
    identity = authenticate(request, body.api_key)
    request.state.limit = await services.rate_limit.take(identity.owner)
    dialect = "text" if _wants_text(request) else DIALECT
    turn = await make_turn(services, identity.owner, body, dialect)
    if (idempotency_key := request.headers.get("idempotency-key")) is not None:
        turn = with_digest(turn, idempotency_key, digest_content(body))
    may_spend = make_authorizer(identity.caller, Action.SPEND)
    interrupt = body.if_busy == "interrupt"
    sending = services.generations.send(
        turn, identity.credential, may_spend, interrupt=interrupt, stop_if_cancelled=True
    )
    handle = await unless_left(request, body.on_disconnect == "cancel", sending)
    if handle is None:
        return Response(status_code=204)  # the client has left
    mark_accepted(request, handle.upstream)
    headers = turn_headers(handle, request.state.limit)
    cancel = body.on_disconnect == "cancel" and not handle.replayed
    if dialect == "text":
        return stream_turn(services, handle, TextEncoder(), headers, cancel)
    answers_a_user = bool(turn.input) and turn.input[-1].role is Role.USER
    try:
        before = [] if answers_a_user else await steps_before(services.store, handle.generation)
    except ContextTooLarge:  # the client gets no part of this answer
        if not handle.replayed:
            services.generations.abandon(handle.generation.id)
        raise
    encoder = VercelEncoder(handle.generation, before, replay=False)
    return stream_turn(services, handle, encoder, headers | HEADERS, cancel)


async def session_of(request: Request, name: str) -> str:
    """Return the id of the session that the caller knows by its own id for a chat; this needs the caller's key.

    Raises:
        KeyRequired: the caller sent no key and needs one.
        SessionNotFound: the caller has no chat of this id.
    """
    services = services_of(request)
    key = key_of(request)
    session_id = await find_chat(services.store, services.owner(key), name) if key is not None else None
    if session_id is None:
        raise KeyRequired if key is None and not is_trusted(request) else SessionNotFound
    render_with(request.scope, render_sentence)
    return (await authorized(request, session_id, Action.CHANGE)).id


async def stream(request: Request, name: str, generation_id: str | None) -> Response:
    """Stream the running message of a chat, or the named one, from its start; 204 if there is none."""
    services = services_of(request)
    generation = await find_generation(services, await session_of(request, name), generation_id)
    if generation is None or (generation.status is not Status.RUNNING and generation_id is None):
        return Response(status_code=204)
    if _wants_text(request):
        chunks = (await services.generations.follow(generation.id)).chunks
        return LogResponse(chunks, TextEncoder(), log_headers(generation), services.settings.heartbeat_seconds)
    return await replay(services, generation)


async def replay(services: Services, generation: Generation) -> Response:
    """Stream the UI message of a generation from its start."""
    encoder = VercelEncoder(generation, await steps_before(services.store, generation), replay=True)
    chunks = (await services.generations.follow(generation.id)).chunks
    return LogResponse(chunks, encoder, log_headers(generation) | HEADERS, services.settings.heartbeat_seconds)


def _wants_text(request: Request) -> bool:
    return "text/plain" in request.headers.get("accept", "").lower()
