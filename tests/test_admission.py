"""Requests are checked in a fixed order, before work is done for them: head, key, limits, size, values."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.simulator import Simulator, refuse
from tests.server_process import KEY, Serve, Service, events, fresh_key

pytestmark = pytest.mark.one_process("requests are admitted before there is a store")

SECONDS = 10
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="auto", CHATAPI_TRUSTED_PROXIES="127.0.0.9")


def connect(server: Service, source: str = "127.0.0.1") -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=SECONDS, source_address=(source, 0))


def exchange(server: Service, request: str, source: str = "127.0.0.1") -> tuple[int, str]:
    """Send a request as it is; return the status and the body of its response."""
    with connect(server, source) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


# Head


@pytest.mark.parametrize("hosts", ["", "Host: a\nHost: b\n"], ids=["none", "two"])
def test_a_request_has_exactly_one_host(server: Service, hosts: str) -> None:
    status, body = exchange(server, f"GET /api/health HTTP/1.1\n{hosts}Connection: close\n\n")
    assert status == 400
    assert "Host" in json.loads(body)["detail"]


def test_a_request_of_http_1_0_needs_no_host(server: Service) -> None:
    assert exchange(server, "GET /api/health HTTP/1.0\n\n")[0] == 200


def test_malformed_requests_share_one_warning(serve: Serve) -> None:
    server = serve()
    for _ in range(20):
        assert exchange(server, "NONSENSE\n\n")[0] == 400
    warnings = [line for line in server.log if "malformed request" in line]
    assert len(warnings) == 1
    assert json.loads(warnings[0])["address"] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/api/health", "/docs", "/openapi.json", "/", "/api/config"])
def test_head_is_answered_as_get_without_the_body(server: Service, path: str) -> None:
    head = requests.head(server.url + path, timeout=SECONDS)
    assert head.status_code == 200
    assert head.headers["Content-Length"] == requests.get(server.url + path, timeout=SECONDS).headers["Content-Length"]
    assert head.content == b""


def test_head_of_a_stream_does_not_wait_for_its_end(server: Service) -> None:
    with server.send("Count to 3") as response:
        session_id = response.headers["X-Session-ID"]
        head = requests.head(f"{server.url}/api/chat/{session_id}/stream?offset=0", timeout=SECONDS)
        assert head.status_code == 200
        assert response.text == "1 2 3"


# Keys and limits


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/api/chat", "/api/sessions/import"])
def test_a_malformed_key_is_refused_before_the_body_is_read(server: Service, path: str) -> None:
    address = urlsplit(server.url)
    with connect(server) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Authorization: Bearer sk-wrong\r\nContent-Length: 1000000\r\n\r\n".encode())
        answer = connection.recv(65536).decode()
    assert answer.split()[1] in {"400", "401"}
    assert "Invalid API Key format" in answer


def test_a_large_body_without_a_key_is_refused_before_it_is_parsed(server: Service) -> None:
    for body in ("{" + " " * 100_000, '{"messages":[' + " " * 100_000 + '],"trigger":1}'):
        answer = server.post("/api/chat", data=body, headers=JSON)
        assert answer.status_code == 401, answer.text  # not malformed_json


def test_an_address_that_fails_often_is_refused_and_a_known_key_is_not(serve: Serve, simulator: Simulator) -> None:
    server = serve(CHATAPI_UNVERIFIED_LIMIT="45")
    known = fresh_key("known")
    with server.send(key=known) as response:
        assert response.text
    for _ in range(4):
        assert server.send(key="sk-wrong").status_code == 400
    assert server.get("/api/sessions", key=fresh_key("unknown")).status_code == 200
    assert server.send(key="sk-wrong").status_code == 400
    refused = server.get("/api/sessions", key=fresh_key("unknown"))
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limited"
    assert "CHATAPI_UNVERIFIED_LIMIT" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert server.get("/api/sessions", key=known).status_code == 200
    assert server.get("/api/health").status_code == 200
    with server.send(key=known) as response:  # it brings the key in its body
        assert response.status_code == 200
    assert server.send(key=fresh_key("unknown")).status_code == 429


def test_large_bodies_with_invented_keys_are_limited(serve: Serve) -> None:
    server = serve(CHATAPI_UNVERIFIED_LIMIT="20")
    known = fresh_key("known")
    with server.send(key=known) as response:
        assert response.text
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 3_000_000}
    body = {"items": [{"role": "user", "content": [image]}]}
    keys = [known, known, fresh_key("one"), fresh_key("another"), known]
    made = [server.post("/v1/conversations", key=key, json=body).status_code for key in keys]
    assert made == [200, 200, 200, 429, 200]


def test_keys_that_the_model_api_rejects_count_as_failures(serve: Serve, simulator: Simulator) -> None:
    server = serve(CHATAPI_UNVERIFIED_LIMIT="25")
    simulator.script = refuse(401)
    statuses = [server.post("/api/test-key", json={"api_key": fresh_key(f"n{n}")}).status_code for n in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_reads_are_limited_too(serve: Serve) -> None:
    server = serve(CHATAPI_REQUEST_LIMIT="5")
    statuses = [server.get("/api/config").status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def test_a_network_of_ipv6_is_limited_as_one_address(serve: Serve) -> None:
    server = serve(CHATAPI_REQUEST_LIMIT="2", CHATAPI_TRUSTED_PROXIES="127.0.0.1")

    def status_for(address: str) -> int:
        return server.get("/api/config", headers={"X-Forwarded-For": address}).status_code

    assert [status_for(f"2001:db8:0:1:{host:x}::1") for host in range(3)] == [200, 200, 429]
    assert status_for("2001:db8:0:2::1") == 200, "another network"
    addresses = ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2", "::ffff:c000:201"]
    assert [status_for(address) for address in addresses] == [200, 200, 200, 429], "of IPv4, in both spellings"


def test_a_browser_can_read_a_refusal(serve: Serve) -> None:
    server = serve(CHATAPI_REQUEST_LIMIT="1")
    origin = {"Origin": "https://chat.example"}
    assert server.get("/api/config", headers=origin).status_code == 200
    refused = server.get("/api/config", headers=origin)
    assert refused.status_code == 429
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


# Bodies


@pytest.mark.parametrize("path", ["/api/chat", "/v1/responses", "/v1/chat/completions", "/v1/conversations"])
def test_a_body_of_too_many_values_is_refused_by_name(server: Service, path: str) -> None:
    body = '{"input":[' + "1," * 60_000 + "1]}"
    answer = server.post(path, data=body, headers=JSON, key=KEY)
    assert answer.status_code in {400, 422}
    assert "CHATAPI_MAX_BODY_VALUES" in answer.text


def test_marks_in_texts_are_not_values(server: Service) -> None:
    text = "[1, 2: {3}], " * 10_000
    with server.send(text, developer_message="d") as response:
        assert response.status_code == 200


def test_many_unknown_fields_are_one_error(server: Service) -> None:
    body = {f"f{number}": 0 for number in range(5000)}
    answer = server.post("/api/chat", json=body, key=KEY)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 1


def test_unfinished_bodies_share_a_budget(serve: Serve) -> None:
    server = serve(CHATAPI_MAX_MEDIA_BYTES="1000000", CHATAPI_MAX_UNFINISHED_BYTES="4000000")
    address = urlsplit(server.url)
    head = f"POST /v1/responses HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {fresh_key('unknown')}\r\nContent-Length: 990000\r\n\r\n"
    open_ones = [connect(server) for _ in range(3)]
    answers = []
    try:
        for connection in open_ones:
            connection.sendall(head.encode() + b" " * 800_000)
        for connection in open_ones:  # one address holds a half of the half for unknown keys: one body
            connection.settimeout(1)
            with suppress(OSError):
                answers.append(connection.recv(65536).decode())
        assert len(answers) == 2
        assert answers[0].startswith("HTTP/1.1 503")
        assert "CHATAPI_MAX_UNFINISHED_BYTES" in answers[0]
        with server.send("Count to 2") as response:
            assert response.text == "1 2"
    finally:
        for connection in open_ones:
            connection.close()


def test_a_large_body_of_a_stranger_delays_nobody(server: Service) -> None:
    body = json.dumps({"model": "m", "input": [{"role": "user", "content": "x"}] * 12_000})
    with ThreadPoolExecutor(1) as elsewhere:
        large = elsewhere.submit(server.post, "/v1/responses", data=body, headers=JSON, key=fresh_key("stranger"))
        longest = 0.0
        while not large.done():
            begun = time.perf_counter()
            assert server.get("/api/config").status_code == 200
            longest = max(longest, time.perf_counter() - begun)
    assert longest < 1


# Connections


def test_silent_connections_make_room_for_new_ones(serve: Serve) -> None:
    server = serve(CHATAPI_MAX_CONNECTIONS="20", CHATAPI_MAX_CONNECTIONS_PER_ADDRESS="20")
    silent = [connect(server) for _ in range(40)]
    try:
        assert server.get("/api/config").status_code == 200
    finally:
        for connection in silent:
            connection.close()
    entry = server.wait_for_log("waiting connection closed for a new one")
    assert entry["setting"].startswith("CHATAPI_MAX_CONNECTIONS")
    assert entry["address"] == "127.0.0.1"


def test_a_client_that_reads_nothing_is_cut(serve: Serve) -> None:
    server = serve(CHATAPI_WRITE_SECONDS="1", CHATAPI_RATE_LIMIT="0")
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(400):
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        entry = server.wait_for_log("connection closed: its client reads nothing")
    assert entry["setting"] == "CHATAPI_WRITE_SECONDS"


# Proxies and pages


def test_a_trusted_proxy_names_the_client(server: Service) -> None:
    seen = len(server.log)
    request = "GET /api/sessions/ses_x HTTP/1.1\nHost: a\nConnection: close\nX-Forwarded-For: {}\n\n"
    exchange(server, request.format("198.51.100.7, 203.0.113.5, 127.0.0.9"), source="127.0.0.9")
    server.wait_for_log("request", seen=seen, address="203.0.113.5")
    exchange(server, request.format("203.0.113.6"), source="127.0.0.8")
    server.wait_for_log("request", seen=seen, address="127.0.0.8")


def test_a_trusted_proxy_that_adds_no_header_is_not_this_machine(server: Service) -> None:
    with server.send("Mine") as response:
        assert response.text
    session_id = response.headers["X-Session-ID"]
    request = f"GET /api/sessions/{session_id} HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n"
    assert exchange(server, request)[0] == 200
    assert exchange(server, request, source="127.0.0.9")[0] == 401
    server.wait_for_log("a caller from loopback may be behind a proxy")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "https://chat.example"},
        {"Referer": "https://chat.example/"},
        {"Referer": "http://localhost:3000/page"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Mode": "cors", "Connection": "close"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_is_not_this_machine(server: Service, headers: dict[str, str]) -> None:
    with server.send("Mine") as response:
        assert response.text
    path = f"/api/sessions/{response.headers['X-Session-ID']}"
    assert server.get(path, headers={"Origin": server.url, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert server.get(path, headers=headers).status_code == 401


# The log


def test_what_changes_or_exports_data_is_in_the_log_with_owner_and_address(server: Service, key: str) -> None:
    seen = len(server.log)
    with server.send("Mine", key=key) as response:
        assert response.text
    path = f"/api/sessions/{response.headers['X-Session-ID']}"
    assert server.get(f"{path}/export", key=key).status_code == 200
    assert server.get(f"{path}/messages", key=key).status_code == 200
    assert server.delete(path, key=key).status_code == 200
    sent = server.wait_for_log("request", seen=seen, action="POST /api/chat")
    exported = server.wait_for_log("request", seen=seen, action="GET /api/sessions/{session_id}/export")
    deleted = server.wait_for_log("request", seen=seen, action="DELETE /api/sessions/{session_id}", path=path)
    assert sent["session_id"] == response.headers["X-Session-ID"]
    assert len({entry["owner"] for entry in (sent, exported, deleted)}) == 1
    assert sent["owner"]
    assert {entry["address"] for entry in (sent, exported, deleted)} == {"127.0.0.1"}
    assert not [line for line in server.log[seen:] if '"action"' in line and "/messages" in line]


# Small differences between clients


def test_a_missing_choice_is_the_default(server: Service) -> None:
    with server.send("Count to 2", stream=None) as response:
        assert response.text == "1 2"
    session_id = response.headers["X-Session-ID"]
    empty = {"Last-Event-ID": "", "Accept": "TEXT/EVENT-STREAM"}
    again = server.get(f"/api/chat/{session_id}/stream?offset=0", headers=empty)
    assert [name for name, _, _ in events(again)][-1] == "done"


def test_a_model_may_begin_with_an_at_sign(server: Service, upstream: Simulator) -> None:
    with server.send(model="@cf/meta/llama") as response:
        assert response.status_code == 404  # the simulator's own answer
    assert upstream.requests[-1].body["model"] == "@cf/meta/llama"
