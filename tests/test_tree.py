"""A conversation is a tree: edit, regenerate, switch between branches; and messages with other content than text."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any, TypeVar

import pytest
import requests

from chatapi.errors import ContextTooLarge, MessageNotFound, NothingToAnswer, SessionBusy, SessionNotFound
from chatapi.generations.history import select_history
from chatapi.model import (
    ROOT,
    Alias,
    Kind,
    Media,
    NewMessage,
    Part,
    Role,
    Session,
    ToolCall,
    TurnRequest,
    user_text,
    visible_text,
)
from chatapi.simulator import Chunks, Gate, Send, Simulator, Wait, scripts
from chatapi.store import StartedTurn, Store
from chatapi.store.drivers.driver import Batch, Driver, Transaction
from tests.reader import EVENTS, Reader
from tests.server_process import Serve, Service, events
from tests.test_store import PLENTY, REFUSED, Writer, anyone, clock, driver, nobody, said, store
from tests.transactions import noted, transaction_of

__all__ = ["clock", "driver", "store"]  # fixtures

T = TypeVar("T")
CALL = ToolCall("call_1", "weather")
CHUNKS = Chunks()


def turn(session_id: str | None, input: tuple[NewMessage, ...] = (), **more: Any) -> TurnRequest:
    return TurnRequest("anna", session_id, None, input, "gpt", "text", **more)


async def answered(store: Store, turn: TurnRequest, text: str) -> StartedTurn:
    """Start and end a turn."""
    begun = await store.turns.begin(turn, anyone)
    await (await Writer(begun).write(store, text)).finish(store)
    return begun


async def shown(store: Store, session_id: str) -> list[tuple[str, int, int]]:
    """Return the active path: the text of each message, its position among its siblings, and their number."""
    return [
        (message.text, message.siblings.index(message.id) + 1, len(message.siblings))
        for message in await store.messages.page_after(session_id, -1, 100)
    ]


async def told(store: Store, begun: StartedTurn, input: tuple[NewMessage, ...] = ()) -> list[str]:
    """Return the texts that the upstream receives for a turn."""
    path = await store.messages.history(begun.session.id, begun.parent, PLENTY) if begun.parent else []
    return [visible_text(line.parts) for line in select_history([*path, *input])]


# In the store


async def test_consecutive_answers_and_results_are_one_run(store: Store, clock: Any) -> None:
    first = await said(store, None, "one", "a call")
    session_id, top = first.session.id, first.generation.message_id
    result = (NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "sun", CALL),)),)
    clock.advance(1)
    second = await answered(store, turn(session_id, result), "sunny")
    clock.advance(1)
    third = await answered(store, turn(session_id, parent=second.input[0]), "rainy")
    clock.advance(1)
    await said(store, session_id, "two", "later")
    for message_id, last in (
        (top, third),
        (second.input[0], third),
        (third.generation.message_id, third),
        (second.generation.message_id, second),
    ):
        run = await store.messages.answer_run(session_id, message_id)
        assert [message.id for message in run] == [top, second.input[0], last.generation.message_id]
    assert [part.text for message in run for part in message.parts] == ["a call", "sun", "sunny"]
    with pytest.raises(MessageNotFound):
        await store.messages.answer_run("ses_other", top)


async def test_a_run_that_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await said(store, None, "one", "a call")
    result = (NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "x" * 500, CALL),)),)
    second = await answered(store, turn(first.session.id, result), "sunny")
    both = (first.generation.message_id, second.generation.message_id)  # the result is below the one, above the other
    for most, refused in ((1_000, False), (400, True)):
        monkeypatch.setattr("chatapi.store.messages.RUN_BYTES", most)
        for message_id in both:
            with pytest.raises(ContextTooLarge) if refused else nullcontext():
                await store.messages.answer_run(first.session.id, message_id)


async def test_a_regenerated_answer_is_a_sibling_of_the_old_one(store: Store, clock: Any) -> None:
    first = await said(store, None, "one", "old")
    session_id = first.session.id
    clock.advance(1)
    second = await answered(store, turn(session_id, parent=first.input[0]), "new")
    assert second.input == ()
    assert await told(store, second) == ["one"]
    assert await shown(store, session_id) == [("one", 1, 1), ("new", 2, 2)]
    assert second.session.message_count == 3
    await said(store, session_id, "two", "2")
    assert await shown(store, session_id) == [("one", 1, 1), ("new", 2, 2), ("two", 1, 1), ("2", 1, 1)]


async def test_an_edited_message_is_a_sibling_of_the_old_one_and_each_keeps_its_branch(
    store: Store, clock: Any
) -> None:
    first = await said(store, None, "one", "1")
    session_id = first.session.id
    second = await said(store, session_id, "two", "2")
    clock.advance(1)
    edited = await answered(store, turn(session_id, user_text("zwei"), parent=first.session.head), "II")
    assert await told(store, edited, user_text("zwei")) == ["one", "1", "zwei"]
    assert await shown(store, session_id) == [("one", 1, 1), ("1", 1, 1), ("zwei", 2, 2), ("II", 1, 1)]
    clock.advance(1)
    await answered(store, turn(session_id, user_text("eins"), parent=ROOT), "I")
    assert await shown(store, session_id) == [("eins", 2, 2), ("I", 1, 1)]
    # Back to the first branch: the id of any message on it is enough.
    session = await store.sessions.change(session_id, anyone, head=second.input[0])
    assert session.head == second.session.head
    assert [text for text, _, _ in await shown(store, session_id)] == ["one", "1", "two", "2"]
    session = await store.sessions.change(session_id, anyone, head=first.input[0])
    assert session.head == edited.session.head, "from there along the newest branch"
    latest = await store.generations.find_latest(session_id)
    assert latest is not None
    assert latest.id == edited.generation.id


async def test_the_pages_of_a_tree_know_the_siblings_of_each_message(store: Store, clock: Any) -> None:
    first = await said(store, None, "one", "1")
    for number in range(3):
        clock.advance(1)
        await answered(store, turn(first.session.id, parent=first.input[0]), f"again {number}")
    await said(store, first.session.id, "two", "2")
    whole = await store.messages.page_after(first.session.id, -1, 100)
    paged = [await store.messages.page_after(first.session.id, depth - 1, 1) for depth in range(4)]
    assert [message for page in paged for message in page] == whole
    assert len(whole[1].siblings) == 4


async def test_a_turn_needs_a_valid_parent(store: Store) -> None:
    first, other = await said(store, None, "one", "1"), await said(store, None, "hers", "2")
    before = await store.sessions.find(first.session.id)
    for wrong, error in (
        (turn(first.session.id, user_text("x"), parent=other.session.head), MessageNotFound),
        (turn(first.session.id, user_text("x"), parent="msg_none"), MessageNotFound),
        (turn(None, user_text("x"), parent=first.session.head), MessageNotFound),
        (turn(first.session.id), NothingToAnswer),
        (turn(first.session.id, parent=first.session.head), NothingToAnswer),
        (turn(first.session.id, parent=ROOT), NothingToAnswer),
        (turn(None), NothingToAnswer),
    ):
        with pytest.raises(error):
            await store.turns.begin(wrong, anyone)
    with pytest.raises(MessageNotFound):
        await store.sessions.change(first.session.id, anyone, head=other.session.head)
    with pytest.raises(SessionNotFound):
        await store.sessions.change(first.session.id, nobody, head=first.input[0])
    assert await store.sessions.find(first.session.id) == before
    assert await store.sessions.count() == 2


async def test_the_head_cannot_be_moved_during_an_answer(store: Store) -> None:
    first = await said(store, None, "one", "1")
    await store.turns.begin(turn(first.session.id, user_text("two")), anyone)
    with pytest.raises(SessionBusy):
        await store.sessions.change(first.session.id, anyone, head=first.input[0])
    with pytest.raises(SessionBusy):
        await store.messages.add(first.session.id, "anna", anyone, user_text("x"))


async def test_a_client_brings_its_own_history(store: Store) -> None:
    parts = (
        Part(Kind.TEXT, "Look"),
        Part(Kind.IMAGE, media=Media(url="data:image/png;base64,AAAA", detail="low")),
        Part(Kind.FILE, media=Media(file_id="file-1", filename="ä.txt")),
    )
    history = (
        NewMessage(Role.DEVELOPER, (Part(Kind.TEXT, "Be brief."),)),
        NewMessage(Role.USER, parts),
        NewMessage(Role.ASSISTANT, (Part(Kind.TOOL_CALL, '{"x":1}', CALL),)),
        NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "sunny", ToolCall(CALL.id)),)),
        *user_text("so?") * 40,
    )
    begun = await answered(store, turn(None, history), "Sunny.")
    assert begun.session.message_count == 45
    messages = await store.messages.page_after(begun.session.id, -1, 100)
    assert [(message.role, message.parts) for message in messages[:-1]] == [(one.role, one.parts) for one in history]
    assert [message.parent for message in messages[1:]] == [message.id for message in messages[:-1]]
    assert tuple(message.id for message in messages[:-1]) == begun.input
    assert begun.session.head is not None
    assert await store.messages.history(begun.session.id, begun.session.head, PLENTY) == [
        *history,
        NewMessage(Role.ASSISTANT, (Part(Kind.TEXT, "Sunny."),)),
    ]
    found = await store.messages.find(begun.session.id, begun.input[1])
    assert found is not None
    assert (found.parts, found.parent) == (parts, begun.input[0])
    assert await store.messages.find("ses_none", begun.input[1]) is None


async def test_tool_results_survive_the_refusal_of_the_turn_that_sent_them(store: Store) -> None:
    begun = await store.turns.begin(turn(None, user_text("weather?")), anyone)
    writer = await Writer(begun).write(store, "{}", Kind.TOOL_CALL, CALL)
    await writer.finish(store)
    result = NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "sunny", ToolCall(CALL.id)),))
    refused = await store.turns.begin(turn(begun.session.id, (result, *user_text("so?"))), anyone)
    await Writer(refused).finish(store, REFUSED)
    assert refused.session.head is not None
    path = await store.messages.history(begun.session.id, refused.session.head, PLENTY)
    assert [one.role for one in select_history([*path, *user_text("again")])] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.USER,
    ]


async def test_messages_are_added_without_an_answer(store: Store) -> None:
    session = await store.sessions.create("anna", "")
    ids = await store.messages.add(session.id, "anna", anyone, user_text("one") + user_text("two"))
    begun = await answered(store, turn(session.id), "both")
    assert begun.parent == ids[-1]
    assert await told(store, begun) == ["one", "two"]
    assert [text for text, _, _ in await shown(store, session.id)] == ["one", "two", "both"]
    assert begun.session.message_count == 3


async def test_the_name_of_a_client_finds_or_creates_its_session(store: Store) -> None:
    chat, message = Alias("chat", "my-chat"), Alias("message", "my-message")
    named = (NewMessage(Role.USER, (Part(Kind.TEXT, "one"),), message),)
    first = await answered(store, turn(None, named, alias=chat), "1")
    assert await store.aliases.resolve("anna", chat) == first.session.id
    assert await store.aliases.resolve("anna", message) == first.input[0]
    assert await store.aliases.resolve("ben", chat) is None
    assert await store.aliases.resolve("anna", Alias("other", "my-chat")) is None
    second = await answered(store, turn(None, user_text("two"), alias=chat), "2")
    assert second.session.id == first.session.id
    hers = TurnRequest("ben", None, None, user_text("hers"), "gpt", "text", alias=chat)
    assert (await answered(store, hers, "3")).session.id != first.session.id
    with pytest.raises(SessionNotFound):
        await store.turns.begin(turn(None, user_text("x"), alias=chat), nobody)
    await store.sessions.delete(first.session.id, anyone)
    assert await store.aliases.resolve("anna", chat) is None
    assert await store.aliases.resolve("anna", message) is None
    assert (await answered(store, turn(None, user_text("anew"), alias=chat), "4")).session.message_count == 2


async def test_of_concurrent_sends_with_a_new_name_one_creates_the_session(store: Store) -> None:
    async def send() -> str:
        try:
            return (await store.turns.begin(turn(None, user_text("x"), alias=Alias("chat", "new")), anyone)).session.id
        except SessionBusy:
            return "busy"

    outcomes = await asyncio.gather(*(send() for _ in range(10)))
    assert sorted(outcome == "busy" for outcome in outcomes) == [False] + [True] * 9
    assert await store.sessions.count() == 1


# Over HTTP


def whole(response: requests.Response) -> requests.Response:
    """Return the response, read to its end: the next turn may start."""
    assert response.content is not None
    return response


def calling(*, text: str = "") -> scripts.Script:
    """Return an answer with two interleaved tool calls and a citation."""
    return scripts.event_stream(
        Send(CHUNKS.role()),
        *([Send(CHUNKS.content(text))] if text else []),
        Send(
            CHUNKS.annotation({"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "ä\n"}})
        ),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(1, id="call_2", name="time")),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(b"data: [DONE]\n\n"),
    )


CALLED = [
    {"type": "tool_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"東京"}'},
    {"type": "tool_call", "call_id": "call_2", "name": "time", "arguments": "{}"},
]


def test_tool_calls_are_events_and_parts_and_not_text(service: Service, simulator: Simulator) -> None:
    simulator.script = calling(text="Let me see.")
    assert service.send().text == "Let me see."
    answer = service.send(headers=EVENTS)
    told = [(name, data) for name, _, data in events(answer)]
    arguments: dict[str, str] = {}
    for name, data in told:
        if name == "tool_call":
            arguments[data["call_id"]] = arguments.get(data["call_id"], "") + data["arguments"]
    assert arguments == {"call_1": '{"city":"東京"}', "call_2": "{}"}
    assert told[-1] == ("done", {"status": "completed", "finish_reason": "tool_calls"})
    (annotation,) = [data["text"] for name, data in told if name == "annotation"]
    assert json.loads(annotation)["url_citation"]["title"] == "ä\n"
    as_json = service.send(stream=False).json()
    assert as_json["parts"][0] == {"type": "text", "text": "Let me see."}
    assert [part for part in as_json["parts"] if part["type"] == "tool_call"] == CALLED
    listed = service.messages(answer.headers["X-Session-ID"])[1]
    assert listed["parts"] == as_json["parts"]
    assert (listed["content"], listed["finish_reason"]) == ("Let me see.", "tool_calls")


def test_a_call_without_a_result_leaves_the_session_usable(service: Service, simulator: Simulator) -> None:
    simulator.script = calling()
    session_id = whole(service.send("What is the weather?")).headers["X-Session-ID"]
    simulator.script = None
    assert service.send("Never mind.", session_id=session_id).status_code == 200
    assert [message["content"] for message in simulator.requests[-1].body["messages"][1:]] == [
        "What is the weather?",
        "Never mind.",
    ]


def test_a_call_survives_a_kill(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    simulator.script = scripts.event_stream(
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')), Wait(gate)
    )
    service = serve()
    with Reader.chat(service, headers=EVENTS) as reader:
        reader.read_until('{\\"city\\":')
        service.kill()
    service.start()
    (part,) = service.messages(reader.session_id)[1]["parts"]
    assert part == {"type": "tool_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":'}
    simulator.script = None
    Reader.resume(service, reader.session_id).read_all()  # until it is closed as interrupted
    assert service.send("Go on", session_id=reader.session_id).status_code == 200


def test_a_page_can_switch_between_branches(service: Service) -> None:
    session_id = whole(service.send("one")).headers["X-Session-ID"]
    whole(service.send("two", session_id=session_id))
    first, answer, *_ = service.messages(session_id)
    assert first["sibling_ids"] == [first["id"]]
    session = service.patch(f"/api/sessions/{session_id}", json={"head": first["id"]}).json()
    assert session["head"] == service.messages(session_id)[-1]["id"]
    assert session["message_count"] == 4
    wrong = service.patch(f"/api/sessions/{session_id}", json={"head": "msg_none"})
    assert (wrong.status_code, wrong.json()["code"]) == (404, "message_not_found")
    assert answer["parent_id"] == first["id"]


async def test_switching_to_a_long_path_takes_as_few_statements_as_to_a_short_one(store: Store, driver: Driver) -> None:
    asked: dict[int, list[Any]] = {}
    for length in (1, 3_000):
        first = await said(store, None, "one", "1")
        await store.messages.add(first.session.id, "anna", anyone, user_text("and so on") * length)
        session = await store.sessions.find(first.session.id)
        assert session is not None
        statements = asked[length] = []

        def switch(begun: StartedTurn = first, statements: list[Any] = statements) -> Transaction[Session]:
            change = transaction_of(store.sessions.change, begun.session.id, anyone, head=begun.input[0])
            return noted(change, statements)

        (changed,) = (await driver.commit(Batch("rep_test", [switch]))).results
        assert changed.head == session.head
    assert len(asked[3_000]) == len(asked[1])
