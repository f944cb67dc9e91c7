"""The routes of POST /api/chat (`sending`) and of its answers: the stream, and the stop."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator

from chatapi.api.chat import sending
from chatapi.api.chat.queue import offer_key
from chatapi.api.chat.request import StopBody, requested_replay
from chatapi.api.chat.schemas import SEND_MESSAGE, STOP_ANSWER, STREAM_ANSWER
from chatapi.api.chat.sending import whole_json, whole_response
from chatapi.api.chat.stream import EventEncoder
from chatapi.api.http.framework import describe
from chatapi.api.http.identity import authorized
from chatapi.api.http.request_body import read_optional_body
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import Encoder, LogResponse
from chatapi.api.http.text_stream import TextEncoder
from chatapi.api.turns import find_generation, log_headers, read_answer
from chatapi.api.vercel import routes as vercel
from chatapi.auth.authorization import Action
from chatapi.model import Status

router = APIRouter(tags=["chat"])
describe(router, sending.direct, {sending.chat: SEND_MESSAGE})


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
        return whole_response(await read_answer(services, request, generation, chunks, headers), headers)
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
    return JSONResponse(whole_json(kept.ended or generation, kept.pieces))
