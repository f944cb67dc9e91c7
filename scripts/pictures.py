"""Take the screenshots in docs/pictures: `./run pictures`. They show the demo, so no account is needed."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from tests.browser import Visitor, browsing
from tests.chat_page import ChatPage
from tests.databases import free_port
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
QUALITY = 0.8  # of the pictures, 0 to 1
SCROLLED_PIXELS = 330  # shows code and a table
READY = "The reference is at "


@dataclass
class Demo:
    """A running demo."""

    url: str


@contextmanager
def demo(pace_ms: int = 1) -> Iterator[Demo]:
    """Run `./run demo` with its own port and database, at this pace of words."""
    port = str(free_port())
    command = [sys.executable, str(PROJECT / "app.py"), "demo", "--pace-ms", str(pace_ms)]
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


def save(browser: Browser, picture: bytes, path: Path) -> None:
    """Save a PNG as WebP, which is a quarter of its size; the browser converts it."""
    page = browser.new_page()
    converted = page.evaluate(
        """async ([picture, quality]) => {
            const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
            const canvas = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height});
            canvas.getContext('2d').drawImage(image, 0, 0);
            return canvas.toDataURL('image/webp', quality).split(',')[1];
        }""",
        [base64.b64encode(picture).decode(), QUALITY],
    )
    page.close()
    path.write_bytes(base64.b64decode(converted))


def take(browser: Browser, served: Demo, name: str, **options: Any) -> None:
    """Open the last chat and take a screenshot."""
    visitor = Visitor(browser, reduced_motion="reduce", **options)
    chat_page = ChatPage(visitor, served)
    chat_page.press("Start chatting")
    for text in CHATS:
        chat_page.page.keyboard.press("Control+Shift+o")
        chat_page.box.fill(text)
        chat_page.press("Send")
        expect(chat_page.answers.last.locator("footer")).to_be_visible()
    expect(chat_page.answers.locator(".katex").first).to_be_visible()
    expect(chat_page.answers.locator(".hljs-keyword").first).to_be_visible()
    chat_page.page.get_by_role("log").evaluate(f"log => log.scrollTop = {SCROLLED_PIXELS}")
    chat_page.page.mouse.move(0, 0)
    save(browser, chat_page.page.screenshot(animations="disabled"), FOLDER / f"{name}.webp")
    visitor.close()
    visitor.check()


def main() -> None:
    """Take all screenshots."""
    FOLDER.mkdir(exist_ok=True)
    for name, options in PICTURES.items():
        with demo() as served, browsing() as browser:
            take(browser, served, name, **options)


if __name__ == "__main__":
    main()
