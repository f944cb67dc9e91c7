"""Summaries in place of old messages: made once, used again, undone, and never needed for an answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from chatapi.generations.compaction import RESULT_CHARACTERS
from chatapi.simulator import Script, Simulator, scripts
from chatapi.simulator.record import ReceivedRequest
from tests.server_process import KEY, OTHER_KEY, Serve, Service, fresh_key
from tests.test_chat import session_of
from tests.test_import import CALL, COMPLETED, FULL, PNG, brought, message, text
from tests.test_overflow import takes_few

SUMMARISER = "gpt-4o-mini"
SUMMARY = "They have counted."


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_CONTEXT="auto", CHATAPI_SUMMARY_MODEL=SUMMARISER)


def summarises(request: ReceivedRequest) -> Script | None:
    """A model that takes few messages, and another one that summarises them."""
    return scripts.answer(SUMMARY) if request.body["model"] == SUMMARISER else takes_few(request)


def cannot_summarise() -> Callable[[ReceivedRequest], Script | None]:
    """A model that refuses to summarise, or has nothing to say, in turns."""
    failures = itertools.cycle([scripts.refuse(400), scripts.answer(" \n")])
    return lambda request: next(failures) if request.body["model"] == SUMMARISER else takes_few(request)


def asked_summaries(upstream: Simulator, seen: int) -> list[str]:
    """Return the text of each request for a summary after the first `seen` requests."""
    bodies = [request.body for request in upstream.requests[seen:]]
    return [body["messages"][-1]["content"] for body in bodies if body["model"] == SUMMARISER]


def counted(
    server: Service, numbers: range, session_id: str | None = None, key: str = KEY
) -> tuple[str, dict[str, Any]]:
    """Send a message for each number; return the session, and the last answer."""
    for number in numbers:
        sent = server.send(f"Count to {number}", key=key, **({"session_id": session_id} if session_id else {}))
        assert (sent.status_code, str(number) in sent.text) == (200, True), sent.text
        session_id = session_of(sent)
    assert session_id is not None
    answer: dict[str, Any] = server.messages(session_id, key=key)[-1]
    return session_id, answer


def test_a_summary_is_used_again_and_undone_and_goes_with_the_messages(server: Service, upstream: Simulator) -> None:
    upstream.script = summarises
    seen = len(upstream.requests)
    session_id, answer = counted(server, range(1, 5))
    of = f"/api/sessions/{session_id}/summaries"
    (summary,) = server.get(of, key=KEY).json()["data"]
    messages = server.messages(session_id, key=KEY)
    ids = [message["id"] for message in messages]
    covered = summary["messages"]
    assert (summary["text"], summary["model"], summary["last"]) == (SUMMARY, SUMMARISER, ids[covered - 1])
    left_out = {"messages": 0, "first": None, "last": None, "summary": summary["id"], "summarised": covered}
    assert answer["left_out"] == left_out
    (text,) = asked_summaries(upstream, seen)
    assert all(message["content"] in text for message in messages[:covered])
    sent = upstream.requests[-1].body["messages"]
    assert SUMMARY not in str([one for one in sent if one["role"] in {"system", "developer"}]), "it is the user's text"
    said = [one["content"] for one in sent if one["role"] in {"user", "assistant"}]
    head, found, first = said[0].partition("</summary>\n\n")
    assert (SUMMARY in head, bool(found), [one["role"] for one in sent][-len(said)]) == (True, True, "user")
    assert [first, *said[1:]] == [message["content"] for message in messages[covered:-1]]
    assert [message["content"] for message in messages[::2]] == [f"Count to {number}" for number in range(1, 5)]

    seen = len(upstream.requests)
    _, again = counted(server, range(5, 6), session_id)
    summaries = server.get(of, key=KEY).json()["data"]
    assert len(summaries) == 1 + len(asked_summaries(upstream, seen)), "one is made only where messages have to go"
    assert again["left_out"]["summary"] == summaries[0]["id"]
    for text in asked_summaries(upstream, seen):
        assert SUMMARY in text, "a summary covers the one before it"
    models = {one["model"] for one in server.get("/api/usage?by=model", key=KEY).json()["data"]}
    assert SUMMARISER in models

    assert server.delete(f"{of}/{summary['id']}", key=OTHER_KEY).status_code == 404
    for one in summaries:
        assert server.delete(f"{of}/{one['id']}", key=KEY).status_code == 200
    gone = server.delete(f"{of}/{summary['id']}", key=KEY)
    assert (gone.status_code, gone.json()["code"]) == (404, "summary_not_found")
    seen = len(upstream.requests)
    counted(server, range(6, 7), session_id)
    assert "Count to 1" in asked_summaries(upstream, seen)[0]
    assert server.get(of, key=KEY).json()["data"]
    answers = [message for message in server.messages(session_id, key=KEY) if message["role"] == "assistant"]
    conversation = session_id.replace("ses_", "conv_")
    removed = server.delete(f"/v1/conversations/{conversation}/items/{answers[0]['id']}", key=KEY)
    assert removed.status_code == 200, removed.text
    assert server.get(of, key=KEY).json()["data"] == [], "it may hold the text of a message that was deleted"


def test_a_summary_is_made_of_calls_results_and_media_too(server: Service, upstream: Simulator) -> None:
    upstream.script = summarises
    result = {"type": "tool_result", "call_id": "call_1", "text": "a" * RESULT_CHARACTERS + "too much"}
    said = [
        message("a", None, "user", text("Look"), {"type": "image", "url": PNG}),
        message("b", "a", "assistant", {"type": "tool_call", **CALL, "arguments": '{"x":1}'}, **COMPLETED),
        message("c", "b", "tool", result),
        message("d", "c", "assistant", text("No.", "refusal"), **COMPLETED),
    ]
    session = FULL["session"] | {"head": "d"}
    made = brought(server, FULL | {"session": session, "messages": said}, fresh_key("made of all"))
    seen = len(upstream.requests)
    counted(server, range(1, 4), made.json()["session_id"], fresh_key("made of all"))
    (asked, *_) = asked_summaries(upstream, seen)
    lines = "user:\nLook\n[image]", 'assistant:\n[calls weather with {"x":1}]', "tool:\n[result: aa", "aa]", "No."
    assert [line for line in lines if line not in asked] == [], asked
    assert "too much" not in asked


def test_without_a_summary_messages_are_left_out_and_failures_pause_the_summaries(
    server: Service, upstream: Simulator
) -> None:
    upstream.script = cannot_summarise()
    seen = len(upstream.requests)
    for _ in range(2):
        _, answer = counted(server, range(1, 8))
        assert answer["left_out"]["messages"] > 0
        assert answer["left_out"]["summary"] is None
    assert len(asked_summaries(upstream, seen)) <= 3 * 2, "three failures on each replica"
    assert server.get(f"/api/sessions/{answer_session(server)}/summaries", key=KEY).json()["data"] == []
    upstream.script = summarises
    _, answer = counted(server, range(1, 8), key=OTHER_KEY)
    assert answer["left_out"]["summary"] is not None, "a key that lacks the model pauses no other"


def answer_session(server: Service) -> str:
    """Return the newest session."""
    return str(server.get("/api/sessions", key=KEY).json()["data"][0]["session_id"])
