"""The Vercel AI SDK's UI message stream, version 1: what `useChat` sends, and a log as it reads it.

A chat's id is its client's own, an alias within its owner; one that begins like a session's id is a session's. Which of
the messages that come along are new, and where they hang, is told by `Conversation.place`; docs/http.md has the rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import ConfigDict, Field

from chatapi import sse
from chatapi.access import Action, Caller, authorize
from chatapi.api import ui_messages
from chatapi.api.answers import ENDED_WELL, EVENT_TEXT_BYTES
from chatapi.api.body import KeyField, Parameters, Text
from chatapi.api.core import Core
from chatapi.api.formats import annotations_of, usage_json
from chatapi.api.ui_messages import ID_CHARACTERS, Name, UIMessage
from chatapi.errors import ChatError, InvalidRequest, NothingToAnswer, from_code
from chatapi.log import cut, pieces_of
from chatapi.model import ROOT, Alias, Generation, Input, Kind, Message, Part, Piece, Role, Status, Turn, Usage
from chatapi.store import Store

DIALECT = "vercel"
HEADERS = {"X-Vercel-AI-UI-Message-Stream": "v1"}
SESSION = "ses_"  # how the ids of sessions begin
MESSAGE = "msg_"
LOOK_BACK = 64  # messages of a history, from its end, among which one that is known is looked for
PASSED_ON = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
_MARKS = (b'"messages"', b'"trigger"')
_FINISH = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}
_FINISH |= {"function_call": "tool-calls"}
_WRITTEN = {Kind.TEXT: b"text", Kind.REFUSAL: b"text", Kind.REASONING: b"reasoning"}


# What a client sends


class ChatBody(Parameters):
    """What `useChat` sends, and what of a page's own fields is taken; all others are the page's affair."""

    model_config = ConfigDict(extra="ignore")

    id: Name
    messages: list[UIMessage]
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


def said(body: ChatBody) -> str:
    """What tells one request from another that comes with the same idempotency key: all but who asks, and how it is
    read. What is new in its messages is another thing the second time."""
    return json.dumps(body.model_dump(exclude={"api_key", "on_disconnect", "if_busy"}), default=repr)


def may_be_chat(data: bytes) -> bool:
    """Whether a body may be `useChat`'s, before it is parsed."""
    return all(mark in data for mark in _MARKS)


def is_chat(value: Any) -> bool:
    """Whether a body is `useChat`'s and not the seed's."""
    return isinstance(value, dict) and "messages" in value and "trigger" in value


def is_session_id(name: str) -> bool:
    """Whether a chat's id is meant as a session's, and not as a client's own."""
    return name.startswith(SESSION)


async def find_chat(store: Store, owner: str, name: str) -> str | None:
    """The id of the session that a chat's id stands for, if it stands for one."""
    if is_session_id(name):
        return name
    if not 0 < len(name) <= ID_CHARACTERS or "\0" in name:
        return None
    return await store.resolve(owner, Alias("vercel-chat", name))


async def turn_of(core: Core, owner: str, body: ChatBody, dialect: str) -> Turn:
    """What a request asks for.

    Raises:
        SessionNotFound, InvalidRequest, NothingToAnswer: it cannot be had.
    """
    session_id = await find_chat(core.store, owner, body.id)
    if session_id is not None:
        authorize(await core.store.find_session(session_id), Caller(owner), Action.SPEND)
    parent, new = await Conversation(core.store, owner, body.id, session_id).place(body)
    if new and new[-1].role is Role.ASSISTANT:
        raise NothingToAnswer
    most_bytes = core.settings.max_message_bytes
    developer_message = _developer_message(body)
    for said in [*new, *([] if developer_message is None else [Input(Role.DEVELOPER, (_text(developer_message),))])]:
        if sum(len(part.text.encode()) for part in said.parts) > most_bytes:
            raise InvalidRequest.field("messages", f"The text of one is longer than {most_bytes} bytes.")
    for name in PASSED_ON:
        _check_encodes(name, getattr(body, name))
    return Turn(
        owner=owner,
        session_id=session_id,
        developer_message=developer_message,
        input=new,
        model=body.model or core.settings.default_model,
        dialect=dialect,
        parameters=body.model_dump(include={*Parameters.model_fields, *PASSED_ON}, exclude_none=True),
        parent=parent,
        alias=None if session_id is not None else Alias("vercel-chat", body.id),
    )


def _check_encodes(name: str, value: Any) -> None:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):  # a key, half a surrogate, an enormous number
        raise InvalidRequest.field(name, "It holds something that cannot be passed on.") from None


def _text(text: str) -> Part:
    return Part(Kind.TEXT, text)


def _developer_message(body: ChatBody) -> str | None:
    """The instructions: the page's own field, or else its system messages."""
    if body.developer_message is not None:
        return body.developer_message
    if body.system is not None:
        return body.system
    said = [ui_messages.text_of(message) for message in body.messages if message.role == "system"]
    return "\n\n".join(said) if said else None


class Place(NamedTuple):
    """Where a turn hangs (see `Turn.parent`), and what it brings."""

    parent: str | None
    new: tuple[Input, ...]


