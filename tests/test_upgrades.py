"""Databases of every earlier schema, opened by this version.

`data/schemas/NNNN.sql` is the dump of a file that the last version with that schema wrote: a session with two turns,
and another one whose answer was running when the server was killed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chatapi.model import Status, wall_clock
from chatapi.store import Store
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.schema import migrations
from tests.server_process import PROJECT
from tests.test_store import said

DUMPS = sorted((PROJECT / "tests/data/schemas").glob("*.sql"))
FIRST_WITH_JOURNAL = 9  # running text is in a folder beside the file from here on; the dumps are without it


def test_every_earlier_schema_has_a_dump() -> None:
    numbers = [one.number for one in migrations("sqlite")]
    assert [int(dump.stem) for dump in DUMPS] in (numbers[:-1], numbers)


def load(dump: Path, path: Path) -> tuple[str, str]:
    """Make a file of a dump; return the ids of its two sessions."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(dump.read_text())
        finished, killed = (row[0] for row in database.execute("SELECT id FROM session ORDER BY created_at"))
    return finished, killed


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
async def test_a_database_of_an_earlier_version_is_read_and_continued(dump: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    finished, killed = load(dump, path)
    store = Store(SQLiteDriver(path), wall_clock)
    await store.open()
    try:
        messages = await store.messages.page_after(finished, -1, 10)
        assert [message.parts[0].text for message in messages] == ["Count to 3", "1 2 3", "Count to 2", "1 2"]
        session = await store.sessions.find(finished)
        assert session is not None
        assert session.developer_message == "Be brief."
        question, answer = await store.messages.page_after(killed, -1, 10)
        assert question.parts[0].text == "Count to 900"
        assert answer.generation is not None
        assert answer.generation.status is Status.INTERRUPTED
        if int(dump.stem) < FIRST_WITH_JOURNAL:
            assert answer.parts[0].text.startswith("1 2 3 4 5 6 7 8")
        for session_id in (finished, killed):
            begun = await said(store, session_id, "And now?", "Now.")
            assert begun.session.id == session_id
        assert len(await store.messages.page_after(finished, -1, 10)) == 6
    finally:
        await store.close()
