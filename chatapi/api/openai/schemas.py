"""The items of Responses and Conversations, the operations of models, and definitions that all operations share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from chatapi.api.http.openapi import (
    OWNER_ERRORS,
    REQUIRED_KEY,
    UPSTREAM_ERRORS,
    Content,
    Errors,
    Example,
    allow_unknown,
    json_content,
    operation,
)
from chatapi.errors import BodyTooLarge, Draining, MethodNotAllowed, NotFound, TooManyGenerations

Status = Literal["completed", "incomplete", "in_progress"]
OPENAI_KEY = REQUIRED_KEY
OPENAI_ERRORS: Errors = OWNER_ERRORS
PAGE = {
    "limit": "Items per page.",
    "order": "`desc`: the last item first.",
    "after": "The id of an item: the page begins after it.",
    "include": "Ignored.",
}
ON_DISCONNECT = {
    "X-On-Disconnect": "`cancel` stops a stored answer when the client disconnects; `continue` is the default."
}
IDEMPOTENCY_KEY = {"Idempotency-Key": "1 to 255 characters; see the introduction."}


class ItemContent(TypedDict):
    """A part of a message item. The other fields depend on `type`."""

    type: Literal["input_text", "input_image", "input_file", "output_text", "refusal"]
    text: NotRequired[str]
    refusal: NotRequired[str]
    annotations: NotRequired[list[dict[str, Any]]]
    logprobs: NotRequired[list[Any]]
    image_url: NotRequired[str | None]
    detail: NotRequired[str]
    file_id: NotRequired[str | None]
    filename: NotRequired[str]
    file_data: NotRequired[str]


class ReasoningText(TypedDict):
    """A part of the model's reasoning."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class Item(TypedDict):
    """A message, reasoning, a tool call or its output, or an item of a hosted tool as the upstream sent it."""

    id: str
    type: Annotated[
        str,
        Meta(
            description="`message`, `reasoning`, `function_call`, `custom_tool_call`, `function_call_output`, or the "
            "type of an item of a hosted tool. The other fields depend on it."
        ),
    ]
    status: NotRequired[Annotated[str, Meta(description="`completed`, `incomplete`, `in_progress`; others of tools.")]]
    role: NotRequired[Annotated[str, Meta(description="Of `message`.")]]
    content: NotRequired[Annotated[list[ItemContent | Any], Meta(description="Of `message` and `reasoning`.")]]
    summary: NotRequired[Annotated[list[ReasoningText], Meta(description="Of `reasoning`.")]]
    encrypted_content: NotRequired[Annotated[str, Meta(description="Of `reasoning`, if the upstream sent it.")]]
    phase: NotRequired[Annotated[str, Meta(description="Of `message`, if the upstream sent it.")]]
    call_id: NotRequired[Annotated[str, Meta(description="Of calls and their outputs.")]]
    name: NotRequired[Annotated[str, Meta(description="Of calls.")]]
    namespace: NotRequired[Annotated[str, Meta(description="Of calls of a tool in a namespace.")]]
    input: NotRequired[Annotated[str, Meta(description="Of `custom_tool_call`: text.")]]
    arguments: NotRequired[Annotated[str, Meta(description="Of `function_call`: JSON.")]]
    output: NotRequired[Annotated[Any, Meta(description="Of `function_call_output`.")]]


class ItemList(TypedDict):
    """A page of items."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Model(TypedDict):
    """A model, as the upstream describes it."""

    id: str


class ModelList(TypedDict):
    """The upstream's list of models."""

    data: list[Model]


class UpstreamObject(TypedDict):
    """An object, as the upstream sent it."""

    object: NotRequired[str]


allow_unknown(Item, ItemContent, Model, ModelList, UpstreamObject)

LIST_MODELS = operation(
    "listModels",
    "List models",
    "Return the upstream's list of models.",
    json_content(ModelList, "The models."),
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *UPSTREAM_ERRORS),
    examples=(Example("list"),),
)
GET_MODEL = operation(
    "getModel",
    "Get a model",
    "Return the upstream's description of a model.",
    json_content(Model, "The model."),
    parameters={"model": "The model's name; it can contain slashes."},
    security=OPENAI_KEY,
    errors=(*OPENAI_ERRORS, *UPSTREAM_ERRORS),
    examples=(Example("get", path={"model": "gpt-4.1-mini"}),),
)

_FORWARDED = """The path, its query, its body and the headers `Content-Type`, `Accept`, `Range`, `Idempotency-Key` and
    `OpenAI-…` go to the upstream, and its status, body and headers of content come back, byte for byte and piece by
    piece. Nothing is stored here or sent twice. A refusal is the upstream's own, without the key. Each direction has at
    most `CHATAPI_MAX_PASSTHROUGH_BYTES`; a response that breaks off is cut. The caller's limits of requests and of
    running answers apply. Any other path is a 404, and any other method a 405."""
_ANY_BODY = Content("application/octet-stream", {"type": "string", "format": "binary"}, 200, "The upstream's response.")
_FORWARD_PATH = {"path": "The path below `/v1`; it can contain slashes."}
_FORWARD_ERRORS: Errors = (*OPENAI_ERRORS, NotFound, MethodNotAllowed, BodyTooLarge, TooManyGenerations, Draining)
FORWARD_GET = operation(
    "forwardGet",
    "Read from the rest of OpenAI's API",
    f"""Read `files`, `vector_stores`, `batches` and `containers`, one of them, or their contents, at the upstream.

{_FORWARDED}""",
    json_content(UpstreamObject, "The upstream's response."),
    _ANY_BODY,
    parameters=_FORWARD_PATH,
    security=OPENAI_KEY,
    errors=(*_FORWARD_ERRORS, *UPSTREAM_ERRORS),
    examples=(Example("files", path={"path": "files"}),),
)
FORWARD_POST = operation(
    "forwardPost",
    "Call the rest of OpenAI's API",
    f"""Call `embeddings`, `moderations`, `completions`, `audio/…` (speech, transcriptions, translations), `images/…`
    (generations, edits, variations), `files`, `uploads`, `vector_stores`, `batches` and `containers` of the upstream.

{_FORWARDED}""",
    json_content(UpstreamObject, "The upstream's response."),
    _ANY_BODY,
    body=UpstreamObject,
    body_required=False,
    parameters=_FORWARD_PATH,
    security=OPENAI_KEY,
    errors=(*_FORWARD_ERRORS, *UPSTREAM_ERRORS),
    examples=(
        Example(
            "embeddings",
            path={"path": "embeddings"},
            body={"model": "text-embedding-3-small", "input": "Hello", "dimensions": 4},
        ),
    ),
)
FORWARD_DELETE = operation(
    "forwardDelete",
    "Delete in the rest of OpenAI's API",
    f"""Delete one of `files`, `vector_stores` or `containers`, or a file in one, at the upstream.

{_FORWARDED}""",
    json_content(UpstreamObject, "The upstream's response."),
    parameters=_FORWARD_PATH,
    security=OPENAI_KEY,
    errors=(*_FORWARD_ERRORS, *UPSTREAM_ERRORS),
    examples=(Example("file", path={"path": "files/file-abc123"}),),
)
