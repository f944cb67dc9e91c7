"""What two workers on one SQLite file carry: `python -m bench.workers`.

The same loads on a service with one worker and on one with two, in turn. The figure is by CPU time: with a core for
each, two workers carry so many times the load of one. The target is 1.8. The clock of a machine whose cores also run
the client and the source cannot show it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench.client import Load
from bench.lab import Lab
from bench.processes import ROOT

FINISH_SECONDS = 30.0
TARGET = 1.8
LOADS = {  # streams, chunks, pace in ms
    "chunks at 20 ms": (100, 200, 20),
    "chunks at full speed": (32, 200, 0),
    "turns": (64, 3, 0),
}


def main() -> int:
    """Measure, and print the table; 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="bench.workers", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (%(default)g)")
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory(prefix="workers-") as folder, Lab(Path(folder), ROOT / "app.py") as lab:
        for name, load in LOADS.items():
            costs: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(options.rounds):
                for count, found in costs.items():
                    found.append(measure(lab, count, load, options.seconds))
            times = 2 * statistics.median(costs[1]) / statistics.median(costs[2])
            listed = [" ".join(f"{cost:.1f}" for cost in found) for found in costs.values()]
            print(f"{name:22} one {listed[0]}, two {listed[1]} us each; two carry {times:.2f} times one", flush=True)
            missed |= times < TARGET
    return int(missed)


def measure(lab: Lab, workers: int, load: tuple[int, int, int], seconds: float) -> float:
    """Return the CPU time of all processes of a new service for each chunk, or for each turn of three chunks, in us."""
    streams, chunks, pace_ms = load
    with lab.sqlite_store() as store, lab.service("sqlite", store, {"CHATAPI_WORKERS": str(workers)}) as server:
        outcome, _ = lab.run(server, Load(server.port, False, streams, chunks, pace_ms, 4.0, seconds, FINISH_SECONDS))
    if outcome.wrong or outcome.unfinished:
        raise RuntimeError(f"{len(outcome.wrong)} wrong answers, {outcome.unfinished} without an end")
    return outcome.cpu_seconds["server"] / (outcome.answers if chunks == LOADS["turns"][1] else outcome.chunks) * 1e6


if __name__ == "__main__":
    sys.exit(main())
