"""Request bodies that no client should send: every dialect answers with an error that names the field, never a 500.

`FUZZ_EXAMPLES=5000 ./run test tests/test_request_bodies.py` runs the fuzzer for longer than the suite does.
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatapi.api.http import request_body
from chatapi.api.http.request_body import parse
from chatapi.errors import InvalidRequest
from chatapi.simulator import Simulator, scripts
from tests.openai_sdk import MODEL
from tests.server_process import KEY, Serve, Service

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))  # of each route
HALF = "\ud83d"  # half a surrogate pair
FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
ITEMS: list[Any] = [
    {"type": "message", "role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "Hello"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ],
    },
    {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm"}],
        "content": [{"type": "reasoning_text", "text": "Hm"}],
        "encrypted_content": None,
    },
    {
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "No"},
        ],
    },
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "done"}]},
    {"role": "user", "content": "And now?"},
]
CHAT_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "name": "ada",
        "content": [
            {"type": "text", "text": "Hello"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ],
    },
    {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
    {"role": "user", "content": "And now?"},
]
COMPLETION: dict[str, Any] = {
    "model": MODEL,
    "messages": MESSAGES,
    "tools": [CHAT_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream": False,
    "stream_options": {"include_usage": True},
    "metadata": {"a": "b"},
    "n": 1,
    "stop": ["x"],
    "temperature": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
}
RESPONSE: dict[str, Any] = {
    "model": MODEL,
    "input": ITEMS,
    "instructions": "Be kind.",
    "tools": [FUNCTION],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "parallel_tool_calls": True,
    "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "stream": False,
    "temperature": 1,
    "max_output_tokens": 100,
    "stream_options": {"include_obfuscation": False},
}
USE_CHAT: dict[str, Any] = {
    "id": "chat-1",
    "trigger": "submit-message",
    "messages": [
        {
            "id": "m1",
            "role": "user",
            "parts": [
                {"type": "text", "text": "Hello"},
                {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA", "filename": "a.png"},
            ],
            "metadata": {"a": 1},
        }
    ],
}
CHAT: dict[str, Any] = {
    "developer_message": "Be brief.",
    "user_message": "Hello",
    "model": MODEL,
    "temperature": 1,
    "stop": ["x"],
    "stream": False,
    "attachments": [{"type": "image", "url": "data:image/png;base64,AAAA"}],
}
ROUTES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "completion": ("/v1/chat/completions", COMPLETION, {}),
    "completion in a session": ("/v1/chat/completions", COMPLETION, {"X-ChatAPI-Session-ID": "new"}),
    "response": ("/v1/responses", RESPONSE, {}),
    "conversation": ("/v1/conversations", {"metadata": {"a": "b"}, "items": ITEMS}, {}),
    "chat": ("/api/chat", CHAT, {}),
    "useChat": ("/api/chat", USE_CHAT, {}),
    "session": ("/api/sessions", {"developer_message": "Be brief."}, {}),
}
JUNK: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, "", "x", "\0", HALF, f"a{HALF}b", "x" * 300, [], {}, [[]], [None], [[], {}],
    {"": ""}, {HALF: HALF}, {"type": ["x"]}, {"type": {"a": 1}}, {"type": "item_reference", "id": "msg_1"}, ["auto"],
    "\u2028",
]  # fmt: skip


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def post(service: Service, path: str, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
    headers = {"Content-Type": "application/json"} | (headers or {})
    return service.post(path, key=KEY, data=json.dumps(body).encode(), headers=headers)


def with_deep(value: dict[str, Any], depth: int) -> dict[str, Any]:
    deep: Any = "x"
    for _ in range(depth):
        deep = [deep]
    return value | {"metadata": deep}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": [{"type": "reasoning", "summary": 5}]}, "input.0.summary"),
        ({"input": [{"type": "reasoning", "content": True}]}, "input.0.content"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input.0.summary"),
        ({"input": [{"type": ["message"]}]}, "input.0.type"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": {"a": 1}, "content": "x"}]}, "input.0.role"),
        ({"tool_choice": {"type": "allowed_tools", "mode": ["auto"], "tools": []}}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": 5}}, "tool_choice.tools"),
        ({"text": {"verbosity": ["low"]}}, "text.verbosity"),
        ({"text": {"format": {"type": ["text"]}}}, "text.format.type"),
        ({"tools": [{**FUNCTION, "name": HALF}]}, "tools.0.name"),
        ({"tools": [{**FUNCTION, "description": HALF}]}, "tools.0.description"),
        ({"tools": [{**FUNCTION, "parameters": {"properties": {HALF: {}}}}]}, "tools.0.parameters.properties"),
        ({"tool_choice": {"type": "function", "name": HALF}}, "tool_choice.name"),
        ({"conversation": HALF}, "conversation"),
        ({"conversation": {"id": HALF}}, "conversation.id"),
        ({HALF: 1}, "body"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"a": [HALF]}}}},
         "text.format.schema.a.0"),
        ({"include": [HALF]}, "include.0"),
        ({"input": [{"type": "item_reference", "id": HALF}]}, "input.0.id"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_or_half_a_surrogate_is_named(shared: Service, more: Any, param: str) -> None:
    answer = post(shared, "/v1/responses", {"model": MODEL, "input": "x", **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_a_conversation_with_half_a_surrogate_is_refused(shared: Service) -> None:
    for body, param in (({"metadata": {HALF: "x"}}, "metadata"), ({"items": [{"a": HALF}]}, "items.0.a")):
        answer = post(shared, "/v1/conversations", body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_whole_surrogate_pairs_are_text(shared: Service) -> None:
    body = b'{"model": "gpt-4.1-mini", "input": "\\ud83d\\udc4b", "metadata": {"\\ud83d\\udc4b": "\\\\ud83d"}}'
    answer = shared.post("/v1/responses", key=KEY, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"] == {"👋": "\\ud83d"}


@pytest.mark.parametrize("depth", [60, 400, 800, 950, 1100])
@pytest.mark.parametrize("route", ROUTES)
def test_deep_bodies_are_served_or_refused(shared: Service, route: str, depth: int) -> None:
    path, body, headers = ROUTES[route]
    try:
        data = json.dumps(with_deep(body, depth)).encode()
    except RecursionError:
        data = b'{"metadata":' + b"[" * depth + b"]" * depth + b"}"
    answer = shared.post(path, key=KEY, data=data, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code < 500, answer.text


def test_more_items_and_parts_than_a_request_takes_are_refused(shared: Service) -> None:
    user = {"role": "user", "content": "x"}
    parts = {"role": "user", "content": [{"type": "input_text", "text": ""}] * 8_001}
    for items in ([user] * 8_001, [parts]):
        answer = post(shared, "/v1/responses", {"model": MODEL, "input": items, "store": False})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    chat_parts = {"role": "user", "content": [{"type": "text", "text": ""}] * 8_001}
    answer = post(
        shared, "/v1/chat/completions", {"model": MODEL, "messages": [chat_parts]}, {"X-ChatAPI-Session-ID": "new"}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


# Fuzzer


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        names = list(value) if isinstance(value, dict) else range(len(value))
        for name in names:
            found += places(value[name], (*path, name))
    return found


@st.composite
def mutated(draw: st.DrawFn, template: dict[str, Any]) -> dict[str, Any]:
    """A body that is valid but for one to three changes."""
    body = copy.deepcopy(template)
    for _ in range(draw(st.integers(1, 3))):
        paths = places(body)
        if not paths:
            break
        *outer, name = draw(st.sampled_from(paths))
        holder: Any = body
        for step in outer:
            holder = holder[step]
        match draw(st.sampled_from(["replace", "replace", "remove", "wrap", "rename", "add"])):
            case "replace":
                holder[name] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            case "remove":
                del holder[name]
            case "wrap":
                holder[name] = [holder[name]]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "x", HALF, "type", "id"]))] = holder.pop(name)
            case _:
                junk = copy.deepcopy(draw(st.sampled_from(JUNK)))
                if isinstance(holder, dict):
                    holder[draw(st.sampled_from(["x", "id", "type", "role", "content", HALF]))] = junk
                else:
                    holder.append(junk)
    return body


@pytest.mark.table
@pytest.mark.parametrize("route", ROUTES)
def test_a_mutated_body_is_never_a_server_error(service: Service, upstream: Simulator, route: str) -> None:
    path, template, headers = ROUTES[route]
    seen = len(service.log)
    upstream.script = scripts.answer("Hello")  # whatever it is asked

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 40, suppress_health_check=list(HealthCheck))
    @given(mutated(template))
    def check(body: dict[str, Any]) -> None:
        answer = post(service, path, body, headers)
        assert answer.status_code != 500, answer.text
        if path.startswith("/v1/") and answer.status_code >= 400:
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}

    check()
    assert not [line for line in service.log[seen:] if "unforeseen" in line]


TEXT = st.text(st.sampled_from('\\",:[{}x\nè'), max_size=6)
VALUES = st.recursive(TEXT | st.integers(), lambda of: st.lists(of, max_size=4) | st.dictionaries(TEXT, of, max_size=4))


@given(VALUES, st.booleans(), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_the_values_of_a_body_are_counted_exactly(value: Any, ascii_only: bool, slice_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_body, "SLICE_BYTES", slice_bytes)
        check_value_count(value, ascii_only)


def check_value_count(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = marks(value)
    assert parse(data, max_values=count) == value
    if count:
        with pytest.raises(InvalidRequest):
            parse(data, max_values=count - 1)


def marks(value: Any) -> int:
    """Return the number of commas, colons and opening brackets in a value's JSON."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    colons = len(value) if isinstance(value, dict) else 0
    return 1 + colons + max(0, len(value) - 1) + sum(map(marks, inner))
