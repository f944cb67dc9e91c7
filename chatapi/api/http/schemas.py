"""The JSON objects that several routes return. `serializers` makes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from chatapi.api.http.openapi import Time

Status = Literal["running", "completed", "stopped", "failed", "interrupted"]
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Usage(TypedDict):
    """Tokens of one answer. A count that the upstream did not report is null."""

    input_tokens: Annotated[int | None, Meta(description="Includes the cached ones.")]
    output_tokens: Annotated[int | None, Meta(description="Includes those of reasoning.")]
    reasoning_tokens: int | None
    cached_tokens: int | None
    estimated: Annotated[bool, Meta(description="The upstream was stopped before it reported the counts.")]


Upstream = Annotated[str, Meta(description="The upstream that answered, where there are several.")]


class AnswerError(TypedDict):
    """Why an answer failed."""

    code: str
    detail: str | None


class Part(TypedDict):
    """A part of a message. The other fields depend on `type`."""

    type: Literal[
        "text", "reasoning", "refusal", "tool_call", "annotation", "extra", "tool_result", "image", "audio", "file"
    ]
    text: NotRequired[Annotated[str, Meta(description="Of `text`, `reasoning`, `refusal`, `tool_result` and `extra`.")]]
    call_id: NotRequired[Annotated[str, Meta(description="Of `tool_call`, `tool_result`, and `extra` of a call.")]]
    name: NotRequired[Annotated[str, Meta(description="Of `tool_call`: the function.")]]
    arguments: NotRequired[Annotated[str, Meta(description="Of `tool_call`: JSON, once the call is complete.")]]
    annotation: NotRequired[
        Annotated[Any, Meta(description="Of `annotation`: as the upstream sent it, about the text before it.")]
    ]
    url: NotRequired[Annotated[str, Meta(description="Of `image` and `file`, as are the fields after it.")]]
    data: NotRequired[str]
    file_id: NotRequired[str]
    filename: NotRequired[str]
    detail: NotRequired[str]
    format: NotRequired[str]


class Session(TypedDict):
    """A conversation."""

    session_id: str
    developer_message: str
    message_count: Annotated[int, Meta(description="All messages, including those on other branches.")]
    created_at: Time
    last_updated: Time
    title: Annotated[str | None, Meta(description="Set by a client, or the beginning of the first user message.")]
    metadata: dict[str, str]
    head: Annotated[str | None, Meta(description="The last message of the active path.")]
    keep: Annotated[bool, Meta(description="Whether it stays when it is not used for `CHATAPI_RETENTION_DAYS`.")]
    temporary: Annotated[bool, Meta(description="Whether it is deleted after `CHATAPI_TEMPORARY_DAYS` without use.")]
    expires_at: Annotated[Time | None, Meta(description="When it is deleted, also if it is used or kept.")]
    queued: Annotated[int, Meta(description="Messages that wait in its queue.")]
    context: Annotated[
        Literal["error", "truncate", "compact", "auto"] | None,
        Meta(description="What happens when it is longer than the model's context; null: as `CHATAPI_CONTEXT` says."),
    ]


class LeftOut(TypedDict):
    """Messages that the request for an answer did not have, because the model's context is smaller.

    A summary stood for the first ones. After these, all messages of the path from `first` to `last` were left out,
    except those of the system and the developer and the newest one of the user.
    """

    messages: Annotated[int, Meta(description="Their number.")]
    first: Annotated[str | None, Meta(description="The id of the oldest; null if nothing is stored.")]
    last: Annotated[str | None, Meta(description="The id of the newest.")]
    summary: Annotated[str | None, Meta(description="The id of the summary, if there was one.")]
    summarised: Annotated[int, Meta(description="The number of messages for which it stood.")]


class Message(TypedDict):
    """A message. An answer also has the fields from `reasoning` on."""

    id: str
    role: Role
    content: Annotated[str, Meta(description="The text of the message, also of an answer that is running.")]
    parts: list[Part]
    status: Status
    model: str | None
    usage: Usage | None
    created_at: Time
    parent_id: str | None
    sibling_ids: Annotated[
        list[str], Meta(description="All messages with this parent, including this one, the oldest first.")
    ]
    reasoning: NotRequired[str | None]
    generation_id: NotRequired[str]
    finish_reason: NotRequired[
        Annotated[str | None, Meta(description="As the model API sent it; `edited` if a user wrote the text.")]
    ]
    error: NotRequired[AnswerError | None]
    first_token_at: NotRequired[Time | None]
    ended_at: NotRequired[Time | None]
    left_out: NotRequired[LeftOut | None]
    upstream: NotRequired[Upstream]


class SessionPage(TypedDict):
    """A page of a list of sessions."""

    data: list[Session]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page.")]


class MessagePage(TypedDict):
    """A page of a list of messages."""

    data: list[Message]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page.")]


class Answer(TypedDict):
    """An answer that has ended."""

    session_id: str
    generation_id: str
    message_id: str
    model: str
    status: Status
    finish_reason: str | None
    usage: Usage | None
    error: AnswerError | None
    left_out: LeftOut | None
    upstream: NotRequired[Upstream]
    text: str
    reasoning: str | None
    parts: list[Part]
