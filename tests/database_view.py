"""A server's database, read from outside: only committed rows can be seen."""

from __future__ import annotations

import abc
import asyncio
import json
import re
import resource
import sqlite3
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from chatapi.store.retention import RETENTION_LEASE

LOCK_SECONDS = 20.0
VISIBLE_KINDS = ("text", "refusal")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class StoredAnswer:
    """A stored generation: its status, and the kind and text of each of its parts."""

    status: str
    parts: list[tuple[str, str]]

    @property
    def text(self) -> str:
        """The text that a plain-text client receives."""
        return self.of(*VISIBLE_KINDS)

    def of(self, *kinds: str) -> str:
        """Return the text of the parts of these kinds."""
        return "".join(text for kind, text in self.parts if kind in kinds)


class Database(abc.ABC):
    """One database."""

    @abc.abstractmethod
    def rows(self, sql: str, *values: Any) -> Rows:
        """Return the rows of a query with `$1` parameters."""

    @abc.abstractmethod
    def tables(self) -> list[str]:
        """Return the names of all tables."""

    @abc.abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Block all writers for the duration of the `with` block."""

    @abc.abstractmethod
    def taking_no_text(self) -> AbstractContextManager[None]:
        """Let the server store no text of answers for the duration of the `with` block."""

    def answer(self, generation_id: str) -> StoredAnswer:
        """Return a generation: from its message if it has ended, else from its pieces. One statement sees one state."""
        rows = self.rows(
            "SELECT g.status, m.content, p.kind, p.text FROM generation g JOIN message m ON m.id = g.message_id "
            "LEFT JOIN piece p ON p.generation_id = g.id WHERE g.id = $1 ORDER BY p.position",
            generation_id,
        )
        status, content = rows[0][:2]
        if status == "running":
            return StoredAnswer(status, [(kind, text) for _, _, kind, text in rows if kind is not None])
        return StoredAnswer(status, [(part["type"], part["text"]) for part in json.loads(content)])

    def everything(self) -> str:
        """Return all rows of all tables as text, but for the lease of a job that any replica renews at any time."""
        rows = (row for table in self.tables() for row in self.rows(f"SELECT * FROM {table}"))
        return "\n".join(str(row) for row in rows if row[0] != RETENTION_LEASE)


class SQLiteFile(Database):
    """The file of one process, and the journal beside it. The format is written down in `store/journal.py`."""

    def __init__(self, url: str) -> None:
        self.path = Path(url.removeprefix("sqlite:///"))

    def answer(self, generation_id: str) -> StoredAnswer:
        """Return a generation: from its message if it has ended, else from the journal, which is read first."""
        found = {end: (kind, text) for name, end, kind, text in self.records() if name == generation_id}
        stored = super().answer(generation_id)
        if stored.status != "running":
            return stored
        return StoredAnswer(stored.status, [found[end] for end in sorted(found)] or stored.parts)

    def everything(self) -> str:
        """Return all rows as text, and the text of running answers; that of ended ones leaves the journal later."""
        running = {name for (name,) in self.rows("SELECT id FROM generation WHERE status = 'running'")}
        return super().everything() + "".join(str(record) for record in self.records() if record[0] in running)

    def records(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield the records of the journal: generation ID, end position, kind and text."""
        for path in sorted(self.path.with_name(f"{self.path.name}.journal").glob("*.segment")):
            data = path.read_bytes()
            at = 30
            while size := int.from_bytes(data[at : at + 4], "little"):
                payload = data[at + 8 : at + 8 + size]
                if zlib.crc32(payload) != int.from_bytes(data[at + 4 : at + 8], "little"):
                    break
                end, _, name_size, label_size = struct.unpack_from("<QIHH", payload)
                name, label = payload[16 : 16 + name_size], payload[16 + name_size : 16 + name_size + label_size]
                yield name.decode(), end, json.loads(label)[0], payload[16 + name_size + label_size :].decode()
                at += 8 + size

    def rows(self, sql: str, *values: Any) -> Rows:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)) as connection:
            return connection.execute(re.sub(r"\$(\d)", r"?\1", sql), values).fetchall()

    def tables(self) -> list[str]:
        return [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=LOCK_SECONDS)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    @contextmanager
    def taking_no_text(self) -> Iterator[None]:
        process = int(self.path.with_name(f"{self.path.name}.lock").read_text())
        before = resource.prlimit(process, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as if the disk is full
        yield
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


class PostgresDatabase(Database):
    """The replicas' database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, sql: str, *values: Any) -> Rows:
        return self._run(lambda connection: connection.fetch(sql, *values))

    def everything(self) -> str:
        async def fetch(connection: Any) -> Rows:
            tables = [name for (name,) in await connection.fetch(TABLES)]
            return [row for table in tables for row in await connection.fetch(f"SELECT * FROM {table}")]

        return "\n".join(str(row) for row in self._run(fetch) if row[0] != RETENTION_LEASE)

    def _run(self, fetch: Callable[[Any], Awaitable[list[Any]]]) -> Rows:
        """Return the rows that `fetch` reads from a new connection."""

        async def connect_and_fetch() -> Rows:
            connection = await asyncpg.connect(self.url)
            try:
                return [tuple(row) for row in await fetch(connection)]
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as pool:  # the caller may have a running event loop
            return pool.submit(asyncio.run, connect_and_fetch()).result()

    def tables(self) -> list[str]:
        return [name for (name,) in self.rows(TABLES)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        tables = ", ".join(self.tables())
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.url))
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE"))
            yield
            runner.run(connection.close())

    def taking_no_text(self) -> AbstractContextManager[None]:
        return self.locked()


def database_of(url: str) -> Database:
    """Return the view of the database of a server with this DATABASE_URL."""
    return SQLiteFile(url) if url.startswith("sqlite:") else PostgresDatabase(url)
