"""Aliases: names that clients gave to sessions and messages, each within its owner.

A dialect whose clients create their own IDs stores them as `TurnRequest.alias` (of a session: found or created with the
turn) and `NewMessage.alias` (of a message). Deleting the session deletes its aliases.
"""

from __future__ import annotations

from chatapi.model import Alias, NewMessage
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.repository import Repository, read


class Aliases(Repository):
    """Names that clients chose."""

    @read
    def resolve(self, owner: str, alias: Alias) -> Transaction[str | None]:
        """Return the ID of the session or message with this alias, or None.

        The ID grants no access: check it with an `Authorizer`.
        """
        return (yield from resolve_alias(owner, alias))


def resolve_alias(owner: str, alias: Alias) -> Transaction[str | None]:
    """Return the ID of the session or message with this alias, or None."""
    rows = yield (
        "SELECT target FROM alias WHERE owner = $1 AND kind = $2 AND name = $3",
        (owner, alias.kind, alias.name),
    )
    return str(rows[0][0]) if rows else None


def take_alias(owner: str, alias: Alias, session_id: str) -> Transaction[bool]:
    """Store the alias of a new session; False if the owner has the alias already."""
    taken = yield (
        "INSERT INTO alias (owner, kind, name, session_id, target) VALUES ($1, $2, $3, $4, $4) "
        "ON CONFLICT (owner, kind, name) DO NOTHING RETURNING target",
        (owner, alias.kind, alias.name, session_id),
    )
    return bool(taken)


def name_messages(
    owner: str, session_id: str, messages: tuple[NewMessage, ...], ids: tuple[str, ...]
) -> list[Statement]:
    """Store the aliases of messages. The newest message with an alias keeps it: clients may repeat a message."""
    return [
        (
            "INSERT INTO alias (owner, kind, name, session_id, target) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (owner, kind, name) DO UPDATE SET session_id = excluded.session_id, target = excluded.target",
            (owner, message.alias.kind, message.alias.name, session_id, message_id),
        )
        for message, message_id in zip(messages, ids, strict=True)
        if message.alias is not None
    ]
