"""POST /demo/plug: the demo kills its own server and starts it again, to show that no text is lost.

The route exists in the demo only. The process is replaced at once: nothing is drained, stored or closed, as after
`kill -9`, and every connection breaks.
"""

from __future__ import annotations

import os
import sys

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response

from chatapi.api.http.identity import has_own_host
from chatapi.api.http.services import services_of
from chatapi.errors import NotFound

router = APIRouter(include_in_schema=False)

PATH = "/demo/plug"


@router.post(PATH)
async def pull(request: Request) -> Response:
    """Kill the server and start it again. Pages of other origins cannot send JSON here without CORS."""
    is_ours = has_own_host(request, services_of(request).settings)
    if not is_ours or request.headers.get("content-type") != "application/json":
        raise NotFound
    return Response(status_code=202, background=BackgroundTask(replace_process, request.scope["server"][1]))


async def replace_process(port: int) -> None:
    """Replace this process by a new one with the same command line, on the same port."""
    os.environ["PORT"] = str(port)  # the command line may let the system choose one
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line
