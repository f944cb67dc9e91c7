"""The watch that tests of the page stand on: it sees what it is there to see."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import POLICY, Visitor
from tests.server_process import Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")


@pytest.fixture
def watched(browser: Browser) -> Iterator[Visitor]:
    """A visitor whom the test checks itself."""
    visitor = Visitor(browser)
    yield visitor
    visitor.close()


@pytest.fixture
def page(shared: Service, watched: Visitor) -> Page:
    return watched.open(shared)


def test_a_visit_that_asks_only_this_server_is_fine(page: Page, watched: Visitor) -> None:
    page.evaluate("fetch('/api/health')")
    watched.check()
    assert any(address.endswith("/api/health") for address in watched.requests)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("{const i = new Image(); i.src = 'http://example.com/i'; document.body.append(i)}", id="image"),
        pytest.param("setTimeout(() => {location = 'http://example.com/'})", id="navigation"),
        pytest.param("window.open('http://example.com/') && 0", id="another tab"),
    ],
)
def test_a_page_that_asks_anybody_else_fails_its_test(page: Page, watched: Visitor, script: str) -> None:
    with watched.context.expect_event("request", lambda request: "example.com" in request.url):
        page.evaluate(script)
    with pytest.raises(AssertionError, match="asked others"):
        watched.check()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("fetch('http://127.0.0.1:9/').catch(() => 0)", id="fetch"),
        pytest.param("document.body.setAttribute('style', 'color: red')", id="inline style"),
        pytest.param("try { document.body.innerHTML = '<b>not by the sanitizer</b>' } catch {}", id="HTML of text"),
        pytest.param(
            "{const f = document.createElement('iframe'); f.src = '/docs'; document.body.append(f)}", id="frame"
        ),
    ],
)
def test_what_the_policy_stops_fails_its_test(page: Page, watched: Visitor, script: str) -> None:
    with watched.context.expect_event("console", lambda said: re.search(POLICY, said.text) is not None):
        page.evaluate(script)
    with pytest.raises(AssertionError, match="policy stopped"):
        watched.check()


def test_a_script_that_fails_fails_its_test_unless_it_is_expected_to(page: Page, watched: Visitor) -> None:
    with watched.context.expect_event("weberror"):
        page.evaluate("setTimeout(() => {throw new Error('too many cooks')})")
    with pytest.raises(AssertionError, match="a script failed"):
        watched.check()
    watched.expect_error("many cooks")
    watched.check()
    watched.expect_error("another")
    with pytest.raises(AssertionError, match="no script failed with"):
        watched.check()
