"""A chat completion request: its validation and OpenAI's errors, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from . import wire
from .scripts import FORBIDDEN, INVALID_KEY, Refusal

MAX_STOPS: Final = 4  # as the hosted API

RESPONSES_FOR_TOOLS: Final = ("gpt-5.4",)  # prefixes of models that reason with tools on Responses only

ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")

Value = TypeVar("Value")


class RefusedError(Exception):
    """The request failed a check."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(status: int, message: str, *, param: str | None = None, code: str | None = None) -> RefusedError:
    """Return the exception for a request error of the caller."""
    return RefusedError(Refusal(status, message, param=param, code=code))


def check_key(headers: Mapping[str, str]) -> None:
    """Accept every key that contains neither `invalid` nor `forbidden`."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise refused(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're "
            "accessing the API from your browser and are prompted for a username and password. You can obtain an API "
            "key from https://platform.openai.com/account/api-keys.",
        )
    if "invalid" in key.lower():
        raise RefusedError(replace(INVALID_KEY, message=INVALID_KEY.message.replace("sk-proj-*****", masked(key))))
    if "forbidden" in key.lower():
        raise RefusedError(FORBIDDEN)


def masked(key: str) -> str:
    """Mask a key like OpenAI does: eight characters, stars, four characters; a short key is all stars."""
    shown = 8 + 4
    if len(key) < 2 * shown:
        return "*" * len(key)
    return f"{key[:8]}{'*' * (len(key) - shown)}{key[-4:]}"


def _wrong_type(param: str, expected: str, value: object) -> RefusedError:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}
    got = "null" if value is None else names.get(type(value), "a decimal number")
    message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
    return refused(400, message, param=param, code="invalid_type")


def _missing(param: str) -> RefusedError:
    return refused(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


@dataclass(frozen=True)
class Message:
    """Role and text of one message of a request."""

    role: str
    text: str

    @classmethod
    def parse(cls, value: object, param: str) -> Message:
        """Check one element of `messages`."""
        if not isinstance(value, dict):
            raise _wrong_type(param, "an object", value)
        role = value.get("role")
        if role is None:
            raise _missing(f"{param}.role")
        if role not in ROLES:
            supported = ", ".join(f"'{name}'" for name in ROLES[:-1])
            message = f"Invalid value: '{role}'. Supported values are: {supported}, and '{ROLES[-1]}'."
            raise refused(400, message, param=f"{param}.role", code="invalid_value")
        if "content" not in value and role != "assistant":  # an assistant message may consist of tool calls
            raise _missing(f"{param}.content")
        return cls(role, _text(value.get("content"), f"{param}.content", role))


def _text(content: object, param: str, role: str) -> str:
    """Return the text of `content`, a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return " ".join(text for text in parts if isinstance(text, str))
    if content is None and role == "assistant":
        return ""
    raise _wrong_type(param, "one of a string or array of objects", content)


@dataclass(frozen=True)
class Chat:
    """A validated request for a completion."""

    snapshot: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    obfuscation: bool
    max_tokens: int | None
    stops: tuple[str, ...]
    reasons: bool
    choices: int
    tools: tuple[Mapping[str, Any], ...]  # callable in this answer
    must_call: bool
    may_search: bool
    schema: Mapping[str, Any] | None  # of the requested JSON answer

    @classmethod
    def parse(cls, body: Any) -> Chat:
        """Validate a body in the order of the hosted API."""
        if not isinstance(body, dict):
            raise refused(
                400,
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
                "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
            )
        snapshot = _snapshot(body)
        stream = _optional(body, "stream", bool, "a boolean") or False
        options = _optional(body, "stream_options", dict, "an object")
        if options is not None and not stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise refused(400, message, param="stream_options")
        return cls(
            snapshot=snapshot,
            messages=_messages(body),
            stream=stream,
            include_usage=bool((options or {}).get("include_usage")),
            obfuscation=bool((options or {}).get("include_obfuscation", True)),
            max_tokens=_max_tokens(body),
            stops=_stops(body),
            reasons=_optional(body, "reasoning_effort", str, "a string") not in (None, "none"),
            choices=_optional(body, "n", int, "an integer") or 1,
            tools=_tools(body),
            must_call=body.get("tool_choice") not in (None, "auto", "none"),
            may_search=body.get("web_search_options") is not None,
            schema=_schema(body),
        )

    @property
    def asked(self) -> str:
        """The last user message."""
        return self.user_texts[-1] if self.user_texts else ""

    @property
    def user_texts(self) -> list[str]:
        """All user messages, oldest first."""
        return [message.text for message in self.messages if message.role == "user"]


