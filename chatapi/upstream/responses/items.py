"""Items of an answer of OpenAI's Responses while they are open, and events in the form in which they are kept."""

from __future__ import annotations

import secrets
from typing import Any

from chatapi.errors import UpstreamBroken
from chatapi.model import Kind, ToolCall
from chatapi.upstream.provider import Deltas
from chatapi.wire.loose_json import REPLACEMENT

NAME_CHARACTERS = 256  # of a call's id or name; OpenAI's have at most 64
_KINDS = {
    "message": Kind.TEXT,
    "reasoning": Kind.REASONING,
    "function_call": Kind.TOOL_CALL,
    "custom_tool_call": Kind.TOOL_CALL,
}
_NOT_KEPT = frozenset({"sequence_number", "output_index", "obfuscation"})  # members that belong to one stream


class OpenItem:
    """An item that may still grow. `held` is its content while an earlier item is open."""

    __slots__ = ("annotations", "announced", "call", "closed", "held", "id", "index", "kind", "part", "type", "written")

    def __init__(self, item: dict[str, Any], index: int | None, *, announced: bool) -> None:
        self.type = str(item.get("type", ""))
        self.id = item.get("id")
        self.index = index
        self.kind = _KINDS.get(self.type)
        self.announced = announced
        self.call: ToolCall | None = None
        self.closed = False
        self.held: Deltas = []
        self.written = 0  # characters of its text
        self.annotations = 0
        self.part: Any = None  # of its text, the one that the last delta belonged to

    @property
    def is_kept(self) -> bool:
        """Whether the item is kept as received, because it is neither text, reasoning nor a call."""
        return self.kind is None

    def is_of(self, index: int | None, item_id: Any) -> bool:
        """Return whether an event with this index and id belongs to the item. Servers send either, or both."""
        if index is not None and self.index is not None:
            return index == self.index
        return item_id is None or self.id is None or item_id == self.id

    def turns_to(self, part: Any) -> bool:
        """Note the part that a delta belongs to; return whether an earlier part has ended."""
        before, self.part = self.part, part
        return before is not None and before != part


def names_of_call(item: dict[str, Any]) -> ToolCall:
    """Return the id and the name of a call; a call without an id gets one.

    Raises:
        UpstreamBroken: it has no name, or its id or name is too long.
    """
    call_id, name = item.get("call_id") or item.get("id"), item.get("name")
    if not isinstance(name, str) or not name:
        raise UpstreamBroken("The model API sent a tool call without a name.")
    found = call_id if isinstance(call_id, str) and call_id else "call_" + secrets.token_urlsafe(18)
    if len(found) > NAME_CHARACTERS or len(name) > NAME_CHARACTERS:
        raise UpstreamBroken("The model API sent a tool call whose id or name is too long.")
    return ToolCall(_printable(found), _printable(name))


def kept_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without the members that belong to the stream in which it came."""
    return {name: value for name, value in event.items() if name not in _NOT_KEPT}


def _printable(name: str) -> str:
    return name if name.isprintable() else "".join(c if c.isprintable() else REPLACEMENT for c in name)
