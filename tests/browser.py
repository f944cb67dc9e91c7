"""Drives the installed Chromium, and fails a test on requests to other hosts, policy violations and script errors."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, WebError, sync_playwright

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
# Once in a tab: a reload after the key was forgotten does not bring it back.
REMEMBERED_KEY = """(() => {
    if (location.protocol !== 'http:' || sessionStorage.getItem('tests.remembered')) return;
    sessionStorage.setItem('tests.remembered', 'yes');
    sessionStorage.setItem('chatapi.key', %s);
})()"""
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


class Visitor:
    """A fresh browser profile.

    It watches all its pages. `check` fails the test if one of them sent a request to a server other than those it was
    opened on, violated the page's policy, or had a script error that the test does not expect.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**CHEAP | options)
        self.context.set_default_timeout(SECONDS * 1000)
        self.requests: list[str] = []  # addresses of all requests, in order
        self.errors: list[str] = []  # script errors
        self.violations: list[str] = []  # policy violations
        self._servers: set[str] = set()
        self._expected: list[str] = []
        self.context.on("request", self._on_request)
        self.context.on("weberror", self._on_error)
        self.context.on("console", self._on_console)

    def hold_timers(self) -> None:
        """Hold the page's long timers until `ChatPage.pass_time`: its periodic requests, and the end of an undo.

        Otherwise a slow machine decides whether one falls between two steps of a test.
        """
        self.context.add_init_script(HELD_TIMERS)

    def open(self, service: Served, path: str = "/", remembered_key: str | None = None, **options: Any) -> Page:
        """Open this server in a new tab, which remembers a key. The options are those of Playwright's `goto`."""
        self._servers.add(service.url)
        page = self.context.new_page()
        if remembered_key is not None:
            page.add_init_script(REMEMBERED_KEY % json.dumps(remembered_key))
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
        self.context.close()

    def _is_allowed(self, address: str) -> bool:
        return address.startswith((*(f"{server}/" for server in self._servers), *SELF_CONTAINED))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _on_console(self, message: ConsoleMessage) -> None:
        if re.search(POLICY, message.text):
            self.violations.append(message.text)


def accessibility_violations(page: Page) -> list[str]:
    """Return the accessibility violations that axe finds, one line each."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
