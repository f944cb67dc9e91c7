"""Recognise a refusal because the conversation is longer than the model's context, in the words of many servers.

A code is enough where there is one. Otherwise the sentence decides, and the numbers in it are used: the limit, and the
tokens that were requested. Limits on the rate or on the length of an answer have similar words and are not meant.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Azure, Groq, and many that copy them
        "exceed_context_size_error",  # llama.cpp
        "model_context_window_exceeded",  # Anthropic, Z.ai
        "context_window_exceeded",
    }
)
_NUMBER = r"([\d,]{2,12})"
_WORDINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"maximum context length",  # OpenAI, vLLM, SGLang, DeepSeek, OpenRouter, Mistral, DeepInfra
        r"maximum prompt length is",  # xAI
        r"exceeds? the context window",  # OpenAI's Responses
        r"exceeds? the (?:available )?context (?:size|limit)",  # llama.cpp, Bedrock
        r"exceeds? context (?:size|window|limit|length)",  # llama-cpp-python
        r"context window exceeds limit",  # MiniMax
        r"longer than the (?:model's )?(?:maximum )?context length",  # SGLang, Together
        r"greater than the (?:model's )?context length",  # LM Studio
        r"exceeds? the (?:model's )?context length",  # Ollama
        r"exceeded (?:max )?context length",  # Ollama
        r"context (?:length|window) (?:was |is )?(?:exceeded|full)",
        r"prompt is too long",  # Anthropic, Fireworks
        r"prompt .{0,60}is too long to fit into the model",  # vLLM, multimodal
        r"input is too long for (?:the )?requested model",  # Bedrock
        r"input token count .{0,40}exceeds the maximum number of tokens",  # Gemini
        r"exceeded model token limit",  # Moonshot
        r"reduce the length of the messages",  # Groq
        r"`?inputs`? tokens \+ `?max_new_tokens`? must be",  # Text Generation Inference
        r"range of input length should be",  # DashScope
        r"configured context size is",
    )
)
_OTHER = re.compile(r"tokens per (?:min|day)|\bT[PR][MD]\b|rate.?limit", re.IGNORECASE)
_LIMIT = re.compile(
    rf"(?:maximum (?:context|prompt) length (?:is|of)|context length(?: is| of|:)?|context window of|n_ctx\D{{1,8}}|"
    rf"tokens allowed|token limit:?|configured context size is|must be <=|model context limit:) ?\(?{_NUMBER}"
    rf"|> {_NUMBER} maximum|with {_NUMBER} maximum context length|tokens? \({_NUMBER}\)\.?$",
    re.IGNORECASE,
)
_REQUESTED = re.compile(
    rf"(?:requested(?: about)?(?: a total of)?|resulted in|requested:|contains|prompt has|too long:|input|count|"
    rf"n_prompt_tokens\D{{1,8}}|total length) ?\(?{_NUMBER}",
    re.IGNORECASE,
)


class Overflow(NamedTuple):
    """The tokens that the upstream takes and those that it counted in the request, as far as it says so."""

    limit: int | None = None
    requested: int | None = None


def find_overflow(status: int | None, code: str | None, kind: str | None, message: str | None) -> Overflow | None:
    """Return the overflow that a refusal reports, or None if it reports something else.

    `status` is that of the refusal, None where it came in a stream; `code` and `kind` are its names, and `message` all
    its words.
    """
    if status in {401, 403, 404, 429}:
        return None
    text = message or ""
    named = any(name is not None and name.lower() in CODES for name in (code, kind))
    if not named and (_OTHER.search(text) or not any(wording.search(text) for wording in _WORDINGS)):
        return None
    limit, requested = _number(_LIMIT, text), _number(_REQUESTED, text)
    if limit is None or requested is None or requested <= limit:
        requested = None
    return Overflow(limit, requested)


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    if found is None:
        return None
    digits = next(group for group in found.groups() if group is not None).replace(",", "")
    return int(digits) if digits else None
