"""Responses over a WebSocket: the events of a stream, one request at a time, and resumed elsewhere."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from bench.processes import cpu_seconds
from chatapi.api.openai.responses.unstored import UnstoredResponses
from chatapi.simulator import Gate, Simulator, scripts
from tests.server_process import OTHER_KEY, Serve, Service, fresh_key

MODEL = "gpt-4.1-mini"
SECONDS = 30
MEDIA_BYTES = 64 * 1024
one_process = pytest.mark.one_process("a connection is one process's")


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(
        CHATAPI_RATE_LIMIT="0",
        CHATAPI_RECEIVE_SECONDS="3",
        CHATAPI_MAX_MEDIA_BYTES=str(MEDIA_BYTES),
        CHATAPI_MAX_UNFINISHED_BYTES="65536",
    )


@pytest.fixture(scope="module")
def strict(serve_module: Serve) -> Service:
    """A server with small limits for WebSockets."""
    return serve_module(
        CHATAPI_RATE_LIMIT="0",
        CHATAPI_MAX_WEBSOCKETS_PER_KEY="2",
        CHATAPI_MAX_WEBSOCKETS_PER_ADDRESS="3",
        CHATAPI_WEBSOCKET_IDLE_SECONDS="2",
        CHATAPI_MAX_MEDIA_BYTES=str(MEDIA_BYTES),
    )


@contextmanager
def opened(
    service: Service, key: str | None, path: str = "/v1/responses", **headers: str
) -> Iterator[ClientConnection]:
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    url = service.url.replace("http:", "ws:") + path
    with connect(url, additional_headers=headers, open_timeout=SECONDS, close_timeout=SECONDS) as websocket:
        yield websocket


def ask(websocket: ClientConnection, **fields: Any) -> None:
    websocket.send(json.dumps({"type": "response.create", "model": MODEL} | fields))


def receive(websocket: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(websocket.recv(SECONDS))
    return event


def answer(websocket: ClientConnection) -> list[dict[str, Any]]:
    """Return the events of one response, or its error."""
    events = [receive(websocket)]
    while events[-1]["type"] not in {"response.completed", "response.failed", "error"}:
        events.append(receive(websocket))
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def streamed(service: Service, key: str, method: Callable[..., Any], path: str, **more: Any) -> list[dict[str, Any]]:
    lines = method(path, key=key, **more).text.split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


@one_process
@pytest.mark.filterwarnings("ignore:connect")  # openai's client uses the library in a form that is deprecated
def test_openais_client_reads_the_events_of_a_stream(
    service: Service, key: str, openai_client: Callable[[Service, str], Any]
) -> None:
    sdk = openai_client(service, key)
    body = {"model": MODEL, "input": "Please count to 5", "stream": True}
    expected = {event["type"]: None for event in streamed(service, key, service.post, "/v1/responses", json=body)}
    with sdk.responses.connect() as connection:
        for question in ("Please count to 5", "Please count to 5"):
            connection.response.create(model=MODEL, input=question)
            events: list[Any] = []
            for event in connection:
                events.append(event)
                if event.type == "response.completed":
                    break
            assert [*dict.fromkeys(event.type for event in events)] == [*expected], "in this order, of any number"
            assert events[-1].response.output[0].content[0].text == "1 2 3 4 5"


@pytest.mark.parametrize("after", [None, "first", "last"])
def test_a_response_continues_on_another_connection(
    service: Service, upstream: Simulator, key: str, gate: Gate, after: str | None
) -> None:
    upstream.script = scripts.held(gate, "one two", " three four")
    with opened(service, key) as websocket:
        ask(websocket, input="count")
        events = [receive(websocket)]
        while events[-1]["type"] != "response.output_text.delta":
            events.append(receive(websocket))
        websocket.socket.shutdown(socket.SHUT_RDWR)
    seen = {None: [], "first": events[:1], "last": events}[after]
    gate.open()
    name = events[0]["response"]["id"]
    start = {"starting_after": seen[-1]["sequence_number"]} if seen else {}
    with opened(service, OTHER_KEY) as websocket:
        websocket.send(json.dumps({"type": "response.resume", "response_id": name, **start}))
        (refused,) = answer(websocket)
        assert (refused["status"], refused["error"]["code"]) == (404, "response_not_found")
    with opened(service, key) as websocket:
        websocket.send(json.dumps({"type": "response.resume", "response_id": name, **start}))
        rest = answer(websocket)
    assert [*seen, *rest] == streamed(service, key, service.get, f"/v1/responses/{name}?stream=true")
    assert text_of([*seen, *rest]) == "one two three four"


@one_process
def test_requests_are_answered_one_after_the_other(service: Service, upstream: Simulator, key: str, gate: Gate) -> None:
    upstream.script = scripts.held(gate)
    with opened(service, key, **{"Idempotency-Key": "of the handshake"}) as websocket:
        ask(websocket, input="0")
        events = [receive(websocket)]
        for number in range(1, 10):
            ask(websocket, input=f"{number}")
        while events[-1]["type"] != "error":
            events.append(receive(websocket))
        assert events[-1]["error"]["code"] == "too_many_queued_requests", "eight wait already"
        gate.open()
        ids = [events[0]["response"]["id"]]
        events = answer(websocket)
        for _ in range(8):
            events = answer(websocket)
            ids.append(events[0]["response"]["id"])
        assert len({*ids}) == 9
    asked = [request.body["messages"][-1]["content"] for request in upstream.requests[-9:]]
    assert asked == [f"{number}" for number in range(9)]


@one_process
def test_a_response_that_is_not_stored_can_be_followed_on_its_connection(
    service: Service, upstream: Simulator, key: str
) -> None:
    with opened(service, key) as websocket:
        ask(websocket, input="zero", generate=False, instructions="Be brief.")
        prepared = answer(websocket)
        assert [event["type"] for event in prepared] == [
            "response.created",
            "response.in_progress",
            "response.completed",
        ]
        before = len(upstream.requests)
        name, texts = prepared[-1]["response"]["id"], ["zero"]
        for text in ("one", "two"):
            ask(websocket, input=text, store=False, previous_response_id=name)
            events = answer(websocket)
            name, texts = events[-1]["response"]["id"], [*texts, text]
            sent = [one["content"] for one in upstream.requests[-1].body["messages"] if one["role"] == "user"]
            assert sent == texts
        assert len(upstream.requests) == before + 2, "nothing was asked for the first"
        with opened(service, key) as other:
            ask(other, input="three", previous_response_id=name)
            (refused,) = answer(other)
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
        unmatched = {"type": "function_call_output", "call_id": "unknown", "output": "x"}
        for given, param in (([unmatched], "input.0.call_id"), ("three", "previous_response_id")):
            ask(websocket, input=given, store=False, previous_response_id=name)
            (refused,) = answer(websocket)
            assert refused["error"]["param"] == param, "a turn that fails ends the chain"
        ask(websocket, input="two", store=False)
        name = answer(websocket)[-1]["response"]["id"]
        ask(websocket, input="three", previous_response_id=name)
        stored = answer(websocket)[-1]["response"]["id"]
    items = service.get(f"/v1/responses/{stored}/input_items?order=asc", key=key).json()["data"]
    assert [item["content"][0]["text"] for item in items if item["role"] == "user"] == ["two", "three"]


@one_process
def test_a_client_that_leaves_ends_an_unstored_response(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    with opened(service, key) as websocket:
        ask(websocket, input="x", store=False)
        assert gate.reached.wait(SECONDS)
    assert upstream.requests[-1].left.wait(SECONDS)


WRONG: list[tuple[Any, int, str, str]] = [
    ("x", 400, "code", "malformed_json"),
    ('{"type":"response.create","type":"x"}', 400, "code", "malformed_json"),
    ("[]", 400, "param", "body"),
    (b"{}", 400, "param", "body"),
    ({"type": "response.steer"}, 400, "param", "type"),
    ({"type": "response.create", "input": "x", "stream_id": "a"}, 400, "param", "stream_id"),
    ({"type": "response.create", "input": "x", "generate": "no"}, 400, "param", "generate"),
    ({"type": "response.create", "input": "x", "generate": False, "model": ""}, 400, "param", "model"),
    ({"type": "response.create", "input": "x", "unknown": 1}, 400, "param", "unknown"),
    ('{"type":"response.create","input":"x","temperature":1e999}', 400, "code", "malformed_json"),
    ({"type": "response.create", "input": "x\ud800"}, 400, "param", "input"),
    ({"type": "response.create", "input": "x", "previous_response_id": "resp_x"}, 400, "param", "previous_response_id"),
    ({"type": "response.resume", "response_id": "resp_x"}, 404, "code", "response_not_found"),
    ({"type": "response.resume", "response_id": "../models?"}, 404, "code", "response_not_found"),
    ({"type": "response.resume", "response_id": 1}, 400, "param", "response_id"),
    ({"type": "response.resume", "response_id": "x", "starting_after": -1}, 400, "param", "starting_after"),
    ({"type": "response.resume", "response_id": "x", "stream": True}, 400, "param", "type"),
]


@one_process
def test_an_error_is_an_event_and_the_connection_stays_open(service: Service, key: str) -> None:
    with opened(service, key) as websocket:
        for sent, status, member, expected in WRONG:
            websocket.send(json.dumps(sent) if isinstance(sent, dict) else sent)
            (event,) = answer(websocket)
            assert (event["type"], event["status"], event["error"][member]) == ("error", status, expected), sent
            assert event["error"]["message"]
        ask(websocket, input="Please count to 2")
        assert text_of(answer(websocket)) == "1 2"


HANDSHAKE = (
    "GET /v1/responses HTTP/1.1\r\nHost: a\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {key}\r\n\r\n"
)


@one_process
def test_a_handshake_is_checked_as_a_request(service: Service, strict: Service, key: str) -> None:
    for wrong, status, path in (
        (None, 401, "/v1/responses"),
        ("sk-wrong", 401, "/v1/responses"),
        (key, 404, "/v1/response"),
        (key, 404, "/v1/responses/resp_x"),
    ):
        with pytest.raises(InvalidStatus) as refused, opened(service, wrong, path):
            pass
        assert refused.value.response.status_code == status
        assert b'"error"' in refused.value.response.body
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), address.port or 0), SECONDS) as connection:
        connection.sendall(HANDSHAKE.format(key=key).encode())
        refused_head = connection.recv(64 * 1024)
    assert refused_head.startswith(b"HTTP/1.1 400"), "two Host headers, as for any request"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    ignored = service.post("/v1/responses", json={"model": MODEL, "input": "Hi"}, headers=upgrade, key=key)
    assert ignored.status_code == 200, "an upgrade that is not a handshake is ignored"
    other = fresh_key("another one")
    with opened(strict, key), opened(strict, key):
        for refused_key, opens in ((key, False), (other, True)):
            if not opens:
                with pytest.raises(InvalidStatus) as refused, opened(strict, refused_key):
                    pass
                assert refused.value.response.status_code == 429
                continue
            with opened(strict, refused_key), pytest.raises(InvalidStatus), opened(strict, refused_key):
                pass


UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
HANDSHAKES = [
    (UPGRADE + "Connection: keep-alive\r\n", "", ["101"]),  # one list in two lines
    (UPGRADE + "Upgrade: h2c\r\n", "", ["426"]),
    (UPGRADE + f"X-Long: {'a' * 9000}\r\n", "", ["431"]),
    (UPGRADE + "X-Many: a\r\n" * 200, "", ["431"]),
    (UPGRADE, "bytes before the response", []),
    ("Upgrade: websocket\r\n", "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", ["405", "200"]),  # not upgraded
]


@one_process
@pytest.mark.parametrize(("lines", "after", "statuses"), HANDSHAKES)
def test_a_handshake_has_one_response_or_ends_its_connection(
    service: Service, key: str, lines: str, after: str, statuses: list[str]
) -> None:
    head = HANDSHAKE.replace("Host: b\r\n", "").replace(UPGRADE, lines).format(key=key)
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), address.port or 0), SECONDS) as connection:
        connection.sendall((head + after).encode())
        received = b""
        while received.count(b"HTTP/1.1 ") < len(statuses) or not statuses:
            if not (some := _receive(connection)):
                break
            received += some
    assert re.findall(r"HTTP/1\.1 (\d+) ", received.decode()) == statuses
    assert not any("Fatal error" in line for line in service.log), "no exception of the protocol"


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(64 * 1024)
    except ConnectionResetError:
        return b""


@one_process
def test_messages_and_silence_are_bounded(service: Service, strict: Service, key: str) -> None:
    whole = Frame(Opcode.TEXT, b"x" * (MEDIA_BYTES - 1)).serialize(mask=True)
    unfinished = whole[:-1]
    with opened(service, key) as first, opened(service, key) as second:
        first.socket.sendall(unfinished)
        second.socket.sendall(unfinished)
        with pytest.raises(ConnectionClosed) as closed:
            second.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013, "both hold more than half of the memory for unfinished bodies"
        first.socket.sendall(whole[-1:])
        assert receive(first)["error"]["code"] == "malformed_json"
        with opened(service, key) as third:
            third.socket.sendall(whole)
            assert receive(third)["error"]["code"] == "malformed_json", "a message that is complete holds nothing"
    with opened(service, key) as websocket:
        websocket.socket.sendall(unfinished)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    with opened(strict, key) as websocket:
        websocket.send("x" * (MEDIA_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    before = len(strict.log)
    with opened(strict, key) as websocket:
        parts = Frame(Opcode.TEXT, b'{"a":"\xc3', fin=False), Frame(Opcode.CONT, b'\xc3"}')
        websocket.socket.sendall(b"".join(frame.serialize(mask=True) for frame in parts))
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
    strict.wait_for_log("invalid websocket message", seen=before, reason="not UTF-8")
    assert not any("Traceback" in line for line in strict.log[before:])
    with opened(strict, key) as websocket:
        frame = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
        websocket.socket.sendall(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True) + 5000 * frame)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    with opened(strict, key) as websocket:
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@one_process
def test_each_of_many_messages_in_one_packet_is_answered(service: Service, key: str) -> None:
    frame = Frame(Opcode.TEXT, json.dumps({"type": "none", "pad": "x" * 100}).encode())
    with opened(service, key) as websocket:
        websocket.socket.sendall(frame.serialize(mask=True) * 300)
        codes = [receive(websocket)["error"]["code"] for _ in range(300)]
        assert set(codes) <= {"invalid_request", "too_many_queued_requests"}
        ask(websocket, input="Hi")
        assert answer(websocket)[-1]["type"] == "response.completed"


@one_process
def test_requests_in_one_packet_are_read_while_the_first_one_is_answered(
    service: Service, upstream: Simulator, key: str, gate: Gate
) -> None:
    upstream.script = scripts.held(gate)
    request = {"type": "response.create", "model": MODEL, "input": "x" * 5000}
    with opened(service, key) as websocket:
        websocket.socket.sendall(Frame(Opcode.TEXT, json.dumps(request).encode()).serialize(mask=True) * 10)
        while (event := receive(websocket))["type"] != "error":
            assert event["type"] != "response.completed"
        assert event["error"]["code"] == "too_many_queued_requests", "eight wait already"
        gate.open()
        ends = [answer(websocket)[-1]["type"] for _ in range(9)]
        assert ends.count("response.completed") >= 8


@one_process
@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_many_pings_or_pongs_close_the_connection_at_once(service: Service, key: str, opcode: Opcode) -> None:
    frame = Frame(opcode, b"").serialize(mask=True)
    with opened(service, key) as websocket:
        websocket.socket.sendall(frame * 1000)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    before = cpu_seconds(service.pid)
    with opened(service, key) as websocket:
        with suppress(OSError):  # it is closed before it has read all of them
            websocket.socket.sendall(frame * 200_000)
        with pytest.raises(ConnectionClosed):
            websocket.recv(SECONDS)
    assert cpu_seconds(service.pid) - before < 0.1, "it parsed all that it had read"


def test_an_unstored_response_counts_its_bytes_and_is_forgotten_beyond_the_limit() -> None:
    kept = UnstoredResponses(100)
    ended = {"type": "response.completed", "response": {"id": "resp_1", "output": []}}
    for text, size in (("x", 31), ("x" * 100, 0)):
        kept.keep(text, json.dumps(ended).encode())
        assert kept.size == size, "the work for the next request grows with it"
        sent = kept.expand({"previous_response_id": "resp_1", "input": "y"})
        assert len(sent["input"]) == (2 if size else 1)
        assert kept.size == 0
