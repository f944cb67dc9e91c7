"""The tools of a request: as its response repeats them, and as the upstream takes them.

Chat completions have one flat list of functions and custom tools. So the functions of a namespace get its name as a
prefix, which is taken off again from the calls. Hosted tools, which the model API itself runs, are passed on to an
upstream that is asked through Responses, and refused or left out for any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from chatapi.api.openai.items import ToolName, flat_name
from chatapi.errors import InvalidRequest
from chatapi.wire.json_values import optional_text, require_list, require_object, require_text

MAX_TOOLS = 256  # in one request, those in namespaces included
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SECRETS = frozenset({"authorization", "headers"})  # of MCP servers: sent upstream, and neither stored nor shown
_TYPE_NAME = re.compile(r"[a-z0-9_]{1,40}")  # a type that an error or a header may repeat to its sender


class Tools(msgspec.Struct):
    """Tools, read. `hosted` are passed on as they are; `omitted` are the types of those that were left out."""

    repeated: list[dict[str, Any]] = msgspec.field(default_factory=list)
    upstream: list[dict[str, Any]] = msgspec.field(default_factory=list)
    hosted: list[dict[str, Any]] = msgspec.field(default_factory=list)
    omitted: list[str] = msgspec.field(default_factory=list)
    names: set[str] = msgspec.field(default_factory=set)  # of `upstream`


Hosted = Literal["pass", "reject", "omit"]
"""What happens to hosted tools."""


def read_tools(values: list[Any], hosted: Hosted) -> Tools:
    """Read tools. Those of types function, custom and namespace are checked; any other is a hosted one.

    Raises:
        InvalidRequest: a value is invalid, or a type is not supported; the error names it.
    """
    tools = Tools()
    for index, value in enumerate(values):
        path = f"tools.{index}"
        tool = require_object(value, path)
        kind = tool.get("type")
        if kind == "namespace":
            tools.repeated.append(_read_namespace(tool, path, tools))
        elif kind in ("function", "custom"):
            tools.repeated.append(_read_tool(tool, path, None, tools))
        elif hosted != "reject" and isinstance(kind, str) and _TYPE_NAME.fullmatch(kind):
            if hosted == "omit":
                tools.omitted.append(kind)
            else:
                tools.hosted.append(tool)
                tools.repeated.append({name: value for name, value in tool.items() if name not in _SECRETS})
        else:
            raise InvalidRequest.field(f"{path}.type", unsupported(kind))
        if len(tools.upstream) + len(tools.hosted) > MAX_TOOLS:
            raise InvalidRequest.field("tools", f"Must have at most {MAX_TOOLS} tools in all.")
    return tools


def _read_namespace(tool: dict[str, Any], path: str, tools: Tools) -> dict[str, Any]:
    namespace = _read_name(tool.get("name"), f"{path}.name")
    description = optional_text(tool.get("description"), f"{path}.description") or ""
    inner = []
    for index, value in enumerate(require_list(tool.get("tools"), f"{path}.tools")):
        place = f"{path}.tools.{index}"
        one = require_object(value, place)
        if one.get("type") not in ("function", "custom"):
            raise InvalidRequest.field(f"{place}.type", "Must be function or custom.")
        inner.append(_read_tool(one, place, namespace, tools))
    return {"type": "namespace", "name": namespace, "description": description, "tools": inner}


def _read_tool(tool: dict[str, Any], path: str, namespace: str | None, tools: Tools) -> dict[str, Any]:
    """Add a function or a custom tool to those for the upstream, and return it as the response repeats it."""
    is_custom = tool.get("type") == "custom"
    repeated = _custom(tool, path) if is_custom else _function(tool, path)
    name = flat_name(namespace, repeated["name"])
    if name in tools.names:
        raise InvalidRequest.field(f"{path}.name", "Must differ from the names of all other tools.")
    tools.names.add(name)
    inner = {field: value for field, value in repeated.items() if value is not None and field != "type"}
    inner["name"] = name
    if is_custom and inner["format"]["type"] == "grammar":
        grammar = {field: inner["format"][field] for field in ("syntax", "definition")}
        inner["format"] = {"type": "grammar", "grammar": grammar}
    kind = repeated["type"]
    tools.upstream.append({"type": kind, kind: inner})
    return repeated


def _function(tool: dict[str, Any], path: str) -> dict[str, Any]:
    parameters, strict = tool.get("parameters"), tool.get("strict")
    if parameters is not None:
        require_object(parameters, f"{path}.parameters")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidRequest.field(f"{path}.strict", "Must be true or false.")
    return {
        "type": "function",
        "name": _read_name(tool.get("name"), f"{path}.name"),
        "description": optional_text(tool.get("description"), f"{path}.description"),
        "parameters": parameters,
        "strict": strict,
    }


def _custom(tool: dict[str, Any], path: str) -> dict[str, Any]:
    form = require_object(tool.get("format") or {"type": "text"}, f"{path}.format")
    match form.get("type"):
        case "text":
            written = {"type": "text"}
        case "grammar":
            fields = ("syntax", "definition")
            written = {name: require_text(form.get(name), f"{path}.format.{name}") for name in fields}
            written["type"] = "grammar"
        case _:
            raise InvalidRequest.field(f"{path}.format.type", "Must be text or grammar.")
    name = _read_name(tool.get("name"), f"{path}.name")
    description = optional_text(tool.get("description"), f"{path}.description")
    described = {"description": description} if description is not None else {}
    return {"type": "custom", "name": name, **described, "format": written}


def _read_name(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequest.field(path, "Must be 1 to 128 letters, digits, underscores, dots and dashes.")
    return value


def unsupported(kind: Any) -> str:
    """Return the error for a tool of a type that does not exist here."""
    name = kind if isinstance(kind, str) and _TYPE_NAME.fullmatch(kind) else "of this type"
    return (
        f"The tool {name} is not supported: the model API runs no tools of its own here. Use tools of type function, "
        "custom or namespace; the operator may have hosted tools passed on or left out with CHATAPI_HOSTED_TOOLS."
    )


def tool_names(repeated: list[dict[str, Any]]) -> dict[str, ToolName]:
    """Return the custom tools and those of namespaces, by the names under which the upstream calls them.

    Args:
        repeated: the tools as a response repeats them.
    """
    return {flat_name(name.namespace, name.name): name for name in _tool_names(repeated, None)}


def _tool_names(tools: list[dict[str, Any]], namespace: str | None) -> Iterator[ToolName]:
    for tool in tools:
        if tool["type"] == "namespace":
            yield from _tool_names(tool["tools"], tool["name"])
        elif tool["type"] == "custom" or namespace is not None:
            yield ToolName(tool["name"], namespace, tool["type"] == "custom")


def names_hosted(choice: Any) -> bool:
    """Return whether a tool choice names a hosted tool."""
    if not isinstance(choice, dict):
        return False
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        return any(names_hosted(tool) for tool in choice["tools"])
    kind = choice.get("type")
    return isinstance(kind, str) and kind not in _OWN and _TYPE_NAME.fullmatch(kind) is not None


_OWN = frozenset({"function", "custom", "allowed_tools"})


def read_tool_choice(value: Any) -> Any:
    """Return a tool choice as chat completions take it.

    Raises:
        InvalidRequest: it names no function or custom tool.
    """
    if isinstance(value, str) and value in {"none", "auto", "required"}:
        return value
    if not isinstance(value, dict):
        raise InvalidRequest.field("tool_choice", "Must be none, auto, required, or an object that names a function.")
    if value.get("type") == "allowed_tools":
        mode = value.get("mode")
        if mode not in ("auto", "required"):
            raise InvalidRequest.field("tool_choice.mode", "Must be auto or required.")
        tools = require_list(value.get("tools"), "tool_choice.tools")
        named = [_named_tool(tool, f"tool_choice.tools.{index}") for index, tool in enumerate(tools)]
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}
    if value.get("type") not in ("function", "custom"):
        raise InvalidRequest.field("tool_choice", unsupported(value.get("type")))
    return _named_tool(value, "tool_choice")


def _named_tool(value: Any, path: str) -> dict[str, Any]:
    choice = require_object(value, path)
    kind = choice.get("type")
    if kind not in ("function", "custom"):
        raise InvalidRequest.field(f"{path}.type", "Must be function or custom.")
    namespace = choice.get("namespace")
    if namespace is not None:
        namespace = _read_name(namespace, f"{path}.namespace")
    return {"type": kind, kind: {"name": flat_name(namespace, _read_name(choice.get("name"), f"{path}.name"))}}
