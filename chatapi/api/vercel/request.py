"""The request body of `useChat`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from chatapi.api.http.request_body import KeyField, Parameters, Text
from chatapi.api.vercel.messages import ID_CHARACTERS, Name, UIMessage

MESSAGES = 10_000  # in a request


class UIChatBody(Parameters):
    """A request of `useChat`, with the fields of a page that are used. All other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: Name
    messages: list[UIMessage] = Field(max_length=MESSAGES)
    trigger: Literal["submit-message", "regenerate-message"]
    message_id: Text | None = Field(None, alias="messageId", max_length=ID_CHARACTERS)
    model: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$")
    developer_message: Text | None = None
    system: Text | None = None
    api_key: KeyField | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    if_busy: Literal["reject", "interrupt"] = "interrupt"
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
