"""The chunks of a UI message stream, version 1, and the description of a `useChat` request."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class StartMetadata(TypedDict):
    """The ids of an answer."""

    session_id: str
    generation_id: str
    model: str


class StartChunk(TypedDict):
    """The beginning of a message."""

    type: Literal["start"]
    messageId: str
    messageMetadata: StartMetadata


class StepChunk(TypedDict):
    """The beginning or the end of a step."""

    type: Literal["start-step", "finish-step"]


class TextChunk(TypedDict):
    """The beginning, a piece or the end of a text or of reasoning."""

    type: Literal["text-start", "text-delta", "text-end", "reasoning-start", "reasoning-delta", "reasoning-end"]
    id: str
    delta: NotRequired[str]


class ToolChunk(TypedDict):
    """A tool call, its input or its output. A tool that the model API runs itself is executed by the provider."""

    type: Literal[
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "tool-input-error",
        "tool-output-available",
        "tool-output-error",
    ]
    toolCallId: str
    toolName: NotRequired[str]
    inputTextDelta: NotRequired[str]
    input: NotRequired[Any]
    output: NotRequired[Any]
    errorText: NotRequired[str]
    providerExecuted: NotRequired[bool]
    dynamic: NotRequired[bool]


class SourceChunk(TypedDict):
    """A page that the model cites."""

    type: Literal["source-url"]
    sourceId: str
    url: str
    title: NotRequired[str]


class FileChunk(TypedDict):
    """An image that the model made, as a data URL or by its address."""

    type: Literal["file"]
    url: str
    mediaType: str


class FinishChunk(TypedDict):
    """The end of an answer, or the metadata of one that was stopped or failed."""

    type: Literal["finish", "message-metadata"]
    finishReason: NotRequired[str]
    messageMetadata: dict[str, Any]


class AbortChunk(TypedDict):
    """The answer was stopped."""

    type: Literal["abort"]
    reason: str


class ErrorChunk(TypedDict):
    """The answer failed. `[DONE]` does not follow."""

    type: Literal["error"]
    errorText: str


CHUNKS: dict[str, Any] = {
    "start": StartChunk,
    "start-step": StepChunk,
    "reasoning-start": TextChunk,
    "reasoning-delta": TextChunk,
    "reasoning-end": TextChunk,
    "text-start": TextChunk,
    "text-delta": TextChunk,
    "text-end": TextChunk,
    "tool-input-start": ToolChunk,
    "tool-input-delta": ToolChunk,
    "tool-input-available": ToolChunk,
    "tool-input-error": ToolChunk,
    "tool-output-available": ToolChunk,
    "tool-output-error": ToolChunk,
    "source-url": SourceChunk,
    "file": FileChunk,
    "finish-step": StepChunk,
    "message-metadata": FinishChunk,
    "finish": FinishChunk,
    "abort": AbortChunk,
}
"""`error` is missing here: the chat dialect has an event of that name too."""
