"""The routes of /v1 with OpenAI's JavaScript client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chatapi.simulator import Chunks, Gate, Script, Send, Simulator, refuse, scripts
from chatapi.simulator.wire import DONE
from chatapi.upstream.quirks import RETRIES
from tests import node_clients
from tests.server_process import Serve, Service

pytestmark = pytest.mark.needs_node

MODEL = "gpt-4.1-mini"
HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": HELLO}
NEW = {"X-Session-ID": "new"}
CHUNKS = Chunks()
SESSIONS: list[dict[str, str]] = [{}, NEW]


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@contextmanager
def client(service: Service, key: str, **options: Any) -> Iterator[node_clients.NodeClient]:
    with node_clients.NodeClient("openai.mjs", {"baseURL": f"{service.url}/v1", "apiKey": key, **options}) as script:
        yield script


def said(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def calling() -> Script:
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


@pytest.mark.parametrize("session", SESSIONS)
def test_a_completion_whole_and_in_chunks(service: Service, key: str, session: dict[str, str]) -> None:
    with client(service, key) as openai:
        whole = openai.do("create", body=BODY, headers=session)
        chunks = openai.do("stream", body={**BODY, "stream_options": {"include_usage": True}}, headers=session)
        gathered = openai.do("gather", body=BODY, headers=session)
    message = whole["completion"]["choices"][0]["message"]
    assert "You said: “Hello”" in message["content"]
    assert whole["completion"]["usage"]["total_tokens"] > 0
    assert whole["requestId"] == whole["headers"]["x-request-id"]
    assert said(chunks["chunks"]) == message["content"] == gathered["completion"]["choices"][0]["message"]["content"]
    assert chunks["chunks"][-1]["usage"]["completion_tokens"] > 0
    assert ("x-session-id" in chunks["headers"]) == bool(session)


@pytest.mark.parametrize("session", SESSIONS)
def test_the_client_calls_tools_until_the_final_answer(
    service: Service, upstream: Simulator, key: str, session: dict[str, str]
) -> None:
    if session:  # the client sends the same header with every turn: it must name an existing session
        with service.send("Before.", key=key) as before:
            assert before.text, "read to its end, so that the session is free"
        session = {"X-Session-ID": before.headers["X-Session-ID"]}
    upstream.script = scripts.in_turn(calling(), scripts.answer("Sunny."))
    with client(service, key) as openai:
        ran = openai.do("runTools", body=BODY, headers=session, name="weather", gives="sun in 東京")
    assert ran["content"] == "Sunny.", ran
    assert ran["asked"] == [{"city": "東京"}]
    assert upstream.requests[-1].body["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "sun in 東京",
    }
    if session:
        roles = [message["role"] for message in service.messages(session["X-Session-ID"], key=key)]
        assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant"]


def test_structured_output_is_parsed(service: Service, upstream: Simulator, key: str) -> None:
    with client(service, key) as openai:
        for session in SESSIONS:
            parsed = openai.do("parse", body=BODY, headers=session, fields=["city", "sky"])["parsed"]
            assert parsed.keys() == {"city", "sky"}
            assert upstream.requests[-1].body["response_format"]["json_schema"]["strict"] is True


def test_images_are_passed_on(service: Service, upstream: Simulator, key: str) -> None:
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    ]
    with client(service, key) as openai:
        for session in SESSIONS:
            body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
            assert "error" not in openai.do("create", body=body, headers=session)
            assert upstream.requests[-1].body["messages"][0]["content"] == content


@pytest.mark.parametrize("session", SESSIONS)
def test_each_refusal_has_its_error_class(
    service: Service, upstream: Simulator, key: str, session: dict[str, str]
) -> None:
    classes = {
        400: "BadRequestError",
        401: "AuthenticationError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        409: "ConflictError",
        422: "UnprocessableEntityError",
        429: "RateLimitError",
        500: "InternalServerError",
    }
    with client(service, key) as openai:
        for status, name in classes.items():
            upstream.script = refuse(status, message="No, for a reason.", code="a_reason", retry_after="30")
            for command in ("create", "stream"):
                error = openai.do(command, body=BODY, headers=session)["error"]
                assert (error["class"], error["status"], error["code"]) == (name, status, "a_reason")
                assert error["message"].endswith("No, for a reason.")
                assert error["requestID"]
    with client(service, "sk-wrong") as openai:
        error = openai.do("create", body=BODY)["error"]
        assert (error["class"], error["code"]) == ("AuthenticationError", "invalid_api_key")


@pytest.mark.table
@pytest.mark.parametrize("script", [scripts.without_finish(), scripts.cut_after(), scripts.error_frame()])
@pytest.mark.parametrize("session", SESSIONS)
def test_an_answer_that_breaks_off_is_an_error(
    service: Service, upstream: Simulator, key: str, script: Script, session: dict[str, str]
) -> None:
    upstream.script = script
    with client(service, key) as openai:
        assert openai.do("stream", body=BODY, headers=session)["error"]["class"] == "APIError"


def test_a_temporary_error_is_retried_and_a_busy_session_is_not(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    refused = [refuse(503, retry_after="0.01")] * (1 + RETRIES)  # so often that the server gives up once
    upstream.script = scripts.in_turn(*refused, scripts.held(gate))
    session_id = service.post("/api/sessions", json={"developer_message": "x"}).json()["session_id"]
    with client(service, key, maxRetries=2) as openai, client(service, key, maxRetries=2) as beside:
        began = openai.do("begin", body=BODY, headers={"X-Session-ID": session_id})
        assert (began["content"], began["requests"]) == ("Hello", 2)
        busy = beside.do("create", body=BODY, headers={"X-Session-ID": session_id})
        assert (busy["error"]["class"], busy["error"]["code"]) == ("ConflictError", "session_busy")
        assert busy["requests"] == 1


def test_an_abort_ends_a_stateless_answer_and_not_a_stored_one(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with client(service, key) as openai:
        openai.do("begin", body=BODY)
        openai.do("abort")
        assert upstream.requests[-1].left.wait(1)
        openai.do("begin", body=BODY, headers=NEW)
        kept = upstream.requests[-1]
        openai.do("abort")
        (session,) = service.get("/api/sessions", key=key).json()["data"]
        assert not kept.left.is_set()
        stop = service.post(f"/api/chat/{session['session_id']}/stop", key=key)
        assert (stop.json()["status"], stop.json()["text"]) == ("stopped", "Hello")
        assert kept.left.wait(1)


def test_models_are_listed(service: Service, key: str) -> None:
    with client(service, key) as openai:
        assert MODEL in openai.do("models")["ids"]


def deltas(events: list[Any]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def test_a_response_streams_and_is_resumed_from_every_event(service: Service, key: str) -> None:
    with client(service, key) as openai:
        events = openai.do("respond", body={"model": MODEL, "input": "Count to 5"})["events"]
        assert events[-1]["type"] == "response.completed"
        assert deltas(events) == "1 2 3 4 5"
        response_id = events[0]["response"]["id"]
        for place, event in enumerate(events[:-1]):
            rest = openai.do("follow", id=response_id, after=event["sequence_number"])["events"]
            assert rest[0]["sequence_number"] > event["sequence_number"]
            assert deltas(rest) == deltas(events[place + 1 :]), "for any division into events"
            assert rest[-1] == events[-1]


def test_responses_continue_each_other_and_are_a_conversation(service: Service, key: str) -> None:
    with client(service, key) as openai:
        hello = [{"type": "message", "role": "user", "content": "My name is Ada."}]
        conversation = openai.do("converse", metadata={"topic": "names"}, items=hello)["conversation"]
        asked = {"model": MODEL, "input": "What is my name?", "conversation": conversation["id"]}
        first = openai.do("respondWhole", body=asked)["response"]
        assert "Ada" in first["output"][0]["content"][0]["text"]
        asked = {"model": MODEL, "input": "Count to 3", "previous_response_id": first["id"]}
        assert openai.do("respondWhole", body=asked)["response"]["output"][0]["content"][0]["text"] == "1 2 3"
        items = openai.do("items", id=conversation["id"], limit=2)["items"]
    assert [item["role"] for item in items] == ["user", "user", "assistant", "user", "assistant"]


def test_an_unknown_id_is_a_not_found_error(service: Service, key: str) -> None:
    with client(service, key) as openai:
        error = openai.do("follow", id="resp_none", after=0)["error"]
        assert (error["class"], error["status"]) == ("NotFoundError", 404)
        error = openai.do("items", id="conv_none", limit=2)["error"]
        assert (error["class"], error["status"]) == ("NotFoundError", 404)
