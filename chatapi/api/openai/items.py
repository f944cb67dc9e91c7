"""Items, as OpenAI's Responses and Conversations have them, and the messages that we keep. Pure: values in, values out.

A message of ours is one or more items: a run of text and refusals is a `message`, a run of thoughts a `reasoning`, each
tool call a `function_call`, and the result of one a `function_call_output`. An item's id is its message's own, under
the item's prefix, and its number where it is not the first; a client's own ids are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from chatapi.api.http.serializers import annotations_of
from chatapi.errors import InvalidRequest
from chatapi.generations.history import has_content
from chatapi.model import Kind, Message, NewMessage, Part, Role, Status, ToolCall
from chatapi.wire.chat_messages import read_message

MESSAGE, REASONING, CALL, OUTPUT = "msg", "rs", "fc", "fco"
_ITEM_ID = re.compile(rf"(?:{MESSAGE}|{REASONING}|{CALL}|{OUTPUT})_([A-Za-z0-9_-]{{32}})(?:_(\d{{1,6}}))?", re.ASCII)
_DETAILS = ("low", "high", "auto", "original")
COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"


# Read


def read_input(value: Any, path: str) -> tuple[NewMessage, ...]:
    """A text of the user's, or a list of items, as messages.

    Raises:
        InvalidRequest: there is something in it that cannot be kept.
    """
    if isinstance(value, str):
        return (read_message({"role": "user", "content": value}, path),)
    return read_items(value, path)


def read_items(value: Any, path: str) -> tuple[NewMessage, ...]:
    """A list of items, as messages. Thoughts, a text and calls that follow each other are one, as a model gives them.

    Raises:
        InvalidRequest: there is something in it that cannot be kept.
    """
    if not isinstance(value, list):
        raise InvalidRequest.field(path, "It must be a list of items.")
    messages: list[NewMessage] = []
    for index, item in enumerate(value):
        message = _read_item(item, f"{path}.{index}")
        if messages and _goes_on(messages[-1], message):
            messages[-1] = NewMessage(Role.ASSISTANT, messages[-1].parts + message.parts)
        else:
            messages.append(message)
    # An answer of thoughts alone is none, and would take its question out of what is sent upstream.
    return tuple(
        message
        for message in messages
        if message.parts and (message.role is not Role.ASSISTANT or has_content(message))
    )


def _goes_on(before: NewMessage, message: NewMessage) -> bool:
    """Whether an assistant's item belongs to the message before it; a text after a text is another message."""
    if before.role is not Role.ASSISTANT or message.role is not Role.ASSISTANT:
        return False
    meeting = (*before.parts[-1:], *message.parts[:1])
    return any(prefix_of(part.kind) != MESSAGE for part in meeting) or len(meeting) < 2


def _read_item(item: Any, path: str) -> NewMessage:
    if not isinstance(item, dict):
        raise InvalidRequest.field(path, "It must be an item: an object.")
    match item.get("type", "message"):
        case "message":
            return _read_message(item, path)
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            called = {"id": item.get("call_id"), "type": "function", "function": function}
            return read_message({"role": "assistant", "tool_calls": [called]}, path)
        case "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _contents(output, f"{path}.output")
            return read_message({"role": "tool", "tool_call_id": item.get("call_id"), "content": content}, path)
        case "reasoning":
            return _read_reasoning(item, path)
        case "item_reference":
            raise InvalidRequest.field(
                path, "Items cannot be referred to. Send the item itself, or name previous_response_id or conversation."
            )
        case kind:
            name = kind if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,40}", kind) else "this type"
            raise InvalidRequest.field(f"{path}.type", f"Items of type {name} are not kept here.")


def _read_message(item: dict[str, Any], path: str) -> NewMessage:
    content = item.get("content")
    if not isinstance(content, str):
        content = _contents(content, f"{path}.content")
    if item.get("role") == "tool":
        raise InvalidRequest.field(f"{path}.role", "What a tool gave is an item of type function_call_output.")
    return read_message({"role": item.get("role"), "content": content}, path)


def _read_reasoning(item: dict[str, Any], path: str) -> NewMessage:
    parts = []
    for name in ("summary", "content"):
        for index, part in enumerate(item.get(name) or ()):
            text = part.get("text") if isinstance(part, dict) else None
            read = read_message({"role": "assistant", "content": text}, f"{path}.{name}.{index}")
            parts += [Part(Kind.REASONING, said.text) for said in read.parts]
    return NewMessage(Role.ASSISTANT, tuple(parts))


