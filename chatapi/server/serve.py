"""Serve an application with uvicorn, and end in the right order.

uvicorn alone closes its socket at once on SIGTERM, waits for ever for streams, and runs the lifespan's shutdown before
cancelled requests are through. Here: readiness goes first while the socket still answers; running answers get their
time; what is left is interrupted and stored; only then do the socket, the connections and the store close.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatapi.api.http.services import Services
from chatapi.settings import Settings, SettingsError
from chatapi.wiring import running

BACKLOG = 2048  # connections that the system holds while we are busy
GOODBYE_SECONDS = 5  # for readers to take the end of their answers, after the drain
KEEP_ALIVE_SECONDS = 75  # longer than a proxy's, so that the proxy closes first and never meets a closed connection
HEAD_BYTES = 64 * 1024  # of a request line and headers; the parser itself knows no limit
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
UPGRADE = re.compile(rb"(\r\n)upgrade[ \t]*:", re.IGNORECASE)
FRAMING = 8  # bytes of framing for a byte of body: more than the smallest chunks take
SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = structlog.get_logger()


def serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal ends it; a second signal ends it at once, and what runs is stored all the same.

    Raises:
        SettingsError: it cannot start as it is configured.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(app, settings, listener))


def listen(settings: Settings) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(f"HOST: there is no address {settings.host} here: {error}. Set another.") from error
    except OSError as error:
        raise SettingsError(
            f"PORT: cannot listen on {settings.host} port {settings.port}: {error}. Stop what uses it, or set another."
        ) from error


def url_of(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http=protocol(settings.receive_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    async with running(app.state.core):
        await Server(config, app.state.core, settings).serve(sockets=[listener])


def _loop_factory() -> Any:
    import uvloop  # here, so that importing this module stays cheap

    return uvloop.new_event_loop


class Server(uvicorn.Server):
    """uvicorn's server with our own end."""

    def __init__(self, config: uvicorn.Config, core: Services, settings: Settings) -> None:
        super().__init__(config)
        self._core = core
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()
        self._drained = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is here by now stays: the collector need not look at it again
        assert sockets is not None
        logger.info("serving", url=url_of(sockets[0]), docs="/docs", pid=os.getpid())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while it serves, and then let none cut what is left, which closes the store.

        uvicorn would put the old handlers back and raise the signals again, before that.
        """
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._hurry.set if self.should_exit else self._core.generations.refuse_new)
        self.force_exit = self._drained  # a signal during the goodbye: nobody is waited for any more
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        running_now = len(self._core.generations)
        logger.info("draining", pid=os.getpid(), running=running_now, seconds=self._settings.drain_seconds)
        await self._core.generations.drain(self._settings.drain_seconds, self._hurry)
        self._drained = True
        if self._hurry.is_set():
            self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)
        logger.info("stopped")


class HeadWithBody:
    """A transport that holds a response's head back for the rest of the loop's turn, so that the body's first bytes go
    with it: uvicorn writes them one after the other, and each write is a system call and a packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, a head a moment later. What is written to a connection that has been closed goes nowhere."""
        if self._transport.is_closing():
            return
        if self._head:
            self._head, data = b"", self._head + data
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Close when everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def protocol(receive_seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol, with bounds: so long to send a request, and so many bytes of it that are no body.

    It reads a head whole before the parser sees it. That bounds it, and lets an `Upgrade` be ignored, as a server may
    (RFC 9110, section 7.8): the parser would stop there and take the body for the next request. Trailers are dropped:
    what was authorised must not change with them (RFC 9110, section 6.5.1).
    """

    class BoundedProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _head = b""
        _in_body = False
        _received = 0  # bytes since the head
        _body = 0  # of these, body

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(cast(asyncio.Transport, HeadWithBody(transport, self.loop)))
            self._begin_deadline()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_deadline()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_body:
                self._received += len(data)
            else:
                self._begin_deadline()
                self._head += data
                head, end, rest = self._head.partition(b"\r\n\r\n")
                if len(head) > HEAD_BYTES:
                    self._refuse()
                if not end or len(head) > HEAD_BYTES:
                    return
                self._head = b""
                data = UPGRADE.sub(b"\\1x-ignored-upgrade:", head) + end + rest
            super().data_received(data)
            if self._received - self._body > HEAD_BYTES + FRAMING * self._body:
                self._refuse()

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self._in_body:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_body = True
            self._received = self._body = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._body += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._in_body = False
            self._end_deadline()
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
                self.transport.abort()  # in the middle of an answer, a second one would be read as part of it
            else:
                super().send_400_response(msg)

        def _refuse(self) -> None:
            if not self.transport.is_closing():
                self.transport.write(TOO_LARGE)
                self.transport.close()

        def _begin_deadline(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(receive_seconds, self.transport.abort)

        def _end_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedProtocol
