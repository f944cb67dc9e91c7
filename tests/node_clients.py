"""Clients of npm, in processes of their own: what Node says to a running server."""

from __future__ import annotations

import json
import shutil
import subprocess
from types import TracebackType
from typing import Any

from tests.server_process import PROJECT

FOLDER = PROJECT / "tests/node"
SECONDS = 60  # for all that one script does


def node() -> str:
    """Where Node is; without it, and without what npm installs, these tests are not passed over but fail."""
    found = shutil.which("node")
    assert found, "There is no Node on this machine. Install Node 20 or newer: outside clients are tested with it."
    assert (FOLDER / "node_modules").is_dir(), (
        "Run ./run test once: it installs what tests/node/package-lock.json names."
    )
    return found


class Script:
    """A script of tests/node: it takes a JSON value, then a command a line, and answers each with a line."""

    def __init__(self, name: str, value: Any) -> None:
        self._process = subprocess.Popen(
            [node(), str(FOLDER / name), json.dumps(value)],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Script:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process.stderr.close()

    def do(self, command: str, **arguments: Any) -> Any:
        """Have it do something; what it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer
