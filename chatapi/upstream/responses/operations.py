"""Operations of OpenAI's Responses beside answers: their requests, and how an upstream without them is recognized."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from chatapi.errors import UpstreamError, UpstreamUnsupported
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.request import write_request

Operation = Literal["input_tokens", "compact"]
"""The name of an operation, which is also its path below `responses`."""

_FIELDS: dict[Operation, frozenset[str]] = {
    "input_tokens": frozenset(
        {
            *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"),
            *("truncation", "personality"),
        }
    ),
    "compact": frozenset(
        {
            *("model", "input", "instructions", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
            *("service_tier", "image"),
        }
    ),
}
_WITHOUT_ROUTE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
_PURPOSES: dict[Operation, str] = {
    "input_tokens": "cannot count the tokens of an input",
    "compact": "cannot compact a conversation",
}


def write_operation(operation: Operation, request: ModelRequest, origin: str) -> dict[str, Any]:
    """Return the body of a request: the fields of an answer's request that this operation has.

    Raises:
        UpstreamRejectedRequest: Responses does not have a parameter; the error names it.
    """
    body = write_request(request, origin)
    return {name: value for name, value in body.items() if name in _FIELDS[operation]}


def unsupported(operation: Operation) -> UpstreamUnsupported:
    """Return the error for an upstream that is asked through chat completions only."""
    return UpstreamUnsupported(
        f"The model API {_PURPOSES[operation]}: it is asked through chat completions, which have no such operation. "
        "The operator can set OPENAI_UPSTREAM_API=responses if it has OpenAI's Responses."
    )


def explain_refusal(operation: Operation, status: int, error: UpstreamError) -> UpstreamError:
    """Return the error of a refusal; where it says that there is no such route, one that says so in words."""
    names_model = error.said is not None and error.said.code == "model_not_found"
    if status not in _WITHOUT_ROUTE or names_model:
        return error
    return UpstreamUnsupported(
        f"The model API {_PURPOSES[operation]}: it has no /responses/{operation} (status {int(status)})."
    )
