"""Shares: links with which anyone can read a conversation."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from chatapi.model.ids import Microseconds


class Share(msgspec.Struct, frozen=True):
    """A link to the path that ends in a message, until a time. Its token is not part of it: only a digest is stored."""

    id: str
    session_id: str
    message_id: str
    created_at: Microseconds
    expires_at: Microseconds


ShareAuthorizer = Callable[["Share | None", Microseconds], "Share"]
"""Takes a share, or None if there is none with the token, and the time. Returns it, or raises `ShareNotFound`."""
