"""The context policy on random trees in the store: branches, tools, failures, summaries made and undone.

Of each path, every message is exactly one of sent, summarised and left out; no call is sent without its result, and no
stored message changes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from chatapi.generations.context import SUMMARY_HEAD, ContextPlan
from chatapi.generations.history import select_history
from chatapi.model import (
    Kind,
    LeftOut,
    NewMessage,
    Outcome,
    Part,
    PathMessage,
    Role,
    Status,
    Summary,
    ToolCall,
    TurnRequest,
    Usage,
    new_id,
)
from chatapi.store import Store
from chatapi.upstream.request import ModelRequest
from tests.test_store import REFUSED, Writer, anyone, clock, driver, store

__all__ = ["clock", "driver", "store"]  # fixtures

STEPS = 40
SEEDS = 0, 1, 2, 11  # the last one has results of calls behind a later question
WHOLE = 1 << 40  # bytes
REQUEST = ModelRequest("gpt", (), ("Be brief.",))


@dataclass
class Tree:
    """A session as it must be: the text of each message, in the order of ids on the path to each answer."""

    store: Store
    chance: random.Random
    session_id: str | None = None
    paths: dict[str, list[str]] = field(default_factory=dict)  # ids of messages, by the id of the answer at their end
    texts: dict[str, str] = field(default_factory=dict)
    open_calls: dict[str, list[ToolCall]] = field(default_factory=dict)  # by answer

    def new_text(self) -> str:
        """Return a text that no other message has."""
        return f"<{len(self.texts)}-{self.chance.randrange(1 << 30)}>" + "x" * self.chance.choice([0, 5, 80])

    async def grow(self) -> None:
        """Add a turn below a random answer: results of its calls, or a question; the answer may call tools or fail."""
        parent = self.chance.choice([*self.paths, ""]) if self.paths else ""
        added: list[NewMessage] = []
        callers = [message_id for message_id in self.paths.get(parent, []) if self.open_calls.get(message_id)]
        caller = self.chance.choice(callers) if callers and self.chance.random() < 0.3 else parent
        results = [call for call in self.open_calls.get(caller, []) if self.chance.random() < 0.7]
        added += [NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, self.new_text(), call),)) for call in results]
        if not added or self.chance.random() < 0.2:
            added.append(NewMessage(self.chance.choice([Role.USER] * 5 + [Role.DEVELOPER]), (self.text_part(),)))
            if added[-1].role is Role.DEVELOPER:
                added.append(NewMessage(Role.USER, (self.text_part(),)))
        turn = TurnRequest("anna", self.session_id, None, tuple(added), "gpt", "text", parent=parent or None)
        begun = await self.store.turns.begin(replace(turn, parent=parent) if self.session_id else turn, anyone)
        self.session_id = begun.session.id
        answer, writer = begun.generation.message_id, Writer(begun)
        fails = self.chance.random() < 0.15
        parts: list[Part] = []
        if not fails:
            parts.append(self.text_part())
            await writer.write(self.store, parts[0].text)
            calls = [ToolCall(f"call-{number}", "tool") for number in range(self.chance.choice([0, 0, 1, 2]))]
            for call in calls:
                await writer.write(self.store, "{}", Kind.TOOL_CALL, call)
            self.open_calls[answer] = calls
        usage = Usage(self.chance.randrange(50, 500), 10) if self.chance.random() < 0.5 else None
        await writer.finish(self.store, REFUSED if fails else Outcome(Status.COMPLETED, "stop", usage))
        for message_id, message in zip(begun.input, added, strict=True):
            self.texts[message_id] = message.parts[0].text
        self.texts[answer] = "".join(part.text for part in parts)
        self.paths[answer] = [*self.paths.get(parent, []), *begun.input, answer]

    def text_part(self) -> Part:
        """Return a part with a new text."""
        return Part(Kind.TEXT, self.new_text())

    async def plan(self, parent: str) -> ContextPlan:
        """Plan the next request below an answer as the service does, and shrink and summarise it at random."""
        assert self.session_id is not None
        most = self.chance.choice([WHOLE, WHOLE, 4000])
        history = await self.store.messages.context_path(self.session_id, parent, most)
        newest = PathMessage(NewMessage(Role.USER, (self.text_part(),)), new_id("msg"))
        limit = self.chance.choice([None, None, 200])
        plan = ContextPlan(REQUEST, (*history, newest), truncates=True, limit=limit)
        plan = plan.with_summary(await self.store.summaries.find_all(self.session_id)).fit()
        if self.chance.random() < 0.6:
            plan = plan.shrink(self.chance.random()) or plan
        if self.chance.random() < 0.5 and (covered := plan.to_summarise) and (last := covered[-1].id):
            count = len(plan.summarised) + len(covered)
            text = f"Summary of {count}"
            made = Summary(new_id("sum"), self.session_id, last, count, "small", text, self.store._clock())
            assert await self.store.summaries.add(made, "anna", None)
            earlier, plan = plan.summarised, replace(plan, summary=made)
            assert plan.summarised == [*earlier, *covered], "the summary was made of all for which it stands"
        return plan

    async def undo_a_summary(self) -> None:
        """Remove a random summary, if there is one."""
        assert self.session_id is not None
        found = await self.store.summaries.find_all(self.session_id)
        if found:
            await self.store.summaries.remove(self.session_id, self.chance.choice(found).id, anyone)

    async def check_transcript(self) -> None:
        """Compare all that is stored with all that was said."""
        assert self.session_id is not None
        for message_id, text in self.texts.items():
            message = await self.store.messages.find(self.session_id, message_id)
            assert message is not None
            assert (message.parts[0].text if message.parts else "") == text


def text_of(message: NewMessage) -> str:
    return message.parts[0].text if message.parts else ""


def check_plan(plan: ContextPlan) -> None:
    """Check what a request has of its path."""
    written = list(plan.model_request.messages)
    if plan.summary is not None:
        first = next(index for index, one in enumerate(written) if one.role is Role.USER)
        head, found, text = text_of(written[first]).partition("</summary>\n\n")
        assert found
        assert head == f"{SUMMARY_HEAD}\n\n<summary>\n{plan.summary.text}\n"
        written[first] = NewMessage(Role.USER, (Part(Kind.TEXT, text),))
    assert SUMMARY_HEAD not in str(plan.model_request.instructions)
    sent = {text_of(message) for message in written}
    read = [one.message for one in plan.path if one.is_read]
    never = {text_of(message) for message in read} - {text_of(message) for message in select_history(read)}
    left = plan.left_out or LeftOut(0, None, None)
    movable = [one for one in plan.path if one.message.role not in {Role.SYSTEM, Role.DEVELOPER} or not one.is_read]
    summarised = movable[: left.summarised]
    ids = [one.id for one in movable]
    rest = movable[ids.index(left.first) : ids.index(left.last) + 1] if left.messages else []
    newest = max(index for index, one in enumerate(plan.path) if one.message.role is Role.USER)
    without = [one for one in rest if one is not plan.path[newest]]
    assert len(without) == left.messages
    assert (left.summary is not None) == bool(left.summarised) == (plan.summary is not None)
    for one in plan.path:
        places = [one.is_read and text_of(one.message) in sent, one in summarised, one in without]
        if not any(places):
            assert one.is_read
            assert text_of(one.message) in never, "an answer that failed, or a call without a result"
        else:
            assert places.count(True) == 1
    assert text_of(plan.path[newest].message) in sent
    assert next(one.role for one in written if one.role not in {Role.SYSTEM, Role.DEVELOPER}) is Role.USER
    check_calls(written)


def check_calls(written: list[NewMessage]) -> None:
    """Check that the results of an answer's calls, and of no other, are right behind it."""
    waiting: list[str] = []
    for one in written:
        calls = [part.call.id for part in one.parts if part.call is not None]
        if one.role is Role.TOOL:
            waiting.remove(calls[0])
            continue
        assert not waiting
        waiting = calls
    assert not waiting


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_message_of_a_tree_is_sent_summarised_or_left_out_and_none_changes(store: Store, seed: int) -> None:
    tree = Tree(store, random.Random(seed))
    seen = {"summarised": 0, "left out": 0}
    for _ in range(STEPS):
        await tree.grow()
        for _ in range(2):
            plan = await tree.plan(tree.chance.choice([*tree.paths]))
            check_plan(plan)
            left = plan.left_out or LeftOut(0, None, None)
            seen["summarised"] += left.summarised > 0
            seen["left out"] += left.messages > 0
        if tree.chance.random() < 0.3:
            await tree.undo_a_summary()
    await tree.check_transcript()
    assert min(seen.values()) > STEPS / 10, seen
