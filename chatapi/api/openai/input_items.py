"""Items that a client sends, as messages to store: `items` writes the reverse. Pure: values in, values out.

Ids that a client sends with whole items are ignored; items that a request refers to by id are given with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chatapi.api.openai.ids import (
    looks_like_item_id,
)
from chatapi.api.openai.items import PREFIXES, flat_name
from chatapi.api.openai.sealed_summaries import MAX_SEALED, is_sealed
from chatapi.errors import InvalidRequest, ItemNotFound
from chatapi.generations.history import has_content
from chatapi.model import Kind, Media, NewMessage, Part, Role, ToolCall, visible_text
from chatapi.wire.extras import ANY_ORIGIN, DEEPEST, encode_extras
from chatapi.wire.json_values import (
    optional_text,
    require_list,
    require_name,
    require_object,
    require_text,
    require_url,
)
from chatapi.wire.loose_json import nests_deeper_than
from chatapi.wire.response_events import ITEM_ADDED, encode_event, encode_item

MAX_ITEMS = 8_000  # in one request
NO_ARGUMENTS = "{}"  # of a call without arguments: a part of a log is never empty
NEEDS_RESPONSES = (
    "It needs a model API that is asked through Responses (OPENAI_UPSTREAM_API) with CHATAPI_HOSTED_TOOLS=pass."
)
_TYPE_NAME = re.compile(r"[a-z_]{1,40}")  # a type that an error may repeat to its sender
_ROLES = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)}
_CONTENT_KINDS = {
    Role.USER: {Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE},
    Role.ASSISTANT: {Kind.TEXT, Kind.REFUSAL},
}
_TEXT_ONLY = {Kind.TEXT}
_OUTPUT_KINDS = {Kind.TEXT, Kind.IMAGE, Kind.FILE}  # of the output of a tool

References = Mapping[str, NewMessage]
"""The items that a request refers to by id or that are sealed, each as the message that it is, or is part of."""


def read_input(
    value: Any, path: str, references: References | None = None, *, keep: bool = False
) -> tuple[NewMessage, ...]:
    """Read a user's text, or a list of items, as messages. `keep`: keep items of other types as they are.

    Raises:
        InvalidRequest: a value cannot be stored; the error names it.
        ItemNotFound: an item that is referred to is not among `references`.
    """
    if isinstance(value, str):
        return (NewMessage(Role.USER, (Part(Kind.TEXT, require_text(value, path)),)),)
    return read_items(value, path, references, keep=keep)


def read_items(
    value: Any, path: str, references: References | None = None, *, keep: bool = False
) -> tuple[NewMessage, ...]:
    """Read a list of items as messages. Consecutive reasoning, text and calls form one message, as a model gives them.

    `keep`: keep items of hosted tools as they are, to send them to an upstream that runs such tools.

    Raises:
        InvalidRequest, ItemNotFound: as `read_input`.
    """
    items = require_list(value, path, "a list of items")
    if len(items) > MAX_ITEMS:
        raise InvalidRequest.field(path, f"Must have at most {MAX_ITEMS} items.")
    messages: list[NewMessage] = []
    run: list[Part] = []  # the parts of the assistant's message that is being put together
    for index, item in enumerate(items):
        message = _read_item(item, f"{path}.{index}", references or {}, keep=keep)
        if message.role is Role.ASSISTANT and _continues(run, message):
            run += message.parts
            continue
        if run:
            messages.append(NewMessage(Role.ASSISTANT, tuple(run)))
        run = list(message.parts) if message.role is Role.ASSISTANT else []
        if message.role is not Role.ASSISTANT:
            messages.append(message)
    if run:
        messages.append(NewMessage(Role.ASSISTANT, tuple(run)))
    # An answer of reasoning alone has no content, and would take its question out of the history.
    return tuple(message for message in messages if message.role is not Role.ASSISTANT or has_content(message))


def _continues(run: list[Part], message: NewMessage) -> bool:
    """Return whether an assistant's item belongs to the message before it; text after text is another message."""
    meeting = (*run[-1:], *message.parts[:1])
    return any(part.kind in PREFIXES or part.kind is Kind.EXTRA for part in meeting) or len(meeting) < 2


