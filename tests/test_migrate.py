"""Migration from a SQLite file to PostgreSQL: it is complete, also after any number of interruptions."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.schema import migrations
from tests.databases import PASSWORD, postgres
from tests.proxies import Pooler, Relay
from tests.server_process import (
    KEY,
    OTHER_KEY,
    PROJECT,
    Serve,
    Service,
    environment_without_settings,
    run_command,
    start_command,
)

pytestmark = pytest.mark.one_process("it is about the file, which one process has")

SECONDS = 60.0
SECRET = "a-secret-of-the-tests-that-is-long-enough"
TEXT = "Grüße 👋🏽 aus 東京 'naïve' \"café\" %s \\ \\N \t \u2028 end"
MESSAGES = 6_000  # more than one batch, and more than a socket buffers


def arguments(source: Path, target: str) -> list[str]:
    return ["migrate", "--from", f"sqlite:///{source}", "--to", target]


def migrate(source: Path, target: str, **settings: str) -> subprocess.CompletedProcess[str]:
    forked = "PYTHONPATH" not in settings  # which an interpreter reads when it starts
    ran = run_command(*arguments(source, target), cwd=source.parent, settings=settings, forked=forked)
    said = ran.stdout + ran.stderr
    kept = source.with_name(source.name + ".secret")
    assert "Traceback" not in said, said
    assert PASSWORD not in said
    assert not kept.exists() or kept.read_text().strip() not in said
    return ran


def name_of(target: str) -> str:
    return target.rsplit("/", 1)[1]


def in_target(target: str, sql: str) -> str:
    return postgres().run(sql, name_of(target))


@pytest.fixture
def target() -> str:
    """The URL of an empty database."""
    return postgres().new_database()


@pytest.fixture(scope="module")
def left_behind(serve_module: Serve) -> Path:
    """The folder of a stopped server, with a conversation."""
    service = serve_module()
    with service.send(TEXT) as answer:
        session_id = answer.headers["X-Session-ID"]
        assert answer.content
    assert service.send("And now?", session_id=session_id).content
    assert service.send(TEXT, key=OTHER_KEY).content
    assert service.stop() == 0
    return service.folder


@pytest.fixture
def file(left_behind: Path, tmp_path: Path) -> Path:
    """A copy of the file of a stopped server, with a conversation and its secret."""
    return Path(shutil.copytree(left_behind, tmp_path / "moved")) / "chat.db"


@pytest.fixture
def large(file: Path) -> Path:
    """The same with thousands of messages more."""
    with closing(sqlite3.connect(file)) as connection:
        rows = [(f"msg_{n:08}", f"ses_{n % 50}", None, n, "user", f'["{TEXT} {n}"]' * 5, n) for n in range(MESSAGES)]
        columns = "id, session_id, parent, depth, role, content, created_at"
        connection.executemany(f"INSERT INTO message ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    return file


def seen(service: Service, key: str) -> list[Any]:
    """Return everything that this key can read."""
    shown = []
    for session in service.get("/api/sessions", key=key).json()["data"]:
        session_id = session["session_id"]
        stream = service.get(f"/api/chat/{session_id}/stream?offset=0", key=key)
        shown.append((session, service.messages(session_id, key=key), stream.content))
    return shown


def served_after(file: Path, target: str, serve: Serve) -> Service:
    """Start a server on the target with the secret of the file's server."""
    secret = file.with_name("chat.db.secret").read_text().strip()
    return serve(DATABASE_URL=target, CHATAPI_SECRET=secret, CHATAPI_SESSION_ACCESS="key")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_migrations_are_numbered_without_a_gap_or_a_repetition(database: str) -> None:
    numbers = [migration.number for migration in migrations(database)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_conversation_continues_in_postgresql(serve: Serve, target: str) -> None:
    before = serve(CHATAPI_SESSION_ACCESS="key")
    session_id = before.send(TEXT).headers["X-Session-ID"]
    before.patch(f"/api/sessions/{session_id}", key=KEY, json={"title": TEXT, "metadata": {"a": "ü"}})
    before.send("And now?", session_id=session_id, headers={"Idempotency-Key": "once"}).close()
    assert before.send("Mine", key=OTHER_KEY).content
    before.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY).close()  # to its end, so that nothing runs
    shown = seen(before, KEY), seen(before, OTHER_KEY)
    assert [len(sessions) for sessions in shown] == [1, 1]
    before.stop()
    file = before.folder / "chat.db"

    ran = migrate(file, target)
    assert ran.returncode == 0, ran.stderr
    for said in ("DATABASE_URL", "CHATAPI_SECRET", f"{file}.secret", "./run doctor", "rows"):
        assert said in ran.stdout
    assert "Copying" in ran.stderr
    assert "100%" in ran.stderr
    assert target not in ran.stdout + ran.stderr

    after = served_after(file, target, serve)
    assert (seen(after, KEY), seen(after, OTHER_KEY)) == shown
    assert after.get(f"/api/sessions/{session_id}", key=OTHER_KEY).status_code == 404
    again = after.send("And now?", session_id=session_id, headers={"Idempotency-Key": "once"})
    assert again.headers["X-Generation-ID"] == shown[0][0][1][-1]["generation_id"], (
        "it was started before the migration"
    )
    assert after.send("Once more", session_id=session_id).content
    assert len(after.messages(session_id, key=KEY)) == 6


