"""Measure the frame times of the page: `python -m tests.page_campaign`.

Streams a long answer at a steady pace and records the duration of each frame, then opens a long chat. It prints the
figures without judging them, because they depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from chatapi.simulator import Simulator, answer, running
from tests.browser import Visitor, browsing
from tests.chat_page import ChatPage
from tests.server_process import KEY, Service

# One paragraph of each kind. A token is a word here.
VARIETY = """\
## Part {number}

Some **words** about `thing {number}`, a [link](https://example.org/{number}) and a formula $x_{{{number}}}^2$ in
a line.

- one item with a few words in it
- another item with a few words in it

```python
for index in range({number}):
    print(index, "and some more words to fill the line")
```

| left | right |
|------|------:|
| {number} | value of the cell |

"""
# Runs in the page: polling from outside would itself cost frames.
WATCH = """() => new Promise(resolve => {
    const frames = [];
    const articles = document.getElementsByTagName('article');
    let last = performance.now();
    const note = now => {
        frames.push(now - last);
        last = now;
        const answer = articles[articles.length - 1];
        if (answer?.getAttribute('aria-busy') === 'false') resolve(frames);
        else requestAnimationFrame(note);
    };
    requestAnimationFrame(note);
})"""
FRAME_TARGET_MS = 50
OPEN_TARGET_MS = 1000


def long_text(tokens: int) -> str:
    """Return an answer with this number of words and all kinds of blocks."""
    text, number = "", 0
    while len(text.split()) < tokens:
        number += 1
        text += VARIETY.format(number=number)
    return text


@dataclass(frozen=True)
class Frames:
    """Frame durations during an answer, in milliseconds, in ascending order."""

    tokens: int
    milliseconds: list[float]

    def __str__(self) -> str:
        times = self.milliseconds
        late = sum(time >= FRAME_TARGET_MS for time in times)
        return (
            f"{self.tokens} tokens in {len(times)} frames: {times[len(times) // 2]:.0f} / "
            f"{times[len(times) * 99 // 100]:.0f} / {times[-1]:.0f} ms (median / 99 of 100 / longest), "
            f"{late} of {FRAME_TARGET_MS} ms or more [target: none]"
        )


def watch_answer(chat_page: ChatPage, upstream: Simulator, tokens: int, tokens_per_second: float) -> Frames:
    """Stream a long answer, and record the duration of each frame until its end."""
    text = long_text(tokens)
    upstream.script = answer(text, pace_seconds=1 / tokens_per_second)
    chat_page.send("Tell me much")
    expect(chat_page.answers.last).to_have_attribute("aria-busy", "true")
    frames: list[float] = chat_page.page.evaluate(WATCH)
    expect(chat_page.answers.last.locator("footer")).to_be_visible()
    upstream.script = None
    shown = chat_page.answers.last.locator("h3, h4").last.inner_text()
    assert shown == f"Part {text.count('## Part')}", shown
    return Frames(len(text.split()), sorted(frames))


def fill(service: Service, key: str, messages: int) -> str:
    """Import a chat with this number of messages. Returns its id."""
    at = "2026-01-31T12:00:00+00:00"
    tree: list[dict[str, Any]] = []
    for number in range(messages):
        role = "assistant" if number % 2 else "user"
        text = VARIETY.format(number=number) * 2 if number % 2 else f"Question {number}?"
        parts = [{"type": "text", "text": text}]
        parent = f"m{number - 1}" if number else None
        tree.append({"id": f"m{number}", "parent_id": parent, "role": role, "parts": parts, "created_at": at})
    document = {
        "format": "chatapi.session",
        "version": 1,
        "exported_at": at,
        "session": {
            "title": "A long chat",
            "developer_message": "",
            "metadata": {},
            "head": f"m{messages - 1}",
            "created_at": at,
            "last_updated": at,
        },
        "messages": tree,
    }
    made = service.post("/api/sessions/import", key=key, json=document)
    assert made.status_code == 201, made.text
    return str(made.json()["session_id"])


def open_chat(page: Page, session_id: str, messages: int) -> float:
    """Open a chat. Returns the milliseconds until its last message is drawn."""
    last = json.dumps(f"thing {messages - 1}")
    return float(
        page.evaluate(
            f"""async id => {{
                const begin = performance.now();
                location.hash = `#/${{id}}`;
                const shown = () => [...document.querySelectorAll('article')].at(-1)?.textContent.includes({last});
                while (!shown()) await new Promise(requestAnimationFrame);
                await new Promise(requestAnimationFrame);
                return performance.now() - begin;
            }}""",
            session_id,
        )
    )


def measure(browser: Browser, folder: Path, tokens: int, tokens_per_second: float, messages: int) -> list[str]:
    """Run all measurements. Returns the figures, one line each."""
    lines = []
    with running(Simulator()) as upstream:
        service = Service(folder, upstream.url, CHATAPI_RATE_LIMIT="0").start()
        visitor = Visitor(browser)
        chat_page = ChatPage(visitor, service).enter(KEY)
        lines.append(str(watch_answer(chat_page, upstream, tokens, tokens_per_second)))
        opening = open_chat(chat_page.page, fill(service, KEY, messages), messages)
        lines.append(f"a chat of {messages} messages was drawn after {opening:.0f} ms [target: {OPEN_TARGET_MS}]")
        visitor.close()
        visitor.check()
        service.stop()
    return lines


def main() -> None:
    """Run all measurements and print the figures."""
    parser = argparse.ArgumentParser(prog="./run page", description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000, help="of the long answer (default %(default)s)")
    parser.add_argument("--pace", type=float, default=200, metavar="N", help="tokens a second (default %(default)s)")
    parser.add_argument("--messages", type=int, default=500, help="of the long chat (default %(default)s)")
    options = parser.parse_args()
    with browsing() as browser, tempfile.TemporaryDirectory() as folder:
        for line in measure(browser, Path(folder), options.tokens, options.pace, options.messages):
            print(line)


if __name__ == "__main__":
    main()
