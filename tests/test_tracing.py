"""Traces, as an OpenTelemetry collector receives them: which spans there are, how they are related, and no content."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from chatapi.simulator import Gate, Simulator, refuse, scripts
from tests.server_process import KEY, Serve, Service, run_command
from tests.test_chat import Reader, session_of

pytestmark = pytest.mark.one_process("spans are made in one process")

SECONDS = 20.0
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUESTION, ANSWER = "a-question-that-no-span-has", "an-answer-that-no-span-has"


class Collector:
    """Receives spans."""

    def __init__(self) -> None:
        self.received = b""
        self.spans: list[Span] = []
        self._grew = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._grew:
            self.received += body
            for resource in request.resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._grew.notify_all()

    def find(self, name: str, count: int = 1) -> list[Span]:
        """Wait for so many spans with this name; return them in the order of their ends."""

        def named() -> list[Span]:
            return [span for span in self.spans if span.name == name]

        with self._grew:
            assert self._grew.wait_for(lambda: len(named()) >= count, SECONDS), [span.name for span in self.spans]
            return named()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            data = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(data)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def spans(collector: tuple[Collector, str]) -> Collector:
    return collector[0]


@pytest.fixture(scope="module")
def server(serve_module: Serve, collector: tuple[Collector, str]) -> Service:
    return serve_module(
        CHATAPI_TRACES=collector[1], CHATAPI_RATE_LIMIT="0", OTEL_BSP_SCHEDULE_DELAY="50", OTEL_SERVICE_NAME="mine"
    )


def attributes(span: Span) -> dict[str, Any]:
    """Return the attributes of a span with their plain values."""
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


def test_an_answer_is_a_span_below_its_request_and_above_the_call_of_the_model(
    server: Service, upstream: Simulator, spans: Collector, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, ANSWER, " end.")
    with server.send(QUESTION, model="held", headers={"traceparent": PARENT}) as response:
        reader = Reader(response)
        reader.until(ANSWER)
        session_id = session_of(response)
        with server.get(f"/api/chat/{session_id}/stream?offset=3", key=KEY, stream=True) as again:
            other = Reader(again)
            other.until(ANSWER[3:])
            gate.open()
            other.rest()
        reader.rest()
    (answer,), (call,) = spans.find("answer held"), spans.find("chat held")
    (request,), (read,) = spans.find("POST /api/chat"), spans.find("GET /api/chat/{session_id}/stream")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert answer.trace_id == call.trace_id == request.trace_id
    assert (answer.parent_span_id, call.parent_span_id) == (request.span_id, answer.span_id)
    assert (call.kind, request.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    assert [link.span_id for link in read.links] == [answer.span_id]
    assert answer.start_time_unix_nano <= call.start_time_unix_nano < call.end_time_unix_nano
    assert call.end_time_unix_nano <= answer.end_time_unix_nano
    described = attributes(answer)
    assert described["gen_ai.conversation.id"] == session_id
    assert described["chatapi.generation.status"] == "completed"
    assert described["gen_ai.response.finish_reasons"] == ["stop"]
    assert described["gen_ai.usage.output_tokens"] > 0
    assert attributes(call)["gen_ai.provider.name"] == "openai"
    assert attributes(request)["http.response.status_code"] == 200
    line = server.wait_for_log("request", path="/api/chat")
    assert line["trace_id"] == PARENT.split("-")[1]


def test_failures_have_a_type(server: Service, upstream: Simulator, spans: Collector) -> None:
    upstream.script = refuse(429, retry_after="9")
    with server.send(QUESTION, model="refused") as response:
        assert response.status_code == 429
    for name in ("answer refused", "chat refused"):
        (span,) = spans.find(name)
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "upstream_rate_limited"


def test_an_answer_that_is_not_stored_has_spans(server: Service, upstream: Simulator, spans: Collector) -> None:
    upstream.script = scripts.answer(ANSWER)
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream"}
    url = f"{server.url}/v1/responses"
    body = {"model": "stateless", "input": QUESTION, "stream": True, "store": False}
    assert requests.post(url, json=body, headers=headers, timeout=SECONDS).status_code == 200
    (answer,), (call,) = spans.find("answer stateless"), spans.find("chat stateless")
    assert call.parent_span_id == answer.span_id


def test_spans_have_no_text_and_no_key(server: Service, upstream: Simulator, spans: Collector) -> None:
    upstream.script = scripts.answer(ANSWER)
    with server.send(QUESTION, model="plain", headers={"traceparent": "00-nonsense", "User-Agent": KEY}) as response:
        assert response.status_code == 200
    spans.find("chat plain")
    spans.find("answer plain")
    for secret in (KEY, KEY[20:60], QUESTION, ANSWER):
        assert secret.encode() not in spans.received


def test_a_collector_that_is_away_delays_nothing(serve: Serve) -> None:
    server = serve(CHATAPI_TRACES="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="50", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    with server.send("Count to 3") as response:
        assert response.text == "1 2 3"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("value", ["ftp://a", "http://user@host:4318"])
def test_an_impossible_collector_is_named(tmp_path: Any, value: str) -> None:
    ended = run_command("serve", "--port", "0", cwd=tmp_path, settings={"CHATAPI_TRACES": value})
    assert ended.returncode == 2
    assert "CHATAPI_TRACES: must be a" in ended.stderr
