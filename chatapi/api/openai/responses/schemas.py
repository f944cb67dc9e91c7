"""The responses, events and operations of Responses. `request` has the request body."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from chatapi.api.http.openapi import (
    BODY_ERRORS,
    TURN_ERRORS,
    UPSTREAM_ERRORS,
    Example,
    allow_unknown,
    describe,
    event_content,
    json_content,
    no_content,
    operation,
)
from chatapi.api.openai.responses.request import CompactBody, InputTokensBody, ResponseBody
from chatapi.api.openai.schemas import IDEMPOTENCY_KEY, ON_DISCONNECT, OPENAI_ERRORS, OPENAI_KEY, PAGE, Item, ItemList
from chatapi.errors import (
    ConversationNotFound,
    ItemNotFound,
    PreviousNotFound,
    ResponseNotFound,
    SessionBusy,
    TooManyGenerations,
    UpstreamUnsupported,
)

RESPONSE = {"response_id": "$RESPONSE_ID"}
RESPONSE_ID = "The response."
IDS = ("X-Session-ID", "X-Generation-ID")
OPTIONAL_IDS = ("X-Session-ID-optional", "X-Generation-ID-optional")


class InputTokensDetails(TypedDict):
    """Which input tokens were cached."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(TypedDict):
    """Which output tokens were reasoning."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """The tokens of a response. A count that the upstream did not report is 0."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseFailure(TypedDict):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(TypedDict):
    """Why a response is incomplete."""

    reason: str


class ConversationReference(TypedDict):
    """The conversation of a response."""

    id: str


class ResponseObject(TypedDict):
    """A response. The fields from `background` on repeat the request."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "cancelled", "failed"]
    completed_at: int | None
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[Item]
    usage: ResponseUsage | None
    background: bool
    conversation: ConversationReference | None
    frequency_penalty: float
    instructions: Any
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt: NotRequired[dict[str, Any]]
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning: dict[str, Any] | None
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    user: str | None


class InputTokens(TypedDict):
    """The upstream's count."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class CompactedResponse(TypedDict):
    """A compacted conversation, as the upstream sent it, or with a summary that was made here."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[dict[str, Any]]
    usage: NotRequired[dict[str, Any] | None]


class DeletedResponse(TypedDict):
    """The response was deleted."""

    id: str
    object: Literal["response"]
    deleted: bool


class ResponseStatusEvent(TypedDict):
    """The beginning or the end of a response."""

    type: Literal[
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    sequence_number: int
    response: ResponseObject


class ResponseItemEvent(TypedDict):
    """The beginning or the end of an item."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: int
    output_index: int
    item: Item


class ResponsePartEvent(TypedDict):
    """The beginning or the end of a part of an item."""

    type: Literal[
        "response.content_part.added",
        "response.content_part.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
    ]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: NotRequired[int]
    summary_index: NotRequired[int]
    part: dict[str, Any]


class ResponseDeltaEvent(TypedDict):
    """Text to append."""

    type: Literal[
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    ]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: NotRequired[int]
    summary_index: NotRequired[int]
    delta: str
    logprobs: NotRequired[list[Any]]


class ResponseTextDoneEvent(TypedDict):
    """The whole text of a part, or the whole arguments of a call."""

    type: Literal[
        "response.output_text.done",
        "response.refusal.done",
        "response.reasoning_text.done",
        "response.reasoning_summary_text.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
    ]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: NotRequired[int]
    summary_index: NotRequired[int]
    text: NotRequired[str]
    refusal: NotRequired[str]
    name: NotRequired[str]
    arguments: NotRequired[str]
    input: NotRequired[str]
    logprobs: NotRequired[list[Any]]


class ResponseAnnotationEvent(TypedDict):
    """An annotation of the text before it."""

    type: Literal["response.output_text.annotation.added"]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int
    annotation_index: int
    annotation: dict[str, Any]


class ResponseErrorEvent(TypedDict):
    """The stream cannot be continued. `[DONE]` does not follow."""

    type: Literal["error"]
    sequence_number: int
    code: str | None
    message: str
    param: str | None


