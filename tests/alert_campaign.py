"""Injects a fault for every alert: `python -m tests.alert_campaign`; needs Debian's package `prometheus`.

A real server with metrics, clients, and a real Prometheus with deploy/prometheus/rules.yaml. First the rules with all
durations divided by `SCALE`: each fault must make its alert fire, and prints after how many seconds it did. Then the
shipped rules without a change, for ten minutes of normal load: none may fire. The exit status is 1 if one did, or if an
alert did not. `--only` selects faults, `--normal SECONDS` the length of the second part.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import requests

from chatapi.simulator import Gate, Pause, Script, Simulator, running, scripts
from tests.cluster import SECRET
from tests.databases import free_port, postgres, postgres_binaries
from tests.server_process import KEY, PROJECT, Service, fresh_key
from tests.waiting import wait_for

RULES = PROJECT / "deploy/prometheus/rules.yaml"
SCALE = 30  # of the durations of rules while faults are injected
SCRAPE_SECONDS = 0.5
NORMAL_SCRAPE_SECONDS = 15.0  # as in deploy/prometheus/prometheus.yaml
NORMAL_SECONDS = 600.0
FIRES_SECONDS = 90.0
CLIENTS = 8
MAX_RUNNING = 60
SEGMENTS = 100  # of the journal, at most
QUEUED = 300  # changes of sessions at once
LATE_SECONDS = 11.0  # first text of the model API
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
SETTINGS: dict[str, Any] = {
    "CHATAPI_METRICS": "on",
    "CHATAPI_RATE_LIMIT": "0",
    "CHATAPI_MAX_GENERATIONS": str(MAX_RUNNING),
}


def scaled(rules: str, factor: float) -> str:
    """Return the rules with every duration divided by the factor."""

    def shorten(found: re.Match[str]) -> str:
        milliseconds = int(float(found[2]) * UNITS[found[3]] * 1000 / factor)
        return f"{found[1]}{milliseconds}ms"

    return re.sub(r"(for: |\[)(\d+)([smh])\b", shorten, rules)


class Prometheus:
    """Debian's Prometheus, which scrapes one address."""

    def __init__(self, folder: Path, target: str, rules: str, interval_seconds: float) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            raise SystemExit("Prometheus is not installed. On Debian: apt install prometheus")
        interval = f"{int(interval_seconds * 1000)}ms"
        folder.mkdir()
        (folder / "rules.yaml").write_text(rules)
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "chatapi", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yaml").write_text(json.dumps(configuration))  # JSON is YAML
        self.url = f"http://127.0.0.1:{free_port()}"
        options = {
            "config.file": folder / "prometheus.yaml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": self.url.removeprefix("http://"),
            "log.level": "error",
        }
        self._process = subprocess.Popen([binary, *(f"--{name}={value}" for name, value in options.items())])
        wait_for(self._is_ready)

    def _is_ready(self) -> bool:
        with suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        return False

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an expression now."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=5).json()
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Stage:
    """A server on a port that it keeps, the model API, and clients."""

    def __init__(self, folder: Path, simulator: Simulator, **environment: Any) -> None:
        self.simulator = simulator
        folder.mkdir()
        self.service = Service(folder, simulator.url, PORT=str(free_port()), **SETTINGS, **environment)
        self.service.start()
        self.target = self.service.url.removeprefix("http://")
        self.sent = 0
        self._ended = threading.Event()
        self._clients = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _send(self, number: int) -> None:
        key = fresh_key(f"alerts-{number}")
        while not self._ended.wait(0.2):
            with suppress(requests.RequestException, AssertionError):
                self.service.send("Count to 5", key=key).close()
                self.sent += 1

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.service.folder / "chat.db"

    def stop(self) -> None:
        """End the clients and the server."""
        self._ended.set()
        for client in self._clients:
            client.join()
        self.service.stop()


class Fault(NamedTuple):
    """A fault, and the alert that must fire while it lasts."""

    alert: str
    description: str
    inject: Callable[[Stage], AbstractContextManager[object]]


