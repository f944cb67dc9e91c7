"""Shares of a session: links with which anyone can read it until they expire. The token of a link is shown once."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from chatapi.api.http.identity import address_group, authorized, caller_of
from chatapi.api.http.request_body import read_optional_body
from chatapi.api.http.serializers import iso, parts_json
from chatapi.api.http.services import services_of
from chatapi.api.sessions import share_schemas as schemas
from chatapi.api.sessions.share_schemas import ShareBody
from chatapi.auth.authorization import Action, authorize_share, make_authorizer
from chatapi.model import Kind, NewMessage, Role, Share

router = APIRouter(tags=["sessions"])

TOKEN_BYTES = 24
SHOWN = {Kind.TEXT, Kind.REFUSAL, Kind.IMAGE, Kind.FILE, Kind.AUDIO, Kind.ANNOTATION}  # no reasoning, no tools
PRIVATE = {"Cache-Control": "private, no-store"}

Token = Annotated[str, Path(max_length=64)]


@router.post("/api/sessions/{session_id}/shares", **schemas.CREATE_SHARE)
async def create_share(request: Request, session_id: str) -> JSONResponse:
    """Create a link to the messages of the active path up to now."""
    core = services_of(request)
    body = await read_optional_body(request, ShareBody)
    caller = caller_of(request)
    await core.rate_limit.take(caller.owner or address_group(request))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    share = await core.store.shares.create(
        session_id,
        make_authorizer(caller, Action.CHANGE),
        _digest(token),
        body.days * 86_400_000_000,
        core.settings.max_context_bytes,
    )
    return JSONResponse({**_share_json(share), "token": token}, 201, headers=PRIVATE)


@router.get("/api/sessions/{session_id}/shares", **schemas.LIST_SHARES)
async def list_shares(request: Request, session_id: str) -> JSONResponse:
    """List the links of a session that have not expired."""
    await authorized(request, session_id, Action.READ)
    shares = await services_of(request).store.shares.of_session(session_id)
    return JSONResponse({"data": [_share_json(share) for share in shares]})


@router.delete("/api/sessions/{session_id}/shares/{share_id}", **schemas.DELETE_SHARE)
async def delete_share(request: Request, session_id: str, share_id: str) -> JSONResponse:
    """Remove a link. It shows nothing any more."""
    await services_of(request).store.shares.remove(
        session_id, share_id, make_authorizer(caller_of(request), Action.CHANGE)
    )
    return JSONResponse({"deleted": share_id})


@router.get("/api/shares/{token}", **schemas.READ_SHARE)
async def read_share(request: Request, token: Token) -> JSONResponse:
    """Return what a link shows. It needs no key."""
    core = services_of(request)
    await core.rate_limit.take(address_group(request))
    shared = await core.store.shares.find(_digest(token), authorize_share, core.settings.max_context_bytes)
    shown = [_message_json(message) for message in shared.messages if message.role in {Role.USER, Role.ASSISTANT}]
    return JSONResponse(
        {
            "title": shared.title,
            "created_at": iso(shared.share.created_at),
            "expires_at": iso(shared.share.expires_at),
            "messages": shown,
        },
        headers=PRIVATE,
    )


def _digest(token: str) -> str:
    """Return the digest of a token, under which its link is stored. The token is random, so it needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def _share_json(share: Share) -> dict[str, Any]:
    return {"id": share.id, "created_at": iso(share.created_at), "expires_at": iso(share.expires_at)}


def _message_json(message: NewMessage) -> dict[str, Any]:
    return {
        "role": message.role.value,
        "parts": parts_json(tuple(part for part in message.parts if part.kind in SHOWN)),
    }
