"""The Vercel AI SDK's UI message stream, version 1: what `useChat` sends, and a log as it reads it.

A chat's id is its client's own, an alias within its owner; one that begins like a session's id is a session's. Which of
the messages that come along are new, and where they hang, is told by `Conversation.place`; docs/http.md has the rule.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from chatapi.api.http.error_responses import SENTENCES
from chatapi.api.http.request_body import Parameters, validate
from chatapi.api.http.services import Services, authorized, key_of, services_of
from chatapi.api.http.streaming import LogResponse, TextEncoder
from chatapi.api.turns import find_generation, sent_headers, streamed, with_digest
from chatapi.api.vercel import messages as ui_messages
from chatapi.api.vercel.messages import ID_CHARACTERS, UIMessage
from chatapi.api.vercel.request import UIChatBody
from chatapi.api.vercel.stream import HEADERS, VercelEncoder
from chatapi.auth.authorization import Action, Caller, authorize, permit
from chatapi.errors import InvalidRequest, KeyRequired, NothingToAnswer, SessionNotFound
from chatapi.model import ROOT, Alias, Generation, Kind, Message, NewMessage, Role, Status, TurnRequest
from chatapi.store import Store

DIALECT = "vercel"
SESSION = "ses_"  # how the ids of sessions begin
MESSAGE = "msg_"
LOOK_BACK = 64  # messages of a history, from its end, among which one that is known is looked for
NEW = 1000  # of them that may be new: each is some statements of one transaction
PASSED_ON = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
_MARKS = (b'"messages"', b'"trigger"')


# What chat.py's routes call


async def send(request: Request, value: Any) -> Response:
    """Take what `useChat` sends, and answer in its words; as plain text, if `Accept` asks for that."""
    core = services_of(request)
    setattr(request.state, SENTENCES, True)
    body = validate(UIChatBody, value)
    key = key_of(request, body.api_key)
    if key is None:
        raise KeyRequired
    owner = core.owner(key)
    request.state.limit = await core.rate_limit.take(owner)
    dialect = "text" if "text/plain" in request.headers.get("accept", "") else DIALECT
    turn = await _turn_of(core, owner, body, dialect)
    if (idempotency_key := request.headers.get("idempotency-key")) is not None:
        turn = with_digest(turn, idempotency_key, _said(body))
    may_spend = permit(Caller(owner), Action.SPEND)
    sent = await core.generations.send(turn, key, may_spend, interrupt=body.if_busy == "interrupt")
    headers = sent_headers(sent, request.state.limit)
    cancel = body.on_disconnect == "cancel" and not sent.repeated
    if dialect == "text":
        return streamed(core, sent, TextEncoder(), headers, cancel)
    answers_a_user = bool(turn.input) and turn.input[-1].role is Role.USER
    before = [] if answers_a_user else await _steps_before(core.store, sent.generation)
    encoder = VercelEncoder(sent.generation, before, replay=False)
    return streamed(core, sent, encoder, headers | HEADERS, cancel)


async def session_of(request: Request, name: str) -> str:
    """The session that the caller knows by their own name for a chat; that takes their key, on this machine too.

    Raises:
        SessionNotFound: they know none by it.
    """
    core = services_of(request)
    key = key_of(request)
    session_id = await _find_chat(core.store, core.owner(key), name) if key is not None else None
    if session_id is None:
        raise SessionNotFound
    setattr(request.state, SENTENCES, True)
    return (await authorized(request, session_id, Action.CHANGE)).id


async def stream(request: Request, name: str, generation_id: str | None) -> Response:
    """The message of a chat that is running, from its start, or the one that is asked for; 204 where there is none."""
    core = services_of(request)
    generation = await find_generation(core, await session_of(request, name), generation_id)
    if generation is None or (generation.status is not Status.RUNNING and generation_id is None):
        return Response(status_code=204)
    if "text/plain" in request.headers.get("accept", ""):
        headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id}
        readings = core.generations.follow(generation.id)
        return LogResponse(readings, TextEncoder(), headers, core.settings.heartbeat_seconds)
    return await replay(core, generation)


async def replay(core: Services, generation: Generation) -> Response:
    """The message that `useChat` is being told, from its beginning."""
    before = await _steps_before(core.store, generation)
    encoder = VercelEncoder(generation, before, replay=True)
    headers = {"X-Session-ID": generation.session_id, "X-Generation-ID": generation.id} | HEADERS
    return LogResponse(core.generations.follow(generation.id), encoder, headers, core.settings.heartbeat_seconds)


async def _steps_before(store: Store, generation: Generation) -> list[Message]:
    """What a client knows as one message, as far as it had come before this generation: answers, and what the client's
    tools gave for them."""
    run = await store.messages.answer_run(generation.session_id, generation.message_id)
    return run[: [message.id for message in run].index(generation.message_id)]


# What a client sends


def _said(body: UIChatBody) -> str:
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


async def _find_chat(store: Store, owner: str, name: str) -> str | None:
    """The id of the session that a chat's id stands for, if it stands for one."""
    if is_session_id(name):
        return name
    if not 0 < len(name) <= ID_CHARACTERS or "\0" in name:
        return None
    return await store.aliases.resolve(owner, Alias("vercel-chat", name))


