"""The identity of a process in the database that it shares with others."""

from __future__ import annotations

from typing import NamedTuple


class Replica(NamedTuple):
    """A process: its id, and the id of a dead process whose place it takes, if there is one."""

    id: str
    predecessor: str | None = None
