"""`create_app`: the service as an ASGI application."""

from __future__ import annotations

from fastapi import FastAPI

from chatapi import __version__
from chatapi.api.account import config, keys, usage
from chatapi.api.chat import queue
from chatapi.api.chat import routes as chat
from chatapi.api.http import error_responses
from chatapi.api.http.direct_route import DirectDispatch
from chatapi.api.openai import errors as openai_errors
from chatapi.api.openai import models, proxy
from chatapi.api.openai.completions import routes as completions
from chatapi.api.openai.completions import stored as stored_completions
from chatapi.api.openai.conversations import routes as conversations
from chatapi.api.openai.responses import operations as response_operations
from chatapi.api.openai.responses import routes as responses
from chatapi.api.openai.responses import websocket
from chatapi.api.ops import docs, health, metrics, page, plug
from chatapi.api.sessions import routes as sessions
from chatapi.api.sessions import search, shares, summaries, transfer
from chatapi.middleware import Admission, Boundary, CrossOrigin, HeadAsGet, LastResort
from chatapi.model import Replica
from chatapi.settings import Settings
from chatapi.telemetry import logging as telemetry
from chatapi.wiring import make_services, running
from chatapi.worker_group import Member

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


def create_app(
    settings: Settings,
    demo_key: str | None = None,
    replica: Replica | None = None,
    worker: Member | None = None,
) -> FastAPI:
    """Make the service as an ASGI application. Its lifespan, or `wiring.running`, opens it.

    Args:
        demo_key: a key that the page shows; only for an upstream that accepts any key.
        replica: the identity of this process in the database; a new one by default.
        worker: what this process has of its group, if it is one of several workers on SQLite.
    """
    telemetry.configure(settings)
    app = FastAPI(
        title="OpenAI Chat API",
        description="Streams OpenAI-style models to any client, and keeps the conversation.",
        version=__version__,
        openapi_url=None,  # `docs` serves the document: it is made on a thread, and only if a client asks for it
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the URL with everything in it
        lifespan=lambda app: running(app.state.services),
        # FastAPI's own telemetry sees bodies, and the environment could send it elsewhere.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = make_services(settings, demo_key, replica, worker)
    for router in (
        page.router,  # first, for its many files; no other route begins with its paths
        chat.sending,
        chat.router,
        queue.router,
        completions.sending,
        completions.router,
        models.router,
        responses.creating,
        responses.router,
        response_operations.router,
        websocket.router,
        stored_completions.router,
        conversations.router,
        proxy.router,  # after all others under /v1
        sessions.router,
        summaries.router,
        search.router,
        transfer.router,
        shares.router,
        usage.router,
        keys.router,
        health.router,
        metrics.router,
        config.router,
        docs.router,
        *([plug.router] if demo_key is not None else []),
    ):
        app.router.routes += router.routes  # directly: an included router matches each request twice
    error_responses.install(app, {openai_errors.PREFIX: openai_errors.render})
    # The last middleware added is the outermost.
    app.add_middleware(DirectDispatch, routes=app.router.routes, render=error_responses.render_with_limits)
    app.add_middleware(HeadAsGet)
    app.add_middleware(LastResort)
    app.add_middleware(Admission, services=app.state.services)
    app.add_middleware(
        CrossOrigin,
        allow_origins=settings.origins if demo_key is None else [],  # the page shows the demo's key to its own origin
        allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
    app.add_middleware(Boundary, services=app.state.services)
    return app
