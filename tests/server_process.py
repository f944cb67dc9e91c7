"""The service as its users have it: `python app.py` in a process of its own, reached over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.database_view import Database, database_of

PROJECT = Path(__file__).resolve().parent.parent
KEY = "sk-proj-" + "A1b2C3d4_-" * 15 + "tester"
OTHER_KEY = "sk-proj-" + "Z9y8X7w6_-" * 15 + "others"
START_SECONDS = 60  # a start takes one; and several on a machine that is busy with other tests
END_SECONDS = 60
OURS = ("HOST", "PORT", "DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "LOG_LEVEL")
SECRETS = [KEY, OTHER_KEY]  # what no output may ever hold; tests add theirs

assert len(KEY) == len(OTHER_KEY) == 164


class Service:
    """One server process, its address, and what it has written to its log."""

    def __init__(self, folder: Path, upstream_url: str, *, prefix: tuple[str, ...] = (), **environment: str) -> None:
        self.folder = folder
        self.environment = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "DATABASE_URL": f"sqlite:///{folder}/chat.db",
            "OPENAI_BASE_URL": upstream_url,
            "CHATAPI_LOG_FORMAT": "json",
            **environment,
        }
        self._prefix = prefix
        self.url = ""
        self.log: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> Service:
        """Start, and return when it serves."""
        inherited = {
            name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("CHATAPI_")
        }
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, str(PROJECT / "app.py")],
            cwd=self.folder,
            env=inherited | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seen = len(self.log)
        self.url = ""
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        self.url = self.wait_for_log("serving", START_SECONDS, seen, pid=self.pid)["url"]
        return self

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._news:
                self.log.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for_log(self, event: str, seconds: float = 30, seen: int = 0, **fields: Any) -> dict[str, Any]:
        """The first log line past `seen` with this event and these fields, when it has come."""

        def find() -> dict[str, Any] | None:
            for line in self.log[seen:]:
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("event") == event and fields.items() <= entry.items():
                    return dict(entry)
            assert not self._ended, "it ended:\n" + "".join(self.log)
            return None

        with self._news:
            found = self._news.wait_for(find, seconds)
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
        """Wait for its end; the exit status."""
        assert self._process is not None
        assert self._reader is not None
        status = self._process.wait(seconds)
        self._reader.join(seconds)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """End it as an operator does, and check what it has written on the way."""
        assert self._process is not None
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            if self.url:  # one that never served ends at the first
                self.wait_for_log("draining", END_SECONDS, pid=self.pid)  # two signals that come together are one
                self.signal(signal.SIGTERM)  # at once
        status = self.wait()
        self.check_no_secret()
        return status

    def check_no_secret(self) -> None:
        """No key is in the log, in the database, or in any file beside it."""
        texts = {"the log": "".join(self.log).encode()}
        texts |= {str(file): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}
        for where, text in texts.items():
            for secret in SECRETS:
                assert secret.encode() not in text, f"a key is in {where}"

    # What users do

    def send(self, text: str = "Hello", *, key: str = KEY, **more: Any) -> requests.Response:
        """POST /api/chat, streamed; a new session unless `session_id` is given."""
        headers = more.pop("headers", {})
        body = {"user_message": text, "api_key": key, **more}
        if "session_id" not in body:
            body.setdefault("developer_message", "You are a helpful assistant.")
        return requests.post(f"{self.url}/api/chat", json=body, headers=headers, stream=True, timeout=30)

    def get(self, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """GET, with the key as a bearer token where one is given."""
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
        return requests.request(method, self.url + path, headers=headers, timeout=30, **more)

    def messages(self, session_id: str, *, key: str | None = None) -> list[dict[str, Any]]:
        """The whole conversation."""
        answer = self.get(f"/api/sessions/{session_id}/messages?limit=100", key=key)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


Serve = Callable[..., Service]


def fresh_key(name: str) -> str:
    """A key that no other test uses."""
    key = "sk-proj-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[-150:].ljust(156, "_")
    SECRETS.append(key)
    return key


def events(response: requests.Response) -> list[tuple[str, int, Any]]:
    """An event stream, read to its end: name, id and data of each event."""
    found = []
    for block in response.content.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found
