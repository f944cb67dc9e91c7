"""The routes of /v1/responses (`creating`) and of one response."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from chatapi.api.http.framework import describe
from chatapi.api.http.pagination import After, Order, PageSize
from chatapi.api.http.services import services_of
from chatapi.api.http.streaming import LogResponse
from chatapi.api.openai.common import caller_with_key, not_found_as, own_items
from chatapi.api.openai.responses import creating, schemas
from chatapi.api.openai.responses.creating import current, request_fields
from chatapi.api.openai.responses.objects import items_of_messages
from chatapi.api.openai.responses.stream import EVENTS_PER_POSITION, ResponsesEncoder
from chatapi.api.openai.responses.turns import find_response
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.errors import InvalidRequest, PositionOutOfRange, ResponseNotFound
from chatapi.model import Generation

router = APIRouter(tags=["openai"])
describe(router, creating.direct, {creating.create: schemas.CREATE_RESPONSE})


@router.get("/v1/responses/{response_id}", **schemas.GET_RESPONSE)
async def retrieve(
    request: Request,
    response_id: str,
    stream: Annotated[bool, Query()] = False,
    starting_after: Annotated[int | None, Query(ge=0, lt=2**53)] = None,
) -> Response:
    """A response as it stands; with `stream=true` its events, from its first or from after the number
    `starting_after`, to its end."""
    services = services_of(request)
    generation = await _find(request, response_id, Action.READ)
    headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
    with not_found_as(ResponseNotFound):  # deleted a moment ago
        if not stream:
            return JSONResponse(await current(services, generation), headers=headers)
        after = -1 if starting_after is None else starting_after
        try:
            position = max(after, 0) // EVENTS_PER_POSITION
            followed = await services.generations.follow(generation.id, position, by_cut=True)
        except PositionOutOfRange:
            raise InvalidRequest.field(
                "starting_after", "Must be the sequence number of an event of this response."
            ) from None
        encoder = ResponsesEncoder(generation, await request_fields(services, generation), after, followed.before)
    return LogResponse(followed.chunks, encoder, headers, services.settings.heartbeat_seconds)


@router.post("/v1/responses/{response_id}/cancel", **schemas.CANCEL_RESPONSE)
async def cancel(request: Request, response_id: str) -> Response:
    """Stop a response, in the background or not, and return it; one that has ended is returned as it is."""
    services = services_of(request)
    generation = await _find(request, response_id, Action.CHANGE)
    with not_found_as(ResponseNotFound):
        await services.generations.stop(generation.id)
        return JSONResponse(await current(services, generation))


@router.delete("/v1/responses/{response_id}", **schemas.DELETE_RESPONSE)
async def delete(request: Request, response_id: str) -> JSONResponse:
    """Delete a response with its input; a running one is stopped. A session without other messages goes too."""
    services = services_of(request)
    generation = await _find(request, response_id, Action.CHANGE)
    with not_found_as(ResponseNotFound):
        await services.generations.stop(generation.id)
        await services.store.messages.remove_answer(
            generation.id, make_authorizer(caller_with_key(request), Action.CHANGE)
        )
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items", **schemas.LIST_INPUT_ITEMS)
async def input_items(
    request: Request, response_id: str, limit: PageSize = 20, order: Order = "desc", after: After = None
) -> JSONResponse:
    """Return the items of this response's own turn, without those before it."""
    generation = await _find(request, response_id, Action.READ)
    with not_found_as(ResponseNotFound):
        messages = await services_of(request).store.messages.find_input(generation.id)
    items = [item for items in await items_of_messages(services_of(request), messages) for item in items]
    return JSONResponse(own_items(items, limit, order, after))


async def _find(request: Request, name: str, action: Action) -> Generation:
    """Return the generation of this response.

    Raises:
        ResponseNotFound: there is none, or the caller may not do that with it.
    """
    with not_found_as(ResponseNotFound):
        return await find_response(services_of(request), caller_with_key(request), name, action)
