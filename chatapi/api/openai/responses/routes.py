"""/v1/responses: OpenAI's Responses over any upstream that speaks chat completions.

A response is a generation, and its session a conversation: with `previous_response_id` the turn hangs under that
response's answer, with `conversation` under the last message there, and without either it begins a session. With
`store: false` nothing of it goes into the store; see `passing.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from chatapi.api.http.direct_route import DirectRoute
from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.request_body import read_raw_body
from chatapi.api.http.services import Services, key_of, services_of
from chatapi.api.http.streaming import LogResponse, check_position, read_whole
from chatapi.api.openai.items import items_of
from chatapi.api.openai.responses.ephemeral import EphemeralStream, PassingWhole
from chatapi.api.openai.responses.request import ResponseRequest, decode_echo, encode_echo, read_request
from chatapi.api.openai.responses.stream import (
    CONVERSATION,
    EVENTS_PER_POSITION,
    GENERATION,
    RESPONSE,
    SESSION,
    ResponsesEncoder,
    whole_response,
)
from chatapi.api.turns import sent_headers, with_digest
from chatapi.auth.authorization import Action, Caller, authorize, permit
from chatapi.auth.keys import Key
from chatapi.errors import (
    ChatError,
    ConversationNotFound,
    InvalidRequest,
    KeyRequired,
    PositionOutOfRange,
    ResponseNotFound,
    SessionNotFound,
)
from chatapi.model import Generation, TurnRequest
from chatapi.model.log import parts_of, up_to

router = APIRouter(tags=["openai"])
creating = APIRouter(tags=["openai"], route_class=DirectRoute)

DIALECT = "responses"

Order = Literal["asc", "desc"]
PageSize = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=128)]


@contextmanager
def not_found_as(error: type[ChatError], param: str | None = None) -> Iterator[None]:
    """A session that is not there, in the words of those who do not know that it is one."""
    try:
        yield
    except SessionNotFound:
        told = error()
        told.param = param
        raise told from None


def require_key(request: Request) -> Key:
    """The key that came along.

    Raises:
        KeyRequired: none did.
    """
    key = key_of(request)
    if key is None:
        raise KeyRequired
    return key


@creating.post("/v1/responses")
async def create(request: Request) -> Response:
    """A response: streamed, in one piece, or in the background; kept, unless `store` is false."""
    core = services_of(request)
    key = require_key(request)
    _, body = await read_raw_body(request, core.settings.max_media_bytes)
    asked = read_request(body, core.settings)
    caller = Caller(core.owner(key))
    turn = await _turn(core, asked, caller, request.headers.get("idempotency-key"))
    limit = request.state.limit = await core.rate_limit.take(turn.owner)
    if not asked.store:
        session = await core.store.find_session(turn.session_id) if turn.session_id is not None else None
        request_body = await core.generations.request_body(turn, session, turn.parent)
        passing = EphemeralStream if asked.stream else PassingWhole
        return passing(core, key, turn, request_body, asked.echo, limit)
    may_spend = permit(caller, Action.SPEND)
    with not_found_as(ConversationNotFound, "conversation"):
        if asked.background and not asked.stream:
            begun = await core.generations.start(turn, key, may_spend)
            headers = {"X-Session-ID": begun.session.id, "X-Generation-ID": begun.generation.id}
            said = await _said(core, begun.generation)
            return JSONResponse(said, headers=headers | limit_headers(limit, None))
        sent = await core.generations.send(turn, key, may_spend)
    headers = sent_headers(sent, limit)
    echo = await _echo(core, sent.generation) if sent.repeated else asked.echo
    if asked.stream:
        encoder = ResponsesEncoder(sent.generation, echo)
        return LogResponse(sent.readings, encoder, headers, core.settings.heartbeat_seconds)
    try:
        whole = await read_whole(sent.readings, request.receive)
    except ChatError as error:
        error.headers |= headers
        raise
    if whole is None:
        return Response(status_code=204)
    generation, pieces = whole
    return JSONResponse(whole_response(generation, echo, parts_of(pieces)), headers=headers)


@router.get("/v1/responses/{response_id}")
async def retrieve(
    request: Request,
    response_id: str,
    stream: Annotated[bool, Query()] = False,
    starting_after: Annotated[int | None, Query(ge=0, lt=2**53)] = None,
) -> Response:
    """A response as it stands; with `stream=true` its events, from its first or from behind the number
    `starting_after`, to its end."""
    core = services_of(request)
    generation = await _find(request, response_id, Action.READ)
    headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
    with not_found_as(ResponseNotFound):  # deleted a moment ago
        if not stream:
            return JSONResponse(await _said(core, generation), headers=headers)
        after = -1 if starting_after is None else starting_after
        position = max(after, 0) // EVENTS_PER_POSITION
        before = []
        if position:
            so_far = await core.generations.read(generation.id)
            before = up_to(so_far.pieces, position)
            try:
                check_position(so_far.pieces, position)
            except PositionOutOfRange:
                raise InvalidRequest.field("starting_after", "It is no number of an event of this response.") from None
        encoder = ResponsesEncoder(generation, await _echo(core, generation), after, before)
    readings = core.generations.follow(generation.id, position)
    return LogResponse(readings, encoder, headers, core.settings.heartbeat_seconds)


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """Stop a response, in the background or not. Returns what was kept; one that has ended is returned as it is."""
    core = services_of(request)
    generation = await _find(request, response_id, Action.CHANGE)
    with not_found_as(ResponseNotFound):
        await core.generations.stop(generation.id)
        return JSONResponse(await _said(core, generation))


@router.delete("/v1/responses/{response_id}")
async def delete(request: Request, response_id: str) -> JSONResponse:
    """Delete a response with its input; one that runs is stopped. A session in which nothing else is goes too."""
    core = services_of(request)
    key = require_key(request)
    generation = await _find(request, response_id, Action.CHANGE)
    with not_found_as(ResponseNotFound):
        await core.generations.stop(generation.id)
        await core.store.remove_answer(generation.id, permit(Caller(core.owner(key)), Action.CHANGE))
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(
    request: Request, response_id: str, limit: PageSize = 20, order: Order = "desc", after: After = None
) -> JSONResponse:
    """What this response was asked: the items of its own turn, and none before it."""
    generation = await _find(request, response_id, Action.READ)
    with not_found_as(ResponseNotFound):
        messages = await services_of(request).store.input_of(generation.id)
    items = [item for message in messages for item in items_of(message)]
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest.field("after", "It is no item of this list.")
        items = items[ids.index(after) + 1 :]
    return JSONResponse(item_list(items, limit))


def item_list(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of items; those beyond the limit only tell that there are more."""
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(items) > limit,
    }


