"""The checks of `tests.browser.Visitor` detect what they are meant to detect."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import POLICY, SharedTab, Visitor
from tests.server_process import Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")


@pytest.fixture
def watched(browser: Browser, shared_tab: SharedTab) -> Iterator[Visitor]:
    """A visitor that is checked by the test, not by the fixture."""
    visitor = Visitor(browser, shared_tab)
    yield visitor
    visitor.close()


@pytest.fixture
def page(shared: Service, watched: Visitor) -> Page:
    return watched.open(shared)


def test_visit_to_this_server_only_passes(page: Page, watched: Visitor) -> None:
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
def test_request_to_another_host_fails_the_test(page: Page, watched: Visitor, script: str) -> None:
    with watched.context.expect_event("request", lambda request: "example.com" in request.url):
        page.evaluate(script)
    with pytest.raises(AssertionError, match="requests to other servers"):
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
def test_policy_violation_fails_the_test(page: Page, watched: Visitor, script: str) -> None:
    with watched.context.expect_event("console", lambda said: re.search(POLICY, said.text) is not None):
        page.evaluate(script)
    with pytest.raises(AssertionError, match="policy violations"):
        watched.check()


def test_script_error_fails_the_test_unless_expected(page: Page, watched: Visitor) -> None:
    with watched.context.expect_event("weberror"):
        page.evaluate("setTimeout(() => {throw new Error('too many cooks')})")
    with pytest.raises(AssertionError, match="script errors"):
        watched.check()
    watched.expect_error("many cooks")
    watched.check()
    watched.expect_error("another")
    with pytest.raises(AssertionError, match="no script error matches"):
        watched.check()


LEAVE_TRACES = "sessionStorage.left = localStorage.left = document.cookie = 'left=yes'"
# A timer that fails, a request that waits, and others one after the other.
KEEP_BUSY = """() => {
    setInterval(() => { throw new Error('left') }, 1);
    fetch('/api/waiting').catch(() => 0);
    const again = () => fetch('/api/health').then(again, again);
    void again();
}"""
TRACES = "[window.left, sessionStorage.left, localStorage.left, sessionStorage['chatapi.key'], document.cookie]"


def test_visitor_finds_nothing_of_the_last_one(browser: Browser, shared_tab: SharedTab, shared: Service) -> None:
    first = Visitor(browser, shared_tab)
    first.add_init_script("window.left = 'yes'")
    page = first.open(shared, remembered_key="sk-proj-left")
    assert page.evaluate("[window.left, sessionStorage['chatapi.key']]") == ["yes", "sk-proj-left"]
    page.evaluate(LEAVE_TRACES)
    page.route("**/api/config", lambda route: route.abort())
    first.context.route("**/api/prices", lambda route: route.abort())
    first.context.set_offline(True)
    other = first.context.new_page()
    first.context.route("**/api/waiting", lambda route: None)
    page.evaluate(KEEP_BUSY)
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/api/waiting")):
        first.close()
    seen = len(first.requests)
    assert shared_tab.is_free

    second = Visitor(browser, shared_tab)
    assert second.open(shared, "/#/of-the-same-address") == page
    assert page.evaluate(TRACES) == [None, None, None, None, ""]
    assert page.evaluate("Promise.all(['config', 'prices'].map(one => fetch(`/api/${one}`)))") is not None
    assert other.is_closed()
    assert not any(address.endswith("/api/health") for address in second.requests)
    assert len(first.requests) == seen
    second.close()
    second.check()
