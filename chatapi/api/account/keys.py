"""The key test. It asks the upstream for its list of models, never for a completion."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.identity import authenticate, check_body_key, mark_failed, mark_known
from chatapi.api.http.request_body import Body, KeyField, read_body
from chatapi.api.http.services import services_of
from chatapi.errors import UpstreamForbidden, UpstreamRejectedKey

direct = DirectRoutes()

MAX_BODY_BYTES = 16 * 1024


class KeyBody(Body):
    """A key to test."""

    api_key: KeyField | None = None


@direct.post("/api/test-key")
async def test_key(request: Request) -> JSONResponse:
    """Return whether the upstream accepts this key. A rejected key is a result with `valid: false`, not an error."""
    core = services_of(request)
    body = await read_body(request, KeyBody, MAX_BODY_BYTES)
    await check_body_key(request, body.api_key)
    identity = authenticate(request, body.api_key, "This field is required.")
    await core.rate_limit.take(identity.owner)
    answer: dict[str, Any]
    try:
        if await core.upstream.check_key(identity.credential, core.settings.status_seconds):
            mark_known(request)
        answer = {"valid": True, "message": "API key is valid and working."}
    except (UpstreamRejectedKey, UpstreamForbidden) as error:
        mark_failed(request)
        answer = {"valid": False, "message": error.detail}
    return JSONResponse(answer)
