"""Cursors: positions among stored messages at which a scan or a search continues."""

from __future__ import annotations

from typing import NamedTuple


class MessageCursor(NamedTuple):
    """Sort key of a message within its session: parent id (`""` for a first message), time, id."""

    parent: str
    created_at: int
    id: str


class SearchCursor(NamedTuple):
    """Position of a search among all sessions of an owner: a session, and a message in it.

    `mark` is None before the session's own title was searched.
    """

    created_at: int
    session_id: str
    mark: MessageCursor | None
