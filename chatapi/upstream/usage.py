"""Token counts, in the names and places in which servers report them. Each count is read for itself."""

from __future__ import annotations

from typing import Any

from chatapi.model import Usage

HIGHEST_COUNT = 2**53 - 1  # the largest integer that every JSON reader takes

_INPUT = ("prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokenCount")
_OUTPUT = ("completion_tokens", "output_tokens", "generated_tokens", "eval_count", "candidatesTokenCount")
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount")
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cachedContentTokenCount")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")


def read_usage(value: Any) -> Usage | None:
    """Read a usage object. A count that is malformed is unknown; None where nothing in it is a count."""
    if not isinstance(value, dict):
        return None
    usage = Usage(
        _count(value, _INPUT),
        _count(value, _OUTPUT),
        _detail(value, _OUTPUT_DETAILS, _REASONING),
        _detail(value, _INPUT_DETAILS, _CACHED),
    )
    return None if usage == Usage(None, None) else usage


def _detail(usage: dict[str, Any], details: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    """A count from the details, or from beside the others."""
    for name in details:
        if isinstance(inner := usage.get(name), dict) and (count := _count(inner, names)) is not None:
            return count
    return _count(usage, names)


def _count(usage: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = usage.get(name)
        if type(value) is int and 0 <= value <= HIGHEST_COUNT:
            return value
        if value is not None and (count := _integer(value)) is not None:
            return count
    return None


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdecimal() and len(value) <= 16 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= HIGHEST_COUNT:
        return None
    return int(value) if value == int(value) else None
