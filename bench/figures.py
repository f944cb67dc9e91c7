"""The figures and their targets, and how each is measured.

A scenario measures one server: the service on SQLite or on PostgreSQL, or nginx before the same source.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from bench.client import Load, Outcome
from bench.lab import Lab, Server, ask
from bench.processes import memory_bytes

PACE_MS = 20  # a fast model's
ANSWER_CHUNKS = 200
FULL_SPEED_STREAMS = 32
PACED_STREAMS = 100
REPLICA_STREAMS = 50  # on each
TURN_STREAMS = 64
TURN_CHUNKS = 3
LATENESS_TURN_STREAMS = 16
LATENESS_TURN_PAUSE_MS = 200
OPEN_STREAMS = 500
OPEN_PACE_MS = 250  # slow: memory is looked at, and nothing should queue
LATE_SHARE = 0.01
ARRIVED_SHARE = 0.9  # of the chunks due in the window; the rest are between two answers
FINISH_SECONDS = 20.0  # beyond the time that an answer takes by itself
SOURCE_LATE_MS = 20  # a source later than this is worth a remark
TOOL_BUSY_PERCENT = 90  # so is a tool that is the bottleneck
MIB, KIB = 1024 * 1024, 1024


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    On PostgreSQL the value must be at most `times` the value on SQLite, or as good as `aim`, if they are given.
    """

    key: str
    scenario: str
    title: str
    target: float = 0
    reach: float = 0
    more_is_better: bool = False
    times: float | None = None
    aim: float | None = None


FIGURES = (
    Figure(
        "full_speed_cpu_us", "full-speed", "32 answers of 200 chunks at full speed, CPU per chunk (us)", 16, 8, times=2
    ),
    Figure("stateless_cpu_us", "stateless", "the same by /v1/chat/completions, stateless, CPU per chunk (us)", 20, 10),
    Figure("stored_cpu_us", "stored", "the same by /v1/chat/completions, in a session, CPU per chunk (us)", 30, 15),
    Figure("responses_cpu_us", "responses", "the same by /v1/responses, CPU per chunk (us)", 60, 30),
    Figure(
        "over_responses_cpu_us", "over-responses", "the first with a Responses upstream, CPU per chunk (us)", 20.8, 10.4
    ),
    Figure("over_responses_times", "over-responses", "that, times a chat completions upstream", 1.3, 1.1),
    Figure("paced_cpu_us", "paced", "100 answers, a chunk each 20 ms, CPU per chunk (us)", 130, 90, times=2),
    Figure("first_text_p50_ms", "paced", "time to first text at those 100, median (ms)", 6, 2, aim=15),
    Figure("first_text_p99_ms", "paced", "time to first text at those 100, 99 % (ms)", 20, 6),
    Figure("capacity", "capacity", "answers at 20 ms with 99 % of chunks < 100 ms late", 300, 500, more_is_better=True),
    Figure("late_p99_ms", "lateness", "lateness of chunks while turns begin and end, 99 % (ms)", 20, 5),
    Figure("late_slow_disk_p99_ms", "lateness", "the same on a disk whose syncs take 50 ms, 99 % (ms)", 20, 8),
    Figure("turns_per_second", "turns", "durable turns per second, 64 at once", 1500, 5000, more_is_better=True),
    Figure("turn_cpu_us", "turns", "CPU per durable turn (us), as one core allows", 1e6 / 1500, 1e6 / 5000),
    Figure("idle_mib", "memory", "memory idle (MiB)", 70, 60),
    Figure("open_answer_kib", "memory", "memory for each open answer (KiB)", 64, 40),
    Figure("start_seconds", "start", "start to first answer (s)", 2, 1.2),
)
REPLICA_FIGURES = (  # on PostgreSQL alone
    Figure("two_stream", "replicas", "two replicas stream, times one: by CPU time", more_is_better=True, aim=1.7),
    Figure("two_turn", "replicas", "two replicas take turns, times one: by CPU time", more_is_better=True, aim=1.7),
    Figure("two_turn_by_clock", "replicas", "the same by the clock, all on this machine", more_is_better=True),
)


@dataclass(frozen=True)
class Effort:
    """How long everything is measured, and on how long answers."""

    full_speed_seconds: float
    paced_chunks: int
    paced_seconds: float
    capacity_steps: tuple[int, ...]
    capacity_chunks: int
    capacity_seconds: float
    lateness_streams: int
    lateness_seconds: float
    turn_seconds: float
    open_seconds: float
    starts: int