def referenced_ids(value: Any) -> list[str]:
    """Return the ids of the items that a list of items refers to, each once; other values are left to `read_items`."""
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        return []
    found = [item.get("id") for item in value if isinstance(item, dict) and _is_reference(item)]
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _is_reference(item: dict[str, Any]) -> bool:
    """Return whether an item is an `item_reference`; OpenAI's API lets its `type` be absent."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _read_item(value: Any, path: str, references: References, *, keep: bool) -> NewMessage:
    item = require_object(value, path)
    if _is_reference(item):
        return _read_reference(item.get("id"), path, references)
    match item.get("type", "message"):
        case "message":
            return _read_message(item, path, keep=keep)
        case "function_call":
            arguments = require_text(item.get("arguments"), f"{path}.arguments")
            return NewMessage(
                Role.ASSISTANT, (Part(Kind.TOOL_CALL, arguments or NO_ARGUMENTS, _read_call(item, path)),)
            )
        case "custom_tool_call":
            call = _read_call(item, path)
            text = require_text(item.get("input"), f"{path}.input")
            mark = Part(Kind.EXTRA, encode_extras(ANY_ORIGIN, {"type": "custom"}), call)
            return NewMessage(Role.ASSISTANT, (Part(Kind.TOOL_CALL, text, call), mark))
        case "function_call_output" | "custom_tool_call_output":
            call = ToolCall(require_name(item.get("call_id"), f"{path}.call_id"))
            output = _read_content(item.get("output"), f"{path}.output", _OUTPUT_KINDS, keep=keep)
            media = tuple(part for part in output if part.kind is not Kind.TEXT)
            if media and not keep:
                place = f"{path}.output.{output.index(media[0])}"
                raise InvalidRequest.field(place, f"Images and files are not supported here. {NEEDS_RESPONSES}")
            return NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, visible_text(output), call), *media))
        case "reasoning":
            return _read_reasoning(item, path)
        case "compaction" if is_sealed(content := str(item.get("encrypted_content"))):
            return _read_summary(content, path, references)
        case "compaction":  # of `/v1/responses/compact`, which any upstream with Responses may have
            return _keep_item(item, "compaction", path)
        case kind if keep and isinstance(kind, str) and _TYPE_NAME.fullmatch(kind):
            return _keep_item(item, kind, path)
        case kind:
            name = kind if isinstance(kind, str) and _TYPE_NAME.fullmatch(kind) else "this type"
            raise InvalidRequest.field(f"{path}.type", f"Items of type {name} are not supported.")


def _read_summary(sealed: str, path: str, references: References) -> NewMessage:
    found = references.get(sealed)
    if found is None:
        raise InvalidRequest.field(
            f"{path}.encrypted_content",
            f"Must be as this server made it, for the same key; a request has at most {MAX_SEALED} such items.",
        )
    return found


def _keep_item(item: dict[str, Any], kind: str, path: str) -> NewMessage:
    """Keep an item of a hosted tool: the model's, or a user's answer to one, such as an approval."""
    if nests_deeper_than(item, DEEPEST - 4):
        raise InvalidRequest.field(path, "Must not nest so deeply.")
    role = Role.USER if kind.endswith(("_output", "_response")) else Role.ASSISTANT
    return NewMessage(role, (Part(Kind.EXTRA, encode_item(ANY_ORIGIN, item)),))


def _read_call(item: dict[str, Any], path: str) -> ToolCall:
    namespace = item.get("namespace")
    name = flat_name(
        require_name(namespace, f"{path}.namespace") if namespace is not None else None,
        require_name(item.get("name"), f"{path}.name"),
    )
    return ToolCall(require_name(item.get("call_id"), f"{path}.call_id"), name)


def _read_reference(name: Any, path: str, references: References) -> NewMessage:
    found = references.get(require_text(name, f"{path}.id"))
    if found is None:
        shown = f" with id '{name}'" if looks_like_item_id(name) else ""
        error = ItemNotFound(f"Item{shown} not found.")
        error.param = path
        raise error
    return found


def _read_message(item: dict[str, Any], path: str, *, keep: bool) -> NewMessage:
    role = item.get("role")
    if role == Role.TOOL.value:
        raise InvalidRequest.field(f"{path}.role", "Send the result of a tool as an item of type function_call_output.")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest.field(f"{path}.role", f"Must be {', '.join(_ROLES)}.")
    known = _ROLES[role]
    parts = _read_content(item.get("content"), f"{path}.content", _CONTENT_KINDS.get(known, _TEXT_ONLY), keep=keep)
    if known is Role.ASSISTANT:
        phase = optional_text(item.get("phase"), f"{path}.phase")
        begun = {"type": ITEM_ADDED, "item": {"type": "message", "phase": phase}}
        mark = (Part(Kind.EXTRA, encode_event(ANY_ORIGIN, begun)),) if phase else ()
        return NewMessage(known, (*mark, *(part for part in parts if part.text)))
    if not parts:
        raise InvalidRequest.field(f"{path}.content", "Must have at least one content part.")
    return NewMessage(known, parts)


def _read_reasoning(item: dict[str, Any], path: str) -> NewMessage:
    parts: list[Part] = []
    for name in ("summary", "content"):
        values = item.get(name)
        for index, value in enumerate(require_list(values, f"{path}.{name}") if values is not None else ()):
            place = f"{path}.{name}.{index}"
            text = require_text(require_object(value, place).get("text"), f"{place}.text")
            parts += [Part(Kind.REASONING, text)] if text else []
    if item.get("encrypted_content") is not None:  # its id is ours, or of another server, and is dropped
        hidden = require_text(item["encrypted_content"], f"{path}.encrypted_content")
        summary = item.get("summary") or []
        kept = {"type": "reasoning", "summary": summary, "encrypted_content": hidden}
        parts.append(Part(Kind.EXTRA, encode_item(ANY_ORIGIN, kept)))
    return NewMessage(Role.ASSISTANT, tuple(parts))


def _read_content(value: Any, path: str, kinds: set[Kind], *, keep: bool) -> tuple[Part, ...]:
    """Read a content: a text, or a list of parts of these kinds. `keep`: also those that only Responses have."""
    if isinstance(value, str):
        return (Part(Kind.TEXT, require_text(value, path)),)
    parts = require_list(value, path, "a string or a list of content parts")
    return tuple(_read_part(part, f"{path}.{index}", kinds, keep=keep) for index, part in enumerate(parts))


def _read_part(value: Any, path: str, kinds: set[Kind], *, keep: bool) -> Part:
    part = _part_of(require_object(value, path), path, keep=keep)
    if part.kind not in kinds:
        raise InvalidRequest.field(path, "Messages of this role must not contain this type of part.")
    return part


def _part_of(part: dict[str, Any], path: str, *, keep: bool) -> Part:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return Part(Kind.TEXT, require_text(part.get("text"), f"{path}.text"))
        case "refusal":
            return Part(Kind.REFUSAL, require_text(part.get("refusal"), f"{path}.refusal"))
        case "input_image":
            detail = optional_text(part.get("detail"), f"{path}.detail")
            if part.get("image_url") is None and keep and part.get("file_id") is not None:
                return Part(Kind.IMAGE, media=Media(file_id=_file_id(part, path), detail=detail))
            if part.get("image_url") is None:
                where = "" if part.get("file_id") is None else f" A file_id is not supported here. {NEEDS_RESPONSES}"
                raise InvalidRequest.field(f"{path}.image_url", f"Must be a http, https or data URL.{where}")
            return Part(Kind.IMAGE, media=Media(url=require_url(part["image_url"], f"{path}.image_url"), detail=detail))
        case "input_file":
            names = ("file_id", "filename", "file_data", "detail")
            file_id, filename, data, detail = (optional_text(part.get(name), f"{path}.{name}") for name in names)
            url = require_url(part["file_url"], f"{path}.file_url") if part.get("file_url") is not None else None
            if url is not None and not keep:
                raise InvalidRequest.field(f"{path}.file_url", f"Send file_data or file_id. {NEEDS_RESPONSES}")
            if data is None and file_id is None and url is None:
                raise InvalidRequest.field(path, "Must contain file_data, file_id or file_url.")
            return Part(Kind.FILE, media=Media(url=url, data=data, file_id=file_id, filename=filename, detail=detail))
        case "input_audio":
            audio = require_object(part.get("input_audio"), f"{path}.input_audio")
            data, form = (require_text(audio.get(name), f"{path}.input_audio.{name}") for name in ("data", "format"))
            return Part(Kind.AUDIO, media=Media(data=data, format=form))
    raise InvalidRequest.field(f"{path}.type", "Unsupported content part type.")


def _file_id(part: dict[str, Any], path: str) -> str:
    return require_text(part["file_id"], f"{path}.file_id")
