"""The page keeps nobody out: what axe-core finds in each of its rooms, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chatapi.simulator import Simulator, scripts
from tests.browser import Visitor, barriers
from tests.person import Person
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.mark.parametrize(
    ("options", "scheme"), [pytest.param({}, "light", id="wide-light"), pytest.param(PHONE, "dark", id="phone-dark")]
)
def test_no_room_has_a_barrier(
    server: Service,
    upstream: Simulator,
    new_visitor: Callable[..., Visitor],
    key: str,
    options: dict[str, Any],
    scheme: str,
) -> None:
    person = Person(new_visitor(color_scheme=scheme, reduced_motion="reduce", **options), server)
    expect(person.page.get_by_label("OpenAI API key")).to_be_visible()
    assert barriers(person.page) == []
    person.enter(key)
    assert barriers(person.page) == []

    upstream.script = scripts.cut_after("Half of")
    person.box.fill("Break off")
    person.press("Send")
    expect(person.answers.get_by_role("alert")).to_be_visible()
    upstream.script = None
    person.box.fill("Show me Markdown")
    person.press("Send")
    expect(person.answers.last.locator("table")).to_be_visible()
    expect(person.answers.last).to_have_attribute("aria-busy", "false")
    assert barriers(person.page) == []

    person.press("Settings of this chat")
    assert barriers(person.page) == []
    person.press("Cancel")
    person.page.keyboard.press("Control+k")
    person.page.get_by_role("combobox", name="Search your chats").fill("markdown")
    expect(person.page.get_by_role("dialog").get_by_role("option").first).to_be_visible()
    assert barriers(person.page) == []
    person.page.keyboard.press("Escape")

    if options:
        person.press("Chats")
    person.page.get_by_role("button", name="Actions for Break off").click()
    assert barriers(person.page) == []
    person.page.keyboard.press("Escape")
    person.page.get_by_role("link", name="Usage").click()
    expect(person.page.get_by_role("img", name="Tokens by day")).to_be_visible()
    assert barriers(person.page) == []


def test_on_a_touch_screen_enter_is_a_new_line(server: Service, new_visitor: Callable[..., Visitor], key: str) -> None:
    person = Person(new_visitor(**PHONE), server).enter(key)
    person.box.press_sequentially("one")
    person.box.press("Enter")
    person.box.press_sequentially("two")
    expect(person.box).to_have_value("one\ntwo")


def test_a_screen_reader_hears_that_an_answer_has_come(server: Service, visitor: Visitor, key: str) -> None:
    person = Person(visitor, server).enter(key)
    person.say("Count to 3")
    expect(person.page.locator("[aria-live=polite]")).to_have_text("Answer: 1 2 3")


def test_everything_can_be_reached_with_the_keyboard_alone(server: Service, visitor: Visitor, key: str) -> None:
    person = Person(visitor, server).enter(key)
    person.box.press_sequentially("Count to 3")
    person.page.keyboard.press("Enter")
    person.sees_answer("1 2 3")
    reached = set()
    for _ in range(40):
        person.page.keyboard.press("Tab")
        reached.add(
            person.page.evaluate("(e => e.getAttribute('aria-label') ?? e.textContent.trim())(document.activeElement)")
        )
    assert {
        "New chat",
        "Count to 3",
        "Actions for Count to 3",
        "Usage",
        "Colours",
        "Show the keys",
        "Forget the key",
        "Settings of this chat",
        "Copy",
        "Edit",
        "Another answer",
        "Conversation",
        "Message",
    } <= reached
