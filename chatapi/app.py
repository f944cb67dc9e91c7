"""`create_app`: the only place that names concrete classes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from chatapi import __version__, telemetry
from chatapi.api import chat, docs, health, keys, openai_chat, problems, sessions
from chatapi.api.core import Core
from chatapi.bus import LocalBus
from chatapi.errors import StoreUnavailable
from chatapi.generations import Generations
from chatapi.keys import KeyPolicy, load_secret
from chatapi.limits import RateLimit, Slots
from chatapi.middleware import Boundary, LastResort
from chatapi.model import wall_clock
from chatapi.settings import Settings, SettingsError
from chatapi.store import Store
from chatapi.store.sqlite import SQLiteDriver
from chatapi.upstream import Upstream

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
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
]


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application. Nothing is opened before its lifespan begins, or `running` is entered."""
    telemetry.configure(settings)
    app = FastAPI(
        title="OpenAI Chat API",
        description="Streams OpenAI-style models to any client, and keeps the conversation.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the URL, and whatever somebody put into it
        lifespan=lambda app: running(app),
        # FastAPI's own telemetry could be pointed elsewhere by the environment, and sees bodies.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.core = make_core(settings)
    for router in (
        chat.sending,
        chat.router,
        openai_chat.sending,
        openai_chat.router,
        sessions.router,
        keys.router,
        health.router,
        docs.router,
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


def make_core(settings: Settings) -> Core:
    """The parts of the service, put together and not opened yet."""
    store = Store(SQLiteDriver(settings.database_path), wall_clock)
    upstream = Upstream(settings.openai_base_url, settings.connect_seconds)
    slots = Slots(settings.max_generations_per_key, settings.max_generations)
    return Core(
        settings=settings,
        store=store,
        generations=Generations(store, LocalBus(), upstream, slots, settings, wall_clock),
        upstream=upstream,
        key_policy=KeyPolicy(settings.key_pattern),
        rate_limit=RateLimit(settings.rate_limit, time.monotonic),
    )


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """The service, open while the block lasts: first what others lean on, and closed in the reverse order.

    Raises:
        SettingsError: it cannot start as it is configured.
    """
    core: Core = app.state.core
    try:
        await core.store.open()
    except StoreUnavailable as error:
        await core.store.close()
        raise SettingsError(
            f"DATABASE_URL: the file {core.settings.database_path} cannot be read or written: {error.__cause__}. "
            "Free it, or set another."
        ) from error
    try:
        core.secret = _secret(core.settings)
        await core.upstream.open()
        try:
            await core.generations.open()
            try:
                yield
            finally:
                await core.generations.close()
        finally:
            await core.upstream.close()
    finally:
        await core.store.close()


def _secret(settings: Settings) -> bytes:
    if settings.secret is not None:
        return settings.secret.encode()
    path = settings.database_path.with_name(settings.database_path.name + ".secret")
    try:
        return load_secret(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"CHATAPI_SECRET: {error}") from error
