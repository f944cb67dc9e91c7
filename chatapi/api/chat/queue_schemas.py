"""The responses and operations of the queue's routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from chatapi.api.chat.request import QueuedChangeBody
from chatapi.api.http.openapi import (
    BODY_ERRORS,
    OPTIONAL_KEY,
    REQUIRED_KEY,
    SESSION_ERRORS,
    Example,
    Time,
    describe,
    json_content,
    operation,
)
from chatapi.errors import InvalidKeyFormat, KeyRequired, QueuedMessageNotFound, QuotaExceeded, SessionFull

SESSION = {"session_id": "$SESSION_ID"}
IN_PATH = {"session_id": "The session.", "message_id": "The message."}


class QueuedMessage(TypedDict):
    """A message that waits for the answers before it. It keeps its id when it starts."""

    id: str
    session_id: str
    generation_id: Annotated[str, Meta(description="Of its answer, once it has started.")]
    status: Literal["queued"]
    user_message: str
    parts: list[Any]
    model: str
    created_at: Time


class MessageQueue(TypedDict):
    """The messages that wait in a session, in the order in which they start."""

    data: list[QueuedMessage]
    waits_for: Annotated[
        Literal["answer", "key", "start"] | None,
        Meta(
            description="`answer`: an answer is running. `key`: a request with the key of the session, such as this "
            "one. `start`: the last answer failed, and `POST …/queue/start` continues. Null if no message waits."
        ),
    ]


class RemovedMessages(TypedDict):
    """The number of messages that were removed from a queue."""

    removed: int


describe(QueuedChangeBody, user_message="The new text. Attachments stay.")
LIST_QUEUE = operation(
    "listQueue",
    "List queued messages",
    """List the messages that `if_busy: queue` has queued and that have not started. Each starts when the answer before
    it has ended; an answer that failed stops the queue.

The key of a queued message is held in memory only. After a restart the queue waits until a request brings the key: this
one, the stream of the session, or the next message.""",
    json_content(MessageQueue),
    parameters={"session_id": "The session."},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("list", path=SESSION),),
)
CHANGE_QUEUED = operation(
    "changeQueuedMessage",
    "Change a queued message",
    "Replace the text of a message that has not started.",
    json_content(QueuedMessage),
    parameters=IN_PATH,
    body=QueuedChangeBody,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS, QueuedMessageNotFound, SessionFull, QuotaExceeded),
)
REMOVE_QUEUED = operation(
    "removeQueuedMessage",
    "Remove a queued message",
    "Remove a message that has not started.",
    json_content(RemovedMessages),
    parameters=IN_PATH,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, QueuedMessageNotFound),
)
CLEAR_QUEUE = operation(
    "clearQueue",
    "Remove all queued messages",
    "Remove all messages of a session that have not started.",
    json_content(RemovedMessages),
    parameters={"session_id": "The session."},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("clear", path=SESSION),),
)
START_QUEUE = operation(
    "startQueue",
    "Start queued messages",
    "Start the first queued message, also if the last answer failed. While an answer runs, this only holds the key.",
    json_content(MessageQueue),
    parameters={"session_id": "The session."},
    security=REQUIRED_KEY,
    errors=(*SESSION_ERRORS, KeyRequired, InvalidKeyFormat),
    examples=(Example("start", path=SESSION),),
)
