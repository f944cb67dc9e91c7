"""Sessions and their stored messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from chatapi.model.content import Part, Role, visible_text
from chatapi.model.generations import Generation
from chatapi.model.ids import Microseconds

DEEPEST = 2**31 - 1  # more than any message's depth


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with one developer message.

    `given_title` is None until it is named, and empty when somebody took its title away.
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

    @property
    def title(self) -> str | None:
        """What it is called, if it has a title."""
        return self.given_title or None


Authorizer = Callable[["Session | None"], "Session"]
"""Asked with a session, or with None where there is none: returns it, or raises `SessionNotFound`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A stored role and its content. Messages form a tree through `parent`; `depth` counts the ancestors.

    `siblings` are the ids of all messages with this parent, itself among them, the oldest first; filled in by
    `Store.messages` and `Store.messages_before`.
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
        """What was said: the text of the spoken parts."""
        return visible_text(self.parts)


class ImportedSession(NamedTuple):
    """A session that was kept elsewhere, and all its messages, to be stored as they are."""

    session: Session
    messages: list[Message]
