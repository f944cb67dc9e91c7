"""What FastAPI adds to the direct routes: their description, and the rendering of its own errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.direct_route import DirectRoute, Endpoint
from chatapi.api.http.error_responses import render_for, render_with_limits
from chatapi.api.http.request_body import describe as describe_fields
from chatapi.errors import ChatError, InvalidRequest, MethodNotAllowed, NotFound, RequestError

ENDS_WITH_A_SLASH = "Unknown path: no path of this API ends with a slash. /docs lists the routes."


class DescribedRoute(APIRoute):
    """A direct route that the framework matched, as it does below a `root_path`.

    Its response is sent as it is: some of ours have no more than `__call__`, and the framework would look into them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = self._call

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def describe(
    router: APIRouter, routes: Iterable[DirectRoute], descriptions: Mapping[Endpoint, Mapping[str, Any]]
) -> None:
    """Add direct routes to a router with their descriptions. Those without one are not in the document."""
    for route in routes:
        description = descriptions.get(route.endpoint, {"include_in_schema": False})
        router.add_api_route(
            route.path,
            route.endpoint,
            methods=list(route.methods),
            route_class_override=DescribedRoute,
            **description,
        )


def render_errors(app: FastAPI) -> None:
    """Render every error of the framework with our renderers: its own would echo the body with the key in it."""

    async def chat_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ChatError)
        return await render_with_limits(request, error)

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return render_for(request.scope, InvalidRequest(describe_fields(list(error.errors()))))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = render_for(request.scope, _translate(error.status_code, request.scope["path"]))
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(ChatError, chat_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)


def _translate(status: int, path: str) -> RequestError:
    """Return the error of this service for a status that the framework raised."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(ENDS_WITH_A_SLASH if path.endswith("/") else None)
    return MethodNotAllowed() if status == HTTPStatus.METHOD_NOT_ALLOWED else RequestError()
