"""Titles of sessions: derived from the first message unless the owner sets one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from chatapi.auth.authorization import Action, Caller, make_authorizer
from chatapi.model import Kind, Media, NewMessage, Part, Role, TurnRequest, user_text
from chatapi.simulator import Simulator, scripts
from chatapi.store import StartedTurn, Store
from chatapi.store.drivers.driver import Batch, Driver, Together, Transaction
from chatapi.store.schema import migrations
from chatapi.titles import title_of
from tests.server_process import Serve, Service
from tests.test_store import anyone, clock, driver, said, store
from tests.transactions import noted, transaction_of

__all__ = ["clock", "driver", "store"]  # fixtures

PIXEL = "data:image/png;base64,iVBORw0KGgo="
ONE_PROCESS = "the tests of the store see what replicas share"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello", "Hello"),
        ("\n \n  How   do I\tcook\u00a0rice?  \nI have a pan.", "How do I cook rice?"),
        ("a" * 60, "a" * 60),
        ("a" * 61, "a" * 59 + "…"),
        (
            "one two three four five six seven eight nine ten eleven twelve",
            "one two three four five six seven eight nine ten eleven…",
        ),
        ("Look " + "x" * 100, "Look " + "x" * 54 + "…"),
        ("word " * 12 + "end", "word " * 11 + "word…"),
        ("漢" * 70, "漢" * 59 + "…"),
        ("é" * 58 + "e\u0301\u0302x" * 3, "é" * 58 + "…"),
        ("é" * 58 + "👋🏽" * 3, "é" * 58 + "…"),
        ("é" * 58 + "🇩🇪🇫🇷", "é" * 58 + "…"),
        ("é" * 57 + "🇩🇪🇫🇷🇮🇹", "é" * 57 + "🇩🇪…"),
        ("\u0301" * 100, "\u0301…"),
        (" \n\t ", None),
    ],
    ids=range(14),
)
def test_a_title_is_the_first_line_cut_at_the_end_of_a_word(text: str, title: str | None) -> None:
    assert title_of(user_text(text)) == title
    assert len(title or "") <= 60


def test_a_message_without_text_is_titled_by_its_attachments() -> None:
    def of(*parts: Part) -> str | None:
        return title_of([NewMessage(Role.ASSISTANT, (Part(Kind.TEXT, "Hi"),)), NewMessage(Role.USER, parts)])

    image, recording = Part(Kind.IMAGE, media=Media(url=PIXEL)), Part(Kind.AUDIO, media=Media(data="UklG"))
    file, nameless = (Part(Kind.FILE, media=Media(data="aGk=", filename=name)) for name in ("Über\nuns.pdf", None))
    assert [of(image), of(recording), of(file), of(nameless)] == ["Image", "Recording", "Über", "File"]
    assert of(image, Part(Kind.TEXT, "What is it?")) == "What is it?"
    assert of() is None
    assert title_of([NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "sun"),))]) is None


async def test_a_session_is_named_once_and_never_against_its_owner(store: Store) -> None:
    first = await said(store, None, "one", "1")
    assert first.session.title == "one"
    assert (await said(store, first.session.id, "two", "2")).session.title == "one"
    await store.sessions.change(first.session.id, anyone, title="")
    assert (await said(store, first.session.id, "three", "3")).session.title is None, "removed"
    later = await store.sessions.create("anna", "Be kind.")
    await store.sessions.change(later.id, anyone, title="Mine")
    assert (await said(store, later.id, "four", "4")).session.title == "Mine"
    made = await store.sessions.create("anna", "Be kind.")
    assert (await said(store, made.id, "five", "5")).session.title == "five"
    stored = await store.sessions.find(made.id)
    assert stored is not None
    assert stored.title == "five"


async def test_a_message_before_the_first_turn_names_the_session(store: Store) -> None:
    told = NewMessage(Role.SYSTEM, (Part(Kind.TEXT, "Speak Latin."),))
    conversation = await store.sessions.create_with_messages("anna", {}, (told, *user_text("one")))
    assert conversation.title == "one"
    silent = await store.sessions.create_with_messages("anna", {}, (told,))
    assert silent.title is None
    await store.messages.add(silent.id, "anna", anyone, user_text("two"))
    assert (await said(store, silent.id, "three", "3")).session.title == "two"


async def test_a_title_is_removed_with_its_message(store: Store) -> None:
    first = await said(store, None, "a secret", "1")
    session_id = first.session.id
    second = await said(store, session_id, "two", "2")
    await store.messages.remove_answer(first.generation.id, anyone)
    left = await store.sessions.find(session_id)
    assert left is not None
    assert left.title == "two"
    assert (await store.messages.remove(session_id, second.input[0], anyone)).given_title is None
    assert (await said(store, session_id, "three", "3")).session.title == "three"
    await store.sessions.change(session_id, anyone, title="Mine")
    fourth = await said(store, session_id, "Mine too", "4")
    assert (await store.messages.remove(session_id, fourth.input[0], anyone)).title == "Mine"
    await store.sessions.change(session_id, anyone, title="")
    assert (await store.messages.remove(session_id, fourth.generation.message_id, anyone)).given_title == ""


async def test_a_title_costs_a_turn_no_statement(store: Store, driver: Driver) -> None:
    named, unnamed = await store.sessions.create("anna", ""), await store.sessions.create("anna", "")
    await store.sessions.change(named.id, anyone, title="Mine")
    asked: dict[str, list[Any]] = {}
    for session_id in (named.id, unnamed.id, ""):
        turn = TurnRequest("anna", session_id or None, "", user_text("one"), "gpt", "text")
        statements = asked[session_id] = []

        def begin(turn: TurnRequest = turn, statements: list[Any] = statements) -> Transaction[StartedTurn]:
            may = make_authorizer(Caller("anna"), Action.SPEND)
            return noted(transaction_of(store.turns.begin, turn, may), statements)

        (begun,) = (await driver.commit(Batch(store.replica, [begin]))).results
        assert begun.session.title == ("Mine" if session_id == named.id else "one")
    assert len(asked[unnamed.id]) == len(asked[named.id])
    (begin_at_once,) = asked[""]
    assert isinstance(begin_at_once, Together)
    assert begin_at_once.whole, "a session is created in one round trip to the database"


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def chat_of_the_seed(server: Service, key: str, text: str) -> None:
    assert server.send(text, key=key).content


def completions(server: Service, key: str, text: str) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "metadata": {"session_id": "new"}}
    assert server.post("/v1/chat/completions", key=key, json=body).status_code == 200


def responses(server: Service, key: str, text: str) -> None:
    assert server.post("/v1/responses", key=key, json={"model": "gpt-4o", "input": text}).status_code == 200


def conversation(server: Service, key: str, text: str) -> None:
    made = server.post("/v1/conversations", key=key, json={}).json()["id"]
    body = {"model": "gpt-4o", "input": text, "conversation": made}
    assert server.post("/v1/responses", key=key, json=body).status_code == 200


def use_chat(server: Service, key: str, text: str) -> None:
    said = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"id": "chat", "trigger": "submit-message", "messages": [said]}
    assert server.post("/api/chat", key=key, json=body).content


@pytest.mark.one_process(ONE_PROCESS)
@pytest.mark.parametrize("dialect", [chat_of_the_seed, completions, responses, conversation, use_chat])
def test_a_session_is_named_by_its_first_turn_in_every_dialect(server: Service, key: str, dialect: Any) -> None:
    dialect(server, key, "How do I cook rice?\nI have a pan.")
    (session,) = server.get("/api/sessions", key=key).json()["data"]
    assert session["title"] == "How do I cook rice?"


@pytest.mark.one_process(ONE_PROCESS)
def test_a_removed_title_does_not_come_back(server: Service, upstream: Simulator, key: str) -> None:
    upstream.script = scripts.refuse(401)
    session_id = server.send("One", key=key).headers["X-Session-ID"]
    upstream.script = None
    of = f"/api/sessions/{session_id}"
    assert server.get(of).json()["title"] == "One", "a refused turn is one too"
    assert server.patch(of, json={"title": ""}).json()["title"] is None
    assert server.send("Two", key=key, session_id=session_id).content
    assert server.get(of).json()["title"] is None
    (found,) = server.get("/api/search?q=one", key=key).json()["data"]
    assert (found["title"], found["role"]) == (None, "user")
    assert [tally["title"] for tally in server.get("/api/usage?by=session", key=key).json()["data"]] == [None]


def test_sessions_of_an_older_version_stay_without_a_title() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        for migration in migrations("sqlite"):
            if migration.name == "0007_titles.sql":
                rows = [("made", None, 0), ("used", None, 2), ("named", "Mine", 2)]
                add = "INSERT INTO session VALUES (?, NULL, '', ?, '{}', NULL, ?, 0, 0)"
                database.executemany(add, rows)
            database.executescript(migration.sql)
        titles = database.execute("SELECT id, title FROM session ORDER BY id").fetchall()
    assert titles == [("made", None), ("named", "Mine"), ("used", "")]