def without_tools_and_reasoning(body: Mapping[str, Any], chat: Chat) -> Chat:
    """Refuse functions for a model that reasons unless it is asked not to, as chat completions do."""
    model = str(body.get("model"))
    if model.startswith(RESPONSES_FOR_TOOLS) and body.get("tools") and body.get("reasoning_effort") != "none":
        message = (
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
        )
        raise refused(400, message, param="reasoning_effort")
    return chat


def _optional(body: Mapping[str, Any], param: str, kind: type[Value], expected: str) -> Value | None:
    value = body.get(param)
    if value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong_type(param, expected, value)
    return value


def _snapshot(body: Mapping[str, Any]) -> str:
    name = _optional(body, "model", str, "a string")
    if not name:
        raise refused(400, "you must provide a model parameter")
    if name in wire.SNAPSHOTS:
        return name
    if name not in wire.MODELS:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise refused(404, message, code="model_not_found")
    return wire.MODELS[name]


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = _optional(body, "messages", list, "an array of objects")
    if messages is None:
        raise _missing("messages")
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise refused(400, message, param="messages", code="empty_array")
    parsed = tuple(Message.parse(value, f"messages[{index}]") for index, value in enumerate(messages))
    _check_calls(messages)
    return parsed


def _tools(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the callable functions: all of the request, or the one in `tool_choice`."""
    tools = _optional(body, "tools", list, "an array of objects") or []
    functions = [
        tool["function"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice")
    if choice == "none":
        return ()
    if isinstance(choice, dict):
        chosen = (choice.get("function") or {}).get("name")
        return tuple(function for function in functions if function.get("name") == chosen)
    return tuple(functions)


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a JSON answer, or None for text."""
    wanted = _optional(body, "response_format", dict, "an object") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        return schema if isinstance(schema, dict) else {}
    return {"type": "object", "properties": {"answer": {}}} if wanted.get("type") == "json_object" else None


def _check_calls(messages: list[Any]) -> None:
    """Reject a history with a tool call without a result, or a result without a call."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                text = "Invalid parameter: a message with role 'tool' must answer a call in a message before it."
                raise refused(400, text, param=f"messages.[{index}].role")
            waiting.remove(message["tool_call_id"])
        elif waiting:
            break
        else:
            waiting = [str(call.get("id")) for call in message.get("tool_calls") or ()]
    if waiting:
        text = f"These tool_call_ids have no message with role 'tool' that answers them: {', '.join(waiting)}."
        raise refused(400, text, param="messages")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for param in ("max_completion_tokens", "max_tokens"):
        value = _optional(body, param, int, "an integer")
        if value is None:
            continue
        if value < 1:
            message = f"Invalid '{param}': integer below minimum value. Expected a value >= 1, but got {value} instead."
            raise refused(400, message, param=param, code="integer_below_min_value")
        return value
    return None


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _wrong_type("stop", "one of a string or array of strings", value)
    if len(stops) > MAX_STOPS:
        message = (
            f"Invalid 'stop': array too long. Expected an array with maximum length {MAX_STOPS}, "
            f"but got an array with length {len(stops)} instead."
        )
        raise refused(400, message, param="stop", code="array_above_max_length")
    return tuple(stop for stop in stops if stop)
