"""/v1/conversations: OpenAI's Conversations. A conversation is a session, and its items are parts of its messages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from chatapi.api.http.pagination import After, Order, PageSize
from chatapi.api.http.request_body import read_raw_body, run_fairly, validate
from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.common import (
    caller_with_key,
    check_surrogates,
    find_references,
    item_list,
    not_found_as,
    require_key,
)
from chatapi.api.openai.conversations import schemas
from chatapi.api.openai.conversations.request import ConversationChange, NewConversation, NewItems, read_new_items
from chatapi.api.openai.ids import conversation_id, parse_item_id, session_of_conversation
from chatapi.api.openai.items import find_item, items_of
from chatapi.api.openai.responses.objects import items_of_messages
from chatapi.auth.authorization import Action, authorize, make_authorizer
from chatapi.errors import ConversationNotFound, InvalidRequest, ItemNotFound, MessageNotFound
from chatapi.model import DEEPEST, Message, Session
from chatapi.store.quotas import content_size

router = APIRouter(tags=["openai"])

LIST_BYTES = 4 * 1024 * 1024  # of content in a list of items, and one message more

Include = Annotated[list[str] | None, Query(max_length=32)]


@router.post("/v1/conversations", **schemas.CREATE_CONVERSATION)
async def create(request: Request) -> JSONResponse:
    """Create a conversation with up to 20 items. It belongs to the caller's key."""
    services = services_of(request)
    owner = services.owner(require_key(request))
    request.state.limit = await services.rate_limit.take(owner)
    body = validate(NewConversation, await _read_object(request))
    items = body.items if body.items is not None else []
    keep = services.hosted_tools == "pass"
    messages = read_new_items(services.settings, items, await find_references(services, owner, items), keep=keep)
    session = await services.store.sessions.create_with_messages(owner, body.metadata or {}, messages)
    return JSONResponse(_conversation(session))


@router.get("/v1/conversations/{conversation_id}", **schemas.GET_CONVERSATION)
async def retrieve(request: Request, conversation_id: str) -> JSONResponse:
    """Return a conversation."""
    return JSONResponse(_conversation(await _find(request, conversation_id)))


@router.post("/v1/conversations/{conversation_id}", **schemas.UPDATE_CONVERSATION)
async def update(request: Request, conversation_id: str) -> JSONResponse:
    """Set a conversation's metadata."""
    services = services_of(request)
    caller = caller_with_key(request)
    body = validate(ConversationChange, await _read_object(request))
    with not_found_as(ConversationNotFound):
        session = await services.store.sessions.change(
            session_of_conversation(conversation_id), make_authorizer(caller, Action.CHANGE), metadata=body.metadata
        )
    return JSONResponse(_conversation(session))


