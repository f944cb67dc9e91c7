"""A full disk, a locked or broken file, a failing start: a clear error for each, and no lost data."""

from __future__ import annotations

import resource
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatapi.settings import SettingsError
from chatapi.simulator import Gate, Simulator, scripts
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.drivers.sqlite_file import LOCKED_MILLISECONDS
from chatapi.store.journal import MAGIC
from tests.database_view import SQLiteFile
from tests.reader import EVENTS, Reader
from tests.server_process import Serve, Service, run_command
from tests.test_promises import saying

pytestmark = pytest.mark.one_process("it is about the file")


@contextmanager
def disk_full(service: Service) -> Iterator[None]:
    """Let no file of the server grow for the duration of the block."""
    soft, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (1, hard))
    yield
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (soft, hard))


def check_refused(service: Service, session_id: str) -> None:
    """Check that every write is a 503 with a Retry-After, and that reading works."""
    replies = [
        service.send(),
        service.send(session_id=session_id),
        service.post("/api/sessions", json={"developer_message": ""}),
        service.patch(f"/api/sessions/{session_id}", json={"title": "a"}),
        service.delete(f"/api/sessions/{session_id}"),
    ]
    for reply in replies:
        assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
    assert service.get("/api/health").status_code == 503
    assert (service.get("/readyz").status_code, service.get("/readyz").json()["store"]) == (503, "unavailable")
    assert service.get("/livez").json() == {"status": "alive"}
    assert service.get(f"/api/sessions/{session_id}").status_code == 200


def test_a_full_disk_refuses_writes_and_loses_nothing(service: Service, simulator: Simulator) -> None:
    before = service.send()
    session_id, text = before.headers["X-Session-ID"], before.text
    calls = len(simulator.requests)
    with disk_full(service):
        check_refused(service, session_id)
        assert [message["content"] for message in service.messages(session_id)] == ["Hello", text]
        assert Reader.resume(service, session_id).read_all() == text.encode()
        assert len(simulator.requests) == calls, "the upstream is not called for a turn that cannot be stored"
    assert service.get("/api/health").status_code == 200
    assert service.send(session_id=session_id).status_code == 200
    assert len(service.messages(session_id)) == 4


def test_a_disk_that_is_full_for_a_moment_delays_an_answer(service: Service, simulator: Simulator) -> None:
    gate, ending = Gate(), Gate()
    simulator.script = saying("Hello", gate, " there", ending)
    readers = [Reader.chat(service, headers=headers) for headers in ({}, EVENTS)]
    for reader in readers:
        reader.read_until("Hello")
    with disk_full(service):
        gate.open()
        assert service.get("/api/health").status_code == 503, "by now the text was refused as well"
        logged = service.wait_for_log("journal write failed")
        assert logged["reason"] == "OSError"
    ending.open()
    assert readers[0].read_all() == b"Hello there"
    assert readers[0].ended
    readers[1].read_all()
    assert readers[1].joined("text") == "Hello there"
    assert readers[1].events()[-1][0] == "done"


def test_a_disk_that_stays_full_during_an_answer(serve: Serve, simulator: Simulator) -> None:
    service = serve(CHATAPI_STORE_PATIENCE_SECONDS="0.5")
    gate = Gate()
    simulator.script = saying("Hello", gate, " there", Gate())
    readers = [Reader.chat(service, headers=headers) for headers in ({}, EVENTS)]
    for reader in readers:
        reader.read_until("Hello")
    with disk_full(service):
        gate.open()
        assert readers[0].read_all() == b"Hello"
        assert not readers[0].ended, "a plain-text reader sees a cut"
        readers[1].read_all()
        name, _, data = readers[1].events()[-1]
        assert (name, data["code"]) == ("error", "store_unavailable")
        assert readers[1].joined("text") == "Hello"
        for reader in readers:
            assert service.messages(reader.session_id)[1]["content"] == "Hello", "text that was sent can be read"
    for reader in readers:
        service.wait_for_log("generation", generation_id=reader.generation_id)
        answer = service.messages(reader.session_id)[1]
        assert (answer["status"], answer["error"]["code"]) == ("failed", "store_unavailable")
        assert answer["content"] == "Hello there", "none of it is lost"
        simulator.script = scripts.answer("Again.")
        assert service.send(session_id=reader.session_id).text == "Again."


def test_a_locked_file_refuses_writes_until_it_is_free(service: Service, simulator: Simulator) -> None:
    before = service.send()
    session_id, text = before.headers["X-Session-ID"], before.text
    calls = len(simulator.requests)
    with service.database.locked():
        refused = service.send(session_id=session_id)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        logged = service.wait_for_log("store commit failed")
        assert (logged["writes"], logged["reasons"]) == (["Turns.begin"], ["OperationalError"])
        assert [message["content"] for message in service.messages(session_id)] == ["Hello", text]
        assert len(simulator.requests) == calls
    assert service.send(session_id=session_id).status_code == 200
    assert len(service.messages(session_id)) == 4


