"""A campaign of kill -9: `python -m tests.kill_campaign --rounds 200`.

Each round, several clients read answers from one server, which is killed in mid-stream. The server that comes next on
the same file must have every byte that any of them was shown, must have closed what was left running, and must take
the next turn of each session. Prints its figures; the exit status is 1 when a promise was broken.

`Reader`, a client over a bare socket, serves other tests as well.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chatapi.simulator import Chunks, Pause, ReceivedRequest, Script, Send, Simulator, answer, running, scripts
from tests.database_view import VISIBLE_KINDS
from tests.server_process import KEY, Service

READ_SECONDS = 20.0  # a read that takes longer has failed
RECEIVE_BYTES = 64 * 1024
EVENTS = {"Accept": "text/event-stream"}

STREAMS = 6  # in a round, half of them text and half events
PACE_SECONDS = 0.002
KILL_WITHIN_BYTES = 6000  # of what one client is shown; drawn anew for each round
SHORT = "Say something short."
LONG_PART = "Ümläute, 漢字 and 👩‍👩‍👧 families, so that a cut can fall inside a character. "

_CHUNK_HEAD = re.compile(rb"(?:\r\n)?([0-9a-fA-F]+)\r\n")


def said_in(data: dict[str, str]) -> str:
    """What an event appends to its part."""
    return data["arguments"] if "arguments" in data else data["text"]


class Reader:
    """One client over a bare socket: it has every byte of a body the moment that it comes.

    `body` is what it has received so far. `ended` is set by a clean end alone, never by a cut.
    """

    def __init__(
        self,
        url: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self.body = bytearray()
        self.ended = False
        self._wire = bytearray()
        self._left = 0  # bytes of the body that come before the next chunk's head
        self._socket = socket.socket()
        weakref.finalize(self, self._socket.close)  # a test that failed has left it open
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(READ_SECONDS)
        self._socket.connect((address.hostname, address.port))
        self._socket.sendall(_request(address.netloc, path, body, headers or {}))
        self.status, self.headers = self._read_head()

    @classmethod
    def chat(cls, service: Service, text: str = "Hello", *, key: str = KEY, **more: Any) -> Reader:
        """POST /api/chat; a new session unless `session_id` is given. Returns when the status is here."""
        wire = {name: more.pop(name) for name in ("headers", "receive_buffer") if name in more}
        if "session_id" not in more:
            more.setdefault("developer_message", "You are a helpful assistant.")
        return cls(service.url, "/api/chat", {"user_message": text, "api_key": key, **more}, **wire)

    @classmethod
    def resume(cls, service: Service, session_id: str, offset: int = 0, **wire: Any) -> Reader:
        """The session's last answer as text, from `offset` on."""
        return cls(service.url, f"/api/chat/{session_id}/stream?offset={offset}", **wire)

    @classmethod
    def resume_events(cls, service: Service, session_id: str, last_event_id: int = 0) -> Reader:
        """The session's last answer as events, from after `last_event_id` on."""
        headers = EVENTS | {"Last-Event-ID": str(last_event_id)}
        return cls(service.url, f"/api/chat/{session_id}/stream", headers=headers)

    @property
    def session_id(self) -> str:
        return self.headers["x-session-id"]

    @property
    def generation_id(self) -> str:
        return self.headers["x-generation-id"]

    def read_some(self) -> bytes:
        """What comes next of the body; nothing when it has ended, or was cut."""
        some = self._take()
        while not some and not self.ended and self._receive():
            some = self._take()
        self.body += some
        return some

    def read(self, size: int) -> bytes:
        """The first `size` bytes of the body, or all of it; more may have been received."""
        while len(self.body) < size and self.read_some():
            pass
        return bytes(self.body[:size])

    def read_until(self, text: str) -> bytes:
        """The body as received by when it has `text`, or by its end."""
        while text.encode() not in self.body and self.read_some():
            pass
        return bytes(self.body)

    def read_all(self) -> bytes:
        """The body to its end, clean or not."""
        while self.read_some():
            pass
        return bytes(self.body)

    def events(self) -> list[tuple[str, int, Any]]:
        """The whole events among what was received: name, id and data of each."""
        found = []
        for block in self.body.decode(errors="ignore").split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
        return found

    def said(self, *kinds: str) -> str:
        """What was received in events of these kinds, joined."""
        return "".join(said_in(data) for name, _, data in self.events() if name in kinds)

    def leave(self) -> None:
        """Go away without a word."""
        self._socket.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._wire:
            if not self._receive():
                raise ConnectionError("the connection was closed without an answer")
        head, _, rest = bytes(self._wire).partition(b"\r\n\r\n")
        self._wire[:] = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "transfer-encoding" not in headers:
            self._left = int(headers.get("content-length", "0"))
            self.ended = self._left == 0
        return int(first.split(" ")[1]), headers

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        self._wire += data
        return bool(data)

    def _take(self) -> bytes:
        """What the wire has of the body: also the beginning of a chunk, as a client that prints it would."""
        taken = bytearray()
        while self._wire and not self.ended:
            if self._left:
                some = self._wire[: self._left]
                del self._wire[: self._left]
                self._left -= len(some)
                taken += some
                self.ended = self._left == 0 and "transfer-encoding" not in self.headers
            elif found := _CHUNK_HEAD.match(self._wire):
                self._left = int(found[1], 16)
                self.ended = self._left == 0
                del self._wire[: found.end()]
            else:
                break
        return bytes(taken)


