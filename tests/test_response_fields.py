"""Every field that OpenAI's client publishes for a response's request is sent on, used here, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
from openai.types.responses import ResponseIncludable
from openai.types.responses.response_create_params import ResponseCreateParamsBase, ResponseCreateParamsStreaming

from chatapi.api.openai.responses.request import RESPONSES_ONLY
from chatapi.simulator import Simulator
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("the fields of a request are those of one process")

FUNCTION: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
LOGPROBS = "message.output_text.logprobs"
SENT: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "context_management": [{"type": "compaction", "compact_threshold": 100_000}],
    "image": {"context_compression": "auto"},
    "include": [name for name in get_args(ResponseIncludable) if name != LOGPROBS],
    "instructions": "Be brief.",
    "max_output_tokens": 99,
    "max_tool_calls": 3,
    "model": "gpt-5.4",
    "moderation": {"model": "omni-moderation-latest"},
    "parallel_tool_calls": False,
    "prompt": {"id": "pmpt_1", "version": "2"},
    "prompt_cache_key": "a",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low", "summary": "auto"},
    "safety_identifier": "b",
    "service_tier": "flex",
    "temperature": 0.5,
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "tool_choice": "auto",
    "tools": [FUNCTION],
    "top_p": 0.5,
    "truncation": "auto",
    "user": "c",
}
USED: dict[str, Any] = {
    "background": False,
    "conversation": None,
    "input": "Hi",
    "metadata": {"a": "b"},
    "previous_response_id": None,
    "store": True,
    "stream": False,
    "stream_options": {"include_obfuscation": False},
}
REFUSED: dict[str, Any] = {"background_options": {}, "top_logprobs": 5}


@pytest.fixture(scope="module")
def translating(serve_module: Serve) -> Service:
    """A server that asks its upstream through Responses alone."""
    return serve_module(OPENAI_UPSTREAM_API="responses", CHATAPI_RATE_LIMIT="0")


def test_no_published_field_is_missing_here() -> None:
    published = {*get_type_hints(ResponseCreateParamsBase), *get_type_hints(ResponseCreateParamsStreaming)}
    assert published == {*SENT, *USED, *REFUSED}, "decide what happens to each new field"


def test_fields_are_sent_as_they_came(translating: Service, upstream: Simulator, key: str) -> None:
    made = translating.post("/v1/responses", json=SENT | USED, key=key)
    assert made.status_code == 200, made.text
    assert {name: upstream.requests[-1].body.get(name) for name in SENT} == SENT
    assert {"metadata", "stream_options"}.isdisjoint(upstream.requests[-1].body)
    assert made.json()["prompt"] == SENT["prompt"]


@pytest.mark.parametrize(("name", "value"), [*REFUSED.items(), ("include", [LOGPROBS])])
def test_a_field_that_cannot_be_served_is_refused_by_name(
    translating: Service, upstream: Simulator, key: str, name: str, value: Any
) -> None:
    before = len(upstream.requests)
    refused = translating.post("/v1/responses", json={"input": "Hi", name: value}, key=key)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert len(upstream.requests) == before


CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}
FILE = {"type": "input_file", "file_url": "https://example.org/a.pdf"}
OUTPUT = {
    "type": "function_call_output",
    "call_id": "c1",
    "output": [{"type": "input_text", "text": "Look"}, IMAGE, FILE],
}
USER = {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}, FILE]}
MEDIA = {
    "input.1.output.0": [CALL, OUTPUT | {"output": [IMAGE]}],
    "input.0.content.0.image_url": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}],
    "input.0.content.0.file_url": [{"role": "user", "content": [FILE]}],
}


def test_media_go_upstream_and_come_back_with_their_items(
    translating: Service, upstream: Simulator, key: str, openai_client: Callable[[Service, str], Any]
) -> None:
    sdk = openai_client(translating, key)
    made = sdk.responses.create(model="gpt-4.1-mini", input=[USER, CALL, OUTPUT])
    sent = upstream.requests[-1].body["input"]
    assert sent[0] == USER
    assert sent[2] == OUTPUT
    listed = [item.model_dump(exclude_none=True) for item in sdk.responses.input_items.list(made.id, order="asc")]
    assert listed[2]["output"] == OUTPUT["output"]
    assert listed[0]["content"][1] == FILE
    sdk.responses.create(model="gpt-4.1-mini", input="again", previous_response_id=made.id)
    assert upstream.requests[-1].body["input"][2] == OUTPUT, "and in the next turn"
    session = translating.get(f"/v1/responses/{made.id}", key=key).headers["X-Session-ID"]
    copied = translating.post(
        "/api/sessions/import", json=translating.get(f"/api/sessions/{session}/export", key=key).json(), key=key
    )
    assert copied.status_code == 201, copied.text
    headers = {"X-ChatAPI-Session-ID": copied.json()["session_id"]}
    sdk.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "copied"}], extra_headers=headers
    )
    assert upstream.requests[-1].body["input"][2] == OUTPUT, "and in a copy"


@pytest.mark.parametrize("name", [*RESPONSES_ONLY, *MEDIA])
def test_without_responses_upstream_they_are_refused_by_name(shared: Service, key: str, name: str) -> None:
    fields = {name: SENT[name], "input": "Hi"} if name in SENT else {"input": MEDIA[name]}
    refused = shared.post("/v1/responses", json=fields, key=key)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert "CHATAPI_HOSTED_TOOLS" in refused.json()["error"]["message"]