EVENTS: dict[str, Any] = {
    "response.created": ResponseStatusEvent,
    "response.in_progress": ResponseStatusEvent,
    "response.output_item.added": ResponseItemEvent,
    "response.content_part.added": ResponsePartEvent,
    "response.output_text.delta": ResponseDeltaEvent,
    "response.refusal.delta": ResponseDeltaEvent,
    "response.reasoning_text.delta": ResponseDeltaEvent,
    "response.reasoning_summary_part.added": ResponsePartEvent,
    "response.reasoning_summary_text.delta": ResponseDeltaEvent,
    "response.function_call_arguments.delta": ResponseDeltaEvent,
    "response.custom_tool_call_input.delta": ResponseDeltaEvent,
    "response.output_text.annotation.added": ResponseAnnotationEvent,
    "response.output_text.done": ResponseTextDoneEvent,
    "response.refusal.done": ResponseTextDoneEvent,
    "response.reasoning_text.done": ResponseTextDoneEvent,
    "response.reasoning_summary_text.done": ResponseTextDoneEvent,
    "response.reasoning_summary_part.done": ResponsePartEvent,
    "response.function_call_arguments.done": ResponseTextDoneEvent,
    "response.custom_tool_call_input.done": ResponseTextDoneEvent,
    "response.content_part.done": ResponsePartEvent,
    "response.output_item.done": ResponseItemEvent,
    "response.completed": ResponseStatusEvent,
    "response.incomplete": ResponseStatusEvent,
    "response.failed": ResponseStatusEvent,
    "error": ResponseErrorEvent,
}
ONLY = "Sent to an upstream that runs hosted tools (`CHATAPI_HOSTED_TOOLS`); a 400 that names it for any other."
allow_unknown(InputTokens, CompactedResponse)
describe(
    ResponseBody,
    input="A text, or a list of items: messages (`input_text`, `input_image` with an `image_url`, `input_file` with "
    "`file_data` or `file_id`, `input_audio`; of an assistant `output_text`, `refusal` and a `phase`), "
    "`function_call`, `custom_tool_call` and their outputs, `reasoning` and `item_reference` (an item of any session "
    "of the caller). An unknown reference is a 404. Items of hosted tools, images with a `file_id`, files with a "
    "`file_url`, and images and files in outputs of tools need an upstream that runs hosted tools; chat completions "
    "get `[image]` for such an output in a conversation that changes its upstream. At most 8,000 items and 8,000 "
    "parts. Reasoning without a text or a call after it is left out.",
    model="By default `CHATAPI_DEFAULT_MODEL`.",
    instructions="For this response only: sent after the session's developer message, not stored in the session, and "
    "not inherited by `previous_response_id`.",
    previous_response_id="The response that this turn follows. Two turns after one response are two branches.",
    conversation='An id or `{"id": …}`: the turn follows the conversation\'s last message. Not together with '
    "`previous_response_id`. Without either, a session is created.",
    stream="Return events.",
    background="Return at once, with the status `in_progress`, unless `stream` is set.",
    store="`false`: nothing is stored, also while the answer is running, and a disconnect ends it. Not together with "
    "`background` or `conversation`; the context of `previous_response_id` is read.",
    tools="Tools of the types `function`, `custom` and `namespace`: the upstream gets the tools of a namespace with "
    "its name as a prefix, and their calls come back with `namespace` and `name`. Any other tool is "
    "run by the upstream: `CHATAPI_HOSTED_TOOLS` passes it on, refuses it with a 400 that names it, or leaves it out "
    "and names it in the header `X-Omitted-Tools`. Members `authorization` and `headers` are not stored.",
    tool_choice="`none`, `auto`, `required`, a tool, or `allowed_tools`.",
    client_metadata="Ignored.",
    text="`format` (`text`, `json_object`, `json_schema`) is sent upstream as `response_format`; `verbosity`.",
    reasoning="`effort` is sent upstream as `reasoning_effort`. With `summary`, reasoning is returned as summary "
    "parts, else as `reasoning_text`.",
    max_output_tokens="Sent upstream as `max_completion_tokens`.",
    on_disconnect="`cancel` stops a stored answer when the client disconnects; `continue` is the default.",
    metadata="Stored with the response.",
    max_tool_calls="For an upstream that is asked through Responses.",
    access_programs=ONLY,
    context_management=ONLY,
    image=ONLY,
    moderation=ONLY,
    prompt=ONLY + " The upstream's template; `model` is sent with it.",
    prompt_cache_options=ONLY,
    truncation="`auto`: the oldest messages are left out if the conversation is longer than the model's context, as "
    "`X-Context-Left-Out` says; an upstream that is asked through Responses leaves them out itself. `disabled`: an "
    "error. By default as the session or `CHATAPI_CONTEXT` says.",
    include="For an upstream that is asked through Responses. Token probabilities are a 400. `stream_options` are "
    "ignored.",
    top_logprobs="Must be 0.",
    if_busy="Only `reject`. To queue a message behind a running answer, use `POST /api/chat`: its answer can be read "
    "here, as `resp_…` with the characters of its `generation_id`, once it has started.",
)

