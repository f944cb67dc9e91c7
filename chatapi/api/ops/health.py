"""GET /api/health: may traffic come here? GET /api/health/stream: do streams pass what stands in between?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from chatapi.api.http.serializers import iso
from chatapi.api.http.services import is_forwarded, is_trusted, services_of
from chatapi.api.http.streaming import NO_BUFFERING
from chatapi.api.ops.schemas import GET_HEALTH, PROBE_STREAM
from chatapi.errors import StoreUnavailable, Unavailable
from chatapi.model import wall_clock
from chatapi.wire.sse import PROBE_LINES, PROBE_PATH, PROBE_SECONDS

router = APIRouter(tags=["health"])


@router.get("/api/health", **GET_HEALTH)
async def health(request: Request) -> JSONResponse:
    """200 while this server takes requests; 503 while it is shutting down, or cannot use its store."""
    core = services_of(request)
    now = iso(wall_clock())
    if core.generations.draining:
        return _unwell({"status": "draining", "timestamp": now})
    try:
        await core.store.deployment.probe()
        sessions = await core.store.sessions.recent_count()
    except StoreUnavailable as error:
        return _unwell({"status": "unavailable", "detail": error.detail, "timestamp": now})
    return JSONResponse(
        {
            "status": "ok",
            "active_sessions": sessions,
            "timestamp": now,
            "running_generations": len(core.generations),
        }
    )


def _unwell(body: dict[str, str]) -> JSONResponse:
    return JSONResponse(body, 503, {"Retry-After": "1"})


@router.get(PROBE_PATH, **PROBE_STREAM)
async def stream(request: Request) -> StreamingResponse:
    """A few comment lines at even intervals, for a second: `doctor --url` times them through what stands in between.

    The first tells whether the request was marked as forwarded, and whether a session's id would be enough for it.
    """
    if services_of(request).probes.locked():
        raise Unavailable("Others are looking at streams. Try again as Retry-After says.")
    told = {
        "forwarded": "yes" if is_forwarded(request) else "no",
        "trusted": "yes" if is_trusted(request) else "no",
        "access": services_of(request).settings.session_access,
    }
    first = " ".join(f"{name}={value}" for name, value in told.items())
    return _Probe(_lines(first), headers=NO_BUFFERING, media_type="text/event-stream")


class _Probe(StreamingResponse):
    """One of the few that may be under way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with services_of(Request(scope)).probes:
            await super().__call__(scope, receive, send)


async def _lines(first: str) -> AsyncIterator[bytes]:
    yield f": {first}\n\n".encode()
    for number in range(2, PROBE_LINES + 1):
        await asyncio.sleep(PROBE_SECONDS)
        yield f": {number}\n\n".encode()
