"""Requests as clients that people use send them: fields and headers that differ from what OpenAI's own clients send."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatapi.auth.keys import Key, KeyPolicy, make_demo_key, redact
from chatapi.simulator import Gate, Simulator, refuse, scripts
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("a dialect's fields do not depend on the store")

ATTEMPT = "x-stainless-retry-count"


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


# assistant-ui


def assistant_ui(**fields: Any) -> dict[str, Any]:
    """The body that assistant-ui's transport for the Vercel AI SDK sends."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Count to 2"}]}
    return {"id": "chat", "messages": [message], "trigger": "submit-message", "metadata": {}, **fields}


def test_tools_may_be_an_object_by_name(server: Service, upstream: Simulator, key: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    body = assistant_ui(
        system="Be brief.",
        tools={"weather": {"description": "The weather", "parameters": schema}},
        callSettings={"maxTokens": 50, "temperature": 0.5, "headers": {"x": "y"}},
        config={"modelName": "gpt-4.1", "apiKey": "ignored", "baseUrl": "http://ignored"},
    )
    assert server.post("/api/chat", json=body, key=key).status_code == 200
    sent = upstream.requests[-1].body
    function = {"name": "weather", "description": "The weather", "parameters": schema}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert (sent["max_tokens"], sent["temperature"], sent["model"]) == (50, 0.5, "gpt-4.1")
    assert sent["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize("tools", [{}, [], None], ids=str)
def test_no_tools_are_not_sent_upstream(server: Service, upstream: Simulator, key: str, tools: Any) -> None:
    assert server.post("/api/chat", json=assistant_ui(tools=tools), key=key).status_code == 200
    assert "tools" not in upstream.requests[-1].body


def test_the_own_fields_of_a_page_take_precedence(server: Service, upstream: Simulator, key: str) -> None:
    body = assistant_ui(callSettings={"temperature": 0.5}, temperature=0.1, config={"modelName": "a"}, model="gpt-4.1")
    assert server.post("/api/chat", json=body, key=key).status_code == 200
    assert (upstream.requests[-1].body["temperature"], upstream.requests[-1].body["model"]) == (0.1, "gpt-4.1")


# Retries of OpenAI's SDKs


def test_a_retry_attaches_to_the_answer_that_runs(server: Service, upstream: Simulator, gate: Gate, key: str) -> None:
    upstream.script = scripts.held(gate)
    asked = len(upstream.requests)
    body = {"model": "gpt-4.1-mini", "input": "Hello"}

    def create(attempt: int) -> dict[str, Any]:
        answer = server.post("/v1/responses", json=body, key=key, headers={ATTEMPT: str(attempt)})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    with ThreadPoolExecutor(3) as clients:
        first = clients.submit(create, 0)
        upstream.wait_for_requests(asked + 1)
        retries = [clients.submit(create, attempt) for attempt in (1, 2)]
        gate.open()
        ids = {one.result()["id"] for one in (first, *retries)}
    assert len(ids) == 1
    assert len(upstream.requests) == asked + 1


def test_the_same_request_again_is_another_one(server: Service, upstream: Simulator, key: str) -> None:
    body = {"model": "gpt-4.1-mini", "input": "Hello"}
    ids = {server.post("/v1/responses", json=body, key=key, headers={ATTEMPT: "0"}).json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_retry_of_a_failed_attempt_asks_again(server: Service, upstream: Simulator, key: str) -> None:
    body = {"model": "gpt-4.1-mini", "input": "Hello"}
    upstream.script = refuse(400)
    assert server.post("/v1/responses", json=body, key=key, headers={ATTEMPT: "0"}).status_code == 400
    upstream.script = None
    assert server.post("/v1/responses", json=body, key=key, headers={ATTEMPT: "1"}).status_code == 200


# Keys of other forms


@pytest.mark.parametrize(
    "text",
    [
        "gsk_abcdefghijklmnop",
        "hf_abcdefghijklmnop",
        "AIzaSyAbcdefghijklmnop",
        "xai-abcdefghijklmnop",
        "0123456789abcdef0123456789abcdef",
        "Bearer abcdefghij.klmn",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "sk_live_abcdefghij",
    ],
)
def test_keys_of_other_model_apis_are_redacted(text: str) -> None:
    assert "[redacted]" in redact(f"path /x/{text} end")
    assert text not in redact(f"path /x/{text} end")


@pytest.mark.parametrize("pattern", [r"[A-Za-z0-9_-]{20,}", r".{8,}"])
def test_a_wide_pattern_leaves_ids_readable(pattern: str) -> None:
    name = "01k8g2kbvvaFu9b0CCzfu-gIyX4IhIlQ"
    for prefix in ("req", "ses", "msg", "gen"):
        assert KeyPolicy(pattern).redact(f"{prefix}_{name}") == f"{prefix}_{name}"


def test_other_spellings_of_a_key_are_hidden() -> None:
    key = Key("My/Gateway+Key-1234567890abcdef==")
    for text in (
        "My/Gateway+Key-1234567890abcdef==",
        "my/gateway+key-1234567890ABCDEF",
        "My%2FGateway%2BKey-1234567890abcdef%3D%3D",
        "TXkvR2F0ZXdheStLZXktMTIzNDU2Nzg5MGFiY2RlZj09",
        "Key-1234567890abc",
    ):
        assert "1234567890" not in key.hide(f"the key {text} is wrong")
        assert "TXkvR2F0" not in key.hide(f"the key {text} is wrong")
    assert key.hide("The key is wrong.") == "The key is wrong."


def test_each_demo_has_its_own_key() -> None:
    first, second = make_demo_key(), make_demo_key()
    assert first != second
    assert KeyPolicy().check(Key(first))
