"""OpenAI's paths without their `/v1`: a client whose base URL lacks it gets an error that names the remedy."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from chatapi.api.http.error_responses import render_with
from chatapi.api.openai.errors import render
from chatapi.errors import NotFound

router = APIRouter()

PARENTS = ("", "/api")  # what such a base URL has after the host
FIRST_PATHS = ("chat/completions", "completions", "responses", "conversations", "models", "embeddings")
REMEDY = "Unknown path. OpenAI's routes are below /v1: set the client's base URL to this server's address and /v1."


async def refuse(request: Request) -> Response:
    """Refuse a request in OpenAI's form, which the client shows."""
    render_with(request.scope, render)
    raise NotFound(REMEDY)


for parent in PARENTS:
    for path in FIRST_PATHS:
        router.add_api_route(f"{parent}/{path}", refuse, methods=["GET", "POST"], include_in_schema=False)
