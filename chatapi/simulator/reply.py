"""The words of an answer, which are a function of the request alone."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from . import search, wire
from .chat_request import Chat
from .scripts import words
from .showpiece import MARKDOWN, STORY

MAX_COUNT: Final = 10_000  # limit of "count to": about 50 kB
MAX_QUOTE_CHARACTERS: Final = 300
MAX_QUOTES: Final = 10

COUNT: Final = re.compile(r"\bcount\s+(?:up\s+)?to\s+(\d[\d,_]*)", re.IGNORECASE)
ASKS_WHAT_IS_MINE: Final = re.compile(r"\bwhat(?:['\u2019]?s|\s+is|\s+was|\s+are)\s+my\s+(\w[\w -]*)", re.IGNORECASE)
ASKS_WHAT_WAS_SAID: Final = re.compile(
    r"\b(?:what|which)\b.*\b(?:did|have|had)\s+(?:i|we)\b|\bdo\s+you\s+(?:remember|recall|know)\b|\bwho\s+am\s+i\b",
    re.IGNORECASE | re.DOTALL,
)
ASKS_FOR_FORMATS: Final = re.compile(r"\bmarkdown\b|\bformat(?:ted|ting)?\b", re.IGNORECASE)
ASKS_FOR_A_STORY: Final = re.compile(r"\btell\b.*\b(?:story|tale)\b", re.IGNORECASE)
ASKS_TO_CONTINUE: Final = re.compile(r"^\s*(?:please\s+)?continue\b", re.IGNORECASE)
ASKS_TO_HAND_OFF: Final = re.compile(r"\bhand(?:ing)?[ -]?(?:off|over)\b|\btransfer\b", re.IGNORECASE)
HAND_OFF_TOOL: Final = "transfer_to_"  # as frameworks of several agents name the tool
TELLS_A_NAME: Final = re.compile(r"\b(?:my\s+name\s+is|call\s+me|i\s+am|i['\u2019]m)\s+\w", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """The words of an answer and its finish reason."""

    content: list[str]
    reasoning: list[str]
    finish_reason: str
    usage: wire.Usage
    calls: tuple[wire.ToolCall, ...] = ()

    @classmethod
    def to(cls, chat: Chat) -> Reply:
        """Build the answer within the limits of the request. Reasoning counts against the token limit."""
        thoughts = words(think(chat)) if chat.reasons else []
        if calls := call_tools(chat):
            spent = sum(len(words(call.arguments)) for call in calls)
            prompt = sum(len(message.text.split()) for message in chat.messages)
            return cls([], thoughts, "tool_calls", wire.Usage(prompt, spent + len(thoughts), len(thoughts)), calls)
        content = words(before_any(chat.stops, speak(chat)))
        limit = len(thoughts) + len(content) if chat.max_tokens is None else chat.max_tokens
        kept_thoughts, kept_content = thoughts[:limit], content[: max(0, limit - len(thoughts))]
        usage = wire.Usage(
            prompt_tokens=sum(len(message.text.split()) for message in chat.messages),
            completion_tokens=len(kept_thoughts) + len(kept_content),
            reasoning_tokens=len(kept_thoughts),
        )
        is_whole = usage.completion_tokens == len(thoughts) + len(content)
        return cls(kept_content, kept_thoughts, "stop" if is_whole else "length", usage)


def call_tools(chat: Chat) -> tuple[wire.ToolCall, ...]:
    """Return calls of the tools named in the user message, or of the first tool if one is required.

    A message that asks to hand off names the first tool for it, or the one for an agent that it mentions.
    """
    if not chat.messages or chat.messages[-1].role != "user":
        return ()
    named = [function for function in chat.tools if str(function.get("name")) in chat.asked]
    if not named and ASKS_TO_HAND_OFF.search(chat.asked):
        named = _hand_off_tools(chat)[:1]
    if chat.must_call and not named:
        named = list(chat.tools[:1])
    return tuple(
        wire.ToolCall(
            f"call_{secrets.token_hex(12)}",
            str(function.get("name")),
            wire.encode(sample(function.get("parameters") or {"type": "object"})),
        )
        for function in named
    )


def _hand_off_tools(chat: Chat) -> list[Mapping[str, Any]]:
    """Return the tools that hand off, those for an agent that the message mentions first."""
    asked = chat.asked.lower()
    tools = [function for function in chat.tools if str(function.get("name")).startswith(HAND_OFF_TOOL)]
    return sorted(tools, key=lambda one: str(one["name"]).removeprefix(HAND_OFF_TOOL).replace("_", " ") not in asked)


def searches(chat: Chat) -> bool:
    """Return whether the answer begins with a search of the web."""
    is_asked = chat.messages[-1].role == "user" and search.ASKS_TO_SEARCH.search(chat.asked)
    return bool(chat.may_search and is_asked) and not call_tools(chat)


def sample(schema: Mapping[str, Any]) -> Any:
    """Return a value that matches a simple JSON schema."""
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("anyOf"):
        return sample(schema["anyOf"][0])
    kinds = schema.get("type")
    match kinds[0] if isinstance(kinds, list) else kinds:
        case "object":
            return {name: sample(inner) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [sample(schema.get("items") or {})]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case "null":
            return None
    return "something"


def before_any(stops: tuple[str, ...], text: str) -> str:
    """Cut the text before the first stop sequence."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def think(chat: Chat) -> str:
    """Return the reasoning text."""
    return f"The user wants an answer to {quote(chat.asked)} Let me look at {counted(chat)}, then answer briefly."


