"""Hypothesis drives the store and a dictionary in parallel: in any order of calls, both give the same results."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from chatapi.errors import IdempotencyMismatch, SessionBusy, SessionNotFound, UpstreamRejectedKey
from chatapi.generations.history import select_history
from chatapi.model import Kind, Outcome, Role, Status, ToolCall, TurnRequest, user_text, visible_text
from chatapi.model.log import parts_of
from chatapi.store import Fenced, Store
from chatapi.store.generations import LEASE_SECONDS
from chatapi.titles import title_of
from tests.test_log import Said, kinds, merged
from tests.test_store import DRIVERS, Clock, Writer, anyone

T = TypeVar("T")

OWNERS = st.sampled_from(["anna", "ben"])
TEXTS = st.text(st.sampled_from("aß漢👩\n'"), min_size=1, max_size=4)
ENDINGS = st.sampled_from(
    [
        Outcome(Status.COMPLETED, "stop"),
        Outcome(Status.STOPPED),
        Outcome(Status.FAILED, error_code="upstream_broken"),
        Outcome(Status.FAILED, error_code=UpstreamRejectedKey.code),
    ]
)


@dataclass
class Answer:
    """A generation, as the dictionary has it."""

    id: str
    question: str
    owner: str
    lease_until: int
    bound: bool
    ours: bool = True
    status: Status = Status.RUNNING
    error_code: str | None = None
    said: list[Said] = field(default_factory=list)

    @property
    def text(self) -> str:
        return visible_text(merged(self.said))

    @property
    def called(self) -> bool:
        return any(kind is Kind.TOOL_CALL for kind, _, _ in self.said)


@dataclass
class Conversation:
    """A session, as the dictionary has it."""

    id: str
    owner: str | None
    developer_message: str
    title: str | None
    made: int
    answers: list[Answer] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """The store and the dictionary, side by side."""

    driver_name = ""
    conversations = Bundle("conversations")
    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.driver = self.resources.enter_context(DRIVERS[self.driver_name](Path(folder)))
        self.model: dict[str, Conversation] = {}
        self.known: dict[tuple[str, str], tuple[str, Answer]] = {}  # by owner and idempotency key
        self.store = Store(self.driver, self.clock)
        self.do(self.store.open())

    def do(self, coroutine: Awaitable[T]) -> T:
        async def wait() -> T:
            return await coroutine

        return self.runner.run(wait())

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()
        self.resources.close()

    # Actions of callers

    @rule(target=conversations, owner=st.one_of(st.none(), OWNERS), developer_message=TEXTS)
    def create(self, owner: str | None, developer_message: str) -> str:
        session = self.do(self.store.sessions.create(owner, developer_message))
        self.model[session.id] = Conversation(session.id, owner, developer_message, None, self.clock.now)
        return session.id

    @rule(target=writers, session_id=conversations, owner=OWNERS, question=TEXTS)
    def begin(self, session_id: str, owner: str, question: str) -> object:
        conversation = self.model.get(session_id)
        running = (
            [answer.id for answer in conversation.answers if answer.status is Status.RUNNING] if conversation else []
        )
        try:
            begun = self.do(
                self.store.turns.begin(TurnRequest(owner, session_id, None, user_text(question), "gpt", "text"), anyone)
            )
        except SessionNotFound:
            assert conversation is None
            return multiple()
        except SessionBusy as error:
            blocking = [error.generation_id]
            assert running == blocking
            return multiple()
        assert conversation is not None
        assert not running
        bound, conversation.owner = conversation.owner is None, owner
        if conversation.title is None:
            conversation.title = title_of(user_text(question))
        conversation.answers.append(self.begun(begun.generation.id, question, owner, bound))
        return Writer(begun)

    @rule(session_id=conversations, owner=OWNERS, question=TEXTS, ending=ENDINGS, said=st.just("") | TEXTS)
    def whole_turn(self, session_id: str, owner: str, question: str, ending: Outcome, said: str) -> None:
        writer = self.begin(session_id, owner, question)
        if isinstance(writer, Writer):
            self.finish(writer, ending, (Kind.TEXT, None), said)

    @rule(owner=OWNERS, key=st.sampled_from("ab"), digest=st.sampled_from("12"))
    def begin_once(self, owner: str, key: str, digest: str) -> None:
        turn = TurnRequest(owner, None, "Be brief.", user_text(digest), "gpt", "text", {}, key, digest)
        before = self.known.get((owner, key))
        try:
            begun = self.do(self.store.turns.begin(turn, anyone))
        except IdempotencyMismatch:
            assert before is not None
            assert before[1].question != digest
            return
        assert begun.replayed is (before is not None)
        if before is not None:
            assert (begun.session.id, begun.generation.id) == (before[0], before[1].id)
            return
        answer = self.begun(begun.generation.id, digest, owner, True)
        self.known[owner, key] = begun.session.id, answer
        conversation = Conversation(begun.session.id, owner, "Be brief.", digest, self.clock.now, [answer])
        self.model[begun.session.id] = conversation

    def begun(self, generation_id: str, question: str, owner: str, bound: bool) -> Answer:
        return Answer(generation_id, question, owner, self.clock.now + int(LEASE_SECONDS * 1_000_000), bound)

    @rule(session_id=conversations, title=st.sampled_from(["", "A title"]), developer_message=st.none() | TEXTS)
    def change(self, session_id: str, title: str, developer_message: str | None) -> None:
        conversation = self.model.get(session_id)
        try:
            self.do(self.store.sessions.change(session_id, anyone, developer_message, title))
        except SessionNotFound:
            assert conversation is None
            return
        assert conversation is not None
        conversation.title = title
        if developer_message is not None:
            conversation.developer_message = developer_message

    @rule(session_id=conversations)
    def delete(self, session_id: str) -> None:
        try:
            self.do(self.store.sessions.delete(session_id, anyone))
        except SessionNotFound:
            assert session_id not in self.model
            return
        del self.model[session_id]
        self.known = {key: known for key, known in self.known.items() if known[0] != session_id}

    # Actions of generations

    def answer(self, writer: Writer) -> Answer | None:
        """Return the running answer that this writer may still write, if any."""
        for conversation in self.model.values():
            for answer in conversation.answers:
                if answer.id == writer.id and answer.status is Status.RUNNING and answer.ours:
                    return answer
        return None

    @rule(writer=writers, kind=st.sampled_from(kinds), text=TEXTS)
    def append(self, writer: Writer, kind: tuple[Kind, ToolCall | None], text: str) -> None:
        answer = self.answer(writer)
        if answer is None and writer.error is not None:
            return  # it knows, and has stopped
        try:
            self.do(writer.write(self.store, text, *kind))
        except Fenced:
            assert answer is None
            return
        if answer is None:
            assert self.driver.journal is not None, "a shared database fences the text, a journal the end only"
            return
        assert writer.log.committed == writer.log.position
        answer.said.append((kind[0], text, kind[1]))

    @rule(writer=consumes(writers), ending=ENDINGS, kind=st.sampled_from(kinds), more=st.just("") | TEXTS)
    def finish(self, writer: Writer, ending: Outcome, kind: tuple[Kind, ToolCall | None], more: str) -> None:
        answer = self.answer(writer)
        if more:
            writer.log.write(kind[0], more, kind[1])
        try:
            self.do(writer.finish(self.store, ending))
        except Fenced:
            assert answer is None
            return
        assert answer is not None
        answer.said += [(kind[0], more, kind[1])] if more else []
        self.end(answer, ending.status, ending.error_code)

    def end(self, answer: Answer, status: Status, error_code: str | None) -> None:
        answer.status, answer.error_code = status, error_code
        (conversation,) = (one for one in self.model.values() if answer in one.answers)
        if answer.bound and all(one.error_code == UpstreamRejectedKey.code for one in conversation.answers):
            conversation.owner = None

    # Time and crashes

    @rule(seconds=st.sampled_from([1, LEASE_SECONDS / 2, LEASE_SECONDS + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def running(self) -> list[Answer]:
        answers = [answer for conversation in self.model.values() for answer in conversation.answers]
        return [answer for answer in answers if answer.status is Status.RUNNING]

    @rule(everything=st.booleans())
    def renew(self, everything: bool) -> None:
        named = [answer for answer in self.running() if everything or answer.ours]
        if named:
            self.do(self.store.generations.renew([answer.id for answer in named]))
        for answer in named:
            if answer.ours:
                answer.lease_until = self.clock.now + int(LEASE_SECONDS * 1_000_000)

    @rule()
    def sweep(self) -> None:
        closed = {generation.id for generation in self.do(self.store.generations.sweep())}
        lapsed = [answer for answer in self.running() if answer.lease_until < self.clock.now]
        assert closed == {answer.id for answer in lapsed}
        for answer in lapsed:
            self.end(answer, Status.INTERRUPTED, "interrupted")

    @rule()
    def restart(self) -> None:
        self.do(self.store.close())
        self.store = Store(self.driver, self.clock)
        self.do(self.store.open())
        for answer in self.running():
            answer.ours = False
            if self.driver.exclusive:
                self.end(answer, Status.INTERRUPTED, "interrupted")

    # Invariants

    @invariant()
    def sessions_are_the_same(self) -> None:
        assert self.do(self.store.sessions.count()) == len(self.model)
        for owner in ("anna", "ben"):
            found = self.do(self.store.sessions.page(owner, None, 1000))
            assert [session.created_at for session in found] == sorted((s.created_at for s in found), reverse=True)
            assert {(s.id, s.given_title, s.developer_message, s.message_count, s.created_at) for s in found} == {
                (one.id, one.title, one.developer_message, 2 * len(one.answers), one.made)
                for one in self.model.values()
                if one.owner == owner
            }

    @invariant()
    def conversations_are_the_same(self) -> None:
        for conversation in self.model.values():
            messages = self.do(self.store.messages.page_after(conversation.id, -1, 1000))
            assert [(message.role, message.text) for message in messages] == [
                line
                for answer in conversation.answers
                for line in ((Role.USER, answer.question), (Role.ASSISTANT, answer.text))
            ]
            statuses = [message.generation.status for message in messages if message.generation]
            assert statuses == [answer.status for answer in conversation.answers]

    @invariant()
    def contexts_are_the_same(self) -> None:
        for conversation in self.model.values():
            session = self.do(self.store.sessions.find(conversation.id))
            assert session is not None
            ended = all(answer.status is not Status.RUNNING for answer in conversation.answers)
            if session.head is not None and ended:
                told = select_history(self.do(self.store.messages.history(session.id, session.head, 1 << 20)))
                assert [(line.role, visible_text(line.parts)) for line in told] == [
                    line
                    for answer in conversation.answers
                    if answer.text or answer.called
                    for line in ((Role.USER, answer.question), (Role.ASSISTANT, answer.text))
                    if line[1]  # a call without a result is left out
                ]

    @invariant()
    def logs_are_the_same(self) -> None:
        for conversation in self.model.values():
            for answer in conversation.answers:
                log = self.do(self.store.generations.read_log(answer.id, 0))
                assert log is not None
                assert parts_of(log.pieces) == merged(answer.said)
                whole = "".join(text for _, text, _ in answer.said).encode()
                middle = self.do(self.store.generations.read_log(answer.id, len(whole) // 2))
                assert middle is not None
                assert b"".join(piece.data for piece in middle.pieces) == whole[len(whole) // 2 :]
            latest = self.do(self.store.generations.find_latest(conversation.id))
            assert (latest and latest.id) == (conversation.answers[-1].id if conversation.answers else None)


@pytest.mark.parametrize(("driver", "examples"), [("sqlite", 12), ("postgres", 5)])
def test_the_store_and_a_dictionary_give_the_same_results(driver: str, examples: int) -> None:
    drive(driver, examples, derandomize=True)


def drive(driver: str, examples: int, *, derandomize: bool) -> None:
    """Run this many sequences of calls, always the same ones or random ones."""
    bounded = settings(
        max_examples=examples,
        stateful_step_count=25,
        derandomize=derandomize,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine = type(f"{driver.capitalize()}Machine", (Machine,), {"driver_name": driver})
    run_state_machine_as_test(machine, settings=bounded)


def main() -> int:
    """Run random sequences on both databases: `python -m tests.test_store_machine --examples 500`."""
    parser = argparse.ArgumentParser(description="Compare the store with a dictionary in random sequences of calls.")
    parser.add_argument("--examples", type=int, default=200, help="sequences on each database (default %(default)s)")
    options = parser.parse_args()
    for driver in DRIVERS:
        drive(driver, options.examples, derandomize=False)
        print(f"{driver}: {options.examples} sequences, all equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
