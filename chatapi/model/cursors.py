"""Cursors: positions among stored messages at which a scan or a search continues."""

from __future__ import annotations

from typing import NamedTuple


class MessageCursor(NamedTuple):
    """A message as a place among the messages of its session: its parent ("" of a first one), its time and its id."""

    parent: str
    created_at: int
    id: str


class SearchCursor(NamedTuple):
    """A message, or before all messages, as a place among all that an owner has: the session, and the place in it.

    Without a `mark`: before the session itself.
    """

    created_at: int
    session_id: str
    mark: MessageCursor | None
