"""Operations of the upstream's Responses over conversations that are stored here. Their answers are passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from chatapi.api.http.request_body import read_raw_body, run_fairly
from chatapi.api.http.services import services_of
from chatapi.api.openai.common import check_surrogates, find_references, not_found_as, require_key
from chatapi.api.openai.input_items import References
from chatapi.api.openai.responses import schemas
from chatapi.api.openai.responses.request import ResponseRequest, read_compact, read_input_tokens
from chatapi.api.openai.responses.tools import Hosted
from chatapi.api.openai.responses.turns import read_turn
from chatapi.api.openai.whole_answer import WholeAnswer
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.auth.credentials import Credential
from chatapi.errors import ConversationNotFound
from chatapi.settings import Settings
from chatapi.upstream.responses.operations import Operation

router = APIRouter(tags=["openai"])


Reader = Callable[[dict[str, Any], Settings, References, Hosted], ResponseRequest]


@router.post("/v1/responses/input_tokens", **schemas.COUNT_INPUT_TOKENS)
async def count_input_tokens(request: Request) -> Response:
    """Return the upstream's count of the tokens that the input of a response would have."""
    return await _operate(request, "input_tokens", read_input_tokens)


@router.post("/v1/responses/compact", **schemas.COMPACT_RESPONSE)
async def compact(request: Request) -> Response:
    """Return the items with which the upstream replaces a conversation."""
    return await _operate(request, "compact", read_compact)


async def _operate(request: Request, operation: Operation, read: Reader) -> Response:
    services = services_of(request)
    settings = services.settings
    key = require_key(request)
    owner = services.owner(key)
    caller = Caller(owner)
    raw, body = await read_raw_body(request, settings.max_media_bytes)
    await run_fairly(request, len(raw), lambda: check_surrogates(raw, body))
    references = await find_references(services, owner, body.get("input"))
    asked = await run_fairly(request, len(raw), lambda: read(body, settings, references, services.hosted_tools))
    turn = await read_turn(request, asked, caller)
    limit = request.state.limit = await services.rate_limit.take(owner)
    session = None
    if turn.session_id is not None:
        with not_found_as(ConversationNotFound, "conversation"):
            session = authorize(await services.store.sessions.find(turn.session_id), caller, Action.SPEND)
    wanted = await services.generations.model_request(turn, session)
    credential, most_bytes = Credential(key), settings.max_context_bytes
    return WholeAnswer(
        services, owner, lambda: services.upstream.operate(operation, wanted, credential, most_bytes), limit
    )
