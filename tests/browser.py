"""Drives the installed Chromium, and fails a test on requests to other hosts, policy violations and script errors."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, WebError, sync_playwright

from tests.node_clients import FOLDER

# The first is Chromium without its user interface: a page costs half the CPU time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # other hosts do not resolve
]
# A service worker costs each page 0.1 s of CPU. Transitions cost frames, and Playwright waits for their end before a
# click; only the style sheets contain them, and `tests/test_page_demo.py` has them.
CHEAP = {"service_workers": "block", "reduced_motion": "reduce"}
SECONDS = 45.0  # timeout of every wait in a page, long enough for a busy machine
AXE = FOLDER / "node_modules/axe-core/axe.min.js"
# Timers of four seconds or more wait for `advanceTimers`. Waits before retries are random, thus no whole milliseconds:
# they end by themselves.
HELD_TIMERS = """(() => {
    const { setTimeout, setInterval, clearTimeout } = window;
    const held = new Map();
    let now = 0;
    let lastId = 1e9; // above those of the browser
    const isLong = delay => Number.isInteger(delay) && delay >= 4000;
    const hold = (run, delay, repeats) => {
        lastId += 1;
        held.set(lastId, { run, delay, repeats, due: now + delay });
        return lastId;
    };
    const clear = id => { if (!held.delete(id)) clearTimeout(id); };
    window.setTimeout = (run, delay = 0, ...more) =>
        isLong(delay) ? hold(() => run(...more), delay, false) : setTimeout(run, delay, ...more);
    window.setInterval = (run, delay = 0, ...more) =>
        isLong(delay) ? hold(() => run(...more), delay, true) : setInterval(run, delay, ...more);
    window.clearTimeout = window.clearInterval = clear;
    window.advanceTimers = milliseconds => {
        const end = now + milliseconds;
        for (;;) {
            const [id, timer] = [...held].sort((one, other) => one[1].due - other[1].due)[0] ?? [];
            if (timer === undefined || timer.due > end) break;
            now = timer.due;
            if (timer.repeats) timer.due += timer.delay;
            else held.delete(id);
            timer.run();
        }
        now = end;
    };
})()"""
# Begins a visit in a tab: its storage is that of a new one and has the remembered key. Only once: a reload after the
# key was forgotten does not bring it back. Tabs of a visitor share local storage, so its first one empties it.
BEGIN = """(() => {
    const { number, first, key } = %s;
    if (window !== top || location.protocol !== 'http:' || sessionStorage.getItem('tests.visit') === number) return;
    sessionStorage.clear();
    if (first) localStorage.clear();
    sessionStorage.setItem('tests.visit', number);
    if (key !== null) sessionStorage.setItem('chatapi.key', key);
})()"""
NUMBERS = itertools.count()  # of visits in a tab
# Ends what the page of the last visitor does. To leave for an empty page instead costs 60 ms of CPU time. Its address
# becomes one that no visitor opens: a visit of the same address with another fragment would load nothing.
LEAVE = """() => {
    window.fetch = () => new Promise(() => {});
    const last = setTimeout(() => 0);
    for (let id = 1; id <= last; id += 1) clearTimeout(id);
    stop(); // requests that wait
    history.replaceState(null, '', '/left');
    return true;
}"""
POLICY = "Content Security Policy|Permissions.Policy|Trusted(HTML|Script)"  # in console messages about violations
SELF_CONTAINED = ("data:", "blob:", "about:")  # addresses without a request


def chromium() -> str:
    """Find Chromium. Without it, tests fail instead of being skipped."""
    for name in [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise AssertionError("Chromium was not found. Install it, or set CHROMIUM to its path.")


@contextmanager
def browsing(*flags: str) -> Iterator[Browser]:
    """Start Chromium, with more options of its command line."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *flags])
        yield browser
        browser.close()


class Served(Protocol):
    """A server with an address."""

    url: str


