"""Make the pictures of the page in docs/pictures: `./run pictures`. They show the demo, so they need no account."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, expect

from tests.browser import Visitor, browsing
from tests.databases import free_port
from tests.person import Person
from tests.server_process import PROJECT

FOLDER = PROJECT / "docs/pictures"
WIDE: dict[str, Any] = {"viewport": {"width": 1200, "height": 760}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 760},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
PICTURES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", **WIDE},
    "dark": {"color_scheme": "dark", **WIDE},
    "phone": {"color_scheme": "light", **PHONE},
}
CHATS = ("Plan a week in Kyoto", "Why is the sky blue?", "Show me Markdown")
SCROLLED_PIXELS = 330  # to where there is code and a table
READY = "The reference is at "


@dataclass
class Demo:
    """A demo that runs."""

    url: str


@contextmanager
def demo() -> Iterator[Demo]:
    """`./run demo`, on a port and a file of its own."""
    port = str(free_port())
    command = [sys.executable, str(PROJECT / "app.py"), "demo", "--pace-ms", "1"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PORT": port, "DATABASE_URL": f"sqlite:///{folder}/demo.db", "LOG_LEVEL": "WARNING"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while not process.stdout.readline().startswith(READY):
                assert process.poll() is None, "the demo did not start"
            try:
                yield Demo(f"http://127.0.0.1:{port}")
            finally:
                process.terminate()


def take(browser: Browser, served: Demo, name: str, **options: Any) -> None:
    """Look at the last of the chats, and take the picture."""
    visitor = Visitor(browser, reduced_motion="reduce", **options)
    person = Person(visitor, served)
    person.press("Start chatting")
    for text in CHATS:
        person.page.keyboard.press("Control+Shift+o")
        person.box.fill(text)
        person.press("Send")
        expect(person.answers.last.locator("footer")).to_be_visible()
    expect(person.answers.locator(".katex").first).to_be_visible()
    expect(person.answers.locator(".hljs-keyword").first).to_be_visible()
    person.page.get_by_role("log").evaluate(f"log => log.scrollTop = {SCROLLED_PIXELS}")
    person.page.mouse.move(0, 0)
    person.page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    visitor.close()
    visitor.check()


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, options in PICTURES.items():
        with demo() as served, browsing() as browser:
            take(browser, served, name, **options)


if __name__ == "__main__":
    main()
