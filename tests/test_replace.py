"""Edit and regenerate: a new message is a sibling of the replaced one, which is kept."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from chatapi.simulator import Gate, Simulator, scripts
from tests.server_process import KEY, OTHER_KEY, Serve, Service
from tests.test_chat import Reader, begun, sent_upstream, session_of


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="key")


def replaced(server: Service, session_id: str, message_id: str, *, key: str = KEY, **more: Any) -> requests.Response:
    """POST /api/chat with `replace`, read to its end; `user_message` only if given."""
    body = {"session_id": session_id, "replace": message_id, "api_key": key, **more}
    return server.post("/api/chat", json=body, headers=body.pop("headers", {}))


def path(server: Service, session_id: str) -> list[tuple[str, int, int]]:
    """Return the active path: the text of each message, its position among its siblings, and their number."""
    return [
        (message["content"], message["sibling_ids"].index(message["id"]) + 1, len(message["sibling_ids"]))
        for message in server.messages(session_id, key=KEY)
    ]


def test_an_edited_message_is_a_sibling_and_the_model_does_not_see_the_old_one(
    server: Service, upstream: Simulator
) -> None:
    session_id = begun(server)
    with server.send("Count to 2", session_id=session_id) as response:
        assert response.text == "1 2"
    first, _, second, _ = server.messages(session_id, key=KEY)
    edited = replaced(server, session_id, second["id"], user_message="Count to 4")
    assert (edited.text, session_of(edited)) == ("1 2 3 4", session_id)
    assert sent_upstream(upstream)[1:] == [("user", "Count to 3"), ("assistant", "1 2 3"), ("user", "Count to 4")]
    assert path(server, session_id) == [("Count to 3", 1, 1), ("1 2 3", 1, 1), ("Count to 4", 2, 2), ("1 2 3 4", 1, 1)]
    assert replaced(server, session_id, first["id"], user_message="Count to 1").text == "1"
    assert sent_upstream(upstream)[1:] == [("user", "Count to 1")]
    assert path(server, session_id) == [("Count to 1", 2, 2), ("1", 1, 1)]
    server.patch(f"/api/sessions/{session_id}", key=KEY, json={"head": second["id"]})
    assert path(server, session_id)[2:] == [("Count to 2", 1, 2), ("1 2", 1, 1)]


def test_a_regenerated_answer_is_a_sibling_also_of_a_refused_one(server: Service, upstream: Simulator) -> None:
    upstream.script = scripts.in_turn(scripts.refuse(500), scripts.refuse(500), scripts.refuse(500), None)
    with server.send("Count to 3") as refused:
        assert refused.status_code == 503
    session_id = session_of(refused)
    question, failed = server.messages(session_id, key=KEY)
    assert replaced(server, session_id, failed["id"]).text == "1 2 3"
    assert sent_upstream(upstream)[1:] == [("user", "Count to 3")]
    assert replaced(server, session_id, failed["id"], model="gpt-4o", stream=False).json()["text"] == "1 2 3"
    assert path(server, session_id) == [("Count to 3", 1, 1), ("1 2 3", 3, 3)]
    assert server.messages(session_id, key=KEY)[-1]["parent_id"] == question["id"]


def test_a_running_answer_is_regenerated_if_it_may_be_interrupted(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    with server.send("Count to 3") as first:
        reader = Reader(first)
        reader.until("Hello")
        running = server.messages(session_of(first), key=KEY)[-1]["id"]
        assert replaced(server, session_of(first), running).json()["code"] == "session_busy"
        assert replaced(server, session_of(first), running, if_busy="interrupt").text == "1 2 3"
        assert reader.rest() == b""
    assert path(server, session_of(first)) == [("Count to 3", 1, 1), ("1 2 3", 2, 2)]


def test_a_repeated_edit_is_made_once_and_another_with_the_same_key_is_refused(
    server: Service, upstream: Simulator
) -> None:
    session_id = begun(server)
    question, answer = server.messages(session_id, key=KEY)
    once = {"Idempotency-Key": f"edit {session_id}"}
    asked = len(upstream.requests)
    edits = [replaced(server, session_id, question["id"], user_message="Count to 2", headers=once) for _ in range(2)]
    assert [edit.text for edit in edits] == ["1 2", "1 2"]
    assert len({edit.headers["X-Generation-ID"] for edit in edits}) == 1
    assert len(upstream.requests) == asked + 1
    sibling = server.messages(session_id, key=KEY)[0]["id"]  # the same parent: only the request differs
    for other in ({"message_id": sibling, "user_message": "Count to 2"}, {"message_id": answer["id"]}):
        refused = replaced(server, session_id, headers=once, **other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


def test_an_unknown_message_and_one_of_another_session_are_not_found(server: Service) -> None:
    session_id, other = begun(server), begun(server)
    elsewhere = server.messages(other, key=KEY)[0]["id"]
    for message_id in ("msg_none", "", "é", elsewhere):
        missing = replaced(server, session_id, message_id, user_message="Mine")
        assert (missing.status_code, missing.json()["code"]) == (404, "message_not_found")
    foreign = replaced(server, other, elsewhere, user_message="Mine", key=OTHER_KEY)
    nowhere = replaced(server, "ses_none", elsewhere, user_message="Mine", key=OTHER_KEY)
    assert (foreign.status_code, foreign.content) == (nowhere.status_code, nowhere.content)
    assert foreign.json() == {"detail": "Session not found"}
    assert len(server.messages(other, key=KEY)) == 2


def test_the_role_of_the_replaced_message_decides_whether_a_new_one_is_needed(server: Service) -> None:
    tool = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    asked = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hello"}, tool]}
    made = server.post("/v1/chat/completions", key=KEY, json=asked, headers={"X-Session-ID": "new"})
    session_id = session_of(made)
    question, result, answer = (message["id"] for message in server.messages(session_id, key=KEY))
    wrong: dict[str, list[tuple[str | None, dict[str, Any]]]] = {
        "user_message": [(question, {}), (answer, {"user_message": "Hello"}), (None, {})],
        "replace": [(result, {"user_message": "Hello"}), (result, {})],
        "session_id": [(question, {"user_message": "Hello", "session_id": ""}), (answer, {"session_id": None})],
    }
    for field, sends in wrong.items():
        for message_id, more in sends:
            refused = server.post("/api/chat", key=KEY, json={"session_id": session_id, "replace": message_id, **more})
            assert refused.status_code == 422
            assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert len(server.messages(session_id, key=KEY)) == 3
