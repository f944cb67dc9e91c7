"""Clients of HTTP/1.0 get a body without chunks, and notice where it is cut."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

from chatapi.simulator import Cut, Gate, Script, Simulator, answer, scripts
from tests.server_process import KEY, Serve, Service

pytestmark = pytest.mark.one_process("about the connection to the client")

SECONDS = 20.0
BODY = {"user_message": "Hi", "developer_message": "Be brief.", "api_key": KEY}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def ask(server: Service, method: str = "POST", path: str = "/api/chat", **headers: str) -> socket.socket:
    """Send a request of HTTP/1.0; return its connection."""
    address = urlsplit(server.url)
    body = json.dumps(BODY).encode() if method == "POST" else b""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
    connection.sendall(f"{method} {path} HTTP/1.0\r\n{head}\r\n".encode() + body)
    return connection


def read(connection: socket.socket, until: bytes | None = None) -> bytes:
    """Read to the end of the connection, or until these bytes have come."""
    received = b""
    while until is None or until not in received:
        if not (some := connection.recv(65536)):
            return received
        received += some
    return received


def test_an_answer_has_no_chunks_and_ends_with_the_connection(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("Hello there.")
    with ask(server) as connection:
        head, _, body = read(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body == b"Hello there."


def test_events_have_no_chunks(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("Hello there.")
    with ask(server, Accept="text/event-stream") as connection:
        _, _, body = read(connection).partition(b"\r\n\r\n")
    blocks = body.decode().removesuffix("\n\n").split("\n\n")
    assert blocks[0].startswith("event: session\n")
    assert blocks[-1].startswith("event: done\n")


def test_a_failure_resets_the_connection(server: Service, upstream: Simulator, gate: Gate) -> None:
    held = scripts.held(gate)
    upstream.script = Script(headers=held.headers, steps=(*list(held.steps)[:-3], Cut()))  # after the gate
    with ask(server) as connection:
        assert read(connection, until=b"Hello").endswith(b"Hello")
        gate.open()
        with pytest.raises(ConnectionResetError):
            read(connection)


def test_the_end_of_the_process_resets_the_connection(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    server = serve(CHATAPI_RATE_LIMIT="0")
    simulator.script = scripts.held(gate)
    with ask(server) as connection:
        assert read(connection, until=b"Hello").endswith(b"Hello")
        server.kill()
        with pytest.raises(ConnectionResetError):
            read(connection)


def test_a_client_that_is_cut_while_it_reads_nothing_gets_a_reset(serve: Serve, simulator: Simulator) -> None:
    """The response is made to its end by then; the rest of it waits for the client."""
    server = serve(CHATAPI_RATE_LIMIT="0", CHATAPI_WRITE_SECONDS="1", CHATAPI_MAX_ANSWER_BYTES="8000000")
    simulator.script = answer("x" * 7 * 1024 * 1024)
    session_id = server.post("/api/chat", json=BODY).headers["X-Session-ID"]
    path = f"/api/sessions/{session_id}/export?format=markdown"
    with ask(server, "GET", path, Authorization=f"Bearer {KEY}") as connection:
        server.wait_for_log("connection closed: its client reads nothing")
        with pytest.raises(ConnectionResetError):
            read(connection)


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/health"), ("HEAD", "/api/health"), ("GET", "/api/none")])
def test_a_response_with_a_length_keeps_it(server: Service, method: str, path: str) -> None:
    with ask(server, method, path) as connection:
        head, _, body = read(connection).partition(b"\r\n\r\n")
    (length,) = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    assert len(body) == (0 if method == "HEAD" else int(length))


def test_a_response_without_a_body_ends_well(server: Service) -> None:
    """Such as 204: no answer is running. The connection is not reset."""
    session_id = server.post("/api/sessions", json={"developer_message": "d"}).json()["session_id"]
    with ask(server, "GET", f"/api/chat/{session_id}/stream", Authorization=f"Bearer {KEY}") as connection:
        head, _, body = read(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 ")
    assert body == b""
