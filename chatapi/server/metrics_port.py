"""The port of the metrics: one path on a port of its own, which clients of the API need not reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from chatapi.api.http.services import Services
from chatapi.api.ops.metrics import scrape
from chatapi.errors import ChatError
from chatapi.server.connections import ConnectionTable
from chatapi.server.protocol import bounded_protocol

MAX_CONNECTIONS = 32
CLOSE_SECONDS = 1

logger = structlog.get_logger()


class MetricsApp:
    """Answers GET /metrics, and nothing else."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})  # else the server reports an error for each handshake
            return
        if scope["path"] != "/metrics" or scope["method"] not in {"GET", "HEAD"}:
            await PlainTextResponse("This port has GET /metrics only.\n", 404)(scope, receive, send)
            return
        try:
            response = await scrape(self._services, Request(scope))
        except ChatError as error:
            response = PlainTextResponse(f"{error.detail}\n", error.status, error.headers)
        await response(scope, receive, send)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the server of the API."""
        yield


@asynccontextmanager
async def serving_metrics(services: Services, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve the metrics on `listener` for the length of the block; without one, do nothing."""
    if listener is None:
        yield
        return
    settings = services.settings
    table = ConnectionTable(asyncio.get_running_loop(), MAX_CONNECTIONS, MAX_CONNECTIONS, settings.write_seconds)
    config = uvicorn.Config(
        MetricsApp(services),
        http=bounded_protocol(settings.receive_seconds, table, settings.is_proxy),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="metrics-port")
    host, port = listener.getsockname()[:2]
    logger.info("serving metrics", host=host, port=port)
    try:
        yield
    finally:
        server.should_exit = True
        await task
        table.close()
