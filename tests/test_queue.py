"""Queued messages: stored while an answer runs, started in order and once, on any replica and after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec.structs import replace

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import IdempotencyMismatch, QueuedMessageNotFound, QueueFull
from chatapi.generations.queue import MAX_KEYS, QueueKeys
from chatapi.model import Outcome, QueuedTurn, Status, TurnRequest
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store import Fenced, QueuedStart, StartedTurn, Store
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.store.generations import EVERY_LEASE
from tests.cluster import Cluster
from tests.databases import postgres
from tests.server_process import KEY, OTHER_KEY, Serve, Service
from tests.test_chat import Reader, session_of
from tests.test_store import COMPLETED, REFUSED, Clock, Writer, anyone, begin, clock, driver, said, store, turn
from tests.waiting import wait_for

__all__ = ["clock", "driver", "store"]  # fixtures

SECONDS = 20.0  # for anything a test waits for; it takes milliseconds, or a lease
MOST = 3
ROUNDS, SENDERS = 4, 6  # of requests at once


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="key", CHATAPI_MAX_QUEUED=str(MOST))


def queued(server: Service, text: str, session_id: str, **more: Any) -> requests.Response:
    return server.send(text, session_id=session_id, if_busy="queue", **more)


def waiting(server: Service, session_id: str, key: str | None = KEY) -> dict[str, Any]:
    listed: dict[str, Any] = server.get(f"/api/chat/{session_id}/queue", key=key).json()
    return listed


def texts(listed: dict[str, Any]) -> list[str]:
    return [message["user_message"] for message in listed["data"]]


def is_answered(server: Service, session_id: str, count: int) -> Callable[[], bool]:
    def look() -> bool:
        messages = server.messages(session_id, key=KEY)
        return len(messages) == count and messages[-1]["status"] != "running"

    return look


def asked(upstream: Simulator, seen: int) -> list[str]:
    """Return the last message of each request after the first `seen`."""
    return [request.body["messages"][-1]["content"] for request in upstream.requests[seen:]]


def test_queued_messages_can_be_edited_and_removed_and_start_in_order_once(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.in_turn(scripts.held(gate), None)
    with server.send("Hold") as first:
        Reader(first).until("Hello")
        session_id = session_of(first)
        sent = [
            queued(server, "Count to 2", session_id, temperature=0.5),
            queued(server, "Never", session_id),
            queued(server, "Count to 9", session_id, headers={"Idempotency-Key": "nine"}),
        ]
        assert [one.status_code for one in sent] == [202, 202, 202]
        two, never, nine = [one.json() for one in sent]
        assert queued(server, "Count to 9", session_id, headers={"Idempotency-Key": "nine"}).json() == nine
        full = queued(server, "One too many", session_id)
        assert (full.status_code, full.json()["code"]) == (409, "queue_full")
        of = f"/api/chat/{session_id}/queue"
        assert server.delete(f"{of}/{never['id']}", key=KEY).json() == {"removed": 1}
        assert server.patch(f"{of}/{nine['id']}", key=KEY, json={"user_message": "Count to 3"}).status_code == 200
        listed = waiting(server, session_id)
        assert (texts(listed), listed["waits_for"]) == (["Count to 2", "Count to 3"], "answer")
        assert server.get(f"/api/sessions/{session_id}", key=KEY).json()["queued"] == 2
        exported = server.get(f"/api/sessions/{session_id}/export", key=KEY).json()
        assert [one["parts"][0]["text"] for one in exported["queue"]] == ["Count to 2", "Count to 3"]
        for stranger, status in ((OTHER_KEY, 404), (None, 401)):
            assert server.get(of, key=stranger).status_code == status
            assert server.delete(of, key=stranger).status_code == status
            assert server.patch(f"{of}/{two['id']}", key=stranger, json={"user_message": "x"}).status_code == status
        assert server.post(f"{of}/start", key=OTHER_KEY).status_code == 404
        gate.open()
    wait_for(is_answered(server, session_id, 6))
    messages = server.messages(session_id, key=KEY)
    assert [message["content"] for message in messages] == [
        *("Hold", "Hello there.", "Count to 2", "1 2", "Count to 3", "1 2 3")
    ]
    assert [message["id"] for message in messages[2::2]] == [two["id"], nine["id"]]
    assert [message["generation_id"] for message in messages[3::2]] == [two["generation_id"], nine["generation_id"]]
    assert asked(upstream, seen) == ["Hold", "Count to 2", "Count to 3"]
    assert upstream.requests[seen + 1].body["temperature"] == 0.5
    assert waiting(server, session_id) == {"data": [], "waits_for": None}
    started = server.patch(f"{of}/{two['id']}", key=KEY, json={"user_message": "Late"})
    assert (started.status_code, started.json()["code"]) == (404, "queued_message_not_found")
    again = queued(server, "Count to 9", session_id, headers={"Idempotency-Key": "nine"})
    assert (again.status_code, again.text, again.headers["X-Generation-ID"]) == (200, "1 2 3", nine["generation_id"])
    assert queued(server, "Count to 1", session_id).text == "1", "nothing runs, so it starts at once"
    wrong = server.post("/api/chat", key=KEY, json={"session_id": session_id, "if_busy": "queue", "replace": "x"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "if_busy")


def test_a_failed_answer_stops_the_queue_an_interrupting_message_comes_first_and_a_delete_removes_it(
    server: Service, upstream: Simulator, gate: Gate
) -> None:
    refused = [scripts.refuse(500)] * 3  # the client tries three times
    upstream.script = scripts.in_turn(scripts.held(gate), *refused, scripts.held(gate), scripts.held(gate))
    seen = len(upstream.requests)
    with server.send("Hold") as first:
        Reader(first).until("Hello")
        session_id = session_of(first)
        for text in ("Refused", "Later", "Last"):
            assert queued(server, text, session_id).status_code == 202
        stopped = server.post(f"/api/chat/{session_id}/stop", key=KEY)  # and the queue continues
        assert stopped.json()["text"] == "Hello"
    wait_for(is_answered(server, session_id, 4))
    listed = waiting(server, session_id)
    assert (texts(listed), listed["waits_for"]) == (["Later", "Last"], "start")
    assert server.get(f"/api/chat/{session_id}/stream", key=KEY).status_code == 204
    assert server.post(f"/api/chat/{session_id}/queue/start", key=KEY).json()["waits_for"] == "answer"
    wait_for(lambda: asked(upstream, seen)[-1] == "Later")
    with server.send("First of all", session_id=session_id, if_busy="interrupt") as before:
        Reader(before).until("Hello")
        assert texts(waiting(server, session_id)) == ["Last"]
        fork = server.post(f"/api/sessions/{session_id}/fork", key=KEY, json={"message_id": None})
        assert fork.status_code == 409
        assert server.delete(f"/api/sessions/{session_id}", key=KEY).status_code == 200
    assert asked(upstream, seen) == ["Hold", "Refused", "Refused", "Refused", "Later", "First of all"]
    assert session_id not in str(server.database.rows("SELECT session_id FROM queued_turn"))


def test_requests_with_one_key_at_the_moment_at_which_an_answer_ends_are_one_message(
    server: Service, upstream: Simulator
) -> None:
    for number in range(ROUNDS):
        gate = Gate()
        upstream.script = scripts.in_turn(scripts.held(gate), None)
        with server.send("Hold") as first, ThreadPoolExecutor(SENDERS) as pool:
            Reader(first).until("Hello")
            session_id = session_of(first)
            once = {"Idempotency-Key": f"at-once-{number}"}
            sends = [pool.submit(queued, server, "Count to 2", session_id, headers=once) for _ in range(SENDERS)]
            gate.open()
            answers = [send.result() for send in sends]
        assert {answer.status_code for answer in answers} <= {200, 202}
        (generation_id,) = {answer.headers["X-Generation-ID"] for answer in answers}
        wait_for(is_answered(server, session_id, 4))
        assert server.messages(session_id, key=KEY)[3]["generation_id"] == generation_id


@pytest.mark.one_process("the replicas have a test of their own")
def test_after_a_kill_the_queue_is_kept_and_starts_with_the_next_request_that_brings_the_key(
    serve: Serve, simulator: Simulator, gate: Gate
) -> None:
    service = serve(CHATAPI_SESSION_ACCESS="id")
    simulator.script = scripts.in_turn(scripts.held(gate), None)
    with service.send("Hold") as first:
        Reader(first).until("Hello")
        session_id = session_of(first)
        two, three = queued(service, "Count to 2", session_id).json(), queued(service, "Count to 3", session_id).json()
        service.kill()
    service.start()
    listed = waiting(service, session_id, key=None)
    assert (texts(listed), listed["waits_for"]) == (["Count to 2", "Count to 3"], "key")
    assert len(simulator.requests) == 1
    resumed = service.get(f"/api/chat/{session_id}/stream", key=KEY)
    assert (resumed.text, resumed.headers["X-Generation-ID"]) == ("1 2", two["generation_id"])
    wait_for(is_answered(service, session_id, 6))
    messages = service.messages(session_id, key=KEY)
    assert [message["status"] for message in messages[1::2]] == ["interrupted", "completed", "completed"]
    assert messages[5]["generation_id"] == three["generation_id"]
    assert asked(simulator, 0) == ["Hold", "Count to 2", "Count to 3"]


def test_a_replica_that_has_the_key_starts_the_queue_of_one_that_died(
    tmp_path: Path, simulator: Simulator, gate: Gate
) -> None:
    cluster = Cluster(tmp_path, simulator.url, CHATAPI_SESSION_ACCESS="key")
    try:
        cluster.start()
        here, there = cluster.replicas
        simulator.script = scripts.in_turn(scripts.held(gate), None)
        with here.send("Hold") as first:
            Reader(first).until("Hello")
            session_id = session_of(first)
            assert queued(there, "Count to 2", session_id).status_code == 202
            here.kill()
        wait_for(is_answered(there, session_id, 4))
        assert [message["status"] for message in there.messages(session_id, key=KEY)[1::2]] == [
            *("interrupted", "completed")
        ]
        assert asked(simulator, 0) == ["Hold", "Count to 2"]
        cluster.restart(here)
        gate = Gate()
        simulator.script = scripts.in_turn(scripts.held(gate), None)
        with here.send("Hold", session_id=session_id) as second:
            Reader(second).until("Hello")
            for text in ("Count to 3", "Count to 4"):
                assert queued(there, text, session_id).status_code == 202
            gate.open()
        wait_for(is_answered(there, session_id, 10))
        assert asked(simulator, 2) == ["Hold", "Count to 3", "Count to 4"]
    finally:
        cluster.stop()
        cluster.release()


# The store, on both databases


async def add(store: Store, turn: TurnRequest, limit: int = 9) -> QueuedTurn:
    """Queue a turn."""
    queued = await store.queue.add(turn, anyone, limit)
    assert isinstance(queued, QueuedTurn)
    return queued


async def ended(store: Store, writer: Writer, outcome: Outcome = COMPLETED, owner: str | None = "anna") -> Any:
    return await store.generations.finish_and_start(writer, outcome, writer.log.parts(), None, next_owner=owner)


async def test_an_ending_starts_the_next_turn_in_its_transaction_and_a_fenced_one_does_not(store: Store) -> None:
    begun = await begin(store)
    session_id = begun.session.id
    added = [await add(store, turn(session_id, text)) for text in ("Two", "Three", "Four")]
    after = (await ended(store, Writer(begun))).next
    assert isinstance(after, QueuedStart)
    assert (after.stored.input, after.stored.generation.id) == ((added[0].id,), added[0].generation_id)
    assert after.stored.parent == begun.generation.message_id
    assert (await ended(store, Writer(begun))).next is None, "the answer to the commit was lost, and it is repeated"
    assert (await ended(store, Writer(after.stored), REFUSED)).next is None, "a failure stops the queue"
    assert await store.queue.start(session_id, "anna", after_failure=False) is None
    assert await store.queue.start(session_id, "berta", after_failure=True) is None
    third = await store.queue.start(session_id, "anna", after_failure=True)
    assert third is not None
    assert [one.id for one in await store.queue.find_all(session_id)] == [added[2].id]
    await store.generations.request_stop(third.stored.generation.id, interrupts=True)
    assert (await ended(store, Writer(third.stored), Outcome(Status.STOPPED))).next is None
    fourth = await store.queue.start(session_id, "anna", after_failure=False)
    assert fourth is not None
    swept = await add(store, turn(session_id, "Five"))
    await store.generations.sweep(EVERY_LEASE)
    with pytest.raises(Fenced):
        await ended(store, Writer(fourth.stored))
    assert [one.id for one in await store.queue.find_all(session_id)] == [swept.id]
    found = await store.sessions.find(session_id)
    assert found is not None
    assert (found.queued, found.message_count) == (1, 8)
    size = found.content_bytes
    await store.queue.change(session_id, swept.id, anyone, "Five and more")
    await store.queue.remove(session_id, swept.id, anyone)
    found = await store.sessions.find(session_id)
    assert found is not None
    assert (found.queued, found.content_bytes < size) == (0, True)
    size = found.content_bytes
    for text in ("Six", "Seven"):
        await add(store, turn(session_id, text))
    assert [await store.queue.clear(session_id, anyone) for _ in range(2)] == [2, 0]
    found = await store.sessions.find(session_id)
    assert found is not None
    assert (found.queued, found.content_bytes, await store.queue.find_all(session_id)) == (0, size, [])
    with pytest.raises(QueuedMessageNotFound):
        await store.queue.remove(session_id, swept.id, anyone)
    with pytest.raises(QueueFull):
        await add(store, turn(session_id, "None may wait"), 0)


def test_of_too_many_keys_the_one_that_was_held_first_is_dropped() -> None:
    keys, credential = QueueKeys(), Credential(Key(KEY))
    for number in range(MAX_KEYS):
        keys.hold(f"ses_{number}", "anna", credential)
    keys.hold("ses_0", "berta", credential)
    keys.hold("ses_last", "anna", credential)
    assert [keys.find(f"ses_{number}") is None for number in (0, 1, 2)] == [False, True, False]
    assert len(keys.sessions()) == MAX_KEYS


async def test_requests_with_one_idempotency_key_are_one_turn_whichever_of_them_is_queued(store: Store) -> None:
    begun = await begin(store)
    once = turn(begun.session.id, "Again", idempotency_key="once", digest="the same")
    first, after = await add(store, once), await add(store, turn(begun.session.id, "After it"))
    assert await add(store, once) == first
    await Writer(begun).finish(store)
    waiting = await store.sessions.find(begun.session.id)
    with pytest.raises(IdempotencyMismatch):
        await store.turns.begin(replace(once, digest="another"), anyone)
    started = await store.turns.begin(once, anyone)
    assert (started.input, started.generation.id) == ((first.id,), first.generation_id), "as its sender was promised"
    session = await store.sessions.find(begun.session.id)
    assert waiting is not None
    assert session is not None
    assert (session.queued, session.content_bytes) == (1, waiting.content_bytes)
    late = await store.queue.add(once, anyone, 9)  # its sender found the session busy before that
    assert isinstance(late, StartedTurn)
    assert (late.generation.id, late.replayed) == (first.generation_id, True)
    with pytest.raises(IdempotencyMismatch):
        await store.queue.add(replace(once, digest="another"), anyone, 9)
    following = (await ended(store, Writer(started))).next
    assert following is not None
    assert (following.stored.generation.id, following.stored.session.queued) == (after.generation_id, 0)


async def test_of_replicas_that_start_the_same_turn_one_does(clock: Clock) -> None:
    url = postgres().migrated_database()
    stores = [Store(PostgresDriver(url, 2, transaction_pooling=False), clock) for _ in range(2)]
    for one in stores:
        await one.open()
    begun = await said(stores[0], None, "Hello", "Hi")
    added = [await add(stores[0], turn(begun.session.id, f"{number}"), 20) for number in range(4)]
    starts = [store.queue.start(begun.session.id, "anna", after_failure=False) for store in stores * 4]
    results = await asyncio.gather(*starts, return_exceptions=True)
    started = [result for result in results if isinstance(result, QueuedStart)]
    assert [one.stored.generation.id for one in started] == [added[0].generation_id]
    assert [one.id for one in await stores[1].queue.find_all(begun.session.id)] == [one.id for one in added[1:]]
    for one in stores:
        await one.close()
