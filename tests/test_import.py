"""Import of documents: a round trip changes only ids, and no document does harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import requests

from chatapi.simulator import Gate, Simulator, answer, refuse, scripts
from tests.server_process import KEY, OTHER_KEY, Serve, Service, fresh_key

Document = dict[str, Any]
CALL = {"call_id": "call_1", "name": "weather"}
PNG = "data:image/png;base64,AAAA"
STAMP = "2026-01-02T03:04:05.000006+00:00"


def message(id: str, parent: str | None, role: str, *parts: dict[str, Any], **answered: Any) -> dict[str, Any]:
    told = {"id": id, "parent_id": parent, "role": role, "parts": list(parts), "created_at": STAMP}
    return (
        told
        | dict.fromkeys(("model", "status", "finish_reason", "usage", "error", "first_token_at", "ended_at"))
        | answered
    )


def text(text: str, type: str = "text") -> dict[str, Any]:
    return {"type": type, "text": text}


COMPLETED = {
    "model": "gpt-4.1-mini",
    "status": "completed",
    "finish_reason": "stop",
    "usage": {
        "input_tokens": 1,
        "output_tokens": 2,
        "reasoning_tokens": None,
        "cached_tokens": 0,
        "estimated": False,
    },
    "first_token_at": STAMP,
    "ended_at": "2026-01-02T03:04:06+00:00",
}
FAILED = {
    "model": "gpt-4.1-mini",
    "status": "failed",
    "error": {"code": "upstream_broken", "detail": "It broke."},
    "ended_at": STAMP,
}
FULL: Document = {
    "format": "chatapi.session",
    "version": 1,
    "exported_at": "2026-01-03T00:00:00+00:00",
    "session": {
        "title": "Über 東京",
        "developer_message": "Be brief.",
        "metadata": {"colour": "blue"},
        "created_at": STAMP,
        "last_updated": "2026-01-02T04:00:00.123456+00:00",
        "head": "e",
    },
    "messages": [
        message("e", "d", "assistant", text("It rains."), text("No.", "refusal"), **COMPLETED),
        message("d", "c", "tool", {"type": "tool_result", "call_id": "call_1", "text": ""}),
        message(
            "c",
            "b",
            "assistant",
            text("Hm.", "reasoning"),
            text("I look."),
            text('{"url": 1}\n{"a":[2]}\n{"cut', "annotation"),
            {"type": "tool_call", **CALL, "arguments": '{"city":"東京"}'},
            **COMPLETED,
        ),
        message("b", "a", "user", text("Weather?"), {"type": "image", "url": PNG, "detail": "low"}),
        message(
            "b2",
            "a",
            "user",
            {"type": "audio", "data": "AAAA", "format": "wav"},
            {"type": "file", "data": PNG, "filename": "a.pdf"},
            {"type": "file", "file_id": "file-1"},
        ),
        message("f1", "b2", "assistant", **FAILED),
        message("f2", "b2", "assistant", text("half"), **{**FAILED, "status": "interrupted"}),
        message("a", None, "developer", text("Listen.")),
        message("a2", None, "system", text("Or not.")),
    ],
}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_MEDIA_BYTES="1000000")


def brought(service: Service, document: Any, key: str = KEY) -> requests.Response:
    data = document if isinstance(document, bytes) else json.dumps(document)
    headers = {"Content-Type": "application/json"}
    return service.post("/api/sessions/import", key=key, data=data, headers=headers)


def taken(service: Service, session_id: str, key: str = KEY) -> Document:
    response = service.get(f"/api/sessions/{session_id}/export", key=key)
    assert response.status_code == 200, response.text
    document: Document = response.json()
    return document


def without_ids(document: Document) -> Document:
    """Return the document with ids that show the position of each message in the tree and in time."""
    below: dict[str | None, list[dict[str, Any]]] = {}
    for one in document["messages"]:
        below.setdefault(one["parent_id"], []).append(one)
    ids: dict[str | None, str | None] = {None: None}
    ordered: list[dict[str, Any]] = []
    pending: list[str | None] = [None]
    while pending:
        for number, one in enumerate(sorted(below.get(pending.pop(0), []), key=lambda one: one["created_at"])):
            ids[one["id"]] = f"{ids[one['parent_id']] or ''}/{number}"
            ordered.append(one)
            pending.append(one["id"])
    assert len(ordered) == len(document["messages"])
    told = copy.deepcopy({**document, "messages": ordered})
    for one in told["messages"]:
        one["id"], one["parent_id"] = ids[one["id"]], ids[one["parent_id"]]
    told["session"]["head"] = ids[told["session"]["head"]]
    del told["exported_at"]
    return told


def test_a_round_trip_changes_only_the_ids(server: Service) -> None:
    key = fresh_key("import-full")
    made = brought(server, FULL, key)
    assert made.status_code == 201, made.text
    session = made.json()
    assert session == server.get(f"/api/sessions/{session['session_id']}", key=key).json()
    assert session["message_count"] == len(FULL["messages"])
    again = taken(server, session["session_id"], key)
    assert without_ids(again) == without_ids(FULL)
    assert not {one["id"] for one in again["messages"]} & {one["id"] for one in FULL["messages"]}
    path = server.messages(session["session_id"], key=key)
    assert [one["content"] for one in path] == ["Listen.", "Weather?", "I look.", "", "It rains.No."]
    twice = brought(server, again, key).json()["session_id"]
    assert without_ids(taken(server, twice, key)) == without_ids(FULL)
    totals = server.get("/api/usage", key=key).json()["totals"]
    assert (totals["answers"], totals["input_tokens"]) == (0, 0), "its cost was counted elsewhere"
    other = server.get(f"/api/sessions/{twice}", key=OTHER_KEY)
    assert (other.status_code, other.content) == (404, b'{"detail":"Session not found"}')
    assert [one["session_id"] for one in server.get("/api/search?q=regnet+nie", key=key).json()["data"]] == []
    assert len(server.get("/api/search?q=rains", key=key).json()["data"]) == 2


def test_an_imported_conversation_can_be_continued(service: Service, simulator: Simulator) -> None:
    session_id = brought(service, FULL).json()["session_id"]
    stream = service.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY)
    assert (stream.status_code, stream.text) == (200, "It rains.No.")
    simulator.script = lambda request: answer("And on.")
    assert service.send("Thanks", session_id=session_id).text == "And on."
    told = simulator.requests[-1].body["messages"]
    assert [one["role"] for one in told] == ["developer", "developer", "user", "assistant", "tool", "assistant", "user"]
    assert service.get("/api/usage", key=KEY).json()["totals"]["answers"] == 1
    assert service.delete(f"/api/sessions/{session_id}", key=KEY).status_code == 200


def test_an_imported_conversation_is_exported_as_it_was(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = lambda request: answer("one two", reasoning="Hm.")
    session_id = service.send("Hello").headers["X-Session-ID"]
    service.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY).close()  # to its end
    question = service.messages(session_id, key=KEY)[0]["id"]
    simulator.script = lambda request: refuse(500)
    service.send("Hi", session_id=session_id, replace=question).close()
    simulator.script = lambda request: scripts.held(gate, "so far", " and on")
    with service.send("And?", session_id=session_id, replace=question) as running:
        assert b"".join(islice(running.iter_content(1), 6)) == b"so far"
        document = taken(service, session_id)
        gate.open()
    again = taken(service, brought(service, document).json()["session_id"])
    (live,) = [one for one in document["messages"] if one["status"] == "running"]
    live |= {
        "status": "interrupted",
        "error": {"code": "interrupted", "detail": None},
        "ended_at": document["exported_at"],
    }
    assert without_ids(again) == without_ids(document)


@pytest.mark.one_process("it is about a document, which one process reads as any does")
def test_an_annotation_of_any_depth_leaves_its_conversation_readable(service: Service) -> None:
    for depth in (60, 64, 65, 300, 800, *range(900, 1000, 2)):
        nested = '{"a":' * depth + "1" + "}" * depth
        answer = message("a", None, "assistant", text("said"), text(nested + '\n{"b":1}\n', "annotation"), **COMPLETED)
        made = brought(service, FULL | {"session": {**FULL["session"], "head": "a"}, "messages": [answer]})
        if made.status_code == 422:
            continue  # deeper than any reader accepts
        session_id = made.json()["session_id"]
        (shown,) = service.messages(session_id, key=KEY)
        annotations = [part["annotation"] for part in shown["parts"] if part["type"] == "annotation"]
        assert annotations == ([json.loads(nested)] if depth < 64 else []) + [{"b": 1}], depth
        told = taken(service, session_id)["messages"][0]["parts"][1]["text"]
        assert told == nested + '\n{"b":1}\n'
        for path in (
            f"conversations/{session_id.replace('ses', 'conv', 1)}/items",
            f"chat/completions/{shown['generation_id']}?stream=true",
        ):
            assert service.get(f"/v1/{path}", key=KEY).status_code == 200


def test_absurd_counts_and_parts_of_an_upstream_are_imported(server: Service) -> None:
    key = fresh_key("import-absurd")
    usage = {"input_tokens": -5, "output_tokens": 10**30, "reasoning_tokens": 2**53 + 1, "cached_tokens": None}
    parts = [text(str(number), "text" if number % 2 else "reasoning") for number in range(12_000)]
    answer = message("a", None, "assistant", *parts, **{**COMPLETED, "usage": {**usage, "estimated": False}})
    made = brought(server, FULL | {"session": {**FULL["session"], "head": "a"}, "messages": [answer]}, key)
    assert made.status_code == 201, made.text
    (again,) = taken(server, made.json()["session_id"], key)["messages"]
    assert again["parts"] == answer["parts"]
    clamped = {"input_tokens": 0, "output_tokens": 2**53, "reasoning_tokens": 2**53, "cached_tokens": None}
    assert again["usage"] == {**clamped, "estimated": False}


def test_invented_keys_do_not_lift_the_limit_of_imports(serve: Serve) -> None:
    service = serve(CHATAPI_RATE_LIMIT="3")
    statuses = [brought(service, FULL, fresh_key(f"made-up-{number}")).status_code for number in range(5)]
    assert statuses == [201, 201, 201, 429, 429]


# Invalid documents


def changed(change: Callable[[Document], Any]) -> Document:
    document = copy.deepcopy(FULL)
    change(document)
    return document


def part(value: Any, index: int = 3) -> Document:
    """Return the full document with another part in a message."""
    return changed(lambda document: document["messages"][index].update(parts=[value]))


def field(name: str, value: Any, index: int = 0) -> Document:
    return changed(lambda document: document["messages"][index].update({name: value}))


def about(name: str, value: Any) -> Document:
    return changed(lambda document: document["session"].update({name: value}))


REFUSED: dict[str, tuple[Document, str]] = {
    "another format": (FULL | {"format": "chatapi.message"}, "format"),
    "another version": (FULL | {"version": 2}, "version"),
    "an unknown member": (FULL | {"secret": 1}, "body"),
    "an unknown member that looks like a place": (FULL | {"x - at `$.secret": 1}, "body"),
    "an unknown role that looks like a place": (field("role", "x - at `$.robot"), "messages.0.role"),
    "a role that goes on": (field("role", "x`\n - at `$.robot" * 1000), "messages.0.role"),
    "metadata that looks like a place": (about("metadata", {"x - at `$.secret`": 1}), "session.metadata"),
    "messages that are none": (FULL | {"messages": {}}, "messages"),
    "no session": ({name: FULL[name] for name in FULL if name != "session"}, "session"),
    "a time without offset": (FULL | {"exported_at": "2026-01-01T00:00:00"}, "exported_at"),
    "a time before all": (field("created_at", "1969-12-31T23:59:59Z"), "messages.0.created_at"),
    "a time after all": (about("created_at", "9999-12-31T23:59:59-12:00"), "session.created_at"),
    "a time that is none": (about("created_at", "yesterday"), "session.created_at"),
    "a title that is too long": (about("title", "x" * 201), "session.title"),
    "a title with a NUL": (about("title", "a\0b"), "body"),
    "too much metadata": (about("metadata", {str(n): "" for n in range(17)}), "session.metadata"),
    "metadata that is too long": (about("metadata", {"a": "x" * 513}), "session.metadata"),
    "a developer message that is too long": (about("developer_message", "x" * 300_000), "session.developer_message"),
    "a head elsewhere": (about("head", "x"), "session.head"),
    "an id twice": (field("id", "a2"), "messages.8.id"),
    "an id that is too long": (field("id", "x" * 65), "messages.0.id"),
    "an unknown parent": (field("parent_id", "x"), "messages.0.parent_id"),
    "its own parent": (field("parent_id", "e"), "messages.0.parent_id"),
    "a circle": (field("parent_id", "e", 3), "messages.0.parent_id"),
    "an unknown role": (field("role", "robot"), "messages.0.role"),
    "an unknown kind": (part(text("x", "video")), "messages.3.parts.0.type"),
    "another role's part": (part({"type": "tool_call", **CALL, "arguments": "{}"}), "messages.3.parts.0.type"),
    "an answer's image": (part({"type": "image", "url": PNG}, 0), "messages.0.parts.0.type"),
    "a part without text": (part({"type": "text"}), "messages.3.parts.0.text"),
    "a part with too much": (part({"type": "text", "text": "", "url": PNG}), "messages.3.parts.0.url"),
    "a part with an unknown field": (part({"type": "text", "text": "", "bold": True}), "messages.3.parts.0"),
    "a text that is a number": (part({"type": "text", "text": 1}), "messages.3.parts.0.text"),
    "a call without arguments": (
        part({"type": "tool_call", **CALL, "arguments": ""}, 0),
        "messages.0.parts.0.arguments",
    ),
    "two results in one": (field("parts", FULL["messages"][1]["parts"] * 2, 1), "messages.1.parts"),
    "no result": (field("parts", [], 1), "messages.1.parts"),
    "a script as an image": (part({"type": "image", "url": "javascript:alert(1)"}), "messages.3.parts.0.url"),
    "a file of nothing": (part({"type": "file", "filename": "x"}), "messages.3.parts.0"),
    "annotations that are none": (part(text("nonsense\n", "annotation"), 0), "messages.0.parts.0.text"),
    "annotations that nest": (part(text("[" * 50_000 + "\n", "annotation"), 0), "messages.0.parts.0.text"),
    "annotations without end": (
        field("parts", [text('{"a":0}\n' * 17_000, "annotation")] * 2),
        "messages.0.parts",
    ),
    "a question with a status": (field("status", "completed", 3), "messages.3.status"),
    "an answer without a model": (field("model", None), "messages.0.status"),
    "an answer without an end": (field("ended_at", None), "messages.0.ended_at"),
    "a usage without a status": (field("usage", COMPLETED["usage"], 3), "messages.3.usage"),
    "an error's code that is none": (field("error", {"code": "<b>", "detail": None}, 5), "messages.5.error.code"),
    "a message with too many parts": (field("parts", [text("")] * 50_001), "messages"),
    "a million parts in all": (
        FULL | {"messages": [message(str(n), None, "user", *[text("")] * 10_000) for n in range(6)]},
        "messages",
    ),
    "too many messages": (
        FULL | {"messages": [message(str(n), None, "user") for n in range(10_001)]} | {"exported_at": STAMP},
        "messages",
    ),
}


@pytest.mark.one_process("it is about a document, which one process reads as any does")
def test_an_invalid_document_is_refused_with_a_sentence_that_echoes_nothing(serve: Serve) -> None:
    service = serve(CHATAPI_RATE_LIMIT="0")
    for name, (document, where) in REFUSED.items():
        response = brought(service, document)
        assert response.status_code == 422, (name, response.text)
        (error,) = response.json()["errors"]
        assert error["field"] == where, (name, error)
        assert error["message"][0].isupper(), (name, error)
        assert error["message"].endswith("."), (name, error)
        for echoed in ("robot", "video", "secret", "javascript", "nonsense", "yesterday"):
            assert echoed not in response.text, name
    malformed = [
        b"",
        json.dumps(FULL).encode()[:-1],
        json.dumps(FULL).encode().replace(b"Be brief", b"\\ud800 brief"),
        json.dumps(FULL).encode().replace(b"Be brief", b"\xff brief"),
        json.dumps(FULL).encode().replace(b"Be brief", b"\0 brief"),
        json.dumps(FULL).encode().replace(b'"version": 1', b'"version": 1, "version": 1'),
        json.dumps(FULL).encode().replace(b'"text": ', b'"text": "other", "\\u0074ext": ', 1),
    ]
    for data in malformed:
        response = brought(service, data)
        assert (response.status_code, response.json()["code"]) == (400, "malformed_json"), data[:40]
    for data in (b"null", b"[]", b'"x"', b"[" * 900_000, b'{"session":' * 90_000):
        assert brought(service, data).status_code == 422
    assert brought(service, b" " * 9_000_000).status_code == 413
    assert service.post("/api/sessions/import", key=KEY, data=b"{}").status_code == 415
    assert service.post("/api/sessions/import", json=FULL).status_code == 401
    assert service.get("/api/sessions", key=KEY).json()["data"] == []
    assert service.get("/api/health").json()["active_sessions"] == 0


def test_a_removed_title_does_not_come_back_with_another_message(server: Service, key: str) -> None:
    sent = server.send("A first message", key=key)
    assert sent.text
    session_id = sent.headers["X-Session-ID"]
    assert server.patch(f"/api/sessions/{session_id}", key=key, json={"title": ""}).json()["title"] is None
    again = brought(server, taken(server, session_id, key), key).json()
    assert again["title"] is None
    assert server.send("A second message", key=key, session_id=again["session_id"]).text
    assert server.get(f"/api/sessions/{again['session_id']}", key=key).json()["title"] is None