def _contents(value: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InvalidRequest.field(path, "It must be a string or a list of parts.")
    return [_content(part, f"{path}.{index}") for index, part in enumerate(value)]


def _content(part: Any, path: str) -> dict[str, Any]:
    """A part of a message, as chat completions write it."""
    if not isinstance(part, dict):
        raise InvalidRequest.field(path, "It must be a part: an object.")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part.get("text")}
        case "refusal":
            return {"type": "refusal", "refusal": part.get("refusal")}
        case "input_image":
            if part.get("image_url") is None:
                raise InvalidRequest.field(f"{path}.image_url", "An image comes as a URL: http, https or data.")
            return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail")}}
        case "input_file":
            if part.get("file_url") is not None:
                raise InvalidRequest.field(f"{path}.file_url", "A file comes as file_data or file_id.")
            return {"type": "file", "file": {name: part.get(name) for name in ("file_id", "filename", "file_data")}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise InvalidRequest.field(f"{path}.type", "It is no part that is kept here.")


# Write


class Item(NamedTuple):
    """The parts of a message that are one item, and its number in the message."""

    number: int
    prefix: str
    parts: list[Part]


_PREFIXES = {Kind.REASONING: REASONING, Kind.TOOL_CALL: CALL, Kind.TOOL_RESULT: OUTPUT}


def prefix_of(kind: Kind) -> str:
    """The prefix of the item to which a part of this kind belongs."""
    return _PREFIXES.get(kind, MESSAGE)


def item_id(message_id: str, prefix: str, number: int) -> str:
    """The id of an item of a message."""
    name = f"{prefix}_{message_id.removeprefix('msg_')}"
    return f"{name}_{number}" if number else name


def message_of(name: str) -> tuple[str, int] | None:
    """The message, and the number in it, of the item of this id; None where it can be no item's."""
    found = _ITEM_ID.fullmatch(name)
    return (f"msg_{found[1]}", int(found[2] or 0)) if found else None


def grouped(parts: tuple[Part, ...]) -> Iterator[Item]:
    """The parts of a message as items."""
    item: Item | None = None
    for part in parts:
        prefix = prefix_of(part.kind)
        if item is not None and prefix == MESSAGE == item.prefix:
            item.parts.append(part)
            continue
        if item is not None:
            yield item
        item = Item(0 if item is None else item.number + 1, prefix, [part])
    if item is not None:
        yield item


def items_of(message: Message) -> list[dict[str, Any]]:
    """A message of a conversation as items."""
    generation = message.generation
    last = INCOMPLETE
    if generation is None or generation.status is Status.COMPLETED:
        last = COMPLETED if generation is None or is_whole(generation.finish_reason) else INCOMPLETE
    elif generation.status is Status.RUNNING:
        last = IN_PROGRESS
    return write_items(message.id, message.role, message.parts, last)


def is_whole(finish_reason: str | None) -> bool:
    """Whether an answer that finished so said all that it had to say."""
    return finish_reason not in {"length", "content_filter"}


def write_items(message_id: str, role: Role, parts: tuple[Part, ...], last: str) -> list[dict[str, Any]]:
    """A message as items; `last` is the status of the last one."""
    items = [write_item(message_id, role, item, COMPLETED) for item in grouped(parts)]
    if items:
        items[-1]["status"] = last
    return items


def write_item(message_id: str, role: Role, item: Item, status: str) -> dict[str, Any]:
    """One item, whole."""
    name = item_id(message_id, item.prefix, item.number)
    first = item.parts[0]
    call = first.call or ToolCall("")
    if item.prefix == REASONING:
        content = [{"type": "reasoning_text", "text": first.text}]
        return {"id": name, "type": "reasoning", "summary": [], "content": content, "status": status}
    if item.prefix == CALL:
        called = {"call_id": call.id, "name": call.name, "arguments": first.text}
        return {"id": name, "type": "function_call", **called, "status": status}
    if item.prefix == OUTPUT:
        return {
            "id": name,
            "type": "function_call_output",
            "call_id": call.id,
            "output": first.text,
            "status": status,
        }
    contents = output_contents(item.parts) if role is Role.ASSISTANT else [_input_content(part) for part in item.parts]
    return {"id": name, "type": "message", "status": status, "role": role.value, "content": contents}


def output_contents(parts: list[Part]) -> list[dict[str, Any]]:
    """What a model says in a message: text that is only parted by annotations is one part, and has them."""
    contents: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is Kind.REFUSAL:
            contents.append({"type": "refusal", "refusal": part.text})
            continue
        if not contents or contents[-1]["type"] != "output_text":
            contents.append(output_text(""))
        if part.kind is Kind.ANNOTATION:
            contents[-1]["annotations"] += [
                written for one in annotations_of(part) if (written := write_annotation(one)) is not None
            ]
        else:
            contents[-1]["text"] += part.text
    return contents


def output_text(text: str) -> dict[str, Any]:
    """A part that is text of the model's."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Citation(msgspec.Struct):
    url: str
    title: str = ""
    start_index: int = 0
    end_index: int = 0


def write_annotation(annotation: Any) -> dict[str, Any] | None:
    """An annotation of chat completions' as Responses have it; None for one of a kind that they do not know."""
    if not isinstance(annotation, dict) or annotation.get("type") != "url_citation":
        return None
    try:
        citation = msgspec.convert(annotation.get("url_citation", annotation), _Citation)
    except msgspec.ValidationError:
        return None
    return {"type": "url_citation", **msgspec.to_builtins(citation)}


def _input_content(part: Part) -> dict[str, Any]:
    media = part.media
    if media is None:
        return {"type": "input_text", "text": part.text}
    if part.kind is Kind.IMAGE:
        detail = media.detail if media.detail in _DETAILS else "auto"
        return {"type": "input_image", "image_url": media.url, "file_id": media.file_id, "detail": detail}
    if part.kind is Kind.FILE:
        file = {"file_id": media.file_id, "filename": media.filename, "file_data": media.data or media.url}
        return {"type": "input_file", **{name: value for name, value in file.items() if value is not None}}
    # Their items have no recordings: its place is kept by a word.
    return {"type": "input_text", "text": f"[audio, {media.format or 'unknown format'}]"}
