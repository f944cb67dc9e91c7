"""Proxies between a client and a server: relays that rewrite or hold bytes, a connection pooler, and HTTP proxies.

All are threads on loopback, and end with their `with` block.
"""

from __future__ import annotations

import gzip
import http.client
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Self

CHUNK = 65536
ENDING = {b"Q", b"S"}  # messages of PostgreSQL's protocol that the server answers with ReadyForQuery

Rewrite = Callable[[bytes], bytes]


class Listener:
    """Accepts connections on loopback, and serves each in a thread. All are closed at the end of the `with` block."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = {self._listener}

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def connect(self, port: int) -> socket.socket:
        """Open a connection that is closed with the others."""
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(connection)
        return connection

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Relay(Listener):
    """Forwards bytes between clients and the server on `port`; each read may be rewritten.

    After `hold_after` bytes from clients it forwards none of theirs, and sets `held`.
    """

    def __init__(
        self,
        port: int,
        of_client: Rewrite = lambda data: data,
        of_server: Rewrite = lambda data: data,
        hold_after: int | None = None,
    ) -> None:
        super().__init__()
        self._port = port
        self._of_client = of_client
        self._of_server = of_server
        self._left = hold_after
        self._counting = threading.Lock()
        self.held = threading.Event()

    def serve(self, client: socket.socket) -> None:
        server = self.connect(self._port)
        threading.Thread(target=self._carry, args=(server, client, self._of_server), daemon=True).start()
        self._carry(client, server, self._of_client, counted=True)

    def _carry(self, source: socket.socket, sink: socket.socket, rewrite: Rewrite, counted: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if counted and not self._may_pass(len(data)):
                    continue
                sink.sendall(rewrite(data))
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, count: int) -> bool:
        with self._counting:
            if self._left is None:
                return True
            self._left -= count
            if self._left < 0:
                self.held.set()
            return self._left >= 0


class Pooler(Listener):
    """A transaction pooler for PostgreSQL: between two transactions a client has no server connection.

    Unless it is `lenient`, it rejects unknown startup parameters, as PgBouncer does.
    """

    def __init__(self, port: int, database: str, size: int = 8, lenient: bool = False) -> None:
        super().__init__()
        self._lenient = lenient
        self._idle: SimpleQueue[socket.socket] = SimpleQueue()
        self._port = port
        self._database = database
        self._greeting = b""
        for _ in range(size):
            self._add()

    def _add(self) -> None:
        server = self.connect(self._port)
        words = b"user\0postgres\0database\0" + self._database.encode() + b"\0\0"
        server.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
        self._greeting = b"".join(_until_ready(server))
        self._idle.put(server)

    def serve(self, client: socket.socket) -> None:
        while True:
            (size,) = struct.unpack("!i", _exactly(client, 4))
            start = _exactly(client, size - 4)
            if start[:4] != struct.pack("!i", 80877103):  # SSLRequest
                break
            client.sendall(b"N")
        named = start[4:].split(b"\0")[::2]
        if not self._lenient and b"jit" in named:
            text = b"SFATAL\0C08P01\0Munsupported startup parameter: jit\0\0"
            client.sendall(b"E" + struct.pack("!i", 4 + len(text)) + text)
            client.close()
            return
        client.sendall(self._greeting)
        with suppress(ConnectionError):
            while True:
                first = _one(client)
                if first[:1] == b"X":
                    return
                self._transaction(client, first)

    def _transaction(self, client: socket.socket, first: bytes) -> None:
        """Lend the client a server connection from its first message to the end of its transaction."""
        server = self._idle.get()
        server.sendall(first)
        asked = 1 if first[:1] in ENDING else -1
        state = b"I"
        try:
            while asked < 0 or asked > 0 or state != b"I":
                for ready in select.select([client, server], [], [])[0]:
                    message = _one(ready)
                    if ready is server:
                        client.sendall(message)
                        if message[:1] == b"Z":
                            asked, state = asked - 1, message[-1:]
                    elif message[:1] == b"X":
                        raise ConnectionError
                    else:
                        server.sendall(message)
                        asked = max(asked, 0) + (message[:1] in ENDING)
        except OSError:  # the client disconnected within its transaction
            server.close()
            self._add()
            raise
        self._idle.put(server)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        received = connection.recv(count - len(data))
        if not received:
            raise ConnectionError
        data += received
    return data


def _one(connection: socket.socket) -> bytes:
    """Return the next message of PostgreSQL's protocol."""
    kind = _exactly(connection, 1)
    size = _exactly(connection, 4)
    return kind + size + _exactly(connection, struct.unpack("!i", size)[0] - 4)


def _until_ready(connection: socket.socket) -> Iterator[bytes]:
    """Yield the server's messages up to ReadyForQuery."""
    while True:
        message = _one(connection)
        yield message
        if message[:1] == b"Z":
            return


@contextmanager
def http_proxy(
    port: int, forwarded: bool = True, buffers: bool = False, compresses: bool = False, transforms: bool = False
) -> Iterator[int]:
    """Serve a proxy for the HTTP server on `port`; yield its own port.

    It adds `X-Forwarded-For` if `forwarded`, `buffers` whole responses, `compresses` them, or `transforms` them by
    removing `Cache-Control`.
    """

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server = http.client.HTTPConnection("127.0.0.1", port)
            headers = {"Accept": self.headers.get("Accept", "*/*")}
            if forwarded:
                headers["X-Forwarded-For"] = self.client_address[0]
            server.request("GET", self.path, headers=headers)
            response = server.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"} | (
                    {"cache-control"} if transforms else set()
                ):
                    self.send_header(name, value)
            if compresses:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if buffers or compresses:
                body = response.read()
                self._chunk(gzip.compress(body) if compresses else body)
            else:
                while data := response.read1():
                    self._chunk(data)
            self._chunk(b"")
            server.close()

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server, _serving(server):
        yield server.server_port


class Refusal(BaseHTTPRequestHandler):
    """Answers every request with 401."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def https_server(certificate: Path, key: Path) -> Iterator[int]:
    """Serve with this certificate; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with QuietServer(("127.0.0.1", 0), Refusal) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with _serving(server):
            yield server.server_port


class QuietServer(ThreadingHTTPServer):
    """Logs no errors of clients that disconnect or reject its certificate."""

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