FULL = Effort(
    full_speed_seconds=5,
    paced_chunks=ANSWER_CHUNKS,
    paced_seconds=12,
    capacity_steps=(100, 200, 300, 400, 500, 600),
    capacity_chunks=ANSWER_CHUNKS,
    capacity_seconds=5,
    lateness_streams=300,
    lateness_seconds=10,
    turn_seconds=6,
    open_seconds=2,
    starts=3,
)
QUICK = Effort(
    full_speed_seconds=1.5,
    paced_chunks=75,
    paced_seconds=3,
    capacity_steps=(300, 500),
    capacity_chunks=50,
    capacity_seconds=1.5,
    lateness_streams=100,
    lateness_seconds=3,
    turn_seconds=1.5,
    open_seconds=1,
    starts=1,
)


@dataclass
class Measured:
    """The results of one scenario on one server."""

    values: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)  # per cent of one core, by process
    remarks: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # answers that differ from the source's

    def add_cpu(self, key: str, outcomes: list[Outcome], count: int) -> None:
        """The CPU time in microseconds for each of `count`: the servers', and that of the database beside them."""
        self.values[key] = cpu_us(outcomes, count)
        if "database" in outcomes[0].cpu_seconds:  # one for all, so each client saw the same
            self.values[f"{key}_database"] = outcomes[0].cpu_seconds["database"] * 1e6 / max(1, count)


def full_speed(lab: Lab, server: Server, effort: Effort) -> Measured:
    measured, outcome = observe(lab, server, load(FULL_SPEED_STREAMS, ANSWER_CHUNKS, 0, 1, effort.full_speed_seconds))
    measured.add_cpu("full_speed_cpu_us", [outcome], outcome.chunks)
    return measured


def stateless(lab: Lab, server: Server, effort: Effort) -> Measured:
    work = replace(load(FULL_SPEED_STREAMS, ANSWER_CHUNKS, 0, 1, effort.full_speed_seconds), raw=True)
    measured, outcome = observe(lab, server, work)
    measured.add_cpu("stateless_cpu_us", [outcome], outcome.chunks)
    return measured


def stored(lab: Lab, server: Server, effort: Effort) -> Measured:
    work = replace(load(FULL_SPEED_STREAMS, ANSWER_CHUNKS, 0, 1, effort.full_speed_seconds), raw=True, stored=True)
    measured, outcome = observe(lab, server, work)
    measured.add_cpu("stored_cpu_us", [outcome], outcome.chunks)
    return measured


def responses(lab: Lab, server: Server, effort: Effort) -> Measured:
    work = load(FULL_SPEED_STREAMS, ANSWER_CHUNKS, 0, 1, effort.full_speed_seconds)
    measured, outcome = observe(lab, server, replace(work, raw=True, stored=True, responses=True))
    measured.add_cpu("responses_cpu_us", [outcome], outcome.chunks)
    return measured


def over_responses(lab: Lab, server: Server, effort: Effort) -> Measured:
    """Ask the source through chat completions, then through Responses with another service."""
    work = load(FULL_SPEED_STREAMS, ANSWER_CHUNKS, 0, 1, effort.full_speed_seconds)
    measured, chat = observe(lab, server, work)
    new_store = lab.sqlite_store if server.name == "sqlite" else lab.postgres_store
    with new_store() as store, lab.service(server.name, store, {"OPENAI_UPSTREAM_API": "responses"}) as other:
        again, outcome = observe(lab, other, work)
    again.add_cpu("over_responses_cpu_us", [outcome], outcome.chunks)
    again.values["over_responses_times"] = again.values["over_responses_cpu_us"] / cpu_us([chat], chat.chunks)
    again.wrong += measured.wrong
    return again


def paced(lab: Lab, server: Server, effort: Effort) -> Measured:
    """The ramp lasts as long as an answer, so that answers begin evenly spread all the time."""
    chunks = effort.paced_chunks
    work = load(PACED_STREAMS, chunks, PACE_MS, chunks * PACE_MS / 1000, effort.paced_seconds)
    measured, outcome = observe(lab, server, work)
    measured.add_cpu("paced_cpu_us", [outcome], outcome.chunks)
    measured.values["first_text_p50_ms"] = outcome.first_text_p50_ms
    measured.values["first_text_p99_ms"] = outcome.first_text_p99_ms
    return measured


def turns(lab: Lab, server: Server, effort: Effort) -> Measured:
    """Many short answers, each the first turn of a new session."""
    measured, outcome = observe(lab, server, load(TURN_STREAMS, TURN_CHUNKS, 0, 1, effort.turn_seconds))
    measured.values["turns_per_second"] = outcome.answers / outcome.window_seconds
    measured.add_cpu("turn_cpu_us", [outcome], outcome.answers)
    if outcome.session and not measured.wrong:
        status, body = ask(server.port, "GET", f"/api/sessions/{outcome.session}")
        if status != 200 or json.loads(body)["message_count"] < 2:
            measured.wrong.append(f"the last turn was not stored: {status} {body[:200]!r}")
    return measured


