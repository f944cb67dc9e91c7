"""Search finds every message that contains the words, once, and no message of other owners."""

from __future__ import annotations

import sys
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatapi.model import ROOT, Kind, Media, NewMessage, Part, Role, SearchCursor, ToolCall, user_text
from chatapi.search import (
    _MARKS,
    BEFORE,
    MARKS,
    MOST_CANDIDATES,
    MOST_CHARACTERS,
    RUN_CHARACTERS,
    Words,
    fold,
    search,
    snippet,
)
from chatapi.store import Candidate, Store
from chatapi.store.scans import SEARCH_BATCH, SESSIONS_PER_BATCH, STEP_ROWS
from tests.server_process import Service, fresh_key
from tests.test_store import Clock, Writer, anyone, begin, clock, driver, said, store
from tests.test_tree import answered, turn

__all__ = ["clock", "driver", "store"]  # fixtures

MOST_PAGES = 50  # for any search here


def found(query: str, text: str) -> str | None:
    """Return the parts of the text that are marked as found."""
    place = Words(query).find(text)
    return None if place is None else text[slice(*place)]


# Words

LETTERS = "aAéE\u0301\u0327ßs ﬁfi\u03a3\u03c3\u03c2\u1100\u1161\u11a8\uac01\uff41\n"  # some fold to the same text


