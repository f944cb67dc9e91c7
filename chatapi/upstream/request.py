"""Requests for a model: the value that a generation is made from, and its JSON for OpenAI's chat completions.

Only this module writes that JSON. Every request is valid, whatever is stored: arguments of tool calls are JSON objects,
and members that came from an upstream go back to it alone. A member that an upstream refuses is found in its refusal
and left out next time (`find_adjustment`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any

import msgspec

from chatapi.errors import ContextTooLarge
from chatapi.model import Kind, NewMessage, Part, Role
from chatapi.wire import response_events
from chatapi.wire.chat_messages import answer_message, write_message
from chatapi.wire.extras import ANY_ORIGIN, decode_extras
from chatapi.wire.loose_json import UNREADABLE

INVALID_ARGUMENTS = "invalid_arguments"  # the member that holds arguments which are not a JSON object
_MESSAGE_MEMBERS = frozenset({"role", "content", "tool_calls", "tool_call_id"})
_SYSTEM_ROLES = frozenset({"system", "developer"})


class ModelRequest(msgspec.Struct, frozen=True):
    """A request to a model: `instructions` first, then `messages`.

    `parameters` have the names and the form of chat completions. `responses` are those that only OpenAI's Responses
    has, such as hosted tools, in its form.
    """

    model: str
    messages: tuple[NewMessage, ...]
    instructions: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    responses: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def with_messages(self, messages: tuple[NewMessage, ...], instructions: tuple[str, ...]) -> ModelRequest:
        """Return the request with other messages and instructions."""
        return ModelRequest(self.model, messages, instructions, self.parameters, self.responses)


def has_compaction(request: ModelRequest) -> bool:
    """Return whether a compacted conversation is in a request: nothing else has the text that it stands for."""
    return any(
        part.kind is Kind.EXTRA and part.call is None and response_events.is_compaction(part.text)
        for message in request.messages
        for part in message.parts
    )


class Adjustment(StrEnum):
    """A change to the requests for a model, because its upstream refuses them otherwise.

    Beside these, the name of a member of an assistant's message is an adjustment that leaves this member out.
    """

    NO_STREAM_OPTIONS = "stream_options"
    SYSTEM_ROLE = "role system in place of developer"
    ONE_SYSTEM_MESSAGE = "one system message, first"
    ALTERNATING_ROLES = "one message of a role at a time"
    MAX_TOKENS = "max_tokens in place of max_completion_tokens"


class RequestWriter(msgspec.Struct, frozen=True):
    """Writes requests for one upstream, which `origin` identifies. `max_bytes` bounds a body."""

    developer_role: str
    origin: str
    max_bytes: int

    def write(self, request: ModelRequest, adjustments: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the body of a request."""
        role = "system" if Adjustment.SYSTEM_ROLE in adjustments else self.developer_role
        messages = [{"role": role, "content": text} for text in request.instructions if text]
        messages += [self._write_message(one, role, adjustments) for one in request.messages if _is_written(one)]
        if role == "system" or Adjustment.ONE_SYSTEM_MESSAGE in adjustments:
            messages = _with_one_system_message(messages)
        if Adjustment.ALTERNATING_ROLES in adjustments:
            messages = _with_alternating_roles(messages)
        parameters = dict(request.parameters)
        if Adjustment.MAX_TOKENS in adjustments and "max_completion_tokens" in parameters:
            parameters["max_tokens"] = parameters.pop("max_completion_tokens")
        usage = {} if Adjustment.NO_STREAM_OPTIONS in adjustments else {"stream_options": {"include_usage": True}}
        return {"model": request.model, "messages": messages, "stream": True, **usage, **parameters}

    def encode(self, body: dict[str, Any]) -> bytes:
        """Return the JSON of a body.

        Raises:
            ContextTooLarge: it has more than `max_bytes`.
        """
        encoded = msgspec.json.encode(body)
        if len(encoded) > self.max_bytes:
            raise ContextTooLarge
        return encoded

    def _write_message(self, message: NewMessage, role: str, adjustments: frozenset[str]) -> dict[str, Any]:
        if message.role is not Role.ASSISTANT:
            return write_message(message, role)
        written = answer_message(message.parts)
        calls = {call["id"]: call for call in written.get("tool_calls", ())}
        reasoning = "".join(part.text for part in message.parts if part.kind is Kind.REASONING)
        if calls and reasoning:  # the thoughts that led to a call: some upstreams refuse a call without them
            written["reasoning_content"] = reasoning
        for part in message.parts:
            if part.kind is Kind.EXTRA:
                self._return_extras(part, written, calls)
        for call in calls.values():
            _repair_call(call)
        return {name: value for name, value in written.items() if name not in adjustments}

    def _return_extras(self, part: Part, written: dict[str, Any], calls: dict[str, dict[str, Any]]) -> None:
        origin, fields = decode_extras(part.text)
        if origin not in {ANY_ORIGIN, self.origin}:
            return
        if part.call is not None:
            if (call := calls.get(part.call.id)) is not None:
                call["function"] |= fields.pop("function", {})
                call |= fields
            return
        fields.pop(response_events.FIELD, None)  # of another protocol
        if parts := fields.pop("content_parts", None):
            text = [{"type": "text", "text": written["content"]}] if written["content"] else []
            written["content"] = [*parts, *text]
        written |= {name: value for name, value in fields.items() if name not in _MESSAGE_MEMBERS}


