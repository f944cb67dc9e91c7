"""Members of an answer that this server does not interpret: kept with the message, and sent back with it.

Reasoning details, thought signatures and generated images are such members. Each part of kind `extra` is one line of
JSON: `{"origin": …, "fields": {…}}`. A part with a call holds members of that call, any other those of the message.
Fields go back only to the upstream they came from, which `origin` identifies without naming it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from chatapi.wire.loose_json import UNREADABLE, nests_deeper_than, read_json, write_json

EXTRAS_BYTES = 4 * 1024 * 1024  # of one answer that are kept: a generated image has up to three MiB
ORIGIN_CHARACTERS = 12
ANY_ORIGIN = ""  # of fields that every upstream may get
DEEPEST = 34  # levels of a value that is kept, so that it can be written anywhere
_GROWING = frozenset(
    {"text", "summary", "data", "transcript", "content", "thinking", "reasoning"}
)  # strings that come in pieces


def origin_of(base_url: str) -> str:
    """Return the identifier of an upstream in stored messages. It does not reveal the address."""
    return hashlib.sha256(base_url.encode()).hexdigest()[:ORIGIN_CHARACTERS]


def encode_extras(origin: str, fields: dict[str, Any]) -> str:
    """Return the text of an `extra` part."""
    return write_json({"origin": origin, "fields": fields}) + "\n"


def decode_extras(text: str) -> tuple[str, dict[str, Any]]:
    """Return the origin and the fields of an `extra` part; no fields where it was cut off or is malformed."""
    origin = ""
    fields: dict[str, Any] = {}
    for line in text.split("\n")[:-1]:
        try:
            value = read_json(line)
        except UNREADABLE:
            continue
        if isinstance(value, dict) and isinstance(value.get("fields"), dict) and not nests_deeper_than(value, DEEPEST):
            origin = str(value.get("origin", ""))
            merge(fields, value["fields"])
    return origin, fields


def merge(into: dict[str, Any], fields: dict[str, Any]) -> None:
    """Add the members of a delta to those that came before it.

    Lists are joined, and their items of the same `index` and `type` merged; text that comes in pieces grows; any other
    value replaces the one before it.
    """
    for name, value in fields.items():
        before = into.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            for item in value:
                _merge_item(before, item)
        elif isinstance(before, str) and isinstance(value, str) and name in _GROWING:
            into[name] = before + value
        elif value is not None or name not in into:
            into[name] = json.loads(json.dumps(value)) if isinstance(value, dict | list) else value


def _merge_item(items: list[Any], item: Any) -> None:
    last = items[-1] if items else None
    if (
        isinstance(item, dict)
        and isinstance(last, dict)
        and item.get("index") is not None
        and (item["index"], item.get("type")) == (last.get("index"), last.get("type"))
    ):
        merge(last, item)
    else:
        items.append(item)


def has_media(fields: dict[str, Any]) -> bool:
    """Return whether the fields hold something to look at or listen to, so that an answer is not empty."""
    return any(fields.get(name) for name in ("images", "audio", "content_parts", "image", "video", "files"))


def images_of(fields: dict[str, Any]) -> list[str]:
    """Return the URLs of the images in the fields, in order."""
    found = []
    for name in ("images", "content_parts"):
        for one in fields.get(name) or () if isinstance(fields.get(name), list) else ():
            image = one.get("image_url") if isinstance(one, dict) else None
            url = image.get("url") if isinstance(image, dict) else image
            if isinstance(url, str):
                found.append(url)
    return found
