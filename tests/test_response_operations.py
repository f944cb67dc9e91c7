"""Counts of input tokens and compaction: over the upstream's Responses, or an error that says that it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from chatapi.simulator import Script, Simulator, scripts
from chatapi.simulator.record import ReceivedRequest
from tests.server_process import OTHER_KEY, Serve, Service

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
        assert ("CHATAPI_SUMMARY_MODEL" in refused.value.message) == (operation == "compact")
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


SUMMARISER = "gpt-4o-mini"
SUMMARY = "They counted to three, in grün."
BEHIND = [{"role": "user", "content": "five"}]


@pytest.fixture(scope="module")
def summarising(serve_module: Serve) -> Service:
    """A server with a model for summaries, before an upstream that has chat completions alone."""
    return serve_module(OPENAI_UPSTREAM_API="chat", CHATAPI_RATE_LIMIT="0", CHATAPI_SUMMARY_MODEL=SUMMARISER)


def summarises(request: ReceivedRequest) -> Script | None:
    return scripts.answer(SUMMARY) if request.body.get("model") == SUMMARISER else None


def fields_of(compacted: Any) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = compacted.model_dump(exclude_none=True, warnings=False)["output"]
    return output


def test_a_summary_compacts_a_conversation_over_chat_completions(
    summarising: Service, upstream: Simulator, key: str, openai_client: Clients
) -> None:
    upstream.script = summarises
    sdk = openai_client(summarising, key)
    developer = {"role": "developer", "content": "Be kind."}
    told = sdk.responses.create(model=MODEL, input=[developer, {"role": "user", "content": "one two three"}])
    compacted = sdk.responses.compact(
        model=MODEL, input="four", instructions="Be brief.", previous_response_id=told.id, prompt_cache_key="a"
    )
    sent = upstream.requests[-1]
    assert (sent.path, sent.body["model"]) == ("/v1/chat/completions", SUMMARISER)
    asked = sent.body["messages"][-1]["content"]
    assert all(text in asked for text in ("Be brief.", "one two three", told.output_text, "four"))
    assert compacted.object == "response.compaction"
    assert compacted.usage.output_tokens > 0
    output = fields_of(compacted)
    assert [item["type"] for item in output] == ["message"] * 3 + ["compaction"]
    assert [item.get("role") for item in output] == ["developer", "user", "user", None]
    assert SUMMARISER in {one["model"] for one in summarising.get("/api/usage?by=model", key=key).json()["data"]}

    continued = sdk.responses.create(model=MODEL, input=[*output, *BEHIND])
    said = [(one["role"], one["content"]) for one in upstream.requests[-1].body["messages"]]
    quoted = f"<summary>\n{SUMMARY}\n</summary>"
    assert [role for role, _ in said] == ["developer", "user", "user", "user", "user"]
    assert quoted in said[3][1], "the user's text, with no more authority"
    assert [text for _, text in said[:3] + said[4:]] == ["Be kind.", "one two three", "four", "five"]
    again = fields_of(sdk.responses.compact(model=MODEL, previous_response_id=continued.id))
    assert quoted in upstream.requests[-1].body["messages"][-1]["content"], "a summary covers the one before it"
    assert SUMMARY not in str(again), "and takes its place"
    assert [item["type"] for item in again] == ["message"] * 4 + ["compaction"]


def test_only_its_own_caller_may_send_a_summary_back_as_it_is(
    summarising: Service, upstream: Simulator, key: str, openai_client: Clients
) -> None:
    texts = iter(range(9))
    upstream.script = lambda _: scripts.answer(f"Summary {next(texts)}")
    sdk = openai_client(summarising, key)
    made = [fields_of(sdk.responses.compact(model=MODEL, input="one"))[-1] for _ in range(9)]
    upstream.script = summarises
    item = made[0]
    sealed = item["encrypted_content"]
    seal, _, rest = sealed.rpartition(".")
    forged = {
        "changed": f"{seal}.{'B' if rest[0] == 'A' else 'A'}{rest[1:]}",
        "cut": sealed[:-4],
        "not base64": f"{seal}.é",
    }
    before = len(upstream.requests)
    for content, sender in [*((one, key) for one in forged.values()), (sealed, OTHER_KEY)]:
        given = [item | {"encrypted_content": content}, *BEHIND]
        refused = summarising.post("/v1/responses", json={"model": MODEL, "input": given}, key=sender)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == "input.0.encrypted_content"
    for path, given, named in (
        ("/v1/responses/compact", [], "input"),
        ("/v1/responses/compact", [{"type": "compaction", "encrypted_content": "opaque"}, *BEHIND], "input"),
        ("/v1/responses", [*made, *BEHIND], "input.8.encrypted_content"),
        ("/v1/responses", [*made[1:2] * 8, *made[2:], *BEHIND], None),
    ):
        sent = summarising.post(path, json={"model": MODEL, "input": given}, key=key)
        assert (sent.status_code == 200) == (named is None), sent.text
        assert named is None or sent.json()["error"]["param"] == named
    assert len(upstream.requests) == before + 1


def test_a_missing_route_is_replaced_by_a_summary_and_a_failure_is_not(
    serve: Serve, simulator: Simulator, key: str, openai_client: Clients
) -> None:
    def refuses(status: int, code: str | None = None) -> Callable[[ReceivedRequest], Script | None]:
        def respond(request: ReceivedRequest) -> Script | None:
            missing = scripts.Refusal(status, "Invalid URL", code=code).script()
            return missing if request.path.endswith("/compact") else summarises(request)

        return respond

    sdk = openai_client(serve(CHATAPI_SUMMARY_MODEL=SUMMARISER), key)
    simulator.script = refuses(404)
    assert fields_of(sdk.responses.compact(model=MODEL, input="one"))[-1]["type"] == "compaction"
    assert [request.path for request in simulator.requests] == ["/v1/responses/compact", "/v1/chat/completions"]
    simulator.script = refuses(404, "model_not_found")
    with pytest.raises(openai.NotFoundError):
        sdk.responses.compact(model=MODEL, input="one")
    assert len(simulator.requests) == 3, "the upstream has the route"
    simulator.script = scripts.Refusal(404, "Invalid URL").script()
    with pytest.raises(openai.APIStatusError) as failed:
        sdk.responses.compact(model=MODEL, input="one")
    assert failed.value.code != "unsupported_by_upstream", "the error is that of the summary"
