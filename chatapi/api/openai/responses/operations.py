"""Operations of the upstream's Responses over conversations that are stored here. Their answers are passed on.

Where the upstream cannot compact a conversation, the operator's model for summaries does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from chatapi.api.http.request_body import read_raw_body, run_fairly
from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.common import check_surrogates, find_references, not_found_as, require_key
from chatapi.api.openai.input_items import References
from chatapi.api.openai.items import COMPLETED, write_items
from chatapi.api.openai.responses import schemas
from chatapi.api.openai.responses.objects import usage_object
from chatapi.api.openai.responses.request import ResponseRequest, read_compact, read_input_tokens
from chatapi.api.openai.responses.tools import Hosted
from chatapi.api.openai.responses.turns import read_turn
from chatapi.api.openai.responses.unstored import encode_json
from chatapi.api.openai.sealed_summaries import is_summary, seal_summary
from chatapi.api.openai.whole_answer import WholeAnswer
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.auth.credentials import Credential
from chatapi.errors import ConversationNotFound, InvalidRequest, UpstreamUnsupported
from chatapi.generations.context import ContextPlan
from chatapi.model import Role, TurnRequest, Usage, new_id, wall_clock
from chatapi.settings import Settings
from chatapi.upstream.chat_completions import check_no_compaction
from chatapi.upstream.passthrough import PassthroughBody
from chatapi.upstream.responses.operations import Operation

router = APIRouter(tags=["openai"])

_KEPT_ROLES = frozenset({Role.USER, Role.SYSTEM, Role.DEVELOPER})  # no summary has the authority of the latter two

NO_SUMMARY = "Or the operator can name a model for summaries (CHATAPI_SUMMARY_MODEL), which takes its place."

Reader = Callable[[dict[str, Any], Settings, References, Hosted], ResponseRequest]
Substitute = Callable[[Services, str, ContextPlan, TurnRequest, Credential], Awaitable[PassthroughBody]]
"""Has a model answer in place of an upstream that does not have the operation."""


@router.post("/v1/responses/input_tokens", **schemas.COUNT_INPUT_TOKENS)
async def count_input_tokens(request: Request) -> Response:
    """Return the upstream's count of the tokens that the input of a response would have."""
    return await _operate(request, "input_tokens", read_input_tokens)


@router.post("/v1/responses/compact", **schemas.COMPACT_RESPONSE)
async def compact(request: Request) -> Response:
    """Return the items with which the upstream replaces a conversation."""
    return await _operate(request, "compact", read_compact, _summarise)


async def _operate(
    request: Request, operation: Operation, read: Reader, substitute: Substitute | None = None
) -> Response:
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
    plan = await services.generations.plan(turn, session)
    credential, most_bytes = Credential(key), settings.max_context_bytes

    async def ask() -> PassthroughBody:
        try:
            return await services.upstream.operate(operation, plan.model_request, credential, most_bytes)
        except UpstreamUnsupported as error:
            if substitute is None:
                raise
            if (model := settings.summary_model) is None:
                raise UpstreamUnsupported(f"{error.detail} {NO_SUMMARY}") from None
        return await substitute(services, model, plan, turn, credential)

    return WholeAnswer(services, owner, ask, limit)


async def _summarise(
    services: Services, model: str, plan: ContextPlan, turn: TurnRequest, credential: Credential
) -> PassthroughBody:
    """Return a conversation compacted here: the messages that stay as they are, and a sealed summary of all.

    Raises:
        InvalidRequest: there is no conversation.
        UpstreamError: an item needs the upstream that made it, or the summary failed.
    """
    check_no_compaction(plan.model_request)
    if not plan.sent:
        raise InvalidRequest.field("input", "Must not be empty without a previous_response_id.")
    made = await services.generations.summarise(model, plan, turn.session_id, turn.owner, credential)
    kept = [one for one in plan.sent if one.role in _KEPT_ROLES and not is_summary(one)]
    items = [item for one in kept for item in write_items(new_id("msg"), one.role, one.parts, COMPLETED)]
    sealed = seal_summary(services.secret, turn.owner, made.text)
    compacted = {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": wall_clock() // 1_000_000,
        "output": [*items, {"id": new_id("cmp"), "type": "compaction", "encrypted_content": sealed}],
        "usage": usage_object(made.usage or Usage(None, None)),
    }
    return PassthroughBody(encode_json(compacted), made.metadata)
