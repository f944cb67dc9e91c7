"""Counts of input tokens and compaction: over the upstream's Responses, or an error that says that it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from chatapi.simulator import Simulator, scripts
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("nothing of it is stored or shared")

MODEL = "gpt-4.1-mini"
Clients = Callable[[Service, str], Any]
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
COUNTED = {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"}


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    """A server that asks its upstream through chat completions, unless it must not."""
    return serve_module(CHATAPI_RATE_LIMIT="0")


def test_input_tokens_are_counted_by_the_upstream_with_the_conversation_before(
    service: Service, upstream: Simulator, key: str, openai_client: Clients
) -> None:
    sdk = openai_client(service, key)
    told = sdk.responses.create(model=MODEL, input="one two three")
    count = sdk.responses.input_tokens.count(
        model=MODEL, input="four five", instructions="six", previous_response_id=told.id, tools=[FUNCTION]
    )
    sent = upstream.requests[-1]
    assert sent.path == "/v1/responses/input_tokens"
    assert {*sent.body} == {"model", "input", "instructions", "tools"} < COUNTED
    assert [item["role"] for item in sent.body["input"]] == ["user", "assistant", "user"]
    assert count.input_tokens == len(f"one two three {told.output_text} four five six".split())
    conversation = sdk.conversations.create(items=[{"type": "message", "role": "user", "content": "seven eight"}])
    of_conversation = sdk.responses.input_tokens.count(
        model=MODEL, conversation=conversation.id, input="nine", personality="friendly"
    )
    assert of_conversation.input_tokens == 3
    assert upstream.requests[-1].body["personality"] == "friendly"


def test_a_compacted_conversation_is_continued(
    service: Service, upstream: Simulator, key: str, openai_client: Clients
) -> None:
    sdk = openai_client(service, key)
    told = sdk.responses.create(model=MODEL, input="one two three")
    compacted = sdk.responses.compact(
        model=MODEL, input="four", instructions="Be brief.", previous_response_id=told.id, prompt_cache_key="a"
    )
    sent = upstream.requests[-1]
    assert sent.path == "/v1/responses/compact"
    assert {*sent.body} == {"model", "input", "instructions", "prompt_cache_key"}
    assert [item["role"] for item in sent.body["input"]] == ["user", "assistant", "user"]
    output = compacted.model_dump(exclude_none=True, warnings=False)["output"]
    assert [item["type"] for item in output] == ["message", "message", "compaction"]
    sdk.responses.create(model=MODEL, input=[*output, {"role": "user", "content": "five"}])
    items = upstream.requests[-1].body["input"]
    assert [item.get("content") for item in items] == ["one two three", "four", None, "five"]
    assert items[2]["encrypted_content"] == "opaque-3-items"
    assert upstream.requests[-1].path == "/v1/responses", "chat completions cannot read it"


def operate(sdk: Any, operation: str) -> None:
    if operation == "compact":
        sdk.responses.compact(model=MODEL, input="Hi")
    else:
        sdk.responses.input_tokens.count(model=MODEL, input="Hi")


@pytest.mark.parametrize("operation", ["input_tokens", "compact"])
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(404, None, "unsupported_by_upstream"), (405, None, "unsupported_by_upstream"), (404, "model_not_found", None)],
)
def test_an_upstream_without_the_route_is_an_error_that_says_so(
    service: Service,
    upstream: Simulator,
    key: str,
    openai_client: Clients,
    operation: str,
    status: int,
    code: str | None,
    expected: str | None,
) -> None:
    upstream.script = scripts.Refusal(status, "Invalid URL", code=code).script()
    with pytest.raises(openai.APIStatusError) as refused:
        operate(openai_client(service, key), operation)
    error: Any = refused.value
    if expected is None:
        assert (error.status_code, error.code) == (status, code), "the upstream's own error"
        return
    assert (error.status_code, error.code) == (400, expected)
    assert f"/responses/{operation} (status {status})" in error.message


def test_an_upstream_that_is_asked_through_chat_completions_only_is_not_asked(
    serve: Serve, simulator: Simulator, key: str, openai_client: Clients
) -> None:
    service = serve(OPENAI_UPSTREAM_API="chat")
    for operation in ("input_tokens", "compact"):
        with pytest.raises(openai.BadRequestError) as refused:
            operate(openai_client(service, key), operation)
        assert refused.value.code == "unsupported_by_upstream"
        assert "OPENAI_UPSTREAM_API=responses" in refused.value.message
    compacted = {"type": "compaction", "encrypted_content": "opaque"}
    refused_item = service.post(
        "/v1/responses", json={"input": [compacted, {"role": "user", "content": "Hi"}]}, key=key
    )
    assert (refused_item.status_code, refused_item.json()["error"]["param"]) == (400, "input")
    assert simulator.requests == []


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("compact", {}, "model"),
        ("compact", {"model": MODEL, "tools": []}, "tools"),
        ("compact", {"model": MODEL, "image": {}}, "image"),
        ("input_tokens", {"temperature": 1}, "temperature"),
        ("input_tokens", {"previous_response_id": "resp_unknown"}, "previous_response_id"),
        ("input_tokens", {"conversation": "conv_unknown"}, "conversation"),
        ("input_tokens", {"input": [{"type": "item_reference", "id": "msg_unknown"}]}, "input.0"),
    ],
)
def test_a_field_that_does_not_belong_is_an_error_that_names_it(
    service: Service, upstream: Simulator, key: str, path: str, fields: dict[str, Any], named: str
) -> None:
    before = len(upstream.requests)
    refused = service.post(f"/v1/responses/{path}", json={"input": "Hi"} | fields, key=key)
    assert refused.status_code in {400, 404}
    assert refused.json()["error"]["param"] == named
    assert len(upstream.requests) == before
