"""The request bodies, responses and operations of the routes of shares."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta
from pydantic import Field

from chatapi.api.http.openapi import (
    BODY_ERRORS,
    KEY_ERRORS,
    NO_KEY,
    OPTIONAL_KEY,
    SESSION_ERRORS,
    Example,
    Time,
    describe,
    json_content,
    operation,
)
from chatapi.api.http.request_body import Body
from chatapi.api.http.schemas import Part
from chatapi.errors import ContextTooLarge, SessionBusy, SessionFull, ShareNotFound
from chatapi.store.shares import MAX_SHARES

SESSION = {"session_id": "$SESSION_ID"}
MAX_DAYS = 90


class ShareBody(Body):
    """How long the link works."""

    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 7


class ShareFacts(TypedDict):
    """A link, without its token."""

    id: str
    created_at: Time
    expires_at: Time


class CreatedShare(ShareFacts):
    """A link that was created."""

    token: Annotated[str, Meta(description="192 random bits. The server stores a digest only: it is not shown again.")]


class ShareList(TypedDict):
    """The links of a session, the oldest first."""

    data: list[ShareFacts]


class DeletedShare(TypedDict):
    """The link was removed."""

    deleted: str


class SharedMessage(TypedDict):
    """A message: text, refusals, attachments and sources; no reasoning, and no calls of tools."""

    role: Literal["user", "assistant"]
    parts: list[Part]


class SharedSession(TypedDict):
    """The messages that a link shows."""

    title: str | None
    created_at: Time
    expires_at: Time
    messages: list[SharedMessage]


describe(ShareBody, days="From 1 to 90.")

CREATE_SHARE = operation(
    "createShare",
    "Create a share",
    f"""Create a link with which anyone can read the messages of the active path up to now: `GET /api/shares/{{token}}`,
    in the page `/#/share/{{token}}`. Later messages and the developer message are not shown. A message that is deleted
    disappears from it; the link ends with its last message, with the session, or after `days`. A session has at most
    {MAX_SHARES} links; while an answer is running, it is a 409.""",
    json_content(CreatedShare, "The link.", 201),
    parameters={"session_id": "The session."},
    body=ShareBody,
    body_required=False,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS, ShareNotFound, SessionBusy, SessionFull, ContextTooLarge),
    examples=(Example("create", path=SESSION, body={"days": 7}),),
)
LIST_SHARES = operation(
    "listShares",
    "List shares",
    "List the links of a session that have not expired, the oldest first.",
    json_content(ShareList, "The links."),
    parameters={"session_id": "The session."},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("list", path=SESSION),),
)
DELETE_SHARE = operation(
    "deleteShare",
    "Delete a share",
    "Remove a link. It shows nothing any more.",
    json_content(DeletedShare, "The link was removed."),
    parameters={"session_id": "The session.", "share_id": "The `id` of the link."},
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, ShareNotFound),
)
READ_SHARE = operation(
    "readShare",
    "Read a share",
    """Return what a link shows. It needs no key: who has the token may read. A link that has expired, was removed or
    never existed is a 404. The rate limit counts by address.""",
    json_content(SharedSession, "The messages."),
    parameters={"token": "The token of the link."},
    security=NO_KEY,
    errors=(*KEY_ERRORS, ShareNotFound, ContextTooLarge),
)
