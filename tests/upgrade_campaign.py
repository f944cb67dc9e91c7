"""Replaces replicas one by one under load: `python -m tests.upgrade_campaign --from REVISION`.

Two replicas with the code of an earlier revision of this repository (by default the one before the newest migration of
PostgreSQL) serve clients behind a load balancer. A replica with today's code starts beside each, migrates the database,
and takes its place; the other one drains. Meanwhile every client asks, reads, leaves some answers in the middle and
resumes them wherever the balancer leads. No answer may be cut, lost, stored twice or end as anything but completed.
Prints its figures; the exit status is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chatapi.simulator import Simulator, running
from tests.cluster import Cluster
from tests.databases import postgres
from tests.reader import Reader
from tests.server_process import PROJECT, Service, environment_without_settings, fresh_key
from tests.waiting import wait_for

CLIENTS = 6
NUMBERS = 15  # of an answer
PACE_SECONDS = 0.02
LEAVE_EVERY = 3  # turns
TURNS_BETWEEN = 6  # of all clients, before each step
SETTINGS: dict[str, Any] = {"CHATAPI_RATE_LIMIT": "0", "CHATAPI_SESSION_ACCESS": "key"}
MIGRATIONS = "chatapi/store/migrations/postgres"
ANSWER = " ".join(map(str, range(1, NUMBERS + 1))).encode()


class Client(threading.Thread):
    """Sends turns of one session through the balancer, and reads each answer to its end."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(daemon=True)
        self.load = load
        self.key = fresh_key(f"upgrade-{number}")
        self.session_id = ""
        self.turns = 0

    def run(self) -> None:
        """Send turns until the load ends."""
        try:
            while not self.load.ended.is_set():
                self._turn()
                self.turns += 1
                self.load.count("turns")
        except (AssertionError, OSError, KeyError) as error:
            self.load.losses.append(f"turn {self.turns}: {type(error).__name__}: {error}")

    def _turn(self) -> None:
        reader = self._ask()
        self.session_id = reader.session_id
        received = b""
        if self.turns % LEAVE_EVERY == 0:
            received = reader.read(self.turns % len(ANSWER))
            reader.leave()
            reader = self._resume(len(received))
            self.load.count("resumed")
        received += reader.read_all()
        assert reader.ended, "an answer was cut"
        assert received == ANSWER, received[:100]

    def _ask(self) -> Reader:
        more = {"session_id": self.session_id} if self.session_id else {}
        once = {"Idempotency-Key": f"{self.key[-20:]}-{self.turns}"}
        return self._retried(
            lambda: Reader.chat(self.load.cluster, f"Count to {NUMBERS}", key=self.key, headers=once, **more)
        )

    def _resume(self, offset: int) -> Reader:
        headers = {"Authorization": f"Bearer {self.key}"}
        return self._retried(lambda: Reader.resume(self.load.cluster, self.session_id, offset, headers=headers))

    def _retried(self, request: Callable[[], Reader]) -> Reader:
        """Repeat a request that a draining replica refuses, as clients do."""
        while True:
            try:
                reader = request()
            except ConnectionError:  # it has just ended
                self.load.count("repeated")
                continue
            if reader.status != 503:
                assert reader.status == 200, reader.read_all()
                return reader
            reader.leave()
            self.load.count("repeated")

    def check(self) -> None:
        """Compare the stored session with what was asked and read."""
        stored: list[dict[str, Any]] = []
        path = f"/api/sessions/{self.session_id}/messages?limit=100"
        cursor: str | None = ""
        while cursor is not None:
            page = self.load.cluster.get(path + cursor, key=self.key).json()
            stored += page["data"]
            cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
        expected = [f"Count to {NUMBERS}", ANSWER.decode()] * self.turns
        if [message["content"] for message in stored] != expected:
            self.load.losses.append(f"{self.session_id}: {len(stored)} messages after {self.turns} turns")
        ends = Counter(message["status"] for message in stored[1::2])
        if ends.keys() - {"completed"}:
            self.load.losses.append(f"{self.session_id}: answers ended as {ends}")


