"""Errors as responses: the seed's two bodies exactly, problem+json (RFC 9457) otherwise, or the form of a dialect.

A dialect registers its own renderer: for a prefix of paths with `use_renderers`, or for one request with `render_with`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from chatapi.errors import (
    ChatError,
    InvalidKeyFormat,
    SessionNotFound,
    UpstreamError,
)
from chatapi.model import Limit

Renderer = Callable[[ChatError], Response]
ERROR_CODE = "chatapi.error_code"  # in the scope of a request that an error answered, for its log line
_RENDERER = "chatapi.error_renderer"  # in the scope of a request whose dialect chose its own form


def problem(error: ChatError) -> dict[str, Any]:
    """Return the JSON body of an error."""
    if isinstance(error, InvalidKeyFormat | SessionNotFound):
        return {"detail": error.detail}
    return {
        "type": f"/docs#{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.fields,
    }


def limit_headers(own: Limit | None, upstreams: Limit | None) -> dict[str, str]:
    """Return the seed's rate headers: the tighter of our limit and the upstream's; none where no limit is known."""
    limits = [limit for limit in (own, upstreams) if limit is not None]
    if not limits:
        return {}
    tighter = min(limits, key=lambda limit: limit.remaining)
    return {"X-RateLimit-Limit": str(tighter.limit), "X-RateLimit-Remaining": str(tighter.remaining)}


def error_headers(error: ChatError) -> dict[str, str]:
    """Return the headers of an error's response, `Retry-After` included where waiting helps."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    return headers


def render(error: ChatError) -> Response:
    """Render an error as problem+json, or as the seed documents it."""
    body = problem(error)
    media_type = "application/problem+json" if "code" in body else "application/json"
    return Response(msgspec.json.encode(body), error.status, error_headers(error), media_type)


def render_sentence(error: ChatError) -> Response:
    """Render an error as one plain sentence, for clients that show the body to a person as it is."""
    return PlainTextResponse(error.detail, error.status, error_headers(error))


def render_with(scope: Scope, renderer: Renderer) -> None:
    """Render the errors of this request with `renderer` from now on."""
    scope[_RENDERER] = renderer


def render_for(scope: Scope, error: ChatError) -> Response:
    """Render an error in the form of the request's dialect, or of its path, or else as problem+json."""
    scope[ERROR_CODE] = error.code
    return _renderer_of(scope)(error)


def _renderer_of(scope: Scope) -> Renderer:
    if (chosen := scope.get(_RENDERER)) is not None:
        return chosen  # type: ignore[no-any-return]
    return renderer_of_path(scope["app"], scope["path"])


def renderer_of_path(app: Starlette, path: str) -> Renderer:
    """Return the renderer that is registered for a path."""
    registered: Mapping[str, Renderer] = app.state.error_renderers
    for prefix, renderer in registered.items():
        if path.startswith(prefix):
            return renderer
    return render


async def render_with_limits(request: Request, error: ChatError) -> Response:
    """Render an error that an endpoint raised, with the rate headers that its answer would have had."""
    response = render_for(request.scope, error)
    own = getattr(request.state, "limit", None)
    for name, value in limit_headers(own, error.limit if isinstance(error, UpstreamError) else None).items():
        response.headers.setdefault(name, value)
    return response


def use_renderers(app: Starlette, renderers: Mapping[str, Renderer]) -> None:
    """Have `app` render errors in the forms of dialects, by the prefix of their paths."""
    app.state.error_renderers = renderers
