"""A campaign against replicas: `python -m tests.replica_campaign --rounds 500`.

Each round, fifty clients read answers through a load balancer in front of two replicas, half of them text and half
events, and other clients follow some of the answers on the other replica. Then one replica is killed with -9 in
mid-stream; in every fourth round it is paused (SIGSTOP) past its leases instead, and resumed when the other has taken
over its sessions.

A client that lost its connection resumes on the other replica. Received text must be stored, and must be the upstream's
text for that client. Each answer must end, or be closed as interrupted when its lease has expired; its followers must
see that, and the next turn must work. A replica that was paused must not write one more byte. Prints its figures; the
exit status is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chatapi.simulator import Chunks, Pause, ReceivedRequest, Script, Send, Simulator, answer, running, scripts
from tests.cluster import Cluster
from tests.database_view import VISIBLE_KINDS
from tests.kill_campaign import SHORT
from tests.reader import EVENTS, Reader
from tests.server_process import Service

STREAMS = 50
LEASE_SECONDS = 2.0  # with one of a second, a busy machine takes leases from replicas that are alive
CLOSED_SECONDS = LEASE_SECONDS + 1.5  # from a replica's death to the end of most of its answers
LATEST_SECONDS = LEASE_SECONDS + 10.0  # and of each: a machine that is busy with other tests is late now and then
JOIN_SECONDS = 40.0
SLEEP_EVERY = 4  # rounds
FOLLOWED_EVERY = 5  # streams: so many of them have a second reader, on the replica that lives on
PACE_SECONDS = 0.04
PIECE = 20  # characters
MOST_PARTS = 14
KILL_WITHIN_BYTES = 600  # received by the first client; drawn for each round
AGAIN_AT_ONCE = 0.75  # of the killed are started again at once, the others when the answers were closed without them
AT_ONCE = 8  # requests that look after a round
SHORT_ANSWER = "Something short."


def part_of(name: str, number: int) -> str:
    """Return text of the upstream for one client only. A cut can fall inside a character."""
    return f"{name} part {number}: Ümläute, 漢字 and 👩‍👩‍👧 families, and so on. "


def respond(request: ReceivedRequest) -> Script:
    """The campaign's upstream: reasoning and text in turns, with the question in them."""
    asked = request.body["messages"][-1]["content"]
    if asked == SHORT:
        return answer(SHORT_ANSWER)
    name, parts = asked.split()
    chunks = Chunks()
    steps: list[Send | Pause] = [Send(chunks.role())]
    for number in range(int(parts)):
        frame = chunks.content if number % 2 else chunks.reasoning
        text = part_of(name, number)
        for start in range(0, len(text), PIECE):
            steps += [Pause(PACE_SECONDS), Send(frame(text[start : start + PIECE]))]
    return scripts.event_stream(*steps, Send(chunks.finish("stop")), Send(b"data: [DONE]\n\n"))