class Load:
    """Clients of a cluster. `losses` stays empty, or a promise was broken."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.losses: list[str] = []
        self.counts: Counter[str] = Counter()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._clients = [Client(self, number) for number in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def count(self, event: str) -> None:
        """Count an event."""
        with self._lock:
            self.counts[event] += 1

    def go_on(self, turns: int) -> None:
        """Return when the clients have finished so many more turns, or one has failed."""
        target = self.counts["turns"] + turns
        wait_for(lambda: self.counts["turns"] >= target or self.losses)

    def end(self) -> None:
        """End the clients, and compare all that is stored."""
        self.ended.set()
        for client in self._clients:
            client.join()
        for client in self._clients:
            client.check()


def roll(cluster: Cluster, turns_between: int = TURNS_BETWEEN) -> Load:
    """Start a cluster and replace all its replicas by ones of today's code, under load; return the load.

    Everything has ended then.
    """
    cluster.start()
    try:
        load = Load(cluster)
        replace_all(cluster, load, turns_between)
        load.end()
    finally:
        cluster.stop()
        cluster.release()
    return load


def replace_all(cluster: Cluster, load: Load, turns_between: int) -> None:
    """Replace one replica after the other, with so many turns before each step and at the end."""
    for number, old in enumerate(list(cluster.replicas)):
        load.go_on(turns_between)
        folder = cluster.folder / f"successor-{number}"
        folder.mkdir()
        environment: dict[str, Any] = old.environment
        cluster.add(Service(folder, "", **environment))
        load.go_on(turns_between)  # both versions serve, also the answers of each other
        if status := cluster.drain(old):
            load.losses.append(f"a replica ended with {status}")
    load.go_on(turns_between)


class EarlierService(Service):
    """A server with the code in another folder."""

    def __init__(self, folder: Path, upstream_url: str, *, code: Path, **environment: Any) -> None:
        super().__init__(folder, upstream_url, **environment)
        self.code = code

    def _launch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.code / "app.py")],
            cwd=self.folder,
            env=environment_without_settings() | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def previous_schema() -> str:
    """Return the revision before the newest migration of PostgreSQL."""
    return git("log", "-1", "--format=%H", "--diff-filter=A", "--", MIGRATIONS) + "^"


def git(*arguments: str) -> str:
    """Run git in this repository; return its output."""
    done = subprocess.run(["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    """Roll from an earlier revision to the code of this folder."""
    parser = argparse.ArgumentParser(description="Replace replicas of an earlier revision by today's under load.")
    parser.add_argument("--from", dest="revision", help="a revision of git (default: before the newest migration)")
    parser.add_argument("--turns", type=int, default=TURNS_BETWEEN, help="between two steps (%(default)s)")
    options = parser.parse_args()
    revision = git("rev-parse", "--short", options.revision or previous_schema())
    with tempfile.TemporaryDirectory() as folder, running(Simulator(pace_seconds=PACE_SECONDS)) as simulator:
        code = Path(folder, "code")
        code.mkdir()
        archive = subprocess.run(["git", "archive", revision], cwd=PROJECT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", code], input=archive.stdout, check=True)

        class EarlierCluster(Cluster):
            make_replica = staticmethod(partial(EarlierService, code=code))

        empty = postgres().new_database()  # the earlier revision makes its own schema
        load = roll(EarlierCluster(Path(folder), simulator.url, DATABASE_URL=empty, **SETTINGS), options.turns)
    figures = ", ".join(f"{count} {event}" for event, count in sorted(load.counts.items()))
    print(f"from {revision}: {figures}; {len(load.losses)} losses", *load.losses, sep="\n")
    return 1 if load.losses else 0


if __name__ == "__main__":
    sys.exit(main())
