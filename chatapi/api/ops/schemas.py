"""The responses and operations of the operational routes."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from chatapi.api.http.openapi import (
    NO_KEY,
    Content,
    Example,
    Time,
    event_content,
    json_content,
    operation,
    reference,
    text_content,
)
from chatapi.errors import MetricsTokenRequired, NotFound

METRICS_TYPES = (
    "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
    "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
)


class Health(TypedDict):
    """The server accepts requests."""

    status: Literal["ok"]
    active_sessions: int
    timestamp: Time
    running_generations: int


class Unhealthy(TypedDict):
    """The server shuts down or cannot use its store."""

    status: Literal["draining", "unavailable"]
    timestamp: Time
    detail: NotRequired[str]


class Alive(TypedDict):
    """The process handles requests."""

    status: Literal["alive"]


class Readiness(TypedDict):
    """Whether the server accepts new messages, and why not."""

    status: Literal["ready", "not_ready"]
    store: Annotated[
        Literal["ok", "unavailable", "unchecked"],
        Meta(description="`unchecked`: the server shuts down, so its store does not matter."),
    ]
    draining: Annotated[bool, Meta(description="Whether the server shuts down.")]
    last_upstream_success: Annotated[
        Time | None,
        Meta(
            description="When the model API last answered this process without an error; null: not since the start. It "
            "does not affect the status: an outage of the model API makes every replica equally unable to answer."
        ),
    ]
    timestamp: Time


GET_LIVENESS = operation(
    "getLiveness",
    "Check liveness",
    "Return 200 as long as the process handles requests, also during a shutdown and without a store. A supervisor "
    "restarts the process if this fails.",
    json_content(Alive, "The process handles requests."),
    security=NO_KEY,
    examples=(Example("get", key=False),),
)
GET_READINESS = operation(
    "getReadiness",
    "Check readiness",
    "Return 200 while the server accepts messages, and 503 while it shuts down or cannot write to its store. "
    "Balancers send requests to ready servers only.",
    json_content(Readiness, "The server accepts messages."),
    Content("application/json", reference(Readiness), 503, "The server accepts no messages.", ("Retry-After",)),
    security=NO_KEY,
    examples=(Example("get", key=False),),
)
GET_HEALTH = operation(
    "getHealth",
    "Check health",
    "Return 200 while the server accepts requests, and 503 while it shuts down or cannot use its store.",
    json_content(Health, "The server accepts requests."),
    Content("application/json", reference(Unhealthy), 503, "The server does not accept requests.", ("Retry-After",)),
    security=NO_KEY,
    examples=(Example("get", key=False),),
)
GET_METRICS = operation(
    "getMetrics",
    "Read metrics",
    """Return the metrics of this process for Prometheus, in its text format or in OpenMetrics, as `Accept` asks. Only
    with `CHATAPI_METRICS=on` and without `CHATAPI_METRICS_PORT`; otherwise, and without a token for requests that a
    proxy forwarded, this is a 404. With `CHATAPI_METRICS_TOKEN`, send the token as `Authorization: Bearer`.
    docs/metrics.md describes the metrics.""",
    text_content("text/plain; version=0.0.4; charset=utf-8", "The metrics."),
    *(text_content(one, "The metrics.") for one in METRICS_TYPES),
    errors=(NotFound, MetricsTokenRequired),
    security=NO_KEY,
)
PROBE_STREAM = operation(
    "probeStream",
    "Probe streaming",
    """Stream six comments, one at once and one every 0.2 seconds, to find out whether a proxy buffers streams; `doctor
    --url` does this. The first comment describes the request: `forwarded` (whether a proxy marked it), `trusted`
    (whether a session's id is enough for it) and `access` (the setting). Eight probes run at once; another one is a
    503.""",
    event_content("Comments.", {}),
    security=NO_KEY,
)
