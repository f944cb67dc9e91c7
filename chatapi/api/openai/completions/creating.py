"""POST /v1/chat/completions, OpenAI's Chat Completions: a direct route, which `routes` describes.

Without a session a completion is stateless: the body goes upstream byte for byte, the answer comes back frame for
frame, and nothing is stored. If the upstream is asked through Responses, both are translated instead. With a session it
is a turn of that session; docs/http.md has the rule by which its messages are distinguished from those that the session
has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.identity import caller_of, mark_accepted
from chatapi.api.http.request_body import read_raw_body, run_fairly
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import LogResponse, read_whole
from chatapi.api.http.supervision import unless_disconnected
from chatapi.api.openai.common import cancels_on_disconnect, check_surrogates, require_key
from chatapi.api.openai.completions.lookup import find_completion, stored_fields
from chatapi.api.openai.completions.passthrough import StreamPassthrough
from chatapi.api.openai.completions.request import (
    NEW,
    choice_count,
    metadata_of,
    read_turn,
    wants_storage,
    wants_stream,
    wants_usage,
)
from chatapi.api.openai.completions.stream import CompletionsEncoder, completion
from chatapi.api.openai.ids import is_session_id
from chatapi.api.openai.whole_answer import WholeAnswer
from chatapi.api.turns import stream_turn, turn_headers, unless_left, with_idempotency
from chatapi.auth.authorization import Action, Caller, authorize, make_authorizer
from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import ChatError, InvalidRequest, SessionNotFound
from chatapi.generations.reader import LogChunks

direct = DirectRoutes()

SESSION_HEADER = "X-ChatAPI-Session-ID"  # ours alone; other programs send X-Session-ID with ids of their own


@direct.post("/v1/chat/completions")
async def create(request: Request) -> Response:
    """OpenAI's chat completions, streamed or not. Stateless, unless the request names a session or asks for a new one;
    with `X-Generation-ID` (and `Last-Event-ID`) it reads that answer on and asks for no other."""
    services = services_of(request)
    key = require_key(request)
    raw, body = await read_raw_body(request, services.settings.max_media_bytes)
    stream = wants_stream(body)
    if (resumed := request.headers.get("x-generation-id")) is not None:
        return await resume(request, resumed, stream=stream, usage=wants_usage(body))
    owner = services.owner(key)
    session_id = await _find_session_id(request, body, owner)
    if session_id is None and wants_storage(body):
        session_id = NEW
    if session_id is not None:
        await run_fairly(request, len(raw), lambda: check_surrogates(raw, body))
        return await _continue(request, key, body, session_id, len(raw))
    if not services.upstream.passes_completions_on(str(body.get("model")), Credential(key)):
        await run_fairly(request, len(raw), lambda: check_surrogates(raw, body))
        return await _translate(request, key, body, len(raw))
    limit = request.state.limit = await services.rate_limit.take(owner)
    model = str(body.get("model"))
    if stream:
        return StreamPassthrough(services, model, Credential(key), owner, raw, limit, choice_count(body))
    credential, most_bytes = Credential(key), services.settings.max_context_bytes
    return WholeAnswer(services, owner, lambda: services.upstream.complete(model, credential, raw, most_bytes), limit)


# In a session


async def _find_session_id(request: Request, body: dict[str, Any], owner: str) -> str | None:
    """Return the session that the request continues, `NEW`, or None for a stateless completion.

    `X-ChatAPI-Session-ID` is ours, so any value of it counts. `X-Session-ID` and `metadata.session_id` are also sent by
    other programs: a value that is not the id of a session which this owner may use is not meant for us.
    """
    if own := request.headers.get(SESSION_HEADER):
        return own
    for name in (request.headers.get("x-session-id"), metadata_of(body).get("session_id")):
        if name == NEW:
            return NEW
        if isinstance(name, str) and is_session_id(name):
            session = await services_of(request).store.sessions.find(name)
            try:
                return authorize(session, Caller(owner), Action.SPEND).id
            except SessionNotFound:
                continue
    return None


async def _continue(request: Request, key: Key, body: dict[str, Any], session_id: str, body_bytes: int) -> Response:
    services = services_of(request)
    owner = services.owner(key)
    turn = await run_fairly(request, body_bytes, lambda: read_turn(body, services.settings, owner, session_id))
    turn = await with_idempotency(request, services, turn)
    cancel = cancels_on_disconnect(request, body.get("on_disconnect"))
    request.state.limit = await services.rate_limit.take(owner)
    may_spend = make_authorizer(Caller(owner), Action.SPEND)
    sending = services.generations.send(turn, Credential(key), may_spend, stop_if_cancelled=True)
    sent = await unless_left(request, cancel, sending)
    if sent is None:
        return Response(status_code=204)  # the client has left
    mark_accepted(request, sent.upstream)
    headers = turn_headers(sent, request.state.limit)
    cancel = cancel and not sent.replayed
    if wants_stream(body):
        encoder = CompletionsEncoder(sent.generation, wants_usage(body))
        return stream_turn(services, sent, encoder, headers, cancel)

    def stop() -> None:
        services.generations.abandon(sent.generation.id)

    return await _whole(request, sent.chunks, headers, stop if cancel else None)


async def _translate(request: Request, key: Key, body: dict[str, Any], body_bytes: int) -> Response:
    """Answer a stateless completion over an upstream that is asked through OpenAI's Responses. Nothing is stored."""
    services = services_of(request)
    owner = services.owner(key)
    turn = await run_fairly(request, body_bytes, lambda: read_turn(body, services.settings, owner, NEW))
    limit = request.state.limit = await services.rate_limit.take(owner)
    turn = replace(turn, instructions=turn.developer_message, developer_message=None)
    sent = await unless_disconnected(
        request.receive, services.generations.send_ephemeral(turn, Credential(key), session=None)
    )
    if sent is None:
        return Response(status_code=204)  # the client has left
    mark_accepted(request, sent.upstream)
    headers = dict(sent.upstream.headers) if sent.upstream is not None else {}
    headers |= limit_headers(limit, sent.upstream.limit if sent.upstream is not None else None)

    def stop() -> None:
        services.generations.abandon(sent.generation.id)

    if not wants_stream(body):
        return await _whole(request, sent.chunks, headers, stop)
    encoder = CompletionsEncoder(sent.generation, wants_usage(body))
    return LogResponse(sent.chunks, encoder, headers, services.settings.heartbeat_seconds, stop)


