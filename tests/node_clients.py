"""Clients from npm: one Node process for each script of `tests/node`, with as many clients as the tests open."""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import subprocess
import threading
from functools import cache
from typing import Any, Self

from tests.server_process import PROJECT

FOLDER = PROJECT / "tests/node"
TYPESCRIPT = FOLDER / "node_modules/typescript-7/bin/tsc"  # native; openapi-typescript uses version 5 as a library
END_SECONDS = 60


def node() -> str:
    """Return the path of Node. A test that needs it fails without it, and without the packages from npm."""
    found = shutil.which("node")
    assert found, "Node is not installed. Install Node 20 or newer: the tests drive a server with clients from npm."
    assert (FOLDER / "node_modules").is_dir(), (
        "Run ./run setup node: it installs the packages of tests/node/package-lock.json."
    )
    return found


class NodeProcess:
    """A process that runs a script of `tests/node`: it answers each line of JSON with a line."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(
            [node(), str(FOLDER / script)], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._asking = threading.Lock()
        self.ids = itertools.count()
        atexit.register(self._end)

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request; return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, "the Node process has ended; its standard error says why"
        return json.loads(line)

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()


@cache
def node_process(script: str) -> NodeProcess:
    """Return the process of a script; the first call starts it."""
    return NodeProcess(script)


class NodeClient:
    """A client of a script, opened with these options. At the end of its block its connections are closed."""

    def __init__(self, script: str, options: dict[str, Any]) -> None:
        self._process = node_process(script)
        self._id = next(self._process.ids)
        self._process.ask({"client": self._id, "open": options})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.ask({"client": self._id, "close": True})

    def do(self, command: str, **arguments: Any) -> Any:
        """Run a command; return its answer."""
        answer = self._process.ask({"client": self._id, "do": command, **arguments})
        assert "failed" not in answer, answer["failed"]
        return answer
