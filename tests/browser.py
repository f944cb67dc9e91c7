"""A real browser on the page: the Chromium that this machine has, and a visitor who notices what must never happen."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, WebError, sync_playwright

from tests.node_clients import FOLDER

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever asks for another host gets nowhere
]
SECONDS = 15.0  # for anything that a test waits for in a page
AXE = FOLDER / "node_modules/axe-core/axe.min.js"
POLICY = "Content Security Policy|Permissions.Policy|Trusted(HTML|Script)"  # how the console tells of what was stopped
SELF_CONTAINED = ("data:", "blob:", "about:")  # addresses that ask nobody


def chromium() -> str:
    """Where Chromium is; without it these tests are not passed over but fail."""
    for name in [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise AssertionError("There is no Chromium on this machine. Install one, or set CHROMIUM to where one is.")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium, and Playwright to drive it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


class Served(Protocol):
    """What has an address."""

    url: str


class Visitor:
    """Somebody with a browser profile of their own, in which nothing is kept from others.

    All their pages are watched. `check` fails the test when one of them asked anybody but the servers it was opened
    on, when the page's policy stopped something, or when a script failed in a way that the test does not expect.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(SECONDS * 1000)
        self.requests: list[str] = []  # the address of each request, in order
        self.errors: list[str] = []  # each script that failed
        self.violations: list[str] = []  # what the page's policy stopped
        self._servers: set[str] = set()
        self._expected: list[str] = []
        self.context.on("request", self._asked)
        self.context.on("weberror", self._failed)
        self.context.on("console", self._said)

    def open(self, service: Served, path: str = "/") -> Page:
        """A new tab on this server."""
        self._servers.add(service.url)
        page = self.context.new_page()
        page.goto(service.url + path)
        return page

    def expect_error(self, pattern: str) -> None:
        """A script is to fail with these words, once at least."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Has nothing happened that must not?"""
        elsewhere = [address for address in self.requests if not self._is_allowed(address)]
        assert not elsewhere, f"the page asked others: {elsewhere}"
        assert not self.violations, f"the page's policy stopped: {self.violations}"
        foreseen = [error for error in self.errors if any(re.search(one, error) for one in self._expected)]
        assert foreseen == self.errors, f"a script failed: {self.errors}"
        missing = [one for one in self._expected if not any(re.search(one, error) for error in self.errors)]
        assert not missing, f"no script failed with {missing}"

    def close(self) -> None:
        """Leave, with all pages."""
        self.context.close()

    def _is_allowed(self, address: str) -> bool:
        return address.startswith((*(f"{server}/" for server in self._servers), *SELF_CONTAINED))

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)

    def _failed(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _said(self, message: ConsoleMessage) -> None:
        if re.search(POLICY, message.text):
            self.violations.append(message.text)


def barriers(page: Page) -> list[str]:
    """What axe finds that keeps people out, a line each."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
