"""A conversation to take away, GET /api/sessions/{id}/export, and to bring back, POST /api/sessions/import."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.request_body import receive_json
from chatapi.api.http.serializers import session_json
from chatapi.api.http.services import caller_of, owner_of, services_of
from chatapi.api.http.streaming import ABORTED, Aborted, disconnected
from chatapi.api.sessions import document as documents
from chatapi.api.sessions import markdown
from chatapi.auth.authorization import Action, authorize
from chatapi.errors import ChatError
from chatapi.model import Session, wall_clock

router = APIRouter(tags=["sessions"])

NAME_CHARACTERS = 60  # of a title, in the name of a file


@router.get("/api/sessions/{session_id}/export")
async def export(request: Request, session_id: str, format: Literal["json", "markdown"] = "json") -> Response:
    """A session as a file: `json`, all of it, as `POST /api/sessions/import` takes it; or `markdown`, its active path,
    to read."""
    store = services_of(request).store
    caller = caller_of(request)
    walk = await store.begin_scan(session_id)
    session = authorize(walk.session if walk is not None else None, caller, Action.READ)
    assert walk is not None, "there is a session"
    now = wall_clock()
    if format == "markdown":
        return Download(markdown.write(store, session, now), "text/markdown; charset=utf-8", name_of(session, "md"))
    return Download(documents.write(store, walk, now), "application/json", name_of(session, "json"))


@router.post("/api/sessions/import", openapi_extra=documents.SCHEMA)
async def import_session(request: Request) -> JSONResponse:
    """Make a session of a document that `export` gave, here or elsewhere. Its ids are new, the rest is as it was. An
    answer that ran comes in as interrupted; none counts as usage."""
    core = services_of(request)
    owner = owner_of(request)
    # By address too: nothing has shown yet that the key is anybody's, and keys are quickly made up.
    await core.rate_limit.take(f"address {request.client.host if request.client else ''}")
    request.state.limit = await core.rate_limit.take(owner)
    data = await receive_json(request, core.settings.max_media_bytes)
    async with core.imports:
        restored = await asyncio.to_thread(documents.read, data, owner, core.settings.max_message_bytes)
        session = await core.store.restore(restored)
    return JSONResponse(session_json(session), 201)


class Download(Response):
    """A file, streamed: what of it is in memory is one page. It is cut where it cannot come to its end."""

    def __init__(self, pages: AsyncGenerator[bytes, None], media_type: str, disposition: str) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", disposition.encode()),
        ]
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.create_task(disconnected(receive), name="disconnect-watch")
        try:
            async with aclosing(self._pages) as pages:
                async for page in pages:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": page, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (Aborted, ChatError):
            scope[ABORTED] = True  # returning without the last part makes the server cut the connection
        finally:
            gone.cancel()


def name_of(session: Session, ending: str) -> str:
    """The header that names the file: by the session's title and day, and nothing that means anything to a system."""
    day = datetime.fromtimestamp(session.updated_at / 1_000_000, UTC).strftime("%Y-%m-%d")
    words = re.findall(r"\w+", unicodedata.normalize("NFC", session.title or "session"))
    title = "-".join(words)[:NAME_CHARACTERS].strip("-_") or "session"
    ascii_words = re.findall(r"[A-Za-z0-9]+", unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode())
    simple = "-".join(ascii_words) or "session"
    name = quote(f"{title}-{day}.{ending}", safe="")
    return f"attachment; filename=\"{simple}-{day}.{ending}\"; filename*=UTF-8''{name}"
