"""`./run demo` up to the first answer, and the pictures in the README."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from scripts.pictures import FOLDER, PICTURES, Demo, demo
from tests.browser import Visitor
from tests.chat_page import ChatPage
from tests.server_process import PROJECT

START = "every word that travelled"  # of the story
START_MS = 60_000  # for a server to start on a busy machine, and the page to try again

pytestmark = pytest.mark.one_process("the page is the same on any of them")


PACE_MS = 12  # of words: slow enough to pull the plug in a story of six seconds


@pytest.fixture(scope="module")
def served() -> Iterator[Demo]:
    with demo(PACE_MS) as served:
        yield served


def test_demo_answers_after_two_clicks(served: Demo, new_visitor: Callable[..., Visitor]) -> None:
    chat_page = ChatPage(new_visitor(reduced_motion="no-preference"), served)
    expect(chat_page.page.get_by_text("a simulator answers, not a model")).to_be_visible()
    chat_page.press("Start chatting")
    chat_page.press("Count to 100")
    chat_page.expect_answer(" ".join(map(str, range(1, 101))))
    expect(chat_page.page.get_by_text("Demo", exact=True)).to_be_visible()
    expect(chat_page.answers.locator(".figures")).to_contain_text("$0.0")


def test_killed_server_loses_no_text_and_its_answer_is_continued(served: Demo, visitor: Visitor) -> None:
    chat_page = ChatPage(visitor, served)
    chat_page.press("Start chatting")
    second = ChatPage(visitor, served)
    expect(second.box).to_be_visible()
    chat_page.press("Tell me a long story")
    text = chat_page.answers.locator(".markdown")
    second.page.evaluate("id => { location.hash = `#/${id}` }", chat_page.session_id)
    for tab in (chat_page, second):
        expect(tab.answers.locator(".markdown")).to_contain_text(START)
    seen = text.inner_text()
    chat_page.press("Pull the plug")
    for tab in (chat_page, second):
        expect(tab.answers.get_by_role("alert")).to_contain_text("Interrupted", timeout=START_MS)
        assert tab.answers.locator(".markdown").inner_text().startswith(seen.rstrip(".,").rsplit(" ", 1)[0])
    chat_page.press("Continue")
    expect(chat_page.answers).to_have_count(2)
    for tab in (chat_page, second):
        expect(tab.answers.last.locator(".markdown")).to_contain_text("the click of the key.")
    kept = chat_page.answers.locator(".markdown").all_inner_texts()
    assert " ".join("".join(kept).split()).count("Then came the night of the great storm") == 1


def test_readme_shows_the_pictures_that_the_script_makes() -> None:
    shown = set(re.findall(r"docs/pictures/(\w+)\.webp", (PROJECT / "README.md").read_text()))
    assert shown == set(PICTURES) == {path.stem for path in FOLDER.iterdir() if not path.name.startswith("before-")}
