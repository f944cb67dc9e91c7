"""The databases of a service with replicas: a PostgreSQL and a Redis, on loopback.

PostgreSQL is either one that was given, or our own from a wheel of the test requirements. Ours has its default settings
except for more memory, so that it syncs every commit. Redis or Valkey is the one on the PATH, else the one in a wheel.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from bench.processes import BenchError, Process, free_port
from tests.databases import (
    create_cluster,
    postgres_binaries,
    postgres_command,
    postgres_user,
    redis_binary,
    redis_command,
)

START_SECONDS = 30.0
OPTIONS = {"max_connections": "100", "shared_buffers": "256MB"}


class Postgres:
    """A PostgreSQL in which databases are created and dropped. If it is ours, it ends with its `with` block."""

    def __init__(self, folder: Path, url: str | None) -> None:
        """Without a `url`, ours is created in `folder`."""
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
        binaries, data = postgres_binaries(), self._folder / "data"
        assert binaries
        self._folder.mkdir()
        self._folder.parent.chmod(0o711)  # PostgreSQL may run as another user, who must find the folder
        try:
            create_cluster(binaries, data)
        except subprocess.CalledProcessError as error:
            raise BenchError(f"initdb failed: {error.stderr}") from error
        command = postgres_command(binaries, data, urlsplit(self._url).port or 0, OPTIONS)
        return Process("postgres", command, self._folder / "log", cwd=Path("/"), user=postgres_user())

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Create an empty database, which is dropped at the end of the `with` block; yield its URL."""
        name = f"bench_{secrets.token_hex(6)}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def version(self) -> str:
        """Return its version number."""
        return str(self._run("SHOW server_version")).split()[0]

    def _run(self, sql: str, until_seconds: float = 0) -> Any:
        """Return the one value of a statement; repeat it for `until_seconds` while PostgreSQL is starting."""
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


@contextmanager
def redis(folder: Path) -> Iterator[str | None]:
    """Start a Redis or Valkey without persistence; yield its URL, or None if there is none to start."""
    binary = redis_binary()
    if binary is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    with Process("redis", redis_command(binary, folder, port), folder / "log") as process:
        process.wait_for_port(port, START_SECONDS)
        yield f"redis://127.0.0.1:{port}/0"
