"""Measure the page: `python -m tests.page_campaign`.

Streams long answers with code, tables, formulas and diagrams, and records the duration of each frame and the longest
tasks; opens a long chat and a long answer; and compares the heap after 100 and 200 answers. It prints the
figures without judging them, because they depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Browser, Page, expect

from chatapi.simulator import Simulator, answer, running
from tests.browser import Visitor, browsing
from tests.chat_page import ChatPage
from tests.page_engines import run_steps
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

```javascript
const {{ value }} = await load({number}); // a comment about the line
export const doubled = [value, `text ${{value * 2}}`].map((one) => ({{ one, at: {number} }}));
```

| left | right |
|------|------:|
| {number} | value of the cell |

"""
# One of these follows each `DIAGRAM_PARTS` parts: the browser draws them while the text arrives.
DIAGRAM = """\
```mermaid
graph TD
  A{number}[Question] --> B{number}{{{{Known?}}}}
  B{number} -->|yes| C{number}[Answer]
  B{number} -->|no| D{number}[Search] --> C{number}
```

"""
DIAGRAM_PARTS = 5
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
OPEN_TARGET_MS = 300
# Chromium with a user interface has this by default: the frame that draws diagrams has a process of its own.
ISOLATION = "--site-per-process"
LONG_ANSWER_WORDS = 50_000
HEAP_ANSWERS = 200  # compared with half of them
CHAT_ANSWERS = 10  # of each chat, so that the page does not show more and more of them
HEAP_WORDS = 200
MIB = 1024 * 1024
TRACED = ["toplevel", "devtools.timeline"]  # categories of events that show tasks


def long_text(tokens: int) -> str:
    """Return an answer with this number of words and all kinds of blocks."""
    text, number = "", 0
    while len(text.split()) < tokens:
        number += 1
        text += VARIETY.format(number=number)
        if number % DIAGRAM_PARTS == 0:
            text += DIAGRAM.format(number=number)
    return text


@dataclass(frozen=True)
class Frames:
    """Frame durations and long tasks during an answer, in milliseconds, in ascending order."""

    tokens: int
    milliseconds: list[float]
    tasks: list[Task]
    tokens_per_second: float

    def __str__(self) -> str:
        times = self.milliseconds
        late = sum(time >= FRAME_TARGET_MS for time in times)
        spread = f"{times[len(times) // 2]:.0f} / {times[len(times) * 99 // 100]:.0f} / {times[-1]:.0f} ms"
        return (
            f"{self.tokens} tokens at {self.tokens_per_second:.0f} a second in {len(times)} frames: {spread} "
            f"(median / 99 of 100 / longest), {late} of {FRAME_TARGET_MS} ms or more; {describe_tasks(self.tasks)}"
        )


def watch_answer(chat_page: ChatPage, upstream: Simulator, tokens: int, tokens_per_second: float) -> Frames:
    """Stream a long answer, and record the duration of each frame until its end."""
    text = long_text(tokens)
    upstream.script = answer(text, pace_seconds=1 / tokens_per_second)
    with tracing(chat_page.page) as tasks:
        chat_page.send("Tell me much")
        expect(chat_page.answers.last).to_have_attribute("aria-busy", "true")
        frames: list[float] = chat_page.page.evaluate(WATCH)
        expect(chat_page.answers.last.locator("footer")).to_be_visible()
    upstream.script = None
    shown = chat_page.answers.last.locator("h3, h4").last.inner_text()
    assert shown == f"Part {text.count('## Part')}", shown
    return Frames(len(text.split()), sorted(frames), tasks, tokens_per_second)


@contextmanager
def tracing(page: Page) -> Iterator[list[Task]]:
    """Record the tasks of the page's main thread. The list is filled at the end of the block, the longest first."""
    browser = page.context.browser
    assert browser is not None
    tasks: list[Task] = []
    browser.start_tracing(page=page, categories=TRACED)
    yield tasks
    page.evaluate("new Promise(resolve => setTimeout(resolve, 100))")
    events = json.loads(browser.stop_tracing())["traceEvents"]
    frames = Counter((event["pid"], event["tid"]) for event in events if event["name"] == "FireAnimationFrame")
    [(main, _)] = frames.most_common(1)
    found = [
        Task(event["tdur"] / 1000, event["dur"] / 1000)
        for event in events
        if event["name"].endswith("RunTask") and "tdur" in event and (event["pid"], event["tid"]) == main
    ]
    tasks += sorted(found, reverse=True)


class Task(NamedTuple):
    """A task: its CPU time, and the time from its start to its end, in milliseconds."""

    cpu: float
    wall: float


def describe_tasks(tasks: list[Task]) -> str:
    """Return a line about the longest tasks. On a busy machine only the CPU time tells about the page."""
    late = sum(task.cpu >= FRAME_TARGET_MS for task in tasks)
    wall = max(task.wall for task in tasks)
    return (
        f"the longest task took {tasks[0].cpu:.0f} ms of CPU time ({wall:.0f} ms with waiting), "
        f"{late} took {FRAME_TARGET_MS} ms or more [target: none]"
    )