def _request(host: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bytes:
    data = json.dumps(body).encode() if body is not None else b""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


# The campaign


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
    """What the campaign's upstream says: as many parts as it is asked for, or something short."""
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
    reader: Reader | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            headers = EVENTS if self.dialect == "events" else {}
            self.reader = Reader.chat(self.service, str(self.parts), headers=headers)
            while len(self.reader.body) < self.kill_at_bytes and self.reader.read_some():
                pass
            self.kill_at.set()
            self.reader.read_all()
        except ConnectionError:  # killed before its status was out
            self.kill_at.set()

    def losses(self) -> Iterator[str]:
        """What this client was shown and the store does not have, or has wrongly; none, if all is well."""
        reader = self.reader
        if reader is None:
            return
        message = self.service.messages(reader.session_id)[1]
        text = bytes(reader.body)
        if self.dialect == "events":
            text = reader.said(*VISIBLE_KINDS).encode()
            if not (message["reasoning"] or "").startswith(reader.said("reasoning")):
                yield f"{reader.generation_id}: reasoning that was shown is not stored"
        if not message["content"].encode().startswith(text):
            yield f"{reader.generation_id}: {len(text)} bytes of text were shown, and are not what is stored"
        if message["status"] not in {"interrupted", "completed"}:
            yield f"{reader.generation_id}: was left {message['status']}"
        if reader.ended and message["status"] != "completed":
            yield f"{reader.generation_id}: ended cleanly, and is {message['status']}"
        if self.service.send(SHORT, session_id=reader.session_id).text != "Something short.":
            yield f"{reader.session_id}: its next turn does not work"


class Campaign:
    """Rounds of kill -9 on one file. `losses` stays empty, or a promise was broken."""

    def __init__(self, folder: Path, upstream: Simulator, seed: int = 0) -> None:
        upstream.script = respond
        self.losses: list[str] = []
        self.ready_seconds: list[float] = []
        self.shown_bytes = 0
        self.outcomes: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._service = Service(folder, upstream.url, CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_GENERATIONS_PER_KEY="0")
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
            )
            for number in range(STREAMS)
        ]
        assert kill_at.wait(READ_SECONDS), "no client was shown enough, and none was cut"
        self._service.kill()
        for stream in streams:
            stream.thread.join(READ_SECONDS)
        begun = time.perf_counter()
        self._service.start()
        self.ready_seconds.append(time.perf_counter() - begun)
        for stream in streams:
            self._note(stream)

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
        """What was done and found, in a line."""
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as upstream:
        campaign = Campaign(Path(folder), upstream, options.seed)
        for number in range(options.rounds):
            campaign.round()
            print(f"{number + 1}: {campaign.figures()}", flush=True)
        campaign.end()
    for loss in campaign.losses:
        print(loss)
    return 1 if campaign.losses else 0


if __name__ == "__main__":
    sys.exit(main())
