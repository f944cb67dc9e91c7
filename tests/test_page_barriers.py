"""Accessibility: axe-core on every view, the keyboard, touch screens and screen readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chatapi.simulator import Simulator, scripts
from tests.browser import Visitor, accessibility_violations
from tests.chat_page import ChatPage
from tests.server_process import Service

pytestmark = [pytest.mark.needs_node, pytest.mark.one_process("the page is the same on any of them")]

MARKDOWN = (
    "# Title\n\nSome **bold** text with `code` and a [link](https://example.com).\n\n- one\n- two\n\n$$x^2$$\n\n"
    "```\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nNoted[^1].\n\n[^1]: A note.\n\n" + "More words. " * 200
)
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def upstream(page_upstream: Simulator) -> Simulator:
    return page_upstream


@pytest.mark.parametrize(
    ("options", "scheme"), [pytest.param({}, "light", id="wide-light"), pytest.param(PHONE, "dark", id="phone-dark")]
)
def test_no_view_has_accessibility_violations(
    server: Service,
    upstream: Simulator,
    new_visitor: Callable[..., Visitor],
    key: str,
    options: dict[str, Any],
    scheme: str,
) -> None:
    chat_page = ChatPage(new_visitor(color_scheme=scheme, reduced_motion="reduce", **options), server)
    expect(chat_page.page.get_by_label("OpenAI API key")).to_be_visible()
    assert accessibility_violations(chat_page.page) == []
    chat_page.enter(key)
    assert accessibility_violations(chat_page.page) == []

    upstream.script = scripts.cut_after("Half of")
    chat_page.box.fill("Break off")
    chat_page.press("Send")
    expect(chat_page.answers.get_by_role("alert")).to_be_visible()
    upstream.script = None
    chat_page.box.fill("Show me Markdown")
    chat_page.press("Send")
    expect(chat_page.answers.last.locator("table")).to_be_visible()
    expect(chat_page.answers.last).to_have_attribute("aria-busy", "false")
    assert accessibility_violations(chat_page.page) == []

    dialog = "dialog, [role=dialog]"
    chat_page.press("Chat settings")
    assert accessibility_violations(chat_page.page, dialog) == []
    chat_page.press("Cancel")
    for button in ("Model: gpt-4.1-mini", "Settings"):
        if button == "Settings":
            chat_page.show_sidebar()
        chat_page.press(button)
        expect(chat_page.page.get_by_role("dialog")).to_be_visible()
        assert accessibility_violations(chat_page.page, dialog) == []
        chat_page.page.keyboard.press("Escape")
    chat_page.choose_action(chat_page.answers.last, "Edit")
    expect(chat_page.page.get_by_label("Edit the answer")).to_be_visible()
    assert accessibility_violations(chat_page.page, "article:last-child") == []
    chat_page.press("Cancel", chat_page.answers.last)
    chat_page.press("gpt-4.1-mini", chat_page.answers.last)
    assert accessibility_violations(chat_page.page, "article:last-child") == []
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("markdown")
    expect(chat_page.page.get_by_role("dialog").get_by_role("option").first).to_be_visible()
    assert accessibility_violations(chat_page.page, dialog) == []
    chat_page.page.keyboard.press("Escape")

    chat_page.show_sidebar()
    chat_page.choose("Break off", "Select chats")
    assert accessibility_violations(chat_page.page, ".sidebar") == []
    chat_page.press("Move to a folder", chat_page.page.get_by_role("navigation"))
    assert accessibility_violations(chat_page.page, dialog) == []
    chat_page.page.get_by_label("Name of a new folder").fill("Faults")
    chat_page.page.keyboard.press("Enter")
    expect(chat_page.page.get_by_role("button", name="Faults", exact=True)).to_be_visible()
    chat_page.page.get_by_role("button", name="Actions for Break off").click()
    assert accessibility_violations(chat_page.page, ".sidebar") == []
    chat_page.page.get_by_role("menuitem", name="Share").click()
    chat_page.press("Create a link")
    link = chat_page.page.get_by_role("dialog").get_by_label("Link", exact=True).input_value()
    assert accessibility_violations(chat_page.page, dialog) == []
    chat_page.page.keyboard.press("Escape")
    shared = chat_page.visitor.open(server, link.removeprefix(server.url))
    expect(shared.locator("article.assistant table")).to_be_visible()
    assert accessibility_violations(shared) == []
    shared.close()
    chat_page.open_settings("Usage")
    expect(chat_page.page.get_by_role("img", name="Tokens by day")).to_be_visible()
    assert accessibility_violations(chat_page.page) == []


def test_page_speaks_the_language_of_the_browser_or_the_chosen_one(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    visitor = new_visitor(locale="ar-EG")
    page = ChatPage(visitor, server).page
    page.get_by_label("مفتاح OpenAI API").fill(key)
    page.get_by_label("تذكّره في هذا المتصفح حتى تُغلق علامات تبويبه").check()
    page.get_by_role("button", name="بدء المحادثة", exact=True).click()
    page.get_by_label("الرسالة", exact=True).fill("Count to 2")
    page.keyboard.press("Enter")
    expect(page.locator("article.assistant").get_by_role("button", name="إعادة التوليد", exact=True)).to_be_visible()
    assert page.evaluate("[document.documentElement.dir, document.documentElement.lang]") == ["rtl", "ar"]
    sidebar, text = page.get_by_role("navigation").bounding_box(), page.locator("article.assistant").bounding_box()
    assert sidebar is not None
    assert text is not None
    assert sidebar["x"] > text["x"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert accessibility_violations(page) == []
    page.get_by_role("button", name="الإعدادات", exact=True).click()
    assert accessibility_violations(page, "dialog") == []
    page.get_by_label("اللغة").select_option("de")
    expect(page.get_by_label("Nachricht", exact=True)).to_be_visible()
    expect(page.get_by_role("navigation").get_by_role("link", name="Count to 2")).to_be_visible()
    assert page.evaluate("[document.documentElement.dir, document.documentElement.lang]") == ["ltr", "de"]
    loaded = [address.rsplit("/", 1)[1] for address in visitor.requests if "/languages/" in address]
    assert loaded == ["ar.js", "de.js"]


def test_enter_inserts_a_line_on_touch_screens(server: Service, new_visitor: Callable[..., Visitor], key: str) -> None:
    chat_page = ChatPage.with_key(new_visitor(**PHONE), server, key)
    chat_page.box.press_sequentially("one")
    chat_page.box.press("Enter")
    chat_page.box.press_sequentially("two")
    expect(chat_page.box).to_have_value("one\ntwo")


def test_screen_reader_announces_the_beginning_without_markup_and_a_failure_once(
    server: Service, visitor: Visitor, upstream: Simulator, key: str
) -> None:
    chat_page = ChatPage.with_key(visitor, server, key)
    announcement = chat_page.page.locator("[aria-live=polite]")
    upstream.script = scripts.cut_after("Half of")
    chat_page.send("Hi")
    expect(chat_page.answers.get_by_role("alert")).to_be_visible()  # it announces the failure
    expect(announcement).to_have_text("")
    upstream.script = None
    chat_page.send("Count to 3")
    expect(announcement).to_have_text("Answer finished: 1 2 3")
    upstream.script = scripts.answer(MARKDOWN)
    chat_page.send("Show me Markdown")
    beginning = r"^Answer finished: Title Some bold text with code and a link\. one, two \(formula\)"
    expect(announcement).to_have_text(re.compile(beginning))
    spoken = announcement.inner_text()
    assert len(spoken) < 320
    assert not re.search(r"[*`#|$\[\]]|https", spoken)
    assert spoken.endswith(" …")


def test_every_control_is_reachable_with_the_keyboard(server: Service, visitor: Visitor, key: str) -> None:
    chat_page = ChatPage.with_key(visitor, server, key)
    chat_page.box.press_sequentially("Count to 3")
    chat_page.page.keyboard.press("Enter")
    chat_page.expect_answer("1 2 3")
    reached = set()
    for _ in range(40):
        chat_page.page.keyboard.press("Tab")
        reached.add(
            chat_page.page.evaluate(
                "(e => e.getAttribute('aria-label') ?? e.textContent.trim())(document.activeElement)"
            )
        )
    assert {
        "New chat",
        "Count to 3",
        "Actions for Count to 3",
        "Hide the sidebar",
        "Settings",
        "Chat settings",
        "Model: gpt-4.1-mini",
        "Copy",
        "Edit",
        "Regenerate",
        "gpt-4.1-mini",
        "Conversation",
        "Message",
    } <= reached
