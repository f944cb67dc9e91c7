"""The Vercel AI SDK on a running server: the Chat and the transports that `useChat` uses."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from chatapi.api.vercel.stream import VercelEncoder
from chatapi.model import Generation, Kind, Message, Microseconds, Part, Piece, Role, Status, ToolCall
from chatapi.simulator import Chunks, Gate, Script, Send, Simulator, Wait, refuse, scripts
from chatapi.simulator.wire import DONE
from tests import node_clients
from tests.cluster import Cluster
from tests.server_process import OTHER_KEY, Serve, Service, fresh_key

pytestmark = pytest.mark.needs_node

CHUNKS = Chunks()
PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
NOT_FOUND = '{"detail":"Session not found"}'
READ_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@contextmanager
def page(service: Service, key: str, chat: str = "chat", **options: Any) -> Iterator[node_clients.NodeClient]:
    """A page with a chat of this name."""
    headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
    given = {"api": f"{service.url}/api/chat", "id": chat, "headers": headers, **options}
    with node_clients.NodeClient("chat.mjs", given) as script:
        yield script


def send(page: node_clients.NodeClient, text: str, **more: Any) -> Any:
    return page.do("send", message={"text": text}, **more)


def said(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def types(message: Any) -> list[str]:
    return [part["type"] for part in message["parts"]]


def session_of(state: Any) -> str:
    return str(state["http"]["headers"]["x-session-id"])


def tree(service: Service, session_id: str, key: str) -> list[tuple[str, str]]:
    """Return the role and the text of each message on the active path."""
    return [(message["role"], message["content"]) for message in service.messages(session_id, key=key)]


def user(text: str, message_id: str = "u1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def post(service: Service, key: str | None, *messages: Any, **body: Any) -> requests.Response:
    """Send the request of a transport."""
    headers = body.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
    given = {"id": "chat", "messages": messages, "trigger": "submit-message", **body}
    return requests.post(f"{service.url}/api/chat", json=given, headers=headers, stream=True, timeout=30)


def calling(*calls: tuple[str, str, str], text: str = "Let me see. ") -> Script:
    """Return an answer that calls tools: id, name and arguments of each."""
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.content(text)),
        *(Send(CHUNKS.tool_call(n, id=call[0], name=call[1], arguments=call[2])) for n, call in enumerate(calls)),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


# Send


def test_a_page_shows_an_answer_and_the_session_stores_it(service: Service, key: str) -> None:
    with page(service, key) as chat:
        state = send(chat, "Hello")
        frames = chat.do("frames")
    question, answer = state["messages"]
    assert state["status"] == "ready"
    assert state["finished"] == [
        {"id": answer["id"], "finishReason": "stop", "isAbort": False, "isDisconnect": False, "isError": False}
    ]
    assert "You said: “Hello”" in said(answer)
    headers = state["http"]["headers"]
    assert (headers["content-type"], headers["x-accel-buffering"]) == ("text/event-stream", "no")
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert "x-ratelimit-limit" in headers
    kept = service.messages(session_of(state), key=key)
    assert [message["content"] for message in kept] == ["Hello", said(answer)]
    assert kept[1]["id"] == answer["id"] != question["id"]
    assert answer["metadata"] == {
        "session_id": session_of(state),
        "generation_id": headers["x-generation-id"],
        "model": "gpt-4.1-mini",
        "usage": kept[1]["usage"],
    }
    assert frames["done"]
    names = [chunk["type"] for chunk in frames["chunks"] if chunk["type"] != "text-delta"]
    assert names == ["start", "start-step", "text-start", "text-end", "finish-step", "finish"]


def test_a_message_is_read_without_a_chat(service: Service, key: str) -> None:
    with page(service, key) as chat:
        message = chat.do("read", message=user("Hello"))["message"]
    assert "You said: “Hello”" in said(message)


def test_reasoning_refusals_and_sources_are_parts(service: Service, upstream: Simulator, key: str) -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.org/ä", "title": "Ä"}}
    upstream.script = scripts.event_stream(
        Send(CHUNKS.reasoning("Hm, ")),
        Send(CHUNKS.reasoning("東京.")),
        Send(CHUNKS.content("Look ")),
        Send(CHUNKS.annotation(cited)),
        Send(CHUNKS.annotation({"type": "other", "n": 1})),
        Send(CHUNKS.content("there.")),
        Send(CHUNKS.refusal("No more.")),
        Send(CHUNKS.finish("content_filter")),
        Send(DONE),
    )
    with page(service, key) as chat:
        state = send(chat, "Hello")
        assert chat.do("frames")["done"]
    message = state["messages"][-1]
    assert types(message) == ["step-start", "reasoning", "text", "source-url", "text", "text"]
    assert message["parts"][1]["text"] == "Hm, 東京."
    assert (message["parts"][3]["url"], message["parts"][3]["title"]) == ("https://example.org/ä", "Ä")
    assert said(message) == "Look there.No more."
    assert all(part.get("state", "done") == "done" for part in message["parts"])
    assert state["finished"][0]["finishReason"] == "content-filter"


def test_pictures_of_a_chat_model_are_files(service: Service, upstream: Simulator, key: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}}
    delta = {"content": "See", "images": [image, {"image_url": "https://example.org/a.png"}, {"image_url": 7}]}
    frame = json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}).encode()
    upstream.script = scripts.event_stream(Send(b"data: %b\n\n" % frame), Send(DONE))
    files = [chunk for chunk in chunks_in(post(service, key, user("Draw")).content) if chunk["type"] == "file"]
    assert [(file["url"], file["mediaType"]) for file in files] == [
        ("data:image/webp;base64,AAAA", "image/webp"),
        ("https://example.org/a.png", "image/png"),
    ]


def test_tool_results_are_sent_back_and_the_message_continues(service: Service, upstream: Simulator, key: str) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.in_turn(
        calling(("call_1", "weather", '{"city":"東京"}'), ("call_2", "clock", "{}")),
        calling(("call_3", "weather", '{"city":"Rome"}'), text="One more. "),
        scripts.answer("Sunny in both."),
    )
    with page(service, key, automatic=True, body={"tools": TOOLS, "tool_choice": "auto"}) as chat:
        asked = send(chat, "The weather?")
        first = asked["messages"][-1]
        assert [(part["type"], part["input"]) for part in first["parts"][2:]] == [
            ("tool-weather", {"city": "東京"}),
            ("tool-clock", {}),
        ]
        assert asked["finished"][-1]["finishReason"] == "tool-calls"
        chat.do("toolOutput", output={"toolCallId": "call_1", "tool": "weather", "output": {"sky": "clear"}})
        error = {"state": "output-error", "toolCallId": "call_2", "tool": "clock", "errorText": "It stands still."}
        chat.do("toolOutput", output=error)
        chat.do("answers", count=2)
        chat.do("toolOutput", output={"toolCallId": "call_3", "tool": "weather", "output": "hot"})
        state = chat.do("answers", count=3)
        chat.do("frames")
    assert len(state["messages"]) == 2, "to the page it is one message"
    message = state["messages"][-1]
    assert message["id"] == first["id"]
    assert said(message) == "Let me see. One more. Sunny in both."
    assert [part["state"] for part in message["parts"] if part["type"].startswith("tool-")] == [
        "output-available",
        "output-error",
        "output-available",
    ]
    roles = [role for role, _ in tree(service, session_of(state), key)]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    sent = upstream.requests[seen + 2].body
    assert [message["content"] for message in sent["messages"] if message["role"] == "tool"] == [
        '{"sky":"clear"}',
        "It stands still.",
        "hot",
    ]
    assert (sent["tools"], sent["tool_choice"]) == (TOOLS, "auto")


def test_a_call_with_invalid_json_is_an_error_of_that_call(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = calling(("call_1", "weather", '{"city":'))
    with page(service, key) as chat:
        state = send(chat, "The weather?")
        assert chat.do("frames")["done"]
    part = state["messages"][-1]["parts"][-1]
    assert (part["type"], part["state"]) == ("tool-weather", "output-error")
    assert state["status"] == "ready"


def test_a_call_without_a_result_leaves_the_chat_usable(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.in_turn(calling(("call_1", "weather", "{}")), None)
    with page(service, key) as chat:
        send(chat, "The weather?")
        state = send(chat, "Never mind.")
    assert state["status"] == "ready"
    assert [role for role, _ in tree(service, session_of(state), key)] == ["user", "assistant"] * 2
    assert not any("tool_calls" in message for message in upstream.requests[-1].body["messages"])


def test_files_and_images_are_passed_on(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.answer("Nice.")
    files = [
        {"type": "file", "mediaType": "image/png", "url": PIXEL},
        {"type": "file", "mediaType": "image", "url": "https://example.org/a.png"},
        {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,UklGRg=="},
        {
            "type": "file",
            "mediaType": "application/pdf",
            "url": "data:application/pdf;base64,JV",
            "filename": "ä.pdf",
        },
        {"type": "file", "mediaType": "text/plain", "url": "data:,x", "providerReference": {"openai": "file-1"}},
    ]
    with page(service, key) as chat:
        state = chat.do("send", message={"text": "Look", "files": files})
    assert state["status"] == "ready"
    assert upstream.requests[-1].body["messages"][-1]["content"] == [
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JV", "filename": "ä.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "Look"},
    ]
    (question, _) = service.messages(session_of(state), key=key)
    assert [part["type"] for part in question["parts"]] == ["image", "image", "audio", "file", "file", "text"]


def test_a_body_may_have_the_size_of_media_and_the_seeds_not(service: Service, key: str) -> None:
    large = "data:image/png;base64," + base64.b64encode(bytes(2_000_000)).decode()
    picture = {"id": "u1", "role": "user", "parts": [{"type": "file", "mediaType": "image/png", "url": large}]}
    assert post(service, key, picture).status_code == 200
    seeds = service.send("x", key=key, messages=large)
    assert (seeds.status_code, seeds.json()["code"]) == (413, "body_too_large")
    assert post(service, key, picture, more="x" * 8_000_000).status_code == 413


def test_extra_fields_of_a_page_are_used_or_ignored(service: Service, upstream: Simulator, key: str) -> None:
    body = {
        "api_key": key,
        "model": "gpt-4.1",
        "system": "Be brief.",
        "temperature": 0.5,
        "max_tokens": 9,
        "a_field_of_the_pages_own": {"x": [1]},
        "sessionId": "no",
    }
    with page(service, "", body=body) as chat:
        state = send(chat, "Hello")
    assert state["status"] == "ready", state["error"]
    sent = upstream.requests[-1].body
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("gpt-4.1", 0.5, 9)
    assert sent["messages"][0]["content"] == "Be brief."
    assert not {"a_field_of_the_pages_own", "sessionId", "id", "trigger", "system"} & sent.keys()
    assert service.get(f"/api/sessions/{session_of(state)}", key=key).json()["developer_message"] == "Be brief."


def test_system_messages_are_developer_messages(service: Service, upstream: Simulator, key: str) -> None:
    system = {"id": "s", "role": "system", "parts": [{"type": "text", "text": "Be kind."}]}
    with page(service, key, messages=[system]) as chat:
        state = send(chat, "Hello")
    assert [message["content"] for message in upstream.requests[-1].body["messages"]] == ["Be kind.", "Hello"]
    assert [role for role, _ in tree(service, session_of(state), key)] == ["user", "assistant"]


def test_plain_text_works_with_the_text_transport(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.answer("Grüße 👋🏽 aus 東京.")
    with page(service, key, text=True, headers={"Accept": "text/plain"}) as chat:
        state = send(chat, "Hello")
    assert said(state["messages"][-1]) == "Grüße 👋🏽 aus 東京."
    assert state["http"]["headers"]["content-type"] == "text/plain; charset=utf-8"


# New messages


def test_the_whole_history_and_the_last_message_have_the_same_effect(service: Service, key: str) -> None:
    paths = []
    for last_only in (False, True):
        with page(service, key, f"chat-{last_only}", lastOnly=last_only) as chat:
            for text in ("One", "Two", "Three"):
                state = send(chat, text)
            assert len(state["messages"]) == 6
        paths.append(tree(service, session_of(state), key))
    assert paths[0] == paths[1]
    assert [content for role, content in paths[0] if role == "user"] == ["One", "Two", "Three"]


def test_a_history_from_a_page_starts_the_session(service: Service, upstream: Simulator, key: str) -> None:
    history = [
        {"id": "greeting", "role": "assistant", "parts": [{"type": "text", "text": "Welcome!"}]},
        user("The weather?", "1"),
        {
            "id": "2",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hm."},
                {
                    "type": "dynamic-tool",
                    "toolName": "weather",
                    "toolCallId": "call_1",
                    "state": "output-available",
                    "input": {"city": "Rome"},
                    "output": {"sky": "clear"},
                },
                {"type": "step-start"},
                {"type": "text", "text": "Clear."},
                {"type": "data-chart", "data": {"text": 1}},
            ],
        },
    ]
    upstream.script = scripts.answer("Fine.")
    with page(service, key, messages=history) as chat:
        state = send(chat, "Thanks")
        again = chat.do("regenerate", messageId="2")
    assert state["status"] == again["status"] == "ready"
    session_id = session_of(state)
    sent = upstream.requests[-2].body["messages"]
    assert [message["role"] for message in sent] == ["assistant", "user", "assistant", "tool", "assistant", "user"]
    assert sent[2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert sent[3] == {"role": "tool", "tool_call_id": "call_1", "content": '{"sky":"clear"}'}
    assert tree(service, session_id, key) == [
        ("assistant", "Welcome!"),
        ("user", "The weather?"),
        ("assistant", "Fine."),
    ]


def test_an_unknown_history_is_placed_by_its_last_answer(service: Service, key: str) -> None:
    post(service, key, user("One", "a")).close()
    strange = {"id": "c", "role": "assistant", "parts": [{"type": "text", "text": "Never said."}]}
    answer = post(service, key, user("Never said either.", "b"), strange, user("Two", "d"))
    assert answer.status_code == 200, answer.text
    assert b"[DONE]" in answer.content
    path = tree(service, answer.headers["X-Session-ID"], key)
    assert [content for role, content in path if role == "user"] == ["One", "Two"]


def test_a_message_sent_twice_is_regenerated_and_not_duplicated(service: Service, key: str) -> None:
    first = post(service, key, user("One"))
    assert b"[DONE]" in first.content
    second = post(service, key, user("One"))
    assert b"[DONE]" in second.content
    path = service.messages(second.headers["X-Session-ID"], key=key)
    assert [message["role"] for message in path] == ["user", "assistant"]
    assert len(path[1]["sibling_ids"]) == 2
    changed = post(service, key, user("Two"))
    assert b"[DONE]" in changed.content
    path = service.messages(changed.headers["X-Session-ID"], key=key)
    assert (path[0]["content"], len(path[0]["sibling_ids"])) == ("Two", 2)


def test_a_repeat_with_an_idempotency_key_is_the_same_answer(service: Service, upstream: Simulator, key: str) -> None:
    seen = len(upstream.requests)
    named = {"headers": {"Idempotency-Key": "once"}}
    answers = [post(service, key, user("One"), **named) for _ in range(2)]
    assert joined(chunks_in(answers[0].content)) == joined(chunks_in(answers[1].content))
    assert len(upstream.requests) == seen + 1
    other = post(service, key, user("Two"), headers={"Idempotency-Key": "once"})
    reason = "This Idempotency-Key was used with a different request"
    assert (other.status_code, other.text.split(".")[0]) == (422, reason)


def test_a_chat_continues_a_session_of_the_seeds(service: Service, key: str) -> None:
    with service.send("My name is Anna.", key=key) as first:
        assert first.text, "read to its end, so that the session is free"
    session_id = first.headers["X-Session-ID"]
    with page(service, key, session_id) as chat:
        state = send(chat, "What did I say?")
    assert session_of(state) == session_id
    assert "My name is Anna." in said(state["messages"][-1])


# Regenerate and edit


@pytest.mark.parametrize("last_only", [False, True])
def test_a_regenerated_answer_is_a_sibling_of_the_old_one(service: Service, key: str, last_only: bool) -> None:
    with page(service, key, f"chat-{last_only}", lastOnly=last_only) as chat:
        send(chat, "One")
        before = send(chat, "Two")
        old = before["messages"][-1]["id"]
        state = chat.do("regenerate", messageId=old)
        new = state["messages"][-1]["id"]
        again = chat.do("regenerate", messageId=state["messages"][-2]["id"])  # by its question
        last = chat.do("regenerate")  # the last one, without an id
    assert len(state["messages"]) == len(again["messages"]) == len(last["messages"]) == 4
    ids = [old, new, again["messages"][-1]["id"], last["messages"][-1]["id"]]
    path = service.messages(session_of(state), key=key)
    assert [content for role, content in tree(service, session_of(state), key) if role == "user"] == ["One", "Two"]
    assert path[-1]["sibling_ids"] == ids
    assert path[-1]["id"] == ids[-1]


def test_an_edited_message_is_a_sibling_of_the_first(service: Service, key: str) -> None:
    with page(service, key) as chat:
        first = send(chat, "One")["messages"][0]["id"]
        send(chat, "Two")
        state = chat.do("send", message={"text": "Another one", "messageId": first})
        twice = chat.do("send", message={"text": "A third one", "messageId": first})
        on = send(chat, "What did I say?")
    assert len(state["messages"]) == len(twice["messages"]) == 2
    path = service.messages(session_of(state), key=key)
    assert [message["content"] for message in path if message["role"] == "user"] == ["A third one", "What did I say?"]
    assert len(path[0]["sibling_ids"]) == 3
    assert "A third one" in said(on["messages"][-1])


def test_a_failed_step_is_retried_after_the_tool_results(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.in_turn(
        calling(("call_1", "weather", "{}")), scripts.error_frame("Part of "), scripts.answer("Sunny.")
    )
    with page(service, key) as chat:
        send(chat, "The weather?")
        chat.do("toolOutput", output={"toolCallId": "call_1", "tool": "weather", "output": "sun"})
        failed = chat.do("send")
        assert failed["status"] == "error"
        state = chat.do("send")
    assert state["status"] == "ready", state["error"]
    path = service.messages(session_of(state), key=key)
    assert [message["role"] for message in path] == ["user", "assistant", "tool", "assistant"]
    assert (path[-1]["content"], len(path[-1]["sibling_ids"])) == ("Sunny.", 2)


# Errors


@pytest.mark.table
@pytest.mark.parametrize(
    ("status", "sentence"), [(401, "API key"), (429, "for a reason"), (400, "for a reason"), (500, "model API")]
)
def test_a_refusal_is_shown_as_a_sentence(
    service: Service, upstream: Simulator, key: str, status: int, sentence: str
) -> None:
    upstream.script = refuse(status, message="No, for a reason.")
    with page(service, key) as chat:
        state = send(chat, "Hello")
        assert state["status"] == "error"
        assert sentence in state["error"]
        assert not state["error"].startswith("{")
        upstream.script = None
        better = chat.do("regenerate")
    assert better["status"] == "ready"
    assert "Hello" in said(better["messages"][-1])


def test_an_invalid_request_is_shown_as_a_sentence(service: Service, key: str) -> None:
    for wrong, shown in (("sk-wrong", "Invalid API Key format."), ("", "This route requires an API key")):
        with page(service, wrong) as chat:
            assert send(chat, "Hello")["error"].startswith(shown)
    with page(service, key, "ses_of_somebody") as chat:
        assert send(chat, "Hello")["error"] == "Session not found"
    with page(service, key, body={"temperature": 9}) as chat:
        assert send(chat, "Hello")["error"].startswith("temperature: ")


@pytest.mark.parametrize("script", [scripts.error_frame(), scripts.cut_after(), scripts.without_finish()])
def test_an_answer_that_breaks_off_is_an_error_and_never_done(
    service: Service, upstream: Simulator, key: str, script: Script
) -> None:
    upstream.script = script
    with page(service, key) as chat:
        state = send(chat, "Hello")
        frames = chat.do("frames")
    assert state["status"] == "error"
    assert state["error"]
    assert not frames["done"]
    assert [chunk["type"] for chunk in frames["chunks"]][-1] == "error"
    assert said(state["messages"][-1]) == scripts.TEXT
    assert service.messages(session_of(state), key=key)[-1]["status"] == "failed"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": "x"}, "messages"),
    ({"messages": [1]}, "messages.0"),
    ({"messages": [user("x", str(number)) for number in range(1001)]}, "messages"),
    ({"messages": [{"id": "x", "role": "user", "parts": []}] * 10_001}, "body"),  # more values than any body may have
    ({"messages": [{"id": "1", "role": "user"}]}, "messages.0.parts"),
    ({"messages": [user("x") | {"role": "tool"}]}, "messages.0.role"),
    ({"messages": [user("x") | {"id": ""}]}, "messages.0.id"),
    ({"messages": [user("x") | {"id": "x" * 129}]}, "messages.0.id"),
    ({"messages": [user("")]}, "messages.0.parts"),
    ({"messages": [user("a\0b")]}, "messages.0.parts.0.text"),
    ({"messages": [user("\ud800")]}, "messages.0.parts.0.text"),
    ({"messages": [user("x" * 300_000)]}, "messages"),
    ({"messages": [{"id": "1", "role": "user", "parts": [{"type": "text"}]}]}, "messages.0.parts.0.text"),
    (
        {"messages": [{"id": "1", "role": "user", "parts": [{"type": "file", "url": "file:///etc/passwd"}]}]},
        "messages.0.parts.0.url",
    ),
    (
        {
            "messages": [
                {
                    "id": "1",
                    "role": "assistant",
                    "parts": [
                        {"type": "tool-x", "toolCallId": "c", "state": "output-available", "output": "\ud800"},
                    ],
                },
                user("x"),
            ]
        },
        "messages.0.parts.0.output",
    ),
    ({"id": ""}, "id"),
    ({"id": "x" * 129}, "id"),
    ({"id": 1}, "id"),
    ({"id": "a\0"}, "id"),
    ({"trigger": "resume-stream"}, "trigger"),
    ({"messageId": 1}, "messageId"),
    ({"model": "a b"}, "model"),
    ({"tools": "x"}, "tools"),
    ({"tools": [{"api_key": "sk-secret"}]}, "tools"),
    ({"if_busy": "queue"}, "if_busy"),
]


@pytest.mark.table
@pytest.mark.parametrize(("body", "field"), BAD)
def test_an_invalid_field_is_named(service: Service, key: str, body: dict[str, Any], field: str) -> None:
    messages = body.pop("messages", None)
    given = {"id": "chat", "messages": [user("x")] if messages is None else messages, "trigger": "submit-message"}
    answer = service.post("/api/chat", key=key, json=given | body)
    assert answer.status_code == 422, answer.text
    if field == "messageId":
        field = "?"  # a name that is not echoed
    assert answer.text.startswith(f"{field}: "), answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    body["messages"] = messages


def test_without_a_new_message_there_is_nothing_to_answer(service: Service, key: str) -> None:
    answer = {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "Hi."}]}
    for messages in ([], [answer], [user("x"), answer]):
        refused = post(service, key, *messages)
        assert (refused.status_code, refused.text[:34]) == (400, "There is no new message to answer.")


def test_bodies_of_the_seed_are_read_as_before(service: Service, key: str) -> None:
    seeds: list[dict[str, Any]] = [{"messages": []}, {"trigger": "submit-message"}, {"id": "x"}]
    for unknown in seeds:
        refused = service.send("Hello", key=key, **unknown)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    mentioned = service.send('What are "messages" and "trigger"?', key=key)
    assert mentioned.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_key_in_a_tool_result_is_not_stored(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.in_turn(calling(("call_1", "account", "{}")), scripts.answer("Fine."))
    with page(service, key) as chat:
        send(chat, "Who am I?")
        chat.do("toolOutput", output={"toolCallId": "call_1", "tool": "account", "output": {"api_key": OTHER_KEY}})
        state = chat.do("send")
    assert state["status"] == "ready", state["error"]
    (result,) = [one for one in service.messages(session_of(state), key=key) if one["role"] == "tool"]
    assert result["parts"][0]["text"] == '{"api_key":"[redacted]"}'


# Stop, disconnect, resume


def test_a_stop_closes_the_upstream_and_keeps_the_text(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    seen = len(upstream.requests)
    with page(service, key) as chat:
        send(chat, "Hello", wait=False)
        state = chat.do("until", text="Hello")
        message = state["messages"][-1]
        running = message["metadata"]["generation_id"]
        stale = service.post("/api/chat/chat/stop", key=key, json={"activeStreamId": "gen_of_before"})
        assert (stale.status_code, stale.json()["status"]) == (200, None)
        assert not upstream.requests[seen].left.is_set()
        began = time.monotonic()
        stopped = service.post(
            "/api/chat/chat/stop", key=key, json={"activeStreamId": running, "assistantMessage": message}
        )
        assert upstream.requests[seen].left.wait(1)
        assert time.monotonic() - began < 1
        state = chat.do("idle")
        frames = chat.do("frames")
    assert (stopped.json()["status"], stopped.json()["text"]) == ("stopped", "Hello")
    assert [chunk["type"] for chunk in frames["chunks"]][-3:] == ["text-end", "message-metadata", "abort"]
    assert frames["done"]
    assert (state["status"], said(state["messages"][-1])) == ("ready", "Hello")
    assert service.messages(session_of(state), key=key)[-1]["status"] == "stopped"
    assert service.post("/api/chat/chat/stop", key=key).json()["status"] == "stopped", "a second stop changes nothing"


def test_a_page_that_disconnects_stops_nothing_and_its_next_message_interrupts(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    seen = len(upstream.requests)
    with page(service, key) as chat:
        send(chat, "One", wait=False)
        left = chat.do("until", text="Hello")
        chat.do("stop")
        assert service.messages(session_of(left), key=key)[-1]["status"] == "running"
        state = send(chat, "Two")
        assert upstream.requests[seen].left.wait(5)
    assert state["status"] == "ready"
    path = service.messages(session_of(state), key=key)
    assert [(message["role"], message["status"]) for message in path] == [
        ("user", "completed"),
        ("assistant", "stopped"),
        ("user", "completed"),
        ("assistant", "completed"),
    ]


def test_a_page_may_request_a_stop_on_disconnect_and_an_error_for_a_busy_chat(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with page(service, key, body={"on_disconnect": "cancel", "if_busy": "reject"}) as chat:
        send(chat, "One", wait=False)
        chat.do("until", text="Hello")
        with page(service, key, body={"if_busy": "reject"}) as beside:
            assert send(beside, "Two")["error"].startswith("The session has a running answer.")
        asked = upstream.requests[-1]
        chat.do("stop")
        assert asked.left.wait(5)


def test_an_answer_continues_after_a_cut(service: Service, upstream: Simulator, key: str, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there, 東京.")
    with page(service, key) as chat:
        send(chat, "Hello", wait=False)
        cut = chat.do("until", text="Hello")
        assert chat.do("cut")["status"] == "error"
        chat.do("resume", wait=False)  # on the other replica, if there is one
        chat.do("streaming")
        gate.open()
        state = chat.do("idle")
        assert chat.do("frames")["done"]
    assert (state["status"], len(state["messages"])) == ("ready", 2)
    message = state["messages"][-1]
    assert (message["id"], said(message)) == (cut["messages"][-1]["id"], "Hello there, 東京.")
    assert service.messages(session_of(cut), key=key)[-1]["content"] == said(message)


def test_a_replay_is_the_whole_message_on_any_replica(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.event_stream(
        Send(CHUNKS.reasoning("Hm.")),
        Send(CHUNKS.content("Hello")),
        Wait(gate),
        Send(CHUNKS.content(" there, 東京.")),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":"Rome"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )
    with page(service, key) as chat:
        send(chat, "Hello", wait=False)
        state = chat.do("until", text="Hello")
        replicas = service.replicas if isinstance(service, Cluster) else [service]
        streams = [
            requests.get(f"{one.url}/api/chat/{name}/stream", headers=bearer(key), stream=True, timeout=30)
            for one in replicas
            for name in ("chat", session_of(state))
        ]
        bodies = [stream.iter_content(READ_BYTES) for stream in streams]
        begun = [next(body) for body in bodies]
        gate.open()
        replays = [first + b"".join(body) for first, body in zip(begun, bodies, strict=True)]
        chat.do("idle")
        told = chat.do("frames")["chunks"]
    running = state["messages"][-1]["metadata"]["generation_id"]
    replays.append(service.get(f"/api/chat/chat/stream?generation_id={running}", key=key).content)  # it has ended
    for replay in replays:
        assert replay.endswith(b"data: [DONE]\n\n")
        assert joined(chunks_in(replay)) == joined(told)


def test_a_replay_contains_the_earlier_steps(service: Service, upstream: Simulator, key: str, gate: Gate) -> None:
    upstream.script = scripts.in_turn(
        calling(("call_1", "weather", "{}"), ("call_2", "clock", "{}")), scripts.held(gate, "Sun", "ny.")
    )
    with page(service, key, automatic=True) as chat:
        first = send(chat, "The weather?")
        chat.do("toolOutput", output={"toolCallId": "call_1", "tool": "weather", "output": {"sky": "clear"}})
        chat.do("toolOutput", output={"toolCallId": "call_2", "tool": "clock", "output": "noon"})
        chat.do("until", text="Sun")
        chat.do("cut")
        with page(service, key, messages=first["messages"][:1]) as reloaded:
            for one in (chat, reloaded):
                one.do("resume", wait=False)
                one.do("streaming")
            gate.open()
            states = [one.do("idle") for one in (chat, reloaded)]
    for state in states:
        assert state["status"] == "ready", state["error"]
        message = state["messages"][-1]
        assert message["id"] == first["messages"][-1]["id"]
        assert types(message) == ["step-start", "text", "tool-weather", "tool-clock", "step-start", "text"]
        assert [part.get("output") for part in message["parts"][2:4]] == [{"sky": "clear"}, "noon"]
        assert said(message) == "Let me see. Sunny."


def test_nothing_is_resumed_when_nothing_runs(service: Service, key: str) -> None:
    with page(service, key) as chat:
        assert chat.do("resume")["error"] == NOT_FOUND  # no such chat exists yet
        send(chat, "Hello")
        ended = chat.do("resume")
    assert (ended["status"], ended["http"]["status"], len(ended["messages"])) == ("ready", 204, 2)


def test_a_page_that_is_opened_later_reads_plain_text_too(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    text: dict[str, Any] = {"text": True, "headers": {"Accept": "text/plain"}}
    with page(service, key, **text) as chat, page(service, key, **text) as later:
        send(chat, "Hello", wait=False)
        chat.do("until", text="Hello")
        later.do("resume", wait=False)
        later.do("until", text="Hello")
        gate.open()
        state = later.do("idle")
    assert said(state["messages"][-1]) == "Hello there."


def test_silence_is_filled_with_comments(serve: Serve, simulator: Simulator, key: str, gate: Gate) -> None:
    service = serve(CHATAPI_HEARTBEAT_SECONDS="0.05")
    simulator.script = scripts.held(gate)
    answer = post(service, key, user("Hello"))
    body = b""
    for some in answer.iter_content(READ_BYTES):
        body += some
        if body.count(b": keep-alive\n\n") == 2:
            gate.open()
    assert body.endswith(b"data: [DONE]\n\n")
    assert text_in(body) == "Hello there."


# Access


def test_two_clients_with_the_same_chat_id_are_separate(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    other_key = fresh_key(f"the other of {key[8:120]}")
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    with page(service, key, "same") as chat, page(service, other_key, "same") as other:
        send(chat, "Mine", wait=False)
        mine = chat.do("until", text="Hello")
        assert other.do("resume")["error"] == NOT_FOUND
        assert service.post("/api/chat/same/stop", key=other_key).status_code == 404
        state = send(other, "Theirs")
        gate.open()
        assert chat.do("idle")["status"] == "ready"
        chat.do("frames")
    assert session_of(mine) != session_of(state)
    assert [content for role, content in tree(service, session_of(mine), key) if role == "user"] == ["Mine"]
    assert [content for role, content in tree(service, session_of(state), other_key) if role == "user"] == ["Theirs"]
    with page(service, other_key, session_of(mine)) as thief:
        assert send(thief, "Give")["error"] == "Session not found"
        assert thief.do("resume")["error"] == NOT_FOUND


def test_a_chat_that_two_pages_start_at_once_is_one_session(service: Service, key: str) -> None:
    texts = ["One", "Two", "Three"]
    with ThreadPoolExecutor(len(texts)) as pages:
        answers = list(pages.map(lambda text: post(service, key, user(text, text)), texts))
        bodies = list(pages.map(lambda answer: answer.content, answers))
    assert all(body.endswith(b"data: [DONE]\n\n") for body in bodies), [answer.status_code for answer in answers]
    (session,) = service.get("/api/sessions", key=key).json()["data"]
    path = service.messages(session["session_id"], key=key)
    assert sorted(message["content"] for message in path if message["role"] == "user") == sorted(texts)


def test_a_chat_id_opens_nothing_without_its_owners_key(service: Service, key: str) -> None:
    assert b"[DONE]" in post(service, key, user("Hello")).content
    for answer in (service.get("/api/chat/chat/stream"), service.post("/api/chat/chat/stop")):
        assert (answer.status_code, answer.text) == (404, NOT_FOUND), "on this machine too"
    for name in ("never", "x" * 129, "a%00b", "%ED%A0%80"):
        for answer in (
            service.get(f"/api/chat/{name}/stream", key=key),
            service.post(f"/api/chat/{name}/stop", key=key),
        ):
            assert (answer.status_code, answer.text) == (404, NOT_FOUND)


def test_a_message_of_another_chat_is_not_found(service: Service, key: str) -> None:
    first = post(service, key, user("One"), id="first")
    assert b"[DONE]" in first.content
    answer = service.messages(first.headers["X-Session-ID"], key=key)[-1]["id"]
    second = post(service, key, user("Two"), id="second")
    assert b"[DONE]" in second.content
    anew = post(service, key, user("One"), id="first", trigger="regenerate-message")  # with the same id as the other's
    assert b"[DONE]" in anew.content
    path = service.messages(first.headers["X-Session-ID"], key=key)
    assert [message["role"] for message in path] == ["user", "assistant"]
    assert path[0]["content"] == "One"
    again = post(service, key, user("Two"), id="second", trigger="regenerate-message", messageId=answer)
    assert b"[DONE]" in again.content
    assert len(service.messages(first.headers["X-Session-ID"], key=key)[-1]["sibling_ids"]) == 2
    assert len(service.messages(second.headers["X-Session-ID"], key=key)[-1]["sibling_ids"]) == 2


# The stream


def generation(status: Status = Status.RUNNING, **more: Any) -> Generation:
    return Generation("gen_1", "ses_1", "msg_2", status, "a-model", "vercel", Microseconds(0), **more)


def test_every_frame_is_written_whole() -> None:
    call = ToolCall("call_1", "weather")
    pieces = [
        Piece(3, 0, Kind.REASONING, b"Hm."),
        Piece(4, 1, Kind.TEXT, b"a"),
        Piece(40_004, 1, Kind.TEXT, "東".encode() * 13_333 + b"a"),
        Piece(40_005, 2, Kind.TOOL_CALL, b"{", call),
        Piece(40_006, 2, Kind.TOOL_CALL, b"}", call),
        Piece(40_009, 3, Kind.ANNOTATION, b'{"u'),
        Piece(40_017, 3, Kind.ANNOTATION, b'rl":"x"}\n'),
    ]
    encoder = VercelEncoder(generation(), [], replay=True)
    writes = [encoder.begin(), *encoder.pieces(pieces), encoder.end(generation(Status.COMPLETED))]
    assert all(write == b"" or write.endswith(b"\n\n") for write in writes)
    assert all(len(write) < 20_000 for write in writes), "every event is small enough for any client"
    body = b"".join(writes)
    assert chunks_in(body)[-4:-2] == [
        {"type": "tool-input-available", "toolCallId": "call_1", "toolName": "weather", "input": {}},
        {"type": "source-url", "sourceId": "source-1", "url": "x"},
    ]
    one_by_one = VercelEncoder(generation(), [], replay=True)
    again = [one_by_one.begin(), *[write for piece in pieces for write in one_by_one.pieces([piece])]]
    assert b"".join([*again, one_by_one.end(generation(Status.COMPLETED))]) == body


@pytest.mark.parametrize("status", [Status.STOPPED, Status.FAILED, Status.INTERRUPTED])
def test_a_call_that_was_cut_off_is_not_available(status: Status) -> None:
    encoder = VercelEncoder(generation(), [], replay=True)
    list(encoder.pieces([Piece(2, 0, Kind.TOOL_CALL, b"12", ToolCall("call_1", "pay"))]))  # a prefix of 1200, perhaps
    ended = chunks_in(encoder.end(generation(status, error_code="interrupted")))
    assert [chunk["type"] for chunk in ended][-1] in {"abort", "error"}
    assert not any(chunk["type"].startswith("tool-input") for chunk in ended)


def test_tool_results_are_sent_only_for_calls_that_were_sent() -> None:
    said = (Part(Kind.TOOL_CALL, "{}", ToolCall("call_1", "weather")),)
    given = tuple(Part(Kind.TOOL_RESULT, text, ToolCall(name)) for text, name in (("[1]", "call_1"), ("x", "call_2")))
    before = [
        Message("msg_0", "ses_1", None, 0, Role.ASSISTANT, said, Microseconds(0)),
        Message("msg_1", "ses_1", "msg_0", 1, Role.TOOL, given, Microseconds(0)),
    ]
    told = chunks_in(VercelEncoder(generation(), before, replay=True).begin())
    assert told[0]["messageId"] == "msg_0"
    assert [chunk for chunk in told if "output" in chunk] == [
        {"type": "tool-output-available", "toolCallId": "call_1", "output": [1]}
    ]
    alone = chunks_in(VercelEncoder(generation(), before, replay=False).begin())
    assert [chunk["type"] for chunk in alone] == ["start", "start-step"]
    assert alone[0]["messageId"] == "msg_0"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def chunks_in(body: bytes) -> list[Any]:
    return [json.loads(frame[6:]) for frame in body.decode().split("\n\n") if frame.startswith("data: {")]


def text_in(body: bytes) -> str:
    return "".join(chunk["delta"] for chunk in chunks_in(body) if chunk["type"] == "text-delta")


def joined(chunks: list[Any]) -> list[Any]:
    """Return the chunks with consecutive deltas joined: their boundaries are arbitrary."""
    whole: list[Any] = []
    for chunk in chunks:
        (field,) = {"delta", "inputTextDelta"} & chunk.keys() or {None}
        if field is not None and whole and whole[-1]["type"] == chunk["type"]:
            whole[-1] = whole[-1] | {field: whole[-1][field] + chunk[field]}
        else:
            whole.append(chunk)
    return whole
