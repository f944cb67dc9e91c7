"""The bodies of `/api/chat`, and the turn that one asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec.structs import replace
from pydantic import ConfigDict, Field
from starlette.requests import Request

from chatapi.api.chat.attachments import MAX_ATTACHMENTS, Attachment
from chatapi.api.http.identity import header_of
from chatapi.api.http.request_body import Body, ContextPolicyName, KeyField, ModelName, Parameters, Text, validate
from chatapi.api.http.services import Services
from chatapi.api.turns import with_digest
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.errors import InvalidRequest, MessageNotFound
from chatapi.model import ROOT, ContextPolicy, Kind, NewMessage, Part, Role, TurnRequest
from chatapi.wire.text import check_length

Format = Literal["text", "events", "json"]


class ChatBody(Parameters):
    """A message to the model: text, attachments, or both; neither where `replace` asks for another answer."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("user_message", "attachments", "replace")]}
    )

    developer_message: Text | None = None
    user_message: Text | None = None
    model: ModelName | None = None
    api_key: KeyField | None = None
    session_id: Text | None = None
    stream: bool | None = True
    on_disconnect: Literal["continue", "cancel"] = "continue"
    if_busy: Literal["reject", "interrupt", "queue"] = "reject"
    context: ContextPolicyName | None = None
    replace: Text | None = None
    attachments: Annotated[list[Attachment], Field(max_length=MAX_ATTACHMENTS)] | None = None


class TextBody(ChatBody):
    """A message to the model that has text, as in the seed."""

    user_message: Text = Field(min_length=1)


class QueuedChangeBody(Body):
    """A change of a queued message."""

    user_message: Text = Field(min_length=1)


class StopBody(Body):
    """Which generation to stop; the running one by default."""

    generation_id: Text | None = None
    active_stream_id: Text | None = Field(None, alias="activeStreamId")
    assistant_message: dict[str, Any] | None = Field(None, alias="assistantMessage")  # ignored: the log has it


def read_chat(value: Any) -> ChatBody:
    """Return the body; `user_message` is optional with attachments or `replace`.

    Raises:
        InvalidRequest: a field is missing, unknown or invalid.
    """
    text_is_optional = isinstance(value, dict) and (value.get("attachments") or value.get("replace") is not None)
    return validate(ChatBody if text_is_optional else TextBody, value)


def requested_format(request: Request, body: ChatBody) -> Format:
    """Return the format of the answer: JSON if `stream` is false, events if the client accepts them, or else text."""
    if body.stream is False:
        return "json"
    return "events" if "text/event-stream" in accepted(request) else "text"


def requested_replay(request: Request, last_event_id: int | None) -> Format | None:
    """Return the format that a request for an existing stream names, if it names one."""
    accept = accepted(request)
    if "text/event-stream" in accept or last_event_id is not None:
        return "events"
    if "text/plain" in accept or "offset" in request.query_params:
        return "text"
    return "json" if "application/json" in accept else None


def accepted(request: Request) -> str:
    """Return the `Accept` header in lower case: media types are case-insensitive (RFC 9110, section 8.3.1)."""
    return (header_of(request, b"accept") or "").lower()


def make_turn(
    services: Services, body: ChatBody, owner: str, dialect: Format, idempotency_key: str | None
) -> TurnRequest:
    """Return the turn that a body asks for, before the message that it replaces is looked up.

    Raises:
        InvalidRequest: a text is too long, or fields are missing that go together.
    """
    settings = services.settings
    for field in ("user_message", "developer_message"):
        check_length(getattr(body, field) or "", field, settings.max_message_bytes)
    if not body.session_id and body.replace is not None:
        raise InvalidRequest.field("session_id", "This field is required with `replace`.")
    if body.if_busy == "queue" and body.replace is not None:
        raise InvalidRequest.field("if_busy", "It must not be `queue` with `replace`.")
    if not body.session_id and body.developer_message is None:
        raise InvalidRequest.field("developer_message", "This field is required when a session begins.")
    turn = TurnRequest(
        owner=owner,
        session_id=body.session_id or None,
        developer_message=body.developer_message,
        input=_new_messages(body),
        model=body.model or settings.default_model,
        dialect=dialect,
        parameters=body.parameters(),
        context=ContextPolicy(body.context) if body.context is not None else None,
    )
    return with_digest(turn, idempotency_key, replaces=body.replace) if idempotency_key is not None else turn


def _new_messages(body: ChatBody) -> tuple[NewMessage, ...]:
    """Return the user's message, if there is one, with files and images where OpenAI's examples have them."""
    text = (Part(Kind.TEXT, body.user_message),) if body.user_message else ()
    parts = [attachment.part() for attachment in body.attachments or ()]
    files = tuple(part for part in parts if part.kind is Kind.FILE)
    images = tuple(part for part in parts if part.kind is Kind.IMAGE)
    content = files + text + images
    return (NewMessage(Role.USER, content),) if content else ()


async def place_beside(services: Services, turn: TurnRequest, body: ChatBody, message_id: str) -> TurnRequest:
    """Return the turn placed beside the message that it replaces: an edited question, or another answer.

    Raises:
        SessionNotFound, MessageNotFound: this caller cannot reach the message.
        InvalidRequest: the message cannot be replaced, or not by this turn.
    """
    assert turn.session_id is not None, "checked by make_turn"
    session = authorize(await services.store.sessions.find(turn.session_id), Caller(turn.owner), Action.SPEND)
    message = await services.store.messages.find(session.id, message_id)
    if message is None:
        raise MessageNotFound
    if message.role not in {Role.USER, Role.ASSISTANT}:
        raise InvalidRequest.field("replace", "It must be the id of a user's message or of an answer.")
    if message.role is Role.USER and not turn.input:
        raise InvalidRequest.field("user_message", "This field is required.")
    if message.role is Role.ASSISTANT and (body.user_message is not None or turn.input):
        field = "user_message" if body.user_message is not None else "attachments"
        raise InvalidRequest.field(field, "It must be left out where `replace` names an answer.")
    return replace(turn, parent=message.parent or ROOT)
