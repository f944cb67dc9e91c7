"""/v1/conversations: OpenAI's Conversations. A conversation is a session, and its items are what its messages hold."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from chatapi.api.http.request_body import Body, Text, read_raw_body, validate
from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.items import items_of, message_of, read_items
from chatapi.api.openai.responses.request import Metadata
from chatapi.api.openai.responses.routes import (
    After,
    Order,
    PageSize,
    item_list,
    not_found_as,
    require_key,
    session_id_of,
)
from chatapi.api.openai.responses.stream import conversation_id
from chatapi.auth.authorization import Action, Caller, authorize, permit
from chatapi.errors import ConversationNotFound, InvalidRequest, ItemNotFound, MessageNotFound
from chatapi.model import DEEPEST, Message, NewMessage, Session

router = APIRouter(tags=["openai"])

ITEMS_AT_MOST = 20  # in one request, as OpenAI's API takes them
Include = Annotated[list[str] | None, Query(max_length=32)]


class NewConversation(Body):
    """A conversation to make."""

    metadata: Metadata | None = None
    items: Any = None


class ConversationChange(Body):
    """What to change of a conversation."""

    metadata: Metadata = Field()


class NewItems(Body):
    """Items to add."""

    items: list[Any] = Field()
    metadata: dict[Text, Text] | None = None


@router.post("/v1/conversations")
async def create(request: Request) -> JSONResponse:
    """Make a conversation, with up to 20 items in it. It belongs to the key."""
    core = services_of(request)
    owner = core.owner(require_key(request))
    body = validate(NewConversation, await _body(request))
    input = _read_items(core, body.items if body.items is not None else [])
    request.state.limit = await core.rate_limit.take(owner)
    session = await core.store.create_conversation(owner, body.metadata or {}, input)
    return JSONResponse(_conversation(session))


@router.get("/v1/conversations/{conversation_id}")
async def retrieve(request: Request, conversation_id: str) -> JSONResponse:
    """A conversation."""
    return JSONResponse(_conversation(await _find(request, conversation_id)))


@router.post("/v1/conversations/{conversation_id}")
async def update(request: Request, conversation_id: str) -> JSONResponse:
    """Set a conversation's metadata."""
    core = services_of(request)
    caller = _caller(request)
    body = validate(ConversationChange, await _body(request))
    with not_found_as(ConversationNotFound):
        session = await core.store.change_session(
            session_id_of(conversation_id), permit(caller, Action.CHANGE), metadata=body.metadata
        )
    return JSONResponse(_conversation(session))


