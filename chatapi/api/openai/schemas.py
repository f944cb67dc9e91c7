"""The items of Responses and Conversations, the operations of models, and definitions that all operations share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from chatapi.api.http.openapi import (
    OWNER_ERRORS,
    REQUIRED_KEY,
    UPSTREAM_ERRORS,
    Errors,
    Example,
    allow_unknown,
    json_content,
    operation,
)

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


allow_unknown(Item, ItemContent, Model, ModelList)

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
