"""Hostile text wherever the page shows text: titles, messages, answers, search, names of files and models, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from chatapi.simulator import Simulator, scripts
from tests.browser import Visitor
from tests.hostile_markdown import HOST, PAYLOADS
from tests.person import Person
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

AT = "2026-01-31T12:00:00+00:00"
CANARY = "window.ran = () => { window.hasRun = true }"
TITLES = 40  # on one page of the list
TEXTS = [payload for payload in PAYLOADS if "\0" not in payload]  # which no route takes
SHORT = [payload for payload in TEXTS if len(payload) <= 200 and "\n" not in payload]


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture
def person(server: Service, visitor: Visitor, key: str) -> Person:
    visitor.context.add_init_script(CANARY)
    return Person(visitor, server)


def bring(service: Service, key: str, title: str, texts: list[str]) -> str:
    """A chat with this title, in which user and model say these texts in turn; its id."""
    messages: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        message: dict[str, Any] = {
            "id": f"m{number}",
            "parent_id": f"m{number - 1}" if number else None,
            "role": "assistant" if number % 2 else "user",
            "parts": [{"type": "text", "text": text}],
            "created_at": AT,
        }
        if number % 2:
            source = {"url": f"javascript:ran('{number}')", "title": text}
            message["parts"].append({"type": "annotation", "text": f"{json.dumps(source)}\n"})
        else:
            message["parts"].append({"type": "image", "url": f"https:{HOST}/i.png"})
        messages.append(message)
    session = {
        "title": title,
        "developer_message": title,
        "metadata": {"chat.model": title},
        "head": messages[-1]["id"] if messages else None,
        "created_at": AT,
        "last_updated": AT,
    }
    document = {"format": "chatapi.session", "version": 1, "exported_at": AT, "session": session, "messages": messages}
    made = service.post("/api/sessions/import", key=key, json=document)
    assert made.status_code == 201, made.text
    return str(made.json()["session_id"])


def has_run(person: Person) -> bool:
    return bool(person.page.evaluate("window.hasRun === true"))


def test_no_title_message_or_found_text_runs_or_asks_anybody(server: Service, person: Person, key: str) -> None:
    for title in SHORT[:: len(SHORT) // TITLES]:
        bring(server, key, title, [])
    session_id = bring(server, key, SHORT[0], TEXTS)
    person.enter(key)
    links = person.page.get_by_role("navigation").get_by_role("link")
    expect(links.nth(TITLES)).to_be_visible()
    person.page.evaluate("id => { location.hash = `#/${id}` }", session_id)
    expect(person.answers.last).to_be_visible()
    articles = person.page.locator("article")
    while (shown := articles.count()) < len(TEXTS):
        person.page.get_by_role("log").evaluate("log => log.scrollTop = 0")
        expect(articles).not_to_have_count(shown)
    person.press("Settings of this chat")
    person.press("Cancel")
    for words in ("script", "onerror", "javascript"):
        person.page.keyboard.press("Control+k")
        person.page.get_by_role("combobox", name="Search your chats").fill(words)
        expect(person.page.get_by_role("dialog").get_by_role("option").first).to_be_visible()
        person.page.keyboard.press("Escape")
    assert not has_run(person)


def test_an_error_in_the_words_of_an_upstream_is_text(person: Person, upstream: Simulator, key: str) -> None:
    person.enter(key)
    for payload in TEXTS[:3]:
        upstream.script = scripts.refuse(400, message=payload)
        person.say(payload)
        expect(person.answers.last.get_by_role("alert")).to_contain_text(f"Failed: {payload}")
    assert not has_run(person)
    assert person.page.locator("article script, article img").count() == 0
