"""The last response of a WebSocket that was not stored, so that the next request can follow it.

It is in memory as long as the connection, and no other connection can refer to it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

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

    def expand(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request that stands for itself: one that follows the response kept here has its items first."""
        if self._id is None or body.get("previous_response_id") != self._id:
            return dict(body)
        expanded = {name: value for name, value in body.items() if name != "previous_response_id"}
        return expanded | {"input": [*self._items, *_as_items(body.get("input"))]}

    def keep(self, given: Any, last_event: bytes) -> None:
        """Keep a response in place of the one before, from the input of its request and its last event."""
        event = msgspec.json.decode(last_event)
        if event.get("type") not in _ENDS:
            return
        response = event["response"]
        items = [*_as_items(given), *response["output"]]
        self._id, self._items = response["id"], items
        if len(encode_json(items)) > self._most_bytes:
            self._id, self._items = None, []


def _as_items(given: Any) -> list[Any]:
    """Return an input as a list of items; one that is no input is left to the request's own check."""
    if isinstance(given, list):
        return given
    return [{"role": "user", "content": given}] if given is not None else []
