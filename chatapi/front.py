"""`create_front`: the service as `python app.py` serves it, which imports the framework's routes when they are needed.

FastAPI, the sixty routes that it serves and their descriptions are half of the start and a third of the memory
(docs/decisions/late-routes.md). The direct routes need none of them.
"""

from __future__ import annotations

import asyncio
import gc
import time

import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from chatapi.api.http.services import Services
from chatapi.model import Replica
from chatapi.settings import Settings
from chatapi.stack import add_middleware
from chatapi.telemetry import logging as telemetry
from chatapi.wiring import make_services, running
from chatapi.worker_group import Member

logger = structlog.get_logger()


def create_front(
    settings: Settings,
    demo_key: str | None = None,
    replica: Replica | None = None,
    worker: Member | None = None,
) -> Starlette:
    """Make the service as an ASGI application that answers as `app.create_app` does. Arguments: as there."""
    telemetry.configure(settings)
    services = make_services(settings, demo_key, replica, worker)
    app = Starlette(lifespan=lambda app: running(app.state.services))
    app.router.redirect_slashes = False
    app.router.default = LateRoutes(services)
    add_middleware(app, services)
    return app


class LateRoutes:
    """The routes of `chatapi.app`, inside of our middleware. The first request imports them, on a thread.

    So does a request for the page, which will ask for some of them.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._importing: asyncio.Task[None] | None = None
        self._app: Starlette | None = None
        self._routes: ASGIApp | None = None
        services.import_routes = self.begin

    def begin(self) -> asyncio.Task[None] | None:
        """Begin to import them; return the task until they are there."""
        if self._routes is None and self._importing is None:
            self._importing = asyncio.create_task(self._import(), name="late-routes")
            self._importing.add_done_callback(_retrieve_error)
        return self._importing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (importing := self.begin()) is not None:
            await asyncio.shield(importing)
        assert self._routes is not None
        scope["app"] = self._app
        await self._routes(scope, receive, send)

    async def _import(self) -> None:
        begun = time.monotonic()
        try:
            self._app, self._routes = await asyncio.to_thread(_assemble, self._services)
        except Exception:
            logger.exception("late routes not imported")  # the request for the page, which began it, does not wait
            raise
        finally:
            self._importing = None  # after a failure, such as no free file descriptor, the next request tries again
        logger.info("late routes imported", seconds=round(time.monotonic() - begun, 3))
        gc.freeze()  # as after the start: these objects live as long as the process


def _retrieve_error(importing: asyncio.Task[None]) -> None:
    """Retrieve the error, which is logged: asyncio reports one that nothing has retrieved."""
    if not importing.cancelled():
        importing.exception()


def _assemble(services: Services) -> tuple[Starlette, ASGIApp]:
    """Return the framework's application, and the part of it that is inside of our middleware."""
    from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware  # here, as the module docstring explains
    from starlette.middleware.exceptions import ExceptionMiddleware

    from chatapi.app import assemble

    app = assemble(services)
    return app, ExceptionMiddleware(AsyncExitStackMiddleware(app.router), handlers=app.exception_handlers)