def test_an_answer_cut_by_a_power_loss_is_interrupted_and_copied(
    serve: Serve, simulator: Simulator, gate: Gate, target: str
) -> None:
    simulator.script = scripts.held(gate, before="Half")
    before = serve()
    answer = before.send()
    session_id = answer.headers["X-Session-ID"]
    assert next(answer.iter_content(4)) == b"Half"
    before.kill()
    answer.close()
    file = before.folder / "chat.db"
    assert migrate(file, target).returncode == 0
    _, half = served_after(file, target, serve).messages(session_id, key=KEY)
    assert (half["status"], half["content"]) == ("interrupted", "Half")
    assert in_target(target, "SELECT count(*) FROM piece") == "0"


@pytest.mark.parametrize(
    ("after", "some"), [(0, False), (3_000, False), (400_000, False), (1_500_000, True), (2_500_000, True)]
)
def test_a_killed_migration_is_run_again_and_continues(
    large: Path, target: str, after: int, some: bool, serve: Serve
) -> None:
    with Relay(postgres().port, hold_after=after) as relay:
        held = target.replace(f":{postgres().port}/", f":{relay.port}/")
        with start_command(*arguments(large, held), cwd=large.parent) as moving:
            assert relay.held.wait(SECONDS)
            moving.send_signal(signal.SIGKILL)
    made = in_target(target, "SELECT to_regclass('message') IS NOT NULL") == "t"
    copied = int(in_target(target, "SELECT count(*) FROM message")) if made else 0
    assert copied < MESSAGES
    assert (copied > 0) == some, "it was killed at another point than intended"
    ran = migrate(large, target)
    assert ran.returncode == 0, ran.stderr
    assert int(in_target(target, "SELECT count(*) FROM message")) == MESSAGES + 6
    assert len(seen(served_after(large, target, serve), KEY)) == 1


def test_after_ctrl_c_a_migration_can_continue_and_says_so(large: Path, target: str) -> None:
    with Relay(postgres().port, hold_after=400_000) as relay:
        held = target.replace(f":{postgres().port}/", f":{relay.port}/")
        with start_command(*arguments(large, held), cwd=large.parent) as moving:
            assert relay.held.wait(SECONDS)
            moving.send_signal(signal.SIGINT)
            said = moving.stderr.read()
            assert moving.wait(SECONDS) == 1
    assert "Run the same command again" in said
    assert "Traceback" not in said
    assert migrate(large, target).returncode == 0


