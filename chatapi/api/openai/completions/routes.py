"""/v1/chat/completions and /v1/models: OpenAI's API, as its own clients speak it.

Without a session it is stateless: the body goes upstream byte for byte, the answer comes back frame for frame, and
nothing is kept. With `X-Session-ID` (or `metadata.session_id`) it is a turn of that session; docs/http.md has the rule
by which its messages are told from those that the session knows.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from chatapi.api.http.direct_route import DirectRoute
from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.request_body import read_raw_body
from chatapi.api.http.services import Services, caller_of, key_of, services_of
from chatapi.api.http.streaming import LogResponse, check_position, read_whole
from chatapi.api.openai.completions.passthrough import StreamRelay, WholeRelay
from chatapi.api.openai.completions.stream import CompletionsEncoder, completion, generation_id
from chatapi.api.turns import sent_headers, with_digest
from chatapi.auth.authorization import Action, Caller, authorize, permit
from chatapi.auth.keys import Key
from chatapi.errors import ChatError, InvalidRequest, KeyRequired
from chatapi.model import NewMessage, Role, TurnRequest, visible_text
from chatapi.model.log import up_to
from chatapi.wire.chat_messages import read_message

router = APIRouter(tags=["openai"])
sending = APIRouter(tags=["openai"], route_class=DirectRoute)

NEW = "new"  # as a session's id: begin one
DIALECT = "completions"
MAX_CHOICES = 128  # as OpenAI's API takes them
MAX_MESSAGES = 2048  # the same; in a session each becomes a row
OURS = frozenset({"messages", "model", "stream", "stream_options", "metadata"})  # all others are passed on
NOT_KEPT = ("logprobs", "functions", "function_call", "audio")  # what a session has no place for


@sending.post("/v1/chat/completions")
async def create(request: Request) -> Response:
    """OpenAI's chat completions, streamed or not. Stateless, unless `X-Session-ID` names a session or says `new`;
    with `X-Generation-ID` (and `Last-Event-ID`) it reads that answer on and asks for no other."""
    core = services_of(request)
    key = _require_key(request)
    raw, body = await read_raw_body(request, core.settings.max_media_bytes)
    stream = _flag(body, "stream")
    if (resumed := request.headers.get("x-generation-id")) is not None:
        return await _resume(request, resumed, stream=stream, usage=_wants_usage(body))
    owner = core.owner(key)
    session_id = _session_id(request, body)
    if session_id is not None:
        return await _continue(request, key, body, session_id, stream)
    limit = request.state.limit = await core.rate_limit.take(owner)
    if stream:
        return StreamRelay(core, key, owner, raw, limit, _choices(body))
    return WholeRelay(core, key, owner, raw, limit)


@router.get("/v1/chat/completions/{completion_id}")
async def retrieve(
    request: Request,
    completion_id: str,
    stream: Annotated[bool, Query()] = False,
    include_usage: Annotated[bool, Query()] = True,
) -> Response:
    """An answer of a session by the id of its completion or generation: as one object when it has ended, or with
    `stream=true` as chunks, from after `Last-Event-ID`, if that is given."""
    _require_key(request)
    return await _resume(request, completion_id, stream=stream, usage=include_usage)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """The upstream's list of models."""
    return await _models(request)


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """What the upstream says of one model."""
    if any(part in {"", ".", ".."} for part in model.split("/")):
        raise InvalidRequest.field("model", "It is no model's name.")
    return await _models(request, model)


async def _models(request: Request, name: str | None = None) -> Response:
    core = services_of(request)
    key = _require_key(request)
    limit = request.state.limit = await core.rate_limit.take(core.owner(key))
    whole = await core.upstream.models(key, core.settings.max_answer_bytes, core.settings.status_seconds, name)
    headers = whole.headers | limit_headers(limit, whole.limit)
    return Response(whole.body, 200, headers, "application/json")


def _require_key(request: Request) -> Key:
    key = key_of(request)
    if key is None:
        raise KeyRequired
    return key


# In a session


async def _continue(request: Request, key: Key, body: dict[str, Any], session_id: str, stream: bool) -> Response:
    core = services_of(request)
    owner = core.owner(key)
    turn = _turn(core, body, owner, session_id, request.headers.get("idempotency-key"))
    request.state.limit = await core.rate_limit.take(owner)
    sent = await core.generations.send(turn, key, permit(Caller(owner), Action.SPEND))
    headers = sent_headers(sent, request.state.limit)
    if stream:
        encoder = CompletionsEncoder(sent.generation, _wants_usage(body))
        return LogResponse(sent.readings, encoder, headers, core.settings.heartbeat_seconds)
    return await _whole(request, sent.readings, headers)


