"""UI messages of the Vercel AI SDK's clients, read as messages of a session. Pure.

One UI message may be several messages here: the text of each of its steps, and the tool results between them. Parts
that a model sees are read; a page's own parts (`data-…`, sources) are ignored.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chatapi.api.http.request_body import Text
from chatapi.auth.keys import REDACTED, Key
from chatapi.errors import InvalidRequest
from chatapi.model import Alias, Kind, Media, NewMessage, Part, Role, ToolCall
from chatapi.wire.json_values import NAME_CHARACTERS, URL_SCHEMES
from chatapi.wire.text import check_text

ID_CHARACTERS = 128
TOOL, DYNAMIC_TOOL = "tool-", "dynamic-tool"  # prefixes of the types of tool call parts
ANSWERED = frozenset({"output-available", "output-error"})  # the states of a tool call that has a result
UPLOADED = "openai"  # the provider whose file ids are sent upstream
RECORDINGS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}

Name = Annotated[Text, Field(min_length=1, max_length=ID_CHARACTERS)]
Short = Annotated[Text, Field(max_length=NAME_CHARACTERS)]


class UIPart(BaseModel):
    """A part of a UI message: the fields of all kinds that are read."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True)

    type: Short
    text: Text | None = None
    url: Text | None = None
    media_type: Short | None = Field(None, alias="mediaType")
    filename: Short | None = None
    uploaded: dict[str, Any] | None = Field(None, alias="providerReference")
    call_id: Short | None = Field(None, alias="toolCallId")
    tool: Short | None = Field(None, alias="toolName")
    state: Short | None = None
    input: Any = None
    output: Any = None
    error: Text | None = Field(None, alias="errorText")
    ran_upstream: bool | None = Field(None, alias="providerExecuted")

    @property
    def is_call(self) -> bool:
        """Whether it is a call of a tool that the client runs."""
        return (self.type.startswith(TOOL) or self.type == DYNAMIC_TOOL) and not self.ran_upstream

    @property
    def is_answered(self) -> bool:
        """Whether it is a tool call with a result."""
        return self.is_call and self.state in ANSWERED


class UIMessage(BaseModel):
    """A message as `useChat` stores it."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True)

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: list[UIPart] = Field(max_length=10_000)


def read(message: UIMessage, path: str, alias: Alias) -> list[NewMessage]:
    """Return the messages of a UI message; the first has the client's id as its alias.

    Raises:
        InvalidRequest: it cannot be stored; the error names `path`.
    """
    if message.role == "user":
        parts = [_read_part(part, f"{path}.parts.{index}") for index, part in enumerate(message.parts)]
        said = tuple(part for part in parts if part is not None)
        if not said:
            raise InvalidRequest.field(f"{path}.parts", "They must contain text or a file.")
        return [NewMessage(Role.USER, said, alias)]
    new: list[NewMessage] = []
    for step in _steps(message, path):
        new += _read_step(step, alias if not new else None)
    return new


def text_of(message: UIMessage) -> str:
    """Return the text of a message, such as a system message."""
    return "".join(part.text or "" for part in message.parts if part.type == "text")


def results_of(message: UIMessage, path: str) -> dict[str, NewMessage]:
    """Return the results of the tools that the client ran, by the ids of their calls."""
    return {
        part.call_id: _result(part, f"{path}.parts.{index}")
        for index, part in enumerate(message.parts)
        if part.is_answered and part.call_id
    }


def _read_part(part: UIPart, path: str) -> Part | None:
    if part.type == "text":
        if part.text is None:
            raise InvalidRequest.field(f"{path}.text", "This field is required.")
        return Part(Kind.TEXT, part.text) if part.text else None
    return _read_file(part, path) if part.type == "file" else None


def _read_file(part: UIPart, path: str) -> Part:
    """Return a file part: an image or a recording where the model API has such parts, or else a file."""
    media_type = (part.media_type or "").lower()
    uploaded = (part.uploaded or {}).get(UPLOADED)
    if isinstance(uploaded, str) and 0 < len(uploaded) <= NAME_CHARACTERS and uploaded.isprintable():
        return Part(Kind.FILE, media=Media(file_id=uploaded, filename=part.filename))
    url = part.url or ""
    if not url.lower().startswith(URL_SCHEMES):
        raise InvalidRequest.field(f"{path}.url", "It must be an http, https or data URL.")
    if media_type.partition("/")[0] == "image":
        return Part(Kind.IMAGE, media=Media(url=url))
    if media_type in RECORDINGS and url.lower().startswith("data:"):
        return Part(Kind.AUDIO, media=Media(data=url.partition(",")[2], format=RECORDINGS[media_type]))
    return Part(Kind.FILE, media=Media(data=url, filename=part.filename, format=media_type or None))


_Step = tuple[list[Part], list[NewMessage]]  # the parts of the answer, and the results of its tools


def _steps(message: UIMessage, path: str) -> list[_Step]:
    steps: list[_Step] = [([], [])]
    for index, part in enumerate(message.parts):
        parts, results = steps[-1]
        if part.type == "step-start":
            steps.append(([], []))
        elif part.type in {"text", "reasoning"} and part.text:
            parts.append(Part(Kind.TEXT if part.type == "text" else Kind.REASONING, part.text))
        elif part.is_call and part.state != "input-streaming":
            parts.append(_call(part, f"{path}.parts.{index}"))
            if part.is_answered:
                results.append(_result(part, f"{path}.parts.{index}"))
    return steps


def _read_step(step: _Step, alias: Alias | None) -> list[NewMessage]:
    parts, results = step
    return [NewMessage(Role.ASSISTANT, tuple(parts), alias), *results] if parts else []


def _call(part: UIPart, path: str) -> Part:
    name = part.tool if part.type == DYNAMIC_TOOL else part.type.removeprefix(TOOL)
    if not part.call_id or not name:
        raise InvalidRequest.field(path, "It must have the id and the name of the call.")
    arguments = "{}" if part.input is None else _as_json(part.input, f"{path}.input")
    return Part(Kind.TOOL_CALL, arguments, ToolCall(part.call_id, name))


def _result(part: UIPart, path: str) -> NewMessage:
    if not part.call_id:
        raise InvalidRequest.field(f"{path}.toolCallId", "This field is required.")
    if part.state == "output-error":
        text = part.error or ""
    elif isinstance(part.output, str):
        text = check_text(part.output, f"{path}.output")
    else:
        text = _as_json(part.output, f"{path}.output")
    return NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, text, ToolCall(part.call_id)),))


def _as_json(value: Any, path: str) -> str:
    try:
        return check_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_hidden), path)
    except RecursionError:
        raise InvalidRequest.field(path, "It must not nest so deeply.") from None


def _hidden(value: Any) -> str:
    """Return the replacement of a member `api_key`, which the parser turned into a `Key`: no key is stored."""
    assert isinstance(value, Key), "the rest is JSON"
    return REDACTED
