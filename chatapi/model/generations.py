"""Turns and generations: the request, one attempt to answer it, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chatapi.model.content import NewMessage
from chatapi.model.ids import Alias, Microseconds
from chatapi.model.usage import Usage


class Status(StrEnum):
    """The life of a generation: running, then exactly one of the others."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Generation:
    """One attempt to produce an answer.

    `length` is the end of its log in bytes, once it has ended. `replica` is the process that produces it.
    """

    id: str
    session_id: str
    message_id: str
    status: Status
    model: str
    dialect: str
    created_at: Microseconds
    first_token_at: Microseconds | None = None
    ended_at: Microseconds | None = None
    length: int | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    error_detail: str | None = None
    replica: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ends: its last status and all that is known about it by then."""

    status: Status
    finish_reason: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    error_detail: str | None = None


ROOT = ""  # as the parent of a turn: it hangs under nothing, beside the session's first message


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks for: messages to append, where, and how the answer to them is to be made.

    `owner` is the tag of the key that pays. `session_id` is None for a new session; with an `alias`, for the session
    that this owner knows by that name, or a new one that is known by it from now on. `parent` is the message under
    which the turn hangs: the session's head if None, `ROOT` for none at all. To edit a message, hang its new wording
    under its parent; to regenerate an answer, hang an empty input under the message that it answers. `parameters` are
    passed to the upstream as they are. `digest` tells two requests with the same idempotency key apart. `instructions`
    stand behind the developer message in this turn alone. `echo` is what OpenAI's Responses say of the request.
    """

    owner: str
    session_id: str | None
    developer_message: str | None
    input: tuple[NewMessage, ...]
    model: str
    dialect: str
    parameters: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    digest: str | None = None
    parent: str | None = None
    alias: Alias | None = None
    instructions: str | None = None
    echo: str | None = None
