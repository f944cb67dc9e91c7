"""The ids under which OpenAI's clients know our objects. Every prefix is defined here, once.

A response and a chat completion are a generation, a conversation is a session, and an item is a run of parts of a
message: their ids differ in the prefix alone, so nothing has to be stored to translate them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GENERATION, RESPONSE, COMPLETION = "gen_", "resp_", "chatcmpl-"
SESSION, CONVERSATION = "ses_", "conv_"
_MESSAGE_ID = "msg_"

MESSAGE, REASONING, CALL, CUSTOM_CALL, OUTPUT = "msg", "rs", "fc", "ctc", "fco"
KEPT = "item"  # of items that are kept as received; most have the ids of their upstream
_PREFIX = f"{MESSAGE}|{REASONING}|{CALL}|{CUSTOM_CALL}|{OUTPUT}"
_ITEM_ID = re.compile(rf"({_PREFIX})_([A-Za-z0-9_-]{{32}})(?:_(\d{{1,6}}))?", re.ASCII)
_ANY_ITEM_ID = re.compile(rf"(?:{_PREFIX})_[A-Za-z0-9_-]{{1,100}}", re.ASCII)
_SESSION_ID = re.compile(rf"{SESSION}[A-Za-z0-9_-]{{32}}", re.ASCII)


def response_id(generation_id: str) -> str:
    """Return the id of a generation's response."""
    return RESPONSE + generation_id.removeprefix(GENERATION)


def generation_of_response(name: str) -> str | None:
    """Return the id of a response's generation; None if `name` is not the id of a response."""
    return GENERATION + name.removeprefix(RESPONSE) if name.startswith(RESPONSE) else None


def completion_id(generation_id: str) -> str:
    """Return the id of a generation's chat completion."""
    return COMPLETION + generation_id.removeprefix(GENERATION)


def generation_of_completion(name: str) -> str:
    """Return the id of a completion's generation; any other name is returned as it is."""
    return GENERATION + name.removeprefix(COMPLETION) if name.startswith(COMPLETION) else name


def conversation_id(session_id: str) -> str:
    """Return the id of a session's conversation."""
    return CONVERSATION + session_id.removeprefix(SESSION)


def session_of_conversation(name: str) -> str:
    """Return the id of a conversation's session; empty, and so of no session, if `name` is not such an id."""
    return SESSION + name.removeprefix(CONVERSATION) if name.startswith(CONVERSATION) else ""


def is_session_id(name: str) -> bool:
    """Return whether `name` has the exact form of a session's id."""
    return _SESSION_ID.fullmatch(name) is not None


class ItemId(NamedTuple):
    """An item's id, parsed: its prefix, its message, and its number among the items of that message."""

    prefix: str
    message_id: str
    number: int


def item_id(message_id: str, prefix: str, number: int) -> str:
    """Return the id of an item of a message; the first item of a message has no number."""
    name = f"{prefix}_{message_id.removeprefix(_MESSAGE_ID)}"
    return f"{name}_{number}" if number else name


def parse_item_id(name: str) -> ItemId | None:
    """Parse an item's id; None if `name` is not one."""
    found = _ITEM_ID.fullmatch(name)
    return ItemId(found[1], _MESSAGE_ID + found[2], int(found[3] or 0)) if found else None


def looks_like_item_id(name: str) -> bool:
    """Return whether `name` has the form of an item's id, ours or OpenAI's, so that an error may repeat it: no key."""
    return _ANY_ITEM_ID.fullmatch(name) is not None
