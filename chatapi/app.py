"""`create_app`: the service as an ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from chatapi import __version__
from chatapi.api.account import config, keys, usage
from chatapi.api.chat import routes as chat
from chatapi.api.http import error_responses
from chatapi.api.openai import models
from chatapi.api.openai.completions import routes as completions
from chatapi.api.openai.conversations import routes as conversations
from chatapi.api.openai.responses import routes as responses
from chatapi.api.ops import docs, health, page
from chatapi.api.sessions import routes as sessions
from chatapi.api.sessions import search, transfer
from chatapi.auth.keys import KeyPolicy
from chatapi.middleware import Boundary, LastResort
from chatapi.settings import Settings
from chatapi.telemetry import logging as telemetry
from chatapi.wiring import make_services, running

EXPOSED = [
    "X-Session-ID",
    "X-Generation-ID",
    "X-Request-ID",
    "X-Upstream-Request-ID",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-Should-Retry",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Content-Disposition",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
]


def create_app(settings: Settings, demo_key: str | None = None) -> FastAPI:
    """The service as an ASGI application. Nothing is opened before its lifespan begins, or `running` is entered.

    `demo_key` is shown to everybody: a key for an upstream that takes any.
    """
    telemetry.configure(settings)
    app = FastAPI(
        title="OpenAI Chat API",
        description="Streams OpenAI-style models to any client, and keeps the conversation.",
        version=__version__,
        openapi_url=None,  # `docs` serves the document: it is made on a thread, and only if a client asks for it
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the URL, and whatever somebody put into it
        lifespan=lambda app: running(app.state.core),
        # FastAPI's own telemetry could be pointed elsewhere by the environment, and sees bodies.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.core = make_services(settings)
    app.state.core.demo_key = demo_key
    for router in (
        chat.sending,
        chat.router,
        completions.sending,
        completions.router,
        models.router,
        responses.creating,
        responses.router,
        conversations.router,
        sessions.router,
        search.router,
        transfer.router,
        usage.router,
        keys.router,
        health.router,
        config.router,
        docs.router,
        page.router,
    ):
        app.router.routes += router.routes  # as they are: an included router matches each request twice
    error_responses.install(app)
    # The last one added is the outermost.
    app.add_middleware(LastResort)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
    app.add_middleware(Boundary, key_policy=KeyPolicy(settings.key_pattern))
    return app
