"""The responses, events and operations of the chat routes. `request` has the request bodies."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from chatapi.api.chat.attachments import FileAttachment, ImageAttachment
from chatapi.api.chat.queue_schemas import QueuedMessage
from chatapi.api.chat.request import ChatBody, StopBody
from chatapi.api.http.openapi import (
    BODY_ERRORS,
    OPTIONAL_KEY,
    SESSION_ERRORS,
    TEXT,
    TURN_ERRORS,
    Example,
    describe,
    event_content,
    json_content,
    no_content,
    one_of,
    operation,
    text_content,
)
from chatapi.api.http.request_body import Parameters
from chatapi.api.http.schemas import Answer, LeftOut, Upstream, Usage
from chatapi.api.vercel.request import UIChatBody
from chatapi.api.vercel.schemas import CHUNKS, ErrorChunk
from chatapi.errors import KeyRequired, MessageNotFound, PositionOutOfRange, QueueFull

IDS = ("X-Session-ID", "X-Generation-ID")
SENT = (
    *(*IDS, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Upstream-Request-ID", "X-Upstream-Name"),
    "X-Vercel-AI-UI-Message-Stream",
)
SESSION = {"session_id": "$SESSION_ID"}
SESSION_ID = "The session, or the id of a `useChat` chat; that one requires the owner's key."


class SessionEvent(TypedDict):
    """The first event."""

    session_id: str
    generation_id: str
    message_id: str
    model: str


class TextEvent(TypedDict):
    """Text to append; of an annotation, JSON objects that each end with a line feed."""

    text: str


class ToolCallEvent(TypedDict):
    """Text to append to the arguments of a call."""

    call_id: str
    name: str
    arguments: str


class ExtraEvent(TypedDict):
    """Members of the upstream's message, or of one of its calls, that are kept and not interpreted: lines of JSON."""

    call_id: str | None
    text: str


class DoneEvent(TypedDict):
    """The last event of an answer that ended well."""

    status: Literal["completed", "stopped"]
    finish_reason: str | None


class ErrorEvent(TypedDict):
    """The last event of an answer that failed."""

    status: Literal["failed", "interrupted"]
    code: str
    detail: str


class StoppedAnswer(TypedDict):
    """The answer that was stopped or had ended; without one, the ids are null."""

    session_id: str
    generation_id: str | None
    message_id: NotRequired[str]
    model: NotRequired[str]
    status: str | None
    finish_reason: NotRequired[str | None]
    usage: NotRequired[Usage | None]
    error: NotRequired[Any]
    left_out: NotRequired[LeftOut | None]
    upstream: NotRequired[Upstream]
    text: str
    reasoning: NotRequired[str | None]
    parts: NotRequired[list[Any]]


EVENTS: dict[str, Any] = {
    "session": SessionEvent,
    "context": LeftOut,
    "text": TextEvent,
    "reasoning": TextEvent,
    "refusal": TextEvent,
    "tool_call": ToolCallEvent,
    "annotation": TextEvent,
    "extra": ExtraEvent,
    "usage": Usage,
    "done": DoneEvent,
    "error": one_of("ErrorEventOrChunk", ErrorEvent, ErrorChunk),
    **CHUNKS,
}
# A PNG of one grey pixel
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
describe(
    ChatBody,
    user_message="The message. Required, unless there are `attachments` or `replace` names an answer.",
    developer_message="Instructions for the model. Required in a new session; in another, they "
    "apply from this turn on.",
    model="By default `CHATAPI_DEFAULT_MODEL`. Pattern of names: letters, digits and `@_.:/+-`.",
    api_key="The key, unless a header has it.",
    session_id="Continue this session. Absent, null or empty creates one.",
    stream="`false`: one JSON object when the answer has ended.",
    on_disconnect="`cancel`: stop the answer when the client disconnects.",
    if_busy="`interrupt`: stop the session's running answer first. `queue`: if an answer runs or messages wait, the "
    "message is stored, and starts when the answers before it have ended; the response is 202 and describes it.",
    context="For a conversation that is longer than the model's context. `error`: the model API's error. "
    "`truncate`: the oldest messages are left out. `compact`: a summary replaces them. `auto`: the best of this "
    "server. By default as the session or `CHATAPI_CONTEXT` says.",
    replace="A message of this session to replace. Of a user message, `user_message` becomes a sibling. Of an answer, "
    "the new answer becomes a sibling, and `user_message` must be absent. The old branch stays. Requires "
    "`session_id`.",
    attachments="At most 16 images and files. They are part of the message, files before its text and images after it, "
    "and are sent upstream unchanged. With them, the body may have 8 MiB (`CHATAPI_MAX_MEDIA_BYTES`).",
)
describe(
    ImageAttachment,
    url="A data URL, `data:image/png;base64,…`, or an address on https that the model API fetches.",
    detail="Sent upstream unchanged, such as `low`, `high` or `auto`.",
)
describe(FileAttachment, filename="Its name.", data="A data URL, such as `data:application/pdf;base64,…`.")
describe(
    StopBody,
    generation_id="The generation to stop, by default the running one.",
    activeStreamId="Of `useChat`: the `generation_id` of `start`; if it is not the last one, nothing is stopped.",
    assistantMessage="Of `useChat`; ignored.",
)
describe(
    UIChatBody,
    id="The chat. The client chooses it; the first message creates a session that the owner knows by it. An id that "
    "begins with `ses_` is a session's own.",
    messages="All messages of the page, or only the last.",
    trigger="What to do: send, edit or regenerate.",
    messageId="The message to edit or to regenerate.",
    system="As `developer_message`.",
    if_busy="`interrupt` is the default here: a page that stops an answer only closes its connection. There is no "
    "`queue`, because the response is the stream of an answer: send the text as `user_message` to queue it.",
)

