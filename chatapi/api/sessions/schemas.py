"""The request bodies, responses and operations of the session routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypedDict

from msgspec import Meta
from pydantic import AfterValidator, Field

from chatapi.api.http.openapi import (
    BODY_ERRORS,
    OPTIONAL_KEY,
    OWNER_ERRORS,
    REQUIRED_KEY,
    SESSION_ERRORS,
    Example,
    Time,
    describe,
    json_content,
    operation,
    text_content,
)
from chatapi.api.http.request_body import Body, ContextPolicyName, Metadata, Text
from chatapi.api.http.schemas import Message, MessagePage, Role, Session, SessionPage
from chatapi.api.sessions.document import MAX_MESSAGES, MAX_PARTS, Document
from chatapi.errors import (
    ContextTooLarge,
    IdempotencyMismatch,
    MessageNotFound,
    QuotaExceeded,
    SessionBusy,
    SessionFull,
    SummaryNotFound,
)

SESSION = {"session_id": "$SESSION_ID"}
SESSION_ID = "The session."
CURSOR = "`next_cursor` of the page before."


EARLIEST_YEAR, LATEST_YEAR = 1971, 2200


def _is_time(value: str) -> str:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or not EARLIEST_YEAR <= time.year <= LATEST_YEAR:
        raise ValueError(
            f"must be a time with an offset, such as 2030-01-31T12:00:00Z, from {EARLIEST_YEAR} to {LATEST_YEAR}"
        )
    return value


ExpiryTime = Annotated[Text, Field(max_length=40, json_schema_extra={"format": "date-time"}), AfterValidator(_is_time)]


class SessionBody(Body):
    """A session to create."""

    developer_message: Text
    keep: bool | None = None
    temporary: bool | None = None
    expires_at: ExpiryTime | None = None
    context: ContextPolicyName | None = None


class SessionChangeBody(Body):
    """The fields of a session to change; one that is absent or null stays as it is. Null removes `expires_at` and
    `context`."""

    title: Annotated[Text, Field(max_length=200)] | None = None
    developer_message: Text | None = None
    metadata: Metadata | None = None
    head: Annotated[Text, Field(max_length=64)] | None = None
    keep: bool | None = None
    temporary: bool | None = None
    expires_at: ExpiryTime | None = None
    context: ContextPolicyName | None = None


class ForkBody(Body):
    """The last message to copy."""

    message_id: Text | None = None


class EditBody(Body):
    """A message to replace, and the text of its new version."""

    replace: Annotated[Text, Field(max_length=64)]
    content: Annotated[Text, Field(min_length=1)]


class CreatedSession(TypedDict):
    """A session that was created."""

    session_id: str
    message: str
    created_at: Time


class DeletedSessions(TypedDict):
    """All sessions of the key were deleted."""

    deleted: Annotated[int, Meta(description="Their number.")]


class DeletedSession(TypedDict):
    """The session was deleted."""

    message: str


class Hit(TypedDict):
    """A title or a message that contains all words."""

    session_id: str
    title: str | None
    message_id: Annotated[str | None, Meta(description="Null if the title matched.")]
    role: Role | None
    created_at: Time
    snippet: Annotated[str, Meta(description="A line of text around the first word.")]
    match: Annotated[tuple[int, int], Meta(description="Begin and end of the first word in `snippet`, in characters.")]


class SearchPage(TypedDict):
    """A page of hits, the newest session first."""

    data: list[Hit]
    next_cursor: Annotated[
        str | None, Meta(description="The `cursor` of the next page. There can be one although `data` is empty.")
    ]


describe(SessionBody, developer_message="Instructions for the model.")
describe(
    SessionChangeBody,
    title="At most 200 characters; empty removes the title.",
    developer_message="Instructions for the model from now on.",
    metadata="At most 16 names of 64 characters with values of 512; replaces all.",
    head="A message that the active path is to go through; after it, the path follows the newest message each time.",
)
describe(
    EditBody,
    replace="The id of a user message or of an answer, on any branch.",
    content="The new text; at most `CHATAPI_MAX_MESSAGE_BYTES`.",
)
describe(ForkBody, message_id="By default the head.")

CREATE_SESSION = operation(
    "createSession",
    "Create a session",
    """Create an empty session. It belongs to the key in the request or, without one, to the key of its first chat. The
    rate limit counts by the caller's address.""",
    json_content(CreatedSession, "The session was created."),
    body=SessionBody,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS[:2], *BODY_ERRORS, QuotaExceeded),
    examples=(Example("create", body={"developer_message": "You are a helpful assistant."}),),
)
LIST_SESSIONS = operation(
    "listSessions",
    "List sessions",
    """List the caller's sessions, the newest first. A session that is used while a client pages through
    `sort=updated` moves to the front, and no page repeats it.""",
    json_content(SessionPage, "A page of sessions."),
    parameters={
        "limit": "Sessions per page.",
        "cursor": CURSOR,
        "sort": "`created`: by creation; `updated`: by `last_updated`.",
    },
    security=REQUIRED_KEY,
    errors=OWNER_ERRORS,
    examples=(Example("list", query={"limit": "1"}),),
)
GET_SESSION = operation(
    "getSession",
    "Get a session",
    """Return a session. A session without a title gets one at its first turn: the first line of its first user
    message, cut at 60 characters, or `Image`, `Recording` or the file's name if the message has no text. A title
    that a client sets or removes stays. If the message that gave the title is deleted, the first remaining user
    message gives another.""",
    json_content(Session, "The session."),
    parameters={"session_id": SESSION_ID},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("get", path=SESSION),),
)
CHANGE_SESSION = operation(
    "changeSession",
    "Change a session",
    """Set the title, the developer message, the metadata or the head. Setting the head switches between the branches
    of the conversation; while an answer is running it is a 409.""",
    json_content(Session, "The changed session."),
    parameters={"session_id": SESSION_ID},
    body=SessionChangeBody,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS, SessionBusy, MessageNotFound, SessionFull, QuotaExceeded),
    examples=(Example("rename", path=SESSION, body={"title": "Greetings", "metadata": {"colour": "blue"}}),),
)
DELETE_SESSION = operation(
    "deleteSession",
    "Delete a session",
    "Stop a running answer, and delete the session with all its messages.",
    json_content(DeletedSession, "The session was deleted."),
    parameters={"session_id": SESSION_ID},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("delete", path=SESSION),),
)
DELETE_SESSIONS = operation(
    "deleteSessions",
    "Delete all sessions",
    """Stop the running answers of all sessions of the key, and delete these sessions with all their messages. Each
    disappears from every route at once, in one transaction. If the response does not arrive, send the request again.
    The sums of `GET /api/usage` stay, without ids. Sessions that other requests create meanwhile stay too.""",
    json_content(DeletedSessions, "The sessions were deleted."),
    security=REQUIRED_KEY,
    errors=OWNER_ERRORS,
)
FORK_SESSION = operation(
    "forkSession",
    "Fork a session",
    """Create a session of the same owner with a copy of the messages up to `message_id`, on any branch. The copy keeps
    the developer message, the title, the metadata, and the times, models and usage of the messages, which do not count
    as usage again. The ids are new. 409 if the path ends in a running answer; 413 beyond 10,000 messages or
    `CHATAPI_MAX_CONTEXT_BYTES`.""",
    json_content(Session, "The new session.", 201),
    parameters={"session_id": SESSION_ID},
    body=ForkBody,
    body_required=False,
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, *BODY_ERRORS, MessageNotFound, SessionBusy, ContextTooLarge, QuotaExceeded),
    examples=(Example("fork", path=SESSION, body={"message_id": "$MESSAGE_ID"}),),
)
LIST_MESSAGES = operation(
    "listMessages",
    "List messages",
    """List the messages of the active path, the first message first. A page can be shorter than `limit` if messages
    are long. A turn with an empty answer (rejected, or stopped before its first token) stays in the list and is not
    sent upstream.""",
    json_content(MessagePage, "A page of messages."),
    parameters={
        "session_id": SESSION_ID,
        "limit": "Messages per page.",
        "cursor": CURSOR,
        "order": "`desc`: the last message first.",
    },
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("list", path=SESSION),),
)
EDIT_MESSAGE = operation(
    "editMessage",
    "Edit a message",
    """Store a text of the user as another version of a user message or of an answer: a sibling with the same parent,
    which becomes the head. No model is asked. The old version stays on its own branch with the messages after it;
    `head` of the session switches between them. A new version of an answer has the `finish_reason` `edited` and keeps
    the model's name, but not its reasoning, tool calls or sources; it does not count as usage. A new version of a user
    message keeps the attachments. While an answer is running it is a 409. A repeated request with the same
    `Idempotency-Key` returns the same message, unless that was deleted.""",
    json_content(Message, "The new version.", 201, "X-Session-ID"),
    parameters={"session_id": SESSION_ID},
    body=EditBody,
    headers={"Idempotency-Key": "1 to 255 characters; see the introduction."},
    security=OPTIONAL_KEY,
    errors=(
        *SESSION_ERRORS,
        *BODY_ERRORS,
        MessageNotFound,
        SessionBusy,
        SessionFull,
        QuotaExceeded,
        IdempotencyMismatch,
    ),
    examples=(Example("edit", path=SESSION, body={"replace": "$MESSAGE_ID", "content": "Hi! What can I do for you?"}),),
)
EXPORT_SESSION = operation(
    "exportSession",
    "Export a session",
    """Stream a session as a file.

`format=json` has everything, for `POST /api/sessions/import`: `format` (`chatapi.session`), `version` (1),
`exported_at`, `session`, and the `messages` of all branches in any order. An answer that is running has its text so
far.

`format=markdown` is the active path for people. Messages are quotations, so their fences and headings end with them.
HTML is not changed: show the file with a renderer that does not pass HTML. Images and files are named, not included.

If messages are deleted meanwhile, the file is cut. Messages that are added meanwhile are not in it.""",
    json_content(Document, "The session as a file.", 200, "Content-Disposition"),
    text_content("text/markdown; charset=utf-8", "The session as a file.", "Content-Disposition"),
    parameters={"session_id": SESSION_ID, "format": "The format of the file."},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("json", path=SESSION), Example("markdown", path=SESSION, query={"format": "markdown"})),
)
IMPORT_SESSION = operation(
    "importSession",
    "Import a session",
    f"""Create a session of the caller from an exported document, of this server or another. Only the ids are new. An
    answer that was running is `interrupted`. Imported answers do not count as usage.

The body may have 8 MiB (`CHATAPI_MAX_MEDIA_BYTES`), {MAX_MESSAGES:,} messages, {MAX_PARTS:,} parts in all, and 256 Ki
characters of annotations in a message. Token counts are clamped to 0 to 2^53. Unknown fields, parts that do not
belong to the role, a repeated id, an unknown parent and a cycle of messages are a 422 that names the field. The rate
limit counts by key and by address.""",
    json_content(Session, "The new session.", 201),
    body=Document,
    security=REQUIRED_KEY,
    errors=(*OWNER_ERRORS, *BODY_ERRORS, SessionFull, QuotaExceeded),
    examples=(
        Example(
            "import",
            body={
                "format": "chatapi.session",
                "version": 1,
                "exported_at": "2026-01-31T12:00:00+00:00",
                "session": {
                    "title": "Greetings",
                    "developer_message": "Be brief.",
                    "metadata": {},
                    "created_at": "2026-01-31T11:00:00+00:00",
                    "last_updated": "2026-01-31T11:30:00+00:00",
                    "head": "a",
                },
                "messages": [
                    {
                        "id": "a",
                        "parent_id": None,
                        "role": "user",
                        "parts": [{"type": "text", "text": "Hello"}],
                        "created_at": "2026-01-31T11:30:00+00:00",
                    }
                ],
            },
        ),
    ),
)
SEARCH = operation(
    "search",
    "Search titles and messages",
    """Search the titles of the caller's sessions and their messages on all branches: the text of user messages and of
    answers that have ended. A hit contains all words of `q`, each also as part of a longer word. Case, width and
    Unicode composition are ignored (`STRASSE` finds `Straße`); accents are not (`e` does not find `é`). One request
    searches about 4,000 messages or 4 MiB.""",
    json_content(SearchPage, "A page of hits."),
    parameters={"q": "Words.", "limit": "Hits per page.", "cursor": CURSOR},
    security=REQUIRED_KEY,
    errors=OWNER_ERRORS,
    examples=(Example("search", query={"q": "hello"}),),
)


