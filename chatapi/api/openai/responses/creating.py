"""POST /v1/responses, OpenAI's Responses over any upstream: a direct route, which `routes` describes.

A response is a generation, and its session a conversation: with `previous_response_id` the turn follows that response's
answer, with `conversation` the last message there, and without either it begins a session. With `store: false` nothing
of it is stored; see `generations.ephemeral`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.identity import mark_accepted
from chatapi.api.http.request_body import read_raw_body, run_fairly
from chatapi.api.http.services import Services, services_of
from chatapi.api.http.streaming import LogResponse, read_whole
from chatapi.api.http.supervision import unless_disconnected
from chatapi.api.openai.common import (
    cancels_on_disconnect,
    check_surrogates,
    find_references,
    not_found_as,
    require_key,
)
from chatapi.api.openai.responses.objects import decode_request_fields, whole_response
from chatapi.api.openai.responses.request import ResponseRequest, read_request
from chatapi.api.openai.responses.stream import ResponsesEncoder
from chatapi.api.openai.responses.turns import DIALECT, in_own_branch, read_turn
from chatapi.api.openai.responses.unstored import WARM_UP
from chatapi.api.turns import left_out_header, turn_headers, unless_left
from chatapi.auth.authorization import Action, Caller, make_authorizer
from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import ChatError, ConversationNotFound
from chatapi.generations.reader import LogChunks
from chatapi.model import Generation, Status, TurnRequest, new_id, wall_clock
from chatapi.model.log import parts_of

direct = DirectRoutes()

OMITTED_TOOLS_HEADER = "X-Omitted-Tools"  # the hosted tools that a request named and that were left out


@direct.post("/v1/responses")
async def create(request: Request) -> Response:
    """A response: streamed, in one piece, or in the background; stored, unless `store` is false."""
    services = services_of(request)
    key = require_key(request)
    owner = services.owner(key)
    caller = Caller(owner)
    raw, body = await read_raw_body(request, services.settings.max_media_bytes)
    await run_fairly(request, len(raw), lambda: check_surrogates(raw, body))
    references = await find_references(services, owner, body.get("input"))
    asked = await run_fairly(
        request, len(raw), lambda: read_request(body, services.settings, references, services.hosted_tools)
    )
    turn = await read_turn(request, asked, caller)
    limit = request.state.limit = await services.rate_limit.take(owner)
    if request.scope.get(WARM_UP):
        return _prepared(turn, asked)
    if not asked.store:
        return await _answer_unstored(request, key, asked, turn)
    cancel = cancels_on_disconnect(request, asked.on_disconnect)
    may_spend = make_authorizer(caller, Action.SPEND)
    with not_found_as(ConversationNotFound, "conversation"):
        if asked.background and not asked.stream:
            begun = await in_own_branch(
                request, turn, may_spend, lambda one: services.generations.start(one, Credential(key), may_spend)
            )
            headers = {"X-Session-ID": begun.session.id, "X-Generation-ID": begun.generation.id}
            whole = await current(services, begun.generation)
            return JSONResponse(whole, headers=headers | limit_headers(limit, None))
        sending = in_own_branch(
            request,
            turn,
            may_spend,
            lambda one: services.generations.send(one, Credential(key), may_spend, by_cut=True, stop_if_cancelled=True),
        )
        sent = await unless_left(request, cancel, sending)
    if sent is None:
        return Response(status_code=204)  # the client has left
    mark_accepted(request, sent.upstream)
    fields = await request_fields(services, sent.generation) if sent.replayed else asked.repeated
    stop = _stopper(services, sent.generation) if cancel and not sent.replayed else None
    return await _answer(request, asked, sent.generation, sent.chunks, fields, turn_headers(sent, limit), stop)


def _prepared(turn: TurnRequest, asked: ResponseRequest) -> Response:
    """Return the events of a response without output: a WebSocket has kept its input for the next request."""
    now = wall_clock()
    generation = Generation(
        new_id("gen"), "", new_id("msg"), Status.COMPLETED, turn.model, DIALECT, now, ended_at=now, finish_reason="stop"
    )
    encoder = ResponsesEncoder(generation, asked.repeated)
    return Response(encoder.begin() + encoder.end(generation), media_type=encoder.media_type)


async def _answer_unstored(request: Request, key: Key, asked: ResponseRequest, turn: TurnRequest) -> Response:
    """Answer a request with `store: false`. A client that leaves ends the answer."""
    services = services_of(request)
    session = await services.store.sessions.find(turn.session_id) if turn.session_id is not None else None
    asking = services.generations.send_ephemeral(turn, Credential(key), session)
    sent = await unless_disconnected(request.receive, asking)
    if sent is None:
        return Response(status_code=204)  # the client has left
    mark_accepted(request, sent.upstream)
    headers = dict(sent.upstream.headers) if sent.upstream is not None else {}
    headers |= limit_headers(request.state.limit, sent.upstream.limit if sent.upstream is not None else None)
    headers |= left_out_header(sent.generation)
    stop = _stopper(services, sent.generation)
    return await _answer(request, asked, sent.generation, sent.chunks, asked.repeated, headers, stop)


async def _answer(
    request: Request,
    asked: ResponseRequest,
    generation: Generation,
    readings: LogChunks,
    fields: dict[str, Any],
    headers: dict[str, str],
    on_disconnect: Callable[[], None] | None,
) -> Response:
    """Answer with the events of a log, or with its end in one piece. `fields` are those that the response repeats."""
    if asked.omitted_tools:
        headers[OMITTED_TOOLS_HEADER] = ", ".join(dict.fromkeys(asked.omitted_tools))
    if asked.stream:
        encoder = ResponsesEncoder(generation, fields)
        heartbeat_seconds = services_of(request).settings.heartbeat_seconds
        return LogResponse(readings, encoder, headers, heartbeat_seconds, on_disconnect)
    try:
        whole = await read_whole(readings, request.receive, on_disconnect)
    except ChatError as error:
        error.headers |= headers
        raise
    if whole is None:
        return Response(status_code=204)  # the client has left
    ended, pieces = whole
    return JSONResponse(whole_response(ended, fields, parts_of(pieces)), headers=headers)


def _stopper(services: Services, generation: Generation) -> Callable[[], None]:
    def stop() -> None:
        services.generations.abandon(generation.id)

    return stop


async def request_fields(services: Services, generation: Generation) -> dict[str, Any]:
    """Return the fields of a response's request that the response repeats; none of another dialect's request."""
    if generation.dialect != DIALECT:
        return {}
    return decode_request_fields(await services.store.generations.find_dialect_data(generation.id))


async def current(services: Services, generation: Generation) -> dict[str, Any]:
    """Return a response as it stands now."""
    chunk = await services.generations.read(generation.id)
    fields = await request_fields(services, generation)
    return whole_response(chunk.ended or generation, fields, parts_of(chunk.pieces))
