"""OpenAI's Chat Completions API on the wire: frames, bodies, headers, model names.

All functions are pure, except for random ids and the clock. Rule: fields, their order and their nulls equal those of
the hosted API.
"""

from __future__ import annotations

import copy
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DONE: Final = b"data: [DONE]\n\n"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"

# Alias -> dated snapshot that the hosted API reports in its answers.
MODELS: Final[Mapping[str, str]] = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4": "gpt-4-0613",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
}
SNAPSHOTS: Final = frozenset(MODELS.values())
DEFAULT_SNAPSHOT: Final = MODELS["gpt-4.1-mini"]

SERVICE_TIER: Final = "default"
SYSTEM_FINGERPRINT: Final = "fp_5171a70e00"
MODEL_CREATED_SECONDS: Final = 1_744_316_542  # Unix time, the same for all models, so that the list is constant

OBFUSCATION: Final = "k3Qw9ZtB7xLfR2mV"  # the hosted API pads each delta to hide the size of the text
OBFUSCATION_BLOCK_CHARACTERS: Final = len(OBFUSCATION)


@dataclass(frozen=True)
class Usage:
    """Token counts of an answer. The simulator counts a word as a token."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0

    def document(self) -> dict[str, Any]:
        """Return the `usage` object with both details objects."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@dataclass(frozen=True)
class ToolCall:
    """A tool call by the model."""

    id: str
    name: str
    arguments: str

    def document(self) -> dict[str, Any]:
        """Return the call as in a non-streamed message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class Chunks:
    """Frames of one streamed answer. Id and time are encoded once; each frame encodes its delta only.

    With `usage`, each frame but the last carries `usage: null`.
    """

    def __init__(self, model: str = DEFAULT_SNAPSHOT, *, usage: bool = False, obfuscation: bool = True) -> None:
        opening = encode(_opening("chat.completion.chunk", model))[:-1]  # without its closing brace
        self._before_delta = f'data: {opening},"choices":[{{"index":0,"delta":'
        self._before_usage = f'data: {opening},"choices":[],"usage":'
        self._after_choices = ',"usage":null' if usage else ""
        self._obfuscation = obfuscation

    def for_choice(self, index: int) -> Chunks:
        """Return the frame writer of another choice of the same answer."""
        other = copy.copy(self)
        other._before_delta = self._before_delta.replace('"index":0', f'"index":{index}')
        return other

    def role(self) -> bytes:
        """Return the first frame: the role, without text."""
        return self._frame('{"role":"assistant","content":"","refusal":null}')

    def content(self, text: str) -> bytes:
        """Return a text delta."""
        return self._frame(f'{{"content":{encode(text)}}}', padded_for=text)

    def reasoning(self, text: str) -> bytes:
        """Return a reasoning delta in the field used by OpenAI-compatible servers."""
        return self._frame(f'{{"reasoning_content":{encode(text)}}}', padded_for=text)

    def tool_call(self, index: int, *, id: str | None = None, name: str | None = None, arguments: str = "") -> bytes:
        """Return a tool-call delta: id and name first, then arguments."""
        call: dict[str, Any] = {"index": index}
        if name is not None:
            call |= {"id": id, "type": "function"}
        call["function"] = ({"name": name} if name is not None else {}) | {"arguments": arguments}
        return self._frame(f'{{"tool_calls":[{encode(call)}]}}', padded_for=arguments)

    def annotation(self, annotation: Mapping[str, Any]) -> bytes:
        """Return an annotation delta, such as a citation."""
        return self._frame(f'{{"annotations":[{encode(annotation)}]}}')

    def refusal(self, text: str) -> bytes:
        """Return a refusal delta."""
        return self._frame(f'{{"refusal":{encode(text)}}}', padded_for=text)

    def finish(self, reason: str) -> bytes:
        """Return the last frame of a choice: an empty delta and the finish reason."""
        return self._frame("{}", finish_reason=encode(reason))

    def usage(self, usage: Usage) -> bytes:
        """Return the usage frame, which has no choices."""
        return to_bytes(f"{self._before_usage}{encode(usage.document())}{self._padding('')}}}\n\n")

    def _frame(self, delta: str, *, finish_reason: str = "null", padded_for: str = "") -> bytes:
        return to_bytes(
            f'{self._before_delta}{delta},"logprobs":null,"finish_reason":{finish_reason}}}]'
            f"{self._after_choices}{self._padding(padded_for)}}}\n\n"
        )

    def _padding(self, text: str) -> str:
        if not self._obfuscation:
            return ""
        return f',"obfuscation":"{OBFUSCATION[: -len(text) % OBFUSCATION_BLOCK_CHARACTERS]}"'


def completion(
    text: str,
    *,
    model: str = DEFAULT_SNAPSHOT,
    finish_reason: str = "stop",
    usage: Usage,
    reasoning: str = "",
    calls: Sequence[ToolCall] = (),
    choices: int = 1,
) -> dict[str, Any]:
    """Return the body of a non-streamed answer, with `choices` equal choices."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if calls:
        message["content"] = text or None
        message["tool_calls"] = [call.document() for call in calls]
    if reasoning:
        message["reasoning_content"] = reasoning
    choice = {"message": message, "logprobs": None, "finish_reason": finish_reason}
    all_choices = [{"index": index} | choice for index in range(choices)]
    return _opening("chat.completion", model) | {"choices": all_choices, "usage": usage.document()}


