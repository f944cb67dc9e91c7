"""Requests of Responses as turns of sessions, and the generations that ids of responses name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from chatapi.api.http.identity import work_group
from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.common import not_found_as
from chatapi.api.openai.ids import generation_of_response, session_of_conversation
from chatapi.api.openai.responses.objects import encode_request_fields
from chatapi.api.openai.responses.request import CONTEXT_POLICIES, ResponseRequest
from chatapi.api.turns import FORKS, with_idempotency
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.errors import Draining, Overloaded, PreviousNotFound, RequestError, SessionBusy, SessionNotFound
from chatapi.model import Authorizer, Generation, TurnRequest

DIALECT = "responses"

T = TypeVar("T")


async def read_turn(request: Request, asked: ResponseRequest, caller: Caller) -> TurnRequest:
    """Return the turn that a request asks for.

    Raises:
        PreviousNotFound: there is no such `previous_response_id`, or the caller may not continue it.
    """
    services = services_of(request)
    assert caller.owner is not None, "the request has a key"
    session_id, parent = None, None
    if asked.previous_response_id is not None:
        with not_found_as(PreviousNotFound, "previous_response_id"):
            previous = await find_response(services, caller, asked.previous_response_id, Action.SPEND)
        session_id, parent = previous.session_id, previous.message_id
    elif asked.conversation_id is not None:
        session_id = session_of_conversation(asked.conversation_id)
    turn = TurnRequest(
        owner=caller.owner,
        session_id=session_id,
        developer_message=None,
        input=asked.input,
        model=asked.model,
        dialect=DIALECT,
        parameters=asked.parameters,
        parent=parent,
        instructions=asked.instructions,
        dialect_data=encode_request_fields(asked.repeated),
        responses_parameters=asked.own_parameters,
        context=CONTEXT_POLICIES.get(asked.repeated.get("truncation", "")),
    )
    return await with_idempotency(request, services, turn) if asked.store else turn


async def in_own_branch(
    request: Request, turn: TurnRequest, authorizer: Authorizer, begin: Callable[[TurnRequest], Awaitable[T]]
) -> T:
    """Begin a turn; one that follows an ended response while its session is busy begins in a copy of the path to it.

    So several turns under one response run at once, each in a session of its own (docs/decisions/parallel-turns.md).

    Raises:
        SessionBusy: the turn follows the head of a busy session, or the answer that is running there.
    """
    try:
        return await begin(turn)
    except SessionBusy:
        if turn.parent is None or turn.session_id is None:
            raise
    services = services_of(request)
    async with services.queue(FORKS).turn(work_group(request)):
        branch = await services.store.forks.create(
            turn.session_id, authorizer, turn.parent, services.settings.max_context_bytes
        )
    try:
        return await begin(replace(turn, session_id=branch.id, parent=branch.head))
    except (RequestError, Draining, Overloaded):  # the turn was not started
        with suppress(SessionNotFound):
            await services.generations.delete_session(branch.id, authorizer)
        raise


async def find_response(services: Services, caller: Caller, name: str, action: Action) -> Generation:
    """Return the generation of a response.

    Raises:
        SessionNotFound: there is none, or the caller may not do that with it.
    """
    generation_id = generation_of_response(name)
    generation = await services.store.generations.find(generation_id) if generation_id is not None else None
    session = await services.store.sessions.find(generation.session_id) if generation is not None else None
    authorize(session, caller, action)
    assert generation is not None, "it was found with its session"
    return generation
