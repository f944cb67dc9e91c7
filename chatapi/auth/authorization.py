"""Access to sessions: one function decides every case; and to shared ones, by a link: another.

The rule. A session belongs to the owner tag of the key that first chatted in it. A caller with that key may do
everything; a caller with another key, nothing. A session without an owner is reached by its id, which has 128 random
bits. A session with an owner is reached by its id alone only where the operator allows it, and never to spend:
`Settings.session_access` is `key` (never), `id` (always), or `auto` (if the caller is on this machine, see
`api.http.identity.is_same_machine`). A caller that needs a key and sent none gets 401 for every id alike.
"""

from __future__ import annotations

import hmac
from enum import Enum

import msgspec

from chatapi.errors import KeyRequired, SessionNotFound, ShareNotFound
from chatapi.model import Authorizer, Microseconds, Session, Share


class Action(Enum):
    """An action on a session."""

    READ = "read"
    CHANGE = "change"  # edit, stop or delete
    SPEND = "spend"  # send a message with the owner's key


class Caller(msgspec.Struct, frozen=True):
    """The identity of a caller: its owner tag, if it sent a key, and whether a session's id is enough for it.

    The key itself is not part of it: the credential that goes upstream is passed separately.
    """

    owner: str | None
    trusted_by_id: bool = False


def make_authorizer(caller: Caller, action: Action) -> Authorizer:
    """Return `authorize` for this caller and action, for a transaction to call when it has read the session."""
    return lambda session: authorize(session, caller, action)


def authorize(session: Session | None, caller: Caller, action: Action) -> Session:
    """Return the session if the caller may do this to it.

    Raises:
        KeyRequired: the caller sent no key and needs one, whether the session exists or not.
        SessionNotFound: it does not exist, or the caller may not; the two cases look the same.
    """
    if session is not None and session.owner is None:
        return session
    if caller.owner is None and not caller.trusted_by_id:
        raise KeyRequired
    if session is None or session.owner is None:
        raise SessionNotFound
    if caller.owner is not None and hmac.compare_digest(session.owner, caller.owner):
        return session
    if caller.owner is None and caller.trusted_by_id and action is not Action.SPEND:
        return session
    raise SessionNotFound


def authorize_share(share: Share | None, now: Microseconds) -> Share:
    """Return the share if its link works at this time. Everyone who knows the token of a link may read.

    Raises:
        ShareNotFound: there is no share with the token, or it has expired; the two cases look the same.
    """
    if share is None or now >= share.expires_at:
        raise ShareNotFound
    return share