@contextmanager
def repeated(step: Callable[[], object], pause_seconds: float = 0.0) -> Iterator[None]:
    """Repeat a step on a thread."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(pause_seconds):
            step()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def killed(stage: Stage) -> Iterator[None]:
    """Kill the server."""
    stage.service.kill()
    yield
    stage.service.start()


@contextmanager
def restarted(stage: Stage) -> Iterator[None]:
    """Kill and start the server three times; Prometheus sees each start."""
    for _ in range(3):
        stage.service.kill()
        stage.service.start()
        time.sleep(2 * SCRAPE_SECONDS)
    yield


@contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Lock the database for longer than the server waits."""
    with closing(sqlite3.connect(stage.database, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def locked_table(stage: Stage) -> Iterator[None]:
    """Lock the sessions of a PostgreSQL database: every connection of the server soon waits."""
    binaries = postgres_binaries()
    assert binaries
    command = [str(binaries / "psql"), "-q", stage.service.environment["DATABASE_URL"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as psql:
        assert psql.stdin
        psql.stdin.write("BEGIN; LOCK TABLE session;\n")
        psql.stdin.flush()
        yield
        psql.stdin.close()


@contextmanager
def locked_for_moments(stage: Stage) -> Iterator[None]:
    """Lock the database for 0.6 seconds, again and again."""

    def lock() -> None:
        with closing(sqlite3.connect(stage.database, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(0.6)
            connection.execute("ROLLBACK")

    with repeated(lock, 0.02):
        yield


@contextmanager
def limited(stage: Stage, limit: int, value: int) -> Iterator[None]:
    """Lower a limit of the running server."""
    before = resource.prlimit(stage.service.pid, limit)
    resource.prlimit(stage.service.pid, limit, (value, before[1]))
    try:
        yield
    finally:
        resource.prlimit(stage.service.pid, limit, before)


def full_disk(stage: Stage) -> AbstractContextManager[None]:
    """Let every write to a file fail past 64 KiB, as on a full disk; the journal's and the database's."""
    return limited(stage, resource.RLIMIT_FSIZE, 64 * 1024)


def few_files(stage: Stage) -> AbstractContextManager[None]:
    """Lower the limit of open files to just above those that are open."""
    opened = len(list(Path(f"/proc/{stage.service.pid}/fd").iterdir()))
    return limited(stage, resource.RLIMIT_NOFILE, opened + 5)


@contextmanager
def journal_that_does_not_sync(stage: Stage) -> Iterator[None]:
    """Let `fdatasync` fail on the segments of the journal, and only on those."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("strace is not installed. On Debian: apt install strace")
    journal = Path(f"{stage.database}.journal")
    segments = [f"--trace-path={journal}/{number:08}.segment" for number in range(1, SEGMENTS)]  # also later ones
    options = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "-e", "trace=fdatasync", *segments]
    process = subprocess.Popen([strace, *options, "-p", str(stage.service.pid)])
    yield
    process.terminate()
    process.wait()


@contextmanager
def queue_of_changes(stage: Stage, lock: Callable[[Stage], AbstractContextManager[object]] = locked) -> Iterator[None]:
    """Let many clients change sessions while another program locks the database."""
    session_id = stage.service.send(key=KEY).headers["X-Session-ID"]
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            with suppress(requests.RequestException, AssertionError):
                stage.service.patch(f"/api/sessions/{session_id}", key=KEY, json={"title": "A title"})

    with lock(stage), ThreadPoolExecutor(QUEUED) as pool:
        for _ in range(QUEUED):
            pool.submit(change)
        try:
            yield
        finally:
            ended.set()


@contextmanager
def answering(stage: Stage, script: Script) -> Iterator[None]:
    """Let the model API answer with this script."""
    stage.simulator.script = script
    try:
        yield
    finally:
        stage.simulator.script = None


def late_first_text(stage: Stage) -> AbstractContextManager[None]:
    """Let the model API begin late."""
    script = scripts.answer()
    return answering(stage, scripts.event_stream(Pause(LATE_SECONDS), *script.steps))


@contextmanager
def stopped_for_moments(stage: Stage) -> Iterator[None]:
    """Take the processor from the server for 0.3 seconds, again and again."""

    def stop() -> None:
        stage.service.signal(signal.SIGSTOP)
        time.sleep(0.3)
        stage.service.signal(signal.SIGCONT)

    with repeated(stop, 0.15):
        yield


@contextmanager
def full_of_answers(stage: Stage) -> Iterator[None]:
    """Occupy every running answer that the server allows."""
    gate = Gate()
    held = []
    with answering(stage, scripts.held(gate)):
        for number in range(MAX_RUNNING):
            with suppress(requests.RequestException, AssertionError):
                held.append(stage.service.send(key=fresh_key(f"holder-{number}")))
        yield
        gate.open()
        for response in held:
            response.close()


@contextmanager
def spoiled_row(stage: Stage) -> Iterator[None]:
    """Answer one request, and only one, with an unexpected error: a row in the database is not what was written."""
    session_id = stage.service.send(key=KEY).headers["X-Session-ID"]
    with closing(sqlite3.connect(stage.database, timeout=30)) as connection, connection:
        connection.execute("UPDATE session SET metadata = '{' WHERE id = ?", (session_id,))
    with suppress(AssertionError):
        assert stage.service.get(f"/api/sessions/{session_id}", key=KEY).status_code == 500
    yield


FAULTS = (
    Fault("ChatapiUpstreamFails", "the model API answers 500", lambda stage: answering(stage, scripts.refuse(500))),
    Fault(
        "ChatapiUpstreamRateLimited",
        "the model API answers 429",
        lambda stage: answering(stage, scripts.refuse(429, retry_after="1")),
    ),
    Fault(
        "ChatapiAnswersBreakOff",
        "the model API breaks answers off",
        lambda stage: answering(stage, scripts.cut_after()),
    ),
    Fault("ChatapiFirstTextSlow", f"the model API begins after {LATE_SECONDS:g} seconds", late_first_text),
    Fault("ChatapiStoreFails", "the database is locked", locked),
    Fault("ChatapiStoreFails", "fdatasync of the journal fails", journal_that_does_not_sync),
    Fault("ChatapiStoreFails", "files cannot grow", full_disk),
    Fault("ChatapiStoreSlow", "the database is locked for moments", locked_for_moments),
    Fault("ChatapiStoreQueue", f"{QUEUED} clients change sessions of a locked database", queue_of_changes),
    Fault("ChatapiLoopLag", "the process is stopped for moments", stopped_for_moments),
    Fault("ChatapiOverloaded", f"all {MAX_RUNNING} running answers are taken", full_of_answers),
    Fault("ChatapiUnexpectedErrors", "one request meets a spoiled row", spoiled_row),
    Fault("ChatapiFileLimit", "few open files are allowed", few_files),
    Fault("ChatapiDown", "the server is killed", killed),
    Fault("ChatapiRestarts", "the server is killed three times", restarted),
)


POSTGRES_FAULTS = (
    Fault("ChatapiStoreFails", "a table of PostgreSQL is locked", locked_table),
    Fault(
        "ChatapiStoreQueue",
        f"{QUEUED} clients wait for the connections to PostgreSQL",
        partial(queue_of_changes, lock=locked_table),
    ),
)


def inject(fault: Fault, stage: Stage, prometheus: Prometheus) -> float | None:
    """Return after how many seconds the alert fired; None if it did not. Return when it has ended again."""
    wait_until(lambda: fault.alert not in prometheus.firing())
    begun = time.monotonic()
    with fault.inject(stage):
        fired = wait_until(lambda: fault.alert in prometheus.firing())
        seconds = time.monotonic() - begun
    return seconds if fired else None


def wait_until(done: Callable[[], bool]) -> bool:
    """Return whether it happens within `FIRES_SECONDS`."""
    until = time.monotonic() + FIRES_SECONDS
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(SCRAPE_SECONDS / 2)
    return True


def inject_all(stage: Stage, folder: Path, faults: list[Fault]) -> int:
    """Inject the faults; return the number of alerts that did not fire."""
    rules = RULES.read_text()
    missing = set(re.findall(r"alert: (\w+)", rules)) - {fault.alert for fault in FAULTS}
    assert not missing, f"no fault for {missing}"
    silent = 0
    prometheus = Prometheus(folder, stage.target, scaled(rules, SCALE), SCRAPE_SECONDS)
    try:
        for fault in faults:
            seconds = inject(fault, stage, prometheus)
            silent += seconds is None
            outcome = "did not fire" if seconds is None else f"fired after {seconds:.1f} s"
            print(f"{fault.alert}: {outcome} ({fault.description})", flush=True)
    finally:
        prometheus.stop()
    return silent


def watch_normal_load(stage: Stage, folder: Path, seconds: float) -> int:
    """Let the clients go on; return the number of alerts that fired."""
    prometheus = Prometheus(folder / "normal", stage.target, RULES.read_text(), NORMAL_SCRAPE_SECONDS)
    before = stage.sent
    try:
        time.sleep(seconds)
        period = f"{int(seconds) + 60}s"
        (samples,) = prometheus.query(f'count(count_over_time(chatapi_answers_total{{status="completed"}}[{period}]))')
        fired = prometheus.query(f"count by (alertname, alertstate) (count_over_time(ALERTS[{period}]))")
    finally:
        prometheus.stop()
    assert samples["value"][1] != "0"
    names = [alert["metric"]["alertname"] for alert in fired if alert["metric"]["alertstate"] == "firing"]
    pending = [alert["metric"]["alertname"] for alert in fired if alert["metric"]["alertstate"] == "pending"]
    answers = stage.sent - before
    print(f"normal load, {answers} answers in {seconds:.0f} s: fired {names or 'none'}, pending {pending or 'none'}")
    return len(names)


def main() -> int:
    """Inject the faults, then watch normal load."""
    parser = argparse.ArgumentParser(description="Inject a fault for every alert, then watch normal load.")
    parser.add_argument("--only", default="", help="faults of alerts whose name contains this")
    parser.add_argument("--normal", type=float, default=NORMAL_SECONDS, help="seconds of normal load (%(default)s)")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as name, running(Simulator()) as simulator:
        folder = Path(name)
        for database, faults in (("sqlite", FAULTS), ("postgres", POSTGRES_FAULTS)):
            chosen = [fault for fault in faults if options.only in fault.alert]
            if not chosen:
                continue
            on_postgres = database == "postgres"
            environment = {"DATABASE_URL": postgres().new_database(), "CHATAPI_SECRET": SECRET} if on_postgres else {}
            stage = Stage(folder / database, simulator, **environment)
            try:
                failures += inject_all(stage, folder / f"prometheus-{database}", chosen)
            finally:
                stage.stop()
    if options.normal:
        failures += normal(options.normal)
    return 1 if failures else 0


def normal(seconds: float) -> int:
    """Watch normal load on a new server; return the number of alerts that fired."""
    with tempfile.TemporaryDirectory() as name, running(Simulator(pace_seconds=0.02)) as simulator:
        folder = Path(name)
        stage = Stage(folder / "server", simulator)
        try:
            return watch_normal_load(stage, folder, seconds)
        finally:
            stage.stop()


if __name__ == "__main__":
    sys.exit(main())
