"""Nouns of the product: sessions, messages, generations, parts, usage. All values are frozen.

Import them from here; each module holds one subject. `model.log` holds the in-memory log.
"""

from __future__ import annotations

from chatapi.model.content import (
    VISIBLE_KINDS,
    Kind,
    Media,
    NewMessage,
    Part,
    Piece,
    Role,
    ToolCall,
    user_text,
    visible_text,
    with_text,
)
from chatapi.model.context import ContextPolicy, LeftOut, PathMessage, Summary
from chatapi.model.cursors import MessageCursor, SearchCursor
from chatapi.model.generations import ROOT, Generation, Outcome, QueuedTurn, Status, TurnRequest
from chatapi.model.ids import Alias, Clock, Microseconds, named_id, new_id, wall_clock
from chatapi.model.limits import Limit
from chatapi.model.replicas import Replica
from chatapi.model.sessions import DEEPEST, Authorizer, ImportedSession, Message, Session
from chatapi.model.shares import Share, ShareAuthorizer
from chatapi.model.usage import DAY_MICROSECONDS, GroupBy, Usage, UsageReport, UsageTotal

__all__ = [
    "Alias",
    "Authorizer",
    "Clock",
    "ContextPolicy",
    "DAY_MICROSECONDS",
    "DEEPEST",
    "Generation",
    "GroupBy",
    "ImportedSession",
    "Kind",
    "LeftOut",
    "Limit",
    "Media",
    "Message",
    "MessageCursor",
    "Microseconds",
    "NewMessage",
    "Outcome",
    "Part",
    "PathMessage",
    "Piece",
    "QueuedTurn",
    "ROOT",
    "Replica",
    "Role",
    "SearchCursor",
    "Session",
    "Share",
    "ShareAuthorizer",
    "Status",
    "Summary",
    "ToolCall",
    "TurnRequest",
    "Usage",
    "UsageReport",
    "UsageTotal",
    "VISIBLE_KINDS",
    "named_id",
    "new_id",
    "user_text",
    "visible_text",
    "wall_clock",
    "with_text",
]
