"""Fork: continue a copy of a conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import requests

from chatapi.errors import ContextTooLarge, MessageNotFound, SessionNotFound
from chatapi.model import user_text, wall_clock
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store import Store
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.forks import MAX_FORKED_MESSAGES
from tests.server_process import KEY, OTHER_KEY, Serve, Service
from tests.test_chat import Reader, begun, sent_upstream, session_of
from tests.test_store import anyone, clock, driver, said, store

__all__ = ["clock", "driver", "store"]  # fixtures

OWN = ("id", "parent_id", "generation_id", "sibling_ids")  # that differ in a copy


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="key")


def forked(server: Service, session_id: str, *, key: str | None = KEY, **body: Any) -> requests.Response:
    return server.post(f"/api/sessions/{session_id}/fork", key=key, **({"json": body} if body else {}))


def told(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages without the fields that differ in a copy."""
    return [{name: value for name, value in message.items() if name not in OWN} for message in messages]


def test_a_fork_continues_a_copy_and_leaves_the_original_unchanged(server: Service, upstream: Simulator) -> None:
    session_id = begun(server)
    with server.send("Count to 2", session_id=session_id) as response:
        assert response.text == "1 2"
    server.patch(f"/api/sessions/{session_id}", key=KEY, json={"title": "Counting", "metadata": {"a": "b"}})
    original, whole = server.get(f"/api/sessions/{session_id}", key=KEY).json(), server.messages(session_id, key=KEY)
    answer = forked(server, session_id)
    assert answer.status_code == 201
    made = answer.json()
    assert server.get(f"/api/sessions/{made['session_id']}", key=KEY).json() == made
    kept = ("title", "metadata", "developer_message", "message_count")
    assert [made[name] for name in kept] == [original[name] for name in kept]
    copy = server.messages(made["session_id"], key=KEY)
    assert told(copy) == told(whole)
    assert not {message["id"] for message in copy} & {message["id"] for message in whole}
    assert [message["parent_id"] for message in copy] == [None, *(message["id"] for message in copy[:-1])]
    assert made["head"] == copy[-1]["id"]
    with server.send("And now?", session_id=made["session_id"]) as response:
        assert response.text
    assert [text for _, text in sent_upstream(upstream)[1:]] == ["Count to 3", "1 2 3", "Count to 2", "1 2", "And now?"]
    again = server.get(f"/api/chat/{made['session_id']}/stream?generation_id={copy[1]['generation_id']}", key=KEY)
    assert again.text == "1 2 3"
    assert server.get(f"/api/sessions/{session_id}", key=KEY).json() == original
    server.delete(f"/api/sessions/{session_id}", key=KEY)
    assert told(server.messages(made["session_id"], key=KEY))[:4] == told(whole)


def test_a_fork_ends_at_the_named_message_on_any_branch(server: Service) -> None:
    session_id = begun(server)
    question, answer = server.messages(session_id, key=KEY)
    body = {"session_id": session_id, "replace": question["id"], "user_message": "Count to 1"}
    assert server.post("/api/chat", key=KEY, json=body).text == "1"
    for message_id, texts in ((question["id"], ["Count to 3"]), (answer["id"], ["Count to 3", "1 2 3"])):
        made = forked(server, session_id, message_id=message_id).json()
        assert [message["content"] for message in server.messages(made["session_id"], key=KEY)] == texts
        assert made["message_count"] == len(texts)
    assert forked(server, session_id, message_id="msg_none").json()["code"] == "message_not_found"
    elsewhere = server.messages(begun(server), key=KEY)[0]["id"]
    assert forked(server, session_id, message_id=elsewhere).json()["code"] == "message_not_found"


