"""Spans that are exported to a collector over OTLP/HTTP, on a thread of the SDK.

Only a service with `CHATAPI_TRACES` imports the SDK. An export that fails delays nothing: the SDK keeps a bounded
number of spans and drops the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chatapi.settings import SettingsError

SERVICE = "openai-chat-api"  # the service's name, unless OTEL_SERVICE_NAME is set
CLOSE_MILLISECONDS = 5_000  # for the last export
PATH = "/v1/traces"  # of a collector (OTLP specification, "OTLP/HTTP request")
_PROPAGATOR = TraceContextTextMapPropagator()
_HEADERS = ("traceparent", "tracestate")  # W3C Trace Context
MAX_HEADER_BYTES = 1024


class Span(msgspec.Struct):
    """A span that has begun. End it once."""

    _span: trace.Span
    _token: Any = None  # of the context in which it is the current one

    @property
    def context(self) -> SpanContext:
        """Its identity, for children and links."""
        return self._span.get_span_context()

    @property
    def trace_id(self) -> str:
        """The id of its trace, as in `traceparent`."""
        return trace.format_trace_id(self.context.trace_id)

    def end(self, name: str, attributes: Mapping[str, Any]) -> None:
        """End it with its name and attributes; `error.type` among them makes it a failure."""
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
        if "error.type" in attributes:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        if self._token is not None:
            detach(self._token)
            self._token = None


class Tracing:
    """Begins spans. A span that begins in a task is a child of the current one there."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # here: an extra
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as missing:
            raise SettingsError(
                f"CHATAPI_TRACES: the package {missing.name} is not installed for this Python. "
                "Install it with the others: pip install -r requirements-traces.txt"
            ) from missing
        resource = Resource({"service.name": SERVICE}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint + PATH)))
        self._tracer = self._provider.get_tracer("chatapi")

    def begin_request(self, name: str, fields: Mapping[bytes, bytes]) -> Span:
        """Begin the span of a client's request and make it the current one; `traceparent` names its parent."""
        span = self._tracer.start_span(name, _parent(fields), SpanKind.SERVER)
        return Span(span, attach(trace.set_span_in_context(span)))

    def begin_answer(self, name: str) -> Span:
        """Begin the span of an answer; it may outlive the request that started it."""
        return Span(self._tracer.start_span(name))

    def begin_call(self, name: str, answer: Span) -> Span:
        """Begin the span of a call of the model API for an answer."""
        parent = trace.set_span_in_context(trace.NonRecordingSpan(answer.context))
        return Span(self._tracer.start_span(name, parent, SpanKind.CLIENT))

    def link(self, other: Span) -> None:
        """Link another span to the current one, whose work shows it."""
        trace.get_current_span().add_link(other.context)

    async def close(self) -> None:
        """Export the last spans, as far as the collector takes them in time."""
        await asyncio.to_thread(self._provider.force_flush, CLOSE_MILLISECONDS)
        await asyncio.to_thread(self._provider.shutdown)


def _parent(fields: Mapping[bytes, bytes]) -> Context:
    """Return the context that a request names, or an empty one."""
    sent = {name: fields.get(name.encode(), b"") for name in _HEADERS}
    carrier = {name: value.decode("latin-1") for name, value in sent.items() if 0 < len(value) <= MAX_HEADER_BYTES}
    return _PROPAGATOR.extract(carrier, Context())