class Conversation:
    """A chat as its client and its session know it."""

    def __init__(self, store: Store, owner: str, name: str, session_id: str | None) -> None:
        self._store = store
        self._owner = owner
        self._name = name
        self._session_id = session_id

    async def place(self, body: ChatBody) -> Place:
        """What of a request's messages is new, and where it hangs.

        What is known is told by the messages' ids: ours, or those that the client gave before. New is what follows the
        last known message, and hangs under it. Where none is known, new is what follows the last answer, and hangs at
        the session's head.
        """
        messages = [(index, message) for index, message in enumerate(body.messages) if message.role != "system"]
        again = body.trigger == "regenerate-message"
        if named := await self._known(body.message_id):
            if again:
                return _again(named)
            if named.role is Role.USER and (edited := [one for one in messages if one[1].id == body.message_id]):
                return Place(named.parent or ROOT, self._read(edited[-1:]))
        at, known = await self._last_known(messages)
        if known is None:
            return Place(None, self._read(messages if self._session_id is None else _after_last_answer(messages)))
        new = self._read(messages[at + 1 :])
        if again and not new:
            return _again(known)
        if known.role is Role.USER:
            told = self._read(messages[at : at + 1])
            if new or [one.parts for one in told] == [known.parts]:
                return Place(known.id, new)
            return Place(known.parent or ROOT, told)
        return await self._after_answer(known, messages[at], new)

    async def _after_answer(self, known: Message, told: tuple[int, UIMessage], new: tuple[Input, ...]) -> Place:
        """Behind an answer: with what the client's tools gave for it, if the session has not heard of it."""
        assert self._session_id is not None, "it has a message"
        run = await self._store.answer_run(self._session_id, known.id)
        results = ui_messages.results_of(told[1], f"messages.{told[0]}")
        said = [part for message in run for part in message.parts if part.call is not None]
        had = {part.call.id for part in said if part.call is not None and part.kind is Kind.TOOL_RESULT}
        called = [part.call.id for part in said if part.call is not None and part.kind is Kind.TOOL_CALL]
        gained = tuple(results[call_id] for call_id in called if call_id in results and call_id not in had)
        last = run[-1]
        if not gained and not new and last.generation and last.generation.status is not Status.COMPLETED:
            return _again(last)  # it did not come to its end: once more
        return Place(last.id, gained + new)

    async def _known(self, message_id: str | None) -> Message | None:
        """The message that the client knows by this id."""
        if self._session_id is None or not message_id:
            return None
        found = await self._store.resolve(self._owner, self._alias(message_id))
        if found is None and not message_id.startswith(MESSAGE):
            return None
        return await self._store.find_message(self._session_id, found or message_id)

    async def _last_known(self, messages: list[tuple[int, UIMessage]]) -> tuple[int, Message | None]:
        for at in reversed(range(max(0, len(messages) - LOOK_BACK), len(messages))):
            if found := await self._known(messages[at][1].id):
                return at, found
        return 0, None

    def _read(self, messages: list[tuple[int, UIMessage]]) -> tuple[Input, ...]:
        inputs: list[Input] = []
        for index, message in messages:
            inputs += ui_messages.read(message, f"messages.{index}", self._alias(message.id))
        return tuple(inputs)

    def _alias(self, message_id: str) -> Alias:
        """A message's name: some clients count their messages, so it means something within its chat only."""
        return Alias("vercel-message", f"{self._name}\n{message_id}")


def _again(message: Message) -> Place:
    """A new answer: beside an answer, or under anything else."""
    return Place((message.parent or ROOT) if message.role is Role.ASSISTANT else message.id, ())


def _after_last_answer(messages: list[tuple[int, UIMessage]]) -> list[tuple[int, UIMessage]]:
    answers = [at for at, (_, message) in enumerate(messages) if message.role == "assistant"]
    return messages[answers[-1] + 1 :] if answers else messages


# What it reads


async def running_message(store: Store, generation: Generation) -> list[Message]:
    """What a client knows as one message, as far as it had come before this generation: answers, and what the client's
    tools gave for them."""
    run = await store.answer_run(generation.session_id, generation.message_id)
    return run[: [message.id for message in run].index(generation.message_id)]