async def resume(request: Request, name: str, *, stream: bool, usage: bool, metadata: bool = False) -> Response:
    """Answer with an answer of a session, whole or from after `Last-Event-ID` on."""
    services = services_of(request)
    generation = await find_completion(services, caller_of(request), name, Action.READ)
    headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
    if not stream:
        chunks = (await services.generations.follow(generation.id)).chunks
        more = await stored_fields(services, generation) if metadata else None
        return await _whole(request, chunks, headers, more=more)
    followed = await services.generations.follow(generation.id, _position(request))
    encoder = CompletionsEncoder(generation, usage, followed.position, followed.before)
    return LogResponse(followed.chunks, encoder, headers, services.settings.heartbeat_seconds)


def _position(request: Request) -> int:
    value = request.headers.get("last-event-id") or "0"
    if not value.isascii() or not value.isdecimal() or len(value) > 15:
        raise InvalidRequest.field("Last-Event-ID", "Must be the id of an event, a number.")
    return int(value)


async def _whole(
    request: Request,
    readings: LogChunks,
    headers: dict[str, str],
    on_disconnect: Callable[[], None] | None = None,
    more: dict[str, Any] | None = None,
) -> Response:
    try:
        whole = await read_whole(readings, request.receive, on_disconnect)
    except ChatError as error:
        error.headers |= headers
        raise
    return JSONResponse(completion(*whole) | (more or {}), headers=headers) if whole else Response(status_code=204)