def capacity(lab: Lab, server: Server, effort: Effort) -> Measured:
    """The service is tried step by step until it fails; nginx, the control, from the top down until it succeeds."""
    best, ramp = Measured({"capacity": 0}), effort.capacity_chunks * PACE_MS / 1000
    for streams in reversed(effort.capacity_steps) if server.raw else effort.capacity_steps:
        work = load(streams, effort.capacity_chunks, PACE_MS, ramp, effort.capacity_seconds)
        measured, outcome = observe(lab, server, work, may_be_slow=True)
        progress(f"{streams} answers: {outcome.late_share:.1%} of chunks late, 99 % by {outcome.late_p99_ms:.0f} ms")
        passed = not outcome.unfinished and not measured.wrong and kept_pace(work, outcome)
        if passed:
            best.values, best.busy = {"capacity": streams}, measured.busy
        best.remarks += measured.remarks
        best.wrong += measured.wrong
        if passed == server.raw:
            break
    if best.values["capacity"] == effort.capacity_steps[-1]:
        best.remarks.append(f"{server.name}: {effort.capacity_steps[-1]} answers are the most that were tried")
    return best


def lateness(lab: Lab, server: Server, effort: Effort) -> Measured:
    """Long answers at 20 ms, beside connections that take short turns, each of which syncs the disk twice.

    On SQLite it is repeated on a disk whose syncs are slow: no stream may wait for the turn of another session.
    """
    measured, outcome = observe_with_turns(lab, server, effort)
    measured.values["late_p99_ms"] = outcome.late_p99_ms
    if server.name != "sqlite":
        return measured
    library = lab.slow_disk()
    if library is None:
        measured.remarks.append("a slow disk was not measured: no C compiler (cc) is installed")
        return measured
    with lab.sqlite_store() as store, lab.service("sqlite", store, {"LD_PRELOAD": str(library)}) as slow:
        again, outcome = observe_with_turns(lab, slow, effort)
    measured.values["late_slow_disk_p99_ms"] = outcome.late_p99_ms
    measured.wrong += again.wrong
    measured.remarks += again.remarks
    return measured


def observe_with_turns(lab: Lab, server: Server, effort: Effort) -> tuple[Measured, Outcome]:
    """Run long answers and short turns at once; return what was seen of the long ones, and the faults of both."""
    seconds = effort.lateness_seconds
    chunks = effort.paced_chunks
    ramp = chunks * PACE_MS / 1000
    long = load(effort.lateness_streams, chunks, PACE_MS, ramp, seconds)
    short = replace(load(LATENESS_TURN_STREAMS, TURN_CHUNKS, 0, ramp, seconds + ramp), pause_ms=LATENESS_TURN_PAUSE_MS)
    with ThreadPoolExecutor(1) as pool:
        turning = pool.submit(lab.run, server, short)
        measured, outcome = observe(lab, server, long, may_be_slow=True)
        turned, _ = turning.result()
    measured.wrong += turned.wrong
    progress(f"{turned.answers} turns beside; 99 % of chunks late by {outcome.late_p99_ms:.1f} ms at most")
    return measured, outcome


def memory(lab: Lab, server: Server, effort: Effort) -> Measured:
    """Resident memory of a new server, and how much it grows by answers that are all open, after a few to warm up."""
    idle = memory_bytes(server.process.pid)
    warm, _ = observe(lab, server, load(16, TURN_CHUNKS, 0, 0.5, 0.5))
    seconds = effort.open_seconds
    chunks = round((2 * seconds + 1) * 1000 / OPEN_PACE_MS)  # the first answer is still open when memory is looked at
    measured, outcome = observe(lab, server, load(OPEN_STREAMS, chunks, OPEN_PACE_MS, seconds, seconds))
    growth = outcome.memory_open["server"] - outcome.memory_before["server"]
    measured.values = {"idle_mib": idle / MIB, "open_answer_kib": growth / OPEN_STREAMS / KIB}
    measured.wrong += warm.wrong
    return measured


def start(lab: Lab, server: Server, effort: Effort) -> Measured:
    """From `python app.py` on an empty database to the end of the first answer, while the server at hand idles."""
    seconds = statistics.median(lab.first_answer_seconds(server.name) for _ in range(effort.starts))
    return Measured({"start_seconds": seconds})


