"""What the replicas of one database share: settings that must agree, and a probe that writes."""

from __future__ import annotations

from chatapi.model import Clock
from chatapi.store.drivers.driver import Driver, Together, Transaction
from chatapi.store.group_commit import GroupCommit
from chatapi.store.quotas import Quotas
from chatapi.store.repository import Repository, durable_write, write

_WRITTEN = (("session", "id"), ("message", "id"), ("generation", "id"), ("usage", "owner"), ("alias", "owner"))


class Deployment(Repository):
    """Facts about the database as a whole."""

    def __init__(self, driver: Driver, group_commit: GroupCommit, clock: Clock, quotas: Quotas, replica: str) -> None:
        super().__init__(driver, group_commit, clock, quotas)
        self._replica = replica

    @write
    def probe(self) -> Transaction[None]:
        """Write a row and delete it, and write to every table that a turn needs; return when that was committed.

        Each replica writes a row of its own, so that a replica that stalls blocks no other. The UPDATEs change no row;
        on PostgreSQL they fail where another program has locked a table.
        """
        yield (
            "INSERT INTO piece (generation_id, position, part, kind, text) VALUES ($1, 0, 0, '', '')",
            (self._replica,),
        )
        touched = [(f"UPDATE {table} SET {key} = $1 WHERE {key} = $1", (self._replica,)) for table, key in _WRITTEN]
        yield Together((("DELETE FROM piece WHERE generation_id = $1", (self._replica,)), *touched))

    @durable_write
    def check_shared_setting(self, name: str, value: str) -> Transaction[bool]:
        """Return whether `value` is the one that the first replica stored under this name."""
        yield "INSERT INTO agreement (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", (name, value)
        rows = yield "SELECT value FROM agreement WHERE name = $1", (name,)
        return bool(rows[0][0] == value)