@router.delete("/v1/conversations/{conversation_id}", **schemas.DELETE_CONVERSATION)
async def delete(request: Request, conversation_id: str) -> JSONResponse:
    """Delete a conversation with its items. A running answer is stopped."""
    caller = caller_with_key(request)
    with not_found_as(ConversationNotFound):
        await services_of(request).generations.delete_session(
            session_of_conversation(conversation_id), make_authorizer(caller, Action.CHANGE)
        )
    return JSONResponse({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.post("/v1/conversations/{conversation_id}/items", **schemas.ADD_ITEMS)
async def add_items(request: Request, conversation_id: str, include: Include = None) -> JSONResponse:
    """Append up to 20 items to the conversation."""
    services = services_of(request)
    caller = caller_with_key(request)
    assert caller.owner is not None, "the request has a key"
    request.state.limit = await services.rate_limit.take(caller.owner)
    body = validate(NewItems, await _read_object(request))
    references = await find_references(services, caller.owner, body.items)
    new = read_new_items(services.settings, body.items, references, keep=services.hosted_tools == "pass")
    session_id = session_of_conversation(conversation_id)
    with not_found_as(ConversationNotFound):
        ids = await services.store.messages.add(session_id, caller.owner, make_authorizer(caller, Action.CHANGE), new)
    messages = [await services.store.messages.find(session_id, message_id) for message_id in ids]
    items = [item for message in messages if message is not None for item in items_of(message)]
    return JSONResponse(item_list(items, len(items)))


@router.get("/v1/conversations/{conversation_id}/items", **schemas.LIST_ITEMS)
async def list_items(
    request: Request,
    conversation_id: str,
    limit: PageSize = 20,
    order: Order = "desc",
    after: After = None,
    include: Include = None,
) -> JSONResponse:
    """Return the items along the conversation's active path, the newest first unless `order` is `asc`.

    There are fewer than `limit` where they are large: `has_more` tells whether others follow.
    """
    services = services_of(request)
    session = await _find(request, conversation_id)
    items: list[dict[str, Any]] = []
    start = None if after is None else await _message_of_item(services, session, after)
    depth = start.depth if start is not None else None
    size = 0
    with not_found_as(ConversationNotFound):
        while len(items) <= limit:
            page = await _page(services, session.id, depth, order, limit + 1)
            if not page:
                break
            if items and size > LIST_BYTES:
                return JSONResponse(item_list(items, limit) | {"has_more": True})
            size += sum(content_size(message.parts) for message in page)
            for of_message in await items_of_messages(services, page):
                items += of_message if order == "asc" else reversed(of_message)
            if start is not None:  # the first page begins with the message of `after`
                items = _items_after(items, after)
                start = None
            depth = page[-1].depth + (1 if order == "asc" else -1)
    return JSONResponse(item_list(items, limit))


async def _page(services: Services, session_id: str, depth: int | None, order: Order, limit: int) -> list[Message]:
    """Return messages from this depth on, in either direction."""
    if order == "asc":
        return await services.store.messages.page_after(session_id, -1 if depth is None else depth - 1, limit)
    return await services.store.messages.page_before(session_id, DEEPEST if depth is None else depth + 1, limit)


async def _message_of_item(services: Services, session: Session, after: str) -> Message:
    """Return the message that has the item `after`."""
    wanted = parse_item_id(after)
    message = await services.store.messages.find(session.id, wanted.message_id) if wanted is not None else None
    if message is None or find_item(message, after) is None:
        raise InvalidRequest.field("after", "Must be the id of an item of this conversation.")
    return message


def _items_after(items: list[dict[str, Any]], after: str | None) -> list[dict[str, Any]]:
    for index, item in enumerate(items):
        if item["id"] == after:
            return items[index + 1 :]
    raise InvalidRequest.field("after", "Must be the id of an item of this list.")  # it is on another branch


@router.get("/v1/conversations/{conversation_id}/items/{item_id}", **schemas.GET_ITEM)
async def retrieve_item(request: Request, conversation_id: str, item_id: str, include: Include = None) -> JSONResponse:
    """Return one item."""
    session = await _find(request, conversation_id)
    wanted = parse_item_id(item_id)
    store = services_of(request).store
    message = await store.messages.find(session.id, wanted.message_id) if wanted is not None else None
    for items in await items_of_messages(services_of(request), [message] if message is not None else []):
        for item in items:
            if item["id"] == item_id:
                return JSONResponse(item)
    raise ItemNotFound


@router.delete("/v1/conversations/{conversation_id}/items/{item_id}", **schemas.DELETE_ITEM)
async def delete_item(request: Request, conversation_id: str, item_id: str) -> JSONResponse:
    """Delete an item with the other items of its message, and return the conversation.

    The messages after the deleted one are moved under its parent.
    """
    services = services_of(request)
    caller = caller_with_key(request)
    session = await _find(request, conversation_id)
    wanted = parse_item_id(item_id)
    if wanted is None:
        raise ItemNotFound
    try:
        with not_found_as(ConversationNotFound):
            session = await services.store.messages.remove(
                session.id, wanted.message_id, make_authorizer(caller, Action.CHANGE)
            )
    except MessageNotFound:
        raise ItemNotFound from None
    return JSONResponse(_conversation(session))


async def _find(request: Request, name: str) -> Session:
    session = await services_of(request).store.sessions.find(session_of_conversation(name))
    with not_found_as(ConversationNotFound):
        return authorize(session, caller_with_key(request), Action.READ)


async def _read_object(request: Request) -> dict[str, Any]:
    raw, body = await read_raw_body(request, services_of(request).settings.max_media_bytes)
    await run_fairly(request, len(raw), lambda: check_surrogates(raw, body))
    return body


def _conversation(session: Session) -> dict[str, Any]:
    return {
        "id": conversation_id(session.id),
        "object": "conversation",
        "metadata": session.metadata,
        "created_at": session.created_at // 1_000_000,
    }
