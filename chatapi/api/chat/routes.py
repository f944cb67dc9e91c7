"""POST /api/chat and what follows it: the seed's main route, its stream, and its stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from chatapi.api.chat.attachments import may_have_attachments
from chatapi.api.chat.request import ChatBody, StopBody, TextBody
from chatapi.api.chat.schemas import SEND_MESSAGE, STOP_ANSWER, STREAM_ANSWER
from chatapi.api.http.direct_route import DirectRoute
from chatapi.api.http.request_body import (
    Parameters,
    parse_in_thread,
    read_optional_body,
    receive_json,
    validate,
)
from chatapi.api.http.serializers import generation_json, parts_json
from chatapi.api.http.services import Services, authorized, key_of, services_of
from chatapi.api.http.streaming import (
    Encoder,
    EventEncoder,
    LogResponse,
    TextEncoder,
    check_offset,
    check_position,
    read_whole,
)
from chatapi.api.turns import find_generation, sent_headers, streamed, with_digest
from chatapi.api.vercel import routes as vercel
from chatapi.auth.authorization import Action, Caller, authorize, permit
from chatapi.errors import BodyTooLarge, ChatError, InvalidRequest, MessageNotFound
from chatapi.generations.running import LogChunk
from chatapi.model import ROOT, VISIBLE_KINDS, Generation, Kind, NewMessage, Part, Piece, Role, Status, TurnRequest
from chatapi.model.log import parts_of

router = APIRouter(tags=["chat"])
sending = APIRouter(tags=["chat"], route_class=DirectRoute)

Dialect = Literal["text", "events", "json"]


@sending.post("/api/chat", **SEND_MESSAGE)
async def chat(request: Request) -> Response:
    """Send a message; the answer streams back as text, as events (`Accept: text/event-stream`), or as one JSON object
    (`"stream": false`). `user_message` is required, unless there are `attachments`, or `replace` names an answer: that
    one is given anew. What the Vercel AI SDK's `useChat` sends is answered as it reads."""
    core = services_of(request)
    data = await receive_json(request, core.settings.max_media_bytes)
    is_large = len(data) > core.settings.max_body_bytes
    if is_large and not vercel.may_be_chat(data) and not may_have_attachments(data):
        raise BodyTooLarge
    value = await parse_in_thread(request, data)
    if vercel.may_be_chat(data) and vercel.is_chat(value):
        return await vercel.send(request, value)
    if is_large and not may_have_attachments(data):
        raise BodyTooLarge
    body = _read(value)
    if is_large and not body.attachments:
        raise BodyTooLarge
    key = key_of(request, body.api_key)
    if key is None:
        raise InvalidRequest.field("api_key", "This field is required, or the key as Authorization: Bearer.")
    owner = core.owner(key)
    turn = _turn(core, body, owner, _dialect(request, body), request.headers.get("idempotency-key"))
    request.state.limit = await core.rate_limit.take(owner)  # there, an error's answer finds it too
    if body.replace is not None:
        turn = await _in_place_of(core, turn, body, body.replace)

    may_spend = permit(Caller(owner), Action.SPEND)
    sent = await core.generations.send(turn, key, may_spend, interrupt=body.if_busy == "interrupt")
    headers = sent_headers(sent, request.state.limit)
    cancel = body.on_disconnect == "cancel" and not sent.repeated
    if turn.dialect == "json":
        return await _whole(core, request, sent.generation, sent.readings, headers, cancel)
    encoder: Encoder = EventEncoder(sent.generation) if turn.dialect == "events" else TextEncoder()
    return streamed(core, sent, encoder, headers, cancel)


@router.get("/api/chat/{session_id}/stream", **STREAM_ANSWER)
async def stream(
    request: Request,
    session_id: str,
    generation_id: Annotated[str | None, Query()] = None,
    offset: Annotated[int | None, Query(ge=0, lt=2**53)] = None,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**53)] = None,
) -> Response:
    """Read the session's running answer, or one that has ended, from a position on: `offset` counts the bytes of text
    that were received, `Last-Event-ID` is the id of the last event. 204 when nothing runs and nothing was asked for."""
    core = services_of(request)
    if not vercel.is_session_id(session_id):
        return await vercel.stream(request, session_id, generation_id)
    await authorized(request, session_id, Action.READ)
    generation = await find_generation(core, session_id, generation_id)
    asked = generation_id is not None or offset is not None or last_event_id is not None
    if generation is None or (generation.status is not Status.RUNNING and not asked):
        return Response(status_code=204)
    headers = {"X-Session-ID": session_id, "X-Generation-ID": generation.id}
    dialect = _asked_dialect(request, last_event_id) or generation.dialect
    if dialect == "json":
        return await _whole(core, request, generation, core.generations.follow(generation.id), headers)
    if dialect == vercel.DIALECT:
        return await vercel.replay(core, generation)
    encoder: Encoder
    so_far = await core.generations.read(generation.id) if last_event_id or offset else LogChunk([], 0, None)
    if dialect == "events":
        position = last_event_id or offset or 0
        check_position(so_far.pieces, position)
        encoder = EventEncoder(generation, position)
    else:
        position = 0
        check_offset(so_far.pieces, offset or 0)
        encoder = TextEncoder(offset or 0)
    readings = core.generations.follow(generation.id, position)
    return LogResponse(readings, encoder, headers, core.settings.heartbeat_seconds)


