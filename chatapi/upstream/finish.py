"""Finish reasons: which of them end an answer well, and OpenAI's word for those of other servers."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Ending(Enum):
    """The end of an answer, as its finish reason describes it."""

    COMPLETE = "complete"  # the model ended it, or a limit or filter did
    FAILED = "failed"  # the server gave it up
    NONE = "none"  # nothing: some servers send such a word with every chunk


class Finish(NamedTuple):
    """A finish reason in OpenAI's word, or in the server's own where OpenAI has none."""

    reason: str
    ending: Ending


STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"

_WORDS = {
    STOP: "stop end_turn stop_sequence stop_str pause_turn eos eos_token end complete completed finished done finish",
    LENGTH: "length max_tokens max_output_tokens max_completion_tokens max_length model_length "
    "model_context_window_exceeded",
    TOOL_CALLS: "tool_calls tool_call tool_use function_calls",
    CONTENT_FILTER: "content_filter content_filtered safety image_safety sensitive recitation blocklist "
    "prohibited_content spii guardrail_intervened refusal",
}
_KNOWN = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_NOTHING = frozenset({"", "null", "none", "undefined", "running", "in_progress", "finish_reason_unspecified"})
_GIVEN_UP = (
    *("abort", "error", "fail", "cancel", "malformed", "timeout", "timed_out", "interrupt", "network", "exception"),
    *("disconnect", "unavailable", "overload", "incomplete", "insufficient", "invalid", "unexpected", "crash", "kill"),
    *("evict", "preempt", "unspecified", "exhausted", "quota", "rate_limit", "shutdown", "reject"),
)  # a reason that contains one of these words
_UNKNOWN = frozenset({"other", "unknown"})  # the server itself does not know whether the answer is complete


def read_finish(reason: str) -> Finish:
    """Read a finish reason. One that is not known, and sounds like no failure, ends an answer well, under its name."""
    word = reason.strip().lower().replace("-", "_").replace(" ", "_")
    if word in _NOTHING:
        return Finish("", Ending.NONE)
    if known := _KNOWN.get(word):
        return Finish(known, Ending.COMPLETE)
    if word in _UNKNOWN or any(part in word for part in _GIVEN_UP):
        return Finish(reason, Ending.FAILED)
    return Finish(reason, Ending.COMPLETE)
