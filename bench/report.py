"""The one table, and the same as JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.figures import FIGURES, REPLICA_FIGURES, Figure, Measured

PROCESSES = ("server", "source", "client")
SYNCS = 20  # enough for a median
HEADINGS = ("figure", "service", "at least", "reach", "verdict", "nginx", "ratio", "busy: service (source, client)")
STORE_HEADINGS = (
    "figure",
    "SQLite",
    "PostgreSQL",
    "ratio",
    "aim",
    "verdict",
    "its server's CPU",
    "busy: service (server)",
)


@dataclass
class Report:
    """All that was measured: by scenario and server, one entry for each run."""

    machine: dict[str, str]
    measured: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)

    def add(self, scenario: str, server: str, measured: Measured) -> None:
        self.measured.setdefault(scenario, {}).setdefault(server, []).append(measured)

    @property
    def wrong(self) -> list[str]:
        return [reason for each in self.all() for reason in each.wrong]

    @property
    def remarks(self) -> list[str]:
        return list(dict.fromkeys(remark for each in self.all() for remark in each.remarks))

    def all(self) -> list[Measured]:
        return [each for servers in self.measured.values() for runs in servers.values() for each in runs]

    def value(self, figure: Figure, server: str) -> float | None:
        """The median of the runs, or None when it was not measured or a wrong answer made it worthless."""
        runs = self.measured.get(figure.scenario, {}).get(server, [])
        if any(each.wrong for each in runs):
            return None
        values = [each.values[figure.key] for each in runs if figure.key in each.values]
        return statistics.median(values) if values else None

    def busy(self, scenario: str, server: str, beside: Sequence[str]) -> str:
        """Per cent of one core of the service, and of those beside it."""
        runs = [each.busy for each in self.measured.get(scenario, {}).get(server, []) if each.busy]
        names = [name for name in ("server", *beside) if all(name in run for run in runs)]
        if not runs:
            return ""
        first, *others = (f"{statistics.median(run[name] for run in runs):.0f} %" for name in names)
        return f"{first} ({', '.join(others)})" if others else first

    def text(self) -> str:
        """The table for a terminal or a page of Markdown."""
        facts = [f"{name}: {fact}" for name, fact in self.machine.items()]
        lines = [*facts]
        if self.has("sqlite"):
            lines += [
                "",
                *table(HEADINGS, [self.row(figure) for figure in FIGURES if figure.scenario in self.measured]),
            ]
        if self.has("postgres"):
            shown = [figure for figure in (*FIGURES, *REPLICA_FIGURES) if figure.scenario in self.measured]
            lines += ["", *table(STORE_HEADINGS, [self.store_row(figure) for figure in shown])]
        return "\n".join([*lines, *(f"Remark: {remark}." for remark in self.remarks)])

    def has(self, server: str) -> bool:
        """Whether any scenario measured it."""
        return any(server in servers for servers in self.measured.values())

    def row(self, figure: Figure) -> tuple[str, ...]:
        service, nginx = self.value(figure, "sqlite"), self.value(figure, "nginx")
        ratio = f"{service / nginx:.2g}" if service and nginx else ""
        judged = (number(service), number(figure.target), number(figure.reach), verdict(figure, service))
        return (figure.title, *judged, number(nginx), ratio, self.busy(figure.scenario, "sqlite", PROCESSES[1:]))

    def store_row(self, figure: Figure) -> tuple[str, ...]:
        """The figure on PostgreSQL beside that on SQLite."""
        sqlite, postgres = self.value(figure, "sqlite"), self.value(figure, "postgres")
        ratio = postgres / sqlite if sqlite and postgres else None
        aim = verdict_on_aim = ""
        if figure.times is not None:
            aim, verdict_on_aim = f"ratio <= {figure.times:g}", met(ratio is not None and ratio <= figure.times, ratio)
        elif figure.aim is not None:
            sign, word = (-1, ">=") if figure.more_is_better else (1, "<=")
            aim = f"{word} {figure.aim:g}"
            verdict_on_aim = met(postgres is not None and postgres * sign <= figure.aim * sign, postgres)
        own = self.value(replace(figure, key=f"{figure.key}_database"), "postgres")
        judged = (number(sqlite), number(postgres), f"{ratio:.2g}" if ratio else "", aim, verdict_on_aim)
        return (figure.title, *judged, number(own) if own else "", self.busy(figure.scenario, "postgres", ["database"]))

    def as_json(self) -> dict[str, object]:
        figures = [
            asdict(figure) | {server: self.value(figure, server) for server in ("sqlite", "postgres", "nginx")}
            for figure in (*FIGURES, *REPLICA_FIGURES)
            if figure.scenario in self.measured
        ]
        runs = {
            scenario: {server: [asdict(each) for each in runs] for server, runs in servers.items()}
            for scenario, servers in self.measured.items()
        }
        return {"machine": self.machine, "figures": figures, "runs": runs, "wrong": self.wrong}


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table of Markdown."""
    all_rows = [headings, *rows]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(headings))]
    lines = [line(row, widths) for row in all_rows]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
    return lines


def met(is_met: bool, value: float | None) -> str:
    """Compare a value with its aim; return nothing without a value."""
    if value is None:
        return ""
    return "met" if is_met else "MISSED"


def verdict(figure: Figure, value: float | None) -> str:
    """How a value stands to its two targets."""
    if value is None:
        return "WRONG"
    sign = -1 if figure.more_is_better else 1
    if value * sign <= figure.reach * sign:
        return "reached"
    return "met" if value * sign <= figure.target * sign else "MISSED"


def number(value: float | None) -> str:
    """Three digits are all that a measurement is worth."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(cells: tuple[str, ...], widths: list[int]) -> str:
    """A row: names and notes to the left, numbers to the right."""
    first, *numbers, last = zip(cells, widths, strict=True)
    aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in numbers), last[0].ljust(last[1])]
    return "| " + " | ".join(aligned) + " |"


def machine(folder: Path, python: Path) -> dict[str, str]:
    """Describe the machine and the software; `python` runs the service."""
    print_version = "import platform; print(platform.python_version(), platform.python_compiler())"
    version = subprocess.run(
        [python, "-c", print_version], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}"
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{cores}; load before the run {os.getloadavg()[0]:.2f}",
        "software": f"Python {version}, Linux {platform.release()}",
        "disk": f"fsync of 4 KiB in the database's folder takes {sync_ms(folder):.2f} ms",
    }


def sync_ms(folder: Path) -> float:
    """The median time in which the disk makes a page durable: a turn waits for it."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
