"""The service under attack, as an honest caller sees it: `python -m bench.attacks`.

A new service with default limits serves an honest caller (127.0.0.1) while one attack at a time runs from 127.0.0.2.
The table shows the caller's latencies, their ratio to a run without an attack, failures, and the service's peak memory.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from bench.attackers import ATTACKS
from bench.honest import Summary
from bench.lab import Lab
from bench.processes import ROOT, Process, cpu_seconds, memory_bytes

ATTACK_LEAD_SECONDS = 1.0  # the attack runs this long before the measurement starts
CLIENT_SECONDS = 60.0  # for the last answers to end
SAMPLE_SECONDS = 0.1
MIB = 1024 * 1024
TARGET_RATIO = 2.0
TARGET_MIB = 256
UNDISTURBED = "undisturbed"


def main() -> int:
    """Run the attacks and print the table; 1 if a figure misses its target."""
    parser = argparse.ArgumentParser(prog="bench.attacks", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (default: %(default)g)")
    parser.add_argument("--only", metavar="NAME", action="append", choices=ATTACKS, help="run this attack only")
    parser.add_argument("--app", metavar="FILE", type=Path, default=ROOT / "app.py", help="the service to attack")
    options = parser.parse_args()
    print(f"{'attack':28} {'list p50/p99 ms':>18} {'first text p50/p99':>20} {'late p99':>9} {'ratio':>6} "
          f"{'failures':>8} {'peak MiB':>8} {'CPU %':>6}", flush=True)  # fmt: skip
    missed = False
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder, Lab(Path(folder), options.app.resolve()) as lab:
        lab.limits = {}  # the defaults are part of the defence
        base, usage = measure(lab, None, options.seconds)
        show(UNDISTURBED, base, base, usage)
        for name in options.only or ATTACKS:
            summary, usage = measure(lab, name, options.seconds)
            show(name, summary, base, usage)
            missed |= ratio(summary, base) > TARGET_RATIO or usage.peak_mib > TARGET_MIB or bool(summary.failures)
    return int(missed)


def measure(lab: Lab, attack: str | None, seconds: float) -> tuple[Summary, Usage]:
    """Return the honest caller's figures under one attack, and the service's memory and CPU time."""
    with lab.sqlite_store() as store, lab.service("sqlite", store) as server:
        peak = Meter(server.process.pid)
        if attack is None:
            return listen(lab, server.port, seconds), peak.stop()
        command = [sys.executable, "-m", "bench.attackers", attack, str(server.port), str(seconds + CLIENT_SECONDS)]
        with Process("attacker", command, lab.folder / "attacker.log"):
            time.sleep(ATTACK_LEAD_SECONDS)
            return listen(lab, server.port, seconds), peak.stop()


def listen(lab: Lab, port: int, seconds: float) -> Summary:
    command = [sys.executable, "-m", "bench.honest", str(port), str(seconds)]
    with Process("honest caller", command, lab.folder / "honest.log", pipe=True) as client:
        return Summary(**json.loads(client.talk("", seconds + CLIENT_SECONDS)))


class Usage(NamedTuple):
    """What the service used: peak resident memory, and CPU time in per cent of one core."""

    peak_mib: float
    cpu_percent: float


class Meter:
    """Samples the resident memory of a process on a thread, and measures its CPU time."""

    def __init__(self, pid: int) -> None:
        self._bytes = 0
        self._pid = pid
        self._began, self._cpu = time.perf_counter(), cpu_seconds(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=(pid,), daemon=True)
        self._thread.start()

    def _sample(self, pid: int) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._bytes = max(self._bytes, memory_bytes(pid))

    def stop(self) -> Usage:
        """Return the figures so far."""
        self._stopped.set()
        self._thread.join()
        used, passed = cpu_seconds(self._pid) - self._cpu, time.perf_counter() - self._began
        return Usage(self._bytes / MIB, 100 * used / passed)


def ratio(summary: Summary, base: Summary) -> float:
    """Return the worst ratio of a p50 or p99 to the undisturbed run; infinite if the caller got no answer.

    Differences below 1 ms do not count.
    """
    if not summary.lists or not summary.answers:
        return math.inf
    pairs = (
        (summary.list_p50, base.list_p50),
        (summary.list_p99, base.list_p99),
        (summary.first_p50, base.first_p50),
        (summary.first_p99, base.first_p99),
        (summary.late_p99, base.late_p99),
    )
    return max(max(figure, 1.0) / max(undisturbed, 1.0) for figure, undisturbed in pairs)


def show(name: str, summary: Summary, base: Summary, usage: Usage) -> None:
    print(
        f"{name:28} {summary.list_p50:8.1f} / {summary.list_p99:7.1f} {summary.first_p50:9.1f} / "
        f"{summary.first_p99:8.1f} {summary.late_p99:9.1f} {ratio(summary, base):6.1f} "
        f"{len(summary.failures):8} {usage.peak_mib:8.0f} {usage.cpu_percent:6.0f}",
        flush=True,
    )
    for failure in summary.failures:
        print(f"  {failure}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
