"""The main steps of the page in Firefox or WebKit: `./run page --browser firefox`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatapi.simulator import Gate, Simulator, answer, running, scripts
from tests.databases import free_port
from tests.engines import ENGINES, Tab
from tests.server_process import KEY, Service
from tests.waiting import POLL_SECONDS

SECONDS = 30.0
STILL_POLLS = 5  # of an element, before it is clicked
CONTROL, META_ENTER = "\ue009", "\ue007"
ENTER, ESCAPE = "\ue007", "\ue00c"
# Finds the visible element of a kind by its name, as a user would, and returns the middle of it.
FIND = """(selector, name, within) => {
    const nameOf = (element) =>
        (element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent).trim();
    const found = [...document.querySelectorAll(within)].flatMap((place) => [...place.querySelectorAll(selector)]);
    const named = found.filter((element) => nameOf(element) === name && element.getClientRects().length > 0);
    const element = named.at(-1);
    if (element === undefined) return null;
    const isVisible = ({top, bottom}) => top >= 0 && bottom <= innerHeight;
    if (!isVisible(element.getBoundingClientRect())) element.scrollIntoView({block: 'nearest'}); // it closes menus
    const {x, y, width, height} = element.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
}"""
WRITE = """(selector, name, text) => {
    const nameOf = (element) => (element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? '').trim();
    const field = [...document.querySelectorAll(selector)].find((element) => nameOf(element) === name);
    if (field === undefined) return false;
    field.focus();
    field.select();
    document.execCommand('insertText', false, text) || (field.value = text);
    field.dispatchEvent(new Event('input', {bubbles: true}));
    return true;
}"""
IMPORT = """(text) => {
    const input = document.querySelector('dialog input[type=file]');
    const files = new DataTransfer();
    files.items.add(new File([text], 'conversations.json', {type: 'application/json'}));
    input.files = files.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
    return true;
}"""
LAST = "article.assistant:last-of-type"
MARKDOWN = "## Part\n\n```python\nprint(1)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$x^2$ and **bold**"


class Page:
    """The chat page in a tab."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    def until(self, condition: str, *arguments: Any) -> None:
        """Wait until a JavaScript expression is true; it may use `a`, the arguments."""
        end = time.monotonic() + SECONDS
        while not self.tab.call(f"(...a) => Boolean({condition})", *arguments):
            assert time.monotonic() < end, f"it is never true: {condition} {arguments}"
            time.sleep(POLL_SECONDS)

    def press(
        self, name: str, within: str = "body", selector: str = "button, [role=menuitem], a, input[type=radio]"
    ) -> None:
        """Click a button, a link or a menu item, by its name."""
        end = time.monotonic() + SECONDS
        before, still = None, 0
        while still < STILL_POLLS:  # what moves is not clicked
            at = self.tab.call(FIND, selector, name, within)
            still = still + 1 if at is not None and at == before else 0
            before = at
            assert time.monotonic() < end, f"there is no {name}"
            time.sleep(POLL_SECONDS)
        self.tab.click(*at)

    def write(self, name: str, text: str, selector: str = "input, textarea") -> None:
        """Write a text into a field, by its name."""
        end = time.monotonic() + SECONDS
        while not self.tab.call(WRITE, selector, name, text):
            assert time.monotonic() < end, f"there is no field {name}"
            time.sleep(POLL_SECONDS)

    def send(self, text: str) -> None:
        """Write a message and send it with the keyboard."""
        self.write("Message", text)
        self.tab.press(ENTER)

    def expect_text(self, selector: str, text: str) -> None:
        """Wait until the last element of a kind contains a text."""
        self.until("[...document.querySelectorAll(a[0])].at(-1)?.textContent.includes(a[1])", selector, text)

    def expect_answer(self, text: str) -> None:
        """Wait until the last answer is complete and contains a text."""
        self.expect_text("article.assistant", text)
        self.until("[...document.querySelectorAll('article.assistant')].at(-1).querySelector('footer .regenerate')")

    def expect_count(self, selector: str, count: int) -> None:
        """Wait until there are so many elements of a kind."""
        self.until("document.querySelectorAll(a[0]).length === a[1]", selector, count)

    def act_on_answer(self, item: str) -> None:
        """Choose an item of the menu of the last answer."""
        self.press("More actions", LAST)
        self.press(item, ".popup")


