"""Turns, in every dialect: the digest behind an idempotency key, the response's headers, and its stream."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.services import Services, WorkQueue
from chatapi.api.http.streaming import Encoder, LogResponse, read_whole
from chatapi.api.http.supervision import unless_disconnected
from chatapi.errors import ChatError, InvalidRequest, SessionNotFound
from chatapi.generations.manager import TurnHandle
from chatapi.generations.reader import LogChunks
from chatapi.model import Generation, Limit, Piece, Status, TurnRequest

MAX_IDEMPOTENCY_KEY = 255  # characters
LEFT_OUT_HEADER = "X-Context-Left-Out"
FORKS = WorkQueue("forks", at_once=1)  # copies of paths, which other writers wait for
ATTEMPT_HEADER = "x-stainless-retry-count"
FIRST_ATTEMPT = "0"

T = TypeVar("T")


def with_digest(
    turn: TurnRequest, idempotency_key: str, content: Any = None, replaces: str | None = None
) -> TurnRequest:
    """Return the turn with its idempotency key and a digest of its content. The stream's format is not part of it.

    Args:
        content: the values that the digest covers, where the turn itself would differ when it is sent again.
        replaces: the id of the message that the turn replaces, whose parent is not looked up yet.

    Raises:
        InvalidRequest: the key is empty or too long.
    """
    name = hash_idempotency_key(idempotency_key)
    if content is None:
        content = [
            turn.session_id,
            turn.alias,
            turn.parent,
            turn.developer_message,
            turn.input,
            turn.model,
            sorted(turn.parameters.items()),
        ]
        if turn.dialect_data is not None:
            content += [turn.instructions, turn.dialect_data]
        if turn.context is not None:
            content += [turn.context]
        if replaces is not None:
            content += [replaces]
        if turn.responses_parameters:
            content += [sorted(turn.responses_parameters.items())]
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
    return replace(turn, idempotency_key=name, digest=digest)


def hash_idempotency_key(idempotency_key: str) -> str:
    """Return the form in which an idempotency key is stored.

    Raises:
        InvalidRequest: the key is empty or too long.
    """
    if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest.field("Idempotency-Key", f"It must be 1 to {MAX_IDEMPOTENCY_KEY} characters.")
    return hashlib.sha256(idempotency_key.encode("utf-8", "surrogateescape")).hexdigest()


async def with_idempotency(request: Request, services: Services, turn: TurnRequest, content: Any = None) -> TurnRequest:
    """Return the turn with the request's idempotency key, or with one for the retries of OpenAI's SDKs.

    The SDKs send no key with a retry, but number their attempts. A later attempt with the same content has the key of
    the first one, so that it attaches to that answer while it runs, and replays it if it completed. A later attempt of
    which this process does not know the first one attaches to it where it runs.

    Raises:
        InvalidRequest: the idempotency key is empty or too long.
    """
    if (idempotency_key := request.headers.get("idempotency-key")) is not None:
        return with_digest(turn, idempotency_key, content)
    if (attempt := request.headers.get(ATTEMPT_HEADER)) is None:
        return turn
    digested = with_digest(turn, FIRST_ATTEMPT, content)
    name = f"{turn.owner} {digested.digest}"
    if attempt != FIRST_ATTEMPT and (key := services.attempts.get(name)) is not None:
        repeated = with_digest(turn, key, content)
        first = await services.store.turns.find_by_idempotency_key(repeated)
        if first is None or first.generation.status not in {Status.FAILED, Status.INTERRUPTED}:
            return replace(repeated, is_retry=True)  # another replica may run a newer first attempt
    fresh = with_digest(turn, services.attempts.add(name), content)
    return replace(fresh, is_retry=attempt != FIRST_ATTEMPT)


async def unless_left(request: Request, cancel: bool, sending: Awaitable[T]) -> T | None:
    """Return the result of `sending`; with `cancel`, None after cancelling it because the client left first."""
    return await unless_disconnected(request.receive, sending) if cancel else await sending


def turn_headers(turn: TurnHandle, own: Limit | None) -> dict[str, str]:
    """Return the headers of a turn's response: the seed's, and those that the upstream shows its callers."""
    headers = dict(turn.upstream.headers) if turn.upstream is not None else {}
    headers |= limit_headers(own, turn.upstream.limit if turn.upstream is not None else None)
    return headers | log_headers(turn.generation)


def log_headers(generation: Generation) -> dict[str, str]:
    """Return the headers of a response that reads the log of a generation."""
    ids = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
    return ids | left_out_header(generation)


def left_out_header(generation: Generation) -> dict[str, str]:
    """Return the header that says which messages the model did not get, if it did not get all.

    An item of RFC 9651: the number, with the ids of the first and the last as parameters.
    """
    left_out = generation.left_out
    if left_out is None:
        return {}
    ids = f';first="{left_out.first}";last="{left_out.last}"' if left_out.first is not None else ""
    if left_out.summary is not None:
        ids += f';summary="{left_out.summary}";summarised={left_out.summarised}'
    return {LEFT_OUT_HEADER: f"{left_out.messages}{ids}"}


def stream_turn(
    services: Services, turn: TurnHandle, encoder: Encoder, headers: dict[str, str], cancel: bool
) -> Response:
    """Stream the answer to a turn; with `cancel`, a disconnect stops it."""

    def abandon() -> None:
        services.generations.abandon(turn.generation.id)

    heartbeat_seconds = services.settings.heartbeat_seconds
    return LogResponse(turn.chunks, encoder, headers, heartbeat_seconds, abandon if cancel else None)


async def read_answer(
    services: Services,
    request: Request,
    generation: Generation,
    readings: LogChunks,
    headers: dict[str, str],
    cancel: bool = False,
) -> tuple[Generation, list[Piece]] | None:
    """Read an answer to its end; return None if the client disconnects first, which stops it with `cancel`.

    Raises:
        ChatError: the answer failed or was interrupted; the error carries `headers`.
    """

    def abandon() -> None:
        services.generations.abandon(generation.id)

    try:
        return await read_whole(readings, request.receive, abandon if cancel else None)
    except ChatError as error:
        error.headers |= headers
        raise


async def find_generation(services: Services, session_id: str, generation_id: str | None) -> Generation | None:
    """Return the session's generation of this id, or its latest if the id is None.

    Raises:
        SessionNotFound: the session has no generation of this id.
    """
    if generation_id is None:
        return await services.store.generations.find_latest(session_id)
    generation = await services.store.generations.find(generation_id)
    if generation is None or generation.session_id != session_id:
        raise SessionNotFound
    return generation
