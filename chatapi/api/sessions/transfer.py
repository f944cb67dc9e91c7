"""Session export and import routes."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.identity import address_group, caller_of, owner_of
from chatapi.api.http.request_body import receive_json
from chatapi.api.http.serializers import session_json
from chatapi.api.http.services import WorkQueue, services_of
from chatapi.api.http.streaming import ABORTED, Aborted, disconnected
from chatapi.api.sessions.document_read import read_document
from chatapi.api.sessions.document_write import write_document
from chatapi.api.sessions.markdown import write_markdown
from chatapi.api.sessions.schemas import EXPORT_SESSION, IMPORT_SESSION
from chatapi.auth.authorization import Action, authorize
from chatapi.errors import ChatError
from chatapi.model import Session, wall_clock

router = APIRouter(tags=["sessions"])

IMPORTS = WorkQueue("imports", at_once=1)  # a document takes several times its size while it is read
MAX_NAME_CHARACTERS = 60  # of the title in a file name


@router.get("/api/sessions/{session_id}/export", **EXPORT_SESSION)
async def export(
    request: Request, session_id: str, form: Annotated[Literal["json", "markdown"], Query(alias="format")] = "json"
) -> Response:
    """Return a session as a file: as `json` for `POST /api/sessions/import`, or as `markdown` for people."""
    store = services_of(request).store
    caller = caller_of(request)
    snapshot = await store.scans.begin(session_id)
    session = authorize(snapshot.session if snapshot is not None else None, caller, Action.READ)
    assert snapshot is not None, "authorize raises when there is no session"
    now = wall_clock()
    if form == "markdown":
        pages = write_markdown(store, session, now)
        return Download(pages, "text/markdown; charset=utf-8", content_disposition(session, "md"))
    return Download(write_document(store, snapshot, now), "application/json", content_disposition(session, "json"))


@router.post("/api/sessions/import", **IMPORT_SESSION)
async def import_session(request: Request) -> JSONResponse:
    """Create a session from a document that `export` wrote, on this server or another. Only the ids are new. An answer
    that was running is interrupted; no answer counts as usage."""
    core = services_of(request)
    owner = owner_of(request)
    # Also by address: the key has not been verified, so a caller could use a new one for each import.
    await core.rate_limit.take(address_group(request))
    request.state.limit = await core.rate_limit.take(owner)
    data = await receive_json(request, core.settings.max_media_bytes)
    async with core.queue(IMPORTS).turn(owner):
        imported = await asyncio.to_thread(read_document, data, owner, core.settings.max_message_bytes)
        session = await core.store.imports.add(imported)
    return JSONResponse(session_json(session), 201)


class Download(Response):
    """Streams a file, one page in memory at a time. If it cannot be completed, the connection is cut."""

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
        disconnect = asyncio.create_task(disconnected(receive), name="disconnect-watch")
        try:
            async with aclosing(self._pages) as pages:
                async for page in pages:
                    if disconnect.done():
                        return
                    await send({"type": "http.response.body", "body": page, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (Aborted, ChatError):
            scope[ABORTED] = True  # the server cuts a connection whose response ends without its last chunk
        finally:
            disconnect.cancel()


def content_disposition(session: Session, extension: str) -> str:
    """Return a Content-Disposition header with a file name of the title's words and the day of the last use.

    The name contains only letters, digits, `_`, `-` and `.`, so no file system gives it another meaning.
    """
    day = datetime.fromtimestamp(session.updated_at / 1_000_000, UTC).strftime("%Y-%m-%d")
    words = re.findall(r"\w+", unicodedata.normalize("NFC", session.title or "session"))
    title = "-".join(words)[:MAX_NAME_CHARACTERS].strip("-_") or "session"
    ascii_words = re.findall(r"[A-Za-z0-9]+", unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode())
    simple = "-".join(ascii_words) or "session"
    name = quote(f"{title}-{day}.{extension}", safe="")
    return f"attachment; filename=\"{simple}-{day}.{extension}\"; filename*=UTF-8''{name}"