async def _turn_of(core: Services, owner: str, body: UIChatBody, dialect: str) -> TurnRequest:
    """What a request asks for.

    Raises:
        SessionNotFound, InvalidRequest, NothingToAnswer: it cannot be had.
    """
    session_id = await _find_chat(core.store, owner, body.id)
    if session_id is not None:
        authorize(await core.store.sessions.find(session_id), Caller(owner), Action.SPEND)
    parent, new = await Conversation(core.store, owner, body.id, session_id).place(body)
    if new and new[-1].role is Role.ASSISTANT:
        raise NothingToAnswer
    if len(new) > NEW:
        raise InvalidRequest.field("messages", f"More than {NEW} of them are new.")
    most_bytes = core.settings.max_message_bytes
    developer_message = _developer_message(body)
    texts = ["".join(part.text for part in message.parts) for message in new]
    if any(len(text.encode()) > most_bytes for text in [*texts, developer_message or ""]):
        raise InvalidRequest.field("messages", f"The text of one is longer than {most_bytes} bytes.")
    for name in PASSED_ON:
        _check_encodes(name, getattr(body, name))
    return TurnRequest(
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


def _developer_message(body: UIChatBody) -> str | None:
    """The instructions: the page's own field, or else its system messages."""
    if body.developer_message is not None:
        return body.developer_message
    if body.system is not None:
        return body.system
    said = [ui_messages.text_of(message) for message in body.messages if message.role == "system"]
    return "\n\n".join(said) if said else None


class TurnPlacement(NamedTuple):
    """Where a turn hangs (see `TurnRequest.parent`), and what it brings."""

    parent: str | None
    new: tuple[NewMessage, ...]


class Conversation:
    """A chat as its client and its session know it."""

    def __init__(self, store: Store, owner: str, name: str, session_id: str | None) -> None:
        self._store = store
        self._owner = owner
        self._name = name
        self._session_id = session_id

    async def place(self, body: UIChatBody) -> TurnPlacement:
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
                return TurnPlacement(named.parent or ROOT, self._read(edited[-1:]))
        at, known = await self._last_known(messages)
        if known is None:
            return TurnPlacement(
                None, self._read(messages if self._session_id is None else _after_last_answer(messages))
            )
        new = self._read(messages[at + 1 :])
        if again and not new:
            return _again(known)
        if known.role is Role.USER:
            told = self._read(messages[at : at + 1])
            if new or [one.parts for one in told] == [known.parts]:
                return TurnPlacement(known.id, new)
            return TurnPlacement(known.parent or ROOT, told)
        return await self._after_answer(known, messages[at], new)

    async def _after_answer(
        self, known: Message, told: tuple[int, UIMessage], new: tuple[NewMessage, ...]
    ) -> TurnPlacement:
        """Behind an answer: with what the client's tools gave for it, if the session has not heard of it."""
        assert self._session_id is not None, "it has a message"
        run = await self._store.messages.answer_run(self._session_id, known.id)
        results = ui_messages.results_of(told[1], f"messages.{told[0]}")
        said = [part for message in run for part in message.parts if part.call is not None]
        had = {part.call.id for part in said if part.call is not None and part.kind is Kind.TOOL_RESULT}
        called = [part.call.id for part in said if part.call is not None and part.kind is Kind.TOOL_CALL]
        gained = tuple(results[call_id] for call_id in called if call_id in results and call_id not in had)
        last = run[-1]
        if not gained and not new and last.generation and last.generation.status is not Status.COMPLETED:
            return _again(last)  # it did not come to its end: once more
        return TurnPlacement(last.id, gained + new)

    async def _known(self, message_id: str | None) -> Message | None:
        """The message that the client knows by this id."""
        if self._session_id is None or not message_id:
            return None
        found = await self._store.aliases.resolve(self._owner, self._alias(message_id))
        if found is None and not message_id.startswith(MESSAGE):
            return None
        return await self._store.messages.find(self._session_id, found or message_id)

    async def _last_known(self, messages: list[tuple[int, UIMessage]]) -> tuple[int, Message | None]:
        for at in reversed(range(max(0, len(messages) - LOOK_BACK), len(messages))):
            if found := await self._known(messages[at][1].id):
                return at, found
        return 0, None

    def _read(self, messages: list[tuple[int, UIMessage]]) -> tuple[NewMessage, ...]:
        inputs: list[NewMessage] = []
        for index, message in messages:
            inputs += ui_messages.read(message, f"messages.{index}", self._alias(message.id))
        return tuple(inputs)

    def _alias(self, message_id: str) -> Alias:
        """A message's name: some clients count their messages, so it means something within its chat only."""
        return Alias("vercel-message", f"{self._name}\n{message_id}")


def _again(message: Message) -> TurnPlacement:
    """A new answer: beside an answer, or under anything else."""
    return TurnPlacement((message.parent or ROOT) if message.role is Role.ASSISTANT else message.id, ())


def _after_last_answer(messages: list[tuple[int, UIMessage]]) -> list[tuple[int, UIMessage]]:
    answers = [at for at, (_, message) in enumerate(messages) if message.role == "assistant"]
    return messages[answers[-1] + 1 :] if answers else messages
