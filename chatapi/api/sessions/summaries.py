"""The summaries of a session: list and remove them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chatapi.api.http.identity import authorized, caller_of
from chatapi.api.http.serializers import iso
from chatapi.api.http.services import services_of
from chatapi.api.sessions import schemas
from chatapi.auth.authorization import Action, make_authorizer
from chatapi.model import Summary

router = APIRouter(tags=["sessions"])


@router.get("/api/sessions/{session_id}/summaries", **schemas.LIST_SUMMARIES)
async def list_summaries(request: Request, session_id: str) -> JSONResponse:
    """List the summaries that stand for messages in requests, the newest first."""
    await authorized(request, session_id, Action.READ)
    found = await services_of(request).store.summaries.find_all(session_id)
    return JSONResponse({"data": [summary_json(summary) for summary in found]})


@router.delete("/api/sessions/{session_id}/summaries/{summary_id}", **schemas.REMOVE_SUMMARY)
async def remove_summary(request: Request, session_id: str, summary_id: str) -> JSONResponse:
    """Remove a summary: later requests have the messages themselves, as far as the model takes them."""
    authorizer = make_authorizer(caller_of(request), Action.CHANGE)
    await services_of(request).store.summaries.remove(session_id, summary_id, authorizer)
    return JSONResponse({"message": "Summary removed successfully"})


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return a summary."""
    return {
        "id": summary.id,
        "last": summary.last,
        "messages": summary.messages,
        "model": summary.model,
        "text": summary.text,
        "created_at": iso(summary.created_at),
    }
