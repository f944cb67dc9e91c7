"""OpenAI's Responses API: requests checked as the hosted API checks them, and the events of an answer.

Nothing is stored: a request has the whole conversation, and a reference to an item is refused. Reasoning is sent back
encrypted; the simulator accepts only its own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from . import search, wire
from .scripts import Pause, Script, Send, Step, event_stream, json_body, words

ENCRYPTED: Final = "gAAAAAB"  # the beginning of everything that is encrypted here
ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"


class Events:
    """The events of one streamed response, numbered from 0. Items are opened and closed one after the other."""

    def __init__(self, model: str = wire.DEFAULT_SNAPSHOT, request: Mapping[str, Any] | None = None) -> None:
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._response = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            **{name: value for name, value in (request or {}).items() if name in _REPEATED},
        }

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return one event with the next number."""
        number, self._number = self._number, self._number + 1
        return wire.to_bytes(
            f"event: {kind}\ndata: {wire.encode({'type': kind, **fields, 'sequence_number': number})}\n\n"
        )

    def skip(self, count: int = 1) -> None:
        """Leave numbers out, as a server that loses events does."""
        self._number += count

    def begin(self) -> bytes:
        """Return the first two events."""
        return self.event("response.created", response=self._response) + self.event(
            "response.in_progress", response=self._response
        )

    def added(self, item: Mapping[str, Any]) -> bytes:
        """Return the event that opens an item."""
        return self.event("response.output_item.added", output_index=len(self._output), item=item)

    def progress(self, kind: str, item_id: str, **fields: Any) -> bytes:
        """Return an event of the open item."""
        return self.event(kind, output_index=len(self._output), item_id=item_id, **fields)

    def done(self, item: dict[str, Any]) -> bytes:
        """Return the event that closes the open item."""
        closed = self.event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return closed

    def message(
        self,
        pieces: Sequence[str],
        *,
        annotations: Sequence[dict[str, Any]] = (),
        refusal: bool = False,
        phase: str | None = None,
        status: str = "completed",
    ) -> Iterator[bytes]:
        """Yield a message: a text in these deltas with its annotations, or a refusal."""
        name = f"msg_{secrets.token_hex(16)}"
        item: dict[str, Any] = {
            "id": name,
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        item |= {"phase": phase} if phase else {}
        yield self.added(item)
        kind, member = ("response.refusal", "refusal") if refusal else ("response.output_text", "text")
        part: dict[str, Any] = {"type": "refusal", "refusal": ""}
        if not refusal:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        logprobs: dict[str, Any] = {} if refusal else {"logprobs": []}
        yield self.progress("response.content_part.added", name, content_index=0, part=part)
        for piece in pieces:
            yield self.progress(f"{kind}.delta", name, content_index=0, delta=piece, **logprobs)
        for index, annotation in enumerate(annotations):
            yield self.progress(
                "response.output_text.annotation.added",
                name,
                content_index=0,
                annotation_index=index,
                annotation=annotation,
            )
        whole = "".join(pieces)
        yield self.progress(f"{kind}.done", name, content_index=0, **{member: whole}, **logprobs)
        part = {**part, member: whole} | ({} if refusal else {"annotations": list(annotations)})
        yield self.progress("response.content_part.done", name, content_index=0, part=part)
        yield self.done(item | {"status": status, "content": [part]})

    def reasoning(self, pieces: Sequence[str], *, encrypted: bool = True, summary: bool = True) -> Iterator[bytes]:
        """Yield a reasoning item with a summary in these deltas, and its encrypted content."""
        name = f"rs_{secrets.token_hex(16)}"
        hidden = {"encrypted_content": ENCRYPTED + secrets.token_urlsafe(60)} if encrypted else {}
        item: dict[str, Any] = {"id": name, "type": "reasoning", "summary": [], **hidden}
        yield self.added(item)
        whole = "".join(pieces)
        if summary and whole:
            part = {"type": "summary_text", "text": ""}
            yield self.progress("response.reasoning_summary_part.added", name, summary_index=0, part=part)
            for piece in pieces:
                yield self.progress("response.reasoning_summary_text.delta", name, summary_index=0, delta=piece)
            yield self.progress("response.reasoning_summary_text.done", name, summary_index=0, text=whole)
            part = {"type": "summary_text", "text": whole}
            yield self.progress("response.reasoning_summary_part.done", name, summary_index=0, part=part)
            item = item | {"summary": [part]}
        yield self.done(item)

    def call(self, call_id: str, name: str, pieces: Sequence[str], *, custom: bool = False) -> Iterator[bytes]:
        """Yield a call of a function, or of a custom tool, with its arguments in these deltas."""
        item_id = f"{'ctc' if custom else 'fc'}_{secrets.token_hex(16)}"
        kind, member = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
        event = "response.custom_tool_call_input" if custom else "response.function_call_arguments"
        item = {"id": item_id, "type": kind, "call_id": call_id, "name": name, member: "", "status": "in_progress"}
        yield self.added(item)
        for piece in pieces:
            yield self.progress(f"{event}.delta", item_id, delta=piece)
        whole = "".join(pieces)
        yield self.progress(f"{event}.done", item_id, **{member: whole})
        yield self.done(item | {member: whole, "status": "completed"})

    def end(
        self,
        status: str = "completed",
        *,
        usage: wire.Usage | None = None,
        reason: str | None = None,
        error: dict[str, str] | None = None,
    ) -> bytes:
        """Return the last event."""
        return self.event(f"response.{status}", response=self.whole(status, usage=usage, reason=reason, error=error))

    def whole(
        self,
        status: str = "completed",
        *,
        usage: wire.Usage | None = None,
        reason: str | None = None,
        error: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the response as an object."""
        spent = usage or wire.Usage()
        return self._response | {
            "status": status,
            "output": self._output,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": {
                "input_tokens": spent.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": spent.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
                "total_tokens": spent.prompt_tokens + spent.completion_tokens,
            },
        }


_REPEATED = frozenset(
    {
        "instructions",
        "max_output_tokens",
        "metadata",
        "reasoning",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tools",
    }
)


def response(
    text: str, *, usage: wire.Usage | None = None, model: str = wire.DEFAULT_SNAPSHOT, end: bytes | None = None
) -> Script:
    """Return an answer of one message, a word per delta. `end` takes the place of the last event."""
    events = Events(model)
    pieces = words(text)
    spent = usage or wire.Usage(completion_tokens=len(pieces))
    steps = [events.begin(), *events.message(pieces)]
    return event_stream(*_sends([*steps, events.end(usage=spent) if end is None else end]))


def answer_steps(
    events: Events,
    content: Sequence[str],
    reasoning: Sequence[str],
    calls: Sequence[wire.ToolCall],
    *,
    asked: Mapping[str, Any],
    usage: wire.Usage,
    is_whole: bool,
    pace_seconds: float = 0.0,
    query: str | None = None,
) -> Iterator[Step]:
    """Yield the steps of an answer to a request. It begins with a search of the web if there is a query."""
    pause = Pause(pace_seconds)
    custom = {tool.get("name") for tool in asked.get("tools") or () if tool.get("type") == "custom"}
    yield Send(events.begin())
    if reasoning:
        summary = bool((asked.get("reasoning") or {}).get("summary"))
        encrypted = ENCRYPTED_REASONING in (asked.get("include") or ())
        yield from _paced(events.reasoning(reasoning, encrypted=encrypted, summary=summary), pause)
    if query is not None:
        yield from _paced(search.events_of_search(events, query), pause)
    if content or not calls:
        cited = search.citation("".join(content)) if query is not None else []
        status = "completed" if is_whole else "incomplete"
        yield from _paced(events.message(content, annotations=cited, status=status), pause)
    for call in calls:
        yield from _paced(events.call(call.id, call.name, words(call.arguments), custom=call.name in custom), pause)
    if is_whole:
        yield Send(events.end(usage=usage))
    else:
        yield Send(events.end("incomplete", usage=usage, reason="max_output_tokens"))


def whole_answer(steps: Iterable[Step], events: Events, usage: wire.Usage, *, is_whole: bool) -> Script:
    """Return an answer in one piece. The steps are only taken, not sent."""
    for _ in steps:
        pass
    status, reason = ("completed", None) if is_whole else ("incomplete", "max_output_tokens")
    return json_body(events.whole(status, usage=usage, reason=reason))


def _paced(frames: Iterator[bytes], pause: Pause) -> Iterator[Step]:
    for frame in frames:
        if b'.delta"' in frame:
            yield pause
        yield Send(frame)


def _sends(frames: Iterable[bytes]) -> tuple[Send, ...]:
    return tuple(Send(frame) for frame in frames)


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as the same request of chat completions, for the checks and answers that both share."""
    written: dict[str, Any] = {
        name: body[name] for name in ("model", "stream", "user", "temperature", "tool_choice") if name in body
    }
    instructions = body.get("instructions")
    messages: list[dict[str, Any]] = [{"role": "developer", "content": instructions}] if instructions else []
    given = body.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or ():
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": item.get("content")})
        elif kind in {"function_call", "custom_tool_call"}:
            call = {"id": item.get("call_id"), "type": "function", "function": {"name": item.get("name")}}
            if messages and "tool_calls" in messages[-1]:
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind in {"function_call_output", "custom_tool_call_output"}:
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
    written["messages"] = messages
    if body.get("max_output_tokens") is not None:
        written["max_completion_tokens"] = body["max_output_tokens"]
    if effort := (body.get("reasoning") or {}).get("effort"):
        written["reasoning_effort"] = effort
    written |= _tool_fields(body)
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        written["response_format"] = {"type": "json_schema", "json_schema": form}
    elif form.get("type") == "json_object":
        written["response_format"] = {"type": "json_object"}
    return written


def _tool_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of chat completions for the tools of a request."""
    fields: dict[str, Any] = {}
    tools = [
        {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("parameters")}}
        for tool in body.get("tools") or ()
        if tool.get("type") in {"function", "custom"}
    ]
    if tools:
        fields["tools"] = tools
    if search.is_offered(body):
        fields["web_search_options"] = {}
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("name"):
        fields["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    return fields


def find_fault(body: Mapping[str, Any]) -> tuple[str, str, str | None] | None:
    """Return the message, the parameter and the code with which the hosted API refuses a request, if it does."""
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        return "Missing required parameter: 'input'.", "input", "missing_required_parameter"
    items: list[Any] = given if isinstance(given, list) else []
    for name in ("messages", "response_format", "max_completion_tokens", "reasoning_effort", "stop", "n"):
        if name in body:
            return f"Unknown parameter: '{name}'.", name, "unknown_parameter"
    if not is_reasoning_model(str(body.get("model"))) and ENCRYPTED_REASONING in (body.get("include") or ()):
        return "Encrypted content is not supported with this model.", "include", None
    for index, tool in enumerate(body.get("tools") or ()):
        if isinstance(tool, dict) and tool.get("type") == "function" and not tool.get("name"):
            return (
                f"Missing required parameter: 'tools[{index}].name'.",
                f"tools[{index}].name",
                "missing_required_parameter",
            )
    return _find_item_fault(items)


def _find_item_fault(items: Sequence[Any]) -> tuple[str, str, str | None] | None:
    called: dict[str, bool] = {}  # whether there is a result, by the id of a call
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if kind in {"function_call", "custom_tool_call"}:
            called[str(item.get("call_id"))] = False
        elif kind in {"function_call_output", "custom_tool_call_output"}:
            if str(item.get("call_id")) not in called:
                return f"No tool call found for function call output with call_id {item.get('call_id')}.", "input", None
            called[str(item.get("call_id"))] = True
        elif kind == "item_reference":
            return f"Item with id '{item.get('id')}' not found.", "input", None
        elif kind == "reasoning":
            if not str(item.get("encrypted_content") or "").startswith(ENCRYPTED):
                text = "The encrypted content of a reasoning item could not be verified."
                return text, f"input[{index}].encrypted_content", "invalid_encrypted_content"
            after = items[index + 1] if index + 1 < len(items) else {}
            if after.get("type", "message") not in _LED_TO or after.get("role", "assistant") != "assistant":
                return (
                    f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item.",
                    "input",
                    None,
                )
    for call_id, has_result in called.items():
        if not has_result:
            return f"No tool output found for function call {call_id}.", "input", None
    return None


_LED_TO = frozenset({"message", "reasoning", "function_call", "custom_tool_call", "web_search_call", "mcp_call"})


def is_reasoning_model(name: str) -> bool:
    """Return whether a model of this name reasons."""
    return name.startswith(("o1", "o3", "o4", "gpt-5"))
