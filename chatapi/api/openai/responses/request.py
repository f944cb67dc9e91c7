"""A request of OpenAI's Responses: input as messages, parameters for the upstream, and the fields its response repeats.

Every field is used, mapped to chat completions, or refused by name. No field that would change the answer is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace
from pydantic import Field

from chatapi.api.http.request_body import Body, Metadata, ModelName, Text, validate
from chatapi.api.openai.common import check_if_busy, check_sizes
from chatapi.api.openai.input_items import NEEDS_RESPONSES, References, read_input
from chatapi.api.openai.responses.tools import MAX_TOOLS, Hosted, names_hosted, read_tool_choice, read_tools
from chatapi.errors import InvalidRequest
from chatapi.model import ContextPolicy, NewMessage
from chatapi.settings import Settings
from chatapi.wire.json_values import optional_text, require_object
from chatapi.wire.text import MESSAGE_LIMIT

Name = Annotated[Text, Field(min_length=1, max_length=256)]
ShortWord = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]


class Reasoning(Body):
    """How much the model is to reason, and whether a summary of it is wanted."""

    effort: ShortWord | None = None
    context: ShortWord | None = None  # of reasoning that only the hosted service stores; it changes nothing here
    summary: ShortWord | None = None
    generate_summary: ShortWord | None = None


class ContextBody(Body):
    """The fields that decide how many tokens the input has."""

    model: ModelName | None = None
    input: Any = None
    instructions: Text | None = None
    previous_response_id: Annotated[Text, Field(max_length=128)] | None = None
    conversation: Any = None
    tools: list[Any] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None


class InputTokensBody(ContextBody):
    """An input whose tokens are to be counted."""

    personality: ShortWord | None = None


class CompactBody(Body):
    """A conversation to compact. The model is required, as in OpenAI's API."""

    model: ModelName
    input: Any = None
    instructions: Text | None = None
    previous_response_id: Annotated[Text, Field(max_length=128)] | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: ShortWord | None = None
    service_tier: ShortWord | None = None
    image: dict[str, Any] | None = None


class ResponseBody(ContextBody):
    """A response to create."""

    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    if_busy: Any = None  # of `POST /api/chat`, and refused by name
    max_tool_calls: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: Metadata | None = None
    include: list[Text] | None = Field(None, max_length=32)
    service_tier: ShortWord | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_retention: ShortWord | None = None
    access_programs: dict[str, Any] | None = None
    context_management: list[Any] | None = Field(None, max_length=8)
    image: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    client_metadata: dict[str, Any] | None = None  # for the client's own maker, and not passed on


REPEATED = (
    "background",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "top_p",
    "truncation",
    "user",
)
"""The fields that a response repeats as they were sent."""

PASSED_ON = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
"""The fields that chat completions have under the same name."""


RESPONSES_ONLY = ("access_programs", "context_management", "image", "moderation", "prompt", "prompt_cache_options")
"""The fields that change an answer and that only an upstream has which is asked through Responses."""

CONTEXT_POLICIES = {"auto": ContextPolicy.TRUNCATE, "disabled": ContextPolicy.ERROR}
"""The context policy of each value of `truncation`."""


class ResponseRequest(msgspec.Struct, frozen=True):
    """A request, read. `parameters` are for the upstream; `repeated` are the fields that the response repeats.

    `own_parameters` are for an upstream that is asked through OpenAI's Responses (`TurnRequest.responses_parameters`).
    """

    input: tuple[NewMessage, ...]
    instructions: str | None
    model: str
    parameters: dict[str, Any]
    own_parameters: dict[str, Any]
    repeated: dict[str, Any]
    stream: bool
    store: bool
    background: bool
    on_disconnect: str | None
    previous_response_id: str | None
    conversation_id: str | None
    omitted_tools: tuple[str, ...]


def read_request(value: dict[str, Any], settings: Settings, references: References, hosted: Hosted) -> ResponseRequest:
    """Read the body of a request. `hosted`: what happens to hosted tools and their items.

    Raises:
        InvalidRequest: a value is invalid, or not supported here; the error names it.
        ItemNotFound: an item that is referred to is not among `references`.
    """
    body = validate(ResponseBody, value)
    conversation_id = _conversation(body.conversation)
    _check_combinations(body, conversation_id)
    check_if_busy(body.if_busy)
    passes = hosted == "pass"
    for name in RESPONSES_ONLY:
        if getattr(body, name) is not None and not passes:
            raise InvalidRequest.field(name, f"Not supported here. {NEEDS_RESPONSES}")
    messages = read_input(body.input, "input", references, keep=passes) if body.input is not None else ()
    check_sizes(messages, "input", settings.max_message_bytes)
    if len((body.instructions or "").encode()) > settings.max_message_bytes:
        limit = f"{settings.max_message_bytes} bytes of text ({MESSAGE_LIMIT})"
        raise InvalidRequest.field("instructions", f"Must have at most {limit}.")

    tools = read_tools(body.tools or [], hosted)
    text, upstream_text = _text(body.text or {})
    hosted_choice = body.tool_choice if passes and names_hosted(body.tool_choice) else None
    choice = read_tool_choice(body.tool_choice) if body.tool_choice is not None and hosted_choice is None else None
    repeated = {name: value for name in REPEATED if (value := getattr(body, name)) is not None} | {"text": text}
    parameters = {name: value for name in PASSED_ON if (value := getattr(body, name)) is not None} | upstream_text
    if conversation_id is not None:
        repeated["conversation"] = {"id": conversation_id}
    if choice is not None or hosted_choice is not None:
        repeated["tool_choice"] = body.tool_choice
    if body.max_output_tokens is not None:
        parameters["max_completion_tokens"] = body.max_output_tokens
    if body.reasoning is not None:
        summary = body.reasoning.summary or body.reasoning.generate_summary
        repeated["reasoning"] = {"effort": body.reasoning.effort, "summary": summary}
        parameters |= {"reasoning_effort": body.reasoning.effort} if body.reasoning.effort is not None else {}
    own = _own_parameters(body, tools.hosted, hosted_choice)
    if tools.repeated:
        repeated["tools"] = tools.repeated
    if tools.upstream or tools.hosted:  # an upstream refuses settings of tools where there are none
        about = {"tool_choice": choice, "parallel_tool_calls": body.parallel_tool_calls}
        parameters |= {"tools": tools.upstream} if tools.upstream else {}
        parameters |= {name: value for name, value in about.items() if value is not None}
    return ResponseRequest(
        input=messages,
        instructions=body.instructions or None,
        model=body.model or settings.default_model,
        parameters=parameters,
        own_parameters=own,
        repeated=repeated,
        stream=bool(body.stream),
        store=body.store is not False,
        background=bool(body.background),
        on_disconnect=body.on_disconnect,
        previous_response_id=body.previous_response_id,
        conversation_id=conversation_id,
        omitted_tools=tuple(tools.omitted),
    )


