"""What the routes that send turns share, whatever their dialect."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.services import Services
from chatapi.api.http.streaming import Encoder, LogResponse
from chatapi.errors import InvalidRequest, SessionNotFound
from chatapi.generations.manager import TurnHandle
from chatapi.model import Generation, Limit, TurnRequest

MAX_IDEMPOTENCY_KEY = 255  # characters


def with_digest(turn: TurnRequest, idempotency_key: str, said: Any = None, replaces: str | None = None) -> TurnRequest:
    """The turn, told apart from another that comes with the same idempotency key. How it is read does not matter.

    `said` is what tells it apart, where the turn itself would be another the next time; `replaces` is the message in
    whose place it stands, before anybody has looked where that hangs.

    Raises:
        InvalidRequest: the key is too long, or empty.
    """
    if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest.field("Idempotency-Key", f"It takes 1 to {MAX_IDEMPOTENCY_KEY} characters.")
    if said is None:
        said = [
            turn.session_id,
            turn.alias,
            turn.parent,
            turn.developer_message,
            turn.input,
            turn.model,
            sorted(turn.parameters.items()),
        ]
        if turn.dialect_data is not None:
            said += [turn.instructions, turn.dialect_data]
        if replaces is not None:
            said += [replaces]
    digest = hashlib.sha256(msgspec.json.encode(said)).hexdigest()
    name = hashlib.sha256(idempotency_key.encode("utf-8", "surrogateescape")).hexdigest()
    return replace(turn, idempotency_key=name, digest=digest)


def sent_headers(sent: TurnHandle, own: Limit | None) -> dict[str, str]:
    """The seed's headers, and what the upstream lets its callers know."""
    headers = dict(sent.answer.headers) if sent.answer is not None else {}
    headers |= limit_headers(own, sent.answer.limit if sent.answer is not None else None)
    return headers | {"X-Session-ID": sent.session.id, "X-Generation-ID": sent.generation.id}


def streamed(core: Services, sent: TurnHandle, encoder: Encoder, headers: dict[str, str], cancel: bool) -> Response:
    """The answer to a turn, streamed; with `cancel`, a client that leaves ends it."""

    def left() -> None:
        core.generations.abandon(sent.generation.id)

    return LogResponse(sent.readings, encoder, headers, core.settings.heartbeat_seconds, left if cancel else None)


async def find_generation(core: Services, session_id: str, generation_id: str | None) -> Generation | None:
    """The generation that was asked for: by its id, which must be of this session, or else the last one."""
    if generation_id is None:
        return await core.store.generations.find_latest(session_id)
    generation = await core.store.generations.find(generation_id)
    if generation is None or generation.session_id != session_id:
        raise SessionNotFound
    return generation