def speak(chat: Chat) -> str:
    """Return the answer text, a function of the request alone."""
    if chat.schema is not None:
        return wire.encode(sample(chat.schema))
    if chat.messages and chat.messages[-1].role == "tool":
        return f"The tool says: {quote(chat.messages[-1].text)}"
    if searches(chat):
        return search.FOUND
    if ASKS_TO_CONTINUE.search(chat.asked) and (rest := rest_of_answer(chat)):
        return rest
    if ASKS_FOR_A_STORY.search(chat.asked):
        return STORY
    if count := COUNT.search(chat.asked):
        return count_to(int(re.sub(r"\D", "", count[1])))
    if ASKS_FOR_FORMATS.search(chat.asked):
        return MARKDOWN
    if asked := ASKS_WHAT_IS_MINE.search(chat.asked):
        return recall(chat, asked[1])
    if ASKS_WHAT_WAS_SAID.search(chat.asked):
        return recall(chat, None)
    return (
        f"You said: {quote(chat.asked)} With that I have been sent {counted(chat)}. I am a simulator, not a real "
        "model, but I can show what is remembered: ask me what you said before, or ask me to count to 20."
    )


def rest_of_answer(chat: Chat) -> str:
    """Return the part of an answer that its last messages do not contain; empty if they are not the start of one."""
    texts = [message.text for message in chat.messages]
    for at in range(len(chat.messages) - 2, 0, -1):
        if chat.messages[at].role == "assistant" and not ASKS_TO_CONTINUE.search(texts[at - 1]):
            written = "".join(text for text in texts[at:-1] if not ASKS_TO_CONTINUE.search(text))
            before = replace(chat, messages=chat.messages[:at])
            whole = speak(before)
            return whole[len(written) :] if whole.startswith(written) else ""
    return ""


def count_to(number: int) -> str:
    """Return the numbers from 1, separated by spaces."""
    if number > MAX_COUNT:
        return f"I count to {MAX_COUNT} at most."
    return " ".join(map(str, range(1, number + 1)))


def recall(chat: Chat, thing: str | None) -> str:
    """Quote earlier user messages of this request: the one about `thing`, or all."""
    earlier = chat.user_texts[:-1]
    told = told_about(earlier, thing) if thing else None
    if told is not None:
        return f"You told me: {quote(told)} I have been sent {counted(chat)}."
    if not earlier:
        return f"You have not told me anything before this. I have been sent {counted(chat)}."
    quotes = " ".join(f"{number}. {quote(text)}" for number, text in enumerate(earlier[-MAX_QUOTES:], start=1))
    return f"Before this you said: {quotes} I have been sent {counted(chat)}."


def told_about(texts: list[str], thing: str) -> str | None:
    """Return the newest text that defines `thing`, such as "my name is"."""
    states = re.compile(rf"\bmy\s+{re.escape(thing)}\s+(?:is|are|was)\b", re.IGNORECASE)
    names = thing.lower() == "name"
    for text in reversed(texts):
        if states.search(text) or (names and TELLS_A_NAME.search(text)):
            return text
    return None


def quote(text: str) -> str:
    """Quote the text, shortened to `MAX_QUOTE_CHARACTERS`."""
    return f"“{text if len(text) <= MAX_QUOTE_CHARACTERS else text[:MAX_QUOTE_CHARACTERS] + '…'}”"


def counted(chat: Chat) -> str:
    """Count the messages of the request: `3 messages, 2 of them yours`."""
    total = len(chat.messages)
    return "one message" if total == 1 else f"{total} messages, {len(chat.user_texts)} of them yours"
