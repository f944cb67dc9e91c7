"""Bad input gets a clear answer quickly, which echoes nothing, and does the server no harm."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from chatapi.api.http.request_body import UNVERIFIED_INLINE_BYTES
from chatapi.simulator import Simulator
from tests.server_process import KEY, OTHER_KEY, Serve, Service

pytestmark = pytest.mark.one_process("it is refused before there is a store")

JSON = {"Content-Type": "application/json"}
QUICK_SECONDS = 3.0  # for any answer to bad input; an idle machine takes milliseconds
RECEIVE_SECONDS = 1.0  # for a client to send its request
MIB = 1024 * 1024
FLAT_BYTES = 24 * MIB  # of growth that are allowed while a client sends several times as much
POURED_BYTES = 128 * MIB
MARK = "Xq7Mark"  # in the request, and never in the response

ROUTES = {
    "/api/chat": {"developer_message": "d", "user_message": "u", "api_key": KEY},
    "/api/test-key": {"api_key": KEY},
    "/api/sessions": {"developer_message": "d"},
}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(
        CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_GENERATIONS_PER_KEY="0", CHATAPI_RECEIVE_SECONDS=str(RECEIVE_SECONDS)
    )


@pytest.fixture(autouse=True)
def still_well(server: Service) -> Iterator[None]:
    """After each test, check that the server still answers."""
    yield
    assert requests.get(f"{server.url}/api/health", timeout=QUICK_SECONDS).json()["status"] == "ok"


def chat_with(**fields: Any) -> dict[str, Any]:
    return ROUTES["/api/chat"] | fields


def send(server: Service, data: bytes | str, path: str = "/api/chat", **headers: str) -> requests.Response:
    headers = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(server.url + path, data=data, headers=headers, timeout=QUICK_SECONDS)


def check_problem(response: requests.Response, statuses: set[int], field: str | None = None) -> None:
    """Check that it is a problem of this status that names the field and contains nothing of the request."""
    assert response.status_code in statuses, response.text
    told = response.json()
    if "code" in told:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert told["status"] == response.status_code
        assert told["title"]
    assert told["detail"].endswith((".", "found"))
    assert MARK not in response.text
    assert KEY not in response.text
    if field is not None:
        assert field in [error["field"] for error in told["errors"]], told
        assert all(error["message"] for error in told["errors"])


# Fields


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/chat", "user_message"),
        ("/api/chat", "developer_message"),
        ("/api/chat", "api_key"),
        ("/api/test-key", "api_key"),
        ("/api/sessions", "developer_message"),
    ],
)
def test_a_missing_field_is_named(server: Service, upstream: Simulator, path: str, field: str) -> None:
    asked = len(upstream.requests)
    body = {name: value for name, value in ROUTES[path].items() if name != field}
    check_problem(send(server, json.dumps(body), path), {422}, field)
    assert len(upstream.requests) == asked


WRONG = {
    "string": (7, 1.5, True, [[MARK]], {MARK: MARK}),
    "strings": (7, 1.5, True, [[MARK]], {MARK: MARK}),
    "boolean": (MARK, 7, 1.5, [[MARK]], {MARK: MARK}),
    "number": (MARK, True, [[MARK]], {MARK: MARK}),
    "integer": (MARK, 1.5, 2.0, True, [[MARK]], {MARK: MARK}),
}
TYPES = {
    "user_message": "string",
    "developer_message": "string",
    "model": "string",
    "api_key": "string",
    "session_id": "string",
    "stream": "boolean",
    "on_disconnect": "string",
    "if_busy": "string",
    "temperature": "number",
    "top_p": "number",
    "max_tokens": "integer",
    "max_completion_tokens": "integer",
    "stop": "strings",
    "seed": "integer",
    "presence_penalty": "number",
    "frequency_penalty": "number",
    "reasoning_effort": "string",
    "verbosity": "string",
    "service_tier": "string",
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, kind in TYPES.items() for value in WRONG[kind]], ids=repr
)
def test_a_mistyped_field_is_named(server: Service, upstream: Simulator, field: str, value: Any) -> None:
    asked = len(upstream.requests)
    response = send(server, json.dumps(chat_with(**{field: value})))
    check_problem(response, {422})
    assert all(error["field"].split(".")[0] == field for error in response.json()["errors"])
    assert len(upstream.requests) == asked


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_message", ""),
        ("model", ""),
        ("model", "no such\nmodel"),
        ("model", "gpt" * 10_000 + MARK),
        ("model", f"../{MARK}"),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("max_completion_tokens", -1),
        ("max_completion_tokens", 10**30),
        ("seed", 2**63),
        ("presence_penalty", -2.1),
        ("frequency_penalty", 3),
        ("stop", []),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", MARK * 1000),
        ("reasoning_effort", f"low\n{MARK}"),
        ("verbosity", "LOW"),
        ("service_tier", MARK),
        ("on_disconnect", MARK),
        ("if_busy", MARK),
        ("user_message", f"NUL \0 {MARK}"),
        ("developer_message", f"NUL \0 {MARK}"),
        ("stop", "\0"),
        ("user_message", f"half \ud83d {MARK}"),
        ("developer_message", f"half \udc4b {MARK}"),
        ("model", "gpt-\ud83d"),
        ("stop", ["\ud83d"]),
        ("reasoning_effort", "\ud83d"),
        ("user_message", "€" * 87_382),  # 256 KiB of UTF-8, and 2 bytes
        ("developer_message", MARK * 50_000),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_field_that_is_out_of_bounds_is_named(server: Service, upstream: Simulator, field: str, value: Any) -> None:
    asked = len(upstream.requests)
    response = send(server, json.dumps(chat_with(**{field: value})))
    check_problem(response, {422})
    assert all(error["field"].split(".")[0] == field for error in response.json()["errors"]), response.text
    assert len(upstream.requests) == asked


REQUIREMENTS = [
    ({"user_message": 7}, "user_message: It must be a string."),
    ({"user_message": "u", "api_key": 7}, "api_key: It must be a string."),
    ({"user_message": "\ud800"}, "user_message: It must be a string without unpaired surrogates."),
    ({"user_message": ""}, "user_message: It must have at least 1 character."),
    ({"stream": "yes"}, "stream: It must be true or false."),
    ({"temperature": "hot"}, "temperature: It must be a number."),
    ({"temperature": 3}, "temperature: It must be less than or equal to 2."),
    ({"max_tokens": 1.5}, "max_tokens: It must be an integer."),
    ({"model": "a b"}, "model: It must match the pattern '^[A-Za-z0-9@][A-Za-z0-9_.:/@+-]{0,127}$'."),
    ({"if_busy": "wait"}, "if_busy: It must be 'reject', 'interrupt' or 'queue'."),
    ({"attachments": {}}, "attachments: It must be a list."),
    ({"attachments": ["a"]}, "attachments.0: It must be an object with names and values."),
    ({"attachments": [{}] * 17}, "attachments: It must have at most 16 items."),
    ({"attachments": [{"type": MARK}]}, "attachments.0: Its type must be one of 'image', 'file'."),
    ({"attachments": [{"kind": MARK}]}, "attachments.0: It must have the field 'type'."),
]


@pytest.mark.parametrize(("fields", "sentence"), REQUIREMENTS, ids=[sentence for _, sentence in REQUIREMENTS])
def test_the_detail_names_the_field_and_its_requirement(server: Service, fields: dict[str, Any], sentence: str) -> None:
    """Many clients show the detail alone."""
    response = send(server, json.dumps(chat_with(**fields)))
    check_problem(response, {422})
    assert response.json()["detail"] == sentence
    assert [f"{error['field']}: {error['message']}" for error in response.json()["errors"]] == [sentence]


def test_a_message_of_exactly_the_maximum_size_is_accepted(server: Service) -> None:
    with server.send("€" * 87_381) as response:
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("/api/chat", chat_with(user_message="a" * 262_145), "user_message"),
        ("/api/chat", chat_with(developer_message="€" * 87_382), "developer_message"),
        ("/api/sessions", {"developer_message": "a" * 262_145}, "developer_message"),
        ("/v1/responses", {"input": "a" * 262_145}, "input.0"),
        ("/v1/responses", {"input": "a", "instructions": "a" * 262_145}, "instructions"),
    ],
    ids=["message", "instructions", "session", "input", "instructions of a response"],
)
def test_a_message_over_the_maximum_size_is_named_with_the_setting(
    server: Service, path: str, fields: dict[str, Any], field: str
) -> None:
    bearer = {"Authorization": f"Bearer {KEY}"} if path.startswith("/v1/") else {}
    response = send(server, json.dumps(fields), path, **bearer)
    assert response.status_code == (400 if bearer else 422)
    text = response.json()["error"]["message"] if bearer else response.json()["detail"]
    assert re.fullmatch(rf"{field}: (?:It m|M)ust have at most 262144 bytes .*\(CHATAPI_MAX_MESSAGE_BYTES\)\.", text)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "field", ["temprature", f"{MARK}", KEY, f"{KEY}\n", "", "\ud83d", "a" * 100_000, "$ref", "__proto__"]
)
def test_an_unknown_field_is_refused_and_no_key_in_its_name_is_repeated(
    server: Service, upstream: Simulator, path: str, field: str
) -> None:
    asked = len(upstream.requests)
    response = send(server, json.dumps(ROUTES[path] | {field: MARK}), path)
    is_large = path == "/api/test-key" and len(field) > 16 * 1024
    check_problem(response, {413} if is_large else {400, 422}, "temprature" if field == "temprature" else None)
    assert len(response.content) < 1000
    assert len(upstream.requests) == asked


def test_very_many_unknown_fields_get_a_short_answer(server: Service) -> None:
    body = chat_with(**{f"f{number}": number for number in range(60_000)})
    response = send(server, json.dumps(body))
    check_problem(response, {400, 422})
    assert len(response.content) < 4000


@pytest.mark.parametrize("key", [OTHER_KEY, "sk-proj-short", ""])
def test_two_keys_that_differ_are_refused(server: Service, upstream: Simulator, key: str) -> None:
    asked = len(upstream.requests)
    response = send(server, json.dumps(ROUTES["/api/chat"]), Authorization=f"Bearer {key}")
    check_problem(response, {400, 422})
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("title", ["x" * 201, "\0", "\ud83d", 5, [MARK]], ids=repr)
def test_an_invalid_title_is_refused(server: Service, title: Any) -> None:
    session_id = server.post("/api/sessions", json=ROUTES["/api/sessions"]).json()["session_id"]
    response = server.patch(f"/api/sessions/{session_id}", data=json.dumps({"title": title}), headers=JSON)
    check_problem(response, {422}, "title")


def test_the_length_of_a_title_is_in_characters(server: Service) -> None:
    response = server.patch("/api/sessions/any", json={"title": "x" * 201})
    assert response.json()["detail"] == "title: It must have at most 200 characters."


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1},
        {"a": {"b": MARK}},
        {"a": "\0"},
        {"a": "\ud83d"},
        {"\ud83d": "a"},
        {MARK * 10: "a"},
        {"a": MARK * 100},
        {str(number): "a" for number in range(17)},
        [MARK],
        MARK,
        {"api_key": KEY},
        {KEY: "a"},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_invalid_metadata_is_refused(server: Service, metadata: Any) -> None:
    session_id = server.post("/api/sessions", json=ROUTES["/api/sessions"]).json()["session_id"]
    response = server.patch(f"/api/sessions/{session_id}", data=json.dumps({"metadata": metadata}), headers=JSON)
    check_problem(response, {400, 422})


@pytest.mark.parametrize(
    "session_id",
    ["x", "ses_" + "A" * 900_000, "../../etc/passwd", f"{MARK}", "\0", "' OR 1=1 --", "\ud83d", "ses_\udc4b"],
)
def test_an_absurd_session_id_is_a_plain_404_or_ignored_when_empty(server: Service, session_id: str) -> None:
    response = send(server, json.dumps(chat_with(session_id=session_id)))
    check_problem(response, {404, 422})
    if response.status_code == 404:
        assert response.content == b'{"detail":"Session not found"}'


@pytest.mark.parametrize(
    "generation_id", ["x", "\0", "\ud83d", 7, [MARK], "A" * 900_000], ids=lambda value: repr(value)[:20]
)
def test_an_absurd_generation_id_stops_nothing(server: Service, generation_id: Any) -> None:
    session_id = server.post("/api/sessions", json=ROUTES["/api/sessions"]).json()["session_id"]
    check_problem(
        send(server, json.dumps({"generation_id": generation_id}), f"/api/chat/{session_id}/stop"), {404, 422}
    )


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 60_000])
def test_an_invalid_idempotency_key_is_named(server: Service, upstream: Simulator, key: str) -> None:
    asked = len(upstream.requests)
    response = send(server, json.dumps(chat_with()), Idempotency_Key=key)
    check_problem(response, {422, 431}, "Idempotency-Key" if response.status_code == 422 else None)
    assert len(upstream.requests) == asked


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=1.5", "offset=9007199254740992", "offset=" + "9" * 4500]
)
def test_an_invalid_offset_is_named(server: Service, query: str) -> None:
    session_id = server.post("/api/sessions", json=ROUTES["/api/sessions"]).json()["session_id"]
    check_problem(server.get(f"/api/chat/{session_id}/stream?{query}"), {422}, "offset")


@pytest.mark.parametrize("event_id", ["-1", "x", "1.5", "9" * 4500, MARK])
def test_an_invalid_last_event_id_is_refused(server: Service, event_id: str) -> None:
    session_id = server.post("/api/sessions", json=ROUTES["/api/sessions"]).json()["session_id"]
    check_problem(server.get(f"/api/chat/{session_id}/stream", headers={"Last-Event-ID": event_id}), {422})


# Bodies

GOOD = json.dumps(ROUTES["/api/chat"]).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="a space"),
        pytest.param(GOOD[:-1], id="cut off"),
        pytest.param(GOOD + b"{}", id="two values"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="a byte order mark"),
        pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.decode().encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param(GOOD.decode().encode("utf-32"), id="UTF-32"),
        pytest.param(GOOD.replace(b'"u"', b'"\xff\xfe"'), id="no UTF-8"),
        pytest.param(GOOD.replace(b'"u"', b'"\xed\xa0\xbd"'), id="a surrogate in bytes"),
        pytest.param(GOOD.replace(b'"u"', b'"\xc0\x80"'), id="an overlong NUL"),
        pytest.param(GOOD.replace(b'"u"', b'"a\nb"'), id="a line end in a string"),
        pytest.param(GOOD.replace(b'"u"', b'"a\x00b"'), id="a bare NUL"),
        pytest.param(GOOD.replace(b'"u"', b"NaN"), id="NaN for a string"),
        pytest.param(GOOD[:-1] + b',"temperature":NaN}', id="NaN"),
        pytest.param(GOOD[:-1] + b',"temperature":Infinity}', id="Infinity"),
        pytest.param(GOOD[:-1] + b',"temperature":-Infinity}', id="-Infinity"),
        pytest.param(GOOD[:-1] + b',"temperature":1e999}', id="a number past all floats"),
        pytest.param(GOOD[:-1] + b',"seed":' + b"9" * 10_000 + b"}", id="a number of ten thousand digits"),
        pytest.param(GOOD[:-1] + b',"seed":01}', id="a number with a leading zero"),
        pytest.param(GOOD[:-1] + b',"user_message":"' + MARK.encode() + b'"}', id="a field twice"),
        pytest.param(GOOD[:-1] + b',"api_key":"' + OTHER_KEY.encode() + b'"}', id="the key twice"),
        pytest.param(GOOD.replace(b'"u"', b'{"a":1,"a":2}'), id="a name twice, deeper"),
        pytest.param(GOOD.replace(b'"', b"'"), id="single quotes"),
        pytest.param(GOOD[:-1] + b",}", id="a comma too many"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="a hundred thousand lists"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="a hundred thousand objects"),
        pytest.param(b"[" * 100_000, id="a hundred thousand open lists"),
        pytest.param(GOOD[:-1] + b',"stop":' + b"[" * 900 + b"]" * 900 + b"}", id="nine hundred lists in a field"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" + GOOD + b"]", id="a list of one"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="a number"),
        pytest.param(b'"' + MARK.encode() + b'"', id="a string"),
        pytest.param(b"user_message=" + MARK.encode(), id="a form"),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/sessions"])
def test_a_body_that_is_not_one_json_object_is_refused_quickly(
    server: Service, upstream: Simulator, path: str, body: bytes
) -> None:
    asked = len(upstream.requests)
    is_large_without_key = path == "/api/chat" and len(body) > UNVERIFIED_INLINE_BYTES and b"api_key" not in body
    check_problem(send(server, body, path), {401} if is_large_without_key else {400, 422})
    assert len(upstream.requests) == asked


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        f"text/{MARK}",
        "",
    ],
)
@pytest.mark.parametrize("path", ROUTES)
def test_a_body_without_a_json_content_type_is_not_read(
    server: Service, upstream: Simulator, path: str, content_type: str
) -> None:
    """This also prevents a page on another site from sending without a preflight."""
    asked = len(upstream.requests)
    body = json.dumps(ROUTES[path])
    check_problem(send(server, body, path, Content_Type=content_type), {415})
    assert len(upstream.requests) == asked


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"user_message":\n "u",}', "line 2, column 6"),
        (b"", "line 1, column 1"),
        (GOOD.replace(b'"u"', b'"\xff"'), f"byte {GOOD.index(b':', GOOD.index(b'user_message')) + 3}"),
        (GOOD[:-1] + b',"api_key":"' + OTHER_KEY.encode() + b'"}', "an object repeats a name"),
        (GOOD[:-1] + b',"temperature":NaN}', "NaN is not a number"),
        (GOOD[:-1] + b',"temperature":-1e400}', "a number is too large"),
        (GOOD[:-1] + b',"temperature":' + b"1" * 5000 + b"}", "an integer has too many digits"),
        (GOOD[:-1] + b',"metadata":' + b"[" * 49_000 + b"]" * 49_000 + b"}", "it nests too deeply"),
    ],
)
def test_a_fault_in_json_is_located(server: Service, body: bytes, fault: str) -> None:
    response = send(server, body)
    check_problem(response, {400})
    assert response.json()["code"] == "malformed_json"
    assert f": {fault}. " in response.json()["detail"]


def test_a_schema_with_a_number_past_all_floats_is_refused(server: Service) -> None:
    """A response repeats its tools, and JSON has no infinity."""
    body = b'{"input":"x","tools":[{"type":"function","name":"f","parameters":{"maximum":1e400}}]}'
    assert send(server, body, "/v1/responses", Authorization=f"Bearer {KEY}").status_code == 400


@pytest.mark.parametrize("path", [*ROUTES, "/v1/responses"])
def test_a_compressed_body_is_refused_with_the_remedy(server: Service, upstream: Simulator, path: str) -> None:
    """A body that is not decompressed is no JSON; an error about JSON would not help."""
    asked = len(upstream.requests)
    response = send(server, gzip.compress(GOOD), path, Content_Encoding="gzip", Authorization=f"Bearer {KEY}")
    assert response.status_code == (400 if path.startswith("/v1/") else 415)  # as OpenAI's clients expect
    assert "uncompressed, without the header Content-Encoding" in response.text
    assert response.headers["Accept-Encoding"] == "identity"
    assert len(upstream.requests) == asked
    assert send(server, GOOD, Content_Encoding="identity").status_code == 200


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_a_json_content_type_may_have_any_standard_form(server: Service, content_type: str) -> None:
    assert send(server, GOOD, Content_Type=content_type).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/none", 404),
        ("GET", f"/{MARK}", 404),
        ("GET", f"/api/sessions/{MARK}/{MARK}", 404),
        ("PUT", "/api/chat", 405),
        ("DELETE", "/api/chat", 405),
        ("TRACE", "/api/health", 405),
        ("BREW", "/api/health", 405),
        ("POST", "/api/health", 405),
    ],
)
def test_an_unknown_path_or_method_is_a_problem(server: Service, method: str, path: str, status: int) -> None:
    response = requests.request(method, server.url + path, timeout=QUICK_SECONDS, allow_redirects=False)
    if method == "BREW":
        assert 400 <= response.status_code < 500  # the HTTP parser rejects this method
    else:
        check_problem(response, {status})


@pytest.mark.parametrize("path", ["/api/chat/", "/api/sessions/", "/api/health/"])
def test_a_slash_at_the_end_of_a_path_is_named(server: Service, path: str) -> None:
    response = send(server, GOOD, path)
    check_problem(response, {404})
    assert "no path of this API ends with a slash" in response.json()["detail"]


def test_a_slash_at_the_end_of_a_path_of_openai_is_named(server: Service) -> None:
    response = send(server, GOOD, "/v1/chat/completions/")
    assert response.status_code == 404
    assert "no path of this API ends with a slash" in response.json()["error"]["message"]


# The connection

HEAD = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ANNOUNCED = HEAD + b"Content-Length: %d\r\n\r\n"


def connect(server: Service) -> socket.socket:
    url = urlsplit(server.url)
    assert url.hostname is not None
    assert url.port is not None
    return socket.create_connection((url.hostname, url.port), timeout=QUICK_SECONDS + RECEIVE_SECONDS)


def answer_to(server: Service, data: bytes) -> bytes:
    """Return the bytes that arrive before the connection ends or is silent."""
    with connect(server) as client:
        client.sendall(data)
        return client.recv(65536)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
        CHUNKED + b"zz\r\nhello\r\n",
        CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_refused(server: Service, data: bytes) -> None:
    assert answer_to(server, data)[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 415", b""}


@pytest.mark.parametrize("host", [b"[", b"]", b"[::1", b"a:b:c", b"\xff\xfe", b"a b", b"localhost:99999999", b"%"])
def test_an_invalid_host_counts_as_another_machine(server: Service, host: bytes) -> None:
    with server.send() as response:
        path = f"/api/sessions/{response.headers['X-Session-ID']}".encode()
    told = answer_to(server, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
    assert told[:12] in {b"HTTP/1.1 401", b"HTTP/1.1 400"} or host == b"localhost:99999999"
    assert b"HTTP/1.1 5" not in told


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"G"], id="not even a request line"),
        pytest.param(
            [b"GET /api/health HTTP/1.1\r\nHost: x\r\n", *[b"X-%d: y\r\n" % n for n in range(40)]], id="headers"
        ),
        pytest.param(
            [b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"]
            + [b" "] * 40,
            id="a body",
        ),
        pytest.param(
            [CHUNKED] + [b"1\r\n \r\n"] * 40,
            id="a body of chunks",
        ),
    ],
)
def test_a_slow_sender_is_disconnected(server: Service, parts: list[bytes]) -> None:
    began = time.monotonic()
    with connect(server) as client:
        client.settimeout(RECEIVE_SECONDS / 10)
        for part in parts:  # a byte now and then, as if it were alive
            try:
                client.sendall(part)
                assert client.recv(1000) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            client.settimeout(QUICK_SECONDS)
            with suppress(ConnectionError):
                assert client.recv(1000) == b""
    assert time.monotonic() - began < RECEIVE_SECONDS + QUICK_SECONDS


def resident_bytes(server: Service) -> int:
    """Return the resident memory of the server."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def pour(server: Service, head: bytes, some: bytes) -> bytes:
    """Send without end until the server has answered and closed, or all is sent; return the answer."""
    told = b""
    with connect(server) as client:
        try:
            client.sendall(head)
            for _ in range(POURED_BYTES // len(some)):
                client.sendall(some)
            told = client.recv(65536)
        except ConnectionError:
            pass
    return told


@pytest.mark.parametrize(
    ("head", "some"),
    [
        pytest.param(CHUNKED, b"%x\r\n%b\r\n" % (MIB, b"a" * MIB), id="a body without a length"),
        pytest.param(ANNOUNCED % POURED_BYTES, b"a" * MIB, id="a body with its length"),
        pytest.param(
            CHUNKED.replace(b"json", b"xml"), b"%x\r\n%b\r\n" % (MIB, b"a" * MIB), id="a body of another type"
        ),
        pytest.param(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a" * MIB, id="a header"),
        pytest.param(
            b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n",
            b"".join(b"X-%d: a\r\n" % n for n in range(100_000)),
            id="headers",
        ),
        pytest.param(b"GET /", b"a" * MIB, id="an address"),
        pytest.param(CHUNKED + b"0\r\nX-A: ", b"a" * MIB, id="a trailer"),
    ],
)
def test_memory_stays_flat_for_any_amount_of_input(server: Service, head: bytes, some: bytes) -> None:
    with server.send() as response:
        assert response.text
    before = resident_bytes(server)
    told = pour(server, head, some)
    assert resident_bytes(server) - before < FLAT_BYTES
    assert told[:10] in {b"HTTP/1.1 4", b""}


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_over_a_mebibyte_is_too_large(server: Service, path: str) -> None:
    body = json.dumps(ROUTES[path] | {"developer_message": MARK * (MIB // len(MARK))})
    check_problem(send(server, body, path), {413})
    check_problem(send(server, iter([body.encode()]), path), {413})  # type: ignore[arg-type]  # chunked, no length


def test_one_byte_less_than_a_mebibyte_is_read(server: Service) -> None:
    body = GOOD + b" " * (MIB - len(GOOD))
    assert send(server, body).status_code == 200
    check_problem(send(server, body + b" "), {413})


# Property tests

FIELDS = st.sampled_from(
    [*ROUTES["/api/chat"], "model", "session_id", "stream", "stop", "temperature", "seed", "title"]
)
STRINGS = st.text(st.characters(), max_size=30) | st.text(
    st.characters(categories=["Cs", "Cc", "Lo", "So"]), min_size=1, max_size=5
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS | st.just(KEY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS | FIELDS, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(FIELDS | STRINGS, VALUES, max_size=5)
STOPPED = Phase.explicit, Phase.generate  # a failing case is reported as it is: shrinking would take minutes


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for member in value:
            yield from strings_in(member)
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from strings_in(member)


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=STOPPED,
    suppress_health_check=list(HealthCheck),
)
@given(st.sampled_from([*ROUTES]), BODIES, st.booleans())
@example("/api/chat", {"api_key": "\ud83d"}, True)
@example("/api/chat", {"session_id": "\ud83d"}, True)
def test_no_json_makes_the_server_fail_or_echo_it(
    server: Service, path: str, body: dict[str, Any], filled: bool
) -> None:
    whole = ROUTES[path] | body if filled else body
    response = send(server, json.dumps(whole), path)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        told = response.json()
        check_problem(response, {response.status_code})
        ours = [*(error["field"] for error in told.get("errors", ())), *ROUTES["/api/chat"]]
        for text in strings_in(body):
            if len(text) >= 8 and text in response.text and not any(text in name for name in ours):
                # Hypothesis also takes sentences from our source. An echo changes with the body, a sentence does not.
                changed = json.dumps(whole).replace(json.dumps(text), json.dumps("something else"))
                assert text in send(server, changed, path).text, text


@settings(max_examples=100, derandomize=True, deadline=None, database=None, phases=STOPPED)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_no_bytes_make_the_server_fail(server: Service, chance: random.Random, cuts: int) -> None:
    body = bytearray(GOOD)
    for _ in range(cuts):
        body[chance.randrange(len(body))] = chance.randrange(256)
    response = send(server, bytes(body))
    assert response.status_code in {200, 400, 404, 422}, response.text
