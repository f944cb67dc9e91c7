"""Messages as OpenAI's chat completions write them, read and written. Pure: JSON values in, JSON values out.

Messages of clients are checked: every text is proper Unicode without NUL, every part is of a kind that is stored, and a
URL is http(s) or data. It is passed on and never fetched.
"""

from __future__ import annotations

from typing import Any

from chatapi.errors import InvalidRequest
from chatapi.model import Kind, Media, NewMessage, Part, Role, ToolCall, visible_text
from chatapi.wire import response_events
from chatapi.wire.extras import DEEPEST, decode_extras, encode_extras
from chatapi.wire.json_values import (
    optional_text,
    require_list,
    require_name,
    require_object,
    require_text,
    require_url,
)
from chatapi.wire.loose_json import nests_deeper_than

# Read


def read_message(value: Any, path: str) -> NewMessage:
    """Read a client's message; `path` names it in an error.

    Raises:
        InvalidRequest: a value is invalid, or cannot be stored.
    """
    message = require_object(value, path)
    try:
        role = Role(str(message.get("role")))
    except ValueError:
        raise InvalidRequest.field(f"{path}.role", "Must be user, assistant, tool, system or developer.") from None
    content = message.get("content")
    if role is Role.TOOL:
        call = ToolCall(require_name(message.get("tool_call_id"), f"{path}.tool_call_id"))
        text = visible_text(_parts(content, f"{path}.content", (Kind.TEXT,), marks=False))
        return NewMessage(role, (Part(Kind.TOOL_RESULT, text, call),))
    if role is not Role.ASSISTANT:
        kinds = (Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE) if role is Role.USER else (Kind.TEXT,)
        if not (content_parts := _parts(content, f"{path}.content", kinds)):
            raise InvalidRequest.field(f"{path}.content", "Must have at least one content part.")
        return NewMessage(role, content_parts)
    reasoning = message.get("reasoning_content")
    parts = [Part(Kind.REASONING, require_text(reasoning, f"{path}.reasoning_content"))] if reasoning else []
    parts += _read_extras(message, {response_events.FIELD} & {*message}, path)  # of reasoning, before what it led to
    parts += [] if content is None else _parts(content, f"{path}.content", (Kind.TEXT, Kind.REFUSAL))
    if message.get("refusal"):
        parts.append(Part(Kind.REFUSAL, require_text(message["refusal"], f"{path}.refusal")))
    for index, called in enumerate(require_list(message.get("tool_calls") or [], f"{path}.tool_calls")):
        call_part = _read_call(called, f"{path}.tool_calls.{index}")
        parts += [call_part, *_read_extras(called, _CALL_EXTRAS & {*called}, path, call_part.call)]
    parts += _read_extras(message, _MESSAGE_EXTRAS & {*message}, path)
    if message.get("function_call") or message.get("audio"):
        raise InvalidRequest.field(
            path, "`function_call` and `audio` are not supported here. Use `tool_calls`, and text."
        )
    return NewMessage(role, tuple(part for part in parts if part.text))


def _parts(content: Any, path: str, kinds: tuple[Kind, ...], *, marks: bool = True) -> tuple[Part, ...]:
    """Read content. `marks`: refuse a mark for a prompt cache where it could not be sent upstream."""
    if isinstance(content, str):
        return (Part(Kind.TEXT, require_text(content, path)),)
    parts: list[Part] = []
    for index, value in enumerate(require_list(content, path, "a string or a list of parts")):
        part = _read_part(value, f"{path}.{index}")
        if part.kind not in kinds:
            raise InvalidRequest.field(f"{path}.{index}", "Messages of this role must not contain this type of part.")
        parts.append(part)
        if Kind.IMAGE in kinds:  # a user's: further members, such as marks for a prompt cache, go upstream with it
            parts += _read_extras(value, {*value} - _PART_MEMBERS, f"{path}.{index}")
        elif marks and Kind.REFUSAL not in kinds and value.get("cache_control"):
            raise InvalidRequest.field(
                f"{path}.{index}.cache_control", "Only supported in the messages of users. Remove it."
            )
    return tuple(parts)


_PART_MEMBERS = frozenset({"type", "text", "image_url", "input_audio", "file"})
_MESSAGE_EXTRAS = frozenset({"reasoning_details", "extra_content", "thought_signature"})
_CALL_EXTRAS = frozenset({"extra_content", "thought_signature"})


def _read_extras(
    value: dict[str, Any], names: set[str] | frozenset[str], path: str, call: ToolCall | None = None
) -> list[Part]:
    """Read members that are not interpreted here, to be sent upstream with the value that has them."""
    fields = {name: value[name] for name in sorted(names) if value[name] not in (None, "", [], {})}
    if not fields:
        return []
    if nests_deeper_than(fields, DEEPEST - 2):
        raise InvalidRequest.field(path, f"{next(iter(fields))!r:.80} nests too deeply.")
    return [Part(Kind.EXTRA, encode_extras("", fields), call)]


