"""The request bodies, responses and operations of chat completions and models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from chatapi.api.http.openapi import (
    BODY_ERRORS,
    SESSION_ERRORS,
    TURN_ERRORS,
    Example,
    OpenAIError,
    allow_unknown,
    event_content,
    json_content,
    no_content,
    one_of,
    operation,
)
from chatapi.api.openai.schemas import IDEMPOTENCY_KEY, ON_DISCONNECT, OPENAI_ERRORS, OPENAI_KEY
from chatapi.errors import PositionOutOfRange, SessionBusy, SessionNotFound

OPTIONAL_IDS = ("X-Session-ID-optional", "X-Generation-ID-optional")


class ChatMessage(TypedDict):
    """A message of chat completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: NotRequired[Annotated[Any, Meta(description="A text, or a list of parts.")]]


class CompletionMetadata(TypedDict, total=False):
    """Metadata for the upstream, or of a stored completion. `session_id` is for this server."""

    session_id: Annotated[str, Meta(description="As `X-Session-ID`.")]


class ChatCompletionBody(TypedDict):
    """A request of chat completions. Other fields are passed to the upstream."""

    messages: list[ChatMessage]
    model: NotRequired[Annotated[str, Meta(description="Required by most upstreams.")]]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[dict[str, Any] | None]
    store: NotRequired[Annotated[bool | None, Meta(description="Store the completion here, with its metadata.")]]
    metadata: NotRequired[CompletionMetadata | None]
    on_disconnect: NotRequired[
        Annotated[Literal["continue", "cancel"] | None, Meta(description="In a session: as `X-On-Disconnect`.")]
    ]


class StoredMetadata(TypedDict):
    """The new metadata of a stored completion."""

    metadata: Annotated[
        dict[str, str] | None,
        Meta(description="At most 16 names of 64 characters with values of 512."),
    ]


class Choice(TypedDict):
    """A choice of a completion."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None
    logprobs: NotRequired[Any]


class ChatCompletion(TypedDict):
    """A completion. Without a session, it is the upstream's."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: NotRequired[dict[str, Any] | None]
    metadata: NotRequired[Annotated[dict[str, str], Meta(description="Of a stored completion that is read again.")]]


class CompletionList(TypedDict):
    """A page of stored completions."""

    object: Literal["list"]
    data: list[ChatCompletion]
    first_id: str
    last_id: str
    has_more: bool


class StoredMessage(TypedDict):
    """A message of a stored completion, with the fields of a request's message."""

    id: str
    role: str
    content: Annotated[str | None, Meta(description="Null if the message has parts.")]
    content_parts: Annotated[list[Any] | None, Meta(description="The parts, if the message is not only text.")]


class StoredMessageList(TypedDict):
    """A page of messages."""

    object: Literal["list"]
    data: list[StoredMessage]
    first_id: str
    last_id: str
    has_more: bool


class DeletedCompletion(TypedDict):
    """The completion was deleted."""

    id: str
    object: Literal["chat.completion.deleted"]
    deleted: bool


class ChunkChoice(TypedDict):
    """A choice of a chunk."""

    index: int
    delta: dict[str, Any]
    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[Any]


class ChatCompletionChunk(TypedDict):
    """An event of a streamed completion. Without a session, it is the upstream's."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: NotRequired[dict[str, Any] | None]


allow_unknown(
    ChatMessage,
    CompletionMetadata,
    ChatCompletionBody,
    Choice,
    ChatCompletion,
    StoredMessage,
    ChunkChoice,
    ChatCompletionChunk,
)
STREAM = event_content(
    "Chunks, then `data: [DONE]`, or an error object in its place. In a session, each chunk has an `id`, the position "
    "after it.",
    {"": one_of("ChatCompletionEvent", ChatCompletionChunk, OpenAIError)},
    *OPTIONAL_IDS,
)
MESSAGES = [{"role": "user", "content": "Hello"}]

CREATE_COMPLETION = operation(
    "createChatCompletion",
    "Create a completion",
    """Create a chat completion.

**Without a session** the body goes to the upstream byte for byte, with any fields, and the response comes back frame
by frame. Nothing is stored. Comments and names and ids of events are left out of the stream, and comments of this
server break each silence. If the client disconnects, the answer ends. `[DONE]` is sent only after every choice has
its finish reason: a stream that breaks off ends with an `error` object.

**In a session**, which the request names or, with the value `new`, creates. The header `X-ChatAPI-Session-ID` does
only this, and an id that is not a session of the caller is a 404. `X-Session-ID` and `metadata.session_id` do it
too, but other programs send them with values of their own: any value but `new` or the id of a session of the caller
is ignored. The turn is stored, continues when the client disconnects (unless `X-On-Disconnect` or `on_disconnect` is
`cancel`), and can be read again:

- `system` and `developer` messages, joined, become the session's developer message; without any it stays.
- In an existing session, the messages after the last `assistant` message are new, including results of tool calls. The
  messages before are ignored, because the session's own history goes to the upstream. A client can send all messages
  or only the new ones.
