"""A request of OpenAI's Responses, read: what is said, what the upstream is asked, and what the response says of it.

Every field is taken, mapped to chat completions, or refused by name. Nothing is passed over in silence that would
change the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from chatapi.api.http.request_body import Body, Text, validate
from chatapi.api.openai.items import read_input
from chatapi.errors import InvalidRequest
from chatapi.model import NewMessage
from chatapi.settings import Settings

MODEL = r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$"
TOOLS_AT_MOST = 256

Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
]
Name = Annotated[Text, Field(min_length=1, max_length=256)]
ShortWord = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]


class Reasoning(Body):
    """How much the model is to think."""

    effort: ShortWord | None = None
    summary: ShortWord | None = None
    generate_summary: ShortWord | None = None


class ResponseBody(Body):
    """A response to make."""

    model: str | None = Field(None, pattern=MODEL)
    input: Any = None
    instructions: Text | None = None
    previous_response_id: Annotated[Text, Field(max_length=128)] | None = None
    conversation: Any = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    tools: list[Any] | None = Field(None, max_length=TOOLS_AT_MOST)
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = Field(None, ge=1, le=1_000_000)
    reasoning: Reasoning | None = None
    text: dict[str, Any] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: Metadata | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[Text] | None = Field(None, max_length=32)
    service_tier: ShortWord | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_retention: ShortWord | None = None


ECHOED = (
    "background",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
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


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A request, read. `parameters` are for the upstream, `echo` is what the response says of it."""

    input: tuple[NewMessage, ...]
    instructions: str | None
    model: str
    parameters: dict[str, Any]
    echo: dict[str, Any]
    stream: bool
    store: bool
    background: bool
    previous_response_id: str | None
    conversation_id: str | None


def read_request(value: dict[str, Any], settings: Settings) -> ResponseRequest:
    """The request in a body.

    Raises:
        InvalidRequest: there is something in it that cannot be done here; the error names it.
    """
    body = validate(ResponseBody, value)
    conversation_id = _conversation(body.conversation)
    _refuse_contradictions(body, conversation_id)
    messages = read_input(body.input, "input") if body.input is not None else ()
    for index, message in enumerate(messages):
        if sum(len(part.text.encode()) for part in message.parts) > settings.max_message_bytes:
            raise InvalidRequest.field(f"input.{index}", f"Its text is longer than {settings.max_message_bytes} bytes.")
    if len((body.instructions or "").encode()) > settings.max_message_bytes:
        raise InvalidRequest.field("instructions", f"It is longer than {settings.max_message_bytes} bytes.")

    tools, tools_written = _tools(body.tools or [])
    text, text_written = _text(body.text or {})
    choice = _tool_choice(body.tool_choice) if body.tool_choice is not None else None
    echo = {name: value for name in ECHOED if (value := getattr(body, name)) is not None} | {"text": text}
    parameters = {name: value for name in PASSED_ON if (value := getattr(body, name)) is not None} | text_written
    if conversation_id is not None:
        echo["conversation"] = {"id": conversation_id}
    if choice is not None:
        echo["tool_choice"] = body.tool_choice
    if body.max_output_tokens is not None:
        parameters["max_completion_tokens"] = body.max_output_tokens
    if body.reasoning is not None:
        echo["reasoning"] = body.reasoning.model_dump(include={"effort", "summary"})
        parameters |= {"reasoning_effort": body.reasoning.effort} if body.reasoning.effort is not None else {}
    if tools:  # an upstream refuses what is said of tools where there are none
        echo["tools"] = tools
        about = {"tool_choice": choice, "parallel_tool_calls": body.parallel_tool_calls}
        parameters |= {"tools": tools_written} | {name: value for name, value in about.items() if value is not None}
    return ResponseRequest(
        input=messages,
        instructions=body.instructions or None,
        model=body.model or settings.default_model,
        parameters=parameters,
        echo=echo,
        stream=bool(body.stream),
        store=body.store is not False,
        background=bool(body.background),
        previous_response_id=body.previous_response_id,
        conversation_id=conversation_id,
    )


def _conversation(value: Any) -> str | None:
    if isinstance(value, dict) and set(value) == {"id"}:
        value = value["id"]
    if value is None or (isinstance(value, str) and len(value) <= 128):
        return value
    raise InvalidRequest.field("conversation", "It must be the id of a conversation, or an object with its id.")


def _refuse_contradictions(body: ResponseBody, conversation_id: str | None) -> None:
    if body.previous_response_id is not None and conversation_id is not None:
        raise InvalidRequest.field(
            "previous_response_id", "It cannot come with conversation: previous_response_id, or conversation, not both."
        )
    if body.store is False and body.background:
        raise InvalidRequest.field("background", "What is not stored cannot run in the background.")
    if body.store is False and conversation_id is not None:
        raise InvalidRequest.field("store", "What is said in a conversation is stored in it.")
    if body.top_logprobs:
        raise InvalidRequest.field("top_logprobs", "Probabilities of tokens are not kept here. Leave it out.")
    for name in body.include or ():
        if name == "message.output_text.logprobs":
            raise InvalidRequest.field("include", "Probabilities of tokens are not kept here. Leave it out.")