def read_input_tokens(
    value: dict[str, Any], settings: Settings, references: References, hosted: Hosted
) -> ResponseRequest:
    """Read the body of a request to count tokens, as that of a response which is not stored.

    Raises:
        InvalidRequest, ItemNotFound: as `read_request`.
    """
    personality = validate(InputTokensBody, value).personality
    rest = {name: one for name, one in value.items() if name != "personality"}
    asked = replace(read_request(rest, settings, references, hosted), store=False)
    if personality is None:
        return asked
    return replace(asked, own_parameters=asked.own_parameters | {"personality": personality})


def read_compact(value: dict[str, Any], settings: Settings, references: References, hosted: Hosted) -> ResponseRequest:
    """Read the body of a request to compact a conversation, as that of a response which is not stored.

    Raises:
        InvalidRequest, ItemNotFound: as `read_request`.
    """
    validate(CompactBody, value)
    return replace(read_request(value, settings, references, hosted), store=False)


def _own_parameters(body: ResponseBody, tools: list[dict[str, Any]], tool_choice: Any) -> dict[str, Any]:
    """Return the parameters that chat completions do not have."""
    found: dict[str, Any] = {"tools": tools} if tools else {}
    if tool_choice is not None:
        found["tool_choice"] = tool_choice
    if body.include:
        found["include"] = body.include
    if body.reasoning is not None and (summary := body.reasoning.summary or body.reasoning.generate_summary):
        found["reasoning"] = {"summary": summary}
    names = ("max_tool_calls", "truncation", *RESPONSES_ONLY)
    return found | {name: value for name in names if (value := getattr(body, name)) is not None}


def _conversation(value: Any) -> str | None:
    if isinstance(value, dict) and set(value) == {"id"}:
        value = value["id"]
    name = optional_text(value, "conversation") if value is None or isinstance(value, str) else None
    if (name is None) != (value is None) or len(name or "") > 128:
        raise InvalidRequest.field("conversation", "Must be the id of a conversation, or an object with its id.")
    return name


def _check_combinations(body: ResponseBody, conversation_id: str | None) -> None:
    if body.previous_response_id is not None and conversation_id is not None:
        raise InvalidRequest.field("previous_response_id", "Must not be sent together with conversation.")
    if body.store is False and body.background:
        raise InvalidRequest.field("background", "Must be false where store is false.")
    if body.store is False and conversation_id is not None:
        raise InvalidRequest.field("store", "Must be true where a conversation is named.")
    if body.top_logprobs:
        raise InvalidRequest.field("top_logprobs", "Not supported. Omit it.")
    for name in body.include or ():
        if name == "message.output_text.logprobs":
            raise InvalidRequest.field("include", "message.output_text.logprobs is not supported. Omit it.")


def _text(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the text as the response repeats them, and as chat completions take them."""
    shown: dict[str, Any] = {"format": {"type": "text"}}
    upstream: dict[str, Any] = {}
    if not value.keys() <= {"format", "verbosity"}:
        raise InvalidRequest.field("text", "Must have no fields but format and verbosity.")
    if (verbosity := value.get("verbosity")) is not None:
        if verbosity not in ("low", "medium", "high"):
            raise InvalidRequest.field("text.verbosity", "Must be low, medium or high.")
        shown["verbosity"] = upstream["verbosity"] = verbosity
    if value.get("format") is None:
        return shown, upstream
    form = require_object(value["format"], "text.format")
    match form.get("type"):
        case "text":
            return shown, upstream
        case "json_object":
            return shown | {"format": {"type": "json_object"}}, upstream | {"response_format": {"type": "json_object"}}
        case "json_schema":
            fields = ("name", "description", "schema", "strict")
            named = {name: form[name] for name in fields if form.get(name) is not None}
            if not isinstance(named.get("name"), str) or not isinstance(named.get("schema"), dict):
                raise InvalidRequest.field("text.format", "A json_schema must have a name and a schema.")
            schema = {"type": "json_schema", "json_schema": named}
            return shown | {"format": {"type": "json_schema", **named}}, upstream | {"response_format": schema}
    raise InvalidRequest.field("text.format.type", "Must be text, json_object or json_schema.")
