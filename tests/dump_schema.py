"""Write dumps of databases with today's schemas for `test_upgrades.py`: run it before you add a migration.

python -m tests.dump_schema
"""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from chatapi.simulator import Simulator, running
from chatapi.store.schema import migrations
from tests.databases import postgres, postgres_binaries
from tests.server_process import PROJECT, Service

SCHEMAS = PROJECT / "tests/data/schemas"
PACE_SECONDS = 0.02
SECRET = "the-secret-of-the-dumped-databases"
SHOWN_BYTES = 16  # of the answer that is cut
COMMENTS = ("--", "\\restrict", "\\unrestrict")  # lines of pg_dump that other versions of psql refuse, or comments


def main() -> None:
    """Dump a database of each kind."""
    with running(Simulator(pace_seconds=PACE_SECONDS)) as simulator:
        for database, dump in (("sqlite", dump_sqlite), ("postgres", dump_postgres)):
            target = SCHEMAS / database / f"{migrations(database)[-1].number:04}.sql"
            target.write_text(dump(simulator))
            print(target.relative_to(PROJECT))


def dump_sqlite(simulator: Simulator) -> str:
    """Return the dump of a SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        converse(Service(Path(folder), simulator.url))
        with closing(sqlite3.connect(f"{folder}/chat.db")) as database:
            return "\n".join(database.iterdump()) + "\n"


def dump_postgres(simulator: Simulator) -> str:
    """Return the dump of a PostgreSQL database."""
    url = postgres().new_database()
    binaries = postgres_binaries()
    assert binaries
    with tempfile.TemporaryDirectory() as folder:
        converse(Service(Path(folder), simulator.url, DATABASE_URL=url, CHATAPI_SECRET=SECRET))
    command = [str(binaries / "pg_dump"), "--no-owner", "--no-privileges", "-d", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and not line.startswith(COMMENTS))


def converse(service: Service) -> None:
    """Send two turns, and kill the server within a third one."""
    service.start()
    with service.send("Count to 3", developer_message="Be brief.") as first:
        session_id = first.headers["X-Session-ID"]
        assert first.text == "1 2 3"
    with service.send("Count to 2", session_id=session_id) as second:
        assert second.text == "1 2"
    with service.send("Count to 900", developer_message="Be brief.") as running_answer:
        assert len(running_answer.raw.read(SHOWN_BYTES)) == SHOWN_BYTES
        service.kill()


if __name__ == "__main__":
    main()