- With `new`, all messages become the history of the new session.
- A request has at most 2,048 messages.

**With `store: true`** the completion is stored here with its metadata, in a new session unless the request names one,
and is listed by `GET /v1/chat/completions`. Neither `store` nor `metadata` go to the upstream.

Fields other than `messages`, `model`, `stream`, `stream_options`, `on_disconnect`, `if_busy` and `metadata.session_id`
are passed on. A busy session is a 409, and an `if_busy` other than `reject` a 400: `POST /api/chat` has `interrupt` and
`queue`. `n` above 1, `logprobs`, audio of the model, `functions` and calls of custom tools are not supported in a
session and are a 400.

With `X-Generation-ID` and, to continue, `Last-Event-ID`, the request reads that answer again as `GET
/v1/chat/completions/{completion_id}` does; of the body, only `stream` and `stream_options` are used.""",
    json_content(ChatCompletion, "The completion.", 200, *OPTIONAL_IDS),
    STREAM,
    no_content("The client disconnected."),
    body=ChatCompletionBody,
    headers={
        "X-ChatAPI-Session-ID": "The session, or `new`.",
        "X-Session-ID": "The session, or `new`; another value is ignored.",
        **ON_DISCONNECT,
        "X-Generation-ID": "A generation to read again.",
        "Last-Event-ID": "With `X-Generation-ID`: the id of the last event received.",
        **IDEMPOTENCY_KEY,
    },
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *BODY_ERRORS, SessionNotFound, PositionOutOfRange, *TURN_ERRORS),
    examples=(
        Example("stateless", body={"model": "gpt-4.1-mini", "messages": MESSAGES}),
        Example("stream", body={"model": "gpt-4.1-mini", "messages": MESSAGES, "stream": True}),
        Example(
            "session", headers={"X-ChatAPI-Session-ID": "new"}, body={"model": "gpt-4.1-mini", "messages": MESSAGES}
        ),
    ),
)
GET_COMPLETION = operation(
    "getChatCompletion",
    "Get a completion",
    """Return an answer of a session by the id of its completion or generation: the completion when it has ended, or
    with `stream=true` its chunks.""",
    json_content(ChatCompletion, "The completion.", 200, "X-Session-ID", "X-Generation-ID"),
    STREAM,
    no_content("The client disconnected."),
    parameters={
        "completion_id": "The id of the completion or of its generation.",
        "stream": "Return chunks.",
        "include_usage": "Return the usage in the last chunk.",
    },
    headers={"Last-Event-ID": "The id of the last event received."},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *SESSION_ERRORS, PositionOutOfRange, *TURN_ERRORS),
    examples=(Example("get", path={"completion_id": "$COMPLETION_ID"}),),
)
_COMPLETION = {"completion_id": "The id of the completion or of its generation."}
_PATH = {"completion_id": "$COMPLETION_ID"}
_PAGE = {"limit": "Items per page.", "order": "`desc`: the last item first."}
LIST_COMPLETIONS = operation(
    "listChatCompletions",
    "List stored completions",
    """List the completions of the key whose requests had `store: true` and whose answers have ended, not failed.
    `metadata[name]=value` in the query, up to 16 times, selects those with these entries.""",
    json_content(CompletionList, "A page of completions."),
    parameters={
        "model": "Only completions of this model.",
        **_PAGE,
        "after": "The id of a completion: the page begins after it.",
    },
    security=OPENAI_KEY,
    errors=OPENAI_ERRORS,
    examples=(Example("list"),),
)
UPDATE_COMPLETION = operation(
    "updateChatCompletion",
    "Update a stored completion",
    "Set the metadata of a completion whose request had `store: true`, and return the completion.",
    json_content(ChatCompletion, "The completion."),
    parameters=_COMPLETION,
    body=StoredMetadata,
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *BODY_ERRORS, SessionNotFound),
    examples=(Example("update", path=_PATH, body={"metadata": {"topic": "demo"}}),),
)
DELETE_COMPLETION = operation(
    "deleteChatCompletion",
    "Delete a completion",
    """Delete the answer, and the input of its turn unless another answer follows it. A running answer is stopped. If
    the session is empty then, it is deleted. While another answer of the session is running, it is a 409.""",
    json_content(DeletedCompletion, "The completion was deleted."),
    parameters=_COMPLETION,
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, SessionNotFound, SessionBusy),
    examples=(Example("delete", path=_PATH),),
)
LIST_COMPLETION_MESSAGES = operation(
    "listChatCompletionMessages",
    "List the messages of a completion",
    """List the messages of the completion's own turn, without its answer. If the turn began its session, the first is
    the developer message. The order is `asc` by default.""",
    json_content(StoredMessageList, "A page of messages."),
    parameters={**_COMPLETION, **_PAGE, "after": "The id of a message: the page begins after it."},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, SessionNotFound),
    examples=(Example("list", path=_PATH),),
)
