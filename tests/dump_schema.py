"""Write the dump of a database with today's schema for `test_upgrades.py`: run it before you add a migration.

python -m tests.dump_schema
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from chatapi.simulator import Simulator, running
from chatapi.store.schema import migrations
from tests.server_process import PROJECT, Service

PACE_SECONDS = 0.02


def main() -> None:
    """Send two turns, kill the server within a third one, and dump its file."""
    target = PROJECT / f"tests/data/schemas/{migrations('sqlite')[-1].number:04}.sql"
    with tempfile.TemporaryDirectory() as folder, running(Simulator(pace_seconds=PACE_SECONDS)) as simulator:
        service = Service(Path(folder), simulator.url).start()
        with service.send("Count to 3", developer_message="Be brief.") as first:
            session_id = first.headers["X-Session-ID"]
            assert first.text == "1 2 3"
        with service.send("Count to 2", session_id=session_id) as second:
            assert second.text == "1 2"
        with service.send("Count to 900", developer_message="Be brief.") as running_answer:
            next(running_answer.iter_content(16))
            service.kill()
        with closing(sqlite3.connect(f"{folder}/chat.db")) as database:
            target.write_text("\n".join(database.iterdump()) + "\n")
    print(target.relative_to(PROJECT))


if __name__ == "__main__":
    main()
