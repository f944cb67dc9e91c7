"""Items of tools that the upstream runs itself, as chunks of a UI message stream. Pure.

A call of such a tool is a dynamic tool part that the provider has executed, with the input from the model and the
output of the tool. A generated image is a file, and a request for an approval a tool part without output: `useChat` has
no part that could carry the answer, so an approval is given through `/v1/responses`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CALL = "_call"
_INPUTS = {
    "web_search_call": ("action",),
    "file_search_call": ("queries",),
    "code_interpreter_call": ("code", "container_id"),
    "image_generation_call": ("action", "size", "quality", "background", "output_format", "revised_prompt"),
    "mcp_call": ("arguments", "server_label"),
    "mcp_list_tools": ("server_label",),
    "mcp_approval_request": ("name", "arguments", "server_label"),
    "computer_call": ("action", "actions", "pending_safety_checks"),
}
_OUTPUTS = {
    "web_search_call": ("status",),
    "file_search_call": ("status", "results"),
    "code_interpreter_call": ("status", "outputs"),
    "image_generation_call": ("status",),
    "mcp_call": ("status", "output"),
    "mcp_list_tools": ("tools",),
}
_FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}


def opening(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunk with which an item begins."""
    if _shown(item):
        yield {"type": "tool-input-start", **_call(item)}


def closing(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a whole item that has begun."""
    if not _shown(item):
        return
    kind = item["type"]
    inputs = {name: item[name] for name in _INPUTS.get(kind, ()) if item.get(name) is not None}
    yield {"type": "tool-input-available", **_call(item), "input": inputs if kind in _INPUTS else _rest(item)}
    if kind in {"mcp_approval_request", "computer_call"}:
        return  # the client has to act
    call = {"toolCallId": item["id"], "providerExecuted": True, "dynamic": True}
    if item.get("error") or item.get("status") == "failed":
        yield {"type": "tool-output-error", **call, "errorText": _error(item.get("error"))}
        return
    outputs = {name: item[name] for name in _OUTPUTS.get(kind, ("status",)) if item.get(name) is not None}
    yield {"type": "tool-output-available", **call, "output": outputs}
    for url, title in _sources(item):
        yield {"type": "source-url", "url": url, **({"title": title} if title else {})}
    if kind == "image_generation_call" and isinstance(item.get("result"), str) and item["result"]:
        media = _FORMATS.get(str(item.get("output_format", "png")), "image/png")
        yield {"type": "file", "url": f"data:{media};base64,{item['result']}", "mediaType": media}


def _shown(item: dict[str, Any]) -> bool:
    return str(item.get("type")) not in {"message", "reasoning"} and isinstance(item.get("id"), str)


def _call(item: dict[str, Any]) -> dict[str, Any]:
    kind = str(item.get("type", ""))
    name = item.get("name") if kind == "mcp_call" and isinstance(item.get("name"), str) else kind.removesuffix(_CALL)
    return {"toolCallId": item["id"], "toolName": name, "providerExecuted": True, "dynamic": True}


def _rest(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"id", "type", "status"} and value is not None}


def _error(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else "The tool failed."


def _sources(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield address and title of the sources that a web search names."""
    action = item.get("action")
    sources = action.get("sources") if isinstance(action, dict) else None
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and isinstance(source.get("url"), str):
            title = source.get("title")
            yield source["url"], title if isinstance(title, str) else ""
