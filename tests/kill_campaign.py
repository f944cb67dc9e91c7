"""A campaign of kill -9: `python -m tests.kill_campaign --rounds 200`.

Each round, several clients read answers from one server, which is killed in mid-stream. The next server on the same
file must have every byte that a client received, must have closed the interrupted answers, and must accept the next
turn of each session. Prints its figures; the exit status is 1 if a promise was broken.

With `--workers 2`, the server has several workers, and each answer has a second reader, on whichever worker it meets.
In turn, one worker is killed and replaced, and all of them are killed with their supervisor; then the next server has
another number of workers.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chatapi.simulator import Chunks, Pause, ReceivedRequest, Script, Send, Simulator, answer, running, scripts
from tests.database_view import VISIBLE_KINDS
from tests.reader import EVENTS, READ_SECONDS, Reader
from tests.server_process import Service
from tests.test_workers import Workers, is_alive
from tests.waiting import wait_for

STREAMS = 6  # in a round, half of them text and half events
PACE_SECONDS = 0.002
KILL_WITHIN_BYTES = 6000  # received by one client; drawn for each round
SHORT = "Say something short."
LONG_PART = "Ümläute, 漢字 and 👩‍👩‍👧 families, so that a cut can fall inside a character. "


def long_answer(parts: int) -> Script:
    """Reasoning and text in turns, a few characters at a time."""
    chunks = Chunks()
    steps: list[Send | Pause] = [Send(chunks.role())]
    for number in range(parts):
        frame = chunks.content if number % 2 else chunks.reasoning
        for start in range(0, len(LONG_PART), 5):
            steps += [Pause(PACE_SECONDS), Send(frame(LONG_PART[start : start + 5]))]
    return scripts.event_stream(*steps, Send(chunks.finish("stop")), Send(b"data: [DONE]\n\n"))


def respond(request: ReceivedRequest) -> Script:
    """Answer with as many parts as requested, or with a short text."""
    asked = request.body["messages"][-1]["content"]
    return answer("Something short.") if asked == SHORT else long_answer(int(asked))


@dataclass
class Stream:
    """One client of one round: asks, then reads until the server is gone."""

    service: Service
    parts: int
    dialect: str
    kill_at: threading.Event
    kill_at_bytes: float
    is_followed: bool = False
    reader: Reader | None = None
    follower: Reader | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            headers = EVENTS if self.dialect == "events" else {}
            self.reader = Reader.chat(self.service, str(self.parts), headers=headers)
            if self.is_followed:
                threading.Thread(target=self._follow, args=(self.reader.session_id,), daemon=True).start()
            while len(self.reader.body) < self.kill_at_bytes and self.reader.read_some():
                pass
            self.kill_at.set()
            self.reader.read_all()
        except ConnectionError:  # killed before its status was out
            self.kill_at.set()

    def _follow(self, session_id: str) -> None:
        """Read the same answer over a connection of its own."""
        with suppress(ConnectionError):
            self.follower = Reader.resume_events(self.service, session_id)
            self.follower.read_all()

    def losses(self) -> Iterator[str]:
        """Yield the bytes that this client received and that are missing or wrong in the store; none if all is well."""
        reader = self.reader
        if reader is None:
            return
        message = self.service.messages(reader.session_id)[1]
        text = bytes(reader.body)
        follower = self.follower
        if follower is not None and not message["content"].startswith(follower.joined(*VISIBLE_KINDS)):
            yield f"{reader.generation_id}: text that another reader was shown is not stored"
        if self.dialect == "events":
            text = reader.joined(*VISIBLE_KINDS).encode()
            if not (message["reasoning"] or "").startswith(reader.joined("reasoning")):
                yield f"{reader.generation_id}: reasoning that was shown is not stored"
        if not message["content"].encode().startswith(text):
            yield (
                f"{reader.generation_id}: {len(text)} bytes of text were shown, and are not what is stored: "
                f"{text[-80:]!r}, {message['status']} with {message['content'][-80:]!r}"
            )
        if message["status"] not in {"interrupted", "completed"}:
            yield f"{reader.generation_id}: was left {message['status']}"
        if reader.ended and message["status"] != "completed":
            yield f"{reader.generation_id}: ended cleanly, and is {message['status']}"
        if self.service.send(SHORT, session_id=reader.session_id).text != "Something short.":
            yield f"{reader.session_id}: its next turn does not work"


class Campaign:
    """Rounds of kill -9 on one file. `losses` stays empty, or a promise was broken."""

    def __init__(self, folder: Path, upstream: Simulator, seed: int = 0, workers: int = 1) -> None:
        upstream.script = respond
        self._workers = workers
        self.losses: list[str] = []
        self.ready_seconds: list[float] = []
        self.shown_bytes = 0
        self.outcomes: Counter[str] = Counter()
        self._random = random.Random(seed)
        limits = {"CHATAPI_RATE_LIMIT": "0", "CHATAPI_MAX_GENERATIONS_PER_KEY": "0", "CHATAPI_WORKERS": str(workers)}
        self._service: Service = (Workers if workers > 1 else Service)(folder, upstream.url, **limits)  # type: ignore[arg-type]
        begun = time.perf_counter()
        self._service.start()
        self.first_start_seconds = time.perf_counter() - begun

    def round(self) -> None:
        """Stream, kill, start again, look."""
        kill_at = threading.Event()
        kill_at_bytes = self._random.randrange(KILL_WITHIN_BYTES)
        streams = [
            Stream(
                self._service,
                self._random.randint(2, 16),
                ("text", "events")[number % 2],
                kill_at,
                kill_at_bytes if number == 0 else float("inf"),
                is_followed=self._workers > 1,
            )
            for number in range(STREAMS)
        ]
        assert kill_at.wait(READ_SECONDS), "no client was shown enough, and none was cut"
        if isinstance(self._service, Workers) and self._service.count > 1 and len(self.ready_seconds) % 2 == 0:
            self._kill_one(self._service)
            for stream in streams:
                stream.thread.join(READ_SECONDS)
        else:
            self._kill_all(streams)
        for stream in streams:
            self._note(stream)

    def _kill_one(self, workers: Workers) -> None:
        """Kill one worker, and wait until its successor serves."""
        served = len(workers.pids())
        begun = time.perf_counter()
        os.kill(self._random.choice(list(filter(is_alive, workers.pids()))), signal.SIGKILL)
        wait_for(lambda: len(workers.pids()) > served)
        self.ready_seconds.append(time.perf_counter() - begun)

    def _kill_all(self, streams: list[Stream]) -> None:
        """Kill the server, and start the next one."""
        self._service.kill()
        for stream in streams:
            stream.thread.join(READ_SECONDS)
        if self._workers > 1:
            self._service.environment["CHATAPI_WORKERS"] = str(self._random.randint(1, self._workers + 1))
        begun = time.perf_counter()
        self._service.start()
        self.ready_seconds.append(time.perf_counter() - begun)

    def _note(self, stream: Stream) -> None:
        self.losses += stream.losses()
        if stream.reader is None:
            self.outcomes["no status"] += 1
            return
        self.shown_bytes += len(stream.reader.body)
        self.outcomes["ended" if stream.reader.ended else "cut"] += 1
        stream.reader.leave()

    def end(self) -> None:
        """Stop the last server."""
        self._service.stop()

    def figures(self) -> str:
        """Return the figures in one line."""
        ready = sorted(self.ready_seconds)
        return (
            f"{len(ready)} kills, {sum(self.outcomes.values())} streams ({dict(self.outcomes)}), "
            f"{self.shown_bytes} bytes shown, {len(self.losses)} losses; ready again after "
            f"{ready[0]:.2f} / {statistics.median(ready):.2f} / {ready[-1]:.2f} s (least / median / most)"
        )


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description="Kill -9 a server in mid-stream, again and again; nothing is lost.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes on the file; with several, one dies at a time"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as upstream:
        campaign = Campaign(Path(folder), upstream, options.seed, options.workers)
        for number in range(options.rounds):
            campaign.round()
            print(f"{number + 1}: {campaign.figures()}", flush=True)
        campaign.end()
    for loss in campaign.losses:
        print(loss)
    return 1 if campaign.losses else 0


if __name__ == "__main__":
    sys.exit(main())