class VercelEncoder:
    """UI message chunks. The log alone tells them, so that a replay has the same bytes.

    `before` are the steps of the same message that came before this one. Whoever sent what tools gave has them, and is
    told this step alone; a `replay` tells them all.
    """

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, before: list[Message], replay: bool) -> None:
        self._generation = generation
        self._before = before
        self._replay = replay
        self._open: Piece | None = None  # the first piece of the part that is being written
        self._rest: list[bytes] = []  # of a tool call its arguments, of annotations a line that is not whole
        self._sources = 0

    def begin(self) -> bytes:
        generation = self._generation
        metadata = {
            "session_id": generation.session_id,
            "generation_id": generation.id,
            "model": generation.model,
        }
        first = self._before[0].id if self._before else generation.message_id
        told = _frame({"type": "start", "messageId": first, "messageMetadata": metadata})
        if self._replay:
            called = {part.call for message in self._before for part in message.parts if part.kind is Kind.TOOL_CALL}
            ids = {call.id for call in called if call is not None}
            told += b"".join(self._step_before(message, ids) for message in self._before)
        return told + _frame({"type": "start-step"})

    def _step_before(self, message: Message, called: set[str]) -> bytes:
        if message.role is Role.TOOL:
            return b"".join(_output(part) for part in message.parts if part.call is not None and part.call.id in called)
        told = _frame({"type": "start-step"}) + b"".join(self.pieces(pieces_of(message.parts)))
        return told + self._close() + _frame({"type": "finish-step"})

    def pieces(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            before = b""
            if self._open is None or self._open.part != piece.part:
                before = self._close()
                self._open = piece
                before += _opening(piece)
            if piece.kind is Kind.ANNOTATION:
                yield before + self._source_frames(piece.data)
                continue
            for text in cut(piece.data, EVENT_TEXT_BYTES):
                yield before + self._delta(piece, text)
                before = b""

    def _delta(self, piece: Piece, text: bytes) -> bytes:
        encoded = msgspec.json.encode(text.decode())
        if piece.call is None:
            return b'data: {"type":"%b-delta","id":"%d","delta":%b}\n\n' % (_WRITTEN[piece.kind], piece.part, encoded)
        self._rest.append(text)
        call_id = msgspec.json.encode(piece.call.id)
        return b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":%b}\n\n' % (call_id, encoded)

    def _source_frames(self, data: bytes) -> bytes:
        """The pages that whole annotations name."""
        *lines, rest = b"".join([*self._rest, data]).split(b"\n")
        self._rest = [rest]
        told = b""
        for line in lines:
            [annotation] = annotations_of(Part(Kind.ANNOTATION, line.decode() + "\n"))
            source = _source(annotation)
            if source is not None:
                self._sources += 1
                told += _frame({"type": "source-url", "sourceId": f"source-{self._sources}", **source})
        return told

    def _close(self, whole: bool = True) -> bytes:
        """The end of the part that is open; a call that is not `whole` is left as it is."""
        part, rest = self._open, b"".join(self._rest)
        self._open, self._rest = None, []
        if part is None or part.kind is Kind.ANNOTATION:
            return b""
        if part.call is None:
            return b'data: {"type":"%b-end","id":"%d"}\n\n' % (_WRITTEN[part.kind], part.part)
        if not whole:
            return b""
        call = {"toolCallId": part.call.id, "toolName": part.call.name}
        try:
            return _frame({"type": "tool-input-available", **call, "input": msgspec.json.decode(rest)})
        except (msgspec.DecodeError, RecursionError):
            error = "The arguments of this call are not JSON."
            return _frame({"type": "tool-input-error", **call, "input": rest.decode(), "errorText": error})

    def quiet(self) -> bytes:
        return sse.HEARTBEAT

    def end(self, generation: Generation) -> bytes:
        if generation.status not in ENDED_WELL:
            told = self._close(whole=False)
            if generation.usage is not None:
                told += _frame({"type": "message-metadata", "messageMetadata": _usage(generation.usage)})
            return told + self.error(from_code(generation.error_code, generation.error_detail))
        metadata = {"messageMetadata": _usage(generation.usage)}
        if generation.status is Status.STOPPED:
            told = self._close(whole=False) + _frame({"type": "message-metadata", **metadata})
            return told + _frame({"type": "abort", "reason": "stopped"}) + b"data: [DONE]\n\n"
        reason = _FINISH.get(generation.finish_reason or "stop", "other")
        told = self._close() + _frame({"type": "finish-step"})
        return told + _frame({"type": "finish", "finishReason": reason, **metadata}) + b"data: [DONE]\n\n"

    def error(self, error: ChatError) -> bytes:
        return _frame({"type": "error", "errorText": error.detail})


def _frame(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(chunk)


def _opening(piece: Piece) -> bytes:
    if piece.kind is Kind.ANNOTATION:
        return b""
    if piece.call is None:
        return b'data: {"type":"%b-start","id":"%d"}\n\n' % (_WRITTEN[piece.kind], piece.part)
    return _frame({"type": "tool-input-start", "toolCallId": piece.call.id, "toolName": piece.call.name})


def _output(part: Part) -> bytes:
    assert part.call is not None, "a result names its call"
    try:
        output = msgspec.json.decode(part.text)
    except (msgspec.DecodeError, RecursionError):
        output = None
    if not isinstance(output, dict | list):
        output = part.text
    return _frame({"type": "tool-output-available", "toolCallId": part.call.id, "output": output})


def _source(annotation: Any) -> dict[str, str] | None:
    """The page that an annotation names, if it names one."""
    cited = annotation.get("url_citation", annotation) if isinstance(annotation, dict) else None
    if not isinstance(cited, dict) or not isinstance(cited.get("url"), str):
        return None
    title = cited.get("title")
    return {"url": cited["url"], **({"title": title} if isinstance(title, str) else {})}


def _usage(usage: Usage | None) -> dict[str, Any]:
    return {"usage": usage_json(usage)}
