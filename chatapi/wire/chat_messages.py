"""Messages as OpenAI's chat completions write them, read and written. Pure: JSON values in, JSON values out.

What is read is a client's, and checked: every text is proper Unicode without NUL, every part is of a kind that is kept,
and a URL is http(s) or data. It is passed on and never fetched.
"""

from __future__ import annotations

from typing import Any

from chatapi.errors import InvalidRequest
from chatapi.model import Kind, Media, NewMessage, Part, Role, ToolCall, visible_text
from chatapi.wire.json_values import (
    optional_text,
    require_list,
    require_name,
    require_object,
    require_text,
    require_url,
)

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
        text = visible_text(_parts(content, f"{path}.content", (Kind.TEXT,)))
        return NewMessage(role, (Part(Kind.TOOL_RESULT, text, call),))
    if role is not Role.ASSISTANT:
        kinds = (Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE) if role is Role.USER else (Kind.TEXT,)
        if not (content_parts := _parts(content, f"{path}.content", kinds)):
            raise InvalidRequest.field(f"{path}.content", "Must have at least one content part.")
        return NewMessage(role, content_parts)
    parts = [] if content is None else list(_parts(content, f"{path}.content", (Kind.TEXT, Kind.REFUSAL)))
    if message.get("refusal"):
        parts.append(Part(Kind.REFUSAL, require_text(message["refusal"], f"{path}.refusal")))
    for index, called in enumerate(require_list(message.get("tool_calls") or [], f"{path}.tool_calls")):
        parts.append(_read_call(called, f"{path}.tool_calls.{index}"))
    if message.get("function_call") or message.get("audio"):
        raise InvalidRequest.field(
            path, "`function_call` and `audio` are not supported here. Use `tool_calls`, and text."
        )
    return NewMessage(role, tuple(part for part in parts if part.text))


def _parts(content: Any, path: str, kinds: tuple[Kind, ...]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part(Kind.TEXT, require_text(content, path)),)
    parts = tuple(
        _read_part(part, f"{path}.{index}")
        for index, part in enumerate(require_list(content, path, "a string or a list of parts"))
    )
    for index, part in enumerate(parts):
        if part.kind not in kinds:
            raise InvalidRequest.field(f"{path}.{index}", "Messages of this role must not contain this type of part.")
    return parts


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


def write_messages(messages: list[NewMessage], developer_role: str) -> list[dict[str, Any]]:
    """Messages for an upstream; `developer_role` is what it calls a developer."""
    return [_write(message, developer_role) for message in messages if message.parts]


def _write(message: NewMessage, developer_role: str) -> dict[str, Any]:
    if message.role is Role.TOOL:
        (result,) = message.parts
        assert result.call is not None, "a result names its call"
        return {"role": "tool", "tool_call_id": result.call.id, "content": result.text}
    if message.role in {Role.SYSTEM, Role.DEVELOPER}:
        return {"role": developer_role, "content": visible_text(message.parts)}
    if message.role is Role.ASSISTANT:
        return answer_message(message.parts)
    if all(part.kind is Kind.TEXT for part in message.parts):
        return {"role": message.role.value, "content": visible_text(message.parts)}
    return {"role": message.role.value, "content": [_write_part(part) for part in message.parts]}


def answer_message(parts: tuple[Part, ...]) -> dict[str, Any]:
    """What the model said, as a message: its text, and the tools that it called."""
    message: dict[str, Any] = {"role": "assistant", "content": visible_text(parts) or None}
    calls = [
        {"id": part.call.id, "type": "function", "function": {"name": part.call.name, "arguments": part.text}}
        for part in parts
        if part.kind is Kind.TOOL_CALL and part.call is not None
    ]
    return message | ({"tool_calls": calls} if calls else {})


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
