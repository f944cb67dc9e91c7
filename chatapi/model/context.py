"""The context of a model: what becomes of a conversation that is longer, and the messages that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chatapi.model.content import NewMessage
from chatapi.model.usage import Usage


class ContextPolicy(StrEnum):
    """How a conversation that is longer than the model's context is treated."""

    ERROR = "error"  # the caller gets the model API's error
    TRUNCATE = "truncate"  # the oldest messages are left out of the request
    AUTO = "auto"  # the best that this server can do


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The messages that were left out of a request, which is a part of the path that ends in its answer.

    These are all from `first` to `last`, except the messages of the system and the developer and the newest message of
    the user. The ids are None where nothing is stored.
    """

    messages: int
    first: str | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class PathMessage:
    """A message of a path that is to be sent, and the facts of its answer's generation if it is an answer.

    `is_read` is False for a message that is so far from the end of a large path that its content was not read.
    """

    message: NewMessage
    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    left_out: LeftOut | None = None
    is_read: bool = True