def _tools(values: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The tools as the response shows them, and as chat completions want them."""
    shown, written = [], []
    for index, tool in enumerate(values):
        path = f"tools.{index}"
        if not isinstance(tool, dict):
            raise InvalidRequest.field(path, "It must be a tool: an object.")
        if tool.get("type") != "function":
            raise InvalidRequest.field(f"{path}.type", _unsupported(tool.get("type")))
        name, parameters = tool.get("name"), tool.get("parameters")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
            raise InvalidRequest.field(f"{path}.name", "A function's name is 1 to 128 letters, digits, _ and -.")
        if parameters is not None and not isinstance(parameters, dict):
            raise InvalidRequest.field(f"{path}.parameters", "It must be a JSON schema: an object.")
        for field, kind in (("description", str), ("strict", bool)):
            if tool.get(field) is not None and not isinstance(tool[field], kind):
                raise InvalidRequest.field(f"{path}.{field}", "It is not of the type that a function has there.")
        function = {
            field: tool[field]
            for field in ("name", "description", "parameters", "strict")
            if tool.get(field) is not None
        }
        shown.append({"type": "function", "description": None, "parameters": None, "strict": None} | function)
        written.append({"type": "function", "function": function})
    return shown, written


def _unsupported(kind: Any) -> str:
    name = kind if isinstance(kind, str) and re.fullmatch(r"[a-z0-9_]{1,40}", kind) else "of this type"
    return f"The tool {name} is not supported here: the model API runs no tools of its own. Use tools of type function."


def _tool_choice(value: Any) -> Any:
    if isinstance(value, str):
        if value in {"none", "auto", "required"}:
            return value
    elif isinstance(value, dict):
        if value.get("type") == "function":
            return {"type": "function", "function": {"name": _choice_name(value, "tool_choice.name")}}
        if value.get("type") == "allowed_tools":
            tools = value.get("tools")
            if not isinstance(tools, list) or value.get("mode") not in {"auto", "required"}:
                raise InvalidRequest.field("tool_choice", "It needs a mode, auto or required, and tools.")
            named = [
                {"type": "function", "function": {"name": _choice_name(tool, f"tool_choice.tools.{index}.name")}}
                for index, tool in enumerate(tools)
            ]
            return {"type": "allowed_tools", "allowed_tools": {"mode": value["mode"], "tools": named}}
        raise InvalidRequest.field("tool_choice", _unsupported(value.get("type")))
    raise InvalidRequest.field("tool_choice", "It must be none, auto, required, or name a function.")


def _choice_name(value: Any, path: str) -> str:
    if not isinstance(value, dict) or value.get("type") != "function" or not isinstance(value.get("name"), str):
        raise InvalidRequest.field(path, "It must be the name of a function.")
    return str(value["name"])


def _text(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the text as the response shows them, and as chat completions want them."""
    shown: dict[str, Any] = {"format": {"type": "text"}}
    written: dict[str, Any] = {}
    for name in value:
        if name not in {"format", "verbosity"}:
            raise InvalidRequest.field("text", "It has a format and a verbosity, and nothing else.")
    if value.get("verbosity") is not None:
        if value["verbosity"] not in {"low", "medium", "high"}:
            raise InvalidRequest.field("text.verbosity", "It must be low, medium or high.")
        shown["verbosity"] = written["verbosity"] = value["verbosity"]
    form = value.get("format")
    if form is None:
        return shown, written
    match form.get("type") if isinstance(form, dict) else None:
        case "text":
            return shown, written
        case "json_object":
            return shown | {"format": {"type": "json_object"}}, written | {"response_format": {"type": "json_object"}}
        case "json_schema":
            named = {
                name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None
            }
            if not isinstance(named.get("name"), str) or not isinstance(named.get("schema"), dict):
                raise InvalidRequest.field("text.format", "A json_schema has a name and a schema.")
            schema = {"type": "json_schema", "json_schema": named}
            return shown | {"format": {"type": "json_schema", **named}}, written | {"response_format": schema}
    raise InvalidRequest.field("text.format.type", "It must be text, json_object or json_schema.")


def encode_echo(echo: dict[str, Any]) -> str:
    """What a response says of its request, for the store."""
    return msgspec.json.encode(echo).decode()


def decode_echo(echo: str | None) -> dict[str, Any]:
    """The same, from the store; nothing where the answer was asked for in another dialect."""
    found: dict[str, Any] = msgspec.json.decode(echo) if echo is not None else {}
    return found
