"""`create_app`: the service as an ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from chatapi import __version__, telemetry
from chatapi.api import (
    chat,
    config,
    conversations,
    docs,
    export,
    health,
    keys,
    openai_chat,
    problems,
    responses,
    search,
    sessions,
    usage,
    web,
)
from chatapi.keys import KeyPolicy
from chatapi.middleware import Boundary, LastResort
from chatapi.service import make_core, running
from chatapi.settings import Settings

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
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the URL, and whatever somebody put into it
        lifespan=lambda app: running(app.state.core),
        # FastAPI's own telemetry could be pointed elsewhere by the environment, and sees bodies.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.core = make_core(settings)
    app.state.core.demo_key = demo_key
    for router in (
        chat.sending,
        chat.router,
        openai_chat.sending,
        openai_chat.router,
        responses.creating,
        responses.router,
        conversations.router,
        sessions.router,
        search.router,
        export.router,
        usage.router,
        keys.router,
        health.router,
        config.router,
        docs.router,
        web.router,
    ):
        app.router.routes += router.routes  # as they are: an included router matches each request twice
    problems.install(app)
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
