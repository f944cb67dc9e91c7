"""Session routes: create, read, list, change, fork and delete sessions, and list their messages."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chatapi.api.http.identity import address_group, authorized, caller_of, header_of, owner_of, work_group
from chatapi.api.http.pagination import Cursor, PageSize, decode_cursor, encode_cursor
from chatapi.api.http.request_body import read_body, read_optional_body
from chatapi.api.http.serializers import iso, message_json, session_json
from chatapi.api.http.services import WorkQueue, services_of
from chatapi.api.sessions import schemas
from chatapi.api.sessions.schemas import EditBody, ForkBody, SessionBody, SessionChangeBody
from chatapi.api.turns import FORKS, hash_idempotency_key
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.errors import KeyRequired
from chatapi.model import DEEPEST, ContextPolicy, Microseconds, named_id, new_id
from chatapi.store import SessionTime
from chatapi.store.sessions import ContextChoice, RetentionChoice
from chatapi.wire.text import check_length

router = APIRouter(tags=["sessions"])

DELETIONS = WorkQueue("deletions", at_once=1)


SORTS: dict[str, tuple[SessionTime, str]] = {"created": ("created_at", ""), "updated": ("updated_at", "used ")}
"""The sort key of each order, and the prefix of its cursors: a cursor of one order is invalid in the other."""


@router.post("/api/sessions", **schemas.CREATE_SESSION)
async def create_session(request: Request) -> JSONResponse:
    """Create a session. It belongs to the key in the request or, without one, to the key of its first chat."""
    core = services_of(request)
    body = await read_body(request, SessionBody)
    check_length(body.developer_message, "developer_message", core.settings.max_message_bytes)
    # By address, with or without a key: the key has not been verified.
    await core.rate_limit.take(address_group(request))
    session = await core.store.sessions.create(
        caller_of(request).owner, body.developer_message, _retention_choice(body), _policy(body)
    )
    return JSONResponse(
        {
            "session_id": session.id,
            "message": "Session created successfully",
            "created_at": iso(session.created_at),
        }
    )


@router.get("/api/sessions", **schemas.LIST_SESSIONS)
async def list_sessions(
    request: Request, limit: PageSize = 20, cursor: Cursor = None, sort: Literal["created", "updated"] = "created"
) -> JSONResponse:
    """List the caller's sessions, the newest first; with `sort=updated` the last used first."""
    owner = caller_of(request).owner
    if owner is None:
        raise KeyRequired
    by, mark = SORTS[sort]
    before = None
    if cursor is not None:
        _, at, session_id = decode_cursor(cursor, rf"({mark})(\d{{1,18}}):([\w-]{{1,40}})")
        before = int(at), session_id
    sessions = await services_of(request).store.sessions.page(owner, before, limit + 1, by)
    page = sessions[:limit]
    more = encode_cursor(f"{mark}{getattr(page[-1], by)}", page[-1].id) if len(sessions) > limit else None
    return JSONResponse({"data": [session_json(session) for session in page], "next_cursor": more})


@router.get("/api/sessions/{session_id}", **schemas.GET_SESSION)
async def get_session(request: Request, session_id: str) -> JSONResponse:
    """Return a session."""
    return JSONResponse(session_json(await authorized(request, session_id, Action.READ)))


@router.patch("/api/sessions/{session_id}", **schemas.CHANGE_SESSION)
async def change_session(request: Request, session_id: str) -> JSONResponse:
    """Set a session's title, developer message or metadata, or the message (`head`) that its active path goes through.
    An empty title removes the title."""
    body = await read_body(request, SessionChangeBody)
    core = services_of(request)
    check_length(body.developer_message or "", "developer_message", core.settings.max_message_bytes)
    session = await core.store.sessions.change(
        session_id,
        make_authorizer(caller_of(request), Action.CHANGE),
        body.developer_message,
        body.title,
        body.metadata,
        body.head,
        _retention_choice(body),
        ContextChoice(_policy(body)) if "context" in body.model_fields_set else None,
    )
    return JSONResponse(session_json(session))


@router.delete("/api/sessions", **schemas.DELETE_SESSIONS)
async def delete_sessions(request: Request) -> JSONResponse:
    """Stop the running answers of all sessions of the key, and delete these sessions."""
    owner = owner_of(request)
    core = services_of(request)
    await core.rate_limit.take(owner)
    async with core.queue(DELETIONS).turn(work_group(request)):
        return JSONResponse({"deleted": await core.generations.delete_all_sessions(owner)})


@router.delete("/api/sessions/{session_id}", **schemas.DELETE_SESSION)
async def delete_session(request: Request, session_id: str) -> JSONResponse:
    """Stop a running answer, and delete the session with all its messages."""
    await services_of(request).generations.delete_session(
        session_id, make_authorizer(caller_of(request), Action.CHANGE)
    )
    return JSONResponse({"message": "Session deleted successfully"})


@router.post("/api/sessions/{session_id}/fork", **schemas.FORK_SESSION)
async def fork(request: Request, session_id: str) -> JSONResponse:
    """Create a session of the same owner with a copy of the messages up to `message_id`, by default up to the head."""
    core = services_of(request)
    body = await read_optional_body(request, ForkBody)
    caller = caller_of(request)
    await core.rate_limit.take(caller.owner or address_group(request))
    async with core.queue(FORKS).turn(work_group(request)):
        session = await core.store.forks.create(
            session_id, make_authorizer(caller, Action.CHANGE), body.message_id, core.settings.max_context_bytes
        )
    return JSONResponse(session_json(session), 201)


@router.get("/api/sessions/{session_id}/messages", **schemas.LIST_MESSAGES)
async def list_messages(
    request: Request,
    session_id: str,
    limit: PageSize = 50,
    cursor: Cursor = None,
    order: Literal["asc", "desc"] = "asc",
) -> JSONResponse:
    """List the messages of the active path, the first message first; with `order=desc` the last first."""
    session = await authorized(request, session_id, Action.READ)
    store = services_of(request).store
    depth = int(decode_cursor(cursor, r"(\d{1,9})")[0]) if cursor is not None else None
    if order == "asc":
        page = await store.messages.page_after(session_id, -1 if depth is None else depth, limit)
        ends = not page or page[-1].id == session.head
    else:
        page = await store.messages.page_before(session_id, DEEPEST if depth is None else depth, limit)
        ends = not page or page[-1].depth == 0
    more = None if ends else encode_cursor(page[-1].depth)
    return JSONResponse({"data": [message_json(message) for message in page], "next_cursor": more})


@router.post("/api/sessions/{session_id}/messages", **schemas.EDIT_MESSAGE)
async def edit_message(request: Request, session_id: str) -> JSONResponse:
    """Store another version of a message with a text of the user, and make it the head. No model is asked."""
    core = services_of(request)
    body = await read_body(request, EditBody)
    check_length(body.content, "content", core.settings.max_message_bytes)
    caller = caller_of(request)
    await core.rate_limit.take(caller.owner or address_group(request))
    message_id = new_id("msg")
    if (idempotency_key := header_of(request, b"idempotency-key")) is not None:
        # The id stands for the key, so a message of this id is the result of an earlier request with it.
        message_id = named_id("msg", caller.owner or session_id, hash_idempotency_key(idempotency_key))
    edited = await core.store.edits.replace_text(
        session_id, body.replace, make_authorizer(caller, Action.CHANGE), body.content, message_id
    )
    return JSONResponse(message_json(edited), 201, headers={"X-Session-ID": session_id})


def _policy(body: SessionBody | SessionChangeBody) -> ContextPolicy | None:
    return ContextPolicy(body.context) if body.context is not None else None


def _retention_choice(body: SessionBody | SessionChangeBody) -> RetentionChoice:
    expires_at = None
    if body.expires_at is not None:
        expires_at = Microseconds(int(datetime.fromisoformat(body.expires_at).timestamp() * 1_000_000))
    return RetentionChoice(body.keep, body.temporary, expires_at, "expires_at" in body.model_fields_set)
