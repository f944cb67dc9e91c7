"""Events of OpenAI's Responses that are kept as received: in parts of kind `extra`, as the field `response_events`.

An event of type `ITEM_DONE` holds a whole item. One with a reasoning item belongs to the reasoning before it, which it
lets its upstream read again. One of type `ITEM_ADDED` opens an item; of a message it only begins a new one, and may
have its `phase`. Any other event is the progress of the item that is open, or unknown.
"""

from __future__ import annotations

from typing import Any

from chatapi.wire.extras import ANY_ORIGIN, decode_extras, encode_extras

FIELD = "response_events"
ITEM_ADDED, ITEM_DONE = "response.output_item.added", "response.output_item.done"


def encode_event(origin: str, event: dict[str, Any]) -> str:
    """Return the text of an `extra` part that holds an event."""
    return encode_extras(origin, {FIELD: [event]})


def encode_item(origin: str, item: dict[str, Any]) -> str:
    """Return the text of an `extra` part that holds a whole item."""
    return encode_event(origin, {"type": ITEM_DONE, "item": item})


def events_in(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events in the fields of an `extra` part, in order."""
    events = fields.get(FIELD)
    if not isinstance(events, list):
        return []
    return [one for one in events if isinstance(one, dict) and isinstance(one.get("type"), str)]


def read_events(text: str) -> list[dict[str, Any]]:
    """Return the events in the text of an `extra` part, in order."""
    return events_in(decode_extras(text)[1])


def opened_item(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return the item that an event opens, if it opens one."""
    item = event.get("item")
    return item if event["type"] == ITEM_ADDED and isinstance(item, dict) else None


def whole_item(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return the item that an event closes, if it closes one."""
    item = event.get("item")
    return item if event["type"] == ITEM_DONE and isinstance(item, dict) else None


def is_compaction(text: str) -> bool:
    """Return whether the text of an `extra` part holds a compacted conversation that a client sent."""
    if '"compaction"' not in text:
        return False
    origin, fields = decode_extras(text)
    items = [item for event in events_in(fields) if (item := whole_item(event)) is not None]
    return origin == ANY_ORIGIN and any(item.get("type") == "compaction" for item in items)
