"""The attributes of spans. Names are those of OpenTelemetry's semantic conventions 1.37: HTTP, errors, and GenAI.

No attribute has text of a message, a key, an owner or an address of a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatapi.model import Generation, Status, Usage

Attributes = Mapping[str, Any]
CHAT = "chat"  # the operation, of GenAI


def describe_request(method: str, route: str, status: int, code: str | None) -> Attributes:
    """Return the attributes of a request of a client."""
    found: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
    if route:
        found["http.route"] = route
    if code is not None:
        found["error.type"] = code
    return found


def describe_answer(generation: Generation) -> Attributes:
    """Return the attributes of an answer: ids, sizes and times, and how it ended."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": CHAT,
        "gen_ai.request.model": generation.model,
        "gen_ai.conversation.id": generation.session_id,
        "chatapi.generation.id": generation.id,
        "chatapi.generation.status": generation.status.value,
        "chatapi.dialect": generation.dialect,
    }
    if generation.length is not None:
        found["chatapi.answer.bytes"] = generation.length
    if generation.first_token_at is not None:
        found["chatapi.time_to_first_text_ms"] = (generation.first_token_at - generation.created_at) / 1000
    if generation.error_code is not None and generation.status is not Status.COMPLETED:
        found["error.type"] = generation.error_code
    return found | _finish(generation.finish_reason, generation.usage)


def describe_call(
    model: str, upstream: str | None, finish_reason: str | None, usage: Usage | None, code: str | None
) -> Attributes:
    """Return the attributes of a call of the model API."""
    found: dict[str, Any] = {"gen_ai.operation.name": CHAT, "gen_ai.request.model": model}
    found["gen_ai.provider.name"] = upstream or "openai"
    if code is not None:
        found["error.type"] = code
    return found | _finish(finish_reason, usage)


def _finish(finish_reason: str | None, usage: Usage | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if finish_reason is not None:
        found["gen_ai.response.finish_reasons"] = (finish_reason,)
    if usage is not None:
        counts = {"input": usage.input_tokens, "output": usage.output_tokens}
        found |= {f"gen_ai.usage.{name}_tokens": count for name, count in counts.items() if count is not None}
    return found
