"""Edits: a text of the user as another version of a message, without a model."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from chatapi.simulator import Gate, Simulator, scripts
from tests.server_process import KEY, OTHER_KEY, Serve, Service, fresh_key

MAX_MESSAGE_BYTES = 2000
MAX_MESSAGES = 8


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(
        CHATAPI_RATE_LIMIT="0",
        CHATAPI_SESSION_ACCESS="key",
        CHATAPI_MAX_MESSAGE_BYTES=str(MAX_MESSAGE_BYTES),
        CHATAPI_MAX_SESSION_MESSAGES=str(MAX_MESSAGES),
    )


def say(server: Service, text: str, key: str = KEY, **more: Any) -> str:
    """Send a message, and wait until its answer is stored. Returns the session."""
    answer = server.send(text, key=key, **more)
    assert answer.content
    return answer.headers["x-session-id"]


def edit(
    server: Service, session_id: str, replace: Any, content: Any, key: str | None = KEY, **headers: str
) -> requests.Response:
    body = {"replace": replace, "content": content}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.post(f"/api/sessions/{session_id}/messages", key=key, json=body, headers=names)


def path_of(server: Service, session_id: str, key: str = KEY) -> list[str]:
    return [message["content"] for message in server.messages(session_id, key=key)]


def test_edited_answer_is_a_branch_that_everything_else_uses(server: Service, upstream: Simulator) -> None:
    key = fresh_key("edit")
    session_id = say(server, "Count to 2", key)
    say(server, "Count to 3", key, session_id=session_id)
    question, answer, later, _ = server.messages(session_id, key=key)
    usage = server.get("/api/usage", key=key).json()["totals"]
    made = edit(server, session_id, answer["id"], "uno dos", key)
    assert made.status_code == 201, made.text
    assert made.headers["X-Session-ID"] == session_id
    edited = made.json()
    assert edited["sibling_ids"] == [answer["id"], edited["id"]]
    assert [edited[name] for name in ("role", "parent_id", "status", "finish_reason", "model", "usage")] == [
        "assistant",
        question["id"],
        "completed",
        "edited",
        answer["model"],
        None,
    ]
    assert server.messages(session_id, key=key)[1] == edited
    session = server.get(f"/api/sessions/{session_id}", key=key).json()
    assert (session["head"], session["message_count"]) == (edited["id"], 5)
    # The model gets the edited text, and the edit itself asked no model.
    assert server.get("/api/usage", key=key).json()["totals"] == usage
    say(server, "And now?", key, session_id=session_id)
    sent = [line["content"] for line in upstream.requests[-1].body["messages"]]
    assert sent[-3:] == ["Count to 2", "uno dos", "And now?"]
    hits = server.get("/api/search", key=key, params={"q": "uno dos"}).json()["data"]
    assert edited["id"] in {hit["message_id"] for hit in hits}
    exported = server.get(f"/api/sessions/{session_id}/export", key=key).json()
    copy = server.post("/api/sessions/import", key=key, json=exported).json()
    assert server.messages(copy["session_id"], key=key)[1]["finish_reason"] == "edited"
    assert "uno dos" in server.get(f"/api/sessions/{session_id}/export", key=key, params={"format": "markdown"}).text
    # The old version and what followed it are one switch away.
    assert server.patch(f"/api/sessions/{session_id}", key=key, json={"head": later["id"]}).ok
    assert path_of(server, session_id, key) == ["Count to 2", "1 2", "Count to 3", "1 2 3"]
    action = "POST /api/sessions/{session_id}/messages"
    server.wait_for_log("request", action=action, session_id=session_id)


def test_edited_user_message_keeps_its_attachments(server: Service, upstream: Simulator) -> None:
    image = {"type": "image", "url": "data:image/png;base64,AAAA"}
    session_id = say(server, "Look", attachments=[image])
    edited = edit(server, session_id, server.messages(session_id, key=KEY)[0]["id"], "Look closely").json()
    assert edited["parts"] == [{"type": "text", "text": "Look closely"}, image]
    assert "finish_reason" not in edited
    assert path_of(server, session_id) == ["Look closely"]


def test_repeated_edit_is_stored_once(server: Service) -> None:
    session_id, other = say(server, "Count to 2"), say(server, "Count to 2")
    answer_id = server.messages(session_id, key=KEY)[1]["id"]
    first = edit(server, session_id, answer_id, "zwei", Idempotency_Key="once")
    assert first.status_code == 201, first.text
    say(server, "More", session_id=session_id)
    again = edit(server, session_id, answer_id, "zwei", Idempotency_Key="once")
    assert (again.status_code, again.json()) == (201, first.json())
    assert path_of(server, session_id)[1:3] == ["zwei", "More"]  # the head stays where it has gone since
    for wrong in (
        edit(server, session_id, answer_id, "drei", Idempotency_Key="once"),
        edit(server, session_id, first.json()["parent_id"], "zwei", Idempotency_Key="once"),
        edit(server, other, server.messages(other, key=KEY)[1]["id"], "zwei", Idempotency_Key="once"),
    ):
        assert (wrong.status_code, wrong.json()["code"]) == (422, "idempotency_key_reused")
    assert edit(server, session_id, answer_id, "zwei", Idempotency_Key="twice").json()["id"] != first.json()["id"]
    assert edit(server, session_id, answer_id, "zwei", Idempotency_Key="x" * 256).status_code == 422


def test_refused_edit_changes_nothing(server: Service, upstream: Simulator, gate: Gate) -> None:
    session_id, other = say(server, "Count to 2"), say(server, "Hi")
    question, answer = server.messages(session_id, key=KEY)
    foreign = server.messages(other, key=KEY)[1]["id"]
    document = server.get(f"/api/sessions/{session_id}/export", key=KEY).json()
    document["messages"][0]["role"] = "developer"
    imported = server.post("/api/sessions/import", key=KEY, json=document).json()["session_id"]
    instructions = server.messages(imported, key=KEY)[0]["id"]
    before = server.get(f"/api/sessions/{session_id}", key=KEY).json()
    for response, status, code in (
        (edit(server, session_id, answer["id"], "x", OTHER_KEY), 404, None),
        (edit(server, session_id, answer["id"], "x", None), 401, "api_key_required"),
        (edit(server, session_id, foreign, "x"), 404, "message_not_found"),
        (edit(server, session_id, "msg_none", "x"), 404, "message_not_found"),
        (edit(server, imported, instructions, "x"), 422, "invalid_request"),
        (edit(server, session_id, answer["id"], ""), 422, "invalid_request"),
        (edit(server, session_id, answer["id"], None), 422, "invalid_request"),
        (edit(server, session_id, 1, "x"), 422, "invalid_request"),
        (edit(server, session_id, answer["id"], "a\0"), 422, "invalid_request"),
        (edit(server, session_id, answer["id"], "é" * (MAX_MESSAGE_BYTES // 2 + 1)), 422, "invalid_request"),
    ):
        assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert server.get(f"/api/sessions/{session_id}", key=KEY).json() == before
    upstream.script = scripts.held(gate)
    running = server.send("Wait", session_id=session_id, stream=True)
    busy = edit(server, session_id, answer["id"], "x")
    assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
    gate.open()
    assert running.content
    for number in range(MAX_MESSAGES - 4):
        assert edit(server, session_id, question["id"], f"Version {number}").status_code == 201
    full = edit(server, session_id, question["id"], "One more")
    assert (full.status_code, full.json()["code"]) == (413, "session_full")
