"""The key test. It asks the upstream for its list of models, never for a completion."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chatapi.api.account.schemas import TEST_KEY, KeyBody
from chatapi.api.http.request_body import read_body
from chatapi.api.http.services import key_of, services_of
from chatapi.errors import InvalidRequest, UpstreamForbidden, UpstreamRejectedKey

router = APIRouter(tags=["keys"])


@router.post("/api/test-key", **TEST_KEY)
async def test_key(request: Request) -> JSONResponse:
    """Return whether the upstream accepts this key. A rejected key is a result with `valid: false`, not an error."""
    core = services_of(request)
    body = await read_body(request, KeyBody)
    key = key_of(request, body.api_key)
    if key is None:
        raise InvalidRequest.field("api_key", "This field is required.")
    await core.rate_limit.take(core.owner(key))
    answer: dict[str, Any]
    try:
        await core.upstream.check_key(key, core.settings.status_seconds)
        answer = {"valid": True, "message": "API key is valid and working."}
    except (UpstreamRejectedKey, UpstreamForbidden) as error:
        answer = {"valid": False, "message": error.detail}
    return JSONResponse(answer)
