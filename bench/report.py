"""The one table, and the same as JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.figures import FIGURES, Figure, Measured

PROCESSES = ("server", "source", "client")
SYNCS = 20  # enough for a median
HEADINGS = ("figure", "service", "at least", "reach", "verdict", "nginx", "ratio", "busy: service (source, client)")


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

    def busy(self, scenario: str) -> str:
        """Per cent of one core of the service, and of the source and the client beside it."""
        runs = [each.busy for each in self.measured.get(scenario, {}).get("service", []) if each.busy]
        if not runs:
            return ""
        server, source, client = (statistics.median(run[name] for run in runs) for name in PROCESSES)
        return f"{server:.0f} % ({source:.0f} %, {client:.0f} %)"

    def text(self) -> str:
        """The table for a terminal or a page of Markdown."""
        rows = [HEADINGS, *(self.row(figure) for figure in FIGURES if figure.scenario in self.measured)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = [line(row, widths) for row in rows]
        lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
        facts = [f"{name}: {fact}" for name, fact in self.machine.items()]
        return "\n".join([*facts, "", *lines, *(f"Remark: {remark}." for remark in self.remarks)])

    def row(self, figure: Figure) -> tuple[str, ...]:
        service, nginx = self.value(figure, "service"), self.value(figure, "nginx")
        ratio = f"{service / nginx:.2g}" if service and nginx else ""
        judged = (number(service), number(figure.target), number(figure.reach), verdict(figure, service))
        return (figure.title, *judged, number(nginx), ratio, self.busy(figure.scenario))

    def as_json(self) -> dict[str, object]:
        figures = [
            asdict(figure) | {"service": self.value(figure, "service"), "nginx": self.value(figure, "nginx")}
            for figure in FIGURES
            if figure.scenario in self.measured
        ]
        runs = {
            scenario: {server: [asdict(each) for each in runs] for server, runs in servers.items()}
            for scenario, servers in self.measured.items()
        }
        return {"machine": self.machine, "figures": figures, "runs": runs, "wrong": self.wrong}


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


def machine(folder: Path) -> dict[str, str]:
    """What the figures depend on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}"
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{cores}; load before the run {os.getloadavg()[0]:.2f}",
        "software": f"Python {platform.python_version()}, Linux {platform.release()}",
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
