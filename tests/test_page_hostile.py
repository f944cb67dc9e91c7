"""Hostile text in titles, messages, answers, search results, names of files and models, and errors."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Request, expect

from chatapi.simulator import Simulator, scripts
from tests.browser import Visitor, accessibility_violations
from tests.chat_page import ChatPage
from tests.hostile_markdown import DIAGRAMS, HOST, MARKUPS, PAYLOADS
from tests.server_process import Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

AT = "2026-01-31T12:00:00+00:00"
CANARY = "window.ran = () => { window.hasRun = true }"
TITLES = 40  # fit on one page of the list
TEXTS = [payload for payload in PAYLOADS if "\0" not in payload]  # no route accepts NUL
SHORT = [payload for payload in TEXTS if len(payload) <= 200 and "\n" not in payload]


@pytest.fixture(scope="module")
def upstream(page_upstream: Simulator) -> Simulator:
    return page_upstream


@pytest.fixture
def chat_page(server: Service, visitor: Visitor, key: str) -> ChatPage:
    visitor.add_init_script(CANARY)
    return ChatPage(visitor, server)


def import_chat(service: Service, key: str, title: str, texts: list[str]) -> str:
    """Import a chat with this title and these texts, alternating between user and model. Returns its id."""
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


def has_run(chat_page: ChatPage) -> bool:
    return bool(chat_page.page.evaluate("window.hasRun === true"))


def test_hostile_titles_and_messages_neither_run_nor_load(server: Service, chat_page: ChatPage, key: str) -> None:
    for title in SHORT[:: len(SHORT) // TITLES]:
        import_chat(server, key, title, [])
    session_id = import_chat(server, key, SHORT[0], TEXTS)
    chat_page.enter(key)
    links = chat_page.page.get_by_role("navigation").get_by_role("link")
    expect(links.nth(TITLES)).to_be_visible()
    chat_page.page.evaluate("id => { location.hash = `#/${id}` }", session_id)
    expect(chat_page.answers.last).to_be_visible()
    articles = chat_page.page.locator("article")
    # Each search is in an element: Playwright looks slowly for a role in all of these messages.
    while (shown := articles.count()) < len(TEXTS):
        chat_page.page.locator("[role=log]").evaluate("log => log.scrollTop = 0")
        expect(articles).not_to_have_count(shown)
    dialog = chat_page.page.locator("dialog")
    chat_page.press("Chat settings", chat_page.page.locator("header.top"))
    chat_page.press("Cancel", dialog)
    for words in ("script", "onerror", "javascript"):
        chat_page.page.keyboard.press("Control+k")
        dialog.get_by_role("combobox", name="Search your chats").fill(words)
        expect(dialog.get_by_role("option").first).to_be_visible()
        chat_page.page.keyboard.press("Escape")
    token = server.post(f"/api/sessions/{session_id}/shares", key=key, json={}).json()["token"]
    chat_page.page.evaluate("token => { location.hash = `#/share/${token}` }", token)
    expect(chat_page.page.get_by_text("Start your own chat")).to_be_visible()
    expect(articles).to_have_count(len(TEXTS))
    assert not has_run(chat_page)


def test_upstream_error_message_is_shown_as_text(chat_page: ChatPage, upstream: Simulator, key: str) -> None:
    chat_page.enter(key)
    for payload in TEXTS[:3]:
        upstream.script = scripts.refuse(400, message=payload)
        chat_page.send(payload)
        expect(chat_page.answers.last.get_by_role("alert")).to_contain_text(payload)
    assert not has_run(chat_page)
    assert chat_page.page.locator("article script, article img").count() == 0


def test_previews_neither_run_nor_load(server: Service, browser: Browser, upstream: Simulator, key: str) -> None:
    visitor = Visitor(browser)
    visitor.hold_timers()
    failures: dict[str, str | None] = {}

    def note_failure(request: Request) -> None:
        failures[request.url] = request.failure

    visitor.context.on("requestfailed", note_failure)
    chat_page = ChatPage(visitor, server).enter(key)
    good = "```mermaid\ngraph TD\nA[First] --> B[Second]\n```"
    blocks = [f"```html\n{markup}\n```" for markup in MARKUPS] + [f"```mermaid\n{diagram}\n```" for diagram in DIAGRAMS]
    upstream.script = scripts.answer("\n\n".join([*blocks, "```mermaid\nno diagram\n```", good]))
    chat_page.send("Draw")
    drawn = chat_page.answers.get_by_role("img", name="Diagram")
    expect(drawn.last).to_be_visible()  # they are drawn in their order, the good one last
    codes = chat_page.answers.locator(".code-block")
    expect(codes.last).to_contain_text("Code")
    assert codes.last.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth > 50)")
    expect(codes.nth(-2).get_by_text("no diagram")).to_be_visible()
    previews = chat_page.page.locator(".preview-box iframe")
    for number in range(len(MARKUPS)):
        chat_page.press("Preview", codes.nth(number))
        expect(previews).to_have_count(number + 1)
        expect(previews.last).to_have_attribute("height", re.compile(r"^\d{2,3}$"))  # it has drawn its content
    assert accessibility_violations(chat_page.page) == []
    frames = chat_page.page.frames[1:]
    assert len(frames) == len(MARKUPS) + 1  # and the one that draws
    for element in chat_page.page.locator("iframe").all():
        assert element.get_attribute("sandbox") == "allow-scripts"
    for frame in frames:  # as a script in it would try, if one could run
        assert frame.evaluate("[origin, typeof window.ran]") == ["null", "undefined"]
        assert frame.evaluate("fetch('/api/health').then(() => 'sent', () => 'refused')") == "refused"
        assert frame.evaluate("(() => { try { return parent.document } catch { return 'refused' } })()") == "refused"
        assert (
            frame.evaluate("document.querySelectorAll('iframe, object, embed, link, meta[http-equiv], base').length")
            == 0
        )
    frames[-1].evaluate(f"location = 'https:{HOST}/'")
    assert chat_page.page.title() == "Draw"
    chat_page.press("Code", codes.nth(0))
    expect(previews).to_have_count(len(MARKUPS) - 1)
    visitor.close()
    elsewhere = {address for address in visitor.requests if not address.startswith((server.url, "data:"))}
    assert {failures.get(address) for address in elsewhere} <= {"csp"}  # styles are left to the policy
    assert visitor.errors == []
