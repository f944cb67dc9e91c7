"""A start imports only the modules that the first answer needs, and a connection takes little memory."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from chatapi.front import LateRoutes
from chatapi.server.connections import ConnectionTable
from chatapi.server.protocol import bounded_protocol
from chatapi.settings import Settings
from chatapi.simulator import Simulator
from chatapi.wiring import make_services
from tests.server_process import KEY, PROJECT, Service

# Runs app.py. Before the framework is imported, it writes the names of the modules that app.py has imported to a file.
LISTING = """
import pathlib, runpy, sys
before = set(sys.modules)  # of the interpreter, and of coverage where it measures
class Watch:
    def find_spec(name, *_):
        if name == "fastapi" and not pathlib.Path("modules").exists():
            pathlib.Path("modules").write_text("\\n".join(set(sys.modules) - before))
sys.meta_path.insert(0, Watch)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LATE = (  # with all that is below them
    *("fastapi", "opentelemetry", "prometheus_client", "asyncpg", "redis", "tomllib", "websockets"),
    *("chatapi.app", "chatapi.api.http.openapi", "chatapi.api.sessions", "chatapi.upstream.routing.entries"),
    *("chatapi.backup", "chatapi.doctor", "chatapi.migrate", "chatapi.simulator", "chatapi.terminal"),
)
SHARED_NAMES = 30  # that CPython 3.11 stores once for all instances of a class
RESPONSE = {"model": "gpt-4.1-mini", "input": "Hello"}
COMPLETION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.one_process("about the imports of one process")
def test_the_first_answers_import_no_other_routes_but_the_page_does(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "listing.py").write_text(LISTING)
    prefix = (sys.executable, str(tmp_path / "listing.py"))
    server = Service(tmp_path, simulator.url, prefix=prefix, PYTHONPATH=str(PROJECT))
    server.start()
    try:
        assert server.send().text
        for path, body in (("/v1/responses", RESPONSE), ("/v1/chat/completions", COMPLETION)):
            assert server.post(path, json=body, key=KEY).status_code == 200
        for path in ("/web/icon.svg", "/api/health", "/livez", "/readyz", "/api/config"):
            assert server.get(path).status_code == 200
        assert not (tmp_path / "modules").exists()
        assert server.get("/").status_code == 200
        server.wait_for_log("late routes imported")
    finally:
        server.stop()
    imported = set((tmp_path / "modules").read_text().split())
    assert {"chatapi.front", "chatapi.api.chat.sending"} <= imported
    late = {name for name in imported if any(name == one or name.startswith(f"{one}.") for one in LATE)}
    assert not late


async def test_connections_share_the_names_of_their_attributes() -> None:
    table = ConnectionTable(asyncio.get_running_loop(), 10, 10, 1)
    try:
        config = uvicorn.Config(lambda: None, http=bounded_protocol(1, table, lambda _: False), ws=asyncio.Protocol)
        config.load()
        make: Any = config.http_protocol_class
        connection = make(config=config, server_state=ServerState(), app_state={})
        assert len(vars(connection)) <= SHARED_NAMES, "else it takes 1.2 KiB more"
    finally:
        table.close()


async def test_an_import_of_routes_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late, statuses = LateRoutes(make_services(Settings())), []

    async def request() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/nowhere",
            "root_path": "",
            "headers": [],
            "query_string": b"",
        }
        await late(scope, receive, send)

    monkeypatch.setitem(sys.modules, "chatapi.app", None)  # its import fails
    failed = await asyncio.gather(request(), request(), return_exceptions=True)
    assert [type(error) for error in failed] == [ModuleNotFoundError] * 2
    unretrieved: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
    with capture_logs() as logged:
        importing = late.begin()  # as the page does, without a wait
        assert importing is not None
        await asyncio.wait([importing])
    del importing
    gc.collect()
    assert [line["event"] for line in logged] == ["late routes not imported"]
    assert not unretrieved
    monkeypatch.undo()
    await request()
    assert statuses == [404, None]
