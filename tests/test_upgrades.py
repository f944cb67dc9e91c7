"""Databases of every earlier schema, opened by this version.

`data/schemas/DATABASE/NNNN.sql` is the dump of a database that the last version with that schema wrote: a session with
two turns, and another one whose answer was running when the server was killed.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatapi.model import Status, wall_clock
from chatapi.simulator import Simulator, running
from chatapi.store import Driver, Store
from chatapi.store.drivers.postgres import PostgresDriver
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.generations import EVERY_LEASE
from chatapi.store.schema import migrations
from tests.cluster import Cluster
from tests.databases import postgres, postgres_binaries
from tests.dump_schema import SCHEMAS
from tests.test_store import said
from tests.upgrade_campaign import PACE_SECONDS, SETTINGS, roll

FIRST_WITH_JOURNAL = 9  # of SQLite: running text is in a folder beside the file from here on; the dumps are without it
IDS = "SELECT id FROM session ORDER BY created_at"
DUMPS = sorted(SCHEMAS.glob("*/*.sql"))


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_earlier_schema_has_a_dump(database: str) -> None:
    numbers = [one.number for one in migrations(database)]
    assert [int(dump.stem) for dump in DUMPS if dump.parent.name == database] in (numbers[:-1], numbers)


def load_sqlite(dump: Path, folder: Path) -> tuple[Driver, list[str]]:
    """Make a file of a dump."""
    path = folder / "chat.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(dump.read_text())
        ids = [row[0] for row in database.execute(IDS)]
    return SQLiteDriver(path), ids


def load_postgres(dump: Path, _: Path) -> tuple[Driver, list[str]]:
    """Make a database of a dump."""
    url = postgres().new_database()
    binaries = postgres_binaries()
    assert binaries
    commands = f"\\i '{dump}'\n{IDS.replace('FROM ', 'FROM public.')};"
    command = [str(binaries / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-qAt", url]
    done = subprocess.run(command, input=commands, check=True, capture_output=True, text=True)
    return PostgresDriver(url, 2, transaction_pooling=False), done.stdout.split()


LOADERS: dict[str, Callable[[Path, Path], tuple[Driver, list[str]]]] = {
    "sqlite": load_sqlite,
    "postgres": load_postgres,
}


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: f"{dump.parent.name}-{dump.stem}")
async def test_a_database_of_an_earlier_version_is_read_and_continued(dump: Path, tmp_path: Path) -> None:
    database = dump.parent.name
    driver, (finished, killed) = LOADERS[database](dump, tmp_path)
    store = Store(driver, wall_clock)
    await store.open()
    try:
        await store.generations.sweep(EVERY_LEASE)
        messages = await store.messages.page_after(finished, -1, 10)
        assert [message.parts[0].text for message in messages] == ["Count to 3", "1 2 3", "Count to 2", "1 2"]
        session = await store.sessions.find(finished)
        assert session is not None
        assert session.developer_message == "Be brief."
        question, answer = await store.messages.page_after(killed, -1, 10)
        assert question.parts[0].text == "Count to 900"
        assert answer.generation is not None
        assert answer.generation.status is Status.INTERRUPTED
        if database == "postgres" or int(dump.stem) < FIRST_WITH_JOURNAL:
            assert answer.parts[0].text.startswith("1 2 3 4 5 6 7 8")
        for session_id in (finished, killed):
            begun = await said(store, session_id, "And now?", "Now.")
            assert begun.session.id == session_id
        assert len(await store.messages.page_after(finished, -1, 10)) == 6
    finally:
        await store.close()


def test_replicas_are_replaced_one_by_one_under_load(tmp_path: Path, figures: Callable[[str], None]) -> None:
    # From an earlier version: `python -m tests.upgrade_campaign`.
    with running(Simulator(pace_seconds=PACE_SECONDS)) as simulator:
        cluster = Cluster(tmp_path, simulator.url, **SETTINGS)
        load = roll(cluster)
    figures(str(dict(load.counts)))
    assert load.losses == []
    assert load.counts["resumed"] > len(cluster.replicas)
