"""Demo behaviour without a script: OpenAI's routes, validation and errors, and answers that quote the request.

Answers are a function of the request alone. They quote its messages, which shows whether the service sent the earlier
conversation: the simulator itself keeps no state.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from . import responses, search, wire
from .record import ReceivedRequest
from .rest import other_route
from .scripts import FORBIDDEN, INVALID_KEY, Pause, Refusal, Script, Step, json_body, stream_steps, words
from .showpiece import MARKDOWN, STORY

COMPLETIONS: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MODELS: Final = "/v1/models"

REQUESTS_PER_MINUTE: Final = 10_000  # shown in headers only; no request is rejected, so that benchmarks are not limited
TOKENS_PER_MINUTE: Final = 10_000_000

MAX_COUNT: Final = 10_000  # limit of "count to": about 50 kB
MAX_QUOTE_CHARACTERS: Final = 300
MAX_QUOTES: Final = 10
MAX_STOPS: Final = 4  # as the hosted API

RESPONSES_FOR_TOOLS: Final = ("gpt-5.4",)  # prefixes of models that reason with tools on Responses only

ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")

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

Value = TypeVar("Value")


class Demo:
    """Answers requests like OpenAI, at one word per `pace_seconds`."""

    def __init__(self, pace_seconds: float) -> None:
        self._pace_seconds = pace_seconds
        self._requests = Meter(REQUESTS_PER_MINUTE)
        self._tokens = Meter(TOKENS_PER_MINUTE)

    def __call__(self, request: ReceivedRequest) -> Script:
        """Return the answer or the error as a script."""
        try:
            return self._route(request)
        except RefusedError as error:
            return error.refusal.script()

    def _route(self, request: ReceivedRequest) -> Script:
        if (other := other_route(request.method, request.path)) is not None:
            check_key(request.headers)
            return json_body(other(request))
        is_model = request.path.startswith(f"{MODELS}/")
        if request.path not in (COMPLETIONS, RESPONSES, MODELS) and not is_model:
            raise refused(404, f"Invalid URL ({request.method} {request.path})")
        if request.method != ("POST" if request.path in (COMPLETIONS, RESPONSES) else "GET"):
            raise _wrong_method(request)
        check_key(request.headers)
        if is_model:
            return json_body(find_model(request.path.removeprefix(f"{MODELS}/")))
        if request.path == MODELS:
            return json_body(wire.model_list())
        if request.path == RESPONSES:
            return self._respond(request.body)
        return self._complete(_without_tools_and_reasoning(request.body, Chat.parse(request.body)))

    def _complete(self, chat: Chat) -> Script:
        reply = Reply.to(chat)
        seconds = self._pace_seconds * (0 if chat.stream else len(reply.reasoning) + len(reply.content))
        headers = wire.headers(
            wire.EVENT_STREAM if chat.stream else wire.JSON,
            requests=self._requests.take(1),
            tokens=self._tokens.take(reply.usage.prompt_tokens + reply.usage.completion_tokens),
            processing_seconds=seconds,
        )
        if chat.stream:
            return Script(headers=headers, steps=self._stream(chat, reply))
        body = wire.completion(
            "".join(reply.content),
            model=chat.snapshot,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            reasoning="".join(reply.reasoning),
            calls=reply.calls,
            choices=chat.choices,
        )
        return replace(json_body(body, headers=headers), before_headers=(Pause(seconds),))

    def _respond(self, body: Any) -> Script:
        if isinstance(body, dict) and (fault := responses.find_fault(body)) is not None:
            message, param, code = fault
            raise refused(400, message, param=param, code=code)
        chat = Chat.parse(responses.chat_body(body) if isinstance(body, dict) else body)
        reply = Reply.to(chat)
        events = responses.Events(chat.snapshot, body)
        is_whole = reply.finish_reason != "length"
        steps = responses.answer_steps(
            events,
            reply.content,
            reply.reasoning,
            reply.calls,
            asked=body,
            usage=reply.usage,
            is_whole=is_whole,
            pace_seconds=self._pace_seconds,
            query=chat.asked if searches(chat) else None,
        )
        if not chat.stream:
            return responses.whole_answer(steps, events, reply.usage, is_whole=is_whole)
        headers = wire.headers(
            wire.EVENT_STREAM,
            requests=self._requests.take(1),
            tokens=self._tokens.take(reply.usage.prompt_tokens + reply.usage.completion_tokens),
        )
        return Script(headers=headers, steps=steps)

    def _stream(self, chat: Chat, reply: Reply) -> Iterator[Step]:
        return stream_steps(
            wire.Chunks(chat.snapshot, usage=chat.include_usage, obfuscation=chat.obfuscation),
            reply.content,
            reasoning=reply.reasoning,
            calls=reply.calls,
            choices=chat.choices,
            pace_seconds=self._pace_seconds,
            finish_reason=reply.finish_reason,
            usage=reply.usage if chat.include_usage else None,
        )


class Meter:
    """Counts usage against a limit per minute; used capacity returns evenly over time."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._used = 0.0
        self._at = time.monotonic()

    def take(self, amount: int) -> wire.Allowance:
        """Use `amount` and return the state of the limit."""
        now = time.monotonic()
        per_second = self._limit / 60
        self._used = max(0.0, self._used - (now - self._at) * per_second) + amount
        self._at = now
        remaining = max(0, int(self._limit - self._used))
        return wire.Allowance(self._limit, remaining, reset_seconds=self._used / per_second)