def test_a_lost_connection_is_reported_and_the_migration_continues(large: Path, target: str) -> None:
    with Relay(postgres().port, hold_after=400_000) as relay:
        held = target.replace(f":{postgres().port}/", f":{relay.port}/")
        moving = start_command(*arguments(large, held), cwd=large.parent)
        assert relay.held.wait(SECONDS)
    with moving:
        said = moving.stderr.read()
        assert moving.wait(SECONDS) == 1
    assert "PostgreSQL closed the connection" in said
    assert "Traceback" not in said
    assert migrate(large, target).returncode == 0


def test_a_finished_migration_may_be_run_again(file: Path, target: str) -> None:
    first = migrate(file, target)
    assert first.returncode == 0
    assert migrate(file, target).stdout == first.stdout


CHANGED = "NEW.content := overlay(NEW.content placing 'X' from 12); RETURN NEW;"
LOST = "RETURN NULL;"
ADDED = "NEW.id := NEW.id || 'x'; RETURN NEW;"


@pytest.mark.parametrize("what", [CHANGED, LOST, ADDED], ids=["changed", "lost", "renamed"])
def test_a_wrong_copy_is_found(file: Path, target: str, what: str) -> None:
    empty = file.with_name("empty.db")
    make_empty(empty)
    assert migrate(empty, target).returncode == 0  # creates the tables
    with closing(sqlite3.connect(file)) as connection:
        (last,) = connection.execute("SELECT max(id) FROM message").fetchone()
    in_target(
        target,
        f"CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$;"
        f"CREATE TRIGGER spoil BEFORE INSERT ON message FOR EACH ROW WHEN (NEW.id = '{last}') "
        "EXECUTE FUNCTION spoil();",
    )
    ran = migrate(file, target)
    assert ran.returncode == 1
    assert last in ran.stderr
    assert "not the same" in ran.stderr
    assert not ran.stdout


def make_empty(path: Path) -> None:
    """An empty file as a server makes it, without a secret."""

    async def make() -> None:
        driver = SQLiteDriver(path)
        await driver.open()
        await driver.close()

    asyncio.run(make())


def test_a_database_in_use_is_refused_and_left_unchanged(file: Path, target: str, serve: Serve) -> None:
    other = serve(DATABASE_URL=target, CHATAPI_SECRET=SECRET)
    other.send().close()
    other.stop()
    ran = migrate(file, target)
    assert ran.returncode == 2
    assert "another CHATAPI_SECRET" in ran.stderr
    assert in_target(target, "SELECT count(*) FROM session") == "1"


def test_a_copy_that_was_used_meanwhile_is_refused(file: Path, target: str, serve: Serve) -> None:
    assert migrate(file, target).returncode == 0
    served_after(file, target, serve).send().close()
    ran = migrate(file, target)
    assert ran.returncode == 2
    assert "that database is in use" in ran.stderr


def test_a_copy_with_one_changed_byte_is_refused(file: Path, target: str) -> None:
    assert migrate(file, target).returncode == 0
    changed = in_target(
        target, "UPDATE message SET content = overlay(content placing 'X' from 12) WHERE depth = 3 RETURNING id"
    )
    ran = migrate(file, target)
    assert ran.returncode == 2
    assert changed in ran.stderr


def test_a_file_whose_server_runs_is_refused_and_the_process_is_named(service: Service, target: str) -> None:
    ran = migrate(service.folder / "chat.db", target)
    assert ran.returncode == 2
    assert f"process {service.pid} has the file" in ran.stderr
    assert in_target(target, "SELECT to_regclass('session') IS NULL") == "t"


def test_tables_that_differ_are_refused_by_name(file: Path, target: str) -> None:
    assert migrate(file, target).returncode == 0
    in_target(target, "ALTER TABLE message ADD COLUMN mood TEXT")
    ran = migrate(file, target)
    assert ran.returncode == 2
    assert "the table message is not the same" in ran.stderr
    assert "mood" in ran.stderr