def test_requests_that_wait_for_a_locked_file_do_not_wait_for_each_other(service: Service) -> None:
    def send(_: int) -> tuple[int, float]:
        begun = time.monotonic()
        return service.send().status_code, time.monotonic() - begun

    with service.database.locked(), ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(send, range(8)))
    assert {status for status, _ in replies} == {503}
    assert max(seconds for _, seconds in replies) < 4 * LOCKED_MILLISECONDS / 1000


def test_a_lock_that_is_released_soon_only_delays(service: Service) -> None:
    before = service.send()
    session_id = before.headers["X-Session-ID"]
    assert before.content, "read to its end, so that the session is free"
    with ThreadPoolExecutor(1) as client:
        with service.database.locked():
            waits = client.submit(service.send, session_id=session_id)
            for _ in range(5):  # the server had the chance to try
                assert service.get(f"/api/sessions/{session_id}").status_code == 200
            assert not waits.done()
        assert waits.result().status_code == 200


# Failing starts


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python app.py`, which must end by itself."""
    settings = {"PORT": "0", "DATABASE_URL": f"sqlite:///{folder}/chat.db", **environment}
    return run_command(cwd=folder, settings=settings)


def check_one_sentence(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that it printed one line that says what is wrong, and nothing more."""
    assert ended.stderr.startswith("Cannot start. "), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert (ended.returncode, ended.stdout) == (2, "")
    for word in words:
        assert word in ended.stderr


def test_a_second_server_on_the_same_file(service: Service) -> None:
    check_one_sentence(start(service.folder), "DATABASE_URL", "another server")
    assert service.send().status_code == 200, "the first continues"


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        check_one_sentence(start(tmp_path, PORT=port), "PORT", port)


def not_a_database(path: Path) -> None:
    path.write_bytes(b"This is no database, but a text that is longer than its header would be. " * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def of_a_newer_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        connection.execute("INSERT INTO migration VALUES (9999, '9999_future.sql')")
    connection.close()


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE session (name TEXT)")
    connection.close()


def with_a_torn_schema(path: Path) -> None:
    of_another_program(path)
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)


BROKEN = (not_a_database, a_folder, of_a_newer_version, of_another_program, with_a_torn_schema)


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
async def test_an_unusable_file(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "chat.db")
    driver = SQLiteDriver(tmp_path / "chat.db")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: "):
        await driver.open()
    await driver.close()


@pytest.mark.parametrize("spoil", [not_a_database, of_a_newer_version])
def test_a_start_with_an_unusable_file(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "chat.db")
    check_one_sentence(start(tmp_path), "DATABASE_URL")


def test_a_file_with_torn_rows(service: Service) -> None:
    for number in range(30):
        service.post("/api/sessions", json={"developer_message": f"{number}" * 1000})
    service.send()
    assert service.stop() == 0
    file = SQLiteFile(service.environment["DATABASE_URL"]).path
    data = bytearray(file.read_bytes())
    page = 4096
    data[2 * page :] = b"\xff" * len(data[2 * page :])  # the schema is whole, the rows are not
    file.write_bytes(data)
    check_one_sentence(start(service.folder), "DATABASE_URL")


def test_a_file_that_is_locked_at_the_start(service: Service) -> None:
    assert service.stop() == 0
    with service.database.locked():
        check_one_sentence(start(service.folder), "DATABASE_URL", "locked")


def test_a_journal_that_cannot_be_used_is_one_sentence_and_is_not_changed(service: Service) -> None:
    assert service.stop() == 0
    folder = SQLiteFile(service.environment["DATABASE_URL"]).path.with_name("chat.db.journal")
    (folder / "00000001.segment").write_bytes(MAGIC.replace(b"1\n", b"2\n") + bytes(100))
    check_one_sentence(start(service.folder), "DATABASE_URL", "journal", "another version")
    assert [path.name for path in folder.iterdir()] == ["00000001.segment"]
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    check_one_sentence(start(service.folder), "DATABASE_URL", "journal")


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("PORT", "eighty", "PORT"),
        ("HOST", "no such host", "HOST"),
        ("DATABASE_URL", "mysql://anna:password@somewhere/else", "DATABASE_URL"),
        ("DATABASE_URL", "sqlite:////dev/null/chat.db", "DATABASE_URL"),
        ("CHATAPI_SECRET", "too-short-a-secret", "CHATAPI_SECRET"),
    ],
)
def test_an_invalid_setting(tmp_path: Path, name: str, value: str, named: str) -> None:
    ended = start(tmp_path, **{name: value})
    check_one_sentence(ended, named)
    assert "password" not in ended.stderr
    assert "too-short-a-secret" not in ended.stderr
