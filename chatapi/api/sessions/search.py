"""Full-text search over the titles and messages of an owner."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from chatapi.api.http.identity import owner_of
from chatapi.api.http.pagination import decode_cursor, encode_cursor
from chatapi.api.http.serializers import iso
from chatapi.api.http.services import WorkQueue, services_of
from chatapi.api.sessions.schemas import SEARCH
from chatapi.errors import InvalidRequest
from chatapi.model import MessageCursor, SearchCursor
from chatapi.search import Hit, Words
from chatapi.search import search as find_hits

router = APIRouter(tags=["sessions"])

SEARCHES = WorkQueue("searches", at_once=2)  # running answers come first

_ID = r"[\w~-]{0,40}"
_CURSOR = rf"(\d{{1,19}}):({_ID}):({_ID}):(\d{{1,19}}):({_ID})"


@router.get("/api/search", **SEARCH)
async def search(
    request: Request,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """Return the titles and messages of the caller that contain all words of `q`, the newest session first. The work of
    one request is limited: while there is a `next_cursor`, there is more to search, even if `data` is empty."""
    core = services_of(request)
    owner = owner_of(request)
    words = Words(q)
    if not words.first:
        raise InvalidRequest.field("q", "It must contain a word.")
    place = _place(cursor) if cursor is not None else None
    request.state.limit = await core.rate_limit.take(owner)
    async with core.queue(SEARCHES).turn(owner):
        found = await find_hits(core.store, owner, words, place, limit)
    body = {"data": [_hit_json(hit) for hit in found.hits], "next_cursor": _cursor(found.place)}
    return Response(msgspec.json.encode(body), media_type="application/json")


def _cursor(place: SearchCursor | None) -> str | None:
    if place is None:
        return None
    created_at, session_id, mark = place
    assert mark is not None, "a search continues within a session"
    return encode_cursor(created_at, session_id, *mark)


def _place(cursor: str) -> SearchCursor:
    created_at, session_id, parent, made_at, message_id = decode_cursor(cursor, _CURSOR)
    at, made = int(created_at), int(made_at)
    if max(at, made) > 1 << 62:
        raise InvalidRequest.field("cursor", "It must be a `next_cursor` of this list.")
    return SearchCursor(at, session_id, MessageCursor(parent, made, message_id))


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "session_id": hit.session_id,
        "title": hit.title or None,
        "message_id": hit.message_id,
        "role": hit.role,
        "created_at": iso(hit.created_at),
        "snippet": hit.snippet,
        "match": hit.match,
    }
