"""The request bodies, responses and operations of Conversations."""

from __future__ import annotations

from typing import Literal, TypedDict

from chatapi.api.http.openapi import BODY_ERRORS, Example, describe, json_content, operation
from chatapi.api.openai.conversations.request import ConversationChange, NewConversation, NewItems
from chatapi.api.openai.schemas import OPENAI_ERRORS, OPENAI_KEY, PAGE, Item, ItemList
from chatapi.errors import ContextTooLarge, ConversationNotFound, ItemNotFound, QuotaExceeded, SessionBusy, SessionFull

CONVERSATION = {"conversation_id": "$CONVERSATION_ID"}
ITEM = {**CONVERSATION, "item_id": "$ITEM_ID"}
CONVERSATION_ID = "The conversation."
ERRORS = (*OPENAI_ERRORS, ConversationNotFound)
ITEMS = [{"type": "message", "role": "user", "content": "Hello"}]


class Conversation(TypedDict):
    """A conversation: a session, with the prefix `conv_` instead of `ses_`."""

    id: str
    object: Literal["conversation"]
    metadata: dict[str, str]
    created_at: int


class DeletedConversation(TypedDict):
    """The conversation was deleted."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: bool


METADATA = "At most 16 names of 64 characters with values of 512."
describe(NewConversation, metadata=METADATA, items="At most 20 items, as in the `input` of a response.")
describe(ConversationChange, metadata=METADATA + " It replaces all.")
describe(NewItems, items="At most 20 items, as in the `input` of a response.", metadata="Ignored.")

CREATE_CONVERSATION = operation(
    "createConversation",
    "Create a conversation",
    "Create a conversation of the key. It is a session: messages sent by any route are in it.",
    json_content(Conversation, "The conversation."),
    body=NewConversation,
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *BODY_ERRORS, ItemNotFound, ContextTooLarge, SessionFull, QuotaExceeded),
    examples=(Example("create", body={"metadata": {"topic": "demo"}, "items": ITEMS}),),
)
GET_CONVERSATION = operation(
    "getConversation",
    "Get a conversation",
    "Return a conversation.",
    json_content(Conversation, "The conversation."),
    parameters={"conversation_id": CONVERSATION_ID},
    security=OPENAI_KEY,
    errors=ERRORS,
    examples=(Example("get", path=CONVERSATION),),
)
UPDATE_CONVERSATION = operation(
    "updateConversation",
    "Update a conversation",
    "Set the metadata of a conversation.",
    json_content(Conversation, "The changed conversation."),
    parameters={"conversation_id": CONVERSATION_ID},
    body=ConversationChange,
    security=OPENAI_KEY,
    errors=(*ERRORS, *BODY_ERRORS),
    examples=(Example("update", path=CONVERSATION, body={"metadata": {"topic": "demo"}}),),
)
DELETE_CONVERSATION = operation(
    "deleteConversation",
    "Delete a conversation",
    "Stop a running answer, and delete the conversation with all its items.",
    json_content(DeletedConversation, "The conversation was deleted."),
    parameters={"conversation_id": CONVERSATION_ID},
    security=OPENAI_KEY,
    errors=ERRORS,
    examples=(Example("delete", path=CONVERSATION),),
)
ADD_ITEMS = operation(
    "createConversationItems",
    "Add items",
    "Add items after the last message. While an answer is running, it is a 409.",
    json_content(ItemList, "The added items."),
    parameters={"conversation_id": CONVERSATION_ID, **PAGE},
    body=NewItems,
    security=OPENAI_KEY,
    errors=(*ERRORS, *BODY_ERRORS, SessionBusy, ItemNotFound, ContextTooLarge, SessionFull, QuotaExceeded),
    examples=(Example("add", path=CONVERSATION, body={"items": ITEMS}),),
)
LIST_ITEMS = operation(
    "listConversationItems",
    "List items",
    "List the items along the active path: messages, `reasoning`, `function_call` and `function_call_output`.",
    json_content(ItemList, "A page of items."),
    parameters={"conversation_id": CONVERSATION_ID, **PAGE},
    security=OPENAI_KEY,
    errors=(*ERRORS, ItemNotFound),
    examples=(Example("list", path=CONVERSATION),),
)
GET_ITEM = operation(
    "getConversationItem",
    "Get an item",
    "Return an item, on any branch.",
    json_content(Item, "The item."),
    parameters={"conversation_id": CONVERSATION_ID, "item_id": "The item.", **PAGE},
    security=OPENAI_KEY,
    errors=(*ERRORS, ItemNotFound),
    examples=(Example("get", path=ITEM),),
)
DELETE_ITEM = operation(
    "deleteConversationItem",
    "Delete an item",
    """Delete an item, and return the conversation. The items of one answer (reasoning, message, calls) are deleted
    together, with their response. The messages after it follow the messages before it. While an answer is running,
    it is a 409.""",
    json_content(Conversation, "The conversation."),
    parameters={"conversation_id": CONVERSATION_ID, "item_id": "The item."},
    security=OPENAI_KEY,
    errors=(*ERRORS, ItemNotFound, SessionBusy),
    examples=(Example("delete", path=ITEM),),
)
