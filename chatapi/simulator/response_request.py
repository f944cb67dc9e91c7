"""Requests of OpenAI's Responses API, checked as the hosted API checks them.

Nothing is stored: a request has the whole conversation, and a reference to an item is refused. Reasoning is sent back
encrypted; the simulator accepts only its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import search
from .response_events import ENCRYPTED

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"  # in `include`


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
    if not _is_reasoning_model(str(body.get("model"))) and ENCRYPTED_REASONING in (body.get("include") or ()):
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


def _is_reasoning_model(name: str) -> bool:
    return name.startswith(("o1", "o3", "o4", "gpt-5"))