CREATE_RESPONSE = operation(
    "createResponse",
    "Create a response",
    """Create a response with any upstream. A response is an answer of a session: a
    stored one can be read again in every dialect. Other fields are a 400. Several turns may run under one
    `previous_response_id`: one that finds its session busy runs in a new session with a copy of the conversation up to
    that response. A turn of a busy `conversation`, or after a response that is still running, is a 409. A retry of one
    of OpenAI's SDKs, which count them in a header, follows the answer that is still running.

**Statuses.** `in_progress`, then `completed`, `incomplete` (`max_output_tokens`, `content_filter`), `cancelled` or
`failed`. A rejection by the upstream has its own HTTP status; with `background` the response is `failed`. Without
`stream`, an answer that breaks off is an HTTP error, and the stored response is `failed`.

**Events.** Each has a name and, as data, an object with the same `type` and a `sequence_number`. The last is
`response.completed`, `response.incomplete` (also when it was cancelled) or `response.failed`, then `data: [DONE]`.
Events of hosted tools, and those that this server does not know, come as the upstream sent them, with this response's
numbers; previews of images are left out. Comments break each silence. If the answer cannot be read to its end, an
`error` event closes the stream, without `[DONE]`. Numbers rise with gaps: the event's position in the log times 16,
plus its place among the events there. A number identifies the same event with the same text on every read and every
replica, while the answer runs and afterwards, and `starting_after` continues exactly after it.

**WebSocket.** A `GET` of this path with `Upgrade: websocket` and the key as a header opens OpenAI's WebSocket mode. A
client sends one JSON object per message: `{"type": "response.create", …}` with the fields of this body, of which
`stream` has no effect; the messages back are the events, without `[DONE]`. An error is
`{"type": "error", "status": …, "error": {…}}`, and the connection stays open. Requests are answered one after the
other; eight may wait. `generate: false` prepares a response without asking a model, and `previous_response_id` may name
the last response of the connection that was not stored. **After a disconnect**, a client continues on a new connection:
`{"type": "response.resume", "response_id": …, "starting_after": …}`, with the last `sequence_number` that it has, sends
the events after that. `stream_id` and `response.steer` are errors. A connection is closed after
`CHATAPI_WEBSOCKET_IDLE_SECONDS` without a request, and after an hour.""",
    json_content(ResponseObject, "The response.", 200, *OPTIONAL_IDS, "X-Omitted-Tools"),
    event_content("The events of the response.", EVENTS, *OPTIONAL_IDS, "X-Omitted-Tools"),
    no_content("The client disconnected."),
    body=ResponseBody,
    headers={**ON_DISCONNECT, **IDEMPOTENCY_KEY},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *BODY_ERRORS, PreviousNotFound, ConversationNotFound, ItemNotFound, *TURN_ERRORS),
    examples=(
        Example("create", body={"model": "gpt-4.1-mini", "input": "Hello"}),
        Example("stream", body={"model": "gpt-4.1-mini", "input": "Hello", "stream": True, "store": False}),
    ),
)
describe(
    InputTokensBody,
    input="As in a response.",
    previous_response_id="The input follows this response; its conversation is counted too.",
    conversation="The input follows the last message of this conversation.",
    personality="Sent upstream.",
)
COUNT_INPUT_TOKENS = operation(
    "countInputTokens",
    "Count input tokens",
    """Return the upstream's count of the tokens that the input of a response would have, with the messages before it.
    It is asked through Responses. If it has none, or is asked through chat completions only
    (`OPENAI_UPSTREAM_API=chat`), this is a 400 with the code `unsupported_by_upstream`: there is no estimate. Nothing
    is stored. The caller's limits of requests and of running answers apply.""",
    json_content(InputTokens, "The count, as the upstream sent it."),
    body=InputTokensBody,
    security=OPENAI_KEY,
    errors=(
        *(*OPENAI_ERRORS, *BODY_ERRORS, PreviousNotFound, ConversationNotFound, ItemNotFound, TooManyGenerations),
        *(*UPSTREAM_ERRORS, UpstreamUnsupported),
    ),
    examples=(Example("count", body={"model": "gpt-4.1-mini", "input": "Hello"}),),
)
describe(
    CompactBody,
    input="As in a response.",
    previous_response_id="The conversation up to this response comes before the input.",
    image=ONLY,
    prompt_cache_options=ONLY,
)
COMPACT_RESPONSE = operation(
    "compactResponse",
    "Compact a conversation",
    """Return the items that replace a conversation: send them as the `input` of the next response. The upstream is
    asked through Responses. If it has no such route, or is asked through chat completions only
    (`OPENAI_UPSTREAM_API=chat`), the model of `CHATAPI_SUMMARY_MODEL` writes a summary; without this setting it is a
    400 with the code `unsupported_by_upstream`. The summary is the `encrypted_content` of the item of type
    `compaction`, behind the messages of the user, the developer and the system. Any upstream gets it as the user's
    text. It belongs to the key that asked for it: sent back with another key, or changed, it is a 400 that names it,
    and a request has at most 8 different ones. The instructions are summarised with the conversation; the fields for
    caches and `service_tier` have no effect then. Nothing is stored but the usage of the summary, and the conversation
    here stays as it is. The caller's limits of requests and of running answers apply.""",
    json_content(CompactedResponse, "The items."),
    body=CompactBody,
    security=OPENAI_KEY,
    errors=(
        *(*OPENAI_ERRORS, *BODY_ERRORS, PreviousNotFound, ItemNotFound, TooManyGenerations),
        *(*UPSTREAM_ERRORS, UpstreamUnsupported),
    ),
    examples=(Example("compact", body={"model": "gpt-4.1-mini", "input": "Hello"}),),
)
GET_RESPONSE = operation(
    "getResponse",
    "Get a response",
    """Return the response as it is, or with `stream=true` its events to the end; a running one is followed.""",
    json_content(ResponseObject, "The response.", 200, *IDS),
    event_content("The events of the response.", EVENTS, *IDS),
    parameters={
        "response_id": RESPONSE_ID,
        "stream": "Return events.",
        "starting_after": "Begin after the event with this number.",
    },
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, ResponseNotFound),
    examples=(Example("get", path=RESPONSE),),
)
CANCEL_RESPONSE = operation(
    "cancelResponse",
    "Cancel a response",
    "Stop a response, in the background or not, and return it. One that has ended is returned as it is.",
    json_content(ResponseObject, "The response."),
    parameters={"response_id": RESPONSE_ID},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, ResponseNotFound),
    examples=(Example("cancel", path=RESPONSE),),
)
DELETE_RESPONSE = operation(
    "deleteResponse",
    "Delete a response",
    """Delete the answer, and the input of its turn unless another answer follows it. The messages after it follow the
    messages before it. A running response is stopped. If the session is empty then, it is deleted. While another
    answer of the session is running, it is a 409.""",
    json_content(DeletedResponse, "The response was deleted."),
    parameters={"response_id": RESPONSE_ID},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, ResponseNotFound, SessionBusy),
    examples=(Example("delete", path=RESPONSE),),
)
LIST_INPUT_ITEMS = operation(
    "listInputItems",
    "List input items",
    "List the items of the response's own turn, without those before it in its session.",
    json_content(ItemList, "A page of items."),
    parameters={"response_id": RESPONSE_ID, **PAGE},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, ResponseNotFound),
    examples=(Example("list", path=RESPONSE),),
)
