"""Retention: delete sessions that have expired. One replica at a time does it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from chatapi.model import Microseconds
from chatapi.store.drivers.driver import Transaction
from chatapi.store.repository import Repository, read, write
from chatapi.store.rows import SESSION, read_session
from chatapi.store.sessions import DELETED, delete_session, some_of

_IDLE = "NOT EXISTS (SELECT 1 FROM generation g WHERE g.session_id = s.id AND g.status = 'running')"


class Rule(StrEnum):
    """Why a session expires: a condition in SQL, in which $1 is a time. A running answer keeps its session."""

    EXPIRES_AT = "s.expires_at IS NOT NULL AND s.expires_at < $1"
    UNUSED = "s.updated_at < $1 AND s.keep = 0 AND s.temporary = 0"
    UNUSED_TEMPORARY = "s.temporary = 1 AND s.updated_at < $1 AND s.keep = 0"


def count_statement(rule: Rule) -> str:
    """Return the statement that counts the sessions to delete, and their messages."""
    return f"SELECT count(*), coalesce(sum(s.message_count), 0) FROM session s WHERE {rule} AND {_IDLE}"


EXPIRED_SESSIONS = 5  # by one transaction: texts of running answers wait for no long one
RETENTION_LEASE = "retention"  # a row of `agreement`: until when a replica does this, and its id
_COLUMNS = ", ".join(f"s.{column.strip()}" for column in SESSION.split(","))


class Expired(NamedTuple):
    """Sessions to delete, and their messages."""

    sessions: int
    messages: int


class Retention(Repository):
    """Deletions of sessions that have expired."""

    @write
    def take_lease(self, replica: str, seconds: float) -> Transaction[bool]:
        """Take or extend the lease of this job; return False while another replica has it."""
        now = self._clock()
        rows = yield (
            "INSERT INTO agreement (name, value) VALUES ($1, $2) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
            "WHERE agreement.value < $3 OR agreement.value LIKE $4 RETURNING value",
            (RETENTION_LEASE, f"{now + int(seconds * 1e6):020d} {replica}", f"{now:020d}", f"% {replica}"),
        )
        return bool(rows)

    @read
    def find_deletion(self) -> Transaction[str | None]:
        """Return a value that is different after each deletion; None if no bytes of deleted rows are in the files."""
        rows = yield "SELECT value FROM agreement WHERE name = $1", (DELETED,)
        return str(rows[0][0]) if rows else None

    @write
    def note_erased(self, deletion: str) -> Transaction[None]:
        """Note that the bytes of deleted rows were removed up to this deletion (`find_deletion`)."""
        yield "DELETE FROM agreement WHERE name = $1 AND value = $2", (DELETED, deletion)

    @write
    def delete_expired(self, rule: Rule, before: Microseconds) -> Transaction[Expired]:
        """Delete some of the sessions that have expired by a rule, as `Sessions.delete` does each.

        Call it again until it deletes none: other writers wait for one call only. A power cut may bring the last ones
        back, for the next run: a sync for each call would slow down others.
        """
        rows = yield (
            f"SELECT {_COLUMNS} FROM session s WHERE {rule} AND {_IDLE} LIMIT {EXPIRED_SESSIONS} "
            "FOR UPDATE OF s SKIP LOCKED",
            (before,),
        )
        sessions = some_of([read_session(row) for row in rows])
        for session in sessions:
            yield from delete_session(session, self._clock())
        return Expired(len(sessions), sum(session.message_count for session in sessions))

    @read
    def count_expired(self, rule: Rule, before: Microseconds) -> Transaction[Expired]:
        """Return how many sessions have expired by a rule."""
        rows = yield count_statement(rule), (before,)
        return Expired(int(rows[0][0]), int(rows[0][1]))