def _turn(
    core: Services, body: dict[str, Any], owner: str, session_id: str, idempotency_key: str | None
) -> TurnRequest:
    for name in NOT_KEPT:
        if body.get(name):
            raise InvalidRequest.field(name, "A session has no place for it. Leave it or the session's id out.")
    if _choices(body) != 1:
        raise InvalidRequest.field("n", "A session takes one answer to a message. Leave n or the session's id out.")
    values = body.get("messages")
    if not isinstance(values, list) or not values:
        raise InvalidRequest.field("messages", "It must be a list of messages, and not an empty one.")
    model = body.get("model", core.settings.default_model)
    if not isinstance(model, str) or not 0 < len(model) <= 256 or not model.isprintable():
        raise InvalidRequest.field("model", "It must be a model's name.")
    if len(values) > MAX_MESSAGES:
        raise InvalidRequest.field("messages", f"It takes at most {MAX_MESSAGES} messages.")
    read = [read_message(value, f"messages.{index}") for index, value in enumerate(values)]
    for index, message in enumerate(read):
        if sum(len(part.text.encode()) for part in message.parts) > core.settings.max_message_bytes:
            raise InvalidRequest.field(
                f"messages.{index}", f"Its text is longer than {core.settings.max_message_bytes} bytes."
            )
    developer_message, messages = _instructions(read)
    if session_id != NEW:
        messages = _after_last_answer(messages)
    if not messages or messages[-1].role is Role.ASSISTANT:
        raise InvalidRequest.field("messages", "After the last answer there is no message to answer.")
    parameters = {name: _passable(value, name) for name, value in body.items() if name not in OURS}
    metadata = {name: value for name, value in (body.get("metadata") or {}).items() if name != "session_id"}
    turn = TurnRequest(
        owner=owner,
        session_id=None if session_id == NEW else session_id,
        developer_message=developer_message,
        input=tuple(messages),
        model=model,
        dialect=DIALECT,
        parameters=parameters | ({"metadata": _passable(metadata, "metadata")} if metadata else {}),
    )
    return turn if idempotency_key is None else with_digest(turn, idempotency_key)


def _passable(value: Any, name: str) -> Any:
    """A value that is passed on, if it can be written as JSON again."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise InvalidRequest.field(name, "It has a surrogate without its other half.") from None
    return value


def _instructions(messages: list[NewMessage]) -> tuple[str | None, list[NewMessage]]:
    """The developer message that a history brings, and the rest of it."""
    said = [visible_text(one.parts) for one in messages if one.role in {Role.SYSTEM, Role.DEVELOPER}]
    rest = [one for one in messages if one.role not in {Role.SYSTEM, Role.DEVELOPER}]
    return "\n\n".join(said) if said else None, rest


def _after_last_answer(messages: list[NewMessage]) -> list[NewMessage]:
    """The new ones of a history: those that follow its last answer."""
    answers = [index for index, message in enumerate(messages) if message.role is Role.ASSISTANT]
    return messages[answers[-1] + 1 :] if answers else messages


def _session_id(request: Request, body: dict[str, Any]) -> str | None:
    """The session that the request names, by header or in its metadata."""
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidRequest.field("metadata", "It must be an object.")
    named = (metadata or {}).get("session_id")
    if named is not None and not isinstance(named, str):
        raise InvalidRequest.field("metadata.session_id", "It must be a string.")
    header = request.headers.get("x-session-id")
    if header and named and header != named:
        raise InvalidRequest.field("metadata.session_id", "It is not the session that the header names.")
    return header or named or None


async def _resume(request: Request, name: str, *, stream: bool, usage: bool) -> Response:
    core = services_of(request)
    generation = await core.store.find_generation(generation_id(name))
    session = await core.store.find_session(generation.session_id) if generation is not None else None
    authorize(session, caller_of(request), Action.READ)
    assert generation is not None, "it was found with its session"
    headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
    if not stream:
        return await _whole(request, core.generations.follow(generation.id), headers)
    position = _position(request)
    before = (await core.generations.read(generation.id)).pieces if position else []
    if position:
        check_position(before, position)
    encoder = CompletionsEncoder(generation, usage, position, up_to(before, position))
    readings = core.generations.follow(generation.id, position)
    return LogResponse(readings, encoder, headers, core.settings.heartbeat_seconds)


def _position(request: Request) -> int:
    value = request.headers.get("last-event-id", "0")
    if not value.isascii() or not value.isdecimal() or len(value) > 15:
        raise InvalidRequest.field("Last-Event-ID", "It is the id of an event: a number.")
    return int(value)


async def _whole(request: Request, readings: Any, headers: dict[str, str]) -> Response:
    try:
        whole = await read_whole(readings, request.receive)
    except ChatError as error:
        error.headers |= headers
        raise
    return JSONResponse(completion(*whole), headers=headers) if whole else Response(status_code=204)


# Fields


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest.field(name, "It must be true or false.")
    return bool(value)


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest.field("stream_options", "It must be an object.")
    return bool((options or {}).get("include_usage"))


def _choices(body: dict[str, Any]) -> int:
    count = body.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_CHOICES:
        raise InvalidRequest.field("n", f"It must be a number from 1 to {MAX_CHOICES}.")
    return count
