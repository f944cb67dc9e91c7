"""Summaries that clients hold as the `encrypted_content` of items of type `compaction`. Pure: values in, values out.

A sealed summary opens for the owner that it was made for, and nothing else opens: its text is authenticated with the
secret of the owner tags. It is not hidden from its owner, whose conversation it summarises.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any

from chatapi.generations.compaction import MAX_SUMMARY_CHARACTERS
from chatapi.generations.context import SUMMARY_BEGIN, quote_summary
from chatapi.model import Kind, NewMessage, Part, Role

SEAL = "chatapi-summary-1."  # no upstream's content is expected to begin so
MAX_SEALED = 8  # in one request
_CONTEXT = b"chatapi sealed summary, version 1\0"
_TAG_BYTES = 32
_MAX_CHARACTERS = len(SEAL) + (_TAG_BYTES + 4 * MAX_SUMMARY_CHARACTERS) * 4 // 3 + 4


def seal_summary(secret: bytes, owner: str, text: str) -> str:
    """Return a summary as its owner may send it back."""
    content = text.encode()
    return SEAL + base64.urlsafe_b64encode(_tag(secret, owner, content) + content).decode()


def open_summary(secret: bytes, owner: str, sealed: str) -> str | None:
    """Return the text of a sealed summary; None if it was not made here for this owner."""
    if not is_sealed(sealed) or len(sealed) > _MAX_CHARACTERS:
        return None
    try:
        found = base64.b64decode(sealed.removeprefix(SEAL), altchars=b"-_", validate=True)
    except ValueError:
        return None
    tag, content = found[:_TAG_BYTES], found[_TAG_BYTES:]
    return content.decode() if hmac.compare_digest(tag, _tag(secret, owner, content)) else None


def open_all(secret: bytes, owner: str, items: Any) -> dict[str, NewMessage]:
    """Return the messages for the sealed summaries in a list of items, by their sealed form.

    Those that do not open, and those after the first `MAX_SEALED`, are left out.
    """
    sealed = [
        content
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("type") == "compaction" and is_sealed(content := _content(item))
    ]
    opened = {one: open_summary(secret, owner, one) for one in [*dict.fromkeys(sealed)][:MAX_SEALED]}
    return {one: summary_message(text) for one, text in opened.items() if text is not None}


def is_sealed(content: str) -> bool:
    """Return whether a text claims to be a sealed summary."""
    return content.startswith(SEAL)


def summary_message(text: str) -> NewMessage:
    """Return the message that a summary is: the user's, so that it speaks with no more authority."""
    return NewMessage(Role.USER, (Part(Kind.TEXT, quote_summary(text)),))


def is_summary(message: NewMessage) -> bool:
    """Return whether a message of the user is a quoted summary, which the next summary covers."""
    return message.role is Role.USER and any(part.text.startswith(SUMMARY_BEGIN) for part in message.parts[:1])


def _content(item: dict[str, Any]) -> str:
    content = item.get("encrypted_content")
    return content if isinstance(content, str) else ""


def _tag(secret: bytes, owner: str, content: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + owner.encode() + b"\0" + content, "sha256")
