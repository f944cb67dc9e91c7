"""A message that waits in the queue of its session, as JSON."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from chatapi.api.http.serializers import iso, parts_json
from chatapi.model import QueuedTurn, visible_text


def queued_response(queued: QueuedTurn, headers: dict[str, str]) -> JSONResponse:
    """Return the response to a message that was queued."""
    own = {"X-Session-ID": queued.session_id, "X-Generation-ID": queued.generation_id}
    return JSONResponse(queued_json(queued), 202, headers=headers | own)


def queued_json(queued: QueuedTurn) -> dict[str, Any]:
    """Return a message that waits."""
    return {
        "id": queued.id,
        "session_id": queued.session_id,
        "generation_id": queued.generation_id,
        "status": "queued",
        "user_message": visible_text(queued.parts),
        "parts": parts_json(queued.parts),
        "model": queued.turn.model,
        "created_at": iso(queued.created_at),
    }
