"""Retention: unused sessions are deleted as a whole, running answers stay, and no byte of the text is left."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatapi.auth.authorization import Action, Caller, make_authorizer
from chatapi.cli import main
from chatapi.generations import retention
from chatapi.generations.retention import RetentionJob
from chatapi.metrics import Metrics
from chatapi.model import Kind, Microseconds, NewMessage, Outcome, Part, Role, Session, Status, TurnRequest, Usage
from chatapi.model.log import Log
from chatapi.settings import Settings
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store import Driver, Store
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.retention import Rule
from chatapi.store.sessions import DELETED_MESSAGES, RetentionChoice, some_of
from tests.databases import PASSWORD, free_port, postgres
from tests.reader import Reader
from tests.server_process import Serve, Service, fresh_key, run_command

DAY = 86_400_000_000
MONTH = Settings(retention_days=30)
CANARY = "canary-7e5f2c91"


@pytest.fixture(autouse=True)
def no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete without pauses, which `bench.retention` measures."""
    monkeypatch.setattr(retention, "RESTS", 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * DAY

    def __call__(self) -> Microseconds:
        self.now += 1
        return Microseconds(self.now)


@pytest.fixture(params=["sqlite", "postgres"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    if request.param == "sqlite":
        yield SQLiteDriver(tmp_path / "chat.db")
        return
    with postgres().lent_database() as url:
        yield PostgresDriver(url, 2, transaction_pooling=False)


class Writer:
    """A running generation without text."""

    def __init__(self, generation_id: str) -> None:
        self.id = generation_id
        self.log = Log()

    def committed(self, position: int) -> None:
        pass

    def refused(self, error: Exception) -> None:
        pass


def turn(owner: str, text: str, **more: Any) -> TurnRequest:
    message = NewMessage(Role.USER, (Part(Kind.TEXT, text),))
    return TurnRequest(owner, None, "", (message,), "model", "chat", **more)


async def make_sessions(store: Store, owner: str, count: int, text: str = "Hello", **more: Any) -> list[str]:
    """Store sessions whose answers have ended; return their ids."""
    made = []
    for number in range(count):
        if more.get("idempotency_key"):
            more["idempotency_key"] = f"{owner}-{number}"
        request = turn(owner, text, **more)
        started = await store.turns.begin(request, make_authorizer(Caller(owner), Action.SPEND))
        outcome = Outcome(Status.COMPLETED, "stop", Usage(1, 2))
        writer = Writer(started.generation.id)
        writer.log.write(Kind.TEXT, text, None)
        writer.log.release()
        await store.generations.finish(writer, outcome, writer.log.parts(), None)
        made.append(started.session.id)
    return made


async def test_unused_sessions_are_deleted_as_a_whole_and_others_stay(driver: Driver) -> None:
    clock = Clock()
    store = Store(driver, clock)
    await store.open()
    try:
        old = await make_sessions(store, "ada", 120, idempotency_key="key", digest="d")
        running = await store.turns.begin(turn("ada", "runs"), make_authorizer(Caller("ada"), Action.SPEND))
        empty = await store.sessions.create(None, "never used")
        clock.now += 10 * DAY
        recent = await make_sessions(store, "ada", 2)
        clock.now += 25 * DAY
        job = RetentionJob(store, MONTH, clock, Metrics())
        limit = Microseconds(clock.now - 30 * DAY)
        assert await store.retention.count_expired(Rule.UNUSED, limit) == (121, 240)
        assert await job.run() == (121, 240)
        assert await job.run() == (0, 0)
        for session_id in [*old, empty.id]:
            assert await store.sessions.find(session_id) is None
        left = {session.id for session in await store.sessions.page("ada", None, 1000)}
        assert left == {*recent, running.session.id}
        again = turn("ada", "Hello", idempotency_key="ada-0", digest="d")
        assert await store.turns.find_by_idempotency_key(again) is None
        report = await store.usage.report("ada", 0, 10_000, frozenset())
        assert [(total.answers, total.output_tokens) for total in report.totals] == [(122, 244)]
    finally:
        await store.close()


async def test_each_session_has_the_retention_that_its_owner_chose(driver: Driver) -> None:
    clock = Clock()
    store = Store(driver, clock)
    await store.open()
    choices = {
        "default": None,
        "kept": RetentionChoice(keep=True),
        "temporary": RetentionChoice(temporary=True),
        "kept and temporary": RetentionChoice(keep=True, temporary=True),
        "expires": RetentionChoice(keep=True, expires_at=Microseconds(clock.now + 5 * DAY), sets_expiry=True),
    }
    try:
        made = {name: await store.sessions.create("ada", name, choice) for name, choice in choices.items()}
        clock.now += 2 * DAY

        async def left(settings: Settings) -> set[str]:
            await RetentionJob(store, settings, clock, Metrics()).run()
            return {session.developer_message for session in await store.sessions.page("ada", None, 10)}

        assert await left(Settings()) == {"default", "kept", "kept and temporary", "expires"}
        clock.now += 4 * DAY
        assert await left(Settings()) == {"default", "kept", "kept and temporary"}
        clock.now += 40 * DAY
        assert await left(Settings()) == {"default", "kept", "kept and temporary"}
        assert await left(MONTH) == {"kept", "kept and temporary"}
        owner = make_authorizer(Caller("ada"), Action.CHANGE)
        changed = await store.sessions.change(made["kept"].id, owner, retention=RetentionChoice(keep=False))
        assert await store.sessions.find(changed.id) == changed
        clock.now += 31 * DAY
        assert await left(MONTH) == {"kept and temporary"}
    finally:
        await store.close()


async def test_one_replica_at_a_time_has_the_job_and_another_continues_after_its_death() -> None:
    clock = Clock()
    url = postgres().migrated_database()
    stores = [Store(PostgresDriver(url, 2, transaction_pooling=False), clock) for _ in range(2)]
    for store in stores:
        await store.open()
    try:
        first, second = stores
        assert await first.retention.take_lease(first.replica, 60)
        assert not await second.retention.take_lease(second.replica, 60)
        assert await first.retention.take_lease(first.replica, 60), "it extends its own"
        clock.now += 61_000_000
        assert await second.retention.take_lease(second.replica, 60)
        assert not await first.retention.take_lease(first.replica, 60)
        await make_sessions(first, "ada", 3)
        clock.now += 31 * DAY
        jobs = [RetentionJob(store, MONTH, clock, Metrics()) for store in stores]
        deleted = await asyncio.gather(*(job.run() for job in jobs))
        assert sum(one.sessions for one in deleted) == 3
    finally:
        for store in stores:
            await store.close()


def files_with(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_no_byte_of_deleted_text_is_left_in_any_file(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(SQLiteDriver(tmp_path / "chat.db"), clock)
    await store.open()
    chance = random.Random(1)
    expired, kept = [], []
    try:
        for number in range(150):
            size, owner = chance.choice([0, 20, 50, 300, 900, 5000]), f"owner-{number % 3}"
            if chance.random() < 0.5:
                expired += await make_sessions(store, owner, 2, f"{CANARY} {'x' * size} {CANARY}")
            else:
                kept += await make_sessions(store, owner, 2, f"keep {'y' * size}")
        for session_id in chance.sample(expired, 60):
            await store.sessions.change(session_id, found, developer_message=CANARY * chance.choice([1, 20, 200]))
        clock.now += 40 * DAY
        for session_id in kept:
            await store.sessions.change(session_id, found, metadata={"used": "now"})
        assert files_with(tmp_path, CANARY)
        assert (await RetentionJob(store, MONTH, clock, Metrics()).run()).sessions == len(expired)
        assert files_with(tmp_path, CANARY) == []
        # In one of eight such files SQLite leaves copies of moved rows in other pages: the rebuild is what counts.
        with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
            assert connection.execute("PRAGMA freelist_count").fetchone() == (0,), "the file was not rebuilt"
        for session_id in kept:
            assert await store.sessions.find(session_id)
        assert await store.retention.find_deletion() is None
    finally:
        await store.close()
    assert files_with(tmp_path, CANARY) == []


def found(session: Session | None) -> Session:
    """Authorize everything on a session that exists."""
    assert session is not None
    return session


async def test_a_run_after_a_crash_removes_the_bytes_that_the_run_before_left(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(SQLiteDriver(tmp_path / "chat.db"), clock)
    await store.open()
    try:
        await make_sessions(store, "ada", 1, CANARY)
        clock.now += 1
        assert (await store.sessions.delete_some("ada", clock()))[0] == 1
        assert files_with(tmp_path, CANARY), "the log has the deleted text"
        await RetentionJob(store, MONTH, clock, Metrics()).run()
        assert files_with(tmp_path, CANARY) == []
    finally:
        await store.close()


# The service


def age(service: Service, days: int) -> None:
    """Make all sessions of a stopped server look older."""
    path = service.folder / service.environment["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE session SET updated_at = updated_at - ?", (days * DAY,))


@pytest.mark.one_process("the tests above run on both databases")
def test_a_server_deletes_at_its_start_also_after_a_kill_and_leaves_no_text(
    serve: Serve, simulator: Simulator, gate: Gate
) -> None:
    first = serve(CHATAPI_RATE_LIMIT="0")
    simulator.script = scripts.held(gate, before=f"{CANARY} answer")
    cut = Reader.chat(first, CANARY)
    cut.read_until("answer")
    simulator.script = None
    for number in range(5):
        assert CANARY in first.send(f"{CANARY} {number}").text
    data = first.folder / first.environment["DATABASE_URL"].removeprefix("sqlite:///")
    first.kill()
    gate.open()
    assert files_with(data.parent, CANARY)
    age(first, 31)
    settings = {"DATABASE_URL": f"sqlite:///{data}", "CHATAPI_RETENTION_DAYS": "30"}
    # The running answer is closed as interrupted by the start, which is its last change: it is not expired yet.
    dry = run_command("retention", "--dry-run", cwd=data.parent, settings=settings)
    assert (dry.returncode, dry.stdout) == (0, "5 sessions with 10 messages would be deleted.\n")
    second = serve(**settings)
    second.wait_for_log("sessions expired", sessions=5, messages=10)
    assert second.get(f"/api/sessions/{cut.session_id}").status_code == 200
    second.stop()
    age(second, 31)
    third = serve(**settings)
    third.wait_for_log("sessions expired", sessions=1)
    assert third.get(f"/api/sessions/{cut.session_id}").status_code == 404
    third.stop()
    assert files_with(data.parent, CANARY) == []


def test_delete_all_deletes_the_sessions_of_the_key_and_stops_their_answers(
    service: Service, simulator: Simulator, gate: Gate
) -> None:
    ours, theirs = fresh_key("ours"), fresh_key("theirs")
    kept = service.send(key=theirs).headers["X-Session-ID"]
    first = [service.send(key=ours).headers["X-Session-ID"] for _ in range(3)]
    simulator.script = scripts.held(gate)
    running = Reader.chat(service, key=ours)
    running.read_until("Hello")
    assert service.delete("/api/sessions").status_code == 401
    before = service.get("/api/usage", key=ours).json()["totals"]["answers"]
    answer = service.delete("/api/sessions", key=ours)
    assert (answer.status_code, answer.json()) == (200, {"deleted": 4})
    assert service.get("/api/sessions", key=ours).json()["data"] == []
    for session_id in [*first, running.session_id]:
        for path in ("", "/messages", "/export"):
            assert service.get(f"/api/sessions/{session_id}{path}", key=ours).status_code == 404
        assert service.get(f"/api/chat/{session_id}/stream", key=ours).status_code == 404
    assert service.get("/api/search?q=hello", key=ours).json()["data"] == []
    assert service.get("/api/usage", key=ours).json()["totals"]["answers"] == before + 1
    assert service.get(f"/api/sessions/{kept}", key=theirs).status_code == 200
    assert service.delete("/api/sessions", key=ours).json() == {"deleted": 0}


@pytest.mark.parametrize(
    ("messages", "deleted"),
    [
        ([DELETED_MESSAGES - 1, 1, 1], 2),
        ([DELETED_MESSAGES + 1, 1], 1),  # at least one, however long
        ([0, DELETED_MESSAGES + 1], 1),
        ([1, 1, 1], 3),
        ([], 0),
    ],
)
def test_one_transaction_deletes_a_bounded_number_of_messages(messages: list[int], deleted: int) -> None:
    at = Microseconds(1)
    sessions = [Session(f"ses_{count}", "anna", "", None, {}, None, count, at, at) for count in messages]
    assert some_of(sessions) == sessions[:deleted]


@pytest.mark.one_process("about the command")
def test_the_command(service: Service, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": service.environment["DATABASE_URL"]}
    settings |= {"CHATAPI_RETENTION_DAYS": "30"}
    assert service.send().text
    running = run_command("retention", cwd=service.folder, settings=settings)
    assert running.returncode == 2
    assert "another server has the file" in running.stderr
    service.stop()
    age(service, 31)
    done = run_command("retention", cwd=service.folder, settings=settings)
    assert (done.returncode, done.stdout) == (0, "1 sessions with 2 messages were deleted.\n"), done.stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///none.db", "DATABASE_URL: there is no file none.db. "),
        ("sqlite:///letter.db", "DATABASE_URL: the file letter.db cannot be read: file is not a database. Run "),
        (
            lambda: f"postgresql://anna:{PASSWORD}@127.0.0.1:{free_port()}/x",
            "DATABASE_URL: PostgreSQL cannot be reached",
        ),
        (f"postgresql://anna:{PASSWORD}@127.0.0.1:port/x", "DATABASE_URL must be postgresql://USER:PASSWORD@HOST"),
        (
            lambda: postgres().new_database(),
            'DATABASE_URL: the tables cannot be read: relation "session" does not exist.',
        ),
    ],
    ids=["no file", "another file", "no server", "no port", "no tables"],
)
def test_a_database_that_cannot_be_counted_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: object, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letter.db").write_text("Dear Anna, this is a letter and no database. " * 20)
    monkeypatch.setenv("DATABASE_URL", str(url() if callable(url) else url))
    assert main(["retention", "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n"), PASSWORD in shown.err) == ("", 1, False)
    assert shown.err.startswith(f"Cannot start. {sentence}")


def test_clients_choose_the_retention_of_a_session(service: Service) -> None:
    key = fresh_key("retention")
    body = {"developer_message": "", "temporary": True, "expires_at": "2100-01-02T03:04:05+02:00"}
    session_id = service.post("/api/sessions", json=body, key=key).json()["session_id"]
    path = f"/api/sessions/{session_id}"
    assert chosen(service.get(path, key=key).json()) == (False, True, "2100-01-02T01:04:05+00:00")
    for change, expected in (
        ({"title": "a"}, (False, True, "2100-01-02T01:04:05+00:00")),
        ({"keep": True, "temporary": False}, (True, False, "2100-01-02T01:04:05+00:00")),
        ({"expires_at": None}, (True, False, None)),
        ({"keep": None, "expires_at": "2099-01-01T00:00:00Z"}, (True, False, "2099-01-01T00:00:00+00:00")),
    ):
        assert chosen(service.patch(path, json=change, key=key).json()) == expected
        assert chosen(service.get("/api/sessions", key=key).json()["data"][0]) == expected
    for wrong in ("tomorrow", "2100-01-02T03:04:05", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 5, True):
        refused = service.patch(path, json={"expires_at": wrong}, key=key)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "expires_at"), wrong
    service.patch(path, json={"expires_at": "2000-01-01T00:00:00Z"}, key=key)
    dry = run_command("retention", "--dry-run", cwd=service.folder, settings=settings_of(service))
    assert dry.stdout == "1 sessions with 0 messages would be deleted.\n"


def settings_of(service: Service) -> dict[str, str]:
    return {name: value for name, value in service.environment.items() if name in {"DATABASE_URL", "CHATAPI_SECRET"}}


def chosen(session: dict[str, Any]) -> tuple[bool, bool, str | None]:
    return session["keep"], session["temporary"], session["expires_at"]