# --- errors ---------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """The request failed a check."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(status: int, message: str, *, param: str | None = None, code: str | None = None) -> RefusedError:
    """Return the exception for a request error of the caller."""
    return RefusedError(Refusal(status, message, param=param, code=code))


def check_key(headers: Mapping[str, str]) -> None:
    """Accept every key that contains neither `invalid` nor `forbidden`."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise refused(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're "
            "accessing the API from your browser and are prompted for a username and password. You can obtain an API "
            "key from https://platform.openai.com/account/api-keys.",
        )
    if "invalid" in key.lower():
        raise RefusedError(replace(INVALID_KEY, message=INVALID_KEY.message.replace("sk-proj-*****", masked(key))))
    if "forbidden" in key.lower():
        raise RefusedError(FORBIDDEN)


def masked(key: str) -> str:
    """Mask a key like OpenAI does: eight characters, stars, four characters; a short key is all stars."""
    shown = 8 + 4
    if len(key) < 2 * shown:
        return "*" * len(key)
    return f"{key[:8]}{'*' * (len(key) - shown)}{key[-4:]}"


def find_model(name: str) -> dict[str, Any]:
    """Return the model list entry of `name`."""
    if name not in wire.MODELS and name not in wire.SNAPSHOTS:
        raise refused(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return wire.model(name)


def _wrong_method(request: ReceivedRequest) -> RefusedError:
    message = (
        f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    )
    return refused(405, message, code="method_not_supported")


def _wrong_type(param: str, expected: str, value: object) -> RefusedError:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}
    got = "null" if value is None else names.get(type(value), "a decimal number")
    message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
    return refused(400, message, param=param, code="invalid_type")


def _missing(param: str) -> RefusedError:
    return refused(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


# --- the request ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """Role and text of one message of a request."""

    role: str
    text: str

    @classmethod
    def parse(cls, value: object, param: str) -> Message:
        """Check one element of `messages`."""
        if not isinstance(value, dict):
            raise _wrong_type(param, "an object", value)
        role = value.get("role")
        if role is None:
            raise _missing(f"{param}.role")
        if role not in ROLES:
            supported = ", ".join(f"'{name}'" for name in ROLES[:-1])
            message = f"Invalid value: '{role}'. Supported values are: {supported}, and '{ROLES[-1]}'."
            raise refused(400, message, param=f"{param}.role", code="invalid_value")
        if "content" not in value and role != "assistant":  # an assistant message may consist of tool calls
            raise _missing(f"{param}.content")
        return cls(role, _text(value.get("content"), f"{param}.content", role))


def _text(content: object, param: str, role: str) -> str:
    """Return the text of `content`, a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return " ".join(text for text in parts if isinstance(text, str))
    if content is None and role == "assistant":
        return ""
    raise _wrong_type(param, "one of a string or array of objects", content)


