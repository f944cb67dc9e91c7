"""/v1/models: the upstream's list of models, passed on."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.identity import mark_accepted
from chatapi.api.http.services import services_of
from chatapi.api.openai.common import require_key
from chatapi.api.openai.schemas import GET_MODEL, LIST_MODELS
from chatapi.auth.credentials import Credential
from chatapi.errors import InvalidRequest

router = APIRouter(tags=["openai"])


@router.get("/v1/models", **LIST_MODELS)
async def list_models(request: Request) -> Response:
    """Return the upstream's list of models."""
    return await _ask(request)


@router.get("/v1/models/{model:path}", **GET_MODEL)
async def retrieve_model(request: Request, model: str) -> Response:
    """Return the upstream's description of one model."""
    if any(part in {"", ".", ".."} for part in model.split("/")):
        raise InvalidRequest.field("model", "Must be the name of a model.")
    return await _ask(request, model)


async def _ask(request: Request, name: str | None = None) -> Response:
    services = services_of(request)
    key = require_key(request)
    limit = request.state.limit = await services.rate_limit.take(services.owner(key))
    settings = services.settings
    whole = await services.upstream.models(Credential(key), settings.max_answer_bytes, settings.status_seconds, name)
    mark_accepted(request, whole.metadata)
    services.generations.learn_models(whole.body)
    headers = whole.metadata.headers | limit_headers(limit, whole.metadata.limit)
    return Response(whole.body, 200, headers, "application/json")