class ContextSummary(TypedDict):
    """A summary of the beginning of a path, by a model. The messages themselves are unchanged."""

    id: str
    last: Annotated[str, Meta(description="The id of the last message that it covers.")]
    messages: Annotated[int, Meta(description="The number of messages that it covers.")]
    model: str
    text: str
    created_at: Time


class ContextSummaries(TypedDict):
    """The summaries of a session, the newest first."""

    data: list[ContextSummary]


class RemovedSummary(TypedDict):
    """The summary was removed."""

    message: str


LIST_SUMMARIES = operation(
    "listSummaries",
    "List summaries",
    "List the summaries that stand for messages in requests, the newest first (`context: compact`).",
    json_content(ContextSummaries),
    parameters={"session_id": SESSION_ID},
    security=OPTIONAL_KEY,
    errors=SESSION_ERRORS,
    examples=(Example("summaries", path=SESSION),),
)
REMOVE_SUMMARY = operation(
    "removeSummary",
    "Remove a summary",
    "Remove a summary: later requests have the messages themselves, as far as the model takes them.",
    json_content(RemovedSummary),
    parameters={"session_id": SESSION_ID, "summary_id": "The summary."},
    security=OPTIONAL_KEY,
    errors=(*SESSION_ERRORS, SummaryNotFound),
)