def fill(service: Service, key: str, messages: int) -> str:
    """Import a chat with this number of messages. Returns its id."""
    texts = [VARIETY.format(number=number) * 2 if number % 2 else f"Question {number}?" for number in range(messages)]
    return import_texts(service, key, texts)


def import_texts(service: Service, key: str, texts: list[str]) -> str:
    """Import a chat with these messages, alternating between user and model. Returns its id."""
    at = "2026-01-31T12:00:00+00:00"
    tree: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
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
            "head": f"m{len(texts) - 1}",
            "created_at": at,
            "last_updated": at,
        },
        "messages": tree,
    }
    made = service.post("/api/sessions/import", key=key, json=document)
    assert made.status_code == 201, made.text
    return str(made.json()["session_id"])


def open_chat(page: Page, session_id: str, end: str) -> float:
    """Open a chat. Returns the milliseconds until its last message, which contains `end`, is drawn."""
    last = json.dumps(end)
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


def heap_bytes(page: Page) -> int:
    """Return the size of the page's heap after a collection."""
    devtools = page.context.new_cdp_session(page)
    for _ in range(3):  # finalizers free more in the next collection
        devtools.send("HeapProfiler.collectGarbage")
    used = int(devtools.send("Runtime.getHeapUsage")["usedSize"])
    devtools.detach()
    return used


def watch_heap(chat_page: ChatPage, upstream: Simulator, answers: int) -> str:
    """Send so many messages, `CHAT_ANSWERS` in each chat. Returns the heap after half of them and after all."""
    text = long_text(HEAP_WORDS)
    upstream.script = answer(text)
    sizes = []
    for number in range(1, answers + 1):
        if number % CHAT_ANSWERS == 1:
            chat_page.page.keyboard.press("Control+Shift+o")
            expect(chat_page.answers).to_have_count(0)
        chat_page.send(f"Message {number}")
        expect(chat_page.answers).to_have_count((number - 1) % CHAT_ANSWERS + 1)
        chat_page.expect_stored_turn()
        if number in {answers // 2, answers}:
            sizes.append(heap_bytes(chat_page.page) / MIB)
    upstream.script = None
    return f"heap after {answers // 2} and {answers} answers: {sizes[0]:.1f} and {sizes[1]:.1f} MiB [target: the same]"


def measure(
    browser: Browser, folder: Path, tokens: int, paces: list[float], messages: int, words: int, answers: int
) -> Iterator[str]:
    """Run all measurements. Yields the figures, one line each.

    `words` are of the answer that is opened, and `answers` those before the heap is measured; 0 leaves that out.
    """
    with running(Simulator()) as upstream:
        service = Service(folder, upstream.url, CHATAPI_RATE_LIMIT="0").start()
        visitor = Visitor(browser)
        chat_page = ChatPage(visitor, service).enter(KEY)
        for pace in paces:
            yield str(watch_answer(chat_page, upstream, tokens, pace))
            chat_page.page.keyboard.press("Control+Shift+o")
        session_id = fill(service, KEY, messages)
        with tracing(chat_page.page) as tasks:
            opening = open_chat(chat_page.page, session_id, f"thing {messages - 1}")
        drawn = f"was drawn after {opening:.0f} ms [target: {OPEN_TARGET_MS}]"
        yield f"a chat of {messages} messages {drawn}; {describe_tasks(tasks)}"
        if words:
            text = long_text(words)
            session_id = import_texts(service, KEY, ["Tell me much", text])
            with tracing(chat_page.page) as tasks:
                opening = open_chat(chat_page.page, session_id, f"thing {text.count('## Part')}")
            yield f"an answer of {words} words was drawn after {opening:.0f} ms; {describe_tasks(tasks)}"
        if answers:
            yield watch_heap(chat_page, upstream, answers)
        visitor.close()
        visitor.check()
        service.stop()


def main() -> None:
    """Run all measurements and print the figures."""
    parser = argparse.ArgumentParser(prog="./run page", description=__doc__)
    parser.add_argument(
        "--browser", choices=["firefox", "webkit"], help="run the main steps of the page in this browser instead"
    )
    parser.add_argument("--tokens", type=int, default=10_000, help="of the long answer (default %(default)s)")
    parser.add_argument(
        "--pace", type=float, nargs="+", default=[200, 1000], metavar="N", help="tokens a second (default 200 1000)"
    )
    parser.add_argument("--messages", type=int, default=1000, help="of the long chat (default %(default)s)")
    parser.add_argument("--words", type=int, default=LONG_ANSWER_WORDS, help="of a long answer (default %(default)s)")
    parser.add_argument("--answers", type=int, default=HEAP_ANSWERS, help="before the heap is measured (%(default)s)")
    options = parser.parse_args()
    if options.browser is not None:
        sys.exit(1 if run_steps(options.browser, lambda line: print(line, flush=True)) else 0)
    with browsing(ISOLATION) as browser, tempfile.TemporaryDirectory() as folder:
        print(f"load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        counts = options.messages, options.words, options.answers
        for line in measure(browser, Path(folder), options.tokens, options.pace, *counts):
            print(line, flush=True)


if __name__ == "__main__":
    main()
