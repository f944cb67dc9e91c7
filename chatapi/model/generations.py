"""Turns and generations: the request, one attempt to answer it, and its outcome."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from chatapi.model.content import NewMessage, Part
from chatapi.model.context import ContextPolicy, LeftOut
from chatapi.model.ids import Alias, Microseconds
from chatapi.model.usage import Usage


class Status(StrEnum):
    """Status of a generation: `running`, then exactly one of the others."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Generation(msgspec.Struct, frozen=True):
    """One attempt to produce an answer.

    `length` is the size of its log in bytes, set when it ends. `replica` is the id of the process that runs it.
    `left_out` are the messages that its request did not have, because the model's context is too small. `upstream` is
    the name of the one that answered, of several.
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
    left_out: LeftOut | None = None
    upstream: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """Final status of a generation, with finish reason, usage and error."""

    status: Status
    finish_reason: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    error_detail: str | None = None
    upstream: str | None = None  # the name of the one that answered, of several


ROOT = ""  # as `parent` of a turn: the turn has no parent and is a sibling of the session's first message


class TurnRequest(msgspec.Struct, frozen=True):
    """A request for an answer: messages to append, their place in the tree, and the parameters of the answer.

    `owner` is the owner tag of the caller. `session_id` is None for a new session; with an `alias`, the session of this
    owner with that alias is used, or created. `parent` is the message that the turn follows: None is the session's
    head, `ROOT` is no parent. An edit is a turn with new text and the old message's parent; a regeneration is a turn
    with empty `input` whose parent is the message to answer. `parameters` are sent to the upstream unchanged. `digest`
    distinguishes two requests with one idempotency key. With `is_retry`, a turn with the same digest that is still
    running is followed instead of starting another. `responses_parameters` are sent if the upstream is asked through
    OpenAI's Responses, which alone has them. `instructions` follow the developer message in this turn only.
    `context` is None for the policy of the session, or of the server.
    `dialect_data` is stored for the dialect that sent the turn and is opaque to everything else.
    """

    owner: str
    session_id: str | None
    developer_message: str | None
    input: tuple[NewMessage, ...]
    model: str
    dialect: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    idempotency_key: str | None = None
    digest: str | None = None
    is_retry: bool = False
    parent: str | None = None
    alias: Alias | None = None
    instructions: str | None = None
    dialect_data: str | None = None
    responses_parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    context: ContextPolicy | None = None


class QueuedTurn(msgspec.Struct, frozen=True):
    """A turn that waits in its session's queue. `id` is the id of its message, also after it has started.

    `generation_id` is the id of the generation that will answer it. Turns start in the order of `place`. `needs_key`:
    an upstream of its model gets the caller's key, so that it starts only where that is held.
    """

    id: str
    session_id: str
    generation_id: str
    place: int
    turn: TurnRequest
    created_at: Microseconds
    needs_key: bool = True

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content of its message."""
        return self.turn.input[0].parts
