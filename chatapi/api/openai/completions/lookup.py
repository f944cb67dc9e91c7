"""The generation of a completion by its id, and the fields that are stored for it."""

from __future__ import annotations

from typing import Any

from chatapi.api.http.services import Services
from chatapi.api.openai.completions.request import DIALECT, decode_stored_fields
from chatapi.api.openai.ids import generation_of_completion
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.model import Generation


async def find_completion(services: Services, caller: Caller, name: str, action: Action) -> Generation:
    """Return the generation of a completion, by the id of either.

    Raises:
        SessionNotFound: there is none, or the caller may not do that with it.
    """
    generation = await services.store.generations.find(generation_of_completion(name))
    session = await services.store.sessions.find(generation.session_id) if generation is not None else None
    authorize(session, caller, action)
    assert generation is not None, "it was found with its session"
    return generation


async def stored_fields(services: Services, generation: Generation) -> dict[str, Any]:
    """Return the fields that a completion has only if its request had `store: true`."""
    if generation.dialect != DIALECT:
        return {}
    metadata = decode_stored_fields(await services.store.generations.find_dialect_data(generation.id))
    return {"metadata": metadata} if metadata is not None else {}
