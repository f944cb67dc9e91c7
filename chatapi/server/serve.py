"""Serve the application with uvicorn, and shut down in a fixed order.

uvicorn alone closes its socket at once on SIGTERM, waits for streams without a limit, and runs the lifespan's shutdown
before cancelled requests have finished. Here readiness fails first while the socket still answers; running answers get
their time; the rest is interrupted and stored; then the socket, the connections and the store close.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from chatapi.api.http.services import Services
from chatapi.server.connections import ConnectionTable, default_limit
from chatapi.server.metrics_port import serving_metrics
from chatapi.server.protocol import bounded_protocol
from chatapi.settings import Settings, SettingsError
from chatapi.wiring import running

BACKLOG = 2048  # connections that the system queues while the loop is busy
ACCEPTS_PER_TURN = 8  # uvloop accepts one connection of each socket per turn: a burst would delay later callers
CLOSE_SECONDS = 5  # for readers to receive the end of their answers, after the drain
BUFFER_BYTES = 256 * 1024  # of each connection in the system, for each direction; they would grow to megabytes
KEEP_ALIVE_SECONDS = 75  # longer than a proxy's, so that the proxy closes first and never meets a closed connection
SWITCH_SECONDS = 0.001  # a thread that parses a large body delays the loop by this much at most, not by 5 ms
GC_THRESHOLDS = (10_000, 20, 20)  # nearly nothing here is a cycle: Python's 700 objects would be a search for each turn
MAX_FILES = 65_536  # the limit of open files that the process asks for, where the system allows it
MAX_PORT = 65_535
SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = structlog.get_logger()


def serve(
    app: Starlette,
    settings: Settings,
    listener: socket.socket,
    metrics_listener: socket.socket | None = None,
    greet: Callable[[str], None] | None = None,
) -> None:
    """Serve until a signal; a second signal skips the drain. Running answers are stored in both cases.

    Args:
        metrics_listener: where the metrics are served, if at all.
        greet: called with the base URL when requests are answered.

    Raises:
        SettingsError: the configured store, or another server, cannot be used.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(app, settings, listener, metrics_listener, greet))


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        SettingsError: the address does not exist here or is in use.
    """
    listener = _listen(settings.host, settings.port, "PORT", "--port")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # its connections inherit them
        listener.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return listener


def listen_for_metrics(settings: Settings, worker: int = 0) -> socket.socket | None:
    """Open the socket of the metrics, if they are on and have a port of their own. Raises: as `listen` does.

    The first worker has the port of the setting, and each further one the next.
    """
    if settings.metrics == "off" or settings.metrics_port is None:
        return None
    return _listen(settings.host, settings.metrics_port + worker, "CHATAPI_METRICS_PORT", "CHATAPI_METRICS_PORT")


def _listen(host: str, port: int, variable: str, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)  # `create_server` hides the kind of its error
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise SettingsError(_reason(host, port, variable, option, error)) from error
    # Workers share this state. `dup` sets it again: a worker that starts would else have another one wait in `accept`,
    # and with it all of its streams, until the next connection.
    listener.setblocking(False)
    return listener


def _reason(host: str, port: int, variable: str, option: str, error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, socket.gaierror | UnicodeError) or number == errno.EADDRNOTAVAIL:
        return f"HOST: this machine has no address {host}. Choose 127.0.0.1, or 0.0.0.0 for all addresses."
    if number == errno.EADDRINUSE:
        advice = f"Choose another port: {option} {_other(port)}."
        return f"{variable}: another program uses port {port} on {host}. {advice}"
    if number == errno.EACCES:
        return (
            f"{variable}: this user may not listen on port {port}: ports below 1024 need the rights of root. "
            f"Choose another port ({option} 8000), and let a proxy listen there (deploy/)."
        )
    return f"{variable}: cannot listen on {host} port {port}: {error}."


def _other(port: int) -> int:
    return port + 1 if port < MAX_PORT else port - 1


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _serve(
    app: Starlette,
    settings: Settings,
    listener: socket.socket,
    metrics_listener: socket.socket | None,
    greet: Callable[[str], None] | None,
) -> None:
    in_all = settings.max_connections or default_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    per_address = settings.max_connections_per_address or max(1, in_all // 2)
    table = ConnectionTable(asyncio.get_running_loop(), in_all, per_address, settings.write_seconds)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings.receive_seconds, table, settings.is_proxy),
        ws=asyncio.Protocol,  # not none; `bounded_protocol` makes its WebSockets itself
        ws_max_size=settings.max_media_bytes,
        ws_per_message_deflate=False,  # a small frame could inflate to a large message
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    services = app.state.services
    services.metrics.gauge("client_connections", "Open connections of clients.", lambda: len(table))
    async with running(services), serving_metrics(services, metrics_listener):
        try:
            copies = [listener.dup() for _ in range(ACCEPTS_PER_TURN - 1)]
            await Server(config, services, settings, greet).serve(sockets=[listener, *copies])
        finally:
            table.close()


def _raise_file_limit() -> None:
    """Raise the soft limit of open files, 1,024 on many systems, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Any:
    import uvloop  # here: importing this module stays cheap

    return uvloop.new_event_loop


class Server(uvicorn.Server):
    """uvicorn's server with the shutdown order of this module."""

    def __init__(
        self, config: uvicorn.Config, services: Services, settings: Settings, greet: Callable[[str], None] | None
    ) -> None:
        super().__init__(config)
        self._greet = greet
        self._services = services
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()
        self._drained = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Objects of the start live as long as the process: the collector can skip them. No collection before: it would
        # take 30 ms, and there is next to no garbage.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        assert sockets is not None
        url = url_of(sockets[0])
        if self._greet is not None:
            self._greet(url)
        logger.info("serving", url=url, docs="/docs", pid=os.getpid())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving, and ignore them afterwards, while the store closes.

        uvicorn would restore the old handlers and raise the signals again before that.
        """
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._hurry.set if self.should_exit else self._services.generations.refuse_new)
        self.force_exit = self._drained  # a signal while connections close: wait for no reader
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        running_now = len(self._services.generations)
        logger.info("draining", pid=os.getpid(), running=running_now, seconds=self._settings.drain_seconds)
        await self._services.generations.drain(self._settings.drain_seconds, self._hurry)
        self._drained = True
        if self._hurry.is_set():
            self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)
        logger.info("stopped")