class Steps:
    """The steps, in their order: each continues where the one before has ended."""

    def __init__(self, tab: Tab, service: Service, upstream: Simulator) -> None:
        self.page, self.service, self.upstream = Page(tab), service, upstream

    def all(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the steps with their descriptions."""
        return [
            ("a wrong key is named", self.check_key),
            ("the key starts the chat", self.enter),
            ("a message is answered", self.ask),
            ("the first message names the chat", lambda: self.page.until("document.title === 'Count to 3'")),
            ("Markdown is shown: code in colours, tables, formulas", self.show_markdown),
            ("a reload shows the chat again", self.reload),
            ("a reload during an answer continues it", self.reload_during_answer),
            ("a second tab shows the running answer", self.open_twin),
            ("stop keeps the text", self.stop),
            ("continue follows the kept text", self.continue_answer),
            ("a killed server loses no text", self.kill),
            ("an answer is regenerated, and the arrows switch", self.regenerate),
            ("a message is edited into a branch", self.edit_message),
            ("an answer is edited", self.edit_answer),
            ("another model is chosen", self.choose_model),
            ("the search opens the chat at the hit", self.search),
            ("a chat is renamed", self.rename),
            ("theme and accent are chosen and kept", self.choose_look),
            ("a file of ChatGPT is imported", self.import_file),
            ("a chat is deleted and restored", self.delete),
        ]

    def check_key(self) -> None:
        self.page.tab.open(self.service.url)
        self.page.write("OpenAI API key", "no key")
        self.page.expect_text(".key-check", "sk-proj-")

    def enter(self) -> None:
        self.page.write("OpenAI API key", KEY)
        self.page.press("Remember it in this browser until its tabs are closed", selector="input[type=checkbox]")
        self.page.press("Start chatting")
        self.page.until("document.querySelector('#composer')")

    def ask(self) -> None:
        self.page.send("Count to 3")
        self.page.expect_answer("1 2 3")

    def show_markdown(self) -> None:
        self.upstream.script = answer(MARKDOWN)
        self.page.send("Show it")
        self.page.expect_answer("bold")
        self.upstream.script = None
        for element in ("h3, h4", ".hljs-built_in", "td", ".katex", "strong"):
            self.page.until("document.querySelector(a[0])", element)

    def reload(self) -> None:
        self.page.tab.reload()
        self.page.expect_answer("bold")
        self.page.expect_count("article.user", 2)

    def reload_during_answer(self) -> None:
        gate = Gate()
        self.upstream.script = scripts.held(gate, "Hello", " there.")
        self.page.send("Hi")
        self.page.expect_text("article.assistant", "Hello")
        self.page.tab.reload()
        self.page.expect_text("article.assistant", "Hello")
        gate.open()
        self.page.expect_answer("Hello there.")
        self.upstream.script = None

    def open_twin(self) -> None:
        gate = Gate()
        self.upstream.script = scripts.held(gate, "Two", " tabs.")
        self.page.send("Both")
        self.page.expect_text("article.assistant", "Two")
        address = self.page.tab.call("() => location.href")
        twin = Page(self.page.tab.twin())
        twin.tab.open(address)
        twin.expect_text("article.assistant", "Two")
        gate.open()
        twin.expect_answer("Two tabs.")
        twin.tab.close()
        self.page.expect_answer("Two tabs.")
        self.upstream.script = None

    def stop(self) -> None:
        self.upstream.script = scripts.silent_after("Half of")
        self.page.send("Stop me")
        self.page.expect_text("article.assistant", "Half of")
        self.page.tab.press(ESCAPE)
        self.page.expect_text("article.assistant .outcome", "Stopped")
        self.page.expect_text("article.assistant", "Half of")

    def continue_answer(self) -> None:
        self.upstream.script = answer(" the text.")
        self.page.press("Continue", LAST)
        self.page.expect_answer("the text.")
        self.upstream.script = None

    def kill(self) -> None:
        gate = Gate()
        self.upstream.script = scripts.held(gate, "Still", " here")
        self.page.send("Kill it")
        self.page.expect_text("article.assistant", "Still")
        self.service.kill()
        self.page.expect_text("article.assistant", "Reconnecting")
        self.upstream.script = None
        self.service.start()
        self.page.expect_text("article.assistant", "Interrupted")
        self.page.expect_text("article.assistant .markdown", "Still")

    def regenerate(self) -> None:
        self.page.press("Regenerate", LAST)
        self.page.expect_answer("2/2")
        self.page.press("Previous version", LAST)
        self.page.expect_text("article.assistant", "Interrupted")
        self.page.press("Next version", LAST)
        self.page.expect_answer("You said")

    def edit_message(self) -> None:
        self.page.press("Edit", "article.user:nth-last-of-type(2)")
        self.page.write("Edit the message", "Count to 4")
        self.page.tab.press(ENTER)
        self.page.expect_answer("1 2 3 4")

    def edit_answer(self) -> None:
        self.page.act_on_answer("Edit")
        self.page.write("Edit the answer", "one two")
        self.page.press("Save", ".edit-form")
        self.page.expect_answer("Edited by you")
        self.page.expect_text("article.assistant .markdown", "one two")

    def choose_model(self) -> None:
        self.page.tab.call("() => document.querySelector('.composer .model').click()")
        self.page.write("Search models", "gpt-4.1-nano")
        self.page.tab.press(ENTER)
        self.page.expect_text(".composer .model", "gpt-4.1-nano")

    def search(self) -> None:
        self.page.tab.press(CONTROL, "k")
        self.page.write("Search your chats", "one two")
        self.page.until("document.querySelector('dialog [role=option]')")
        self.page.tab.press(ENTER)
        self.page.expect_count("dialog", 0)
        self.page.until(
            "document.activeElement.matches('article') && document.activeElement.textContent.includes('one two')"
        )

    def rename(self) -> None:
        self.page.press("Actions for Count to 3", "nav")
        self.page.press("Rename", ".popup")
        self.page.write("Title", "Numbers")
        self.page.tab.press(ENTER)
        self.page.until("document.title === 'Numbers'")

    def choose_look(self) -> None:
        self.page.press("Settings", "nav")
        self.page.press("Blue", "dialog")
        self.page.tab.call("() => document.querySelector('input[name=theme][value=dark]').click()")
        self.page.tab.press(ESCAPE)
        self.page.tab.reload()
        self.page.until("document.documentElement.dataset.accent === 'blue'")
        self.page.until("getComputedStyle(document.body).backgroundColor === 'rgb(24, 25, 27)'")

    def import_file(self) -> None:
        message = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["From there"]}}
        chat = {"title": "Imported", "mapping": {"a": {"parent": None, "message": message}}, "current_node": "a"}
        self.page.press("Settings", "nav")
        self.page.until("document.querySelector('dialog input[type=file]')")
        self.page.tab.call(IMPORT, json.dumps([chat]))
        self.page.until("document.title === 'Imported'")
        self.page.expect_text("article.user", "From there")

    def delete(self) -> None:
        self.page.press("Actions for Imported", "nav")
        self.page.press("Delete", ".popup")
        self.page.expect_count("nav li a", 1)
        self.page.press("Undo", ".toasts")
        self.page.expect_count("nav li a", 2)


def run_steps(browser: str, report: Callable[[str], None]) -> int:
    """Run all steps in a browser; report each. Returns the number of steps that failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as name, running(Simulator()) as upstream:
        folder = Path(name)
        service = Service(folder, upstream.url, CHATAPI_RATE_LIMIT="0", PORT=str(free_port())).start()
        try:
            with ENGINES[browser](folder) as tab:
                for number, (description, step) in enumerate(Steps(tab, service, upstream).all(), 1):
                    try:
                        step()
                        report(f"{number:2} passed: {description}")
                    except AssertionError as error:
                        failed += 1
                        report(f"{number:2} FAILED: {description}: {error}")
        finally:
            service.stop()
    return failed
