"""`create_app`: the service as a FastAPI application.

`python app.py` serves `front.create_front`, which imports this module when a request needs it.
"""

from __future__ import annotations

from fastapi import FastAPI

from chatapi import __version__
from chatapi.api.account import routes as account
from chatapi.api.account import usage
from chatapi.api.chat import queue
from chatapi.api.chat import routes as chat
from chatapi.api.http.framework import render_errors
from chatapi.api.http.services import Services
from chatapi.api.openai import misplaced, models, proxy
from chatapi.api.openai.completions import routes as completions
from chatapi.api.openai.completions import stored as stored_completions
from chatapi.api.openai.conversations import routes as conversations
from chatapi.api.openai.responses import operations as response_operations
from chatapi.api.openai.responses import routes as responses
from chatapi.api.openai.responses import websocket
from chatapi.api.ops import docs, plug
from chatapi.api.ops import routes as ops
from chatapi.api.sessions import routes as sessions
from chatapi.api.sessions import search, shares, summaries, transfer
from chatapi.model import Replica
from chatapi.settings import Settings
from chatapi.stack import add_middleware
from chatapi.telemetry import logging as telemetry
from chatapi.wiring import make_services, running
from chatapi.worker_group import Member


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
    return assemble(make_services(settings, demo_key, replica, worker))


def assemble(services: Services) -> FastAPI:
    """Make the application of a service that exists."""
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
    for router in (
        ops.page_router,  # first, for its many files; no other route begins with its paths
        chat.router,
        queue.router,
        completions.router,
        models.router,
        responses.router,
        response_operations.router,
        websocket.router,
        stored_completions.router,
        conversations.router,
        proxy.router,  # after all others under /v1
        misplaced.router,
        sessions.router,
        summaries.router,
        search.router,
        transfer.router,
        shares.router,
        usage.router,
        account.key_router,
        ops.health_router,
        account.config_router,
        docs.router,
        *([plug.router] if services.demo_key is not None else []),
    ):
        app.router.routes += router.routes  # directly: an included router matches each request twice
    render_errors(app)
    add_middleware(app, services)
    return app
