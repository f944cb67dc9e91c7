"""Backups: made under load they miss nothing that was acknowledged, and only a whole one is restored."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from chatapi.auth.keys import fingerprint, load_secret
from chatapi.backup import BackupFailed, backup, restore
from chatapi.cli import main
from chatapi.settings import Settings
from chatapi.simulator import ReceivedRequest, Script, Simulator, scripts
from chatapi.store.drivers.sqlite_file import migrate
from tests.reader import Reader
from tests.server_process import KEY, PROJECT, Serve, Service, environment_without_settings, run_command
from tests.test_workers import Workers

WRITERS = 3
BACKUPS = 3
GROW = "Grow"
GROWING_WORDS = 6000  # 30 seconds of text


def settings_of(database: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{database}")


def database_of(service: Service) -> Path:
    return service.folder / service.environment["DATABASE_URL"].removeprefix("sqlite:///")


def respond(request: ReceivedRequest) -> Script | None:
    """Answer some messages with text that grows for as long as the backups take, and all other requests at once."""
    grows = bool(request.body) and request.body["messages"][-1]["content"] == GROW
    return scripts.answer("word " * GROWING_WORDS, pace_seconds=0.005) if grows else None


@pytest.fixture
def make_busy(serve: Serve, simulator: Simulator, tmp_path: Path) -> Iterator[Callable[[int], Service]]:
    """Start a server with so many workers."""
    several: list[Workers] = []

    def start(workers: int) -> Service:
        if workers == 1:
            return serve(CHATAPI_RATE_LIMIT="0")
        folder = tmp_path / "workers"
        folder.mkdir()
        several.append(Workers(folder, simulator.url, CHATAPI_WORKERS=str(workers)))
        return several[-1].start()

    yield start
    for one in several:
        one.kill()


@pytest.mark.one_process("PostgreSQL has its own backups")
@pytest.mark.parametrize("workers", [1, 2])
def test_backups_under_load_have_everything_that_was_acknowledged(
    serve: Serve, make_busy: Callable[[int], Service], simulator: Simulator, tmp_path: Path, workers: int
) -> None:
    service = make_busy(workers)
    simulator.script = respond
    growing = [Reader.chat(service, GROW) for _ in range(WRITERS)]
    texts: dict[str, str] = {}
    ended = threading.Event()
    wrote = threading.Semaphore(0)

    def read(reader: Reader) -> None:
        while not ended.is_set():
            reader.read_some()

    def write() -> None:
        while not ended.is_set():
            answer = service.send(f"Message {len(texts)}")
            texts[answer.headers["X-Session-ID"]] = answer.text
            wrote.release()

    def back_up(number: int) -> tuple[Path, dict[str, str], list[bytes]]:
        for _ in range(2 * WRITERS):
            assert wrote.acquire(timeout=30)
        acknowledged, shown = dict(texts), [bytes(reader.body) for reader in growing]
        folder = tmp_path / f"copy-{number}"
        settings = {"DATABASE_URL": service.environment["DATABASE_URL"]}
        done = run_command("backup", str(folder), cwd=service.folder, settings=settings)
        assert done.returncode == 0, done.stderr
        return folder, acknowledged, shown

    with ThreadPoolExecutor(2 * WRITERS + BACKUPS) as pool:
        busy = [pool.submit(write) for _ in range(WRITERS)] + [pool.submit(read, reader) for reader in growing]
        try:
            backups = list(pool.map(back_up, range(BACKUPS)))  # beside each other
            latest = [bytes(reader.body) for reader in growing]
        finally:
            ended.set()
        assert [work.result() for work in busy] == [None] * len(busy)
    settings = {name: service.environment[name] for name in ("DATABASE_URL", "OPENAI_BASE_URL")}
    checked = run_command("doctor", cwd=service.folder, settings=settings)
    assert f"SQLite: process {service.pid} serves the file now" in checked.stdout
    assert not re.findall("failure  (?:SQLite|Secret): .*", checked.stdout)
    service.kill()
    for number, (folder, acknowledged, shown) in enumerate(backups):
        assert len(texts) > len(acknowledged), "the server accepted messages meanwhile"
        assert all(len(more) > len(some) > 0 for some, more in zip(shown, latest, strict=True)), "the answers grew"
        home = tmp_path / f"restored-{number}"
        home.mkdir()
        target = {"DATABASE_URL": f"sqlite:///{home / 'chat.db'}"}
        done = run_command("restore", str(folder), cwd=home, settings=target)
        assert done.returncode == 0, done.stderr
        restored = serve(**target)
        for session_id, text in acknowledged.items():
            assert restored.messages(session_id, key=KEY)[-1]["content"] == text
        for reader, text_shown in zip(growing, shown, strict=True):
            answer = restored.messages(reader.session_id, key=KEY)[-1]
            assert answer["content"].startswith(text_shown.decode())
            assert answer["status"] == "interrupted"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a file with a secret and a journal."""
    folder = tmp_path_factory.mktemp("made")
    database = folder / "chat.db"
    make_database(database)
    (folder / "chat.db.journal").mkdir()
    (folder / "chat.db.journal" / "00000001.segment").write_bytes(b"text of a running answer")
    backup(settings_of(database), folder / "copy", lambda _: None)
    return folder / "copy"


