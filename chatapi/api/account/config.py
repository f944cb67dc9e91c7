"""The configuration that a page needs before it has a key. It is public and contains no secret."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from chatapi import __version__
from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.identity import has_own_host
from chatapi.api.http.services import Services, services_of
from chatapi.auth.keys import SEED_LENGTH, SEED_PATTERN, SEED_PREFIX, Key
from chatapi.errors import InvalidKeyFormat

direct = DirectRoutes()


@direct.get("/api/config")
async def config(request: Request) -> JSONResponse:
    """Return the key format, the default model, the limits and, in the demo, a key for it."""
    core = services_of(request)
    settings = core.settings
    is_default = settings.key_pattern == SEED_PATTERN
    return JSONResponse(
        {
            "version": __version__,
            "demo": core.demo_key is not None,
            "demo_key": _demo_key(core) if has_own_host(request, settings) else None,
            "key": {
                "pattern": settings.key_pattern,
                "prefix": SEED_PREFIX if is_default else None,
                "length": SEED_LENGTH if is_default else None,
            },
            "default_model": settings.default_model,
            "default_model_notice": core.upstream.default_model_notice,
            "max_message_bytes": settings.max_message_bytes,
            "max_body_bytes": settings.max_body_bytes,
            "max_media_bytes": settings.max_media_bytes,
        }
    )


def _demo_key(core: Services) -> str | None:
    """Return the demo's key, unless this server requires another key format."""
    try:
        return core.demo_key and core.key_policy.check(Key(core.demo_key)).reveal()
    except InvalidKeyFormat:
        return None
