"""Shared by the routes of OpenAI's APIs: the key, lists of items, limits on texts, and lookups by OpenAI's ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.requests import HTTPConnection, Request

from chatapi.api.http.identity import key_of
from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.ids import parse_item_id
from chatapi.api.openai.input_items import References, referenced_ids
from chatapi.api.openai.items import find_item
from chatapi.api.openai.sealed_summaries import open_all
from chatapi.auth.authorization import Caller
from chatapi.auth.keys import Key
from chatapi.errors import ChatError, InvalidRequest, KeyRequired, SessionNotFound
from chatapi.model import NewMessage
from chatapi.wire.text import MESSAGE_LIMIT

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAMEABLE = re.compile(r"[a-z_-]{1,32}|\d{1,6}", re.ASCII)  # may be in an error: no key is of letters alone
_PATH_NAMES = 8  # of a path that an error shows
MAX_PARTS = 8_000  # in all messages of one request
ON_DISCONNECT_HEADER = "X-On-Disconnect"


def require_key(request: HTTPConnection) -> Key:
    """Return the caller's key.

    Raises:
        KeyRequired: the request has none.
    """
    key = key_of(request)
    if key is None:
        raise KeyRequired
    return key


def caller_with_key(request: Request) -> Caller:
    """Return the caller, who must have sent a key: under `/v1` the id of a session alone opens nothing.

    Raises:
        KeyRequired: the request has no key.
    """
    return Caller(services_of(request).owner(require_key(request)))


def cancels_on_disconnect(request: Request, field: Any = None) -> bool:
    """Return whether a stored answer is to stop when its client leaves, which it does not do by default.

    The header `X-On-Disconnect` decides, or else the body's field `on_disconnect`: `continue`, or `cancel`.

    Raises:
        InvalidRequest: the value is neither.
    """
    header = request.headers.get(ON_DISCONNECT_HEADER)
    value = field if header is None else header
    if value is not None and value not in ("continue", "cancel"):
        name = "on_disconnect" if header is None else ON_DISCONNECT_HEADER
        raise InvalidRequest.field(name, "Must be continue or cancel.")
    return bool(value == "cancel")


def check_if_busy(value: Any) -> None:
    """Refuse the choices of `POST /api/chat` for a busy session that this dialect cannot express.

    Raises:
        InvalidRequest: the value is not `reject`, which is what happens.
    """
    if value is not None and value != "reject":
        problem = "Must be reject here. POST /api/chat has interrupt and queue, also for sessions of this API."
        raise InvalidRequest.field("if_busy", problem)


@contextmanager
def not_found_as(error: type[ChatError], param: str | None = None) -> Iterator[None]:
    """Raise `error` in place of `SessionNotFound`: callers of these APIs do not know sessions."""
    try:
        yield
    except SessionNotFound:
        translated = error()
        translated.param = param
        raise translated from None


def check_surrogates(raw: bytes, body: dict[str, Any]) -> None:
    """Raise InvalidRequest unless every string of a parsed body, names of members included, is proper Unicode.

    A surrogate can only come from an escape in `raw`, and most bodies have none. One check here covers all fields:
    those that are stored, those that are passed on as they are, and those that an error names.
    """
    if _SURROGATE_ESCAPE.search(raw) is None:
        return
    pending: list[tuple[tuple[str, ...], Any]] = [((), body)]
    while pending:
        path, value = pending.pop()
        texts: Sequence[str] = ()
        if isinstance(value, str):
            texts = (value,)
        elif isinstance(value, dict):
            texts = tuple(value)
            pending += [((*path, name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            pending += [((*path, str(index)), inner) for index, inner in enumerate(value)]
        if any(_SURROGATE.search(text) for text in texts):
            names = [name if _NAMEABLE.fullmatch(name) else "?" for name in path[:_PATH_NAMES]]
            raise InvalidRequest.field(".".join(names) or "body", "Contains an unpaired surrogate.")


def check_sizes(messages: Sequence[NewMessage], path: str, max_bytes: int) -> None:
    """Raise InvalidRequest if the messages at `path` have too many parts, or one has more than `max_bytes` of text."""
    if sum(len(message.parts) for message in messages) > MAX_PARTS:
        raise InvalidRequest.field(path, f"Must have at most {MAX_PARTS} content parts in all.")
    for index, message in enumerate(messages):
        if sum(len(part.text.encode()) for part in message.parts) > max_bytes:
            raise InvalidRequest.field(
                f"{path}.{index}", f"Must have at most {max_bytes} bytes of text ({MESSAGE_LIMIT})."
            )


async def find_references(services: Services, owner: str, items: Any) -> References:
    """Return the items that `items` refer to by id, from all sessions of this owner, and its sealed summaries.

    Unknown ones are left out.
    """
    found = open_all(services.secret, owner, items)
    wanted = {name: parsed.message_id for name in referenced_ids(items) if (parsed := parse_item_id(name)) is not None}
    if not wanted:
        return found
    messages = await services.store.messages.find_of_owner(
        owner, list(dict.fromkeys(wanted.values())), services.settings.max_context_bytes
    )
    for name, message_id in wanted.items():
        if (message := messages.get(message_id)) is not None and (item := find_item(message, name)) is not None:
            found[name] = item
    return found


def own_items(
    items: list[dict[str, Any]], limit: int, order: str, after: str | None, noun: str = "an item"
) -> dict[str, Any]:
    """Return a page of a list that is small enough to be made whole; `items` are the first one first.

    Raises:
        InvalidRequest: `after` is not the id of one of them, each of which is `noun`.
    """
    if order == "desc":
        items = items[::-1]
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest.field("after", f"Must be the id of {noun} of this list.")
        items = items[ids.index(after) + 1 :]
    return item_list(items, limit)


def item_list(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Return a page of items; items beyond `limit` only set `has_more`."""
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(items) > limit,
    }
