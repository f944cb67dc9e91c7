"""What a request passes before the routes of the framework: the middleware, and the direct routes."""

from __future__ import annotations

from starlette.applications import Starlette

from chatapi.api.account import config, keys
from chatapi.api.chat import sending as chat
from chatapi.api.http import error_responses
from chatapi.api.http.direct_route import DirectDispatch
from chatapi.api.http.services import Services
from chatapi.api.openai import errors as openai_errors
from chatapi.api.openai.completions import creating as completions
from chatapi.api.openai.responses import creating as responses
from chatapi.api.ops import health, metrics, page
from chatapi.middleware import Admission, Boundary, CrossOrigin, HeadAsGet, LastResort

DIRECT_ROUTES = [
    route for module in (chat, completions, responses, page, keys, health, metrics, config) for route in module.direct
]
EXPOSED = [
    "X-Session-ID",
    "X-Generation-ID",
    "X-Request-ID",
    "X-Upstream-Request-ID",
    "X-Upstream-Name",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-Should-Retry",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Content-Disposition",
    "X-Context-Left-Out",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
]


def add_middleware(app: Starlette, services: Services) -> None:
    """Have `app` serve this service: through our middleware, with the direct routes before its own."""
    app.state.services = services
    error_responses.use_renderers(app, {openai_errors.PREFIX: openai_errors.render})
    # The last middleware added is the outermost.
    app.add_middleware(DirectDispatch, routes=DIRECT_ROUTES, render=error_responses.render_with_limits)
    app.add_middleware(HeadAsGet)
    app.add_middleware(LastResort)
    app.add_middleware(Admission, services=services)
    app.add_middleware(
        CrossOrigin,
        allow_origins=_origins(services),
        allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
    app.add_middleware(Boundary, services=services)


def _origins(services: Services) -> list[str]:
    """Return the origins whose pages may call the API; in the demo none but those that are named, as `*` is the default
    and the configuration contains the demo's key.
    """
    origins = services.settings.origins
    return origins if services.demo_key is None else [origin for origin in origins if origin != "*"]
