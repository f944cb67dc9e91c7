"""Routes without the framework's machinery around the call, for the requests that start an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from chatapi.errors import ChatError


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and nothing else, and returns a response.

    It has no dependencies to solve and no exit stacks to unwind. In the OpenAPI document it is a route like any other.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = self._call

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class DirectDispatch:
    """Middleware that calls direct routes without parameters in their path at once, with the same result.

    A request is matched by one look into a dictionary instead of a search through all routes. The framework
    handles every other request.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[BaseRoute],
        render: Callable[[Request, ChatError], Awaitable[Response]],
    ) -> None:
        """Prepare the table of routes.

        Args:
            render: makes the response to an error of an endpoint, as the framework's exception handlers do.
        """
        self.app = app
        self._render = render
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, DirectRoute) and "{" not in route.path
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None or scope.get("root_path"):
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
            await response(scope, receive, send)
        except ChatError as error:  # of a response too, which may ask the model API before it starts
            refusal = await self._render(request, error)
            await refusal(scope, receive, send)
