"""Stored chat completions under /v1/chat/completions: list, change and delete them, and list their messages.

A completion is a generation; one whose request had `store: true` is listed, and has metadata. Any completion of a
session can be read and deleted.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from chatapi.api.http.pagination import After, Order, PageSize
from chatapi.api.http.request_body import METADATA_ENTRIES, read_raw_body
from chatapi.api.http.services import services_of
from chatapi.api.openai.common import caller_with_key, check_surrogates, item_list, own_items
from chatapi.api.openai.completions import schemas
from chatapi.api.openai.completions.lookup import find_completion
from chatapi.api.openai.completions.request import (
    decode_stored_fields,
    encode_stored_fields,
    metadata_mark,
    read_stored_metadata,
)
from chatapi.api.openai.completions.stream import completion_of
from chatapi.api.openai.ids import completion_id, generation_of_completion
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.errors import InvalidRequest
from chatapi.model import Generation, NewMessage
from chatapi.model.log import parts_of
from chatapi.wire.chat_messages import write_message

router = APIRouter(tags=["openai"])

_FILTER = re.compile(r"metadata\[([^\[\]]{1,64})\]")


@router.get("/v1/chat/completions", **schemas.LIST_COMPLETIONS)
async def list_completions(
    request: Request,
    model: Annotated[str | None, Query(max_length=256)] = None,
    limit: PageSize = 20,
    order: Order = "asc",
    after: After = None,
) -> JSONResponse:
    """Return the stored completions of the caller's key, the oldest first unless `order` is `desc`."""
    caller = caller_with_key(request)
    assert caller.owner is not None, "the request has a key"
    found = await services_of(request).store.completions.page(
        caller.owner,
        model,
        _marks(request),
        generation_of_completion(after) if after is not None else None,
        limit + 1,
        newest_first=order == "desc",
    )
    whole = [
        completion_of(one.generation, one.parts) | {"metadata": decode_stored_fields(one.dialect_data)} for one in found
    ]
    return JSONResponse(item_list(whole, limit))


def _marks(request: Request) -> list[str]:
    """Return the marks of the entries of metadata that the query asks for, as in `metadata[name]=value`."""
    marks = []
    for name, value in request.query_params.multi_items():
        if not name.startswith("metadata"):
            continue
        if (wanted := _FILTER.fullmatch(name)) is None:
            raise InvalidRequest.field("metadata", "Must be sent as metadata[name]=value.")
        marks.append(metadata_mark(wanted[1], value))
    if len(marks) > METADATA_ENTRIES:
        raise InvalidRequest.field("metadata", f"Must have at most {METADATA_ENTRIES} entries.")
    return marks


@router.post("/v1/chat/completions/{completion_id}", **schemas.UPDATE_COMPLETION)
async def update(request: Request, completion_id: str) -> JSONResponse:
    """Replace the metadata of a stored completion, and return it."""
    services = services_of(request)
    caller = caller_with_key(request)
    raw, body = await read_raw_body(request, services.settings.max_body_bytes)
    check_surrogates(raw, body)
    if body.keys() != {"metadata"}:
        raise InvalidRequest.field("metadata", "Must be sent, and nothing else.")
    metadata = read_stored_metadata(body["metadata"])
    generation = await find_completion(services, caller, completion_id, Action.CHANGE)
    await services.store.completions.set_data(
        generation.id, encode_stored_fields(metadata), make_authorizer(caller, Action.CHANGE)
    )
    chunk = await services.generations.read(generation.id)
    whole = completion_of(chunk.ended or generation, parts_of(chunk.pieces))
    return JSONResponse(whole | {"metadata": metadata})


@router.delete("/v1/chat/completions/{completion_id}", **schemas.DELETE_COMPLETION)
async def delete(request: Request, completion_id: str) -> JSONResponse:
    """Delete a completion with its messages; a running one is stopped. A session without other messages goes too."""
    services = services_of(request)
    caller = caller_with_key(request)
    generation = await find_completion(services, caller, completion_id, Action.CHANGE)
    await services.generations.stop(generation.id)
    await services.store.messages.remove_answer(generation.id, make_authorizer(caller, Action.CHANGE))
    return JSONResponse({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


@router.get("/v1/chat/completions/{completion_id}/messages", **schemas.LIST_COMPLETION_MESSAGES)
async def list_messages(
    request: Request, completion_id: str, limit: PageSize = 20, order: Order = "asc", after: After = None
) -> JSONResponse:
    """Return the messages of this completion's own turn, without those before it in its session."""
    services = services_of(request)
    generation = await find_completion(services, caller_with_key(request), completion_id, Action.READ)
    stored = await services.store.messages.find_input(generation.id)
    session = await services.store.sessions.find(generation.session_id)
    begins = not stored or stored[0].parent is None
    texts = [session.developer_message] if session is not None and begins and session.developer_message else []
    written = [{"role": "developer", "content": text} for text in texts]
    written += [write_message(NewMessage(message.role, message.parts), "developer") for message in stored]
    messages = [_stored_message(generation, index, message) for index, message in enumerate(written)]
    return JSONResponse(own_items(messages, limit, order, after, "a message"))


def _stored_message(generation: Generation, index: int, message: dict[str, Any]) -> dict[str, Any]:
    parts = message["content"] if isinstance(message["content"], list) else None
    name = f"{completion_id(generation.id)}-{index}"
    return {"id": name, **message, "content": None if parts else message["content"], "content_parts": parts}
