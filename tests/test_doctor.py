"""`doctor` prints a sentence for each check of the settings and the servers."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.doctor.sqlite import file_system
from chatapi.simulator import Gate, Script, Simulator, refuse, scripts
from chatapi.store.journal import MAGIC
from chatapi.wire.probe import PROBE_LINES, PROBE_SECONDS
from tests.databases import PASSWORD, Redis, free_port, postgres, redis, worker_number
from tests.proxies import Pooler, Relay, http_proxy, https_server
from tests.reader import Reader
from tests.server_process import Serve, Service, run_command

SECONDS = 60.0
SECRET = "a-secret-of-the-tests-that-is-long-enough"
OTHER_SECRET = "another-secret-of-the-tests-as-long-as-it"


class Told(NamedTuple):
    """The output of `doctor`, and its exit status."""

    status: int
    lines: list[str]

    def has_stream_verdict(self) -> None:
        """Check that streams were measured; a busy machine delays lines as a proxy does, which is a warning."""
        verdicts = ("Proxy: streams pass without delay", "Proxy: lines sent every 0.2 s arrived up to")
        assert any(verdict in line for line in self.lines for verdict in verdicts), self.lines

    def has(self, level: str, *words: str) -> str:
        """Return the only line of this level that contains all the words."""
        found = [line for line in self.lines if line.startswith(level) and all(word in line for word in words)]
        assert len(found) == 1, "\n".join(self.lines)
        return found[0]

    def failures(self) -> list[str]:
        return [line for line in self.lines if line.startswith("failure")]


class Doctor:
    """Runs `doctor` in a folder of its own, with a working model API."""

    def __init__(self, folder: Path, upstream_url: str) -> None:
        self.folder = folder
        self.upstream_url = upstream_url

    def __call__(self, *arguments: str, **variables: str) -> Told:
        settings = {"OPENAI_BASE_URL": self.upstream_url, **variables}
        ran = run_command("doctor", *arguments, cwd=self.folder, settings=settings)
        said = ran.stdout + ran.stderr
        assert not ran.stderr, said
        for secret in (SECRET, OTHER_SECRET, PASSWORD):
            assert secret not in said
        told = Told(ran.returncode, ran.stdout.splitlines())
        assert all(line.split(" ")[0] in {"ok", "warning", "failure"} for line in told.lines), said
        assert (told.status != 0) == bool(told.failures())
        return told


@pytest.fixture
def doctor(tmp_path: Path, shared_simulator: Simulator) -> Doctor:
    folder = tmp_path / "asked"
    folder.mkdir()
    return Doctor(folder, shared_simulator.url)


@pytest.fixture
def database() -> str:
    """The URL of an empty database."""
    return postgres().new_database()


def test_unreadable_settings_are_named(doctor: Doctor) -> None:
    told = doctor(PORT="eight")
    assert told.status == 2
    assert told.has("failure", "PORT")


# SQLite


def test_before_the_first_start_all_checks_pass_and_nothing_is_created(doctor: Doctor) -> None:
    told = doctor()
    assert told.status == 0
    told.has("ok", "the first start creates it")
    assert not list(doctor.folder.iterdir())


@pytest.mark.one_process("it is about the file")
def test_a_file_in_use_passes_and_its_server_is_named(doctor: Doctor, service: Service) -> None:
    told = doctor(DATABASE_URL=service.environment["DATABASE_URL"])
    assert told.status == 0
    told.has("ok", f"process {service.pid} serves the file")
    told.has("ok", "can be written")
    told.has("ok", "syncing a write", "ms")
    told.has("ok", "MiB of its disk are free")
    told.has("ok", "the schema is up to date")
    told.has("ok", "Secret", "the one that the sessions belong to")
    told.has("ok", "Open files")
    assert service.send().content, "the server is not disturbed"


@pytest.fixture
def file(serve: Serve) -> Path:
    """The file of a stopped server."""
    service = serve()
    service.send().close()
    service.stop()
    return service.folder / "chat.db"


@pytest.mark.one_process("it is about the file")
def test_a_secret_that_others_can_read_is_a_warning(doctor: Doctor, file: Path) -> None:
    file.with_name("chat.db.secret").chmod(0o644)
    file.chmod(0o640)
    told = doctor(DATABASE_URL=f"sqlite:///{file}")
    assert told.status == 0
    told.has("warning", "others may read the file", ".secret")
    told.has("warning", "others may read the file", "conversations")


@pytest.mark.one_process("it is about the file")
def test_a_missing_or_changed_secret_is_a_failure(doctor: Doctor, file: Path) -> None:
    url = f"sqlite:///{file}"
    doctor(DATABASE_URL=url, CHATAPI_SECRET=OTHER_SECRET).has("failure", "Secret", "another")
    kept = file.with_name("chat.db.secret")
    kept.write_text(OTHER_SECRET)
    doctor(DATABASE_URL=url).has("failure", "Secret", "another")
    kept.write_text("short")
    doctor(DATABASE_URL=url).has("failure", "does not contain a secret")
    kept.unlink()
    doctor(DATABASE_URL=url).has("failure", "is gone")
    assert not kept.exists()


@pytest.mark.one_process("it is about the file")
def test_an_older_and_a_newer_schema_are_distinguished(doctor: Doctor, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM migration WHERE number > 1")
        connection.commit()
        doctor(DATABASE_URL=f"sqlite:///{file}").has("ok", "the next start changes the schema")
        connection.execute("INSERT INTO migration VALUES (9999, 'of tomorrow')")
        connection.commit()
    doctor(DATABASE_URL=f"sqlite:///{file}").has("failure", "newer version")


@pytest.mark.one_process("it is about the file")
def test_text_that_a_crash_left_in_the_journal_is_reported(
    doctor: Doctor, service: Service, simulator: Simulator
) -> None:
    simulator.script = scripts.held(Gate(), "Hello", " there.")
    Reader.chat(service).read_until("Hello")
    service.kill()
    url = service.environment["DATABASE_URL"]
    doctor(DATABASE_URL=url).has("ok", "the journal has the text of 1 answers")
    (segment,) = (service.folder / "chat.db.journal").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"Hello", b"Hallo"))
    doctor(DATABASE_URL=url).has("warning", "the journal is damaged", segment.name)
    segment.write_bytes(MAGIC.replace(b"1\n", b"2\n") + bytes(100))
    doctor(DATABASE_URL=url).has("failure", "journal", "another version")


def test_a_file_in_memory_is_a_warning(doctor: Doctor) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        told = doctor(DATABASE_URL=f"sqlite:///{folder}/chat.db", CHATAPI_MAX_GENERATIONS="0")
        told.has("warning", "the file would be in memory (tmpfs), and lost when the machine restarts")
        told.has("ok", f"the file {folder}/chat.db does not exist; the first start creates it.")
        told.has("ok", f"Secret: there is none yet; the first start creates {folder}/chat.db.secret.")
        told.has(
            "warning", "Open files: CHATAPI_MAX_GENERATIONS is 0, so answers are not limited", "at most half of that"
        )
        (Path(folder) / "chat.db.secret").mkdir()
        told = doctor(DATABASE_URL=f"sqlite:///{folder}/chat.db")
        told.has("failure", f"Secret: the file {folder}/chat.db.secret cannot be read: Is a directory.")


def test_a_file_that_is_not_our_database_is_a_failure(doctor: Doctor) -> None:
    path = doctor.folder / "other.db"
    path.write_text("This is a letter to somebody, and no database. " * 50)
    doctor(DATABASE_URL=f"sqlite:///{path}").has("failure", "cannot be used")
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmark (id INTEGER PRIMARY KEY)")
        connection.commit()
    doctor(DATABASE_URL=f"sqlite:///{path}").has("failure", "another program")


def test_a_read_only_folder_is_a_failure(doctor: Doctor) -> None:
    doctor(DATABASE_URL="sqlite:////dev/null/chat.db").has("failure", "/dev/null", "cannot be written")
    doctor(DATABASE_URL="sqlite:////dev/null/more/chat.db").has("failure", "cannot be created")


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw,relatime shared:1 - nfs4 server:/srv rw
31 30 0:41 / /srv/fast\\040disk rw,relatime - xfs /dev/sdb1 rw
32 22 0:42 / /srvother rw - tmpfs tmpfs rw
33 22 0:43 / /Daten/Grüße rw - 9p share rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/data", "ext4"),
        ("/srv/chat", "nfs4"),
        ("/srv/fast disk/chat", "xfs"),
        ("/srvother", "tmpfs"),
        ("/srv2", "ext4"),
        ("/Daten/Grüße/chat", "9p"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


# PostgreSQL


def test_an_empty_database_passes(doctor: Doctor, database: str) -> None:
    told = doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET)
    assert told.status == 0
    told.has("ok", "is version 18")
    told.has("ok", "the next start creates the tables")
    told.has("ok", "a round trip takes", "ms")
    told.has("ok", "a commit takes", "ms")
    told.has("ok", "its clock and this machine's are")
    told.has("ok", "a replica keeps 14")
    told.has("ok", "connections are not shared")
    told.has("ok", "LISTEN and NOTIFY deliver")
    assert postgres().run("SELECT to_regclass('session') IS NULL", database.rsplit("/", 1)[1]) == "t"


def test_a_database_in_use_passes_and_its_secret_is_recognised(doctor: Doctor, database: str, serve: Serve) -> None:
    serve(DATABASE_URL=database, CHATAPI_SECRET=SECRET)
    told = doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET)
    assert told.status == 0
    told.has("ok", "the schema is up to date")
    told.has("ok", "Secret", "the one that the sessions belong to")
    doctor(DATABASE_URL=database, CHATAPI_SECRET=OTHER_SECRET).has("failure", "Secret", "another")
    doctor(DATABASE_URL=database).has("failure", "Secret", "must be set")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (lambda: postgres().url("postgres", "locked", PASSWORD + "x"), "refuses the user or the password"),
        (lambda: postgres().url("nobody_made_this"), "no such database"),
        (lambda: f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()}/x", "PostgreSQL cannot be reached"),
        (lambda: f"postgresql://u:{PASSWORD}@127.0.0.1:port/x", "must be postgresql:"),
    ],
    ids=["password", "database", "server", "url"],
)
def test_an_unreachable_database_is_a_failure(doctor: Doctor, url: object, why: str) -> None:
    assert callable(url)
    told = doctor(DATABASE_URL=url(), CHATAPI_SECRET=SECRET)
    assert told.status == 1
    told.has("failure", "PostgreSQL", why)


def test_the_right_password_is_accepted_and_missing_rights_are_named(doctor: Doctor, database: str) -> None:
    name = database.rsplit("/", 1)[1]
    url = postgres().url(name, "locked", PASSWORD)
    doctor(DATABASE_URL=url, CHATAPI_SECRET=SECRET).has(
        "failure", "locked must be allowed to create tables", "GRANT CREATE"
    )
    postgres().run("GRANT CREATE ON SCHEMA public TO locked", name)
    assert doctor(DATABASE_URL=url, CHATAPI_SECRET=SECRET).status == 0


def test_tables_of_another_user_are_named(doctor: Doctor, database: str, serve: Serve) -> None:
    serve(DATABASE_URL=database, CHATAPI_SECRET=SECRET)
    name = database.rsplit("/", 1)[1]
    postgres().run("GRANT SELECT ON migration, agreement TO locked", name)
    told = doctor(DATABASE_URL=postgres().url(name, "locked", PASSWORD), CHATAPI_SECRET=SECRET)
    assert "GRANT SELECT, INSERT, UPDATE, DELETE" in told.has("failure", "session", "message", "piece")


def test_an_old_postgresql_is_a_failure(doctor: Doctor, database: str) -> None:
    def older(data: bytes) -> bytes:
        return data.replace(b"server_version\x0018.", b"server_version\x0013.")

    with Relay(postgres().port, of_server=older) as relay:
        url = database.replace(f":{postgres().port}/", f":{relay.port}/")
        told = doctor(DATABASE_URL=url, CHATAPI_SECRET=SECRET)
    told.has("failure", "PostgreSQL must be 14 or newer; this server is 13")


def test_a_clock_difference_is_a_warning(doctor: Doctor, database: str) -> None:
    name = database.rsplit("/", 1)[1]
    postgres().run(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        "$$ SELECT pg_catalog.clock_timestamp() + interval '6 seconds' $$; "
        f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
        name,
    )
    told = doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET)
    assert "6.0 s apart" in told.has("warning", "its clock")
    doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET, CHATAPI_LEASE_SECONDS="40").has("ok", "its clock")


def test_more_connections_than_the_server_allows_are_reported(doctor: Doctor, database: str) -> None:
    told = doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET, CHATAPI_DATABASE_CONNECTIONS="300")
    told.has("failure", "a replica keeps 452", "max_connections")
    name = database.rsplit("/", 1)[1]
    postgres().run(f"ALTER DATABASE {name} CONNECTION LIMIT 12")
    doctor(DATABASE_URL=postgres().url(name), CHATAPI_SECRET=SECRET).has("failure", "12 connections")


def test_a_server_that_loses_commits_is_a_warning(doctor: Doctor, database: str) -> None:
    postgres().run(f"ALTER DATABASE {database.rsplit('/', 1)[1]} SET synchronous_commit = off")
    doctor(DATABASE_URL=database, CHATAPI_SECRET=SECRET).has("warning", "synchronous_commit is off")


def test_an_undeclared_transaction_pooler_is_found(doctor: Doctor, database: str) -> None:
    name = database.rsplit("/", 1)[1]
    with Pooler(postgres().port, name) as strict, Pooler(postgres().port, name, lenient=True) as lenient:
        through = [database.replace(f":{postgres().port}/", f":{pooler.port}/") for pooler in (strict, lenient)]
        doctor(DATABASE_URL=through[0], CHATAPI_SECRET=SECRET).has("failure", "CHATAPI_DATABASE_POOLING=transaction")
        told = doctor(DATABASE_URL=through[1], CHATAPI_SECRET=SECRET)
        told.has("failure", "gives each transaction another connection", "CHATAPI_DATABASE_POOLING=transaction")
        told.has("warning", "Wake-ups", "Set REDIS_URL")
        for url in through:
            told = doctor(
                DATABASE_URL=url, CHATAPI_SECRET=SECRET, CHATAPI_DATABASE_POOLING="transaction", REDIS_URL=redis().url
            )
            assert told.status == 0
            told.has("ok", "pooled by transaction, as set")


# Redis


def ask_redis(*words: str, port: int | None = None) -> None:
    """Run one command; check its answer."""
    with socket.create_connection(("127.0.0.1", port or redis().port)) as connection:
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        connection.sendall(b"*%d\r\n%s" % (len(words), parts))
        assert connection.recv(100).startswith((b"+OK", b":")), words


@pytest.fixture
def narrow_user() -> Iterator[str]:
    """A user of Redis with few rights; the test grants more."""
    name = f"narrow_{worker_number()}"
    ask_redis("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", "~*", "&*", "+info", "+ping", "+client", "+hello")
    yield name
    ask_redis("ACL", "DELUSER", name)


def test_a_working_redis_passes(doctor: Doctor) -> None:
    told = doctor(REDIS_URL=redis().url)
    assert told.status == 0
    told.has("ok", "Redis: it can be reached")
    told.has("ok", "Redis: a round trip")
    told.has("ok", "it runs scripts")
    told.has("ok", "a message is delivered")
    told.has("ok", "its memory is not limited")


def test_an_unreachable_redis_is_a_failure(doctor: Doctor) -> None:
    doctor(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0").has("failure", "Redis cannot be reached")
    doctor(REDIS_URL=f"redis://x:{PASSWORD}@127.0.0.1:{redis().port}/0").has("failure", "user or the password")
    doctor(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:port/0").has("failure", "Redis", "must be redis:")


def test_missing_rights_of_a_redis_user_are_named(doctor: Doctor, narrow_user: str) -> None:
    url = f"redis://{narrow_user}:{PASSWORD}@127.0.0.1:{redis().port}/0"
    told = doctor(REDIS_URL=url)
    told.has("failure", "does not run our scripts")
    told.has("failure", "publish and subscribe")
    ask_redis("ACL", "SETUSER", narrow_user, "+@all")
    assert doctor(REDIS_URL=url).status == 0


def test_a_password_that_a_server_echoes_is_not_printed(doctor: Doctor, narrow_user: str) -> None:
    def repeating(data: bytes) -> bytes:
        return data.replace(b"-NOPERM ", b"-NOPERM " + PASSWORD.encode() + b" ")

    with Relay(redis().port, of_server=repeating) as relay:
        told = doctor(REDIS_URL=f"redis://{narrow_user}:{PASSWORD}@127.0.0.1:{relay.port}/0")
    told.has("failure", "does not run our scripts", "[hidden]")


def test_a_redis_that_does_not_answer_is_a_failure(doctor: Doctor) -> None:
    def elsewhere(data: bytes) -> bytes:
        return data.replace(b"chatapi:doc_", b"nobody_:doc_") if b"PUBLISH" in data else data

    with Relay(redis().port, of_client=elsewhere) as relay:
        told = doctor(REDIS_URL=f"redis://127.0.0.1:{relay.port}/0")
    told.has("failure", "messages are not delivered")


def test_an_old_redis_is_a_failure(doctor: Doctor) -> None:
    def older(data: bytes) -> bytes:
        before, name, after = data.partition(b"redis_version:")
        return before + name + b"5" + after[1:] if name else data

    with Relay(redis().port, of_server=older) as relay:
        told = doctor(REDIS_URL=f"redis://127.0.0.1:{relay.port}/0")
    told.has("failure", "must be 6.2 or newer")


def test_a_redis_that_may_evict_keys_is_a_warning(doctor: Doctor) -> None:
    server = Redis()
    try:
        ask_redis("CONFIG", "SET", "maxmemory", "100mb", port=server.port)
        ask_redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", port=server.port)
        doctor(REDIS_URL=server.url).has("warning", "allkeys-lru", "noeviction")
        ask_redis("CONFIG", "SET", "maxmemory-policy", "noeviction", port=server.port)
        doctor(REDIS_URL=server.url).has("ok", "of 100.0 MiB")
    finally:
        server.remove()


# The model API


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [
        (refuse(401), "ok", "it requires a key"),
        (None, "ok", "Model API: it answers"),
        (refuse(404), "warning", "/v1"),
        (refuse(500), "warning", "out of order"),
        (Script(status=302, headers={"Location": "https://example.org"}), "warning", "not in its protocol"),
        (scripts.cut_before_headers(), "failure", "cannot be reached"),
        (
            Script(before_headers=(scripts.Send(b"SSH-2.0-x\r\n\r\n"), scripts.Cut())),
            "failure",
            "does not answer in HTTP",
        ),
    ],
    ids=["401", "200", "404", "500", "302", "cut", "no HTTP"],
)
def test_the_answer_of_the_model_api_is_reported(
    doctor: Doctor, simulator: Simulator, script: Script | None, level: str, words: str
) -> None:
    simulator.script = script
    told = doctor(OPENAI_BASE_URL=simulator.url)
    told.has(level, "Model API", words)
    assert all("Authorization" not in request.headers for request in simulator.requests)


def test_a_model_api_that_is_unreachable_or_without_tls_is_a_failure(doctor: Doctor, simulator: Simulator) -> None:
    doctor(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1").has("failure", "Model API", "cannot be reached")
    doctor(OPENAI_BASE_URL=simulator.url.replace("http", "https")).has("failure", "Model API", "TLS")


@pytest.mark.parametrize(("days", "level"), [(5, "warning"), (50, "ok")])
def test_the_expiry_of_a_certificate_is_checked(doctor: Doctor, tmp_path: Path, days: int, level: str) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        (
            f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days {days} "
            "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        ).split(),
        check=True,
        capture_output=True,
    )
    with https_server(certificate, key) as port:
        url = f"https://127.0.0.1:{port}/v1"
        doctor(OPENAI_BASE_URL=url).has("failure", "Model API", "certificate is refused")
        told = doctor(OPENAI_BASE_URL=url, SSL_CERT_FILE=str(certificate))
    told.has("ok", "Model API", "it requires a key")
    told.has(level, "Model API: TLSv1.3", "certificate")


# The system


def test_too_few_open_files_are_a_warning(doctor: Doctor) -> None:
    told = doctor(CHATAPI_MAX_GENERATIONS="100000000")
    told.has("warning", "Open files", "CHATAPI_MAX_GENERATIONS")


# Proxies

PROXIES = {
    "forwards": {"forwarded": True},
    "buffers": {"buffers": True},
    "compresses": {"compresses": True},
    "transforms": {"transforms": True},
    "hides": {"forwarded": False},
}


def port_of(service: Service) -> int:
    return int(urlsplit(service.url).port or 0)


@pytest.fixture(scope="module")
def through(shared: Service, shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """The output of `doctor` behind each proxy, and behind none. All run at once: to measure a stream takes 1.4 s."""
    doctor = Doctor(tmp_path_factory.mktemp("asked"), shared_simulator.url)
    urls = {"": shared.url}
    with ExitStack() as proxies, ThreadPoolExecutor(len(PROXIES) + 1) as pool:
        for name, options in PROXIES.items():
            host = "0.0.0.0" if name == "hides" else "127.0.0.1"  # an address whose name is not a loopback name
            urls[name] = f"http://{host}:{proxies.enter_context(http_proxy(port_of(shared), **options))}/"
        asked = {name: pool.submit(doctor, "--url", url) for name, url in urls.items()}
        return {name: told.result() for name, told in asked.items()}


def test_a_server_without_a_proxy_streams(through: dict[str, Told]) -> None:
    told = through[""]
    assert told.status == 0
    told.has_stream_verdict()
    told.has("ok", "no-transform in place")
    told.has("warning", "Access", "without a proxy")


def test_a_proxy_that_forwards_streams_and_the_client_address_passes(through: dict[str, Told]) -> None:
    told = through["forwards"]
    assert told.status == 0
    told.has_stream_verdict()
    told.has("ok", "Access", "marked as forwarded")


def test_a_proxy_that_buffers_streams_is_found(through: dict[str, Told]) -> None:
    told = through["buffers"]
    assert told.status == 1
    told.has("failure", "holds streams back", "proxy_buffering off")


def test_a_proxy_that_compresses_or_transforms_is_found(through: dict[str, Told]) -> None:
    through["compresses"].has("failure", "compresses streams (gzip)")
    through["transforms"].has("warning", "removes Cache-Control: no-transform")


def test_a_proxy_without_forwarding_headers_is_found(through: dict[str, Told]) -> None:
    through["hides"].has("failure", "Access", "CHATAPI_SESSION_ACCESS=key")


def test_a_server_that_accepts_ids_without_keys_is_a_warning(doctor: Doctor, serve: Serve) -> None:
    service = serve(CHATAPI_SESSION_ACCESS="id")
    doctor("--url", service.url).has("warning", "Access", "CHATAPI_SESSION_ACCESS is id")


def test_an_address_without_a_server_of_ours_is_a_failure(doctor: Doctor, shared_simulator: Simulator) -> None:
    base = shared_simulator.url.removesuffix("/v1")
    doctor("--url", base).has("failure", "Proxy", "status 404")
    doctor("--url", f"http://127.0.0.1:{free_port()}").has("failure", "Proxy", "can be reached there: it refused")
    doctor("--url", "ftp://127.0.0.1").has("failure", "--url")
    doctor("--url", f"http://me:{PASSWORD}@127.0.0.1").has("failure", "--url")


@pytest.mark.one_process("so few are each process's own")
def test_the_probe_stream_is_short_evenly_spaced_and_limited(service: Service) -> None:
    asked = [requests.get(f"{service.url}/api/health/stream", stream=True, timeout=SECONDS) for _ in range(9)]
    assert [answer.status_code for answer in asked] == [200] * 8 + [503]
    assert int(asked[-1].headers["Retry-After"]) >= 1
    for answer in asked[:8]:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.elapsed.total_seconds() < PROBE_SECONDS * (PROBE_LINES - 1), "the head is sent before the end"
        lines = answer.content.decode().split("\n\n")
        assert lines[0] == ": forwarded=no trusted=yes access=auto"
        assert len(lines) == PROBE_LINES + 1
        assert all(line.startswith(":") for line in lines[:-1]), "comments, which clients do not show"
    assert stream_status(service) == 200, "slots are released"


def stream_status(service: Service) -> int:
    with service.get("/api/health/stream", stream=True) as answer:
        return answer.status_code


def test_a_disconnect_during_the_probe_releases_its_slot(service: Service) -> None:
    asked = [requests.get(f"{service.url}/api/health/stream", stream=True, timeout=SECONDS) for _ in range(8)]
    for answer in asked:
        answer.close()
    for answer in asked:
        service.wait_for_log("request", request_id=answer.headers["x-request-id"])
    assert stream_status(service) == 200
