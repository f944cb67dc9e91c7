"""An answer of OpenAI's Responses with an item of each hosted tool, as the service sends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatapi.simulator import wire
from chatapi.simulator.response_events import Events

CITED = {"type": "url_citation", "url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 5}
FILED = {"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 3}
IMAGE = "iVBORw0KGgo="
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {
        "type": "search",
        "query": "rain",
        "queries": ["rain"],
        "sources": [{"type": "url", "url": "https://example.org/a"}],
    },
}
FILES = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["rain"], "results": None}
CODE = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "status": "completed",
    "code": "print(1)",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "1"}],
}
DRAWN = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": IMAGE}
LISTED = {
    "id": "mcpl_1",
    "type": "mcp_list_tools",
    "server_label": "docs",
    "tools": [{"name": "look", "input_schema": {"type": "object"}, "description": None, "annotations": None}],
    "error": None,
}
CALLED = {
    "id": "mcp_1",
    "type": "mcp_call",
    "status": "completed",
    "server_label": "docs",
    "name": "look",
    "arguments": '{"at":"it"}',
    "output": "It.",
    "error": None,
    "approval_request_id": None,
}
ASKED = {
    "id": "mcpr_1",
    "type": "mcp_approval_request",
    "server_label": "docs",
    "name": "look",
    "arguments": '{"at":"more"}',
}
ITEMS: list[dict[str, Any]] = [SEARCH, FILES, CODE, DRAWN, LISTED, CALLED, ASKED]
PROGRESS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "ws_1": [(f"response.web_search_call.{step}", {}) for step in ("in_progress", "searching", "completed")],
    "fs_1": [(f"response.file_search_call.{step}", {}) for step in ("in_progress", "searching", "completed")],
    "ci_1": [
        ("response.code_interpreter_call.in_progress", {}),
        ("response.code_interpreter_call_code.delta", {"delta": "print"}),
        ("response.code_interpreter_call_code.delta", {"delta": "(1)"}),
        ("response.code_interpreter_call_code.done", {"code": "print(1)"}),
        ("response.code_interpreter_call.interpreting", {}),
        ("response.code_interpreter_call.completed", {}),
    ],
    "ig_1": [
        ("response.image_generation_call.in_progress", {}),
        ("response.image_generation_call.generating", {}),
        ("response.image_generation_call.partial_image", {"partial_image_b64": IMAGE, "partial_image_index": 0}),
        ("response.image_generation_call.completed", {}),
    ],
    "mcpl_1": [("response.mcp_list_tools.in_progress", {}), ("response.mcp_list_tools.completed", {})],
    "mcp_1": [
        ("response.mcp_call.in_progress", {}),
        ("response.mcp_call_arguments.delta", {"delta": '{"at":"it"}'}),
        ("response.mcp_call_arguments.done", {"arguments": '{"at":"it"}'}),
        ("response.mcp_call.completed", {}),
    ],
    "mcpr_1": [],
}


def frames(*calls: tuple[str, str, list[str]]) -> Iterator[bytes]:
    """Yield the frames: reasoning, each hosted tool, text with citations, the request for approval, and calls of
    functions: the id, the name and the pieces of the arguments of each."""
    events = Events("gpt-5.4-2026-03-05")
    yield events.begin()
    yield from events.reasoning(["Let me ", "look."])
    for item in ITEMS:
        if item is ASKED:
            yield from events.message(["It ", "rains."], annotations=[CITED, FILED])
        begun = {name: value for name, value in item.items() if name not in {"action", "outputs", "result", "output"}}
        yield events.added(begun | ({"status": "in_progress"} if "status" in item else {}))
        for kind, fields in PROGRESS[item["id"]]:
            yield events.progress(kind, item["id"], **fields)
        yield events.done(item)
    for call in calls:
        yield from events.call(*call)
    yield events.end(usage=wire.Usage(10, 20, 5))
