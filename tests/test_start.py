"""A start imports only the modules that the first answer needs: the others would double its time and its memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chatapi.simulator import Simulator
from tests.server_process import KEY, PROJECT, Service

# Runs app.py, and at its end writes the names of the imported modules to a file.
LISTING = """
import atexit, pathlib, runpy, sys
sys.argv = sys.argv[2:]
atexit.register(lambda: pathlib.Path("modules").write_text("\\n".join(sys.modules)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LATE = (  # with all that is below them
    *("fastapi", "opentelemetry", "prometheus_client", "asyncpg", "redis", "tomllib", "websockets"),
    *("chatapi.app", "chatapi.api.http.openapi", "chatapi.api.sessions", "chatapi.upstream.routing.entries"),
    *("chatapi.backup", "chatapi.doctor", "chatapi.migrate", "chatapi.simulator", "chatapi.terminal"),
)
RESPONSE = {"model": "gpt-4.1-mini", "input": "Hello"}
COMPLETION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.one_process("about the imports of one process")
def test_the_first_answers_import_no_other_routes(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "listing.py").write_text(LISTING)
    prefix = (sys.executable, str(tmp_path / "listing.py"))
    server = Service(tmp_path, simulator.url, prefix=prefix, PYTHONPATH=str(PROJECT))
    server.start()
    try:
        assert server.send().text
        for path, body in (("/v1/responses", RESPONSE), ("/v1/chat/completions", COMPLETION)):
            assert server.post(path, json=body, key=KEY).status_code == 200
        for path in ("/", "/web/icon.svg", "/api/health", "/livez", "/readyz", "/api/config"):
            assert server.get(path).status_code == 200
    finally:
        server.stop()
    imported = set((tmp_path / "modules").read_text().split())
    assert {"chatapi.front", "chatapi.api.chat.sending"} <= imported
    late = {name for name in imported if any(name == one or name.startswith(f"{one}.") for one in LATE)}
    assert not late
