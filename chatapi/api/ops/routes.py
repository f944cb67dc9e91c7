"""The direct routes of this folder with their descriptions."""

from __future__ import annotations

from fastapi import APIRouter

from chatapi.api.http.framework import describe
from chatapi.api.ops import health, metrics, page
from chatapi.api.ops.schemas import GET_HEALTH, GET_LIVENESS, GET_METRICS, GET_READINESS, PROBE_STREAM

page_router = APIRouter(include_in_schema=False)
describe(page_router, page.direct, {})

health_router = APIRouter(tags=["health"])
describe(
    health_router,
    health.direct,
    {
        health.liveness: GET_LIVENESS,
        health.readiness: GET_READINESS,
        health.health: GET_HEALTH,
        health.stream: PROBE_STREAM,
    },
)
describe(health_router, metrics.direct, {metrics.metrics: GET_METRICS})
