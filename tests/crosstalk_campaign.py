"""A campaign of cut clients and restarted databases: `python -m tests.crosstalk_campaign --seconds 300`.

Two hundred sessions have a canary each: words that occur only in their own messages, and that the upstream repeats to
them. Clients of all of them connect through a load balancer to two replicas and are cut at random: within a request,
before the answer, within it; on every route. Meanwhile PostgreSQL and Redis are stopped, killed and restarted.

No answer may contain another session's canary or id, and the upstream may not receive one. While only a database is
away, no client may get a 401 or a 404. A replica is ready as soon as PostgreSQL is, without a restart. Afterwards every
session works, and every key can run as many answers as its limit allows. Prints its figures; the exit status is 1 if a
promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from chatapi.model import new_id
from chatapi.simulator import Chunks, Gate, Pause, ReceivedRequest, Script, Send, Simulator, Wait, running, scripts
from tests.cluster import Cluster
from tests.databases import Postgres, Redis
from tests.reader import Reader
from tests.server_process import Service, fresh_key

SESSIONS = 200
KEYS = 20  # that have the sessions between them
SLOTS = 6  # running answers that a key may have
WORKERS = 40
OFTEN = 5  # workers each of which may be uncut: see `_cut`
PIECES = 25  # of an answer, each with the canary
PACE_SECONDS = 0.02
ANSWER_SECONDS = 40.0  # the longest that anything may take
DOWN_SECONDS = 0.7  # for which a database is away
PEACE_SECONDS = 1.0  # between outages
READY_SECONDS = 5.0  # from PostgreSQL's start until a replica is ready
HOLD = "hold"
QUICK = "quickly"
AT_ONCE = 16  # requests that look at everything in the end
CANARY = re.compile(rb"canary-(\d+)-[0-9a-f]{8}")
ID = re.compile(rb"(?:ses|gen|msg)_[0-9A-Za-z_-]{%d}" % (len(new_id("ses")) - 4))
RIGHT = {200, 204, 409, 416, 429, 503}
OUTAGES = ("PostgreSQL stopped", "Redis stopped", "PostgreSQL killed", "Redis killed")
HEAD_END = b"\r\n\r\n"


@dataclass(eq=False)
class Session:
    """A conversation and its canary."""

    number: int
    key: str
    canary: str
    id: str = ""
    gone: bool = False  # a client has requested its deletion

    @property
    def answer(self) -> str:
        """The complete text of its answers."""
        return f"{self.canary} sings. " * PIECES


class Cut(NamedTuple):
    """When a client goes away: having sent so many bytes, or received so many, or after so long."""

    sent: int | None = None
    received: float = float("inf")
    seconds: float = ANSWER_SECONDS
    reset: bool = False

    @property
    def is_one(self) -> bool:
        return self != Cut()


@dataclass
class Answer:
    """The bytes that a client received, whole or not."""

    raw: bytes
    whole: bool
    head: bytes = field(init=False)
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.head, _, body = self.raw.partition(HEAD_END)
        self.body = b"".join(_chunks(body)) if b"transfer-encoding: chunked" in self.head.lower() else body

    @property
    def status(self) -> int | None:
        return int(self.head.split(b" ", 2)[1]) if HEAD_END in self.raw else None


def _chunks(body: bytes) -> Iterator[bytes]:
    """The chunks' contents, as far as they came."""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        body = rest[length + 2 :]


class Upstream:
    """The campaign's upstream: it answers with the canary of the request, and records requests with more than one."""

    def __init__(self) -> None:
        self.losses: list[str] = []
        self.keys: dict[int, str] = {}  # by canary
        self.gate = Gate()

    def __call__(self, request: ReceivedRequest) -> Script:
        found = set(CANARY.finditer(request.raw))
        canaries = {match[0].decode() for match in found}
        if len(canaries) != 1:
            self.losses.append(f"the upstream was sent these canaries in one request: {canaries}")
        number = int(next(iter(found))[1])
        if request.headers["Authorization"] != f"Bearer {self.keys[number]}":
            self.losses.append(f"the upstream was sent the canary {number} with another's key")
        chunks, canary = Chunks(), canaries.pop()
        piece = Send(chunks.content(f"{canary} sings. "))
        steps: list[Send | Pause | Wait] = [Send(chunks.role())]
        if request.body["messages"][-1]["content"].startswith(HOLD):
            steps += [piece, Wait(self.gate), *[piece] * (PIECES - 1)]
        else:
            quick = request.body["messages"][-1]["content"].startswith(QUICK)
            steps += [Pause(0 if quick else PACE_SECONDS), piece] * PIECES
        return scripts.event_stream(*steps, Send(chunks.finish("stop")), Send(b"data: [DONE]\n\n"))


