"""The servers of others, each in a process of its own: `running(name)` yields the base URL of one."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.node_clients import node
from tests.server_process import PROJECT

FOLDER = PROJECT / "tests/components"
PYTHON = PROJECT / ".venv-components/bin/python"
START_SECONDS = 60.0


@contextmanager
def running(name: str, folder: Path) -> Iterator[str]:
    """Run a server; yield its base URL."""
    port = str(_free_port())
    command = {
        "llama.cpp": [str(PYTHON), str(FOLDER / "llama_server.py"), str(folder)],
        "agentserver": [str(PYTHON), str(FOLDER / "agent_server.py"), port],
        "aimock": [node(), str(FOLDER / "mock_server.mjs")],
    }[name]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        if name == "agentserver":  # which has no `/v1`, and prints nothing
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        else:
            address = process.stdout.readline().strip()
            assert address, f"{name} did not start: {(folder / f'{name}.log').read_text()[-2000:]}"
            yield f"{address}/v1"
    finally:
        process.kill()
        process.communicate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < until, "it did not start"
            time.sleep(0.1)