def test_a_running_answer_is_not_copied_and_the_messages_before_it_are(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with server.send("Hello") as response:
        reader = Reader(response)
        reader.until("Hello")
        session_id = session_of(response)
        busy = forked(server, session_id)
        assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
        assert busy.json()["generation_id"] == response.headers["X-Generation-ID"]
        question = server.messages(session_id, key=KEY)[0]
        assert forked(server, session_id, message_id=question["id"]).status_code == 201
        gate.open()
        assert reader.rest()


def test_a_fork_belongs_to_the_owner_and_other_keys_cannot_make_one(server: Service, key: str) -> None:
    session_id = begun(server, key)
    made = forked(server, session_id, key=key).json()["session_id"]
    assert [one["session_id"] for one in server.get("/api/sessions", key=key).json()["data"]] == [made, session_id]
    nowhere = forked(server, "ses_none", key=OTHER_KEY)
    other = forked(server, session_id, key=OTHER_KEY)
    assert (other.status_code, other.content) == (404, nowhere.content)
    assert forked(server, session_id, key=None).status_code in {401, 404}  # 401 where access requires a key
    assert server.get(f"/api/sessions/{made}", key=OTHER_KEY).content == nowhere.content
    assert len(server.get("/api/sessions", key=key).json()["data"]) == 2
    usage = server.get("/api/usage", key=key).json()
    assert usage["totals"]["answers"] == 1, "a copied answer cost nothing"


@pytest.mark.one_process("the limit is the same for every route")
def test_forks_are_limited(serve: Serve) -> None:
    limited = serve(CHATAPI_RATE_LIMIT="2")
    session_id = begun(limited)
    assert [forked(limited, session_id).status_code for _ in range(2)] == [201, 429]


async def test_a_long_path_is_copied_whole_and_a_too_long_one_is_refused(store: Store) -> None:
    first = await said(store, None, "one", "1")
    session_id = first.session.id
    await store.messages.add(session_id, "anna", anyone, user_text("and so on") * (MAX_FORKED_MESSAGES - 2))
    made = await store.forks.create(session_id, anyone, None, 1 << 30)
    assert made.message_count == MAX_FORKED_MESSAGES
    assert made.head is not None
    copy = await store.messages.page_before(made.id, 1 << 30, 1)
    assert (copy[0].id, copy[0].depth) == (made.head, MAX_FORKED_MESSAGES - 1)
    assert len(await store.messages.history(made.id, made.head, 1 << 30)) == MAX_FORKED_MESSAGES
    with pytest.raises(ContextTooLarge):
        await store.forks.create(session_id, anyone, None, 10_000)
    await store.messages.add(session_id, "anna", anyone, user_text("and on"))
    with pytest.raises(ContextTooLarge):
        await store.forks.create(session_id, anyone, None, 1 << 30)
    empty = await store.sessions.create("anna", "Be kind.")
    assert (await store.forks.create(empty.id, anyone, None, 0)).head is None


async def test_other_writers_write_between_the_slices_of_a_fork(store: Store) -> None:
    made = await store.sessions.create_with_messages("anna", {}, user_text("and so on") * 1_000)
    forking = asyncio.create_task(store.forks.create(made.id, anyone, None, 1 << 30))
    written = 0
    while not forking.done():
        await store.sessions.create("bert", "")
        written += 1
    assert written > 3
    assert (await forking).message_count == 1_000


async def test_a_fork_whose_original_goes_meanwhile_leaves_nothing(store: Store) -> None:
    made = await store.sessions.create_with_messages("anna", {}, user_text("and so on") * 1_000)
    forking = asyncio.create_task(store.forks.create(made.id, anyone, None, 1 << 30))
    await asyncio.sleep(0)  # it has asked for its first transaction
    await store.sessions.delete(made.id, anyone)
    with pytest.raises((MessageNotFound, SessionNotFound)):
        await forking
    assert await store.sessions.count() == 0


async def test_a_fork_that_a_killed_process_began_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    store = Store(SQLiteDriver(tmp_path / "chat.db"), wall_clock)
    await store.open()
    made = await store.sessions.create_with_messages("anna", {}, user_text("one"))
    plan = await store.forks._begin(made.id, anyone, None, 1 << 30)
    assert await store.sessions.page("anna", None, 10) == [await store.sessions.find(made.id)]
    assert await store.sessions.count() == 2
    await store.close()
    store = Store(SQLiteDriver(tmp_path / "chat.db"), wall_clock)
    await store.open()
    assert await store.sessions.find(plan.fork.id) is None
    assert await store.sessions.count() == 1
    await store.close()