def _read_part(value: Any, path: str) -> Part:
    part = require_object(value, path)
    match part.get("type"):
        case "text":
            return Part(Kind.TEXT, require_text(part.get("text"), f"{path}.text"))
        case "refusal":
            return Part(Kind.REFUSAL, require_text(part.get("refusal"), f"{path}.refusal"))
        case "image_url":
            image = require_object(part.get("image_url"), f"{path}.image_url")
            url = require_url(image.get("url"), f"{path}.image_url.url")
            detail = optional_text(image.get("detail"), f"{path}.image_url.detail")
            return Part(Kind.IMAGE, media=Media(url=url, detail=detail))
        case "input_audio":
            audio = require_object(part.get("input_audio"), f"{path}.input_audio")
            recording = require_text(audio.get("data"), f"{path}.input_audio.data")
            form = require_text(audio.get("format"), f"{path}.input_audio.format")
            return Part(Kind.AUDIO, media=Media(data=recording, format=form))
        case "file":
            file = require_object(part.get("file"), f"{path}.file")
            fields = {name: optional_text(file.get(name), f"{path}.file.{name}") for name in ("file_id", "filename")}
            data = optional_text(file.get("file_data"), f"{path}.file.file_data")
            if data is None and fields["file_id"] is None:
                raise InvalidRequest.field(f"{path}.file", "Must contain file_data or file_id.")
            return Part(Kind.FILE, media=Media(data=data, **fields))
    raise InvalidRequest.field(f"{path}.type", "Unsupported content part type.")


def _read_call(value: Any, path: str) -> Part:
    call = require_object(value, path)
    if call.get("type", "function") != "function":
        raise InvalidRequest.field(f"{path}.type", "Must be function.")
    function = require_object(call.get("function"), f"{path}.function")
    arguments = require_text(function.get("arguments"), f"{path}.function.arguments")
    name = require_name(function.get("name"), f"{path}.function.name")
    return Part(Kind.TOOL_CALL, arguments or "{}", ToolCall(require_name(call.get("id"), f"{path}.id"), name))


# Write


def write_message(message: NewMessage, developer_role: str) -> dict[str, Any]:
    """Write a message for an upstream; `developer_role` is its name for a developer's role."""
    if message.role is Role.TOOL:
        result = next(part for part in message.parts if part.kind is Kind.TOOL_RESULT)
        assert result.call is not None, "a result names its call"
        marks = [f"[{part.kind.value}]" for part in message.parts if part.media is not None]  # tools have text alone
        return {"role": "tool", "tool_call_id": result.call.id, "content": "\n".join([result.text, *marks])}
    if message.role in {Role.SYSTEM, Role.DEVELOPER}:
        return {"role": developer_role, "content": visible_text(message.parts)}
    if message.role is Role.ASSISTANT:
        return answer_message(message.parts)
    if all(part.kind is Kind.TEXT for part in message.parts):
        return {"role": message.role.value, "content": visible_text(message.parts)}
    return {"role": message.role.value, "content": _write_parts(message.parts)}


def answer_message(parts: tuple[Part, ...]) -> dict[str, Any]:
    """Write a model's answer as a message: its text, and the tools that it called."""
    message: dict[str, Any] = {"role": "assistant", "content": visible_text(parts) or None}
    calls: dict[str, dict[str, Any]] = {}
    for part in parts:
        if part.kind is not Kind.TOOL_CALL or part.call is None:
            continue
        if (begun := calls.get(part.call.id)) is not None:  # other content came between its pieces
            begun["function"]["arguments"] += part.text
            continue
        function = {"name": part.call.name, "arguments": part.text}
        calls[part.call.id] = {"id": part.call.id, "type": "function", "function": function}
    return message | ({"tool_calls": list(calls.values())} if calls else {})


def _write_parts(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Write the parts of a user's message; an extra holds further members of the part before it."""
    written: list[dict[str, Any]] = []
    for part in parts:
        if part.kind is not Kind.EXTRA:
            written.append(_write_part(part))
        elif written:
            written[-1] |= decode_extras(part.text)[1]
    return written


def _write_part(part: Part) -> dict[str, Any]:
    media = part.media
    if media is None:
        return {"type": "text", "text": part.text}
    if part.kind is Kind.IMAGE:
        return {"type": "image_url", "image_url": _without_none(url=media.url, detail=media.detail)}
    if part.kind is Kind.AUDIO:
        return {"type": "input_audio", "input_audio": _without_none(data=media.data, format=media.format)}
    file = _without_none(file_data=media.data or media.url, file_id=media.file_id, filename=media.filename)
    return {"type": "file", "file": file}


def _without_none(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
