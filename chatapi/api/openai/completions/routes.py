"""The routes of /v1/chat/completions (`creating`) and of one completion."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from chatapi.api.http.framework import describe
from chatapi.api.openai.common import require_key
from chatapi.api.openai.completions import creating
from chatapi.api.openai.completions.schemas import CREATE_COMPLETION, GET_COMPLETION

router = APIRouter(tags=["openai"])
describe(router, creating.direct, {creating.create: CREATE_COMPLETION})


@router.get("/v1/chat/completions/{completion_id}", **GET_COMPLETION)
async def retrieve(
    request: Request,
    completion_id: str,
    stream: Annotated[bool, Query()] = False,
    include_usage: Annotated[bool, Query()] = True,
) -> Response:
    """An answer of a session by the id of its completion or generation: as one object when it has ended, or with
    `stream=true` as chunks, from after `Last-Event-ID`, if that is given."""
    require_key(request)
    return await creating.resume(request, completion_id, stream=stream, usage=include_usage, metadata=True)