class Stream(threading.Thread):
    """One client: asks, reads, and resumes where the connection is cut."""

    def __init__(self, cluster: Cluster, name: str, parts: int, events: bool) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.question = f"{name} {parts}"
        self.text = "".join(part_of(name, number) for number in range(1, parts, 2))
        self.reasoning = "".join(part_of(name, number) for number in range(0, parts, 2))
        self.events = events
        self.readers: list[Reader] = []
        self.resume_on: Service = cluster
        self.may_resume = True
        self.followed_on: Service | None = None
        self.follower: Follower | None = None
        self.told_at = 0.0
        self.trouble = ""
        self.refused = 0  # with this status
        self.enough_bytes: float = float("inf")
        self.shown_enough = threading.Event()

    @property
    def session_id(self) -> str:
        return self.readers[0].session_id

    def run(self) -> None:
        try:
            self._read(Reader.chat(self.cluster, self.question, headers=EVENTS if self.events else {}))
            if self.may_resume and self.readers and not self._was_told():
                self._read(self._resumed())
        except ConnectionError:
            if self.readers:
                self.trouble = "could not resume"
        except TimeoutError:
            self.trouble = "was left waiting"
        finally:
            self.told_at = time.perf_counter()
            self.shown_enough.set()

    def _read(self, reader: Reader) -> None:
        if reader.status != 200:
            self.refused = reader.status
            reader.leave()
            return
        self.readers.append(reader)
        if self.followed_on is not None and self.follower is None:
            self.follower = Follower(self, self.followed_on)
            self.follower.start()
        while len(reader.body) <= self.enough_bytes and reader.read_some():
            pass
        self.shown_enough.set()
        reader.read_all()

    def _was_told(self) -> bool:
        """Whether the last reader knows how the answer ended; a text that is cut leaves its reader guessing."""
        last = self.readers[-1]
        return last.ended or any(name == "error" for name, _, _ in last.events() if self.events)

    def _resumed(self) -> Reader:
        if not self.events:
            return Reader.resume(self.resume_on, self.session_id, len(self.readers[0].body))
        seen = self.readers[0].events()
        return Reader.resume_events(self.resume_on, self.session_id, seen[-1][1] if seen else 0)

    def shown_text(self) -> bytes:
        """All text that it was shown, by whichever replica."""
        if self.events:
            return "".join(reader.joined(*VISIBLE_KINDS) for reader in self.readers).encode()
        return b"".join(bytes(reader.body) for reader in self.readers)

    def shown_reasoning(self) -> str:
        return "".join(reader.joined("reasoning") for reader in self.readers) if self.events else ""

    def leave(self) -> None:
        for reader in self.readers:
            reader.leave()


class Follower(threading.Thread):
    """A client that follows another client's answer on a given replica."""

    def __init__(self, stream: Stream, replica: Service) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.replica = replica
        self.reader: Reader | None = None
        self.told_at = 0.0
        self.trouble = ""

    def run(self) -> None:
        try:
            self.reader = Reader.resume(self.replica, self.stream.session_id, 0)
            self.reader.read_all()
        except (ConnectionError, TimeoutError):
            self.trouble = "a reader that followed it was left waiting"
        self.told_at = time.perf_counter()

    def leave(self) -> None:
        if self.reader is not None:
            self.reader.leave()


