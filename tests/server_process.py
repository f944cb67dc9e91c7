"""The service as its users run it: `python app.py` in a process of its own, reached over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

import requests

from tests.contract import contract
from tests.database_view import Database, database_of
from tests.fork_server import ForkedProcess, fork_server

PROJECT = Path(__file__).resolve().parent.parent
KEY = "sk-proj-" + "A1b2C3d4_-" * 15 + "tester"
OTHER_KEY = "sk-proj-" + "Z9y8X7w6_-" * 15 + "others"
START_SECONDS = 60  # a start takes 0.1 s, or 2 s in an interpreter of its own; more on a machine that is busy
END_SECONDS = 60
COMMAND_SECONDS = 60
REQUEST_SECONDS = 30
UNPREFIXED_SETTINGS = (
    *("HOST", "PORT", "DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_UPSTREAM_API", "OPENAI_API_KEY"),
    "LOG_LEVEL",
)
SECRETS = [KEY, OTHER_KEY]  # which no output may contain; tests add their own
STARTED: WeakSet[Service] = WeakSet()  # servers whose logs are excerpted in the report of a test that fails

assert len(KEY) == len(OTHER_KEY) == 164


def environment_without_settings() -> dict[str, str]:
    """Return the environment of the tests without the settings of a server."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in UNPREFIXED_SETTINGS and not name.startswith("CHATAPI_")
    }


def run_command(
    *arguments: str, cwd: Path, settings: Mapping[str, str] = MappingProxyType({}), forked: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python -m chatapi` with these arguments and settings to its end; return its exit status and its output."""
    command = ["-m", "chatapi", *arguments]
    env = environment_without_settings() | {"PYTHONPATH": str(PROJECT), **settings}
    if forked:
        return fork_server().run(command, env=env, cwd=cwd, timeout=COMMAND_SECONDS)
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def start_command(*arguments: str, cwd: Path) -> ForkedProcess:
    """Start `python -m chatapi` with these arguments and no settings; its standard error is a pipe."""
    return fork_server().start(["-m", "chatapi", *arguments], env=environment_without_settings(), cwd=cwd)


class Service:
    """A server process: its address, its log, its database, and requests to it.

    It is forked from a process that has imported the service (`tests.fork_server`), unless `forked` is False or the
    command has a `prefix`: then it is an interpreter of its own.
    """

    def __init__(
        self,
        folder: Path,
        upstream_url: str,
        *,
        prefix: tuple[str, ...] = (),
        forked: bool = True,
        **environment: str,
    ) -> None:
        self.folder = folder
        self.environment = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "DATABASE_URL": f"sqlite:///{folder}/chat.db",
            "OPENAI_BASE_URL": upstream_url,
            "CHATAPI_LOG_FORMAT": "json",
            "CHATAPI_REQUEST_LIMIT": "0",  # all tests of a server have one address, and most of their keys are new
            "CHATAPI_UNVERIFIED_LIMIT": "0",
            **environment,
        }
        self._prefix = prefix
        self._forked = forked and not prefix
        self.url = ""
        self.log: list[str] = []
        self._ended = False
        self._log_grew = threading.Condition()
        self._process: subprocess.Popen[str] | ForkedProcess | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> Service:
        """Start the server; return when it serves."""
        STARTED.add(self)
        self._process = self._launch()
        seen = len(self.log)
        self.url = ""
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        self.url = self.wait_for_log("serving", START_SECONDS, seen, pid=self.pid)["url"]
        return self

    def _launch(self) -> subprocess.Popen[str] | ForkedProcess:
        app = str(PROJECT / "app.py")
        env = environment_without_settings() | self.environment
        if self._forked:
            return fork_server().start([app], env=env, cwd=self.folder)
        return subprocess.Popen(
            [*self._prefix, sys.executable, app],
            cwd=self.folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _read_log(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._log_grew:
                self.log.append(line)
                self._log_grew.notify_all()
        with self._log_grew:
            self._ended = True
            self._log_grew.notify_all()

    def wait_for_log(self, event: str, seconds: float = 30, seen: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line after the first `seen` lines with this event and these fields; return the first."""

        def find() -> dict[str, Any] | None:
            for line in self.log[seen:]:
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("event") == event and fields.items() <= entry.items():
                    return dict(entry)
            assert not self._ended, "it ended:\n" + "".join(self.log)
            return None

        with self._log_grew:
            found = self._log_grew.wait_for(find, seconds)
        assert found, f"no {event} {fields} in the log:\n" + "".join(self.log)
        return found

    @property
    def database(self) -> Database:
        """Its database, seen from outside."""
        return database_of(self.environment["DATABASE_URL"])

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end; return the exit status."""
        assert self._process is not None
        assert self._reader is not None
        status = self._process.wait(seconds)
        self._reader.join(seconds)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Stop it as an operator does, without waiting for running answers; check its output; return the exit status.

        Raises:
            AssertionError: its output contains a key.
        """
        assert self._process is not None
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            if self.url:  # one that never served ends at the first signal
                self.wait_for_log("draining", END_SECONDS, pid=self.pid)  # two signals that come together are one
                self.signal(signal.SIGTERM)  # the second one ends the drain
        status = self.wait()
        self.check_no_secret()
        return status

    def release(self) -> None:
        """Leave to other tests what it had from them. It is stopped, and nothing looks at its database any more."""

    def check_no_secret(self) -> None:
        """Check that no key is in the log, in the database, or in any file beside it."""
        texts = {"the log": "".join(self.log).encode()}
        texts |= {str(file): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}
        for where, text in texts.items():
            for secret in SECRETS:
                assert secret.encode() not in text, f"a key is in {where}"

    # Requests of users

    def send(self, text: str = "Hello", *, key: str = KEY, **more: Any) -> requests.Response:
        """POST /api/chat, streamed; in a new session unless `session_id` is given."""
        headers = more.pop("headers", {})
        body = {"user_message": text, "api_key": key, **more}
        if "session_id" not in body:
            body.setdefault("developer_message", "You are a helpful assistant.")
        response = _request("POST", f"{self.url}/api/chat", json=body, headers=headers, stream=True)
        contract().check(response, body="json" in response.headers.get("content-type", ""))
        return response

    def get(self, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """GET, with the key as a bearer token if one is given."""
        return self._request("GET", path, key, **more)

    def post(self, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """POST."""
        return self._request("POST", path, key, **more)

    def patch(self, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """PATCH."""
        return self._request("PATCH", path, key, **more)

    def delete(self, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """DELETE."""
        return self._request("DELETE", path, key, **more)

    def _request(self, method: str, path: str, key: str | None, **more: Any) -> requests.Response:
        headers = more.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        response = _request(method, self.url + path, headers=headers, **more)
        contract().check(response, body=not more.get("stream", False))
        return response

    def messages(self, session_id: str, *, key: str | None = None) -> list[dict[str, Any]]:
        """Return the active path of the session, up to 100 messages."""
        answer = self.get(f"/api/sessions/{session_id}/messages?limit=100", key=key)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


def _request(method: str, url: str, **options: Any) -> requests.Response:
    """Send a request as `requests.request` does, but without a search for proxies in the environment."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=REQUEST_SECONDS, **options)


Serve = Callable[..., Service]


def fresh_key(name: str) -> str:
    """Return a key that no other test uses."""
    key = "sk-proj-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[-150:].ljust(156, "_")
    SECRETS.append(key)
    return key


def events(response: requests.Response) -> list[tuple[str, int, Any]]:
    """Read an event stream to its end; return the name, the id and the data of each event."""
    contract().check(response)
    found = []
    for block in response.content.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found