@router.post("/api/chat/{session_id}/stop", **STOP_ANSWER)
async def stop(request: Request, session_id: str) -> JSONResponse:
    """Stop the running answer. Returns what was kept, once the upstream's connection is closed; an answer that has
    ended already is returned as it is."""
    core = services_of(request)
    body = await read_optional_body(request, StopBody, core.settings.max_media_bytes)
    if vercel.is_session_id(session_id):
        await authorized(request, session_id, Action.CHANGE)
    else:
        session_id = await vercel.session_of(request, session_id)
    generation = await find_generation(core, session_id, body.generation_id)
    if generation is None or body.active_stream_id not in {None, generation.id}:
        return JSONResponse({"session_id": session_id, "generation_id": None, "status": None, "text": ""})
    kept = await core.generations.stop(generation.id)
    return JSONResponse(_whole_json(kept.ended or generation, kept.pieces))


def _dialect(request: Request, body: ChatBody) -> Dialect:
    if not body.stream:
        return "json"
    return "events" if "text/event-stream" in request.headers.get("accept", "") else "text"


def _asked_dialect(request: Request, last_event_id: int | None) -> Dialect | None:
    """The dialect that a request for a stream names, if it names one."""
    accept = request.headers.get("accept", "")
    if "text/event-stream" in accept or last_event_id is not None:
        return "events"
    if "text/plain" in accept or "offset" in request.query_params:
        return "text"
    return "json" if "application/json" in accept else None


def _read(value: Any) -> ChatBody:
    """A body; only one that has attachments, or replaces something, may do without a text."""
    does_without = isinstance(value, dict) and (value.get("attachments") or value.get("replace") is not None)
    return validate(ChatBody if does_without else TextBody, value)


def _turn(core: Services, body: ChatBody, owner: str, dialect: Dialect, idempotency_key: str | None) -> TurnRequest:
    settings = core.settings
    for field in ("user_message", "developer_message"):
        if len((getattr(body, field) or "").encode()) > settings.max_message_bytes:
            raise InvalidRequest.field(field, f"It is longer than {settings.max_message_bytes} bytes.")
    if not body.session_id and body.replace is not None:
        raise InvalidRequest.field("session_id", "This field is required where a message is replaced.")
    if not body.session_id and body.developer_message is None:
        raise InvalidRequest.field("developer_message", "This field is required when a session begins.")
    turn = TurnRequest(
        owner=owner,
        session_id=body.session_id or None,
        developer_message=body.developer_message,
        input=_input(body),
        model=body.model or settings.default_model,
        dialect=dialect,
        parameters=body.model_dump(include=set(Parameters.model_fields), exclude_none=True),
    )
    return with_digest(turn, idempotency_key, replaces=body.replace) if idempotency_key is not None else turn


def _input(body: ChatBody) -> tuple[NewMessage, ...]:
    """The user's message, if the body has one; its text stands where OpenAI's examples have it."""
    text = (Part(Kind.TEXT, body.user_message),) if body.user_message else ()
    parts = [attachment.part() for attachment in body.attachments or ()]
    files = tuple(part for part in parts if part.kind is Kind.FILE)
    images = tuple(part for part in parts if part.kind is Kind.IMAGE)
    content = files + text + images
    return (NewMessage(Role.USER, content),) if content else ()


async def _in_place_of(core: Services, turn: TurnRequest, body: ChatBody, message_id: str) -> TurnRequest:
    """The turn, hung beside the message that it says anew: a user's in other words, or another answer.

    Raises:
        SessionNotFound, MessageNotFound: it is not there for this caller.
        InvalidRequest: it is neither, or the turn's own message does not go with it.
    """
    assert turn.session_id is not None, "checked before"
    session = authorize(await core.store.sessions.find(turn.session_id), Caller(turn.owner), Action.SPEND)
    message = await core.store.messages.find(session.id, message_id)
    if message is None:
        raise MessageNotFound
    if message.role not in {Role.USER, Role.ASSISTANT}:
        raise InvalidRequest.field("replace", "It is neither a user's message nor an answer.")
    if message.role is Role.USER and not turn.input:
        raise InvalidRequest.field("user_message", "This field is required.")
    if message.role is Role.ASSISTANT and (body.user_message is not None or turn.input):
        named = "user_message" if body.user_message is not None else "attachments"
        raise InvalidRequest.field(named, "An answer is given anew without another message.")
    return replace(turn, parent=message.parent or ROOT)


async def _whole(
    core: Services,
    request: Request,
    generation: Generation,
    readings: AsyncGenerator[LogChunk],
    headers: dict[str, str],
    cancel: bool = False,
) -> Response:
    """The answer as one JSON object, when it has ended.

    Raises:
        ChatError: what made it fail, or interrupted it.
    """

    def left() -> None:
        core.generations.abandon(generation.id)

    try:
        whole = await read_whole(readings, request.receive, left if cancel else None)
    except ChatError as error:
        error.headers |= headers
        raise
    return JSONResponse(_whole_json(*whole), headers=headers) if whole else Response(status_code=204)


def _whole_json(generation: Generation, pieces: list[Piece]) -> dict[str, Any]:
    visible_text = b"".join(piece.data for piece in pieces if piece.kind in VISIBLE_KINDS).decode()
    reasoning = b"".join(piece.data for piece in pieces if piece.kind is Kind.REASONING).decode()
    parts = parts_json(parts_of(pieces))
    return {**generation_json(generation), "text": visible_text, "reasoning": reasoning or None, "parts": parts}
