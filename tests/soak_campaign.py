"""Mixed load for a long time: `python -m tests.soak_campaign --minutes 10`.

Clients of forty keys do in random order everything that clients do: they chat, leave in mid-stream, stop, delete and
search; through `/api/chat`, OpenAI's completions and Responses, and WebSockets; and ask for what does not exist.

The service's memory must stay within a tenth of its size after a quarter of the time. At the end no answer runs, and
of the connections, only those to the upstream are kept. Prints its figures; the exit status is 1 if it did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import requests
from websockets.sync.client import connect

from chatapi.simulator import Simulator, running
from tests.server_process import Service, fresh_key
from tests.waiting import wait_for

MINUTES = 10.0
CLIENTS = 6
KEYS = 40
SAMPLE_SECONDS = 0.2
SAMPLES_PER_LINE = 150
KEPT_FILES = 2 * CLIENTS  # connections to the upstream, and to the database for reads
GROWTH = 1.1  # most, of the memory after a quarter of the time
PACE_SECONDS = 0.001  # between the chunks of the upstream, so that clients leave in mid-stream
LOG_LINES = 1000  # kept of the service
MODEL = "gpt-4.1-mini"
RUNNING, OPEN_REQUESTS = "chatapi_running_answers", "chatapi_open_requests"


class Client:
    """One client, with the last session of each key."""

    def __init__(self, service: Service, keys: list[str], seed: int) -> None:
        self._service = service
        self._keys = keys
        self._random = random.Random(seed)
        self._http = requests.Session()
        self._sessions: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self._steps: list[Callable[[str], object]] = [
            *(self._chat, self._chat, self._chat, self._complete, self._respond, self._respond_on_websocket),
            *(self._list, self._read, self._search, self._stop, self._delete, self._miss),
        ]

    def run(self, ends: float) -> None:
        """Do one step after the other until this time."""
        while time.monotonic() < ends:
            step = self._random.choice(self._steps)
            step(self._random.choice(self._keys))
            self.done[step.__name__.strip("_")] += 1
        self._http.close()

    def _ask(self, method: str, path: str, key: str, body: object = None, *, leaves: float = 0.0) -> requests.Response:
        """Send a request and read its response: whole, or the beginning, with the probability `leaves`."""
        headers = {"Authorization": f"Bearer {key}"}
        with self._http.request(
            method, self._service.url + path, json=body, headers=headers, stream=True, timeout=60
        ) as response:
            assert response.status_code < 500, response.text
            if self._random.random() < leaves:
                next(response.iter_content(5), None)
            else:
                assert response.content is not None
            return response

    def _chat(self, key: str) -> None:
        body = {"user_message": f"count to {self._random.randrange(1, 60)}", "api_key": key}
        if key in self._sessions and self._random.random() < 0.7:
            body["session_id"] = self._sessions[key]
        response = self._ask("POST", "/api/chat", key, body, leaves=0.4)
        if response.ok:
            self._sessions[key] = response.headers["X-Session-ID"]

    def _complete(self, key: str) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "count to 30"}], "stream": True}
        self._ask("POST", "/v1/chat/completions", key, body, leaves=0.5)

    def _respond(self, key: str) -> None:
        stream, store = self._random.random() < 0.5, self._random.random() < 0.5
        body = {"model": MODEL, "input": "count to 9", "stream": stream, "store": store}
        self._ask("POST", "/v1/responses", key, body, leaves=0.2)

    def _respond_on_websocket(self, key: str) -> None:
        address = self._service.url.replace("http", "ws", 1) + "/v1/responses"
        with connect(address, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            socket.send(json.dumps({"type": "response.create", "model": MODEL, "input": "count to 9"}))
            for message in socket:
                if '"response.completed"' in message or self._random.random() < 0.1:
                    break

    def _list(self, key: str) -> None:
        self._ask("GET", "/api/sessions", key)

    def _search(self, key: str) -> None:
        self._ask("GET", "/api/search?q=count", key)

    def _miss(self, key: str) -> None:
        self._ask("GET", f"/nowhere/{self._random.randrange(10**9)}", key)

    def _read(self, key: str) -> None:
        self._ask("GET", f"/api/sessions/{self._session_of(key)}/messages", key)

    def _stop(self, key: str) -> None:
        self._ask("POST", f"/api/chat/{self._session_of(key)}/stop", key)

    def _delete(self, key: str) -> None:
        self._ask("DELETE", f"/api/sessions/{self._session_of(key)}", key)
        self._sessions.pop(key, None)

    def _session_of(self, key: str) -> str:
        return self._sessions.get(key, "ses_none")


class Soak:
    """The load on one service, and the service's use of memory and files."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._memory: list[float] = []  # MiB, one sample every `SAMPLE_SECONDS`
        self._files = (0, 0)  # open before and after
        self._clients: list[Client] = []
        self.losses: list[str] = []

    def run(self, minutes: float, seed: int) -> None:
        """Run the load, and then look for its remains."""
        warm = Client(self._service, [fresh_key("warm")], seed)  # routes and modules that are imported late
        for step in warm._steps:
            step(fresh_key("warm"))
        self._wait_for_rest()
        before = self._open_files()
        ends = time.monotonic() + 60 * minutes
        keys = [fresh_key(f"soak-{number}") for number in range(KEYS)]
        self._clients = [Client(self._service, keys, seed + number) for number in range(CLIENTS)]
        threads = [threading.Thread(target=self._run_client, args=(client, ends)) for client in self._clients]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(SAMPLE_SECONDS)
            self._memory.append(self._resident_mib())
            del self._service.log[:-LOG_LINES]
            if len(self._memory) % SAMPLES_PER_LINE == 0:
                print(self.figures(), flush=True)
        self._wait_for_rest()
        self._files = before, self._open_files()
        if self._files[1] > self._files[0] + KEPT_FILES:
            self.losses.append(f"open files: {self._files[0]} before, {self._files[1]} after")
        early, late = self._early_and_late()
        if late > GROWTH * early:
            self.losses.append(f"memory: {early:.1f} MiB after a quarter of the time, {late:.1f} MiB at the end")

    def figures(self) -> str:
        """Return the figures of the load in one line."""
        done = sum((client.done for client in self._clients), Counter[str]())
        early, late = self._early_and_late()
        files = "{} open files before, {} after".format(*self._files)
        return f"{done.total()} steps {dict(done)}; {early:.1f} MiB early, {late:.1f} MiB late; {files}"

    def _run_client(self, client: Client, ends: float) -> None:
        try:
            client.run(ends)
        except (AssertionError, OSError) as error:
            self.losses.append(f"{type(error).__name__}: {error}")

    def _wait_for_rest(self) -> None:
        """Return when no answer runs and no request but this one is open."""

        def rests() -> bool:
            metrics = requests.get(f"{self._service.url}/metrics", timeout=60).text
            return f"{RUNNING} 0.0" in metrics and f"{OPEN_REQUESTS} 1.0" in metrics

        wait_for(rests)

    def _open_files(self) -> int:
        return len(os.listdir(f"/proc/{self._service.pid}/fd"))

    def _resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self._service.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _early_and_late(self) -> tuple[float, float]:
        """Return the memory in the second and in the last eighth of the load, in MiB."""
        eighth = max(1, len(self._memory) // 8)
        samples = self._memory or [0.0]
        return median(samples[eighth : 2 * eighth] or samples), median(samples[-eighth:])


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(
        description="Mixed load for a long time: the service's memory does not grow, and no file or answer stays open."
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="default: %(default)g")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Simulator(pace_seconds=PACE_SECONDS)) as simulator:
        service = Service(Path(folder), simulator.url, CHATAPI_RATE_LIMIT="0", CHATAPI_METRICS="on")
        service.start()
        soak = Soak(service)
        soak.run(options.minutes, options.seed)
        if service.stop() != 0:
            soak.losses.append("the service did not end with status 0")
    print(soak.figures())
    for loss in soak.losses:
        print(loss)
    return 1 if soak.losses else 0


if __name__ == "__main__":
    sys.exit(main())
