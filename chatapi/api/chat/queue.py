"""The queue of a session: list, change and remove messages that wait, and start them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chatapi.api.chat import queue_schemas as schemas
from chatapi.api.chat.queued import queued_json
from chatapi.api.chat.request import QueuedChangeBody
from chatapi.api.http.identity import address_group, authenticate, authorized, caller_of, key_of
from chatapi.api.http.request_body import read_body
from chatapi.api.http.services import services_of
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.model import Session, Status
from chatapi.wire.text import check_length

router = APIRouter(tags=["chat"])


@router.get("/api/chat/{session_id}/queue", **schemas.LIST_QUEUE)
async def list_queue(request: Request, session_id: str) -> JSONResponse:
    """List the messages that wait. With the key of the session, the first of them starts if no answer runs."""
    session = await authorized(request, session_id, Action.READ)
    await offer_key(request, session)
    return await _queue_response(request, session_id)


@router.patch("/api/chat/{session_id}/queue/{message_id}", **schemas.CHANGE_QUEUED)
async def change_queued(request: Request, session_id: str, message_id: str) -> JSONResponse:
    """Replace the text of a message that waits."""
    body = await read_body(request, QueuedChangeBody)
    services = services_of(request)
    check_length(body.user_message, "user_message", services.settings.max_message_bytes)
    caller = caller_of(request)
    await services.rate_limit.take(caller.owner or address_group(request))
    changed = await services.store.queue.change(
        session_id, message_id, make_authorizer(caller, Action.CHANGE), body.user_message
    )
    return JSONResponse(queued_json(changed))


@router.delete("/api/chat/{session_id}/queue/{message_id}", **schemas.REMOVE_QUEUED)
async def remove_queued(request: Request, session_id: str, message_id: str) -> JSONResponse:
    """Remove a message that waits."""
    authorizer = make_authorizer(caller_of(request), Action.CHANGE)
    await services_of(request).store.queue.remove(session_id, message_id, authorizer)
    return JSONResponse({"removed": 1})


@router.delete("/api/chat/{session_id}/queue", **schemas.CLEAR_QUEUE)
async def clear_queue(request: Request, session_id: str) -> JSONResponse:
    """Remove all messages that wait."""
    authorizer = make_authorizer(caller_of(request), Action.CHANGE)
    return JSONResponse({"removed": await services_of(request).store.queue.clear(session_id, authorizer)})


@router.post("/api/chat/{session_id}/queue/start", **schemas.START_QUEUE)
async def start_queue(request: Request, session_id: str) -> JSONResponse:
    """Start the first message that waits, also after an answer that failed. Without effect while an answer runs."""
    identity = authenticate(request)
    services = services_of(request)
    session = await authorized(request, session_id, Action.SPEND)
    request.state.limit = await services.rate_limit.take(identity.owner)
    await services.generations.queues.offer_key(session, identity.owner, identity.credential, resume=True)
    return await _queue_response(request, session_id)


async def offer_key(request: Request, session: Session) -> None:
    """Start the queue of a session, or have it start later, if the request brings the key of its owner."""
    if session.queued and key_of(request) is not None:
        identity = authenticate(request)
        if identity.owner == session.owner:
            await services_of(request).generations.queues.offer_key(session, identity.owner, identity.credential)


async def _queue_response(request: Request, session_id: str) -> JSONResponse:
    store = services_of(request).store
    waiting = await store.queue.find_all(session_id)
    waits_for = None
    if waiting:
        latest = await store.generations.find_latest(session_id)
        status = latest.status if latest is not None else None
        idle = "key" if waiting[0].needs_key else "answer"
        waits_for = {Status.RUNNING: "answer", Status.FAILED: "start"}.get(status or Status.COMPLETED, idle)
    return JSONResponse({"data": [queued_json(queued) for queued in waiting], "waits_for": waits_for})
