"""The last response of a WebSocket that was not stored, so that the next request can follow it.

It is in memory as long as the connection, and no other connection can refer to it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from chatapi.errors import InvalidRequest

WARM_UP = "chatapi.warm_up"  # in the scope of a request: prepare a response, and ask no model
_ENDS = ("response.completed", "response.incomplete")


def encode_json(value: Any) -> bytes:
    """Return the JSON of a value that was parsed, with numbers of any size."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class UnstoredResponses:
    """One unstored response, as the items of its conversation; none if these have more than `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._id: str | None = None
        self._items: list[Any] = []
        self.size = 0  # of the items as JSON, in bytes

    def expand(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request that stands for itself: one that follows the response kept here has its items first.

        The response is kept no longer: if the request fails, its client has to send the conversation, as at OpenAI.

        Raises:
            InvalidRequest: it has the result of a call that is not in the conversation.
        """
        if self._id is None or body.get("previous_response_id") != self._id:
            return dict(body)
        before = self._items
        self._forget()
        expanded = {name: value for name, value in body.items() if name != "previous_response_id"}
        new = _as_items(body.get("input"))
        called = {call_id for one in (*before, *new) if (call_id := _call_id(one, "_call")) is not None}
        for index, item in enumerate(new):
            if (call_id := _call_id(item, "_call_output")) is not None and call_id not in called:
                raise InvalidRequest.field(f"input.{index}.call_id", "Must be the id of a call in the conversation.")
        return expanded | {"input": [*before, *new]}

    def keep(self, given: Any, last_event: bytes) -> None:
        """Keep a response in place of the one before, from the input of its request and its last event."""
        event = msgspec.json.decode(last_event)
        if event.get("type") not in _ENDS:
            return
        response = event["response"]
        items = [*_as_items(given), *response["output"]]
        self._id, self._items, self.size = response["id"], items, len(encode_json(items))
        if self.size > self._most_bytes:
            self._forget()

    def _forget(self) -> None:
        self._id, self._items, self.size = None, [], 0


def _call_id(item: Any, ending: str) -> str | None:
    """Return the call's id of an item whose type ends so; None for any other, which the request's own check reads."""
    if not isinstance(item, dict) or not str(item.get("type", "")).endswith(ending):
        return None
    call_id = item.get("call_id")
    return call_id if isinstance(call_id, str) else None


def _as_items(given: Any) -> list[Any]:
    """Return an input as a list of items; one that is no input is left to the request's own check."""
    if isinstance(given, list):
        return given
    return [{"role": "user", "content": given}] if given is not None else []
