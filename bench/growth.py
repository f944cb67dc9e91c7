"""CPU time per chunk as data grows: `python -m bench.growth`.

The same answers, one after the other at full speed, on an empty database, on one with a million sessions, and in a
session of ten thousand messages. A short answer's cost is subtracted: the history of a long session is a cost of each
turn, not of its chunks. The target is at most 5 % above an empty database.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.answers import Script, plain
from bench.client import KEY
from bench.lab import Lab, Server
from bench.processes import ROOT, cpu_seconds
from bench.retention import fill

SHORT = Script(chunks=3, pace_ms=0)  # also of the sessions that are copied
SCRIPT = Script(chunks=50_000, pace_ms=0)
ANSWERS = 10  # of one measurement
SECONDS = 60.0  # for one request
NO_LIMITS = {"CHATAPI_MAX_SESSION_MESSAGES": "100000"}
TARGET_RATIO = 1.05


def main() -> int:
    """Measure, and print the table; 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="bench.growth", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="stored sessions (%(default)s)")
    parser.add_argument("--messages", type=int, default=10_000, help="messages of the long session (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-") as folder, Lab(Path(folder), ROOT / "app.py") as lab:
        figures = run(lab, options)
    base = statistics.median(figures["empty"])
    for name, some in figures.items():
        listed, ratio = " ".join(f"{one:6.2f}" for one in some), statistics.median(some) / base
        print(f"{name:8} {listed} us per chunk, ratio {ratio:.2f}")
    return int(any(statistics.median(some) > TARGET_RATIO * base for some in figures.values()))


def run(lab: Lab, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the figures of all measurements, by database."""
    figures: dict[str, list[float]] = {"empty": [], "sessions": [], "messages": []}
    with lab.sqlite_store() as empty, lab.sqlite_store() as full, lab.sqlite_store() as long:
        with lab.service("sqlite", full) as server:
            answer(server, script=SHORT)
        file = Path(full["DATABASE_URL"].removeprefix("sqlite:///"))
        fill(file, 0, options.sessions)
        print(f"{options.sessions:,} sessions, {file.stat().st_size / 1e6:.0f} MB", flush=True)
        for _ in range(options.rounds):
            for name, store in (("empty", empty), ("sessions", full), ("messages", long)):
                with lab.service("sqlite", store, NO_LIMITS) as server:
                    session_id = import_session(server, options.messages) if name == "messages" else None
                    for script in (SHORT, SCRIPT):
                        answer(server, session_id, script)  # to warm up
                    spent = sum(answer(server, session_id) - answer(server, session_id, SHORT) for _ in range(ANSWERS))
                figures[name].append(spent / ANSWERS / (SCRIPT.chunks - SHORT.chunks) * 1e6)
                print(f"{name} {figures[name][-1]:.2f} us", flush=True)
    return figures


def answer(server: Server, session_id: str | None = None, script: Script = SCRIPT) -> float:
    """Take one turn, and return the CPU time of the service."""
    body = {"developer_message": "Be brief.", "user_message": "Hello", "model": script.model}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    if session_id is not None:
        headers["X-Session-ID"] = session_id
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)) as connection:
        begun = cpu_seconds(server.process.pid)
        connection.request("POST", "/api/chat", json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        spent = cpu_seconds(server.process.pid) - begun
    if response.status != http.HTTPStatus.OK or text != plain(script).body:
        raise RuntimeError(f"a wrong answer: {response.status}, {len(text)} bytes")
    return spent


def import_session(server: Server, count: int) -> str:
    """Import a session with so many messages, and return its id."""
    now = datetime.now(UTC)
    times = [(now - timedelta(seconds=count - number)).isoformat() for number in range(count)]
    names = [f"msg_{number:032d}" for number in range(count)]
    messages: list[dict[str, Any]] = [
        {
            "id": names[number],
            "parent_id": names[number - 1] if number else None,
            "role": "assistant" if number % 2 else "user",
            "parts": [{"type": "text", "text": "a"}],
            "created_at": times[number],
        }
        for number in range(count)
    ]
    session = {
        "title": "long", "developer_message": "Be brief.", "metadata": {}, "created_at": times[0],
        "last_updated": times[-1], "head": names[-1],
    }  # fmt: skip
    document = {
        "format": "chatapi.session", "version": 1, "exported_at": times[-1], "session": session, "messages": messages,
    }  # fmt: skip
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)) as connection:
        connection.request("POST", "/api/sessions/import", json.dumps(document), headers)
        response = connection.getresponse()
        body = json.loads(response.read())
    if response.status not in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}:
        raise RuntimeError(f"the import failed: {body}")
    return str(body["session_id"])


if __name__ == "__main__":
    sys.exit(main())
