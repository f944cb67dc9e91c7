"""Removing messages and answers from the tree, and finding responses: the same on every database."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from chatapi.errors import MessageNotFound, SessionBusy, SessionNotFound
from chatapi.model import ROOT, Message, user_text
from chatapi.store import StartedTurn, Store
from tests.test_store import PLENTY, anyone, clock, driver, nobody, store
from tests.test_tree import answered, turn

__all__ = ["clock", "driver", "store"]  # fixtures


async def asked(store: Store, session_id: str | None, question: str, **more: Any) -> StartedTurn:
    """Return a turn that was requested as a response."""
    return await answered(store, turn(session_id, user_text(question), dialect_data="{}", **more), f"to {question}")


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


async def path(store: Store, session_id: str) -> list[Message]:
    """Return the active path, checked: each message is a child of the one before, at the right depth."""
    found = await store.messages.page_after(session_id, -1, 100)
    assert [message.depth for message in found] == list(range(len(found)))
    assert [message.parent for message in found] == [None, *(message.id for message in found)][: len(found)]
    backwards = await store.messages.page_before(session_id, 1 << 30, 100)
    assert [message.id for message in backwards] == [message.id for message in reversed(found)]
    return found


@pytest.mark.parametrize("place", range(6))
async def test_after_removing_any_message_the_rest_stays_in_order(store: Store, place: int) -> None:
    first = await asked(store, None, "one")
    session_id = first.session.id
    for question in ("two", "three"):
        await asked(store, session_id, question)
    whole = await path(store, session_id)
    session = await store.messages.remove(session_id, whole[place].id, anyone)
    rest = await path(store, session_id)
    assert [message.id for message in rest] == [message.id for message in whole if message.id != whole[place].id]
    assert (session.head, session.message_count) == (rest[-1].id, 5)
    found = await store.sessions.find(session_id)
    assert found is not None
    assert replace(found, content_bytes=session.content_bytes) == session
    generation = whole[place].generation
    assert generation is None or await store.generations.find(generation.id) is None
    assert generation is None or await store.generations.find_dialect_data(generation.id) is None
    after = await asked(store, session_id, "four")
    assert (await path(store, session_id))[-1].id == after.generation.message_id
    said = await store.messages.history(session_id, after.input[0], PLENTY)
    assert len(said) >= 4, "it is still a valid conversation for an upstream"


async def test_removing_the_only_message_leaves_an_empty_session(store: Store) -> None:
    session = await store.sessions.create_with_messages("anna", {"a": "b"}, user_text("one"))
    (message,) = await path(store, session.id)
    emptied = await store.messages.remove(session.id, message.id, anyone)
    assert (emptied.head, emptied.message_count, emptied.metadata) == (None, 0, {"a": "b"})
    await asked(store, session.id, "two")
    assert texts(await path(store, session.id)) == ["two", "to two"]


async def test_messages_of_others_unknown_ones_and_the_running_answer_cannot_be_removed(store: Store) -> None:
    first = await asked(store, None, "one")
    session_id, answer = first.session.id, first.generation.message_id
    other = await asked(store, None, "other")
    with pytest.raises(SessionNotFound):
        await store.messages.remove(session_id, answer, nobody)
    with pytest.raises(SessionNotFound):
        await store.messages.remove_answer(first.generation.id, nobody)
    with pytest.raises(SessionNotFound):
        await store.messages.remove_answer("gen_none", anyone)
    with pytest.raises(MessageNotFound):
        await store.messages.remove(session_id, other.generation.message_id, anyone)
    await store.turns.begin(turn(session_id, user_text("two")), anyone)
    for attempt in (
        store.messages.remove(session_id, answer, anyone),
        store.messages.remove_answer(first.generation.id, anyone),
    ):
        with pytest.raises(SessionBusy):
            await attempt
    assert texts(await path(store, session_id)) == ["one", "to one", "two", ""]


async def test_an_answer_is_removed_with_its_question_and_the_following_messages_move_up(store: Store) -> None:
    first = await asked(store, None, "one")
    session_id = first.session.id
    second = await answered(
        store, turn(session_id, (*user_text("two"), *user_text("too")), dialect_data='{"n":2}'), "to both"
    )
    third = await asked(store, session_id, "three")
    assert texts(await store.messages.find_input(second.generation.id)) == ["two", "too"]
    await store.messages.remove_answer(second.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["one", "to one", "three", "to three"]
    assert await store.generations.find_dialect_data(second.generation.id) is None
    assert texts(await store.messages.find_input(third.generation.id)) == ["three"]
    await store.messages.remove_answer(first.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["three", "to three"]
    fourth = await asked(store, session_id, "four")
    await store.messages.remove(session_id, fourth.input[0], anyone)
    await store.messages.remove_answer(fourth.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["three", "to three"], "only its question was removed before"
    assert texts(await store.messages.find_input(third.generation.id)) == ["three"]
    await store.messages.remove_answer(third.generation.id, anyone)
    assert await store.sessions.find(session_id) is None
    assert await store.generations.find_dialect_data(third.generation.id) is None


async def test_a_question_with_another_answer_stays(store: Store, clock: Any) -> None:
    first = await asked(store, None, "one")
    session_id, question = first.session.id, first.input[0]
    clock.advance(1)
    second = await answered(store, turn(session_id, parent=question), "another")
    assert texts(await store.messages.find_input(second.generation.id)) == ["one"], (
        "an answer that was regenerated, in any dialect"
    )
    await store.messages.remove_answer(second.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["one", "to one"], "the other answer is active again"
    await store.messages.remove_answer(first.generation.id, anyone)
    assert await store.sessions.find(session_id) is None


async def test_removing_a_branch_leaves_the_others_unchanged(store: Store, clock: Any) -> None:
    first = await asked(store, None, "one")
    session_id = first.session.id
    left = await asked(store, session_id, "left")
    clock.advance(1)
    right = await asked(store, session_id, "right", parent=first.generation.message_id)
    edited = await asked(store, session_id, "edited", parent=ROOT)
    await store.messages.remove_answer(edited.generation.id, anyone)
    await store.sessions.change(session_id, anyone, head=right.generation.message_id)
    await store.messages.remove_answer(left.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["one", "to one", "right", "to right"]
    await store.messages.remove_answer(right.generation.id, anyone)
    assert texts(await path(store, session_id)) == ["one", "to one"]


async def test_a_deleted_session_leaves_no_text_of_its_responses(store: Store) -> None:
    first = await asked(store, None, "one")
    assert await store.generations.find_dialect_data(first.generation.id) == "{}"
    await store.sessions.delete(first.session.id, anyone)
    assert await store.generations.find_dialect_data(first.generation.id) is None
    with pytest.raises(SessionNotFound):
        await store.messages.find_input(first.generation.id)


async def test_pages_in_reverse_order_are_adjacent_and_bounded(store: Store) -> None:
    session = await store.sessions.create_with_messages(
        "anna", {}, tuple(message for number in range(7) for message in user_text(str(number)))
    )
    found: list[str] = []
    before = 1 << 30
    while page := await store.messages.page_before(session.id, before, 3):
        assert len(page) <= 3
        found += texts(page)
        before = page[-1].depth
    assert found == ["6", "5", "4", "3", "2", "1", "0"]
