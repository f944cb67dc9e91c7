"""Who may do what to which session: one function decides, and everything asks it.

The rule. A session belongs to the owner tag of the key that first chatted in it. Whoever brings that key may do
everything; whoever brings another, nothing. A session that nobody owns yet is reached by its id, which is 128 random
bits. One that is owned is reached by its id alone only where the operator says so, and never to spend:
`Settings.session_access` is `key` (never), `id` (always), or `auto` (when the caller is plainly the same machine, see
`api.core.is_same_machine`).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum

from chatapi.errors import SessionNotFound
from chatapi.model import Authorizer, Session


class Action(Enum):
    """What a caller wants of a session."""

    READ = "read"
    CHANGE = "change"  # edit, stop or delete
    SPEND = "spend"  # send a message with the owner's key


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tag of the key that came along, if one did, and whether an id alone is enough from here."""

    owner: str | None
    trusted_by_id: bool = False


def permit(caller: Caller, action: Action) -> Authorizer:
    """`authorize` for this caller and action, for a transaction to ask when it has the session."""
    return lambda session: authorize(session, caller, action)


def authorize(session: Session | None, caller: Caller, action: Action) -> Session:
    """The session, if this caller may.

    Raises:
        SessionNotFound: it does not exist, or this caller may not: the two cannot be told apart.
    """
    if session is None:
        raise SessionNotFound
    if session.owner is None:
        return session
    if caller.owner is not None and hmac.compare_digest(session.owner, caller.owner):
        return session
    if caller.owner is None and caller.trusted_by_id and action is not Action.SPEND:
        return session
    raise SessionNotFound
