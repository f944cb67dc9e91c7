"""HTTP that no library sends: trailers, upgrades, escapes; and headers against caches."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.simulator import Gate, Simulator, Wait, scripts
from tests.server_process import KEY, Serve, Service

pytestmark = pytest.mark.one_process("HTTP is read before there is a store")

SECONDS = 10
NO_LINGER = struct.pack("ii", 1, 0)  # a close resets the connection
BODY = json.dumps({"developer_message": "d", "user_message": "Count to 3", "api_key": KEY}).encode()


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def connect(server: Service) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while some := connection.recv(65536):
        received += some
    return received


def pour(connection: socket.socket, data: bytes) -> None:
    for _ in range(1000):  # 60 MB
        connection.sendall(data)


def resident_mib(server: Service) -> float:
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(server.pid)], check=True, capture_output=True, text=True)
    return int(shown.stdout) / 1024


def test_a_trailer_does_not_authorise(server: Service) -> None:
    with server.send("Mine") as response:
        assert response.text
    session_id = response.headers["X-Session-ID"]
    request = f"GET /api/sessions/{session_id} HTTP/1.1\r\nHost: chat.example\r\nVia: proxy\r\nConnection: close\r\n"
    with connect(server) as connection:
        connection.sendall(
            request.encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-API-Key: " + KEY.encode() + b"\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 401")
    with connect(server) as connection:
        connection.sendall(request.encode() + b"X-API-Key: " + KEY.encode() + b"\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200"), "in the head it does"


@pytest.mark.parametrize("endless", [b"ab: cdefgh\r\n" * 5000, b"a" * 60_000], ids=["many trailers", "one long one"])
def test_endless_trailers_are_cut_off(server: Service, endless: bytes) -> None:
    before = resident_mib(server)
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        )
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            pour(connection, endless)
    assert resident_mib(server) - before < 16


def test_an_upgrade_request_is_served_without_an_upgrade(server: Service) -> None:
    asked = subprocess.run(
        [
            "curl",
            "-s",
            "--http2",
            f"{server.url}/api/chat",
            "-H",
            "Content-Type: application/json",
            "-d",
            BODY.decode(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert asked.stdout == "1 2 3"


def test_the_body_of_an_upgrade_request_is_not_a_request(server: Service) -> None:
    inner = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nuPGRADE : h2c\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(inner)
        )
        connection.sendall(inner)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"malformed_json" in received


def test_pipelined_requests_are_answered_in_order(server: Service) -> None:
    head = b"POST /api/test-key HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    body = b'{"api_key": "' + b"x" * 100_000 + b'"}'
    many = (head + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2 + b"GET /api/nowhere HTTP/1.1\r\nHost: x\r\n"
    with connect(server) as connection:
        for first in range(0, len(many), 7001):  # cut anywhere, heads included
            connection.sendall(many[first : first + 7001])
        connection.sendall(b"Connection: close\r\n\r\n")
        received = read_all(connection)
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"413", b"413", b"404"]


def test_a_pipelined_request_waits_until_the_response_before_it_is_read(serve: Serve) -> None:
    server = serve(CHATAPI_METRICS="on")
    whole = server.get("/openapi.json").content
    address = urlsplit(server.url)
    with socket.socket() as connection:
        connection.settimeout(SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that it takes a part of the response
        connection.connect((address.hostname, address.port))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
        connection.sendall((request + b"\r\n") * 4 + request + b"Connection: close\r\n\r\n")
        assert connection.recv(16, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r"
        metrics = server.get("/metrics").text
        received = read_all(connection)
    assert "chatapi_open_requests 1.0" in metrics, "the one for the metrics"
    assert received.count(whole) == 5, "each is answered when there is room for it"


def test_pipelined_requests_are_not_collected_while_one_is_answered(serve: Serve, simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = scripts.held(gate)
    server = serve()
    head = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    with connect(server) as connection:
        connection.sendall(head + b"%d\r\n\r\n" % len(BODY) + BODY + head)
        assert connection.recv(16, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r"
        before = resident_mib(server)
        connection.settimeout(0.5)  # for the buffers of the system to be full
        with pytest.raises(TimeoutError):
            pour(connection, b"1" * 60_000)
        assert resident_mib(server) - before < 16
        gate.open()
        connection.settimeout(SECONDS)
        received = b""
        while b"\r\n0\r\n" not in received:
            received += connection.recv(65536)
    assert b"there." in received


@pytest.mark.parametrize(
    "framed",
    [b"Content-Length: " + b"0" * 20 + b"2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    ids=["leading zeros", "chunks"],
)
def test_requests_in_the_packet_of_a_body_are_not_parsed_while_it_is_answered(server: Service, framed: bytes) -> None:
    first = b"GET /api/health/stream HTTP/1.1\r\nHost: x\r\n" + framed
    handshake = b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    many = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 6000
    before = resident_mib(server)
    with connect(server) as one, connect(server) as another, connect(server) as upgraded:
        for connection in (one, another):
            connection.sendall(first + many)
            assert connection.recv(16, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r"
        assert resident_mib(server) - before < 16
        upgraded.sendall(first + handshake)
        received = read_all(upgraded)
    assert received.count(b"HTTP/1.1 ") == 2
    assert b"0\r\n\r\nHTTP/1.1 400" in received, "the handshake, which lacks headers, is answered after the stream"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ("/v1/responses", {"input": "x", "store": False}),
    ],
)
def test_a_client_that_leaves_the_next_request_behind_ends_its_request_upstream(
    server: Service, upstream: Simulator, gate: Gate, path: str, body: dict[str, Any]
) -> None:
    upstream.script = scripts.event_stream(Wait(gate))
    seen, asked = len(server.log), len(upstream.requests)
    data = json.dumps(body | {"model": "gpt-4.1-mini"}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {KEY}\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        upstream.wait_for_requests(asked + 1)
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
    server.wait_for_log("request", 5, seen=seen, path=path)


def test_a_connection_that_is_reset_after_its_response_takes_no_memory(server: Service) -> None:
    def reset(times: int) -> None:
        for _ in range(times):
            with connect(server) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    reset(200)
    before = resident_mib(server)
    reset(800)
    assert resident_mib(server) - before < 3, "it was kept as long as an idle connection"


@pytest.mark.parametrize("path", ["/livez", "/api/sessions"])  # a direct route, and one of the framework
def test_pipelined_requests_are_read_no_faster_than_they_are_answered(server: Service, path: str) -> None:
    assert server.get(path).status_code in {200, 401}  # and its route is imported
    many = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 600_000
    before = resident_mib(server)
    with connect(server) as connection, ThreadPoolExecutor(1) as sender:
        sending = sender.submit(connection.sendall, many)
        answered = 0
        while answered < 100:
            answered += connection.recv(1000).count(b"HTTP/1.1 ")
        assert resident_mib(server) - before < 12, "each response let the server read further"
        connection.shutdown(socket.SHUT_RDWR)
        assert isinstance(sending.exception(SECONDS), OSError)


def test_a_body_in_the_smallest_chunks_is_read(server: Service) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for byte in BODY + b" " * 50_000:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"1 2 3" in re.sub(rb"\r\n[0-9a-f]+\r\n", b"", received), "for any division into chunks"


def test_an_escape_in_a_path_does_not_reach_a_terminal(serve: Serve) -> None:
    server = serve(CHATAPI_LOG_FORMAT="json")
    server.get("/api/x%1b]0;pwned%07%1b[2J%00%0d%0aevent=forged")
    logged = server.wait_for_log("request", status=404)
    assert logged["path"] == "/api/x\ufffd]0;pwned\ufffd\ufffd[2J\ufffd\ufffd\ufffdevent=forged"


def test_no_response_may_be_cached(server: Service) -> None:
    with server.send("Hello") as response:
        assert response.text
    session_id = response.headers["X-Session-ID"]
    answers = [
        response,
        server.get("/api/sessions", key=KEY),
        server.get(f"/api/sessions/{session_id}"),
        server.get(f"/api/sessions/{session_id}/messages"),
        server.get("/api/sessions/none"),
        server.get("/api/health"),
    ]
    for answer in answers:
        assert "no-store" in answer.headers["Cache-Control"]


def test_invented_keys_do_not_lift_the_limit_of_new_sessions(serve: Serve) -> None:
    server = serve(CHATAPI_RATE_LIMIT="3")
    keys = [f"sk-proj-{number:0156d}" for number in range(5)]
    made = [server.post("/api/sessions", key=key, json={"developer_message": "d"}).status_code for key in keys]
    assert made == [200, 200, 200, 429, 429]


def test_developer_messages_without_a_key_do_not_fill_the_disk(serve: Serve) -> None:
    server = serve(CHATAPI_MAX_STORE_BYTES="500000")
    body = {"developer_message": "d" * 200_000}
    assert [server.post("/api/sessions", json=body).status_code for _ in range(4)] == [200, 200, 403, 403]


@pytest.mark.parametrize("name", ["attachments", "messages"])
def test_other_clients_do_not_wait_while_a_large_body_is_read(server: Service, name: str) -> None:
    body = f'{{"trigger":"submit-message","{name}":[' + "{}," * 2_500_000 + "{}]}"
    longest = 0.0
    with ThreadPoolExecutor(1) as elsewhere, requests.Session() as asking:
        begun = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        large = elsewhere.submit(server.post, "/api/chat", data=body, headers=headers, key=KEY)
        while not large.done():
            asked = time.perf_counter()
            assert asking.get(f"{server.url}/api/config", timeout=SECONDS).status_code == 200
            longest = max(longest, time.perf_counter() - asked)
        spent = time.perf_counter() - begun
    assert large.result().status_code == 422
    assert "CHATAPI_MAX_BODY_VALUES" in large.result().text
    assert longest < max(spent / 2, 0.5)
