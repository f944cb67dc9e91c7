"""The context of a model: what becomes of a conversation that is longer, and the messages that were left out."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from chatapi.model.content import NewMessage
from chatapi.model.ids import Microseconds
from chatapi.model.usage import Usage


class ContextPolicy(StrEnum):
    """How a conversation that is longer than the model's context is treated."""

    ERROR = "error"  # the caller gets the model API's error
    TRUNCATE = "truncate"  # the oldest messages are left out of the request
    COMPACT = "compact"  # a summary replaces the oldest messages in the request; if there is none, as TRUNCATE
    AUTO = "auto"  # COMPACT if the server has a model for summaries, or TRUNCATE


class LeftOut(msgspec.Struct, frozen=True):
    """The messages of a path that a request did not have: those that were left out, and those that were summarised.

    `summary` is the id of the summary that stood for the first `summarised` ones. After these, all messages from
    `first` to `last` were left out, except those of the system and the developer and the newest message of the user.
    The ids are None where there are none, or nothing is stored.
    """

    messages: int
    first: str | None = None
    last: str | None = None
    summary: str | None = None
    summarised: int = 0


class Summary(msgspec.Struct, frozen=True):
    """A summary of the beginning of a path, up to the message `last`; it covers so many `messages`."""

    id: str
    session_id: str
    last: str
    messages: int
    model: str
    text: str
    created_at: Microseconds


class PathMessage(msgspec.Struct, frozen=True):
    """A message of a path that is to be sent, and the facts of its answer's generation if it is an answer.

    `is_read` is False for a message that is so far from the end of a large path that its content was not read.
    """

    message: NewMessage
    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    left_out: LeftOut | None = None
    is_read: bool = True
