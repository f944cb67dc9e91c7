"""The responses and operations of the operational routes."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from chatapi.api.http.openapi import NO_KEY, Content, Example, Time, event_content, json_content, operation, reference


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


GET_HEALTH = operation(
    "getHealth",
    "Check health",
    "Return 200 while the server accepts requests, and 503 while it shuts down or cannot use its store.",
    json_content(Health, "The server accepts requests."),
    Content("application/json", reference(Unhealthy), 503, "The server does not accept requests.", ("Retry-After",)),
    security=NO_KEY,
    examples=(Example("get", key=False),),
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
