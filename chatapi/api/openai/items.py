"""Items of OpenAI's Responses and Conversations, from stored messages. Pure: values in, values out.

A message is one or more items: a run of text and refusals is a `message`, a run of reasoning a `reasoning`, each tool
call a `function_call`, and the result of one a `function_call_output`. An item's id is derived from its message's id
(see `ids`). `input_items` reads the items that clients send.
"""

from __future__ import annotations

import hashlib
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
    parse_item_id,
)
from chatapi.model import Kind, Message, NewMessage, Part, Role, Status, ToolCall
from chatapi.wire.extras import ANY_ORIGIN
from chatapi.wire.response_events import (
    encode_item,
    opened_item,
    read_events,
    whole_item,
)

UPSTREAM_NAME_CHARACTERS = 64  # of a function's name in chat completions
_DETAILS = ("low", "high", "auto", "original")  # of an image
COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"


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
        return PREFIXES.get(kind, MESSAGE)

    def name_of(self, call: ToolCall) -> ToolName:
        """Return the name of the tool that is called."""
        return self.tools.get(call.name) or ToolName(call.name, None, False)


DEFAULT_FORM = ItemForm(False, {})
PREFIXES = {Kind.REASONING: REASONING, Kind.TOOL_CALL: CALL, Kind.TOOL_RESULT: OUTPUT}
_FORMED = frozenset({Kind.REASONING, Kind.TOOL_CALL})  # kinds whose items depend on the form


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
