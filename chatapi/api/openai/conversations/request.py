"""Bodies of OpenAI's Conversations."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chatapi.api.http.request_body import Body, Metadata, Text
from chatapi.api.openai.common import check_sizes
from chatapi.api.openai.input_items import References, read_items
from chatapi.errors import InvalidRequest
from chatapi.model import NewMessage
from chatapi.settings import Settings

MAX_NEW_ITEMS = 20  # in one request, as in OpenAI's API


class NewConversation(Body):
    """A conversation to create."""

    metadata: Metadata | None = None
    items: Any = None


class ConversationChange(Body):
    """The fields of a conversation to change."""

    metadata: Metadata = Field()


class NewItems(Body):
    """Items to add."""

    items: list[Any] = Field()
    metadata: dict[Text, Text] | None = None


def read_new_items(settings: Settings, values: Any, references: References, *, keep: bool) -> tuple[NewMessage, ...]:
    """Read items to add to a conversation as messages. `keep`: as `items.read_items`.

    Raises:
        InvalidRequest, ItemNotFound: as `items.read_items`, or there are more than `MAX_NEW_ITEMS`.
    """
    if isinstance(values, list) and len(values) > MAX_NEW_ITEMS:
        raise InvalidRequest.field("items", f"Must have at most {MAX_NEW_ITEMS} items.")
    messages = read_items(values, "items", references, keep=keep)
    check_sizes(messages, "items", settings.max_message_bytes)
    return messages