def test_a_table_that_is_new_in_both_is_copied(file: Path, target: str) -> None:
    assert migrate(file, target).returncode == 0
    table = "CREATE TABLE nickname (session_id TEXT NOT NULL, place INTEGER NOT NULL, name TEXT, "
    in_target(target, f"{table} PRIMARY KEY (session_id, place))")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"{table} PRIMARY KEY (session_id, place)) WITHOUT ROWID")
        rows = [(name, place, None) for name in ("b", "B", "é", "a") for place in (10, 9, -1)]
        connection.executemany("INSERT INTO nickname VALUES (?, ?, ?)", rows)
        connection.commit()
    ran = migrate(file, target)
    assert ran.returncode == 0, ran.stderr
    assert in_target(target, "SELECT count(*) FROM nickname") == "12"
    assert "nickname" in ran.stdout


def missing(folder: Path) -> Path:
    return folder / "none.db"


def not_a_database(folder: Path) -> Path:
    path = folder / "text.db"
    path.write_text("This is no database, and long enough to be looked at. " * 100)
    return path


def of_somebody_else(folder: Path) -> Path:
    path = folder / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmark (id INTEGER PRIMARY KEY)")
        connection.commit()
    return path


@pytest.mark.parametrize("make", [missing, not_a_database, of_somebody_else])
def test_a_file_that_is_not_ours_is_refused_and_left_unchanged(
    make: Callable[[Path], Path], tmp_path: Path, target: str
) -> None:
    path = make(tmp_path)
    before = path.read_bytes() if path.exists() else None
    ran = migrate(path, target)
    assert ran.returncode == 2
    assert f"--from: the file {path}" in ran.stderr or "there is no file" in ran.stderr
    assert (path.read_bytes() if path.exists() else None) == before
    assert in_target(target, "SELECT to_regclass('session') IS NULL") == "t"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: postgres().url("nobody_made_this"), "no such database"),
        (lambda: postgres().url("postgres", "locked", PASSWORD + "x"), "refuses the user or the password"),
        (lambda: "postgresql://postgres@127.0.0.1:1/x", "PostgreSQL cannot be reached"),
        (lambda: "sqlite:///other.db", "must be postgresql://"),
    ],
)
def test_an_unreachable_database_is_refused(file: Path, make: Callable[[], str], why: str) -> None:
    before = file.read_bytes()
    ran = migrate(file, make())
    assert ran.returncode == 2
    assert why in ran.stderr
    assert file.read_bytes() == before


def test_on_a_terminal_one_line_shows_the_progress_of_each_pass(large: Path, target: str) -> None:
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "chatapi", *arguments(large, target)]
    env = environment_without_settings() | {"PYTHONPATH": str(PROJECT)}
    moving = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the end of a terminal's output is an error
        while some := os.read(ours, 65536):
            shown += some
    os.close(ours)
    assert moving.wait(SECONDS) == 0
    assert b"\rCopying: " in shown
    assert b"100%" in shown
    assert shown.count(b"\n") == 2, "one line for copying, and one for comparing"


def test_a_missing_postgresql_client_is_a_sentence(file: Path, target: str, tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError('No module named asyncpg', name='asyncpg')")
    ran = migrate(file, target, PYTHONPATH=f"{tmp_path}{os.pathsep}{PROJECT}")
    assert ran.returncode == 2
    assert "the package asyncpg is not installed" in ran.stderr


def test_a_migration_works_through_a_pooler(large: Path, target: str) -> None:
    with Pooler(postgres().port, name_of(target)) as pooler:
        ran = migrate(large, target.replace(f":{postgres().port}/", f":{pooler.port}/"))
    assert ran.returncode == 0, ran.stderr
    assert int(in_target(target, "SELECT count(*) FROM message")) == MESSAGES + 6


def test_the_database_may_be_named_by_the_environment(file: Path, target: str) -> None:
    ran = run_command("migrate", "--from", f"sqlite:///{file}", cwd=file.parent, settings={"DATABASE_URL": target})
    assert ran.returncode == 0, ran.stderr


def test_an_operator_who_set_the_secret_is_not_pointed_to_a_file(serve: Serve, target: str) -> None:
    before = serve(CHATAPI_SECRET=SECRET)
    before.stop()
    ran = migrate(before.folder / "chat.db", target)
    assert "the value that it had for the server that used the file" in ran.stdout
    assert SECRET not in ran.stdout + ran.stderr
