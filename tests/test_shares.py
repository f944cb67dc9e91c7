"""Shares: a link shows the messages up to its creation to anyone, until it expires or they are deleted."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from chatapi.auth.authorization import authorize_share
from chatapi.errors import SessionFull, ShareNotFound
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store import Store
from chatapi.store.shares import MAX_SHARES
from tests.server_process import KEY, OTHER_KEY, Serve, Service
from tests.test_chat import Reader, session_of
from tests.test_store import PLENTY, Clock, anyone, clock, driver, said, store

__all__ = ["clock", "driver", "store"]  # fixtures


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="key")


def say(server: Service, text: str, **more: Any) -> str:
    """Send a message, and wait until its answer is stored. Returns the session."""
    answer = server.send(text, **more)
    assert answer.content
    return answer.headers["x-session-id"]


def share(server: Service, session_id: str, **body: Any) -> dict[str, Any]:
    made = server.post(f"/api/sessions/{session_id}/shares", key=KEY, json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def read(server: Service, token: str) -> tuple[int, Any]:
    answer = server.get(f"/api/shares/{token}")
    assert answer.status_code != 200 or answer.headers["cache-control"] == "private, no-store"
    return answer.status_code, answer.json()


def shown(server: Service, token: str) -> list[tuple[str, str]]:
    status, body = read(server, token)
    assert status == 200, body
    return [(message["role"], "".join(part["text"] for part in message["parts"])) for message in body["messages"]]


def test_link_shows_the_messages_up_to_its_creation_without_a_key(server: Service) -> None:
    session_id = say(server, "Count to 2", developer_message="Instructions")
    made = share(server, session_id, days=1)
    token = made["token"]
    assert re.fullmatch(r"[\w-]{32}", token)
    say(server, "Later", session_id=session_id)
    assert shown(server, token) == [("user", "Count to 2"), ("assistant", "1 2")]
    _, body = read(server, token)
    assert set(body) == {"title", "created_at", "expires_at", "messages"}
    assert "Instructions" not in str(body)
    assert session_id not in str(body)
    listed = server.get(f"/api/sessions/{session_id}/shares", key=KEY).json()["data"]
    assert listed == [{name: made[name] for name in ("id", "created_at", "expires_at")}]
    rows = str(server.database.rows("SELECT digest, id, session_id, message_id FROM share"))
    assert hashlib.sha256(token.encode()).hexdigest() in rows
    assert token not in rows
    server.wait_for_log("request", path="/api/shares/", status=200)
    assert token not in "".join(server.log)


def test_only_the_owner_creates_lists_and_removes_links(server: Service) -> None:
    session_id = say(server, "Count to 2")
    made = share(server, session_id)
    path = f"/api/sessions/{session_id}/shares"
    for answer in (
        server.post(path, key=OTHER_KEY, json={}),
        server.get(path, key=OTHER_KEY),
        server.delete(f"{path}/{made['id']}", key=OTHER_KEY),
        server.delete(f"/api/sessions/{session_id}x/shares/{made['id']}", key=KEY),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "Session not found"})
    assert server.post(path, json={}).status_code == 401
    assert len(shown(server, made["token"])) == 2
    assert server.delete(f"{path}/{made['id']}", key=KEY).status_code == 200
    removed, unknown = read(server, made["token"]), read(server, "A" * 32)
    assert removed == unknown
    assert (removed[0], removed[1]["code"]) == (404, "share_not_found")
    again = server.delete(f"{path}/{made['id']}", key=KEY)
    assert (again.status_code, again.json()["code"]) == (404, "share_not_found")


def test_link_ends_with_its_last_message_and_with_the_session(server: Service) -> None:
    session_id = say(server, "Count to 2")
    say(server, "Count to 3", session_id=session_id)
    first, _, _, last = (message["id"] for message in server.messages(session_id, key=KEY))
    token = share(server, session_id)["token"]
    conversation = session_id.replace("ses_", "conv_")
    server.delete(f"/v1/conversations/{conversation}/items/{first}", key=KEY)
    assert shown(server, token) == [("assistant", "1 2"), ("user", "Count to 3"), ("assistant", "1 2 3")]
    server.delete(f"/v1/conversations/{conversation}/items/{last}", key=KEY)
    assert read(server, token)[0] == 404
    token = share(server, session_id)["token"]
    server.delete(f"/api/sessions/{session_id}", key=KEY)
    assert read(server, token)[0] == 404
    assert session_id not in str(server.database.rows("SELECT session_id FROM share"))


def test_links_that_cannot_be_made(server: Service, upstream: Simulator, gate: Gate) -> None:
    empty = server.post("/api/sessions", key=KEY, json={"developer_message": ""}).json()["session_id"]
    path = f"/api/sessions/{empty}/shares"
    assert server.post(path, key=KEY, json={}).json()["code"] == "share_not_found"
    for days in (0, 91, "1", 1.5):
        assert server.post(path, key=KEY, json={"days": days}).status_code == 422
    assert server.get(f"/api/shares/{'A' * 65}").status_code == 422
    upstream.script = scripts.held(gate)
    with server.send("Hold") as running:
        Reader(running).until("Hello")
        busy = server.post(f"/api/sessions/{session_of(running)}/shares", key=KEY, json={})
        assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
        gate.open()


async def test_link_expires_at_its_time_and_is_removed_by_the_next_one(store: Store, clock: Clock) -> None:
    session_id = (await said(store, None, "Hello", "Hi")).session.id
    await store.shares.create(session_id, anyone, "digest", 60_000_000, PLENTY)
    clock.now += 59_999_999
    assert len((await store.shares.find("digest", authorize_share, PLENTY)).messages) == 2
    clock.now += 1
    with pytest.raises(ShareNotFound):
        await store.shares.find("digest", authorize_share, PLENTY)
    assert await store.shares.of_session(session_id) == []
    for number in range(MAX_SHARES):
        await store.shares.create(session_id, anyone, f"digest {number}", 60_000_000, PLENTY)
    with pytest.raises(SessionFull):
        await store.shares.create(session_id, anyone, "one more", 60_000_000, PLENTY)
    assert len(await store.shares.of_session(session_id)) == MAX_SHARES
