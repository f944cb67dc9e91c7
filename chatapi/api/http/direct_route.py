"""Routes without the framework: a request goes from the middleware to the function that serves it.

They are those that start an answer, and public documents that need no key. They also work before `chatapi.app` is
imported, which makes the start short; `framework.describe` adds them to the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chatapi.errors import ChatError

Endpoint = Callable[[Request], Awaitable[Response]]
AnyEndpoint = TypeVar("AnyEndpoint", bound=Endpoint)


class DirectRoute(NamedTuple):
    """A route whose endpoint takes the request and nothing else, and returns a response.

    Its path has no parameters, or one at its end that takes the rest: `/web/{path:path}`.
    """

    path: str
    methods: tuple[str, ...]
    endpoint: Endpoint


class DirectRoutes:
    """The direct routes of one module."""

    def __init__(self) -> None:
        self._routes: list[DirectRoute] = []

    def __iter__(self) -> Iterator[DirectRoute]:
        return iter(self._routes)

    def get(self, path: str) -> Callable[[AnyEndpoint], AnyEndpoint]:
        """Have the decorated function serve GET requests for a path."""
        return self.route(path, "GET")

    def post(self, path: str) -> Callable[[AnyEndpoint], AnyEndpoint]:
        """Have the decorated function serve POST requests for a path."""
        return self.route(path, "POST")

    def route(self, path: str, *methods: str) -> Callable[[AnyEndpoint], AnyEndpoint]:
        """Have the decorated function serve requests with these methods for a path."""

        def add(endpoint: AnyEndpoint) -> AnyEndpoint:
            self._routes.append(DirectRoute(path, methods, endpoint))
            return endpoint

        return add


class DirectDispatch:
    """Middleware that calls direct routes at once, with the result that the framework would have.

    A request is matched by one look into a dictionary instead of a search through all routes. The framework
    handles every other request.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[DirectRoute],
        render: Callable[[Request, ChatError], Awaitable[Response]],
    ) -> None:
        """Prepare the table of routes.

        Args:
            render: makes the response to an error of an endpoint, as the framework's exception handlers do.
        """
        self.app = app
        self._render = render
        self._routes = {(method, route.path): route for route in routes for method in route.methods}
        self._folders = {
            (method, path.partition("{")[0]): route for (method, path), route in self._routes.items() if "{" in path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            route = self._find_folder(scope)
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

    def _find_folder(self, scope: Scope) -> DirectRoute | None:
        """Return the route that has the beginning of the path, and have the request contain the rest."""
        for (method, folder), route in self._folders.items() if scope["type"] == "http" else ():
            if scope["method"] == method and scope["path"].startswith(folder):
                scope["path_params"] = {"path": scope["path"].removeprefix(folder)}
                return route
        return None
