"""The contexts of models in tokens, as the operator or the upstream's list of models states them. None is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatapi.wire.loose_json import UNREADABLE, read_json

OTHERS = "*"  # in the settings: all models without a limit of their own
MODELS_AT_MOST = 10_000  # of a list that are looked at
MOST_TOKENS = 10**9
_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")  # vLLM, OpenRouter, Groq, Mistral


class ContextLimits:
    """The limits that are known."""

    def __init__(self, stated: Mapping[str, int]) -> None:
        self._stated = stated
        self._listed: dict[str, int] = {}

    def find(self, model: str) -> int | None:
        """Return the limit of a model: the operator's for it, the upstream's, or the operator's for all others."""
        return self._stated.get(model) or self._listed.get(model) or self._stated.get(OTHERS)

    def learn(self, body: bytes) -> None:
        """Learn from the body of `GET /models`, or from the entry of one model."""
        try:
            value = read_json(body)
        except UNREADABLE:
            return
        listed = value.get("data") if isinstance(value, dict) else None
        for entry in listed[:MODELS_AT_MOST] if isinstance(listed, list) else [value]:
            if isinstance(entry, dict) and isinstance(entry.get("id"), str) and (limit := _limit_of(entry)) is not None:
                self._listed[entry["id"]] = limit


def _limit_of(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta")
    values = [entry.get(name) for name in _FIELDS]
    values.append(meta.get("n_ctx") if isinstance(meta, dict) else None)  # of llama.cpp
    limits = [one for one in values if isinstance(one, int) and not isinstance(one, bool) and 0 < one <= MOST_TOKENS]
    return min(limits, default=None)