def _opening(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "service_tier": SERVICE_TIER,
        "system_fingerprint": SYSTEM_FINGERPRINT,
    }


def model(name: str) -> dict[str, Any]:
    """Return one entry of the model list."""
    return {"id": name, "object": "model", "created": MODEL_CREATED_SECONDS, "owned_by": "system"}


def model_list() -> dict[str, Any]:
    """Return the body of GET /v1/models."""
    return {"object": "list", "data": [model(name) for name in sorted({*MODELS, *SNAPSHOTS})]}


def error(message: str, *, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error body; all four keys are always present."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


@dataclass(frozen=True)
class Allowance:
    """State of a rate limit, as sent in headers."""

    limit: int
    remaining: int
    reset_seconds: float

    def headers(self, kind: str) -> dict[str, str]:
        """Return the three headers of `kind`: `requests` or `tokens`."""
        return {
            f"x-ratelimit-limit-{kind}": str(self.limit),
            f"x-ratelimit-remaining-{kind}": str(self.remaining),
            f"x-ratelimit-reset-{kind}": go_duration(self.reset_seconds),
        }


# Example figures from OpenAI's rate limit guide, for scripted answers.
GUIDE_REQUESTS: Final = Allowance(limit=60, remaining=59, reset_seconds=1)
SPENT_REQUESTS: Final = Allowance(limit=60, remaining=0, reset_seconds=1)
GUIDE_TOKENS: Final = Allowance(limit=150_000, remaining=149_984, reset_seconds=360)


def headers(
    content_type: str,
    *,
    requests: Allowance | None = None,
    tokens: Allowance | None = None,
    processing_seconds: float = 0.0,
) -> dict[str, str]:
    """Return the common response headers, with rate limits if given."""
    common = {
        "Content-Type": content_type,
        "x-request-id": f"req_{secrets.token_hex(16)}",
        "openai-organization": "simulator",
        "openai-processing-ms": str(round(processing_seconds * 1000)),
        "openai-version": "2020-10-01",
    }
    common |= requests.headers("requests") if requests else {}
    common |= tokens.headers("tokens") if tokens else {}
    return common


def go_duration(seconds: float) -> str:
    """Format a duration like Go, to the millisecond: `0s`, `17ms`, `1.5s`, `6m0s`, `1h0m30s`."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def encode(value: object) -> str:
    """Encode as compact JSON without \\u escapes, like the hosted API."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_bytes(text: str) -> bytes:
    """Encode as UTF-8; unpaired surrogates from a caller's JSON become `?`."""
    return text.encode("utf-8", errors="replace")
