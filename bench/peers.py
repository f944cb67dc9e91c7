"""Servers of others that store what they stream, beside the service: `python -m bench.peers`.

Each is asked through `/v1/responses`, with the same source and the same client, which compares the text of the deltas.
Then each is killed in mid-stream, started again on its files, and asked for the response: the last column is how much
of the text that a reader had is still there. `./run setup components` installs them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import takewhile
from pathlib import Path
from typing import Any

from bench.client import KEY, Load, delta_of, response_request
from bench.lab import OURS, START_SECONDS, UNLIMITED, Lab, Server
from bench.processes import ROOT, BenchError, Process, free_port, memory_bytes

COMPONENTS = ROOT / ".venv-components/bin"
FINISH_SECONDS = 60.0
READ_BEFORE_KILL, CHUNK_BYTES = 50, 8  # chunks of 200
RETRY_SECONDS, STILL_RUNNING = 10.0, {"queued", "in_progress"}
CHUNKS, PACE_MS = 200, 20
COLUMNS = (
    "server",
    "at once",
    "us per chunk",
    "us, paced",
    "first text, p50 / p99 ms",
    "idle MiB",
    "KiB per answer",
    "kept",
)

Command = Callable[[Path, int, int], list[str]]  # of a folder, the port, and the port of the source


def _service(_: Path, __: int, ___: int) -> list[str]:
    return [sys.executable, str(ROOT / "app.py")]


def _agentic(home: Path, port: int, source: int) -> list[str]:
    place = ["--gateway-host", "127.0.0.1", "--gateway-port", str(port), "--db-url", f"sqlite://{home}/peer.db"]
    upstream = ["--llm-api-base", f"http://127.0.0.1:{source}", "--skip-llm-ready-check"]
    return [str(COMPONENTS / "agentic-server"), *place, *upstream]


def _agent_server(*more: str) -> Command:
    def command(_: Path, port: int, source: int) -> list[str]:
        script = str(ROOT / "bench/agent_server.py")
        return [str(COMPONENTS / "python"), script, str(port), f"http://127.0.0.1:{source}", *more]

    return command


@dataclass(frozen=True)
class Kind:
    """How a server is started, and how many answers it has at once: at full speed, and at 20 ms."""

    command: Command
    full: int = 32
    paced: int = 100


PEERS = {
    "this service": Kind(_service),
    "agentic-api": Kind(_agentic),
    "agent server": Kind(_agent_server(), paced=20),  # a core is full at 70
    "agent server, resilient": Kind(_agent_server("resilient"), full=4, paced=4),  # a core is full at 25
}


@dataclass
class Peer:
    """A server with a folder for its files, which outlive a kill."""

    lab: Lab
    command: Command
    home: Path

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Start it on its files."""
        port = free_port()
        command = self.command(self.home, port, self.lab.source_port)
        env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        env |= {"HOME": str(self.home), "AGENTSERVER_STATE_ROOT": str(self.home), "NO_PROXY": "127.0.0.1"}
        if self.command is _service:
            env |= {"HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "WARNING", **UNLIMITED}
            env |= {"DATABASE_URL": f"sqlite:///{self.home}/peer.db"}
            env |= {
                "OPENAI_BASE_URL": f"http://127.0.0.1:{self.lab.source_port}/v1",
                "OPENAI_UPSTREAM_API": "responses",
            }
        with Process(Path(command[0]).name, command, self.home / "log", cwd=self.home, env=env) as process:
            process.wait_for_port(port, START_SECONDS)
            yield Server("peer", port, process)


def main() -> int:
    """Measure, and print the table; 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (%(default)g)")
    parser.add_argument("--only", action="append", choices=PEERS, help="only this server; may be repeated")
    options = parser.parse_args()
    if not (COMPONENTS / "agentic-server").exists():
        parser.error("the servers are not installed: ./run setup components")
    failed = False
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, Lab(Path(folder), ROOT / "app.py") as lab:
        for name in options.only or PEERS:
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                cells = row(lab, PEERS[name], options.seconds)
            except BenchError as error:
                failed, cells = True, [str(error).replace("\n", " ")[:300]]
            print("| " + " | ".join([name, *cells]) + " |", flush=True)
    return int(failed)


def row(lab: Lab, kind: Kind, seconds: float) -> list[str]:
    """Return the figures of one server."""
    found = []
    for streams, pace_ms in ((kind.full, 0), (kind.paced, PACE_MS)):
        with Peer(lab, kind.command, lab.new_home("peer")).running() as server:
            idle = memory_bytes(server.process.pid)
            load = Load(
                0, False, streams, CHUNKS, pace_ms, 4.0, seconds, FINISH_SECONDS, responses=True, stored=True, peer=True
            )
            outcome, _ = lab.run(server, load)
        if outcome.wrong or outcome.unfinished or not outcome.chunks:
            raise BenchError(f"{len(outcome.wrong)} wrong, {outcome.unfinished} without an end: {outcome.wrong[:1]}")
        found.append((outcome, idle))
    paced, idle = found[-1]
    cost = [f"{one.cpu_seconds['server'] / one.chunks * 1e6:.1f}" for one, _ in found]
    first = f"{paced.first_text_p50_ms:.1f} / {paced.first_text_p99_ms:.1f}"
    growth = (paced.memory_open["server"] - paced.memory_before["server"]) / kind.paced / 1024
    kept = kept_after_kill(Peer(lab, kind.command, lab.new_home("peer")))
    return [f"{kind.full}, {kind.paced}", *cost, first, f"{idle / 2**20:.0f}", f"{growth:.0f}", kept]


def kept_after_kill(peer: Peer) -> str:
    """Kill a server in mid-stream; return how much of the text that was read is there after a new start."""
    with ExitStack() as stack:
        server = stack.enter_context(peer.running())
        name, seen = read_some(server.port)
        os.killpg(server.process.pid, signal.SIGKILL)
    with peer.running() as server:
        until = time.monotonic() + RETRY_SECONDS
        while True:
            status, response = ask(server.port, f"/v1/responses/{name}")
            said = response.get("status", f"error {status}")
            if said not in STILL_RUNNING or time.monotonic() > until:
                break
            time.sleep(0.2)
        parts = [part for item in response.get("output", ()) for part in item.get("content", ())]
        text = "".join(part.get("text", "") for part in parts)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, seen, strict=False)))
    return f"{100 * same // len(seen)} % ({said})"


def read_some(port: int) -> tuple[str, str]:
    """Read the beginning of a paced answer; return its id and the text that came."""
    connection = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    load = Load(port, False, 1, CHUNKS, PACE_MS, 0, 0, 0, responses=True)
    body = response_request(load).partition(b"\r\n\r\n")[2]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", "/v1/responses", body, headers)
    answer = connection.getresponse()
    name, text, event = "", b"", b""
    while len(text) < READ_BEFORE_KILL * CHUNK_BYTES:
        line = answer.readline()
        if not line:
            raise BenchError("the stream ended before it was killed")
        if not name and b'"response":{' in line.replace(b" ", b""):
            name = json.loads(line.partition(b"data:")[2])["response"]["id"]
        event += line
        if line == b"\n":
            text, event = text + delta_of(event.rstrip(b"\n")), b""
    return name, text.decode()


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """GET an object."""
    connection = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    data = answer.read()
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, {}


if __name__ == "__main__":
    sys.exit(main())