def make_database(path: Path) -> None:
    """Create an empty database with its secret, as a first start does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)
        tag = fingerprint(load_secret(path.with_name(path.name + ".secret")))
        connection.execute("INSERT INTO agreement VALUES ('secret', ?)", (tag,))


def test_a_backup_has_all_files_for_its_owner_only_and_a_manifest(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    assert [file["name"] for file in manifest["files"]] == ["database", "journal/00000001.segment", "secret"]
    assert made.stat().st_mode & 0o777 == 0o700, "other users cannot open the folder"
    assert not (made / "database-wal").exists()


def test_all_files_are_restored(made: Path, tmp_path: Path) -> None:
    database = tmp_path / "new" / "chat.db"
    restore(settings_of(database), made, replace=False)
    for name, place in {
        "database": database,
        "secret": tmp_path / "new" / "chat.db.secret",
        "journal/00000001.segment": tmp_path / "new" / "chat.db.journal" / "00000001.segment",
    }.items():
        assert place.read_bytes() == (made / name).read_bytes()
        assert place.stat().st_mode & 0o077 == 0


def test_data_that_is_there_is_kept_unless_it_is_to_be_replaced(made: Path, tmp_path: Path) -> None:
    database = tmp_path / "chat.db"
    database.write_bytes(b"other data")
    (tmp_path / "chat.db-wal").write_bytes(b"of the other data")
    with pytest.raises(BackupFailed, match="--replace"):
        restore(settings_of(database), made, replace=False)
    assert database.read_bytes() == b"other data"
    _, aside = restore(settings_of(database), made, replace=True)
    assert aside is not None
    assert (aside / "chat.db").read_bytes() == b"other data"
    assert (aside / "chat.db-wal").exists()
    assert not (tmp_path / "chat.db-wal").exists(), "a log of other data would spoil the database"
    assert database.read_bytes() == (made / "database").read_bytes()


@pytest.mark.parametrize("kept", [["secret"], ["secret", "journal/00000001.segment"]])
def test_an_interrupted_restoration_is_continued(made: Path, tmp_path: Path, kept: list[str]) -> None:
    database = tmp_path / "chat.db"
    restore(settings_of(database), made, replace=False)
    database.unlink()
    if len(kept) == 1:
        shutil.rmtree(tmp_path / "chat.db.journal")
    (tmp_path / "chat.db.restoring").write_bytes(b"half of it")
    restore(settings_of(database), made, replace=False)
    assert database.read_bytes() == (made / "database").read_bytes()


def break_byte(backup_folder: Path) -> None:
    data = bytearray((backup_folder / "database").read_bytes())
    data[len(data) // 2] ^= 1
    (backup_folder / "database").write_bytes(data)


def leave_out_the_secret(backup_folder: Path) -> None:
    (backup_folder / "secret").unlink()


def name_another_place(backup_folder: Path) -> None:
    text = (backup_folder / "manifest.json").read_text()
    (backup_folder / "manifest.json").write_text(text.replace('"secret"', '"journal/../../elsewhere.segment"'))


def write_by_a_newer_version(backup_folder: Path) -> None:
    manifest = json.loads((backup_folder / "manifest.json").read_text())
    (backup_folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 9999}))


def damage_the_manifest(backup_folder: Path) -> None:
    (backup_folder / "manifest.json").write_text((backup_folder / "manifest.json").read_text()[:-9])


def write_in_a_newer_format(backup_folder: Path) -> None:
    manifest = json.loads((backup_folder / "manifest.json").read_text())
    (backup_folder / "manifest.json").write_text(json.dumps(manifest | {"format": manifest["format"] + 1}))


def list_no_database(backup_folder: Path) -> None:
    manifest = json.loads((backup_folder / "manifest.json").read_text())
    (backup_folder / "manifest.json").write_text(json.dumps(manifest | {"files": manifest["files"][1:]}))


def lose_the_manifest(backup_folder: Path) -> None:
    (backup_folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (break_byte, "differs from the backup that was made"),
        (leave_out_the_secret, "cannot be read"),
        (name_another_place, "not part of a backup"),
        (write_by_a_newer_version, "by a newer version"),
        (write_in_a_newer_format, "by a newer version"),
        (list_no_database, "has no database"),
        (damage_the_manifest, r"manifest\.json is damaged"),
        (lose_the_manifest, "is not a backup"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_spoiled_backup_changes_nothing(
    made: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    spoil(copy)
    (tmp_path / "place").mkdir()
    with pytest.raises(BackupFailed, match=sentence):
        restore(settings_of(tmp_path / "place" / "chat.db"), copy, replace=True)
    assert not list((tmp_path / "place").iterdir())


def test_a_database_of_another_secret_is_not_backed_up(tmp_path: Path) -> None:
    make_database(tmp_path / "chat.db")
    (tmp_path / "chat.db.secret").unlink()
    with pytest.raises(BackupFailed, match="CHATAPI_SECRET"):
        backup(settings_of(tmp_path / "chat.db"), tmp_path / "copy", lambda _: None)
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_a_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    make_database(tmp_path / "chat.db")
    with (tmp_path / "chat.db").open("r+b") as file:
        for page in range(1, (tmp_path / "chat.db").stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    with pytest.raises(BackupFailed, match=r"damaged|malformed"):
        backup(settings_of(tmp_path / "chat.db"), tmp_path / "copy", lambda _: None)
    assert not (tmp_path / "copy").exists()


def test_a_database_that_breaks_its_own_rules_is_not_backed_up(tmp_path: Path) -> None:
    make_database(tmp_path / "chat.db")
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as connection:
        connection.executescript(
            "CREATE TABLE damaged (a); INSERT INTO damaged VALUES (NULL); PRAGMA writable_schema = ON;"
            "UPDATE sqlite_master SET sql = 'CREATE TABLE damaged (a NOT NULL)' WHERE name = 'damaged';"
        )
    with pytest.raises(BackupFailed, match=r"damaged: NULL value in damaged\.a\. Restore an earlier backup\."):
        backup(settings_of(tmp_path / "chat.db"), tmp_path / "copy", lambda _: None)
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    make_database(tmp_path / "chat.db")
    settings, refusals = settings_of(tmp_path / "chat.db"), list[BackupFailed]()

    def back_up_twice(line: str) -> None:
        if line == "verifying":
            with pytest.raises(BackupFailed) as refused:
                backup(settings, tmp_path / "copy", lambda _: None)
            refusals.append(refused.value)

    backup(settings, tmp_path / "copy", back_up_twice)
    assert [str(one) for one in refusals] == [f"Another process writes to {tmp_path / 'copy.partial'}."]
    assert (tmp_path / "copy" / "manifest.json").exists()
    with pytest.raises(BackupFailed, match=r"/chat\.db/copy\.partial cannot be created: Not a directory\."):
        backup(settings, tmp_path / "chat.db" / "copy", lambda _: None)
    with pytest.raises(BackupFailed, match="Remove the cause"):
        restore(settings_of(tmp_path / "chat.db" / "chat.db"), tmp_path / "copy", replace=False)


def test_the_secret_of_the_settings_and_replaced_data_are_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_database(tmp_path / "chat.db")
    secret = (tmp_path / "chat.db.secret").read_text().strip()
    (tmp_path / "chat.db.secret").unlink()
    monkeypatch.chdir(tmp_path)
    for name, value in (("DATABASE_URL", "sqlite:///chat.db"), ("CHATAPI_SECRET", secret)):
        monkeypatch.setenv(name, value)
    assert main(["backup", "copy"]) == 0
    assert "It does not contain the secret, which is in CHATAPI_SECRET" in capsys.readouterr().out
    assert secret.encode() not in b"".join(path.read_bytes() for path in Path("copy").iterdir())
    assert main(["restore", "copy", "--replace"]) == 0
    (aside,) = tmp_path.glob("chat.db.replaced-*")
    assert f"The data that was there is in {aside}." in capsys.readouterr().out


def test_a_killed_backup_leaves_nothing_that_looks_like_one_and_the_next_one_works(tmp_path: Path) -> None:
    make_database(tmp_path / "chat.db")
    code = (
        "import os, signal, sys; from pathlib import Path; from chatapi.backup import backup; "
        "from chatapi.settings import Settings; "
        "backup(Settings(database_url=sys.argv[1]), Path(sys.argv[2]), "
        "lambda line: os.kill(os.getpid(), signal.SIGKILL) if line == 'verifying' else None)"
    )
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    env = environment_without_settings() | {"PYTHONPATH": str(PROJECT)}
    killed = subprocess.run(
        [sys.executable, "-c", code, url, str(tmp_path / "copy")], env=env, cwd=tmp_path, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "copy").exists()
    assert (tmp_path / "copy.partial").exists()
    backup(settings_of(tmp_path / "chat.db"), tmp_path / "copy", lambda _: None)
    assert not (tmp_path / "copy.partial").exists()


@pytest.mark.parametrize("of_copy", ["", "/dev/shm"], ids=["the same disk", "another disk"])
def test_a_segment_that_is_removed_meanwhile_is_in_the_backup(tmp_path: Path, of_copy: str) -> None:
    with tempfile.TemporaryDirectory(dir=of_copy or tmp_path) as place:
        assert (Path(place).stat().st_dev == tmp_path.stat().st_dev) == (not of_copy)
        journal = tmp_path / "chat.db.journal"
        journal.mkdir()
        if of_copy:
            (journal / "00000000.segment").symlink_to("nothing")  # like one that was removed after it was listed
        back_up_while_segments_change(tmp_path, Path(place) / "copy", b"before" if of_copy else b"before and after")


def back_up_while_segments_change(tmp_path: Path, copy: Path, first_text: bytes) -> None:
    make_database(tmp_path / "chat.db")
    journal = tmp_path / "chat.db.journal"
    first, second = journal / "00000001.segment", journal / "00000002.segment"
    first.write_bytes(b"before")

    def change(line: str) -> None:
        if line == "copying the database":
            with first.open("ab") as file:
                file.write(b" and after")
            first.unlink()
            second.write_bytes(b"new")

    backup(settings_of(tmp_path / "chat.db"), copy, change)
    copies = copy / "journal"
    assert (copies / first.name).read_bytes() == first_text
    assert (copies / second.name).read_bytes() == b"new"
    assert not (copy / "links").exists()


@pytest.mark.one_process("PostgreSQL has its own backups")
def test_the_commands_refuse_with_a_sentence(service: Service, made: Path, tmp_path: Path) -> None:
    ours = {"DATABASE_URL": f"sqlite:///{database_of(service)}"}
    cases = {
        ("backup", str(made)): (ours, "exists"),
        ("restore", str(made), "--replace"): (ours, "Stop that server first"),
        ("restore", str(tmp_path)): (ours, "is not a backup"),
        ("backup", str(tmp_path / "new")): ({"DATABASE_URL": "postgresql://localhost/x"}, "pg_dump"),
        ("restore", str(made)): ({"DATABASE_URL": "postgresql://localhost/x"}, "name the SQLite file to restore to"),
    }
    for arguments, (settings, sentence) in cases.items():
        done = run_command(*arguments, cwd=tmp_path, settings=settings)
        assert done.returncode == 1, done.stderr
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