for body_type in (ChatBody, UIChatBody):
    describe(body_type, **dict.fromkeys(Parameters.model_fields, "Sent upstream unchanged."))

SEND_MESSAGE = operation(
    "sendMessage",
    "Send a message",
    """Send a message, and stream the answer as text, as events (`Accept: text/event-stream`), or return one JSON
    object (`"stream": false`). To edit or regenerate a message, name it in `replace`. A body with `messages` and
    `trigger` is from `useChat`, and its answer is a UI message stream.""",
    text_content(TEXT, "The answer.", *(name if name in IDS else f"{name}-optional" for name in SENT)),
    event_content("The answer.", EVENTS),
    json_content(Answer, "The answer."),
    json_content(QueuedMessage, "The message was queued (`if_busy: queue`).", 202, *IDS),
    no_content("The client disconnected."),
    body=one_of("SendMessageBody", ChatBody, UIChatBody),
    headers={
        "Accept": "`text/event-stream` for events.",
        "Idempotency-Key": "1 to 255 characters; see the introduction.",
    },
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS, KeyRequired, MessageNotFound, *TURN_ERRORS, QueueFull),
    errors_as_text=True,
    examples=(
        Example(
            "text",
            body={"user_message": "Hello", "developer_message": "You are a helpful assistant.", "api_key": "$KEY"},
            key=False,
        ),
        Example(
            "events", headers={"Accept": "text/event-stream"}, body={"user_message": "Hello", "developer_message": ""}
        ),
        Example("json", body={"user_message": "And again", "session_id": "$SESSION_ID", "stream": False}),
        Example(
            "image",
            body={
                "user_message": "Describe this picture.",
                "developer_message": "",
                "attachments": [{"type": "image", "url": f"data:image/png;base64,{PIXEL}"}],
            },
        ),
        Example("regenerate", body={"session_id": "$SESSION_ID", "replace": "$MESSAGE_ID"}),
        Example(
            "useChat",
            body={
                "id": "my-chat",
                "trigger": "submit-message",
                "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
            },
        ),
    ),
)
STREAM_ANSWER = operation(
    "streamAnswer",
    "Read an answer",
    """Read the session's running answer from a position, after a disconnect or as a second reader. 204 if none is
    running and the request names none. The format is that in which the answer began, unless `Accept`
    (`text/event-stream`, `text/plain`, `application/json`), `offset` or `Last-Event-ID` require another.

`useChat` uses its own id of the chat with the owner's key in a header, and receives the whole running message from its
`start`, with the steps before it.""",
    text_content(TEXT, "The answer.", *IDS, "X-Vercel-AI-UI-Message-Stream-optional"),
    event_content("The answer.", EVENTS),
    json_content(Answer, "The answer."),
    no_content("No answer is running, or the client disconnected."),
    parameters={
        "session_id": SESSION_ID,
        "generation_id": "This answer instead of the session's last. Set it if another turn may have begun.",
        "offset": "Bytes of text already received; in an event stream, the position.",
        "last-event-id": "The id of the last event received.",
    },
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, PositionOutOfRange, *TURN_ERRORS),
    errors_as_text=True,
    examples=(
        Example("text", path=SESSION, query={"offset": "0"}),
        Example("events", path=SESSION, headers={"Accept": "text/event-stream", "Last-Event-ID": "0"}),
    ),
)
STOP_ANSWER = operation(
    "stopAnswer",
    "Stop an answer",
    """Stop the running answer, or the one that `generation_id` names. The response is sent when the upstream's
    connection is closed and the text is stored. An answer that has ended is returned as it is.""",
    json_content(StoppedAnswer, "The answer."),
    parameters={"session_id": SESSION_ID},
    body=StopBody,
    body_required=False,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS),
    errors_as_text=True,
    examples=(Example("stop", path=SESSION, body={"generation_id": "$GENERATION_ID"}),),
)