@pytest.mark.parametrize(
    ("query", "text", "what"),
    [
        ("hello", "Say HELLO there", "HELLO"),
        ("STRASSE", "In der Straße", "Straße"),
        ("straße", "STRASSENBAHN", "STRASSE"),
        ("σίσυφος", "ΣΊΣΥΦΟΣ", "ΣΊΣΥΦΟΣ"),
        ("café", "cafe\u0301 au lait", "cafe\u0301"),
        ("cafe\u0301", "ein Café", "Café"),
        ("cafe", "ein Café", None),
        ("résumé", "RE\u0301SUME\u0301", "RE\u0301SUME\u0301"),
        ("fi", "eﬃcient", "ﬃ"),
        ("abc", "\uff21\uff22\uff23", "\uff21\uff22\uff23"),  # full width
        ("東京", "私は東京が好き", "東京"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
        ("👋🏽", "Hi 👋🏽!", "👋🏽"),
        ("one two", "two, then one", "one"),
        ("one\u00a0 two\n", "two, then one", "one"),
        ("one three", "two, then one", None),
        ("one on", "one", "one"),
        ("on one", "one", "on"),
        ("a", "a\u0301 a", "a"),
        ("100%", "100% _sure_", "100%"),
        ("_sure_ %", "100% _sure_", "_sure_"),
        ("x" * 200, "y" * 200, None),
        ("\u0301", "e\u0301", "\u0301"),
        ("ﷺ", "صلى الله عليه وسلم", "صلى"),
    ],
)
def test_words_are_found_in_any_spelling(query: str, text: str, what: str | None) -> None:
    assert found(query, text) == what


def test_a_query_of_spaces_has_no_word() -> None:
    assert Words(" \t\u3000\n").first == ""


@pytest.mark.parametrize("word", ["needle", "NÄDEL", "na\u0308del", "ﬃx"])
def test_a_word_across_two_runs_is_found(word: str) -> None:
    for at in range(RUN_CHARACTERS - len(word) - 1, RUN_CHARACTERS + 2):
        text = "ß" * at + word + " " * 10
        assert Words(word).find(text) == (at, at + len(word)), at


def test_endless_combining_marks_are_searched_in_time() -> None:
    text = ("a" + "\u0301" * (2 * MARKS)) * 500
    assert found("a b", text) is None
    assert found("b", text + "b") == "b"


@pytest.mark.parametrize("marks", ["\u0301\u0323", "\u0323\u0301\u0345\u0334", "\u0f73\u0f81", "\uff9e\u0334"])
def test_unordered_combining_marks_do_not_block_the_event_loop(marks: str) -> None:
    text = "a" + "".join(mark * (RUN_CHARACTERS // len(marks)) for mark in marks)
    for one in (text, text[::-1], marks * (RUN_CHARACTERS // len(marks))):
        begun = time.thread_time()
        fold(one[:RUN_CHARACTERS])
        assert time.thread_time() - begun < 0.1, "the event loop was blocked"


def test_combining_marks_are_distinguished_from_characters_with_marks() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        made = unicodedata.normalize("NFKD", character)
        assert (character in _MARKS) == all(map(unicodedata.combining, made)), f"U+{ord(character):04X}"


@settings(deadline=None, derandomize=True)
@given(st.text(LETTERS, max_size=40), st.text(LETTERS, min_size=1, max_size=2))
def test_the_search_finds_the_same_as_a_simple_one(text: str, query: str) -> None:
    words = fold(query).split()

    def ends(at: int, word: str) -> bool:
        return not fold(text)[at + len(word) :][:1] or not unicodedata.combining(fold(text)[at + len(word)])

    plainly = all(
        any(fold(text).startswith(word, at) and ends(at, word) for at in range(len(fold(text)))) for word in words
    )
    place = Words(query).find(text) if words else None
    assert (place is not None) == (plainly and bool(words)), (text, query)
    if place is not None:
        assert words[0] in fold(text[slice(*place)])


@pytest.mark.parametrize("begin", [0, 1, BEFORE - 1, BEFORE, BEFORE + 1, 5000, 9994])
def test_a_snippet_shows_the_position_of_the_word(begin: int) -> None:
    text = "lorem\n\tipsum " * 800
    text = text[:begin] + "Ne\ned" + text[begin : 10_000 - 5]
    shown, (start, end) = snippet(text, begin, begin + 5)
    assert shown[start:end] == "Ne ed"
    assert "\n" not in shown
    assert len(shown) < 200


# In the store


async def everything(store: Store, owner: str) -> list[Candidate]:
    """Return all candidates in order."""
    candidates: list[Candidate] = []
    place: SearchCursor | None = None
    for _ in range(MOST_PAGES):
        more, place = await store.scans.search_batch(owner, place)
        candidates += more
        if place is None:
            return candidates
    raise AssertionError("it goes round in circles")


async def test_every_message_of_every_branch_is_searched_once(store: Store, clock: Clock) -> None:
    first = await said(store, None, "one", "1")
    session_id = first.session.id
    expected = {"one", "1"}
    for number in range(STEP_ROWS + 5):
        clock.advance(number % 2)
        parent = first.generation.message_id if number % 3 else None
        await answered(store, turn(session_id, user_text(f"q{number}"), parent=parent), f"a{number}")
        await answered(store, turn(session_id, user_text(f"r{number}"), parent=ROOT), f"b{number}")
        expected |= {f"q{number}", f"a{number}", f"r{number}", f"b{number}"}
    await store.sessions.change(session_id, anyone, title="Ours")
    texts = [candidate.text for candidate in await everything(store, "anna")]
    assert sorted(texts) == sorted([*expected, "Ours"])
    assert texts[0] == "Ours"
    assert await everything(store, "bert") == []


async def test_the_newest_session_comes_first_and_an_empty_one_does_not_end_the_search(
    store: Store, clock: Clock
) -> None:
    for number in range(SESSIONS_PER_BATCH + 5):
        session = await store.sessions.create("anna", "")
        if number % 10 == 0:
            await store.sessions.change(session.id, anyone, title=f"{number:03}")
        clock.advance(1)
    titles = [candidate.text for candidate in await everything(store, "anna")]
    assert titles == sorted(titles, reverse=True)
    assert len(titles) == 7


async def test_a_batch_is_bounded_and_continues_from_any_cursor(store: Store, clock: Clock) -> None:
    for count in (SEARCH_BATCH + 3, 40):
        await store.sessions.create_with_messages("anna", {}, user_text("one") * count)
        clock.advance(1)
    whole = await everything(store, "anna")
    assert len(whole) == SEARCH_BATCH + 43 + 2, "messages and titles"
    first, _ = await store.scans.search_batch("anna", None)
    assert SEARCH_BATCH <= len(first) < SEARCH_BATCH + STEP_ROWS
    for index in (0, 39, 40, 41, 42, 100, len(whole) - 1):
        more, _ = await store.scans.search_batch("anna", whole[index].place)
        assert more == whole[index + 1 : index + 1 + len(more)], index


async def test_large_messages_come_in_small_batches(store: Store) -> None:
    await store.sessions.create_with_messages("anna", {}, user_text("x" * 400_000) * 10)
    lot, place = await store.scans.search_batch("anna", None)
    assert 0 < len(lot) < 10
    assert place is not None
    assert len(await everything(store, "anna")) == 10 + 1, "and a title"


async def test_one_search_visits_a_bounded_number_of_sessions_even_without_matches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.search.MOST_CANDIDATES", 2 * SESSIONS_PER_BATCH)
    for _ in range(3 * SESSIONS_PER_BATCH):
        await store.sessions.create("anna", "Be brief.")
    found = await search(store, "anna", Words("x"), None, 1)
    assert found.hits == []
    assert found.place is not None, "it did not end"
    assert (await search(store, "anna", Words("x"), found.place, 1)).place is None


async def test_a_cursor_into_a_session_of_another_owner_finds_nothing(store: Store, clock: Clock) -> None:
    hers = await said(store, None, "secret", "secret")
    place = (await everything(store, "anna"))[0].place
    assert await store.scans.search_batch("bert", place) == ([], None)
    clock.advance(1)
    his = await store.sessions.create_with_messages("bert", {}, user_text("plain"))
    forged = place._replace(created_at=his.created_at + 1)
    assert {candidate.session_id for candidate in (await store.scans.search_batch("bert", forged))[0]} == {his.id}
    assert hers.session.id != his.id


async def test_only_visible_text_is_searched(store: Store) -> None:
    call = ToolCall("call_1", "weather")
    shown = (
        Part(Kind.TEXT, "see "),
        Part(Kind.IMAGE, media=Media(url="data:image/png;base64,needle")),
        Part(Kind.TEXT, "this"),
    )
    thoughts = (Part(Kind.REASONING, "needle"), Part(Kind.TEXT, "said"), Part(Kind.TOOL_CALL, "needle", call))
    result = (Part(Kind.TOOL_RESULT, "needle", call),)
    input = (NewMessage(Role.USER, shown), NewMessage(Role.ASSISTANT, thoughts), NewMessage(Role.TOOL, result))
    await store.sessions.create_with_messages("anna", {}, input)
    assert {candidate.text for candidate in await everything(store, "anna")} == {"see this", "said", ""}


async def test_a_running_answer_is_found_when_it_has_ended(store: Store) -> None:
    begun = await begin(store, None, "question")
    writer = await Writer(begun).write(store, "needle")
    assert {candidate.text for candidate in await everything(store, "anna")} == {"question", ""}
    await writer.finish(store)
    assert {candidate.text for candidate in await everything(store, "anna")} == {"question", "needle"}


async def test_developer_messages_are_not_searched(store: Store) -> None:
    said_by = [NewMessage(role, (Part(Kind.TEXT, "needle"),)) for role in (Role.SYSTEM, Role.DEVELOPER, Role.USER)]
    await store.sessions.create_with_messages("anna", {}, tuple(said_by))
    found = await search(store, "anna", Words("needle"), None, 100)
    assert [hit.role for hit in found.hits] == [None, "user"]


async def test_one_request_searches_a_bounded_amount(store: Store, clock: Clock) -> None:
    await store.sessions.create_with_messages("anna", {}, user_text("needle"))
    clock.advance(1)
    await store.sessions.create_with_messages("anna", {}, user_text("hay") * (MOST_CANDIDATES + 2 * SEARCH_BATCH))
    clock.advance(1)
    await store.sessions.create_with_messages("anna", {}, user_text("x" * (MOST_CHARACTERS // 4)) * 5)
    first = await search(store, "anna", Words("needle"), None, 100)
    assert first.hits == []
    assert first.place is not None
    second = await search(store, "anna", Words("needle"), first.place, 100)
    assert second.hits == []
    assert second.place is not None
    third = await search(store, "anna", Words("needle"), second.place, 100)
    assert [hit.role for hit in third.hits] == [None, "user"]
    assert third.place is None


# The route


def pages(service: Service, key: str, query: str, limit: int = 100) -> list[list[dict[str, Any]]]:
    """Return all results, page by page."""
    shown: list[list[dict[str, Any]]] = []
    parameters: dict[str, Any] = {"q": query, "limit": limit}
    while len(shown) < MOST_PAGES:
        response = service.get("/api/search", key=key, params=parameters)
        assert response.status_code == 200, response.text
        page = response.json()
        assert page.keys() == {"data", "next_cursor"}
        assert len(page["data"]) <= limit
        shown.append(page["data"])
        if page["next_cursor"] is None:
            return shown
        parameters["cursor"] = page["next_cursor"]
    raise AssertionError("it goes round in circles")


def hits(service: Service, key: str, query: str, limit: int = 100) -> list[dict[str, Any]]:
    return [hit for page in pages(service, key, query, limit) for hit in page]


def test_a_user_finds_own_questions_and_answers_and_other_users_do_not(shared: Service) -> None:
    mine, theirs = fresh_key("search-mine"), fresh_key("search-theirs")
    first = shared.send("Count to 3, Grüße aus TŌKYŌ", key=mine).headers["X-Session-ID"]
    second = shared.send("count to 5, said grüsse", key=mine).headers["X-Session-ID"]
    shared.patch(f"/api/sessions/{first}", key=mine, json={"title": "Counting"})
    shared.patch(f"/api/sessions/{second}", key=mine, json={"title": ""})
    for session_id in (first, second):
        shared.get(f"/api/chat/{session_id}/stream?offset=0", key=mine).close()  # to its end
    question, answer = shared.messages(first, key=mine)
    assert [(hit["session_id"], hit["role"]) for hit in hits(shared, mine, "GRÜSSE")] == [
        (second, "user"),
        (first, "user"),
    ]
    (hit,) = hits(shared, mine, "grüße tōkyō")
    assert hit == {
        "session_id": first,
        "title": "Counting",
        "message_id": question["id"],
        "role": "user",
        "created_at": question["created_at"],
        "snippet": "Count to 3, Grüße aus TŌKYŌ",
        "match": [12, 17],
    }
    titles = [hit for hit in hits(shared, mine, "counting") if hit["message_id"] is None]
    assert [(hit["session_id"], hit["role"], hit["match"]) for hit in titles] == [(first, None, [0, 8])]
    assert answer["id"] in [hit["message_id"] for hit in hits(shared, mine, "1 2 3")]
    for limit in (1, 2, 3):
        assert hits(shared, mine, "o", limit) == hits(shared, mine, "o")
    assert hits(shared, theirs, "o") == []
    cursor = shared.get("/api/search", key=mine, params={"q": "o", "limit": 1}).json()["next_cursor"]
    forged = shared.get("/api/search", key=theirs, params={"q": "o", "cursor": cursor})
    assert forged.json() == {"data": [], "next_cursor": None}
    assert shared.delete(f"/api/sessions/{first}", key=mine).status_code == 200
    assert {hit["session_id"] for hit in hits(shared, mine, "o")} == {second}


@pytest.mark.one_process("it is about a query, and one process answers it as any does")
def test_a_search_needs_a_key_and_words(shared: Service) -> None:
    key = fresh_key("search-bad")
    assert shared.get("/api/search?q=x").status_code == 401
    for query in (
        "",
        "q=",
        "q=%20%0a",
        "q=" + "x" * 201,
        "q=x&limit=0",
        "q=x&limit=101",
        "q=x&cursor=x",
        "q=x&cursor=" + "A" * 500,
        "q=x&cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTo6OjA6",
    ):
        assert shared.get(f"/api/search?{query}", key=key).status_code == 422, query
    for query in ("%00", "%ff%fe", "'%3B--", "%25", "_", "\\", "%ED%A0%80"):
        response = shared.get(f"/api/search?q={query}", key=key)
        assert (response.status_code, response.json()) == (200, {"data": [], "next_cursor": None}), query
