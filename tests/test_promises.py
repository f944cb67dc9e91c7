"""The promises, one by one, over real connections and with a view of the real database.

Promise 3 has `test_every_cut`, promise 6 `test_kill` and `test_shutdown`; more of 1, 2, 5 and 7 is in `test_store`.
"""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatapi.simulator import Chunks, Gate, ReceivedRequest, Script, Send, Simulator, Wait, answer, scripts
from chatapi.store.drivers.driver import Batch, Transaction
from chatapi.store.drivers.sqlite import SQLiteDriver
from tests.database_view import Database
from tests.reader import EVENTS, Reader
from tests.server_process import KEY, OTHER_KEY, Serve, Service

DONE = b"data: [DONE]\n\n"
SECRET_WORD = "Rumpelstilzchen"
STOP_SECONDS = 1.0
TEXT = "Grüße aus 東京 👩‍👩‍👧, "
LONG_BYTES = 3_000_000
LOOKS = 20  # at the database while an answer runs
STALLED_READERS = 20
STALLED_MIB = 64  # for all of them together; each could take LONG_BYTES


@pytest.fixture(scope="module")
def served(serve_module: Serve) -> Service:
    """A server for all tests here that leave it running."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_GENERATIONS_PER_KEY="0", CHATAPI_DRAIN_SECONDS="0")


@pytest.fixture
def database(served: Service) -> Database:
    return served.database


def saying(*what: str | Gate, finish: bool = True) -> Script:
    """Return an answer of these texts that waits at the gates."""
    chunks = Chunks()
    steps = [Wait(one) if isinstance(one, Gate) else Send(chunks.content(one)) for one in what]
    end = [Send(chunks.finish("stop")), Send(DONE)] if finish else []
    return scripts.event_stream(Send(chunks.role()), *steps, *end)


def reasoning_and_text(gates: list[Gate]) -> Script:
    """Return an answer in pieces of four characters: reasoning, then text that waits at each of the gates."""
    chunks = Chunks()
    pieces = [TEXT[start : start + 4] for start in range(0, len(TEXT), 4)]
    text = [Send(chunks.content(piece)) for piece in pieces]
    steps: list[Send | Wait] = [Send(chunks.role()), *(Send(chunks.reasoning(piece)) for piece in pieces), *text]
    for gate in gates:
        steps += [Wait(gate), *text]
    return scripts.event_stream(*steps, Send(chunks.finish("stop")), Send(DONE))


def begin(upstream: Simulator, service: Service, **more: Any) -> tuple[Reader, ReceivedRequest]:
    """Start a chat; return its reader and the request that the upstream received."""
    seen = len(upstream.requests)
    reader = Reader.chat(service, **more)
    return reader, upstream.wait_for_requests(seen + 1)[seen]


# 1. A byte shown is a byte stored.


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["text", "events"])
def test_1_text_that_arrives_is_in_the_database_by_then(
    served: Service, upstream: Simulator, database: Database, headers: dict[str, str]
) -> None:
    gates = [Gate() for _ in range(LOOKS)]
    upstream.script = reasoning_and_text([*gates])
    reader = Reader.chat(served, headers=headers)
    looks = 0
    while reader.read_some():
        stored = database.answer(reader.generation_id)
        if headers:
            assert stored.of("reasoning").startswith(reader.joined("reasoning"))
            assert stored.text.startswith(reader.joined("text"))
        else:
            assert stored.text.encode().startswith(reader.body)
        looks += stored.status == "running"
        if gates:
            gates.pop(0).open()
    assert looks >= LOOKS
    assert reader.ended


def test_1_a_byte_that_cannot_be_stored_yet_is_sent_to_no_reader(
    served: Service, upstream: Simulator, database: Database
) -> None:
    first, second = Gate(), Gate()
    upstream.script = saying("stored", first, ", not stored", second)
    reader = Reader.chat(served)
    reader.read_until("stored")
    with database.taking_no_text():
        first.open()
        assert second.reached.wait(5)
        for _ in range(10):  # by the second of them at the latest, the server has read the rest from the upstream
            with Reader.resume(served, reader.session_id) as other:
                other.read(1)
                assert other.body == b"stored"
    assert reader.read_until("not stored") == b"stored, not stored"
    assert database.answer(reader.generation_id).text == "stored, not stored"
    second.open()
    reader.read_all()
    assert reader.ended


# 2. The question is stored before the upstream is called, and the whole answer before the response ends cleanly.


def test_2_the_question_is_stored_when_the_upstream_is_called(
    served: Service, upstream: Simulator, database: Database
) -> None:
    stored = []

    def look(request: ReceivedRequest) -> Script:
        question = request.body["messages"][-1]["content"]
        sql = (
            "SELECT m.role, g.status FROM message m JOIN message a ON a.parent = m.id "
            "JOIN generation g ON g.message_id = a.id WHERE m.content LIKE $1"
        )
        stored.append(database.rows(sql, f"%{question}%"))
        return answer()

    upstream.script = look
    first = Reader.chat(served, "What is the first question?")
    first.read_all()
    Reader.chat(served, "And the second?", session_id=first.session_id).read_all()
    assert stored == [[("user", "running")]] * 2


def test_2_a_clean_end_means_that_the_whole_answer_is_stored(
    served: Service, upstream: Simulator, database: Database
) -> None:
    gate = Gate()
    upstream.script = saying("Hello", gate, " there.")
    readers = [Reader.chat(served, headers=headers) for headers in ({}, EVENTS)]
    statuses = []

    def read_to_the_end(reader: Reader) -> None:
        reader.read_all()
        assert reader.ended
        statuses.append(database.answer(reader.generation_id).status)

    for reader in readers:
        reader.read_until("Hello")
    threads = [threading.Thread(target=read_to_the_end, args=(reader,)) for reader in readers]
    with database.locked():
        gate.open()
        for thread in threads:
            thread.start()
        for request in upstream.requests[-2:]:
            assert request.ended.wait(5)
        for _ in range(5):  # the server had the chance to end them
            assert served.get(f"/api/sessions/{readers[0].session_id}").status_code == 200
        assert all(thread.is_alive() for thread in threads), "nothing is stored, and yet it ended"
    for thread in threads:
        thread.join()
    assert statuses == ["completed"] * 2
    assert database.answer(readers[0].generation_id).text == "Hello there."


async def test_2_writes_that_must_survive_a_power_loss_are_synced(tmp_path: Any) -> None:
    def synchronous() -> Transaction[Any]:
        return (yield "PRAGMA synchronous", ())

    driver = SQLiteDriver(tmp_path / "chat.db")
    await driver.open()
    batches = [Batch("rep", [synchronous], durable=durable) for durable in (True, False, True)]
    found = [(await driver.commit(batch)).results for batch in batches]
    await driver.close()
    normal, full = 1, 2
    assert found == [[[(level,)]] for level in (full, normal, full)]


# 4. Disconnect, stop and delete are three things.


def test_4_a_disconnect_leaves_the_answer_running(served: Service, upstream: Simulator, database: Database) -> None:
    gate = Gate()
    upstream.script = saying("Hello", gate, " there.")
    reader, request = begin(upstream, served)
    reader.read_until("Hello")
    seen = len(served.log)
    reader.leave()
    served.wait_for_log("request", seen=seen, method="POST", path="/api/chat")  # the server has noticed the disconnect
    with Reader.resume(served, reader.session_id) as other:
        other.read_until("Hello")
        assert not request.left.is_set()
        assert database.answer(reader.generation_id).status == "running"
        gate.open()
        assert other.read_all() == b"Hello there."
        assert other.ended


def test_4_a_disconnect_is_a_stop_if_requested(served: Service, upstream: Simulator, database: Database) -> None:
    upstream.script = saying("Hello", Gate())
    reader, request = begin(upstream, served, on_disconnect="cancel")
    reader.read_until("Hello")
    with Reader.resume(served, reader.session_id) as other:
        reader.leave()
        assert other.read_all() == b"Hello"
    assert request.left.wait(5)
    stored = database.answer(reader.generation_id)
    assert (stored.status, stored.text) == ("stopped", "Hello")


def test_4_a_stop_closes_the_upstream_within_a_second_and_keeps_the_text(
    served: Service, upstream: Simulator, database: Database
) -> None:
    upstream.script = saying("Hello", " there", Gate())
    reader, request = begin(upstream, served)
    reader.read_until("there")
    begun = time.monotonic()
    kept = served.post(f"/api/chat/{reader.session_id}/stop").json()
    assert request.left.wait(STOP_SECONDS)
    assert request.left_at is not None
    assert request.left_at - begun < STOP_SECONDS
    assert (kept["status"], kept["text"], kept["usage"]["output_tokens"]) == ("stopped", "Hello there", 2)
    assert reader.read_all() == b"Hello there"
    assert reader.ended, "a stop is a clean end"
    stored = database.answer(reader.generation_id)
    assert (stored.status, stored.text) == ("stopped", "Hello there")
    assert served.post(f"/api/chat/{reader.session_id}/stop").json() == kept, "a second stop changes nothing"


def test_4_a_delete_ends_it_and_nothing_reappears(served: Service, upstream: Simulator, database: Database) -> None:
    upstream.script = saying(SECRET_WORD, Gate())
    reader, request = begin(upstream, served, text=SECRET_WORD)
    reader.read_until(SECRET_WORD)
    watcher = Reader.resume_events(served, reader.session_id)
    watcher.read_until(SECRET_WORD)
    assert served.delete(f"/api/sessions/{reader.session_id}").status_code == 200
    assert request.left.wait(STOP_SECONDS)
    assert reader.read_all() == SECRET_WORD.encode()
    assert not reader.ended, "a plain-text reader sees a cut"
    watcher.read_all()
    name, _, data = watcher.events()[-1]
    assert (name, data["code"], watcher.ended) == ("error", "session_deleted", True)
    upstream.script = saying("Hello")
    Reader.chat(served).read_all()  # everything queued before it is committed
    for table in database.tables():
        for row in database.rows(f"SELECT * FROM {table}"):
            for value in map(str, row):
                assert SECRET_WORD not in value
                assert reader.session_id not in value
                assert reader.generation_id not in value
    assert served.get(f"/api/chat/{reader.session_id}/stream?offset=0").status_code == 404


# 5. At most one generation runs in a session.


def test_5_a_second_send_is_refused_or_interrupts_the_first(
    served: Service, upstream: Simulator, database: Database
) -> None:
    upstream.script = saying("Hello", Gate())
    reader, request = begin(upstream, served)
    reader.read_until("Hello")
    calls = len(upstream.requests)
    busy = served.send(session_id=reader.session_id)
    assert (busy.status_code, busy.headers["X-Should-Retry"]) == (409, "false")
    assert (busy.json()["code"], busy.json()["generation_id"]) == ("session_busy", reader.generation_id)
    assert len(upstream.requests) == calls, "the upstream was not called"
    upstream.script = saying("Another.")
    assert served.send(session_id=reader.session_id, if_busy="interrupt").text == "Another."
    assert request.left.wait(STOP_SECONDS)
    assert database.answer(reader.generation_id).status == "stopped"
    assert reader.read_all() == b"Hello"


def test_5_of_concurrent_sends_one_is_accepted(served: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = saying("Hello", gate)
    session_id = served.post("/api/sessions", json={"developer_message": "Be brief."}).json()["session_id"]
    calls = len(upstream.requests)
    with ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(lambda _: served.send(session_id=session_id).status_code, range(8)))
    gate.open()
    assert sorted(statuses) == [200] + [409] * 7
    assert len(upstream.requests) == calls + 1


# 7. A repeated send reaches the upstream once.


def test_7_a_repeated_send_attaches_or_replays(served: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = saying("Hello", gate, " there.")
    once: dict[str, Any] = {"headers": {"Idempotency-Key": "7-once"}, "text": "Once"}
    first, _ = begin(upstream, served, **once)
    calls = len(upstream.requests)
    first.read_until("Hello")
    second = Reader.chat(served, **once)
    assert second.read_until("Hello") == b"Hello"
    gate.open()
    third = Reader.chat(served, **once)
    assert {reader.read_all() for reader in (first, second, third)} == {b"Hello there."}
    assert all(reader.ended for reader in (first, second, third))
    assert len({reader.generation_id for reader in (first, second, third)}) == 1
    assert len(upstream.requests) == calls
    other = Reader.chat(served, "Otherwise", headers=once["headers"])
    assert (other.status, b"idempotency_key_reused" in other.read_all()) == (422, True)


def test_7_concurrent_repeats_reach_the_upstream_once(served: Service, upstream: Simulator) -> None:
    upstream.script = answer()
    calls = len(upstream.requests)
    with ThreadPoolExecutor(8) as clients:
        same = {"Idempotency-Key": "7-at-once"}
        texts = list(clients.map(lambda _: served.send("Same", headers=same).text, range(8)))
    assert texts == [scripts.TEXT] * 8
    assert len(upstream.requests) == calls + 1


# 8. A key goes upstream and nowhere else. Logs and files are checked at the end of every server.


def test_8_no_response_contains_a_key(served: Service, upstream: Simulator) -> None:
    upstream.script = scripts.refuse(400, message=f"Your key {KEY} is in this message.")
    replies = [
        served.send(),
        served.send(model=KEY),
        served.send(session_id=KEY),
        served.send(**{KEY: "as a field"}),
        served.post("/api/chat", json=[KEY]),
        served.post("/api/chat", data=f'{{"api_key": "{KEY}"', headers={"Content-Type": "application/json"}),
        served.post("/api/chat", json={"api_key": KEY + "x"}),
        served.get(f"/api/sessions/{KEY}"),
        served.get("/api/sessions", key=KEY, headers={"X-Request-ID": KEY[:60]}),
    ]
    assert [reply.status_code for reply in replies] == [400, 422, 404, 422, 422, 400, 422, 404, 200]
    for reply in replies:
        assert KEY[8:30] not in reply.text + str(reply.headers)
    assert upstream.requests[-1].headers["Authorization"] == f"Bearer {KEY}"


# 9. A resource of another tenant is the same 404 as an unknown one.


def test_9_resources_of_other_tenants_are_not_found(serve: Serve, simulator: Simulator) -> None:
    service = serve(CHATAPI_SESSION_ACCESS="key")
    gate = Gate()
    simulator.script = saying("Hello", gate)
    theirs = Reader.chat(service, key=OTHER_KEY)
    mine = service.post("/api/sessions", key=KEY, json={"developer_message": ""}).json()["session_id"]
    calls = len(simulator.requests)

    def ask(session: str, generation: str, key: str | None) -> list[tuple[int, bytes]]:
        path, chat = f"/api/sessions/{session}", f"/api/chat/{session}"
        replies = [
            service.get(path, key=key),
            service.patch(path, key=key, json={"title": "mine"}),
            service.delete(path, key=key),
            service.get(f"{path}/messages", key=key),
            service.get(f"{chat}/stream", key=key),
            service.get(f"{chat}/stream?offset=0", key=key),
            service.get(f"{chat}/stream?generation_id={generation}", key=key),
            service.post(f"{chat}/stop", key=key),
            service.post(f"{chat}/stop", key=key, json={"generation_id": generation}),
            service.get(f"/api/chat/{mine}/stream?generation_id={generation}", key=KEY),
            service.post(f"/api/chat/{mine}/stop", key=KEY, json={"generation_id": generation}),
            service.send(session_id=session, key=key or KEY),
            service.send(session_id=session, key=key or KEY, if_busy="interrupt"),
        ]
        return [(reply.status_code, reply.content) for reply in replies]

    nothing = (404, b'{"detail":"Session not found"}')
    unknown = ("ses_none", "gen_none")
    for session, generation in ((theirs.session_id, theirs.generation_id), unknown):
        assert ask(session, generation, KEY) == [nothing] * 13
    without_key = ask(theirs.session_id, theirs.generation_id, None)
    assert without_key == ask(*unknown, None), "the same for every session"
    assert [status for status, _ in without_key] == [401] * 9 + [404] * 4
    assert service.get("/api/sessions", key=KEY).json()["data"][0]["session_id"] == mine
    assert len(simulator.requests) == calls
    gate.open()
    assert theirs.read_all() == b"Hello"
    assert theirs.ended, "no other tenant has stopped or deleted it"


# 10. A refusal is a status; after the first byte a failure never looks like success.


@pytest.mark.parametrize(
    ("said", "status"), [(401, 401), (403, 403), (404, 404), (429, 429), (500, 503), (503, 503), (400, 400)]
)
def test_10_a_refusal_is_a_status(served: Service, upstream: Simulator, said: int, status: int) -> None:
    upstream.script = scripts.refuse(said, retry_after="60" if said in {429, 500, 503} else None)
    for headers in ({}, EVENTS):
        reply = served.send(headers=headers)
        assert reply.status_code == status
        assert reply.json()["status"] == status
        assert ("Retry-After" in reply.headers) is (status in {429, 503})
        (question, failed) = served.messages(reply.headers["X-Session-ID"])
        assert (question["status"], failed["status"]) == ("completed", "failed")


@pytest.mark.parametrize(
    "break_off", [scripts.cut_after, scripts.half_closed_after, scripts.without_either, scripts.error_frame]
)
def test_10_a_failed_answer_never_looks_complete(served: Service, upstream: Simulator, break_off: Any) -> None:
    upstream.script = break_off()
    text = Reader.chat(served)
    text.read_all()
    assert not text.ended
    told = Reader.chat(served, headers=EVENTS)
    told.read_all()
    name, _, data = told.events()[-1]
    assert (name, data["status"], told.ended) == ("error", "failed", True)
    assert "done" not in [event[0] for event in told.events()]
    whole = served.send(stream=False)
    assert whole.status_code == 502
    for reader in (text, told):
        assert served.messages(reader.session_id)[1]["status"] == "failed"
        assert served.messages(reader.session_id)[1]["content"] == told.joined("text")


# 11. No stream is silent, and the timers count content.


def test_11_heartbeats_and_timers(serve: Serve, simulator: Simulator) -> None:
    service = serve(
        CHATAPI_STATUS_SECONDS="0.2",
        CHATAPI_HEARTBEAT_SECONDS="0.2",
        CHATAPI_FIRST_TOKEN_SECONDS="1.5",
        CHATAPI_IDLE_SECONDS="1",
        CHATAPI_TOTAL_SECONDS="3",
    )

    def script(request: ReceivedRequest) -> Script:
        match request.body["messages"][-1]["content"]:
            case "never answers":
                return scripts.never_answers()
            case "only heartbeats":
                return scripts.heartbeats_only()
            case "goes silent":
                return scripts.silent_after()
            case _:
                return answer("word " * 240, pace_seconds=0.05)

    simulator.script = script

    def ask(question: str) -> tuple[Reader, float]:
        begun = time.monotonic()
        reader = Reader.chat(service, question, headers=EVENTS)
        reader.read_all()
        return reader, time.monotonic() - begun

    questions = ["never answers", "only heartbeats", "goes silent", "goes on for ever"]
    with ThreadPoolExecutor(len(questions)) as clients:
        readers = dict(zip(questions, clients.map(ask, questions), strict=True))
    for question, (reader, _) in readers.items():
        assert reader.status == 200
        assert (reader.events()[-1][0], reader.events()[-1][2]["code"]) == ("error", "upstream_timeout"), question
        assert reader.ended
    for question in questions[:3]:
        assert b": keep-alive\n\n" in readers[question][0].body, question
    seconds = [took for _, took in readers.values()]
    assert 1.5 <= seconds[0] < 8
    assert 1.5 <= seconds[1] < 8
    assert 1 <= seconds[2] < 1.5 + 1, "before the time for the whole answer is over"
    assert 3 <= seconds[3] < 8


# 12. Memory is bounded, and a slow reader costs only itself.


def memory_mib(service: Service) -> float:
    """Return the resident memory of the server."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(service.pid)])) / 1024


@pytest.mark.one_process("it is about its memory")
def test_12_a_slow_reader_costs_only_itself(served: Service, upstream: Simulator) -> None:
    words = [TEXT * 70] * (LONG_BYTES // len((TEXT * 70).encode()))
    whole = "".join(words).encode()
    half = Gate()
    upstream.script = saying(*words[: len(words) // 2], half, *words[len(words) // 2 :])
    before = memory_mib(served)
    slow = Reader.chat(served, receive_buffer=4096)
    stalled = [Reader.resume(served, slow.session_id, receive_buffer=4096) for _ in range(STALLED_READERS)]
    brisk = Reader.resume(served, slow.session_id)
    assert brisk.read(len(whole) // 3) == whole[: len(whole) // 3]
    half.open()
    assert brisk.read_all() == whole
    assert brisk.ended
    assert memory_mib(served) - before < STALLED_MIB
    assert slow.read_all() == whole, "it was only slow"
    assert slow.ended
    for reader in stalled:
        reader.leave()
