"""Health: GET /livez and /readyz for supervisors and balancers, GET /api/health with numbers for people.

GET /api/health/stream is a probe that shows whether a proxy delays streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.identity import is_forwarded, is_trusted
from chatapi.api.http.serializers import iso
from chatapi.api.http.services import Services, WorkQueue, services_of
from chatapi.api.http.streaming import NO_BUFFERING
from chatapi.errors import StoreUnavailable, Unavailable
from chatapi.model import new_id, wall_clock
from chatapi.wire.probe import HEALTH_PATH, LIVENESS_PATH, PROBE_LINES, PROBE_PATH, PROBE_SECONDS, READINESS_PATH

direct = DirectRoutes()

PROBES = WorkQueue("probes", at_once=8)


@direct.get(LIVENESS_PATH)
async def liveness(_: Request) -> JSONResponse:
    """200 as long as the process handles requests. It checks nothing else: a restart would not repair that."""
    return JSONResponse({"status": "alive"})


@direct.get(READINESS_PATH)
async def readiness(request: Request) -> JSONResponse:
    """200 while this server accepts messages; 503 while it shuts down or cannot write to its store."""
    services = services_of(request)
    draining = services.generations.draining
    store = "unchecked" if draining else await _store_status(services)
    ready = store == "ok"
    succeeded_at = services.upstream.last_success_at
    body = {
        "status": "ready" if ready else "not_ready",
        "store": store,
        "draining": draining,
        "last_upstream_success": iso(succeeded_at) if succeeded_at is not None else None,
        "timestamp": iso(wall_clock()),
    }
    return JSONResponse(body) if ready else _not_ready(body)


async def _store_status(services: Services) -> str:
    try:
        await services.store.deployment.probe()
    except StoreUnavailable:
        return "unavailable"
    return "ok"


@direct.get(HEALTH_PATH)
async def health(request: Request) -> JSONResponse:
    """200 while this server accepts requests; 503 while it shuts down or cannot use its store."""
    services = services_of(request)
    now = iso(wall_clock())
    if services.generations.draining:
        return _not_ready({"status": "draining", "timestamp": now})
    try:
        await services.store.deployment.probe()
        sessions = await services.store.sessions.recent_count()
    except StoreUnavailable as error:
        return _not_ready({"status": "unavailable", "detail": error.detail, "timestamp": now})
    return JSONResponse(
        {
            "status": "ok",
            "active_sessions": sessions,
            "timestamp": now,
            "running_generations": len(services.generations),
        }
    )


def _not_ready(body: Mapping[str, object]) -> JSONResponse:
    return JSONResponse(body, 503, {"Retry-After": "1"})


@direct.get(PROBE_PATH)
async def stream(request: Request) -> StreamingResponse:
    """Comment lines at even intervals for one second: `doctor --url` measures whether a proxy delays them.

    The first line shows whether the request was marked as forwarded, and whether a session's id would be enough for it.
    """
    if services_of(request).queue(PROBES).busy:
        raise Unavailable("Too many stream probes are running. Wait as Retry-After says.")
    facts = {
        "forwarded": "yes" if is_forwarded(request) else "no",
        "trusted": "yes" if is_trusted(request) else "no",
        "access": services_of(request).settings.session_access,
    }
    first = " ".join(f"{name}={value}" for name, value in facts.items())
    return _Probe(_lines(first), headers={**NO_BUFFERING, "content-type": "text/event-stream"})


class _Probe(StreamingResponse):
    """A probe, which holds one of the few places for probes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with services_of(Request(scope)).queue(PROBES).turn(new_id("probe")):
            await super().__call__(scope, receive, send)


async def _lines(first: str) -> AsyncIterator[bytes]:
    yield f": {first}\n\n".encode()
    for number in range(2, PROBE_LINES + 1):
        await asyncio.sleep(PROBE_SECONDS)
        yield f": {number}\n\n".encode()