async def _turn(core: Services, asked: ResponseRequest, caller: Caller, idempotency_key: str | None) -> TurnRequest:
    assert caller.owner is not None, "a key came along"
    session_id, parent = None, None
    if asked.previous_response_id is not None:
        with not_found_as(ResponseNotFound, "previous_response_id"):
            previous = await _find_for(core, caller, asked.previous_response_id, Action.SPEND)
        session_id, parent = previous.session_id, previous.message_id
    elif asked.conversation_id is not None:
        session_id = session_id_of(asked.conversation_id)
    turn = TurnRequest(
        owner=caller.owner,
        session_id=session_id,
        developer_message=None,
        input=asked.input,
        model=asked.model,
        dialect=DIALECT,
        parameters=asked.parameters,
        parent=parent,
        instructions=asked.instructions,
        echo=encode_echo(asked.echo),
    )
    if idempotency_key is None or not asked.store:
        return turn
    return with_digest(turn, idempotency_key)


def session_id_of(conversation_id: str) -> str:
    """The session of this conversation. What is no conversation's id is no session's either."""
    return SESSION + conversation_id.removeprefix(CONVERSATION) if conversation_id.startswith(CONVERSATION) else ""


async def _find(request: Request, name: str, action: Action) -> Generation:
    """The generation of this response.

    Raises:
        ResponseNotFound: it is not there, or somebody else's.
    """
    core = services_of(request)
    caller = Caller(core.owner(require_key(request)))
    with not_found_as(ResponseNotFound):
        return await _find_for(core, caller, name, action)


async def _find_for(core: Services, caller: Caller, name: str, action: Action) -> Generation:
    generation = None
    if name.startswith(RESPONSE):
        generation = await core.store.find_generation(GENERATION + name.removeprefix(RESPONSE))
    session = await core.store.find_session(generation.session_id) if generation is not None else None
    authorize(session, caller, action)
    assert generation is not None, "it was found with its session"
    return generation


async def _echo(core: Services, generation: Generation) -> dict[str, Any]:
    return decode_echo(await core.store.find_echo(generation.id))


async def _said(core: Services, generation: Generation) -> dict[str, Any]:
    """A response as it stands now."""
    reading = await core.generations.read(generation.id)
    current = reading.ended or generation
    return whole_response(current, await _echo(core, generation), parts_of(reading.pieces))
