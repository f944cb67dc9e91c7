"""The rule that finds the new messages of a `useChat` request and their place in the session; see docs/http.md."""

from __future__ import annotations

from typing import NamedTuple

from chatapi.api.vercel import messages as ui_messages
from chatapi.api.vercel.messages import ID_CHARACTERS, UIMessage
from chatapi.model import ROOT, Alias, Generation, Kind, Message, NewMessage, Role, Status
from chatapi.store import Store

SESSION = "ses_"  # prefix of session ids
MESSAGE = "msg_"
LOOK_BACK = 64  # messages at the end of a history among which a known one is searched


def is_session_id(name: str) -> bool:
    """Return whether a chat's id names a session, and is not the client's own."""
    return name.startswith(SESSION)


async def find_chat(store: Store, owner: str, name: str) -> str | None:
    """Return the id of the session that a chat's id stands for, or None."""
    if is_session_id(name):
        return name
    if not 0 < len(name) <= ID_CHARACTERS or "\0" in name:
        return None
    return await store.aliases.resolve(owner, Alias("vercel-chat", name))


async def steps_before(store: Store, generation: Generation) -> list[Message]:
    """Return the earlier steps of the message that a client shows: answers, and the results of the client's tools."""
    run = await store.messages.answer_run(generation.session_id, generation.message_id)
    return run[: [message.id for message in run].index(generation.message_id)]


class TurnPlacement(NamedTuple):
    """The parent of a turn (see `TurnRequest.parent`), and its new messages."""

    parent: str | None
    new: tuple[NewMessage, ...]


class History:
    """A chat as its client sends it, compared with the session that stores it."""

    def __init__(self, store: Store, owner: str, name: str, session_id: str | None) -> None:
        self._store = store
        self._owner = owner
        self._name = name
        self._session_id = session_id

    async def place(self, messages: list[UIMessage], named_id: str | None, regenerate: bool) -> TurnPlacement:
        """Return the new messages of a request, and their parent.

        A message is known by its id: ours, or one that the client used before. New are the messages after the last
        known one, which is their parent. If none is known, the messages after the last answer are new, and follow the
        session's head.

        Args:
            named_id: the message that the request edits or regenerates, if it names one.
        """
        indexed = [(index, message) for index, message in enumerate(messages) if message.role != "system"]
        if named := await self._find_known(named_id):
            if regenerate:
                return _regenerate(named)
            if named.role is Role.USER and (edited := [one for one in indexed if one[1].id == named_id]):
                return TurnPlacement(named.parent or ROOT, self._read(edited[-1:]))
        at, known = await self._find_last_known(indexed)
        if known is None:
            fresh = indexed if self._session_id is None else _after_last_answer(indexed)
            return TurnPlacement(None, self._read(fresh))
        new = self._read(indexed[at + 1 :])
        if regenerate and not new:
            return _regenerate(known)
        if known.role is Role.USER:
            sent = self._read(indexed[at : at + 1])
            if new or [one.parts for one in sent] == [known.parts]:
                return TurnPlacement(known.id, new)
            return TurnPlacement(known.parent or ROOT, sent)
        return await self._place_after_answer(known, indexed[at], new)

    async def _place_after_answer(
        self, known: Message, sent: tuple[int, UIMessage], new: tuple[NewMessage, ...]
    ) -> TurnPlacement:
        """Place messages after an answer, with the results of the client's tools that the session does not have yet."""
        assert self._session_id is not None, "it has a message"
        run = await self._store.messages.answer_run(self._session_id, known.id)
        results = ui_messages.results_of(sent[1], f"messages.{sent[0]}")
        parts = [part for message in run for part in message.parts if part.call is not None]
        stored = {part.call.id for part in parts if part.call is not None and part.kind is Kind.TOOL_RESULT}
        called = [part.call.id for part in parts if part.call is not None and part.kind is Kind.TOOL_CALL]
        gained = tuple(results[call_id] for call_id in called if call_id in results and call_id not in stored)
        last = run[-1]
        if not gained and not new and last.generation and last.generation.status is not Status.COMPLETED:
            return _regenerate(last)  # it did not complete
        return TurnPlacement(last.id, gained + new)

    async def _find_known(self, message_id: str | None) -> Message | None:
        """Return the stored message that the client knows by this id."""
        if self._session_id is None or not message_id:
            return None
        found = await self._store.aliases.resolve(self._owner, self._alias(message_id))
        if found is None and not message_id.startswith(MESSAGE):
            return None
        return await self._store.messages.find(self._session_id, found or message_id)

    async def _find_last_known(self, messages: list[tuple[int, UIMessage]]) -> tuple[int, Message | None]:
        for at in reversed(range(max(0, len(messages) - LOOK_BACK), len(messages))):
            if found := await self._find_known(messages[at][1].id):
                return at, found
        return 0, None

    def _read(self, messages: list[tuple[int, UIMessage]]) -> tuple[NewMessage, ...]:
        new: list[NewMessage] = []
        for index, message in messages:
            new += ui_messages.read(message, f"messages.{index}", self._alias(message.id))
        return tuple(new)

    def _alias(self, message_id: str) -> Alias:
        """Return the alias of a message: unique within its chat only, as some clients number their messages."""
        return Alias("vercel-message", f"{self._name}\n{message_id}")


def _regenerate(message: Message) -> TurnPlacement:
    """Place a new answer: beside an answer, or below any other message."""
    return TurnPlacement((message.parent or ROOT) if message.role is Role.ASSISTANT else message.id, ())


def _after_last_answer(messages: list[tuple[int, UIMessage]]) -> list[tuple[int, UIMessage]]:
    answers = [at for at, (_, message) in enumerate(messages) if message.role == "assistant"]
    return messages[answers[-1] + 1 :] if answers else messages
