"""The objects of OpenAI's Responses: responses and their items, built from generations, messages and request fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chatapi.api.http.services import Services
from chatapi.api.openai.ids import response_id
from chatapi.api.openai.items import (
    COMPLETED,
    DEFAULT_FORM,
    IN_PROGRESS,
    INCOMPLETE,
    ItemForm,
    has_form,
    is_whole,
    items_of,
    write_items,
)
from chatapi.api.openai.responses.tools import tool_names
from chatapi.errors import RateLimited, TooManyGenerations, UpstreamRateLimited, from_code
from chatapi.model import Generation, Message, Part, Role, Status, Usage

DEFAULTS: dict[str, Any] = {
    "background": False,
    "conversation": None,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""The request fields that a response repeats, where the request did not set them."""

_RATE_LIMIT_CODES = frozenset(error.code for error in (UpstreamRateLimited, RateLimited, TooManyGenerations))


def encode_request_fields(fields: dict[str, Any]) -> str:
    """Return the request fields that a response repeats as `TurnRequest.dialect_data`."""
    return msgspec.json.encode(fields).decode()


def decode_request_fields(data: str | None) -> dict[str, Any]:
    """Return the request fields from a generation's `dialect_data`; none if another dialect began the generation."""
    fields: dict[str, Any] = msgspec.json.decode(data) if data is not None else {}
    return fields


def item_form(request: dict[str, Any]) -> ItemForm:
    """Return how this request wants the items of its answer written."""
    summary = (request.get("reasoning") or {}).get("summary") is not None
    return ItemForm(summary, tool_names(request.get("tools") or []))


async def items_of_messages(services: Services, messages: Sequence[Message]) -> list[list[dict[str, Any]]]:
    """Return the items of each stored message, in the form that the request of its answer wanted."""
    answers = [message.generation.id for message in messages if message.generation is not None and has_form(message)]
    data = await services.store.generations.find_all_dialect_data(answers) if answers else {}
    return [items_of(message, _form_of(message, data)) for message in messages]


def _form_of(message: Message, data: dict[str, str]) -> ItemForm:
    fields = data.get(message.generation.id) if message.generation is not None else None
    return item_form(decode_request_fields(fields)) if fields is not None else DEFAULT_FORM


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """Return OpenAI's usage object; counts that the upstream did not send are 0, for the object has no unknown."""
    if usage is None:
        return None
    input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": input_tokens + output_tokens,
    }


def status_of(generation: Generation) -> str:
    """Return the status of a generation's response."""
    match generation.status:
        case Status.RUNNING:
            return "in_progress"
        case Status.STOPPED:
            return "cancelled"
        case Status.COMPLETED:
            return COMPLETED if is_whole(generation.finish_reason) else INCOMPLETE
    return "failed"


def last_item_status(generation: Generation) -> str:
    """Return the status of the last item of a generation's response."""
    status = status_of(generation)
    return status if status in {COMPLETED, IN_PROGRESS} else INCOMPLETE


def response_object(generation: Generation, request: dict[str, Any], output: Any) -> dict[str, Any]:
    """Return a response.

    Args:
        request: the request fields that the response repeats, see `DEFAULTS`.
        output: the items, as a list or as raw JSON.
    """
    status = status_of(generation)
    ended = generation.ended_at
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(generation.finish_reason or "") if status == INCOMPLETE else None
    return {
        "id": response_id(generation.id),
        "object": "response",
        "created_at": generation.created_at // 1_000_000,
        "status": status,
        "completed_at": ended // 1_000_000 if ended is not None and status == COMPLETED else None,
        "error": _error(generation),
        "incomplete_details": {"reason": reason} if reason else None,
        "model": generation.model,
        "output": output,
        "usage": usage_object(generation.usage),
        **DEFAULTS,
        **request,
    }


def _error(generation: Generation) -> dict[str, Any] | None:
    if generation.status not in {Status.FAILED, Status.INTERRUPTED}:
        return None
    error = from_code(generation.error_code, generation.error_detail)
    return {
        "code": "rate_limit_exceeded" if error.code in _RATE_LIMIT_CODES else "server_error",
        "message": error.detail,
    }


def whole_response(generation: Generation, request: dict[str, Any], parts: tuple[Part, ...]) -> dict[str, Any]:
    """Return a response with these parts of its answer, which may still be running."""
    last = last_item_status(generation)
    output = write_items(generation.message_id, Role.ASSISTANT, parts, last, item_form(request))
    return response_object(generation, request, output)
