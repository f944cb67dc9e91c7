"""A key is used and forgotten: no response, header, log line, page or file ever contains it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from chatapi.api.http.identity import Client
from chatapi.auth.credentials import Credential
from chatapi.auth.keys import FRAGMENT, REDACTED, SEED_PREFIX, Key, redact
from chatapi.simulator import Chunks, Script, Send, Simulator, refuse, scripts
from chatapi.simulator.scripts import Refusal, event_stream
from tests.server_process import KEY, OTHER_KEY, SECRETS, Serve, Service, run_command

SECONDS = 20.0
NOT_FOR_NOW = 60  # a Retry-After that no client waits for
JSON = {"Content-Type": "application/json"}
GOOD = {"developer_message": "d", "user_message": "u", "api_key": KEY}
ECHO = f"Incorrect API key provided: {KEY}. Yes, Bearer {KEY}; key={KEY}; x{KEY}; '{KEY}'."


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Iterator[Service]:
    """A server that logs as much as possible. Its database, its files and its whole log are searched at the end."""
    server = serve_module(
        LOG_LEVEL="DEBUG", CHATAPI_RATE_LIMIT="0", CHATAPI_FIRST_TOKEN_SECONDS="1", CHATAPI_IDLE_SECONDS="0.3"
    )
    yield server
    rows = server.database.everything()
    assert not [secret for secret in SECRETS if secret in rows]
    server.check_no_secret()


@pytest.fixture(autouse=True)
def no_key_in_the_log(server: Service) -> Iterator[None]:
    """After each test, search the log that it caused."""
    seen = len(server.log)
    yield
    last = requests.get(f"{server.url}/api/health", timeout=SECONDS).headers["x-request-id"]
    server.wait_for_log("request", request_id=last, seen=seen)
    new = "".join(server.log[seen:])
    assert not [secret for secret in SECRETS if secret in new]


def check_shown(response: requests.Response, secret: str = KEY) -> bytes:
    """Check that no received part of the response contains the key; return its body."""
    shown = b"".join(f"{name}: {value}\n".encode() for name, value in response.headers.items())
    body = b""
    try:
        for chunk in response.iter_content(None):
            body += chunk
    except requests.exceptions.ChunkedEncodingError:
        pass
    assert secret.encode() not in shown + body
    assert secret[20:60].encode() not in shown + body, "nor a part of it"
    return body


def test_the_upstream_gets_the_key_in_its_header_and_nowhere_else(server: Service, upstream: Simulator) -> None:
    asked = len(upstream.requests)
    with server.send() as response:
        check_shown(response)
    server.post("/api/test-key", json={"api_key": KEY})
    for request in upstream.requests[asked:]:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        others = {name: value for name, value in request.headers.items() if name != "Authorization"}
        assert KEY not in str(others)
        assert KEY.encode() not in request.raw
        assert KEY not in request.path + request.query


# An upstream that echoes the key


def saying(status: int, **headers: str) -> Script:
    """Return a refusal that echoes the key in its body, and in the headers if given."""
    refusal = Refusal(status, ECHO, type=KEY, param=KEY, code=KEY, retry_after=str(NOT_FOR_NOW)).script()
    return Script(status, {**refusal.headers, **headers}, refusal.steps)


ECHOES = [
    *(pytest.param(saying(status), id=str(status)) for status in (400, 401, 403, 404, 408, 409, 429, 500, 503)),
    pytest.param(saying(400, **{"x-request-id": KEY, "x-ratelimit-limit-requests": KEY}), id="in headers"),
    pytest.param(saying(302, Location=f"/v1/{KEY}"), id="in a redirect"),
    pytest.param(
        event_stream(Send(f'data: {{"error": {{"message": "{ECHO}", "code": "{KEY}"}}}}\n\n'.encode())),
        id="in an event",
    ),
    pytest.param(scripts.error_frame("Half", Refusal(500, ECHO, code=KEY)), id="in an event after the first word"),
    pytest.param(event_stream(Send(f"data: {KEY}\n\n".encode())), id="in a broken event"),
    pytest.param(
        event_stream(Send(Chunks().content("Half")), Send(f'data: {{"choices": "{KEY}"}}\n\n'.encode())),
        id="in a broken event after the first word",
    ),
    pytest.param(
        Script(
            200,
            {**scripts.answer("Hi").headers, "x-request-id": f"req-{KEY}", "x-ratelimit-limit-requests": KEY},
            tuple(scripts.answer("Hi").steps),
        ),
        id="in the headers of an answer",
    ),
    pytest.param(
        Script(200, {"Content-Type": "text/html", "X-Key": KEY}, (Send(f"<p>{KEY}</p>".encode()),)), id="in a web page"
    ),
    pytest.param(
        Script(
            400,
            {"Content-Type": "application/json"},
            (Send(json.dumps({"error": {"message": "ä" * 380 + KEY}}).encode()),),
        ),
        id="where a long sentence is cut",
    ),
]


@pytest.mark.table
@pytest.mark.parametrize("how", [{}, {"headers": {"Accept": "text/event-stream"}}, {"stream": False}])
@pytest.mark.parametrize("script", ECHOES)
def test_an_upstream_that_echoes_the_key_is_not_quoted(
    server: Service, upstream: Simulator, script: Script, how: dict[str, Any]
) -> None:
    upstream.script = script
    with server.send(**how) as response:
        check_shown(response)
        session_id = response.headers["X-Session-ID"]
    for path in (f"/api/sessions/{session_id}/messages", f"/api/chat/{session_id}/stream?offset=0"):
        with server.get(path, stream=True) as again:
            check_shown(again)
    with server.post(f"/api/chat/{session_id}/stop") as stopped:
        check_shown(stopped)


@pytest.mark.table
@pytest.mark.parametrize("script", ECHOES)
def test_the_test_of_a_key_does_not_quote_it(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = script
    with server.post("/api/test-key", json={"api_key": KEY}, stream=True) as response:
        check_shown(response)


def test_a_repeated_request_after_a_failure_does_not_quote_it(server: Service, upstream: Simulator) -> None:
    upstream.script = saying(400)
    for _ in range(2):
        with server.send(headers={"Idempotency-Key": "quoted"}) as response:
            assert response.status_code == 400
            check_shown(response)


@pytest.mark.table
@pytest.mark.parametrize(
    "script",
    [
        scripts.never_answers(),
        scripts.cut_before_headers(),
        scripts.cut_after("Half"),
        scripts.silent_after("Half"),
        scripts.gzip_bomb(1024 * 1024),
        scripts.endless_line(2 * 1024 * 1024),
        scripts.html_page(200),
        Script(before_headers=(Send(f"HTTP/1.1 {KEY}\r\n\r\n".encode()), scripts.Cut())),
        Script(before_headers=(Send(b"HTTP/1.1 200 OK\r\nX: " + KEY.encode() * 400), scripts.Cut())),
    ],
    ids=["silence", "reset", "cut", "falls silent", "gzip", "endless", "page", "no HTTP", "long header"],
)
def test_no_fault_of_the_upstream_shows_the_key(server: Service, upstream: Simulator, script: Script) -> None:
    upstream.script = script
    with server.send() as response:
        check_shown(response)


# A user who sends the key in the wrong place


@pytest.mark.table
@pytest.mark.parametrize(
    "body",
    [
        {KEY: 1},
        {"key": KEY},
        {"api_key": [KEY]},
        {"api_key": {KEY: KEY}},
        {"api_key": KEY + "\n"},
        {"api_key": f" {KEY}"},
        {"session_id": KEY},
        {"session_id": [KEY]},
        {"model": KEY},
        {"temperature": KEY},
        {"stop": {KEY: KEY}},
        {"on_disconnect": KEY},
        {"reasoning_effort": KEY},
        {"title": KEY},
        [KEY],
        KEY,
    ],
    ids=lambda value: str(value).replace(KEY, "KEY"),
)
def test_a_key_in_the_wrong_field_is_not_echoed(server: Service, body: Any) -> None:
    whole = GOOD | body if isinstance(body, dict) else body
    for path in ("/api/chat", "/api/test-key", "/api/sessions"):
        with server.post(path, data=json.dumps(whole), headers=JSON, stream=True) as response:
            assert 400 <= response.status_code < 500, path
            check_shown(response)


@pytest.mark.table
@pytest.mark.parametrize(
    "body",
    [f'{{"api_key": "{KEY}"', f'{{"api_key": "{KEY}", "api_key": "{KEY}"}}', f"api_key={KEY}", f'{{"api_key": {KEY}}}'],
    ids=["cut off", "twice", "a form", "unquoted"],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", KEY])
def test_a_key_in_a_body_that_is_not_json_is_not_echoed(server: Service, body: str, content_type: str) -> None:
    with server.post("/api/chat", data=body, headers={"Content-Type": content_type}, stream=True) as response:
        assert response.status_code in {400, 415}
        check_shown(response)


SESSION_PATHS = ["/api/sessions/{}", "/api/sessions/{}/messages", "/api/chat/{}/stream", "/api/chat/{}/stop"]


@pytest.mark.table
@pytest.mark.parametrize(
    "place",
    [
        KEY,
        f"ses_{KEY}",
        f"ses{KEY}",
        KEY + "/",
        KEY + "/none",
        quote(KEY, safe="").replace("sk-", "%73k-"),
        "x" * 100 + KEY,
        f"x?api_key={KEY}",
        f"x/?api_key={KEY}",
        f"x?{KEY}",
        f"x?generation_id={KEY}",
        f"x?cursor={KEY}",
        f"x?limit={KEY}&offset={KEY}",
        f"x#{KEY}",
    ],
    ids=lambda place: place.replace(KEY, "KEY"),
)
def test_a_key_in_a_path_is_not_echoed(server: Service, place: str) -> None:
    for path in (*SESSION_PATHS, "/{}", "/docs/{}", "/api/chat/{}"):
        for method in ("GET", "POST"):
            address = server.url + path.format(place)
            with requests.request(method, address, timeout=SECONDS, allow_redirects=False, stream=True) as response:
                assert 400 <= response.status_code < 500, (method, path)
                check_shown(response)


@pytest.mark.table
@pytest.mark.parametrize("path", ["/api/health", "/api/sessions", "/docs", "/openapi.json", "/", "/api/sessions/"])
def test_a_key_in_a_query_is_not_echoed(server: Service, path: str) -> None:
    query = f"?api_key={KEY}&limit={KEY}&cursor={KEY}"
    with requests.get(server.url + path + query, timeout=SECONDS, allow_redirects=False, stream=True) as response:
        check_shown(response)


@pytest.mark.table
@pytest.mark.parametrize(
    "name",
    [
        "X-Request-ID",
        "Idempotency-Key",
        "Last-Event-ID",
        "Origin",
        "Host",
        "Accept",
        "User-Agent",
        "Referer",
        "Cookie",
        KEY,
    ],
    ids=lambda name: name.replace(KEY, "KEY"),
)
def test_a_key_in_the_wrong_header_is_not_echoed(server: Service, name: str) -> None:
    with server.send(headers={name: KEY}) as response:
        check_shown(response)
        session_id = response.headers.get("X-Session-ID", "none")
    for path in ("/api/none/", *(path.format(session_id) for path in SESSION_PATHS)):
        with requests.get(
            server.url + path, headers={name: KEY}, timeout=SECONDS, allow_redirects=False, stream=True
        ) as seen:
            check_shown(seen)


@pytest.mark.parametrize("name", ["Access-Control-Request-Headers", "Access-Control-Request-Method", "Origin"])
def test_a_key_in_a_preflight_is_not_logged(server: Service, name: str) -> None:
    asked = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST", name: KEY}
    requests.options(f"{server.url}/api/chat", headers=asked, timeout=SECONDS)


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {OTHER_KEY}"}, {"X-API-Key": OTHER_KEY}], ids=["bearer", "x"]
)
def test_two_different_keys_are_not_echoed(server: Service, headers: dict[str, str]) -> None:
    with server.send(headers=headers) as response:
        assert response.status_code == 422
        assert OTHER_KEY.encode() not in check_shown(response)


def test_bytes_that_are_not_http_are_not_logged(server: Service) -> None:
    url = urlsplit(server.url)
    for data in (
        f"{KEY}\r\n\r\n",
        f"GET /{KEY} HTTP/{KEY}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\n{KEY} {KEY}\r\n\r\n",
    ):
        with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=SECONDS) as client:
            client.sendall(data.encode())
            assert KEY.encode() not in client.recv(65536)


# Pages and lists


def test_a_page_contains_no_key(server: Service) -> None:
    with server.send() as response:
        check_shown(response)
    for path in ("/docs", "/docs.css", "/openapi.json", "/api/health", "/api/config", "/api/sessions"):
        with server.get(path, key=KEY, stream=True) as page:
            assert page.status_code == 200
            check_shown(page)


def test_a_session_does_not_show_its_owner(server: Service) -> None:
    with server.send() as response:
        check_shown(response)
        session_id = response.headers["X-Session-ID"]
    for path in (f"/api/sessions/{session_id}", f"/api/sessions/{session_id}/messages"):
        with server.get(path, key=KEY, stream=True) as seen:
            assert b"owner" not in check_shown(seen)


def test_a_key_of_another_format_is_kept_secret(serve: Serve, simulator: Simulator) -> None:
    key = "tok_" + "a1b2c3d4" * 4
    SECRETS.append(key)
    server = serve(CHATAPI_KEY_PATTERN="tok_[a-z0-9]{32}", LOG_LEVEL="DEBUG")
    for status in (400, 401, 429, 500):
        simulator.script = refuse(status, message=f"What is {key}?", retry_after=NOT_FOR_NOW)
        with server.send(key=key) as response:
            assert response.status_code >= 400
            check_shown(response, key)
            session_id = response.headers["X-Session-ID"]
        with server.get(f"/api/sessions/{session_id}/messages", stream=True) as messages:
            check_shown(messages, key)
    simulator.script = scripts.error_frame("Half", Refusal(500, f"What is {key}?"))
    with server.send(key=key, headers={"Accept": "text/event-stream"}) as response:
        check_shown(response, key)


def test_a_key_of_another_format_in_the_wrong_place_is_not_echoed(serve: Serve) -> None:
    key = "tok_" + "z9y8x7w6" * 4
    SECRETS.append(key)
    server = serve(CHATAPI_KEY_PATTERN="tok_[a-z0-9]{32}", LOG_LEVEL="DEBUG")
    for body in ({key: 1}, {"session_id": key}, {"model": f"{key} "}, {"verbosity": key}):
        with server.send(key=key, **body) as response:
            check_shown(response, key)
    with server.get(f"/api/sessions/{key}", headers={"X-Request-ID": key}, stream=True) as response:
        check_shown(response, key)
        server.wait_for_log("request", request_id=response.headers["x-request-id"])
    server.check_no_secret()


@pytest.mark.parametrize("wrong", [{"CHATAPI_SECRET": KEY[:20]}, {"OPENAI_BASE_URL": f"ftp://{KEY}"}, {"PORT": KEY}])
def test_a_failed_start_echoes_no_setting(tmp_path: Path, wrong: dict[str, str]) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/chat.db", "PORT": "0"} | wrong
    ended = run_command(cwd=tmp_path, settings=settings)
    assert ended.returncode == 2
    assert next(iter(wrong)) in ended.stderr
    assert next(iter(wrong.values())) not in ended.stdout + ended.stderr


@pytest.mark.parametrize("around", ["", "x" * 400], ids=["shorter than the key", "longer than the key"])
@pytest.mark.parametrize("upper", [False, True])
def test_a_part_of_a_key_in_an_upstreams_text_is_hidden(around: str, upper: bool) -> None:
    part = KEY[40 : 40 + FRAGMENT]
    shown = Key(KEY).hide(f"{around} {part.upper() if upper else part}, {around}")
    assert part.lower() not in shown.lower()
    assert shown.count(REDACTED) >= 1
    assert "ok" in Key(KEY).hide("ok")


@pytest.mark.parametrize("before", ["", "/", "token=", "token-"])
def test_a_json_web_token_is_hidden_behind_any_mark(before: str) -> None:
    assert redact(before + "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln") == before + REDACTED


@pytest.mark.parametrize("part", ["-eyJ", "-eyJaaaaaaaa"])
def test_a_long_path_that_resembles_keys_is_searched_at_once(part: str) -> None:
    path = "/" + part * (64_000 // len(part))
    begun = time.thread_time()
    assert redact(path) == path
    assert time.thread_time() - begun < 0.5, "it took seconds, in which nothing else was served"


def test_a_long_text_of_parts_of_a_key_is_hidden_at_once() -> None:
    begun = time.thread_time()
    assert Key(SEED_PREFIX + "a" * 156).hide("a" * 64_000) == REDACTED
    assert time.thread_time() - begun < 0.5, "it took a second"


def test_no_representation_of_a_caller_contains_its_key() -> None:
    key = Key(KEY)
    client = Client("192.0.2.1", {b"authorization": f"Bearer {KEY}".encode()}, key=key)
    for shown in (key, Credential(key), client):
        assert KEY not in f"{shown!r} {shown}"
