"""The rest of OpenAI's API: requests that are passed on, byte for byte and piece by piece, and refused ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from chatapi.api.openai.forward_paths import methods_of
from chatapi.simulator import Cut, Gate, ReceivedRequest, Script, Send, Simulator, Wait, scripts
from tests.openai_clients import openai_client
from tests.server_process import KEY, Serve, Service

pytestmark = pytest.mark.one_process("nothing of it is stored or shared")

KIB = 1024
LIMIT = 1024 * KIB
BINARY = bytes(range(256)) * 16


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_PASSTHROUGH_BYTES=str(LIMIT))


def binary(*steps: Any, **headers: str) -> Script:
    """Return a response of bytes."""
    return Script(headers={"Content-Type": "application/octet-stream", **headers}, steps=steps)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("embeddings", {"POST"}),
        ("files", {"GET", "POST"}),
        ("files/file-1/content", {"GET"}),
        ("vector_stores/vs_1/files/file-1", {"GET", "POST", "DELETE"}),
        ("containers/cntr_1/files/cfile_1/content", {"GET"}),
        ("chat/completions", None),
        ("organization/projects", None),
        ("fine_tuning/jobs", None),
        ("files/", None),
        ("files//content", None),
        ("files/..", None),
        ("files/../organization", None),
        ("files/a%2fb", None),
        ("files/a?b", None),
        ("embeddings/", None),
        ("Embeddings", None),
        ("files/" + "x" * 129, None),
    ],
)
def test_only_listed_paths_are_passed_on(path: str, methods: set[str] | None) -> None:
    assert methods_of(path) == methods


def test_openais_client_reaches_the_rest_of_the_api(service: Service, upstream: Simulator, key: str) -> None:
    client = openai_client(f"{service.url}/v1", key, max_retries=0)
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], encoding_format="float")
    assert len(made.data) == 2
    assert client.files.list().data == []
    assert client.files.delete("file-1").deleted
    assert upstream.requests[-1].headers["Authorization"] == f"Bearer {key}"


def test_both_directions_are_byte_for_byte(service: Service, upstream: Simulator, key: str) -> None:
    upstream.script = binary(Send(BINARY), **{"Content-Disposition": 'attachment; filename="a"', "X-Secret": "no"})
    headers = {"Content-Type": "multipart/form-data; boundary=x", "OpenAI-Beta": "a=b", "Cookie": "c=d", "X-Own": "e"}
    for body in (BINARY, iter([BINARY, BINARY])):
        answer = service.post("/v1/audio/speech?a=b&c=%20d", data=body, key=key, headers=headers)
        assert (answer.status_code, answer.content) == (200, BINARY)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a"'
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert "X-Secret" not in answer.headers
        received = upstream.requests[-1]
        assert received.raw == (BINARY if body is BINARY else BINARY * 2)
        assert received.query == "a=b&c=%20d"
        assert received.headers["OpenAI-Beta"] == "a=b"
        assert received.headers["X-Client-Request-Id"] == answer.headers["X-Request-ID"]
        assert not {"Cookie", "X-Own"} & set(received.headers)


def test_a_response_is_passed_on_while_it_arrives(service: Service, upstream: Simulator, key: str, gate: Gate) -> None:
    upstream.script = binary(Send(b"first"), Wait(gate), Send(b" second"))
    with service.get("/v1/files/file-1/content", key=key, stream=True) as answer:
        pieces = answer.iter_content(None)
        assert next(pieces) == b"first"
        gate.open()
        assert b"".join(pieces) == b" second"


class Listener:
    """An upstream that tells when the first bytes of a body have come."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.begun = threading.Event()
        self.received = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while not self.received.endswith(b"0\r\n\r\n"):
                self.received += connection.recv(64 * KIB)
                if b"first" in self.received:
                    self.begun.set()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    def close(self) -> None:
        self._listener.close()


