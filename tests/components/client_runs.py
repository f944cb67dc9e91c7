"""Clients of others against the service before the simulator, over each protocol of an upstream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qs

from chatapi.api.openai.forward_paths import LINES
from chatapi.simulator import ReceivedRequest, Script, Send, Simulator, running
from tests.components.compliance import MODELS
from tests.components.servers import PYTHON
from tests.server_process import PROJECT, Service

PYTHON_CLIENTS = ("openai-python", "openai-agents", "langchain-openai", "pydantic-ai", "llm")
PACE_SECONDS = 0.002  # so that a stream has several pieces
NODE_CLIENTS = {"openai-node": "tests/test_openai_node.py", "ai-sdk": "tests/test_ai_sdk_openai.py"}  # of the suite
CLIENTS = (*PYTHON_CLIENTS, *NODE_CLIENTS)


def run(name: str, only: str = "") -> int:
    """Print a row for each trial of a client; return how many of its runs fail."""
    if name in NODE_CLIENTS:
        options = ["-vv", "-n", "0", "--no-header", "--tb=short", "-k", only]
        command = [sys.executable, "-m", "pytest", *options, NODE_CLIENTS[name]]
        return int(subprocess.run(command, cwd=PROJECT, check=False).returncode != 0)
    return sum(_run(name, api, model, only) for api, model in MODELS.items())


def _run(name: str, api: str, model: str, only: str) -> int:
    with tempfile.TemporaryDirectory() as folder, running(Simulator(pace_seconds=PACE_SECONDS)) as upstream:
        upstream.script = _answer_as_asked
        service = Service(Path(folder), upstream.url, OPENAI_UPSTREAM_API=api, CHATAPI_RATE_LIMIT="0").start()
        try:
            drive = {"base": service.url, "api": api, "model": model, "operations": _operations(service)}
            command = [str(PYTHON), "-m", "tests.components.clients", name, json.dumps(drive), only]
            environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": folder}
            return subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        finally:
            service.stop()


def _answer_as_asked(request: ReceivedRequest) -> Script | None:
    """Answer with the query's `answer`, if it has one: the simulator has no other answers for most of the API."""
    query = parse_qs(request.query)
    if "answer" not in query:
        return None
    return Script(headers={"Content-Type": query["type"][0]}, steps=(Send(query["answer"][0].encode()),))


def _operations(service: Service) -> list[str]:
    """Return the service's operations below `/v1`, those that are passed on too, with `*` for an id."""
    paths = service.get("/openapi.json").json()["paths"]
    own = [
        f"{method.upper()} {'/'.join('*' if part.startswith('{') else part for part in path[4:].split('/'))}"
        for path, methods in paths.items()
        if path.startswith("/v1/") and path != "/v1/{path}"
        for method in methods
    ]
    passed_on = [line.split() for line in LINES.strip().splitlines()]
    return [*own, *(f"{method} {path}" for *methods, path in passed_on for method in methods)]