class Campaign:
    """Rounds on one cluster. `losses` stays empty, or a promise was broken."""

    def __init__(self, folder: Path, upstream: Simulator, seed: int = 0, streams: int = STREAMS) -> None:
        upstream.script = respond
        self.losses: list[str] = []
        self.rounds: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.shown_bytes = 0
        self.closed_seconds: list[float] = []
        self._random = random.Random(seed)
        self._streams = streams
        self.cluster = Cluster(
            folder,
            upstream.url,
            CHATAPI_RATE_LIMIT="0",
            CHATAPI_MAX_GENERATIONS_PER_KEY="0",
            CHATAPI_LEASE_SECONDS=str(LEASE_SECONDS),
        )
        self.cluster.start()

    def round(self) -> None:
        """One replica goes in mid-stream; look; and it comes again."""
        number = sum(self.rounds.values())
        gone, stays = self._random.sample(self.cluster.replicas, 2)
        streams = [self._stream(number, place) for place in range(self._streams)]
        if number % SLEEP_EVERY == SLEEP_EVERY - 1:
            self.rounds["sleep"] += 1
            self._sleep(gone, stays, streams)
        else:
            self.rounds["kill"] += 1
            self._kill(gone, stays, streams)
        left = self.cluster.database.rows("SELECT id FROM generation WHERE status = 'running'")
        self.losses += [f"{generation_id}: was left running" for (generation_id,) in left]

    def _stream(self, number: int, place: int) -> Stream:
        parts = self._random.randint(2, MOST_PARTS) if place else MOST_PARTS
        return Stream(self.cluster, f"client-{number}-{place}", parts, events=place % 2 == 1)

    def _in_mid_stream(self, streams: list[Stream]) -> float:
        """Start all clients, and return somewhere in the middle of it all."""
        streams[0].enough_bytes = self._random.randrange(KILL_WITHIN_BYTES)
        for stream in streams:
            stream.start()
        streams[0].shown_enough.wait(JOIN_SECONDS)
        return time.perf_counter()

    def _kill(self, gone: Service, stays: Service, streams: list[Stream]) -> None:
        for place, stream in enumerate(streams):
            stream.resume_on = stays
            stream.followed_on = None if place % FOLLOWED_EVERY else stays
        at = self._in_mid_stream(streams)
        gone.kill()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            at_once = self._random.random() < AGAIN_AT_ONCE
            again = pool.submit(self.cluster.restart, gone) if at_once else None
            self._join(streams)
            followers = [stream.follower for stream in streams if stream.follower]
            self._join(followers)
            again = again or pool.submit(self.cluster.restart, gone)
            for losses in pool.map(lambda stream: list(self._losses(stream, stays, at)), streams):
                self.losses += losses
            for losses in pool.map(lambda follower: list(self._follower_losses(follower, at)), followers):
                self.losses += losses
            again.result()
        self._note(streams, followers, slept=False)

    def _sleep(self, gone: Service, stays: Service, streams: list[Stream]) -> None:
        """As `_kill`, but the replica sleeps, and is woken when its sessions have gone on without it."""
        for stream in streams:
            stream.may_resume = False
            stream.followed_on = stays
        at = self._in_mid_stream(streams)
        gone.signal(signal.SIGSTOP)
        try:
            known = [stream for stream in streams if stream.readers]
            followers = [stream.follower for stream in known if stream.follower]
            self._join(followers)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for losses in pool.map(lambda follower: list(self._follower_losses(follower, at)), followers):
                    self.losses += losses
                before = list(pool.map(lambda stream: self._answer(stream, stays), known))
                taken_over = [
                    stream for stream, message in zip(known, before, strict=True) if message["status"] == "interrupted"
                ]
                self.losses += [
                    loss for loss in pool.map(lambda stream: self._next_turn(stream, stays), taken_over) if loss
                ]
        finally:
            gone.signal(signal.SIGCONT)
        self._join(streams)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            after = list(pool.map(lambda stream: self._answer(stream, gone), known))
            for stream, message, then in zip(known, before, after, strict=True):
                if message != then:
                    self.losses.append(f"{stream.question}: a replica wrote to it after its lease")
                if stream in taken_over:
                    self.outcomes["taken over from a sleeper"] += 1
                self.losses += self._text_losses(stream, then)
        self._note(streams, followers, slept=True)

    def _join(self, threads: list[Any]) -> None:
        for thread in threads:
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                self.losses.append(f"{getattr(thread, 'question', 'a follower')}: waits forever")

    def _answer(self, stream: Stream, replica: Service) -> dict[str, Any]:
        return replica.messages(stream.session_id)[1]

    def _losses(self, stream: Stream, stays: Service, killed_at: float) -> Iterator[str]:
        """Yield the received bytes that are not stored, and answers without an end; none if all is well."""
        if not stream.readers:
            return
        message = self._answer(stream, stays)
        yield from self._text_losses(stream, message)
        if len(stream.readers) > 1 and stream.shown_text() != message["content"].encode():
            yield f"{stream.question}: was not shown all that is stored when it resumed"
        if message["status"] == "interrupted":
            yield from self._note_closed(stream.question, stream.told_at - killed_at)
            if loss := self._next_turn(stream, stays):
                yield loss

    def _text_losses(self, stream: Stream, message: dict[str, Any]) -> Iterator[str]:
        name, text, reasoning = stream.question, message["content"], message["reasoning"] or ""
        if stream.trouble:
            yield f"{name}: {stream.trouble}"
        if not text.encode().startswith(stream.shown_text()):
            yield f"{name}: text that was shown is not what is stored"
        if not reasoning.startswith(stream.shown_reasoning()):
            yield f"{name}: reasoning that was shown is not what is stored"
        if not stream.text.startswith(text) or not stream.reasoning.startswith(reasoning):
            yield f"{name}: is stored with what its upstream did not say"
        if message["status"] not in {"interrupted", "completed"}:
            yield f"{name}: was left {message['status']}"
        if message["status"] == "completed" and (text, reasoning) != (stream.text, stream.reasoning):
            yield f"{name}: counts as completed, and is not whole"
        if stream.readers[-1].ended and not stream.events and message["status"] != "completed":
            yield f"{name}: ended cleanly, and is {message['status']}"

    def _next_turn(self, stream: Stream, stays: Service) -> str:
        """Take the session's next turn; return its fault, or an empty text."""
        sent = stays.send(SHORT, session_id=stream.session_id)
        return "" if sent.text == SHORT_ANSWER else f"{stream.question}: its next turn does not work: {sent.text}"

    def _follower_losses(self, follower: Follower, gone_at: float) -> Iterator[str]:
        stream, reader = follower.stream, follower.reader
        if follower.trouble:
            yield f"{stream.question}: {follower.trouble}"
        if reader is None:
            return
        if not stream.text.encode().startswith(bytes(reader.body)):
            yield f"{stream.question}: a follower was shown what its upstream did not say"
        if not reader.ended:  # cut: it was interrupted
            yield from self._note_closed(stream.question, follower.told_at - gone_at)

    def _note_closed(self, name: str, seconds: float) -> Iterator[str]:
        if seconds < 0:  # a busy machine kept its replica from renewing such a short lease in time
            self.outcomes["lost their lease alive"] += 1
            return
        self.closed_seconds.append(seconds)
        if seconds > LATEST_SECONDS:
            yield f"{name}: was closed after {seconds:.1f} s"

    def _note(self, streams: list[Stream], followers: list[Follower], slept: bool) -> None:
        for stream in streams:
            self.outcomes["streams"] += 1
            self.outcomes["no status"] += not stream.readers and not stream.refused
            self.outcomes["refused"] += bool(stream.refused)
            if stream.refused and not (slept and stream.refused == 503):  # it woke, and its transaction was gone
                self.losses.append(f"{stream.question}: was refused with {stream.refused}")
            self.outcomes["cut"] += bool(stream.readers) and not stream.readers[0].ended
            self.outcomes["resumed"] += len(stream.readers) > 1
            self.shown_bytes += sum(len(reader.body) for reader in stream.readers)
            stream.leave()
        for follower in followers:
            self.outcomes["followers"] += 1
            if follower.reader is not None:
                self.shown_bytes += len(follower.reader.body)
            follower.leave()

    def end(self) -> None:
        """Stop the replicas, and look at how long it took them altogether."""
        self.cluster.stop()
        self.cluster.release()
        if self.closed_seconds and statistics.median(self.closed_seconds) > CLOSED_SECONDS:
            self.losses.append("most abandoned answers were closed late")

    def figures(self) -> str:
        """Return the figures in one line."""
        closed = sorted(self.closed_seconds) or [0.0]
        return (
            f"{dict(self.rounds)} rounds, {dict(self.outcomes)}, {self.shown_bytes} bytes shown, "
            f"{len(self.losses)} losses; abandoned answers were closed after "
            f"{closed[0]:.2f} / {statistics.median(closed):.2f} / {closed[-1]:.2f} s (least / median / most)"
        )


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(
        description="Kill -9 one of two replicas in mid-stream, or put it to sleep past its leases, again and again; "
        "nothing is lost, and no reader waits forever."
    )
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long, whatever --rounds says")
    parser.add_argument("--streams", type=int, default=STREAMS, help="clients in a round (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as upstream:
        campaign = Campaign(Path(folder), upstream, options.seed, options.streams)
        for number in range(options.rounds):
            if time.monotonic() > until:
                break
            campaign.round()
            print(f"{number + 1}: {campaign.figures()}", flush=True)
        campaign.end()
    for loss in campaign.losses:
        print(loss)
    return 1 if campaign.losses else 0


if __name__ == "__main__":
    sys.exit(main())
