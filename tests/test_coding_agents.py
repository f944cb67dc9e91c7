"""Requests of coding agents, as they send them: Codex CLI on /v1/responses, opencode on /v1/chat/completions.

The bodies are written from the public protocols of these programs, with all the fields that they send.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import requests

from chatapi.simulator import Chunks, Script, Send, Simulator, scripts
from chatapi.simulator.wire import DONE
from tests.openai_sdk import MODEL
from tests.server_process import KEY, Serve, Service
from tests.test_response_events import events_in

CHUNKS = Chunks()
PATCH = '*** Begin Patch\n+ä "x"\n*** End Patch'
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": False}
FUNCTION = {"type": "function", "description": "d", "strict": False, "parameters": SCHEMA}
SHELL = FUNCTION | {"name": "shell"}
APPLY_PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edit files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
FILES = {
    "type": "namespace",
    "name": "mcp__files__",
    "description": "Tools in the files namespace.",
    "tools": [FUNCTION | {"name": "read"}, FUNCTION | {"name": "x" * 80}],
}
CODEX: dict[str, Any] = {
    "model": MODEL,
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    ],
    "tools": [SHELL, APPLY_PATCH, FILES],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto", "context": "all_turns"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "service_tier": "default",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "0199a213"},
}
CODEX_HEADERS = {"Accept": "text/event-stream", "originator": "codex_cli_rs", "session_id": "0199a213-81c0"}


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture(scope="module")
def omitting(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_HOSTED_TOOLS="omit")


def ask(service: Service, body: dict[str, Any]) -> requests.Response:
    return service.post("/v1/responses", key=KEY, json=body, headers=CODEX_HEADERS)


def custom_call(index: int, **custom: Any) -> Send:
    """A chunk of a custom tool's call."""
    frame = json.loads(CHUNKS.content("x")[6:])
    identity = {"id": f"call_{index}", "type": "custom"} if "name" in custom else {}
    frame["choices"][0]["delta"] = {"tool_calls": [{"index": index, **identity, "custom": custom}]}
    return Send(b"data: %b\n\n" % json.dumps(frame).encode())


def calling() -> Script:
    """Reasoning, a call of a namespace's function, and a call of a custom tool."""
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.reasoning("I read it first.")),
        Send(CHUNKS.tool_call(0, id="call_0", name="mcp__files__read", arguments='{"path":"a"}')),
        custom_call(1, name="apply_patch", input=""),
        custom_call(1, input=PATCH[:20]),
        custom_call(1, input=PATCH[20:]),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


@pytest.mark.parametrize("kept", [False, True])
def test_codex_calls_its_tools_and_sends_their_results(service: Service, upstream: Simulator, kept: bool) -> None:
    body = copy.deepcopy(CODEX) | {"store": kept}
    upstream.script = calling()
    answer = ask(service, body)
    assert answer.status_code == 200, answer.text
    sent = upstream.requests[-1].body
    functions = [tool.get("function") or tool["custom"] for tool in sent["tools"]]
    assert [tool["type"] for tool in sent["tools"]] == ["function", "custom", "function", "function"]
    assert [one["name"] for one in functions][:3] == ["shell", "apply_patch", "mcp__files__read"]
    assert len(functions[3]["name"]) == 64, "no upstream takes more"
    assert functions[1]["format"] == {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /.+/"}}
    assert (sent["reasoning_effort"], sent["verbosity"], "client_metadata" in sent) == ("medium", "low", False)

    events = events_in(answer.content)
    output = events[-1]["response"]["output"]
    reasoning, read, patch = output
    assert reasoning["summary"] == [{"type": "summary_text", "text": "I read it first."}]
    assert (read["type"], read["namespace"], read["name"]) == ("function_call", "mcp__files__", "read")
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", PATCH)
    assert events[-1]["response"]["tools"] == [SHELL, APPLY_PATCH, FILES]
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH
    (done,) = [event for event in events if event["type"] == "response.custom_tool_call_input.done"]
    assert (done["input"], done["item_id"]) == (PATCH, patch["id"])
    if kept:
        stored = service.get(f"/v1/responses/{events[-1]['response']['id']}", key=KEY).json()
        assert stored["output"] == output

    upstream.script = scripts.answer("Done.")
    body["input"] += [
        *output,
        {"type": "function_call_output", "call_id": "call_0", "output": "text"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "patched"},
    ]
    assert ask(service, body).status_code == 200
    messages = upstream.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["developer", "developer", "user", "assistant", "tool", "tool"]
    first, second = messages[3]["tool_calls"]
    assert first["function"] == {"name": "mcp__files__read", "arguments": '{"path":"a"}'}
    assert (second["type"], second["custom"]) == ("custom", {"name": "apply_patch", "input": PATCH})
    assert [(one["tool_call_id"], one["content"]) for one in messages[4:]] == [
        ("call_0", "text"),
        ("call_1", "patched"),
    ]

    if kept:  # the same by reference
        references = [{"type": "item_reference", "id": item["id"]} for item in output]
        body["input"] = [CODEX["input"][1], *references, *body["input"][-2:]]
        assert ask(service, body).status_code == 200
        assert upstream.requests[-1].body["messages"][2:] == messages[3:]


def test_hosted_tools_are_rejected_or_omitted_and_listed(
    service: Service, omitting: Service, upstream: Simulator
) -> None:
    body = copy.deepcopy(CODEX)
    body["tools"] += [{"type": "web_search", "external_web_access": False}, {"type": "web_search"}]
    refused = ask(service, body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.3.type")
    assert "CHATAPI_HOSTED_TOOLS" in refused.json()["error"]["message"]
    for stream, store in ((True, False), (False, False), (True, True), (False, True)):
        answer = ask(omitting, body | {"stream": stream, "store": store})
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Omitted-Tools"] == "web_search"
        assert len(upstream.requests[-1].body["tools"]) == 4
    assert "X-Omitted-Tools" not in ask(omitting, CODEX).headers


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "namespace", "name": "a", "description": "d", "tools": 5}], "tools.0.tools"),
        ([{"type": "namespace", "name": ["a"], "tools": []}], "tools.0.name"),
        ([{"type": "namespace", "name": "a", "tools": [{"type": "web_search"}]}], "tools.0.tools.0.type"),
        ([SHELL, SHELL], "tools.1.name"),
        ([APPLY_PATCH | {"format": {"type": "grammar", "syntax": "lark"}}], "tools.0.format.definition"),
        ([APPLY_PATCH | {"format": {"type": ["text"]}}], "tools.0.format.type"),
        ([FILES | {"tools": [FUNCTION | {"name": f"f{n}"} for n in range(257)]}], "tools"),
    ],
)
def test_malformed_tools_are_named(service: Service, tools: Any, param: str) -> None:
    answer = ask(service, CODEX | {"tools": tools})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_opencode_is_stateless_whatever_session_it_names(service: Service, upstream: Simulator) -> None:
    body = {
        "model": MODEL,
        "max_tokens": 32_000,
        "messages": [
            {"role": "system", "content": "You are a coding agent."},
            {"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
        ],
        "tools": [{"type": "function", "function": {"name": "read", "description": "d", "parameters": SCHEMA}}],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    session = "ses_61f2c0b3effe7Jq0h8s2TtP4Xz"
    headers = {"X-Session-ID": session, "x-opencode-session": session, "x-opencode-request": "msg_9e0d3f4c1"}
    answer = service.post("/v1/chat/completions", key=KEY, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert upstream.requests[-1].body == body
    assert "X-Session-ID" not in answer.headers
