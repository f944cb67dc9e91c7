"""Items of OpenAI's Responses and Conversations, to and from stored messages. Pure: values in, values out.

A message is one or more items: a run of text and refusals is a `message`, a run of reasoning a `reasoning`, each tool
call a `function_call`, and the result of one a `function_call_output`. An item's id is derived from its message's id
(see `ids`); ids that a client sends with whole items are ignored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from chatapi.api.http.serializers import annotations_of
from chatapi.api.openai.ids import (
    CALL,
    CUSTOM_CALL,
    KEPT,
    MESSAGE,
    OUTPUT,
    REASONING,
    item_id,
    looks_like_item_id,
    parse_item_id,
)
from chatapi.errors import InvalidRequest, ItemNotFound
from chatapi.generations.history import has_content
from chatapi.model import Kind, Media, Message, NewMessage, Part, Role, Status, ToolCall, visible_text
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
from chatapi.wire.response_events import (
    ITEM_ADDED,
    encode_event,
    encode_item,
    opened_item,
    read_events,
    whole_item,
)

MAX_ITEMS = 8_000  # in one request
UPSTREAM_NAME_CHARACTERS = 64  # of a function's name in chat completions
NO_ARGUMENTS = "{}"  # of a call without arguments: a part of a log is never empty
COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"
_DETAILS = ("low", "high", "auto", "original")
_TYPE_NAME = re.compile(r"[a-z_]{1,40}")  # a type that an error may repeat to its sender
_ROLES = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)}
_CONTENT_KINDS = {
    Role.USER: {Kind.TEXT, Kind.IMAGE, Kind.AUDIO, Kind.FILE},
    Role.ASSISTANT: {Kind.TEXT, Kind.REFUSAL},
}
_TEXT_ONLY = {Kind.TEXT}
_OUTPUT_KINDS = {Kind.TEXT, Kind.IMAGE, Kind.FILE}  # of the output of a tool

References = Mapping[str, NewMessage]
"""The items that a request refers to by id, each as the message that it is, or is part of."""


class ToolName(NamedTuple):
    """A tool as its request names it."""

    name: str
    namespace: str | None
    is_custom: bool


def flat_name(namespace: str | None, name: str) -> str:
    """Return the name under which the upstream knows a tool of a namespace; a long one is cut and made unique."""
    if namespace is None:
        return name
    joined = f"{namespace}{'' if namespace.endswith('__') else '__'}{name}"
    if len(joined) <= UPSTREAM_NAME_CHARACTERS:
        return joined
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return f"{joined[: UPSTREAM_NAME_CHARACTERS - 9]}_{digest}"


class ItemForm(NamedTuple):
    """How the request of an answer wants its items written.

    `summary`: reasoning as summaries. `tools`: its custom tools and those of namespaces, by the names that the upstream
    knows; calls of other names are calls of functions.
    """

    summary: bool
    tools: Mapping[str, ToolName]

    def prefix_of(self, kind: Kind, call: ToolCall | None) -> str:
        """Return the id prefix of the items that hold such parts."""
        if call is not None and kind is Kind.TOOL_CALL and self.tools and self.name_of(call).is_custom:
            return CUSTOM_CALL
        return _PREFIXES.get(kind, MESSAGE)

    def name_of(self, call: ToolCall) -> ToolName:
        """Return the name of the tool that is called."""
        return self.tools.get(call.name) or ToolName(call.name, None, False)


DEFAULT_FORM = ItemForm(False, {})
_PREFIXES = {Kind.REASONING: REASONING, Kind.TOOL_CALL: CALL, Kind.TOOL_RESULT: OUTPUT}
_FORMED = frozenset({Kind.REASONING, Kind.TOOL_CALL})  # kinds whose items depend on the form


# Read


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
    return any(part.kind in _PREFIXES or part.kind is Kind.EXTRA for part in meeting) or len(meeting) < 2


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
        case "compaction":  # of `/v1/responses/compact`, which any upstream with Responses may have
            return _keep_item(item, "compaction", path)
        case kind if keep and isinstance(kind, str) and _TYPE_NAME.fullmatch(kind):
            return _keep_item(item, kind, path)
        case kind:
            name = kind if isinstance(kind, str) and _TYPE_NAME.fullmatch(kind) else "this type"
            raise InvalidRequest.field(f"{path}.type", f"Items of type {name} are not supported.")


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


NEEDS_RESPONSES = (
    "It needs a model API that is asked through Responses (OPENAI_UPSTREAM_API) with CHATAPI_HOSTED_TOOLS=pass."
)


def _file_id(part: dict[str, Any], path: str) -> str:
    return require_text(part["file_id"], f"{path}.file_id")


# Write


class Item(NamedTuple):
    """The parts of a message that form one item, and the item's number in the message.

    `kept` is the item as an upstream sent it: of reasoning, its encrypted form; of a message, its `phase`; of any other
    type, all of it.
    """

    number: int
    prefix: str
    parts: list[Part]
    kept: dict[str, Any] | None = None


def group_parts(parts: tuple[Part, ...], form: ItemForm = DEFAULT_FORM) -> Iterator[Item]:
    """Yield the parts of a message as items."""
    items: list[Item] = []
    phase: dict[str, Any] | None = None  # of the next message
    joins = False  # the last item is a message, and more text belongs to it
    for part in parts:
        if part.kind is Kind.EXTRA:
            for event in read_events(part.text) if part.call is None else ():
                opened = opened_item(event)
                if opened is not None and opened.get("type") == "message":
                    phase, joins = opened, False
                elif _add_kept(items, opened or whole_item(event)):
                    joins = False
            continue
        prefix = form.prefix_of(part.kind, part.call)
        if part.media is not None and items and items[-1].prefix == OUTPUT:
            items[-1].parts.append(part)
            continue
        if joins and prefix == MESSAGE:
            items[-1].parts.append(part)
            continue
        items.append(Item(len(items), prefix, [part], phase if prefix == MESSAGE else None))
        joins = prefix == MESSAGE
        phase = None
    yield from items


def _add_kept(items: list[Item], item: dict[str, Any] | None) -> bool:
    """Add an item as its upstream sent it; return whether there is one."""
    if item is None:
        return False
    last = items[-1] if items else None
    if item.get("type") == "reasoning":
        if last is not None and last.prefix == REASONING and last.kept is None:
            items[-1] = last._replace(kept=item)
        else:
            items.append(Item(len(items), REASONING, [], item))
    elif last is not None and last.prefix == KEPT and last.kept is not None and last.kept.get("id") == item.get("id"):
        items[-1] = last._replace(kept=item)
    else:
        items.append(Item(len(items), KEPT, [], item))
    return True


def find_item(message: Message, name: str) -> NewMessage | None:
    """Return the item of this id as a message of its own; None if the message has no such item."""
    wanted = parse_item_id(name)
    if wanted is None or wanted.message_id != message.id:
        return None
    for item in group_parts(message.parts):
        if item.number == wanted.number and _same_kind(item.prefix, wanted.prefix):
            calls = {part.call for part in item.parts if part.call is not None}
            extras = [part for part in message.parts if part.kind is Kind.EXTRA and part.call in calls]
            if item.kept is not None and item.prefix != MESSAGE:
                extras.append(Part(Kind.EXTRA, encode_item(ANY_ORIGIN, item.kept)))
            return NewMessage(message.role, (*item.parts, *extras))
    return None


def _same_kind(prefix: str, other: str) -> bool:
    """Return whether items of these prefixes may be the same: only its request tells a custom call from another."""
    return prefix == other or {prefix, other} == {CALL, CUSTOM_CALL}


def has_form(message: Message) -> bool:
    """Return whether the items of a message depend on the request that it answers."""
    return message.generation is not None and any(part.kind in _FORMED for part in message.parts)


def items_of(message: Message, form: ItemForm = DEFAULT_FORM) -> list[dict[str, Any]]:
    """Return a stored message as items."""
    generation = message.generation
    last = INCOMPLETE
    if generation is None or generation.status is Status.COMPLETED:
        last = COMPLETED if generation is None or is_whole(generation.finish_reason) else INCOMPLETE
    elif generation.status is Status.RUNNING:
        last = IN_PROGRESS
    return write_items(message.id, message.role, message.parts, last, form)


def is_whole(finish_reason: str | None) -> bool:
    """Return whether an answer that finished for this reason is not cut off."""
    return finish_reason not in {"length", "content_filter"}


def write_items(
    message_id: str, role: Role, parts: tuple[Part, ...], last: str, form: ItemForm = DEFAULT_FORM
) -> list[dict[str, Any]]:
    """Return a message as items.

    Args:
        last: the status of the last item; the others are completed.
    """
    grouped = list(group_parts(parts, form))
    items = [write_item(message_id, role, item, COMPLETED, form) for item in grouped]
    if items and (grouped[-1].prefix != KEPT or last == INCOMPLETE):
        items[-1] = close_item(items[-1], last) if grouped[-1].prefix == KEPT else items[-1] | {"status": last}
    return items


def close_item(item: dict[str, Any], status: str) -> dict[str, Any]:
    """Return an item that is kept as received, at the end of its answer: one that is still open has failed."""
    if status != INCOMPLETE or "status" not in item or str(item["status"]) in {"completed", "failed", "incomplete"}:
        return item
    return item | {"status": INCOMPLETE if item.get("type") == "computer_call" else "failed"}


def write_item(message_id: str, role: Role, item: Item, status: str, form: ItemForm = DEFAULT_FORM) -> dict[str, Any]:
    """Return one item, whole."""
    if item.prefix == KEPT:  # with its own id; items of users have none
        return {"id": item_id(message_id, KEPT, item.number), **(item.kept or {})}
    name = item_id(message_id, item.prefix, item.number)
    first = item.parts[0] if item.parts else Part(Kind.REASONING)
    call = first.call or ToolCall("")
    if item.prefix == REASONING:
        texts = [first.text] if first.text else []
        hidden = encrypted_field(item.kept)
        return {"id": name, "type": "reasoning", **reasoning_fields(texts, form.summary), **hidden, "status": status}
    if item.prefix in {CALL, CUSTOM_CALL}:
        tool = form.name_of(call)
        called = {"call_id": call.id, "name": tool.name} | ({"namespace": tool.namespace} if tool.namespace else {})
        if item.prefix == CUSTOM_CALL:
            return {"id": name, "type": "custom_tool_call", **called, "input": first.text, "status": status}
        return {"id": name, "type": "function_call", **called, "arguments": first.text, "status": status}
    if item.prefix == OUTPUT:
        return {
            "id": name,
            "type": "function_call_output",
            "call_id": call.id,
            "output": first.text if len(item.parts) == 1 else _output_content(item.parts),
            "status": status,
        }
    contents = output_contents(item.parts) if role is Role.ASSISTANT else [_input_content(part) for part in item.parts]
    phase = phase_field(item.kept)
    return {"id": name, "type": "message", "status": status, "role": role.value, "content": contents, **phase}


def encrypted_field(kept: dict[str, Any] | None) -> dict[str, Any]:
    """Return the encrypted content of a reasoning item, if its upstream sent it."""
    return {"encrypted_content": kept["encrypted_content"]} if kept and kept.get("encrypted_content") else {}


def phase_field(kept: dict[str, Any] | None) -> dict[str, Any]:
    """Return the phase of a message, if its upstream sent one."""
    return {"phase": kept["phase"]} if kept and isinstance(kept.get("phase"), str) else {}


def reasoning_fields(texts: list[str], summary: bool) -> dict[str, Any]:
    """Return the fields of a reasoning item that hold its text: as summary parts, or as content parts."""
    if summary:
        return {"summary": [reasoning_part(text, summary) for text in texts]}
    return {"summary": [], "content": [reasoning_part(text, summary) for text in texts]}


def reasoning_part(text: str, summary: bool) -> dict[str, Any]:
    """Return a part of a reasoning item."""
    return {"type": "summary_text" if summary else "reasoning_text", "text": text}


def output_contents(parts: list[Part]) -> list[dict[str, Any]]:
    """Return the content of a model's message. Text that only annotations separate is one part and carries them."""
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
    """Return a text part of a model's message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


_FILE_CITATIONS = frozenset({"file_citation", "container_file_citation", "file_path"})


class _Citation(msgspec.Struct):
    url: str
    title: str = ""
    start_index: int = 0
    end_index: int = 0


def write_annotation(annotation: Any) -> dict[str, Any] | None:
    """Return an annotation in the form of Responses; None for kinds that Responses does not define."""
    if not isinstance(annotation, dict):
        return None
    if str(annotation.get("type")) in _FILE_CITATIONS and isinstance(annotation.get("file_id"), str):
        return annotation
    if annotation.get("type") != "url_citation":
        return None
    try:
        citation = msgspec.convert(annotation.get("url_citation", annotation), _Citation)
    except msgspec.ValidationError:
        return None
    return {"type": "url_citation", **msgspec.to_builtins(citation)}


def _output_content(parts: list[Part]) -> list[dict[str, Any]]:
    """Return the output of a tool that has media: its text first."""
    return [_input_content(part) for part in parts if part.text or part.media is not None]


def _input_content(part: Part) -> dict[str, Any]:
    media = part.media
    if media is None:
        return {"type": "input_text", "text": part.text}
    if part.kind is Kind.IMAGE:
        detail = media.detail if media.detail in _DETAILS else "auto"
        return {"type": "input_image", "image_url": media.url, "file_id": media.file_id, "detail": detail}
    if part.kind is Kind.FILE:
        is_url = media.data is None and media.url is not None and media.url.lower().startswith(("http:", "https:"))
        source = {"file_url": media.url} if is_url else {"file_data": media.data or media.url}
        file = {"file_id": media.file_id, "filename": media.filename, **source}
        return {"type": "input_file", **{name: value for name, value in file.items() if value is not None}}
    # Items of these APIs hold no audio: a word takes its place.
    return {"type": "input_text", "text": f"[audio, {media.format or 'unknown format'}]"}
