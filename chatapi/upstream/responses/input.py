"""A conversation as the input of OpenAI's Responses: messages, calls and results, and items as they were received.

Items of an upstream, its encrypted reasoning above all, go back to that upstream alone, at the place where they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatapi.model import Kind, NewMessage, Part, Role, visible_text
from chatapi.upstream.request import repair_arguments
from chatapi.wire import response_events
from chatapi.wire.extras import ANY_ORIGIN, decode_extras
from chatapi.wire.response_events import events_in, opened_item, whole_item


def write_input(messages: Sequence[NewMessage], origin: str) -> list[dict[str, Any]]:
    """Return the input items of a conversation for the upstream that `origin` identifies."""
    items: list[dict[str, Any]] = []
    custom: set[str] = set()  # ids of the calls of custom tools
    for message in messages:
        match message.role:
            case Role.ASSISTANT:
                custom |= _custom_calls(message.parts)
                items += _write_answer(message.parts, origin, custom)
            case Role.TOOL:
                items += _write_results(message.parts, custom)
            case Role.USER:
                items += _write_user(message.parts)
            case _:
                items.append({"role": message.role.value, "content": visible_text(message.parts)})
    return _without_loose_ends(items)


def _without_loose_ends(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out calls without a result, and reasoning that led to nothing: an upstream refuses both.

    Calls of functions have their results by then (`generations.history`); these are of tools such as `computer`.
    """
    answered = {(str(item.get("type")), item["call_id"]) for item in items if isinstance(item.get("call_id"), str)}
    kept: list[dict[str, Any]] = []
    for item in reversed(items):
        led_to_something = bool(kept) and _is_models(kept[-1])
        if not _is_open(item, answered) and (item.get("type") != "reasoning" or led_to_something):
            kept.append(item)
    return kept[::-1]


def _is_open(item: dict[str, Any], answered: set[tuple[Any, Any]]) -> bool:
    kind = str(item.get("type", ""))
    own = kind in {"function_call", "custom_tool_call"} or not isinstance(item.get("call_id"), str)
    return kind.endswith("_call") and not own and (f"{kind}_output", item["call_id"]) not in answered


def _is_models(item: dict[str, Any]) -> bool:
    """Return whether an item is the model's own."""
    return item.get("role", "assistant") == "assistant" and not str(item.get("type", "")).endswith(
        ("_output", "_response")
    )


def _custom_calls(parts: tuple[Part, ...]) -> set[str]:
    marks = [part for part in parts if part.kind is Kind.EXTRA and part.call is not None]
    return {part.call.id for part in marks if part.call and decode_extras(part.text)[1].get("type") == "custom"}


def _write_answer(parts: tuple[Part, ...], origin: str, custom: set[str]) -> list[dict[str, Any]]:
    """Write an answer as its items. Readable reasoning without the item that it came in is left out."""
    answer = _Answer()
    for part in parts:
        match part.kind:
            case Kind.TEXT:
                answer.add_content({"type": "output_text", "text": part.text})
            case Kind.REFUSAL:
                answer.add_content({"type": "refusal", "refusal": part.text})
            case Kind.TOOL_CALL if part.call is not None:
                called = {"call_id": part.call.id, "name": part.call.name}
                if part.call.id in custom:
                    answer.add_item({"type": "custom_tool_call", **called, "input": part.text})
                else:
                    answer.add_item({"type": "function_call", **called, "arguments": repair_arguments(part.text)})
            case Kind.EXTRA if part.call is None:
                found, fields = decode_extras(part.text)
                if found in {ANY_ORIGIN, origin}:
                    answer.add_events(events_in(fields))
    return answer.items


class _Answer:
    """The items of one answer; neighbouring text and refusals are one message."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._message: dict[str, Any] | None = None
        self._phase: Any = None

    def add_content(self, part: dict[str, Any]) -> None:
        if self._message is None:
            phase = {"phase": self._phase} if self._phase is not None else {}
            self._message = {"type": "message", "role": "assistant", "content": [], **phase}
            self.items.append(self._message)
        content = self._message["content"]
        if content and content[-1]["type"] == part["type"] == "output_text":
            content[-1] = {"type": "output_text", "text": content[-1]["text"] + part["text"]}
        else:
            content.append(part)

    def add_item(self, item: dict[str, Any]) -> None:
        self._message = self._phase = None
        self.items.append(item)

    def add_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            opened, whole = opened_item(event), whole_item(event)
            if opened is not None and opened.get("type") == "message":
                self._message, self._phase = None, opened.get("phase")
            elif whole is not None:
                self.add_item({name: value for name, value in whole.items() if value is not None})


def _write_results(parts: tuple[Part, ...], custom: set[str]) -> list[dict[str, Any]]:
    """Write the results of a message, and the media that came with one."""
    results: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is Kind.TOOL_RESULT and part.call is not None:
            kind = "custom_tool_call_output" if part.call.id in custom else "function_call_output"
            results.append({"type": kind, "call_id": part.call.id, "output": part.text})
        elif part.media is not None and results:
            output = results[-1]["output"]
            if isinstance(output, str):
                output = results[-1]["output"] = [{"type": "input_text", "text": output}] if output else []
            output.append(_write_content(part))
    return results


def _write_user(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Write a user's message, and the items that a user sent beside it, such as an approval."""
    items: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is not Kind.EXTRA:
            content.append(_write_content(part))
            continue
        fields = decode_extras(part.text)[1]
        items += [item for event in events_in(fields) if (item := whole_item(event)) is not None]
        if content:
            content[-1] |= {name: value for name, value in fields.items() if name != response_events.FIELD}
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return [*items, {"role": "user", "content": content[0]["text"]}]
    return [*items, {"role": "user", "content": content}] if content else items


def _write_content(part: Part) -> dict[str, Any]:
    media = part.media
    if media is None:
        return {"type": "input_text", "text": part.text}
    if part.kind is Kind.IMAGE:
        return _present("input_image", image_url=media.url, file_id=media.file_id, detail=media.detail)
    if part.kind is Kind.AUDIO:
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": media.format}}
    source = media.data or media.url
    name = "file_url" if source is not None and source.lower().startswith(("http://", "https://")) else "file_data"
    return _present("input_file", **{name: source}, file_id=media.file_id, filename=media.filename)


def _present(kind: str, **members: str | None) -> dict[str, Any]:
    return {"type": kind, **{name: value for name, value in members.items() if value is not None}}