@dataclass(frozen=True)
class Chat:
    """A validated request for a completion."""

    snapshot: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    obfuscation: bool
    max_tokens: int | None
    stops: tuple[str, ...]
    reasons: bool
    choices: int
    tools: tuple[Mapping[str, Any], ...]  # callable in this answer
    must_call: bool
    may_search: bool
    schema: Mapping[str, Any] | None  # of the requested JSON answer

    @classmethod
    def parse(cls, body: Any) -> Chat:
        """Validate a body in the order of the hosted API."""
        if not isinstance(body, dict):
            raise refused(
                400,
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
                "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
            )
        snapshot = _snapshot(body)
        stream = _optional(body, "stream", bool, "a boolean") or False
        options = _optional(body, "stream_options", dict, "an object")
        if options is not None and not stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise refused(400, message, param="stream_options")
        return cls(
            snapshot=snapshot,
            messages=_messages(body),
            stream=stream,
            include_usage=bool((options or {}).get("include_usage")),
            obfuscation=bool((options or {}).get("include_obfuscation", True)),
            max_tokens=_max_tokens(body),
            stops=_stops(body),
            reasons=_optional(body, "reasoning_effort", str, "a string") not in (None, "none"),
            choices=_optional(body, "n", int, "an integer") or 1,
            tools=_tools(body),
            must_call=body.get("tool_choice") not in (None, "auto", "none"),
            may_search=body.get("web_search_options") is not None,
            schema=_schema(body),
        )

    @property
    def asked(self) -> str:
        """The last user message."""
        return self.user_texts[-1] if self.user_texts else ""

    @property
    def user_texts(self) -> list[str]:
        """All user messages, oldest first."""
        return [message.text for message in self.messages if message.role == "user"]


def _without_tools_and_reasoning(body: Mapping[str, Any], chat: Chat) -> Chat:
    """Refuse functions for a model that reasons unless it is asked not to, as chat completions do."""
    model = str(body.get("model"))
    if model.startswith(RESPONSES_FOR_TOOLS) and body.get("tools") and body.get("reasoning_effort") != "none":
        message = (
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
        )
        raise refused(400, message, param="reasoning_effort")
    return chat


def _optional(body: Mapping[str, Any], param: str, kind: type[Value], expected: str) -> Value | None:
    value = body.get(param)
    if value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong_type(param, expected, value)
    return value


def _snapshot(body: Mapping[str, Any]) -> str:
    name = _optional(body, "model", str, "a string")
    if not name:
        raise refused(400, "you must provide a model parameter")
    if name in wire.SNAPSHOTS:
        return name
    if name not in wire.MODELS:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise refused(404, message, code="model_not_found")
    return wire.MODELS[name]


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = _optional(body, "messages", list, "an array of objects")
    if messages is None:
        raise _missing("messages")
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise refused(400, message, param="messages", code="empty_array")
    parsed = tuple(Message.parse(value, f"messages[{index}]") for index, value in enumerate(messages))
    _check_calls(messages)
    return parsed


def _tools(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the callable functions: all of the request, or the one in `tool_choice`."""
    tools = _optional(body, "tools", list, "an array of objects") or []
    functions = [
        tool["function"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice")
    if choice == "none":
        return ()
    if isinstance(choice, dict):
        chosen = (choice.get("function") or {}).get("name")
        return tuple(function for function in functions if function.get("name") == chosen)
    return tuple(functions)


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a JSON answer, or None for text."""
    wanted = _optional(body, "response_format", dict, "an object") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        return schema if isinstance(schema, dict) else {}
    return {"type": "object", "properties": {"answer": {}}} if wanted.get("type") == "json_object" else None


def _check_calls(messages: list[Any]) -> None:
    """Reject a history with a tool call without a result, or a result without a call."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                text = "Invalid parameter: a message with role 'tool' must answer a call in a message before it."
                raise refused(400, text, param=f"messages.[{index}].role")
            waiting.remove(message["tool_call_id"])
        elif waiting:
            break
        else:
            waiting = [str(call.get("id")) for call in message.get("tool_calls") or ()]
    if waiting:
        text = f"These tool_call_ids have no message with role 'tool' that answers them: {', '.join(waiting)}."
        raise refused(400, text, param="messages")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for param in ("max_completion_tokens", "max_tokens"):
        value = _optional(body, param, int, "an integer")
        if value is None:
            continue
        if value < 1:
            message = f"Invalid '{param}': integer below minimum value. Expected a value >= 1, but got {value} instead."
            raise refused(400, message, param=param, code="integer_below_min_value")
        return value
    return None


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _wrong_type("stop", "one of a string or array of strings", value)
    if len(stops) > MAX_STOPS:
        message = (
            f"Invalid 'stop': array too long. Expected an array with maximum length {MAX_STOPS}, "
            f"but got an array with length {len(stops)} instead."
        )
        raise refused(400, message, param="stop", code="array_above_max_length")
    return tuple(stop for stop in stops if stop)


# --- the reply ------------------------------------------------------------------------------------------------------


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