def test_a_request_is_passed_on_while_it_arrives(serve: Serve, key: str) -> None:
    listener = Listener()
    service = serve(upstream_url=listener.url, CHATAPI_RATE_LIMIT="0")

    def body() -> Iterator[bytes]:
        yield b"first"
        assert listener.begun.wait(20), "the upstream has nothing of it yet"
        yield b" second"

    assert service.post("/v1/files", data=body(), key=key).status_code == 200
    assert b" second" in listener.received
    listener.close()


def test_a_refusal_is_the_upstreams_own_without_the_key(service: Service, upstream: Simulator, key: str) -> None:
    refusal = scripts.Refusal(429, f"Slower, {key}.", type="requests", code="rate_limit_exceeded", retry_after="7")
    upstream.script = refusal.script()
    answer = service.post("/v1/embeddings", json={}, key=key)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert key not in answer.text
    upstream.script = scripts.redirect()
    assert service.get("/v1/files", key=key).status_code == 502
    upstream.script = scripts.gzip_bomb()
    assert service.get("/v1/files", key=key).status_code == 502


def test_both_directions_have_a_limit(service: Service, upstream: Simulator, key: str) -> None:
    before = len(upstream.requests)
    too_much = b"a" * (LIMIT + 1)
    answer = service.post("/v1/files", data=too_much, key=key)
    assert answer.status_code == 400
    assert "CHATAPI_MAX_PASSTHROUGH_BYTES" in answer.json()["error"]["message"]
    assert len(upstream.requests) == before, "its length was announced"
    answer = service.post("/v1/files", data=iter([too_much[:LIMIT], b"a"]), key=key)
    assert "CHATAPI_MAX_PASSTHROUGH_BYTES" in answer.json()["error"]["message"]
    assert len(upstream.requests) == before, "it did not come whole"
    upstream.script = binary(*[Send(too_much[: 64 * KIB])] * 17)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        service.get("/v1/files/file-1/content", key=key)


def test_a_response_that_breaks_off_is_cut(service: Service, upstream: Simulator, key: str) -> None:
    for length in ({}, {"Content-Length": "100"}):
        upstream.script = binary(Send(b"half"), Cut(), **length)
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
            service.get("/v1/files/file-1/content", key=key)


def test_a_client_that_leaves_ends_the_upstreams_response(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    seen: list[ReceivedRequest] = []

    def answer(request: ReceivedRequest) -> Script:
        seen.append(request)
        return binary(Send(b"first"), Wait(gate))

    upstream.script = answer
    with service.get("/v1/files/file-1/content", key=key, stream=True) as response:
        assert next(response.iter_content(None)) == b"first"
    assert seen[0].left.wait(20)


def test_every_other_path_is_openais_error_with_a_sentence(service: Service, key: str) -> None:
    for path in ("fine_tuning/jobs", "organization/users", "files/a/b/c", "nothing"):
        for method in ("GET", "POST", "DELETE", "PUT"):
            answer = service._request(method, f"/v1/{path}", key)
            assert answer.status_code == 404
            assert "passed on to the model API" in answer.json()["error"]["message"]
    for method, path in (("PUT", "files"), ("DELETE", "embeddings"), ("PUT", "chat/completions"), ("PATCH", "models")):
        answer = service._request(method, f"/v1/{path}", key)
        assert answer.status_code == 405, path
        assert answer.headers["Allow"]
        assert answer.json()["error"]["code"] == "method_not_allowed"
    assert service.get("/v1/files").status_code == 401


def test_a_client_that_keeps_sending_has_time_for_a_large_body(serve: Serve, upstream: Simulator) -> None:
    service = serve(upstream_url=upstream.url, CHATAPI_RATE_LIMIT="0", CHATAPI_RECEIVE_SECONDS="0.5")

    def body(size: int) -> Iterator[bytes]:
        for _ in range(4):
            yield b"a" * size
            time.sleep(0.2)  # the client is slow; nothing is waited for

    upstream.script = binary(Send(b"{}"))
    assert service.post("/v1/files", data=body(256 * KIB), key=KEY).status_code == 200
    with pytest.raises(requests.exceptions.ConnectionError):
        service.post("/v1/files", data=body(1), key=KEY)
