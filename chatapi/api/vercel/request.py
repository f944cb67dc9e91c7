"""Requests of `useChat`, and the turns that they ask for."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from chatapi.api.http.request_body import KeyField, ModelName, Parameters, Text
from chatapi.api.http.services import Services
from chatapi.api.vercel import messages as ui_messages
from chatapi.api.vercel.history import History, find_chat
from chatapi.api.vercel.messages import ID_CHARACTERS, Name, UIMessage
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.errors import InvalidRequest, NothingToAnswer
from chatapi.model import Alias, Role, TurnRequest
from chatapi.wire.text import check_length

MAX_MESSAGES = 10_000  # in a request
MAX_NEW_MESSAGES = 1000  # of them, new ones: each takes some statements of one transaction
PASSED_ON = ("tools", "tool_choice", "parallel_tool_calls", "response_format")


class _ClientObject(BaseModel):
    """An object of a page's library, whose further fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True)


class ClientTool(_ClientObject):
    """A tool of assistant-ui, which sends them as an object by name."""

    description: Text | None = None
    parameters: dict[str, Any] | None = None


class CallSettings(_ClientObject):
    """Parameters as assistant-ui names them; the fields of `UIChatBody` take precedence."""

    max_tokens: int | None = Field(None, alias="maxTokens", ge=1, le=10_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, alias="topP", ge=0, le=1)
    presence_penalty: float | None = Field(None, alias="presencePenalty", ge=-2, le=2)
    frequency_penalty: float | None = Field(None, alias="frequencyPenalty", ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)


class ClientConfig(_ClientObject):
    """The model as assistant-ui names it. Its `apiKey` and `baseUrl` are ignored."""

    model: ModelName | None = Field(None, alias="modelName")


class UIChatBody(Parameters):
    """A request of `useChat`, and the fields of a page that this server reads; further fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: Name
    messages: list[UIMessage] = Field(max_length=MAX_MESSAGES)
    trigger: Literal["submit-message", "regenerate-message"]
    message_id: Text | None = Field(None, alias="messageId", max_length=ID_CHARACTERS)
    model: ModelName | None = None
    developer_message: Text | None = None
    system: Text | None = None
    api_key: KeyField | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    if_busy: Literal["reject", "interrupt"] = "interrupt"
    tools: list[dict[str, Any]] | dict[str, ClientTool] | None = None
    call_settings: CallSettings | None = Field(None, alias="callSettings")
    config: ClientConfig | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None


def digest_content(body: UIChatBody) -> str:
    """Return the content that a repeated send must share with the first: all but the caller and the stream's format.

    Which messages are new cannot be part of it: it differs the second time.
    """
    return json.dumps(body.model_dump(exclude={"api_key", "on_disconnect", "if_busy"}), default=repr)


async def make_turn(services: Services, owner: str, body: UIChatBody, dialect: str) -> TurnRequest:
    """Return the turn that a request asks for.

    Raises:
        SessionNotFound: this owner cannot reach the session that the chat's id names.
        InvalidRequest: a message or a field is invalid.
        NothingToAnswer: the last new message is an answer.
    """
    session_id = await find_chat(services.store, owner, body.id)
    if session_id is not None:
        authorize(await services.store.sessions.find(session_id), Caller(owner), Action.SPEND)
    parent, new = await History(services.store, owner, body.id, session_id).place(
        body.messages, body.message_id, regenerate=body.trigger == "regenerate-message"
    )
    if new and new[-1].role is Role.ASSISTANT:
        raise NothingToAnswer
    if len(new) > MAX_NEW_MESSAGES:
        raise InvalidRequest.field("messages", f"At most {MAX_NEW_MESSAGES} of them may be new.")
    developer_message = _developer_message(body)
    texts = ["".join(part.text for part in message.parts) for message in new]
    for text in [*texts, developer_message or ""]:
        check_length(text, "messages", services.settings.max_message_bytes)
    parameters = _parameters(body)
    for name in PASSED_ON:
        _check_encodable(name, parameters.get(name))
    return TurnRequest(
        owner=owner,
        session_id=session_id,
        developer_message=developer_message,
        input=new,
        model=body.model or (body.config and body.config.model) or services.settings.default_model,
        dialect=dialect,
        parameters=parameters,
        parent=parent,
        alias=None if session_id is not None else Alias("vercel-chat", body.id),
    )


def _parameters(body: UIChatBody) -> dict[str, Any]:
    """Return the parameters for the upstream, tools as chat completions have them."""
    parameters = body.call_settings.model_dump(exclude_none=True) if body.call_settings is not None else {}
    parameters |= body.model_dump(include={*Parameters.model_fields, *PASSED_ON}, exclude_none=True)
    if isinstance(body.tools, dict):
        functions = [{"name": name, **tool.model_dump(exclude_none=True)} for name, tool in body.tools.items()]
        parameters["tools"] = [{"type": "function", "function": function} for function in functions]
    if not parameters.get("tools"):
        parameters.pop("tools", None)  # an upstream rejects an empty list
    return parameters


def _check_encodable(name: str, value: Any) -> None:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):  # a key, an unpaired surrogate, a huge number
        raise InvalidRequest.field(name, "It contains a value that cannot be sent upstream.") from None


def _developer_message(body: UIChatBody) -> str | None:
    """Return the instructions: the page's own field, or the text of its system messages."""
    if body.developer_message is not None:
        return body.developer_message
    if body.system is not None:
        return body.system
    texts = [ui_messages.text_of(message) for message in body.messages if message.role == "system"]
    return "\n\n".join(texts) if texts else None
