"""Requests to OpenAI's Responses, written from the parameters of chat completions.

Nothing is stored upstream: each request has the whole conversation, with the reasoning that the upstream encrypted.
A parameter that Responses does not have is refused by name; no parameter is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from chatapi.errors import UpstreamErrorBody, UpstreamRejectedRequest
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.input import write_input

ENCRYPTED_REASONING = "reasoning.encrypted_content"
_SAME = frozenset(
    {
        *("temperature", "top_p", "parallel_tool_calls", "metadata", "service_tier", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "presence_penalty", "frequency_penalty"),
    }
)  # parameters that both protocols have
_TRANSLATED = frozenset(
    {"max_tokens", "max_completion_tokens", "reasoning_effort", "verbosity", "response_format", "tools", "tool_choice"}
)
REQUIRING = ("access_programs", "context_management", "image", "moderation", "prompt", "prompt_cache_options")
"""Parameters that change an answer, so that a request with one of them needs Responses."""
OWN = ("max_tool_calls", "truncation", "personality", *REQUIRING)
"""Parameters that chat completions do not have, and that are sent as they came."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "store": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "stop": ([],),
    "logit_bias": ({},),
}  # values that say what happens without the parameter


class Adjustment(StrEnum):
    """A change to the requests for a model, because its upstream refuses them otherwise."""

    NO_ENCRYPTED_REASONING = "include reasoning.encrypted_content"


def find_unsupported(parameters: Mapping[str, Any]) -> str | None:
    """Return the name of a parameter of chat completions that Responses does not have, if there is one."""
    return next(
        (
            name
            for name, value in parameters.items()
            if name not in _SAME
            and name not in _TRANSLATED
            and value is not None
            and value not in _NEUTRAL.get(name, ())
            and not (name == "reasoning" and isinstance(value, dict))
        ),
        None,
    )


def write_request(request: ModelRequest, origin: str, adjustments: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the body of a request to the upstream that `origin` identifies.

    Raises:
        UpstreamRejectedRequest: Responses does not have a parameter; the error names it.
    """
    parameters, own = request.parameters, request.responses
    if (name := find_unsupported(parameters)) is not None:
        raise _unsupported(name)
    body: dict[str, Any] = {
        "model": request.model,
        "input": write_input(request.messages, origin),
        "stream": True,
        "store": False,
    }
    if instructions := "\n\n".join(text for text in request.instructions if text):
        body["instructions"] = instructions
    include = list(own.get("include") or ())
    if Adjustment.NO_ENCRYPTED_REASONING not in adjustments and ENCRYPTED_REASONING not in include:
        include.append(ENCRYPTED_REASONING)
    if include:
        body["include"] = include
    body |= {name: value for name, value in parameters.items() if name in _SAME and value is not None}
    if (limit := most_tokens(request)) is not None:
        body["max_output_tokens"] = limit
    asked = parameters.get("reasoning") or {}  # no parameter of OpenAI's chat completions, but of other servers'
    reasoning = {"effort": parameters.get("reasoning_effort"), **asked, **(own.get("reasoning") or {})}
    if reasoning := {name: value for name, value in reasoning.items() if value is not None}:
        body["reasoning"] = reasoning
    if text := _text(parameters):
        body["text"] = text
    tools = [_tool(tool) for tool in parameters.get("tools") or ()] + list(own.get("tools") or ())
    if tools:
        body["tools"] = tools
    choice = own.get("tool_choice") or _tool_choice(parameters.get("tool_choice"))
    if choice is not None:
        body["tool_choice"] = choice
    body |= {name: own[name] for name in OWN if own.get(name) is not None}
    return body


def most_tokens(request: ModelRequest) -> int | None:
    """Return the limit of the answer's tokens, if the request has one."""
    limit: int | None = request.parameters.get("max_completion_tokens") or request.parameters.get("max_tokens")
    return limit


def _unsupported(name: str) -> UpstreamRejectedRequest:
    message = (
        f"OpenAI's Responses API, which OPENAI_UPSTREAM_API selects for the model API, has no parameter {name[:64]!r}. "
        "Omit it, or have the operator set OPENAI_UPSTREAM_API=auto."
    )
    error = UpstreamRejectedRequest(message)
    error.said = UpstreamErrorBody(400, message, "invalid_request_error", name[:64], "unsupported_parameter")
    return error


def _text(parameters: Mapping[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {}
    form = parameters.get("response_format")
    if isinstance(form, dict):
        schema = form.get("json_schema")
        text["format"] = {"type": "json_schema", **schema} if isinstance(schema, dict) else form
    if parameters.get("verbosity") is not None:
        text["verbosity"] = parameters["verbosity"]
    return text


def _tool(tool: Any) -> Any:
    """Write a tool: the members that chat completions nest are flat in Responses."""
    kind = tool.get("type", "function") if isinstance(tool, dict) else None
    inner = tool.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, dict):
        return tool
    written = {"type": kind, **inner}
    if kind == "function":
        written.setdefault("strict", False)  # the default of chat completions; that of Responses is true
        written.setdefault("parameters", None)
    form = inner.get("format")
    if kind == "custom" and isinstance(form, dict) and isinstance(form.get("grammar"), dict):
        written["format"] = {"type": "grammar", **form["grammar"]}
    return written


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type")
    inner = choice.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, dict):
        return choice
    if kind == "allowed_tools":
        tools = inner.get("tools")
        return {
            "type": kind,
            **inner,
            "tools": [_tool_choice(tool) for tool in tools] if isinstance(tools, list) else tools,
        }
    return {"type": kind, **inner}


def find_adjustment(refusal: str, body: Mapping[str, Any], adjustments: frozenset[str]) -> str | None:
    """Find the adjustment that a refusal asks for; None where it is about something that the caller sent."""
    text = refusal.lower()
    asked = ENCRYPTED_REASONING in body.get("include", ())
    if asked and Adjustment.NO_ENCRYPTED_REASONING not in adjustments and ("encrypted" in text or "include" in text):
        return str(Adjustment.NO_ENCRYPTED_REASONING)
    return None
