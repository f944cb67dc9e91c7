"""Sessions and their stored messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from chatapi.model.content import Part, Role, visible_text
from chatapi.model.context import ContextPolicy
from chatapi.model.generations import Generation
from chatapi.model.ids import Microseconds

DEEPEST = 2**31 - 1  # upper bound of `Message.depth`


class Session(msgspec.Struct, frozen=True):
    """A conversation with one developer message.

    `given_title` is None until a title is set, and `""` after it was removed. `content_bytes` is the size of its
    developer message and of its stored messages, about. `keep`, `expires_at` and `temporary` decide when retention
    deletes it. `queued` is how many messages wait in its queue. `context` is None for the server's policy.
    """

    id: str
    owner: str | None
    developer_message: str
    given_title: str | None
    metadata: dict[str, str]
    head: str | None
    message_count: int
    created_at: Microseconds
    updated_at: Microseconds
    content_bytes: int = 0
    keep: bool = False
    expires_at: Microseconds | None = None
    temporary: bool = False
    queued: int = 0
    context: ContextPolicy | None = None

    @property
    def title(self) -> str | None:
        """The title, or None if there is none."""
        return self.given_title or None


Authorizer = Callable[["Session | None"], "Session"]
"""Takes a session, or None if it does not exist. Returns the session, or raises `SessionNotFound`."""


class Message(msgspec.Struct, frozen=True):
    """A stored message. Messages form a tree through `parent`; `depth` is the number of ancestors.

    `siblings` are the ids of all messages with the same parent, this one included, oldest first. Only page queries
    fill it in.
    """

    id: str
    session_id: str
    parent: str | None
    depth: int
    role: Role
    parts: tuple[Part, ...]
    created_at: Microseconds
    generation: Generation | None = None
    siblings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The visible text: text and refusal parts."""
        return visible_text(self.parts)


class ImportedSession(NamedTuple):
    """An exported session with all its messages, to be stored unchanged."""

    session: Session
    messages: list[Message]
