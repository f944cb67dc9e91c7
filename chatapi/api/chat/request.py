"""Request bodies of the chat routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from chatapi.api.chat.attachments import MOST_ATTACHMENTS, Attachment
from chatapi.api.http.request_body import Body, KeyField, Parameters, Text


class ChatBody(Parameters):
    """A message: a text, attachments, or both; neither in a request for another answer."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("user_message", "attachments", "replace")]}
    )

    developer_message: Text | None = None
    user_message: Text | None = None
    model: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$")
    api_key: KeyField | None = None
    session_id: Text | None = None
    stream: bool = True
    on_disconnect: Literal["continue", "cancel"] = "continue"
    if_busy: Literal["reject", "interrupt"] = "reject"
    replace: Text | None = None
    attachments: Annotated[list[Attachment], Field(max_length=MOST_ATTACHMENTS)] | None = None


class TextBody(ChatBody):
    """A message to the model that is a text, as the seed has it."""

    user_message: Text = Field(min_length=1)


class StopBody(Body):
    """Which generation to stop; left out, the running one."""

    generation_id: Text | None = None
    active_stream_id: Text | None = Field(None, alias="activeStreamId")
    assistant_message: dict[str, Any] | None = Field(None, alias="assistantMessage")  # what there is of it is kept here