@router.delete("/v1/conversations/{conversation_id}")
async def delete(request: Request, conversation_id: str) -> JSONResponse:
    """Delete a conversation and all that is in it. A running answer is stopped."""
    caller = _caller(request)
    with not_found_as(ConversationNotFound):
        await services_of(request).generations.delete_session(
            session_id_of(conversation_id), permit(caller, Action.CHANGE)
        )
    return JSONResponse({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.post("/v1/conversations/{conversation_id}/items")
async def add_items(request: Request, conversation_id: str, include: Include = None) -> JSONResponse:
    """Add up to 20 items behind the conversation's last one."""
    core = services_of(request)
    caller = _caller(request)
    assert caller.owner is not None, "a key came along"
    body = validate(NewItems, await _body(request))
    input = _read_items(core, body.items)
    request.state.limit = await core.rate_limit.take(caller.owner)
    session_id = session_id_of(conversation_id)
    with not_found_as(ConversationNotFound):
        ids = await core.store.add_messages(session_id, caller.owner, permit(caller, Action.CHANGE), input)
    messages = [await core.store.find_message(session_id, message_id) for message_id in ids]
    items = [item for message in messages if message is not None for item in items_of(message)]
    return JSONResponse(item_list(items, len(items)))


@router.get("/v1/conversations/{conversation_id}/items")
async def list_items(
    request: Request,
    conversation_id: str,
    limit: PageSize = 20,
    order: Order = "desc",
    after: After = None,
    include: Include = None,
) -> JSONResponse:
    """The items along the conversation's active path, the newest first unless `order` is `asc`."""
    core = services_of(request)
    session = await _find(request, conversation_id)
    items: list[dict[str, Any]] = []
    begin = None if after is None else await _place(core, session, after)
    depth = begin.depth if begin is not None else None
    with not_found_as(ConversationNotFound):
        while len(items) <= limit:
            page = await _page(core, session.id, depth, order, limit + 1)
            if not page:
                break
            for message in page:
                of_message = items_of(message)
                items += of_message if order == "asc" else reversed(of_message)
            if begin is not None:  # the first page begins with it
                items = _behind(items, after)
                begin = None
            depth = page[-1].depth + (1 if order == "asc" else -1)
    return JSONResponse(item_list(items, limit))


async def _page(core: Services, session_id: str, depth: int | None, order: Order, limit: int) -> list[Message]:
    """Messages from this depth on, in either direction."""
    if order == "asc":
        return await core.store.messages(session_id, -1 if depth is None else depth - 1, limit)
    return await core.store.messages_before(session_id, DEEPEST if depth is None else depth + 1, limit)


async def _place(core: Services, session: Session, after: str) -> Message:
    """The message that has the item `after`."""
    found = message_of(after)
    message = await core.store.find_message(session.id, found[0]) if found is not None else None
    if message is None or after not in [item["id"] for item in items_of(message)]:
        raise InvalidRequest.field("after", "It is no item of this conversation.")
    return message


def _behind(items: list[dict[str, Any]], after: str | None) -> list[dict[str, Any]]:
    for index, item in enumerate(items):
        if item["id"] == after:
            return items[index + 1 :]
    raise InvalidRequest.field("after", "It is no item of this list.")  # but one on another branch


@router.get("/v1/conversations/{conversation_id}/items/{item_id}")
async def retrieve_item(request: Request, conversation_id: str, item_id: str, include: Include = None) -> JSONResponse:
    """One item."""
    session = await _find(request, conversation_id)
    found = message_of(item_id)
    message = await services_of(request).store.find_message(session.id, found[0]) if found is not None else None
    for item in items_of(message) if message is not None else ():
        if item["id"] == item_id:
            return JSONResponse(item)
    raise ItemNotFound


@router.delete("/v1/conversations/{conversation_id}/items/{item_id}")
async def delete_item(request: Request, conversation_id: str, item_id: str) -> JSONResponse:
    """Delete an item, and with it the other items of its message: an answer goes whole. What followed it follows what
    was before it. Returns the conversation."""
    core = services_of(request)
    caller = _caller(request)
    session = await _find(request, conversation_id)
    found = message_of(item_id)
    if found is None:
        raise ItemNotFound
    try:
        with not_found_as(ConversationNotFound):
            session = await core.store.remove_message(session.id, found[0], permit(caller, Action.CHANGE))
    except MessageNotFound:
        raise ItemNotFound from None
    return JSONResponse(_conversation(session))


def _caller(request: Request) -> Caller:
    return Caller(services_of(request).owner(require_key(request)))


async def _find(request: Request, name: str) -> Session:
    session = await services_of(request).store.find_session(session_id_of(name))
    with not_found_as(ConversationNotFound):
        return authorize(session, _caller(request), Action.READ)


async def _body(request: Request) -> dict[str, Any]:
    _, body = await read_raw_body(request, services_of(request).settings.max_media_bytes)
    return body


def _read_items(core: Services, values: Any) -> tuple[NewMessage, ...]:
    if isinstance(values, list) and len(values) > ITEMS_AT_MOST:
        raise InvalidRequest.field("items", f"At most {ITEMS_AT_MOST} items come at once.")
    input = read_items(values, "items")
    for index, message in enumerate(input):
        if sum(len(part.text.encode()) for part in message.parts) > core.settings.max_message_bytes:
            raise InvalidRequest.field(f"items.{index}", f"It is longer than {core.settings.max_message_bytes} bytes.")
    return input


def _conversation(session: Session) -> dict[str, Any]:
    return {
        "id": conversation_id(session.id),
        "object": "conversation",
        "metadata": session.metadata,
        "created_at": session.created_at // 1_000_000,
    }
