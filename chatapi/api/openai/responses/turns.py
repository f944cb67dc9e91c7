"""Requests of Responses as turns of sessions, and the generations that ids of responses name."""

from __future__ import annotations

from starlette.requests import Request

from chatapi.api.http.services import Services, services_of
from chatapi.api.openai.common import not_found_as
from chatapi.api.openai.ids import generation_of_response, session_of_conversation
from chatapi.api.openai.responses.objects import encode_request_fields
from chatapi.api.openai.responses.request import CONTEXT_POLICIES, ResponseRequest
from chatapi.api.turns import with_idempotency
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.errors import PreviousNotFound
from chatapi.model import Generation, TurnRequest

DIALECT = "responses"


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
