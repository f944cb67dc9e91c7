"""Chunk lateness while the retention job deletes rows: `python -m bench.retention`.

A SQLite file is filled with expired sessions, by default a million rows. Then the same load, long answers at 20 ms,
runs on a service without retention and on one whose job deletes, in turn; with `--to-the-end` until the job has deleted
everything and removed the bytes (VACUUM). The table shows the lateness of chunks (99 %) of each run; the target is a
ratio of 1.1.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from bench.client import Load
from bench.lab import NO_SETTINGS, Lab
from bench.processes import ROOT

STREAMS, CHUNKS, PACE_MS = 100, 200, 20
RAMP_SECONDS, FINISH_SECONDS = 4.0, 30.0
AGE_MICROSECONDS = 400 * 86_400 * 1_000_000
ROWS = 4  # of a session: itself, two messages, a generation
RETENTION = {"CHATAPI_RETENTION_DAYS": "300"}
TARGET_RATIO = 1.1
IDS = {  # columns that name another row, by table, which differ in each copy
    "session": ("id", "head"),
    "message": ("id", "session_id", "parent"),
    "generation": ("id", "session_id", "message_id"),
}


def main() -> int:
    """Fill a file, measure, and print the table; 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="bench.retention", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=250_000, help="expired sessions, of 4 rows (%(default)s)")
    parser.add_argument("--kept", type=int, default=25_000, help="sessions that stay (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement (%(default)g)")
    parser.add_argument("--to-the-end", action="store_true", help="measure on until all is deleted")
    parser.add_argument("--app", metavar="FILE", type=Path, default=ROOT / "app.py", help="the service to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retention-") as folder, Lab(Path(folder), options.app.resolve()) as lab:
        without, during = run(lab, options)
    ratio = statistics.median(during) / statistics.median(without)
    print(f"medians {statistics.median(without):.1f} and {statistics.median(during):.1f} ms, ratio {ratio:.2f}")
    return int(ratio > TARGET_RATIO)


def run(lab: Lab, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Return the lateness of chunks of each run, without and with deletions."""
    without: list[float] = []
    during: list[float] = []
    with lab.sqlite_store() as store:
        file = Path(store["DATABASE_URL"].removeprefix("sqlite:///"))
        with lab.service("sqlite", store) as server:
            lab.run(server, Load(server.port, False, 1, 3, 0, 0.1, 0.5, FINISH_SECONDS))
        fill(file, options.sessions, options.kept)
        print(f"{expired(file):,} sessions expired, {file.stat().st_size / 1e6:.0f} MB", flush=True)
        for _ in range(options.rounds):
            without.append(measure(lab, store, file, "without", NO_SETTINGS, options.seconds))
            during.append(measure(lab, store, file, "deleting", RETENTION, options.seconds))
        while options.to_the_end and is_unerased(file):
            during.append(measure(lab, store, file, "deleting", RETENTION, options.seconds))
    return without, during


def measure(
    lab: Lab, store: dict[str, str], file: Path, name: str, settings: Mapping[str, str], seconds: float
) -> float:
    """Return the lateness of 99 % of the chunks of a new service on the file."""
    before = expired(file)
    with lab.service("sqlite", store, settings) as server:
        outcome, source = lab.run(
            server, Load(server.port, False, STREAMS, CHUNKS, PACE_MS, RAMP_SECONDS, seconds, FINISH_SECONDS)
        )
        deleted = before - expired(file)
        busy = outcome.cpu_seconds["server"] / outcome.window_seconds
    print(
        f"{name:9} late p99 {outcome.late_p99_ms:6.1f} ms, first text p99 {outcome.first_text_p99_ms:6.1f} ms, "
        f"busy {busy:4.0%}, {deleted:,} sessions deleted, {len(outcome.wrong)} wrong; source {source}",
        flush=True,
    )
    return outcome.late_p99_ms


def fill(file: Path, sessions: int, kept: int) -> None:
    """Copy the rows of the session that is there; all but `kept` copies were last used long ago."""
    with closing(sqlite3.connect(file)) as connection, connection:
        session_id = connection.execute("SELECT id FROM session LIMIT 1").fetchone()[0]
        connection.execute("PRAGMA cache_size = -200000")
        for table, ids in IDS.items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = [
                f"{column} || '-' || n" if column in ids
                else f"updated_at - (n > {kept}) * {AGE_MICROSECONDS}" if column == "updated_at"
                else column
                for column in columns
            ]  # fmt: skip
            owner = "id" if table == "session" else "session_id"
            connection.execute(
                f"WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {sessions + kept}) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM copy, {table} "
                f"WHERE {owner} = ?",
                (session_id,),
            )


def expired(file: Path) -> int:
    """Return the number of old sessions."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        newest = "(SELECT max(updated_at) FROM session)"
        statement = f"SELECT count(*) FROM session WHERE updated_at < {newest} - {AGE_MICROSECONDS // 2}"
        return int(connection.execute(statement).fetchone()[0])


def is_unerased(file: Path) -> bool:
    """Return whether the bytes of deleted rows are in the file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("SELECT 1 FROM agreement WHERE name = 'deleted'").fetchone())


if __name__ == "__main__":
    sys.exit(main())