def _is_written(message: NewMessage) -> bool:
    """Return whether a message has anything for chat completions: items of Responses alone are nothing there."""
    if message.role is Role.ASSISTANT:
        return any(part.kind is not Kind.EXTRA or part.call is not None or _has_members(part) for part in message.parts)
    return any(part.kind is not Kind.EXTRA for part in message.parts)


def _has_members(extra: Part) -> bool:
    return bool(decode_extras(extra.text)[1].keys() - {response_events.FIELD})


def _repair_call(call: dict[str, Any]) -> None:
    """Make a call's arguments a JSON object: servers that parse them refuse every later request otherwise."""
    function = call["function"]
    if call["type"] == "custom":
        del call["function"]
        call["custom"] = {"name": function["name"], "input": function["arguments"]}
        return
    function["arguments"] = repair_arguments(function["arguments"])


def repair_arguments(arguments: str) -> str:
    """Return the arguments of a call as a JSON object; others are its member `INVALID_ARGUMENTS`."""
    try:
        value = msgspec.json.decode(arguments)
    except UNREADABLE:
        value = arguments
    return arguments if isinstance(value, dict) else msgspec.json.encode({INVALID_ARGUMENTS: value}).decode()


def _with_one_system_message(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system = [one for one in messages if one["role"] in _SYSTEM_ROLES]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    joined = {"role": system[0]["role"], "content": "\n\n".join(one["content"] for one in system)}
    return [joined, *(one for one in messages if one["role"] not in _SYSTEM_ROLES)]


def _with_alternating_roles(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbouring messages of users, and neighbouring texts of assistants."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        before = joined[-1] if joined else None
        plain = message.keys() == {"role", "content"} and message["role"] in {"user", "assistant"}
        if plain and before is not None and before.keys() == message.keys() and before["role"] == message["role"]:
            joined[-1] = {"role": message["role"], "content": _joined(before["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    both = [[{"type": "text", "text": one}] if isinstance(one, str) else one or [] for one in (first, second)]
    return [*both[0], *both[1]]


def find_adjustment(refusal: str, body: dict[str, Any], adjustments: frozenset[str]) -> str | None:
    """Find the adjustment that a refusal asks for; None where it is about something that the caller sent.

    `refusal` is its body, as text. Only members that this service adds by itself are ever changed.
    """
    text = refusal.lower()
    roles = [message["role"] for message in body["messages"]]
    system = [index for index, role in enumerate(roles) if role in _SYSTEM_ROLES]
    turns = [role for role in roles if role in {"user", "assistant"}]
    possible = {
        Adjustment.NO_STREAM_OPTIONS: "stream_options" in body
        and ("stream_options" in text or "include_usage" in text),
        Adjustment.MAX_TOKENS: "max_completion_tokens" in body and "max_completion_tokens" in text,
        **{name: name.lower() in text for name in _returned_members(body)},
        Adjustment.ONE_SYSTEM_MESSAGE: system not in ([], [0]) and "system" in text,
        Adjustment.ALTERNATING_ROLES: "alternat" in text and any(a == b for a, b in pairwise(turns)),
        Adjustment.SYSTEM_ROLE: "developer" in roles and ("developer" in text or "role" in text),
    }
    return next((str(name) for name, fits in possible.items() if fits and name not in adjustments), None)


def _returned_members(body: dict[str, Any]) -> list[str]:
    """The members of assistants' messages that are not OpenAI's, each once."""
    messages = [message for message in body["messages"] if message["role"] == "assistant"]
    return list(dict.fromkeys(name for message in messages for name in message if name not in _MESSAGE_MEMBERS))