class SharedTab:
    """A tab that visitors use one after the other. Each finds it without the storage, scripts and routes of the last.

    The process of a new tab costs each visit 0.3 s of CPU time: it parses and compiles the script of the page again.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._context: BrowserContext | None = None
        self._page: Page | None = None
        self.is_free = True

    def enter(self) -> tuple[BrowserContext, Page]:
        """Return the context and the tab, which is at no page of the last visitor."""
        if self._context is None:
            self._context = new_context(self._browser)
        if self._page is None or self._page.is_closed():
            self._page = self._context.new_page()
        self.is_free = False
        return self._context, self._page

    def leave(self) -> None:
        """Close other tabs, and end the requests and timers of the page, which stays until the next visitor comes."""
        assert self._context is not None
        assert self._page is not None
        self.is_free = True
        try:
            for page in self._context.pages:
                if page is not self._page:
                    page.close()
            self._context.set_offline(False)
            self._context.unroute_all()
            self._context.clear_cookies()
            if not self._page.is_closed():
                self._page.unroute_all()
                self._page.mouse.move(0, 0)
                self._page.wait_for_function(LEAVE)
        except Error:  # the page hangs, or is that of an error
            self.close()

    def close(self) -> None:
        """Close the tab and its context. Another visitor gets new ones."""
        if self._context is not None:
            self._context.close()
        self._context = self._page = None


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """Return a fresh browser profile."""
    context = browser.new_context(**CHEAP | options)
    context.set_default_timeout(SECONDS * 1000)
    return context


class Visitor:
    """A visitor with a fresh browser profile, or with a tab that another one has left.

    It watches all its pages. `check` fails the test if one of them sent a request to a server other than those it was
    opened on, violated the page's policy, or had a script error that the test does not expect.
    """

    def __init__(self, browser: Browser, shared: SharedTab | None = None, **options: Any) -> None:
        self._shared = shared
        self._waiting: Page | None = None  # the shared tab, until a server is opened in it
        if shared is None:
            self.context = new_context(browser, **options)
        else:
            self.context, self._waiting = shared.enter()
        self.requests: list[str] = []  # addresses of all requests, in order
        self.errors: list[str] = []  # script errors
        self.violations: list[str] = []  # policy violations
        self._servers: set[str] = set()
        self._expected: list[str] = []
        self._scripts = ExitStack()
        self.context.on("request", self._on_request)
        self.context.on("weberror", self._on_error)
        self.context.on("console", self._on_console)

    def add_init_script(self, script: str) -> None:
        """Run this script at the beginning of each document of this visit."""
        self._scripts.enter_context(self.context.add_init_script(script))

    def hold_timers(self) -> None:
        """Hold the page's long timers until `ChatPage.pass_time`: its periodic requests, and the end of an undo.

        Otherwise a slow machine decides whether one falls between two steps of a test.
        """
        self.add_init_script(HELD_TIMERS)

    def open(self, service: Served, path: str = "/", remembered_key: str | None = None, **options: Any) -> Page:
        """Open this server in a new tab, which remembers a key. The options are those of Playwright's `goto`."""
        first = not self._servers
        self._servers.add(service.url)
        page, self._waiting = self._waiting or self.context.new_page(), None
        visit = {"number": str(next(NUMBERS)), "first": first, "key": remembered_key}
        self._scripts.enter_context(page.add_init_script(BEGIN % json.dumps(visit)))
        page.goto(service.url + path, **options)
        return page

    def expect_error(self, pattern: str) -> None:
        """Expect at least one script error that matches this pattern."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Fail on requests to other servers, policy violations and unexpected script errors."""
        elsewhere = [address for address in self.requests if not self._is_allowed(address)]
        assert not elsewhere, f"requests to other servers: {elsewhere}"
        assert not self.violations, f"policy violations: {self.violations}"
        foreseen = [error for error in self.errors if any(re.search(one, error) for one in self._expected)]
        assert foreseen == self.errors, f"script errors: {self.errors}"
        missing = [one for one in self._expected if not any(re.search(one, error) for error in self.errors)]
        assert not missing, f"no script error matches {missing}"

    def close(self) -> None:
        """Close all pages."""
        if self._shared is None:
            self.context.close()
            return
        self._shared.leave()
        self._scripts.close()
        self.context.remove_listener("request", self._on_request)
        self.context.remove_listener("weberror", self._on_error)
        self.context.remove_listener("console", self._on_console)

    def _is_allowed(self, address: str) -> bool:
        return address.startswith((*(f"{server}/" for server in self._servers), *SELF_CONTAINED))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _on_console(self, message: ConsoleMessage) -> None:
        if re.search(POLICY, message.text):
            self.violations.append(message.text)


def accessibility_violations(page: Page, within: str | None = None) -> list[str]:
    """Return the accessibility violations that axe finds in the page, or in the part with this selector, one line each.

    The whole page includes rules about landmarks and headings, and takes 0.3 s of CPU time.
    """
    if not page.evaluate("'axe' in window"):  # to compile it takes longer than a run
        page.evaluate(AXE.read_text())
    run = "async within => (await axe.run(within ?? document, {resultTypes: ['violations']})).violations"
    found = page.evaluate(run, within)
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
