"""GET /api/health: may traffic come here?"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chatapi.api.core import core_of
from chatapi.api.formats import iso
from chatapi.errors import StoreUnavailable
from chatapi.model import wall_clock

router = APIRouter(tags=["health"])


@router.get("/api/health")
async def health(request: Request) -> JSONResponse:
    """200 while this server takes requests; 503 while it is shutting down, or cannot use its store."""
    core = core_of(request)
    now = iso(wall_clock())
    if core.generations.draining:
        return _unwell({"status": "draining", "timestamp": now})
    try:
        await core.store.probe()
        sessions = await core.store.recent_count()
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