def replicas(lab: Lab, server: Server, effort: Effort) -> Measured:
    """Measure the cost of each of two replicas, and of one alone for the same load.

    Two replicas that each cost as much as one alone carry twice as much, if each has a core and the database is fast
    enough. If not, the elapsed time cannot show that, and CPU time can.
    """
    chunks = effort.paced_chunks
    stream = load(REPLICA_STREAMS, chunks, PACE_MS, chunks * PACE_MS / 1000, effort.paced_seconds)
    turn = load(TURN_STREAMS // 2, TURN_CHUNKS, 0, 1, effort.turn_seconds)
    measured = Measured()
    with lab.service("postgres", server.store) as other:
        for key, work in (("two_stream", stream), ("two_turn", turn)):
            alone = observe_beside(lab, [server], work, measured)
            both = observe_beside(lab, [server, other], work, measured)
            for name, outcomes in (("one", alone), ("two", both)):
                measured.add_cpu(f"{key}_{name}_us", outcomes, count(outcomes))
            measured.values[key] = 2 * measured.values[f"{key}_one_us"] / measured.values[f"{key}_two_us"]
            measured.values[f"{key}_by_clock"] = count(both) / count(alone)
    return measured


def count(outcomes: list[Outcome]) -> int:
    """The chunks that all of them received."""
    return sum(outcome.chunks for outcome in outcomes)


Scenario = Callable[[Lab, Server, Effort], Measured]
SCENARIOS: dict[str, Scenario] = {
    "full-speed": full_speed,
    "stateless": stateless,
    "stored": stored,
    "responses": responses,
    "over-responses": over_responses,
    "paced": paced,
    "capacity": capacity,
    "lateness": lateness,
    "turns": turns,
    "memory": memory,
    "start": start,
    "replicas": replicas,
}
SERVICE_ONLY = {"start", "stored", "responses", "over-responses", "lateness"}
POSTGRES_ONLY = {"replicas"}


def load(streams: int, chunks: int, pace_ms: int, ramp_seconds: float, window_seconds: float) -> Load:
    """A load for whichever server: the lab fills in the rest."""
    finish_seconds = FINISH_SECONDS + chunks * pace_ms / 1000
    return Load(0, False, streams, chunks, pace_ms, ramp_seconds, window_seconds, finish_seconds)


def cpu_us(outcomes: list[Outcome], count: int) -> float:
    """The servers' CPU time in microseconds for each of `count`."""
    return sum(outcome.cpu_seconds["server"] for outcome in outcomes) * 1e6 / max(1, count)


def kept_pace(work: Load, outcome: Outcome) -> bool:
    """Whether the chunks came in time, and came at all: one that is still missing counts nowhere as late."""
    due = work.streams * outcome.window_seconds * 1000 / work.pace_ms
    return outcome.late_share < LATE_SHARE and outcome.chunks > due * ARRIVED_SHARE


def observe(lab: Lab, server: Server, work: Load, *, may_be_slow: bool = False) -> tuple[Measured, Outcome]:
    """Run a load; note who was busy, whether the source kept its pace, and whether the answers were right and ended."""
    outcome, late = lab.run(server, work)
    return judge(server, work, outcome, late, may_be_slow=may_be_slow), outcome


def observe_beside(lab: Lab, servers: list[Server], work: Load, into: Measured) -> list[Outcome]:
    """Run the same load on each server at once; add remarks and faults to `into`."""
    outcomes, late = lab.run_beside(servers, work)
    for server, outcome in zip(servers, outcomes, strict=True):
        seen = judge(server, work, outcome, late)
        into.busy = seen.busy
        into.remarks += seen.remarks
        into.wrong += seen.wrong
    return outcomes


def judge(server: Server, work: Load, outcome: Outcome, late: dict[str, int], *, may_be_slow: bool = False) -> Measured:
    """Who was busy, whether the source kept its pace, and whether the answers were right and ended."""
    busy = {name: seconds / outcome.window_seconds * 100 for name, seconds in outcome.cpu_seconds.items()}
    measured = Measured(busy=busy)
    what, late_ms = f"{server.name}, {work.streams} answers", late["late_p99_ms"]
    if late_ms > SOURCE_LATE_MS:
        measured.remarks.append(f"{what}: the source was {late_ms} ms late (99 %)")
    for tool in ("source", "client"):
        if busy[tool] > TOOL_BUSY_PERCENT and not outcome.wrong:
            measured.remarks.append(f"{what}: the {tool} was the bottleneck; trust the CPU time, not the rate")
    measured.wrong += [f"{what}: {reason}" for reason in dict.fromkeys(outcome.wrong)]
    if outcome.unfinished and not may_be_slow:
        measured.wrong.append(f"{what}: {outcome.unfinished} did not end in time")
    if measured.wrong:
        progress(str(server.process.trouble("gave wrong answers; the end of its log:")))
    return measured


def progress(message: str) -> None:
    """Print a line of progress."""
    print(f"  {message}", file=sys.stderr, flush=True)