class Campaign:
    """Clients, cuts and outages on one cluster. `losses` stays empty, or a promise was broken."""

    def __init__(
        self,
        folder: Path,
        simulator: Simulator,
        seed: int = 0,
        *,
        sessions: int = SESSIONS,
        workers: int = WORKERS,
        peace_seconds: float = PEACE_SECONDS,
    ) -> None:
        self._number_of_sessions, self._workers, self._peace_seconds = sessions, workers, peace_seconds
        self.losses: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.outages: Counter[str] = Counter()
        self.ready_seconds: list[float] = []
        self._random = random.Random(seed)
        self._upstream = Upstream()
        simulator.script = self._upstream
        self._keys = [fresh_key(f"crosstalk {number} {secrets.token_hex(16)}") for number in range(KEYS)]
        self._sessions: list[Session] = []
        self._by_canary: dict[bytes, Session] = {}
        self._of_id: dict[bytes, Session] = {}
        self.postgres, self.redis = Postgres(), Redis()
        self.cluster = Cluster(
            folder,
            simulator.url,
            DATABASE_URL=self.postgres.new_database(),
            REDIS_URL=self.redis.url,
            CHATAPI_RATE_LIMIT="1000000",
            CHATAPI_MAX_GENERATIONS_PER_KEY=str(SLOTS),
            CHATAPI_SESSION_ACCESS="key",
            CHATAPI_LEASE_SECONDS="10",
        )
        self.cluster.start()
        address = urlsplit(self.cluster.url)
        self._host, self._port = address.hostname, address.port

    # The run

    def run(self, seconds: float, cuts: int) -> None:
        """Cut so many clients, for so long at least."""
        asyncio.run(self._run(seconds, cuts))
        self.losses += self._upstream.losses

    async def _run(self, seconds: float, cuts: int) -> None:
        for _ in range(self._number_of_sessions // AT_ONCE + 1):
            self._sessions += await asyncio.gather(*(self._new_session() for _ in range(AT_ONCE)))
        until = time.monotonic() + seconds
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._workers):
                tasks.create_task(self._work(over, number % OFTEN == 0))
            outages = tasks.create_task(self._break(over))
            while time.monotonic() < until or sum(self.cuts.values()) < cuts:
                await asyncio.sleep(min(1.0, seconds / 4))
                if outages.done():
                    break
                print(self.figures(), flush=True)
            over.set()
        await self._check_sessions()
        await self._check_lists()
        left = self.cluster.database.rows("SELECT id FROM generation WHERE status = 'running'")
        self.losses += [f"{generation_id}: was left running" for (generation_id,) in left]
        await asyncio.to_thread(self._check_slots)

    async def _work(self, over: asyncio.Event, patient: bool) -> None:
        """One client after the other; those of a patient worker are sometimes not cut."""
        while not over.is_set():
            place = self._random.randrange(len(self._sessions))
            session = self._sessions[place]
            method, path, body, headers = self._some_request(session)
            if method == "DELETE":
                session.gone = True
                self._sessions[place] = await self._new_session()
            cut = Cut() if patient and self._random.random() < 0.5 else self._some_cut()
            what = f"{method} {re.sub(session.id, '…', path).partition('?')[0]}"
            if cut.is_one:
                self.cuts[what] += 1
            await self._ask(session, method, path, body, headers, cut)

    def _some_request(self, session: Session) -> tuple[str, str, Any, dict[str, str]]:
        chance, of = self._random.random(), f"/api/sessions/{session.id}"
        if chance < 0.35:
            body = {
                "user_message": f"Sing, {session.canary}",
                "session_id": session.id,
                "if_busy": self._random.choice(["reject", "interrupt"]),
                "on_disconnect": self._random.choice(["continue", "cancel"]),
                "stream": self._random.random() < 0.8,
            }
            return "POST", "/api/chat", body, self._random.choice([{}, {"Accept": "text/event-stream"}])
        if chance < 0.55:
            return "GET", f"/api/chat/{session.id}/stream", None, self._random.choice([{}, {"Accept": "text/plain"}])
        if chance < 0.70:
            return "GET", f"{of}/messages?limit=100", None, {}
        if chance < 0.78:
            return "GET", "/api/sessions?limit=100", None, {}
        if chance < 0.84:
            return "GET", of, None, {}
        if chance < 0.91:
            return "PATCH", of, {"title": session.canary, "metadata": {"of": session.canary}}, {}
        if chance < 0.98:
            return "POST", f"/api/chat/{session.id}/stop", None, {}
        return "DELETE", of, None, {}

    def _some_cut(self) -> Cut:
        reset = self._random.random() < 0.5
        kind = self._random.randrange(3)
        if kind == 0:
            return Cut(sent=self._random.randrange(400), reset=reset)
        if kind == 1:
            return Cut(received=self._random.randrange(1, 2000), reset=reset)
        return Cut(seconds=self._random.choice([0.002, 0.01, 0.05, 0.3]) * self._random.random(), reset=reset)

    # One request

    async def _new_session(self) -> Session:
        """A session, made as soon as that is possible."""
        number = len(self._by_canary)
        session = Session(number, self._keys[number % KEYS], f"canary-{number}-{secrets.token_hex(4)}")
        self._by_canary[session.canary.encode()] = session
        self._upstream.keys[number] = session.key
        while True:
            body = {"developer_message": f"You are {session.canary}"}
            answer = await self._ask(session, "POST", "/api/sessions", body, {}, Cut())
            if answer.status == 200:
                session.id = json.loads(answer.body)["session_id"]
                return session
            await asyncio.sleep(0.1)  # as Retry-After asks, and a little sooner

    async def _ask(
        self, session: Session, method: str, path: str, body: Any, headers: dict[str, str], cut: Cut
    ) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {session.key}"]
        lines += ["Connection: close", f"Content-Length: {len(data)}"]
        lines += ["Content-Type: application/json"] if data else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        answer = await self._exchange("\r\n".join(lines).encode() + HEAD_END + data, cut)
        self._look(session, f"{method} {path}", answer, cut)
        return answer

    async def _exchange(self, request: bytes, cut: Cut) -> Answer:
        received, whole = bytearray(), False
        reads, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.timeout(cut.seconds):
                writer.write(request[: cut.sent])
                await writer.drain()
                if cut.sent is None or cut.sent >= len(request):
                    while len(received) < cut.received and not whole:
                        data = await reads.read(4096)
                        received += data
                        whole = not data
        except (TimeoutError, OSError):
            pass
        finally:
            if cut.reset:
                writer.transport.abort()
            else:
                writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return Answer(bytes(received), whole)

    def _look(self, session: Session, what: str, answer: Answer, cut: Cut) -> None:
        """Record the faults of an answer, or of the part of it that arrived."""
        is_list = what.startswith("GET /api/sessions?")
        for found in CANARY.finditer(answer.head + answer.body):
            self._belongs(session, self._by_canary.get(found[0]), is_list, what, found[0])
        for found in ID.finditer(answer.head + answer.body):
            owner = self._of_id.get(found[0])
            if owner is None and not is_list:
                owner = self._of_id[found[0]] = session
            if owner is not None:
                self._belongs(session, owner, is_list, what, found[0])
        status = answer.status
        if status is None:
            if not cut.is_one:
                self.losses.append(f"{what}: no answer came ({len(answer.raw)} bytes)")
            return
        self.statuses[str(status)] += 1
        text = answer.body.decode(errors="replace")
        if status not in RIGHT and not (status == 404 and session.gone):
            self.losses.append(f"{what}: {status} {text[:200]}")
        if status == 503 and b"retry-after" not in answer.head.lower():
            self.losses.append(f"{what}: 503 without Retry-After")
        if status == 200 and b"text/plain" in answer.head and not session.answer.encode().startswith(answer.body):
            self.losses.append(f"{what}: {text[:200]}")

    def _belongs(self, asker: Session, owner: Session | None, is_list: bool, what: str, found: bytes) -> None:
        if owner is asker or (is_list and owner is not None and owner.key == asker.key):
            return
        self.losses.append(f"{what} of session {asker.number} shows {found!r} of {owner and owner.number}")

    # Outages

    async def _break(self, over: asyncio.Event) -> None:
        """One outage after the other, in turns."""
        while not over.is_set():
            for what in OUTAGES:
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), self._peace_seconds)
                if over.is_set() and sum(self.outages.values()) >= len(OUTAGES):
                    return
                self.outages[what] += 1
                server = self.postgres if what.startswith("PostgreSQL") else self.redis
                await asyncio.to_thread(server.stop if what.endswith("stopped") else server.kill)
                ready = await self._ready_for(DOWN_SECONDS)
                if server is self.postgres and any(ready):
                    self.losses.append(f"{what}: a replica says that it is ready")
                if server is self.redis and not all(ready):
                    self.losses.append(f"{what}: a replica says that it is not ready")
                await asyncio.to_thread(server.start)
                await self._await_ready(what)

    async def _await_ready(self, what: str) -> None:
        begun = time.monotonic()
        while not all([await asyncio.to_thread(_is_ready, replica) for replica in self.cluster.replicas]):
            if time.monotonic() > begun + READY_SECONDS:
                self.losses.append(f"{what}: not ready again after {READY_SECONDS} s")
                return
            await asyncio.sleep(0.02)
        self.ready_seconds.append(time.monotonic() - begun)

    async def _ready_for(self, seconds: float) -> list[bool]:
        """Watch the readiness of the replicas for this many seconds."""
        until, said = time.monotonic() + seconds, []
        while time.monotonic() < until:
            said += [await asyncio.to_thread(_is_ready, replica) for replica in self.cluster.replicas]
            await asyncio.sleep(0.1)
        return said

    # Afterwards

    async def _check_sessions(self) -> None:
        """Take a turn in every session, and check all of its answer."""
        waiting = list(self._sessions)

        async def check() -> None:
            while waiting:
                session = waiting.pop()
                await self._check_session(session)

        await asyncio.gather(*(check() for _ in range(AT_ONCE)))

    async def _check_session(self, session: Session) -> None:
        body = {"user_message": f"{QUICK}, {session.canary}", "session_id": session.id, "if_busy": "interrupt"}
        until = time.monotonic() + ANSWER_SECONDS
        while (answer := await self._ask(session, "POST", "/api/chat", body, {}, Cut())).status == 429:
            if time.monotonic() > until:
                break  # the running answers of its key do not end
            await asyncio.sleep(0.1)
        if answer.body.decode() != session.answer:
            self.losses.append(f"session {session.number} does not work: {answer.raw[:300]!r}")
        path = f"/api/sessions/{session.id}/messages?limit=100"
        messages = (await self._ask(session, "GET", path, None, {}, Cut())).body
        for message in json.loads(messages)["data"]:
            if message["role"] == "assistant" and not session.answer.startswith(message["content"]):
                self.losses.append(f"session {session.number} has stored: {message['content'][:200]}")

    async def _check_lists(self) -> None:
        for key in self._keys:
            ours = {session.id: session for session in self._sessions if session.key == key}
            path: str | None = "/api/sessions?limit=100"
            asker = next(iter(ours.values()))
            while path:
                page = json.loads((await self._ask(asker, "GET", path, None, {}, Cut())).body)
                for shown in page["data"]:
                    ours.pop(shown["session_id"], None)
                path = f"/api/sessions?limit=100&cursor={page['next_cursor']}" if page["next_cursor"] else None
            self.losses += [f"session {session.number} is not in its owner's list" for session in ours.values()]

    def _check_slots(self) -> None:
        """Every key can run as many answers as it may, and no more."""
        for replica in self.cluster.replicas:
            self._await_shared_counts(replica)
        threads = [threading.Thread(target=self._check_slots_of, args=(key,), daemon=True) for key in self._keys[:5]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(ANSWER_SECONDS)
        self._upstream.gate.open()

    def _await_shared_counts(self, replica: Service) -> None:
        """Wait until a replica counts in Redis, which it leaves alone for a second after each failure."""
        canary, session = next(iter(self._by_canary.items()))
        body = {"developer_message": "", "user_message": f"{QUICK}, {canary.decode()}"}
        headers = {"Authorization": f"Bearer {session.key}"}
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            before = self.redis.scripts_run()
            sent = requests.post(f"{replica.url}/api/chat", json=body, headers=headers, timeout=ANSWER_SECONDS)
            sent.raise_for_status()
            if self.redis.scripts_run() >= before + 2:  # for the request and for its slot
                return
            time.sleep(0.1)
        self.losses.append(f"a replica does not count in Redis {READY_SECONDS} s after the outages")

    def _check_slots_of(self, key: str) -> None:
        canary = next(session.canary for session in self._by_canary.values() if session.key == key)
        readers = [Reader.chat(self.cluster, f"{HOLD}, {canary}", key=key) for _ in range(SLOTS + 1)]
        statuses = [reader.status for reader in readers]
        if statuses != [200] * SLOTS + [429]:
            self.losses.append(f"a key that may run {SLOTS} answers got {statuses}")
        for reader in readers:
            reader.leave()

    def end(self) -> None:
        """Stop everything."""
        self.cluster.stop()
        self.postgres.remove()
        self.redis.remove()

    def figures(self) -> str:
        """Return the figures in one line."""
        ready = sorted(self.ready_seconds) or [0.0]
        return (
            f"{sum(self.cuts.values())} clients cut ({dict(self.cuts)}), "
            f"answers {dict(sorted(self.statuses.items()))}, "
            f"outages {dict(self.outages)}, ready again after {ready[0]:.2f} to {ready[-1]:.2f} s, "
            f"{len(self.losses) + len(self._upstream.losses)} losses"
        )


def _is_ready(replica: Service) -> bool:
    return requests.get(f"{replica.url}/api/health", timeout=ANSWER_SECONDS).status_code == 200


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(
        description="Cut clients at random while PostgreSQL and Redis restart; no client is shown another's text."
    )
    parser.add_argument("--rounds", type=int, default=10_000, help="clients to cut (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="how long at least (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as simulator:
        campaign = Campaign(Path(folder), simulator, options.seed)
        campaign.run(options.seconds, options.rounds)
        campaign.end()
    print(campaign.figures())
    for loss in campaign.losses:
        print(loss)
    return 1 if campaign.losses else 0


if __name__ == "__main__":
    sys.exit(main())
