"""A page object for the chat page: its actions, and assertions about what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser import SECONDS, Served, Visitor
from tests.server_process import Service

expect.set_options(timeout=SECONDS * 1000)


class ChatPage:
    """One tab of one visitor. Finds elements by their accessible names."""

    def __init__(self, visitor: Visitor, service: Served, path: str = "/", **options: Any) -> None:
        self.visitor = visitor
        self.page: Page = visitor.open(service, path, **options)
        self.questions: Locator = self.page.locator("article.user")
        self.answers: Locator = self.page.locator("article.assistant")
        self.box: Locator = self.page.get_by_label("Message", exact=True)
        self.alert: Locator = self.page.get_by_role("alert")

    @classmethod
    def with_key(cls, visitor: Visitor, service: Served, key: str, path: str = "/") -> ChatPage:
        """Open a tab as a reload would: it remembers the key. To enter it costs a third of a short test's CPU time."""
        chat_page = cls(visitor, service, path, remembered_key=key)
        expect(chat_page.box).to_be_visible()
        return chat_page

    @classmethod
    def in_chat(cls, visitor: Visitor, service: Service, key: str, *texts: str) -> ChatPage:
        """Open a tab at a chat in which another client has sent these messages. To type one costs 0.1 s of CPU time."""
        session = {"developer_message": ""}
        for text in texts:
            answer = service.send(text, key=key, **session)
            assert answer.content
            session = {"session_id": answer.headers["x-session-id"]}
        chat_page = cls.with_key(visitor, service, key, f"/#/{session['session_id']}")
        chat_page.expect_stored_turn()
        return chat_page

    def enter(self, key: str, *, remember: bool = False) -> ChatPage:
        """Enter the key and start chatting."""
        self.page.get_by_label("OpenAI API key").fill(key)
        if remember:
            self.page.get_by_label("Remember it in this browser until its tabs are closed").check()
        self.press("Start chatting")
        expect(self.box).to_be_visible()
        return self

    def send(self, text: str) -> None:
        """Write a message and send it."""
        self.box.fill(text)
        self.box.press("Enter")

    def dispatch_composition(self, field: Locator, text: str, key: str = "Enter") -> None:
        """Compose a text and end it with a key, with the events in the order of WebKit."""
        field.evaluate(
            """(field, [text, key]) => {
                field.focus();
                field.dispatchEvent(new CompositionEvent('compositionstart', {bubbles: true}));
                document.execCommand('insertText', false, text);
                field.dispatchEvent(new CompositionEvent('compositionend', {bubbles: true, data: text}));
                const init = {key, keyCode: 229, isComposing: false, bubbles: true, cancelable: true};
                field.dispatchEvent(new KeyboardEvent('keydown', init));
            }""",
            [text, key],
        )

    def press(self, name: str, within: Locator | None = None) -> None:
        """Press a button, by its exact name."""
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def choose(self, title: str, item: str) -> None:
        """Open the menu of a chat and choose an item."""
        self.page.get_by_role("button", name=f"Actions for {title}").click()
        self.page.get_by_role("menuitem", name=item).click()

    def choose_action(self, message: Locator, item: str) -> None:
        """Open the menu of a message and choose an item."""
        self.press("More actions", message)
        self.page.get_by_role("menuitem", name=item).click()

    def open_settings(self, entry: str) -> None:
        """Open the settings of the page and choose an entry, a button or a link."""
        dialog = self.page.get_by_role("dialog", name="Settings", exact=True)
        if not dialog.is_visible():
            self.show_sidebar()
            self.press("Settings")
        dialog.get_by_role("button", name=entry).or_(dialog.get_by_role("link", name=entry)).click()

    def show_sidebar(self) -> None:
        """Open the sidebar of a narrow page."""
        self.page.locator(".sidebar").wait_for(state="attached")
        if self.page.get_by_role("navigation").is_hidden():
            self.press("Chats")

    def forget_key(self) -> None:
        """Forget the key."""
        self.open_settings("Forget the key")

    def choose_model(self, name: str) -> None:
        """Choose a model for the next messages, by the name that is typed into the search."""
        self.page.locator(".composer .model").click()
        self.page.get_by_label("Search models").fill(name)
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".composer .model")).to_have_text(name)

    def expect_answer(self, text: str, number: int = -1) -> None:
        """Expect an answer, by default the last one, to have this text and to be complete."""
        answer = self.answers.nth(number)
        expect(answer.locator(".markdown").last).to_have_text(text)
        expect(answer).to_have_attribute("aria-busy", "false")

    def expect_running_answer(self, text: str) -> None:
        """Expect the last answer to have this text so far and to be running."""
        answer = self.answers.last
        expect(answer.locator(".markdown").last).to_have_text(text)
        expect(answer).to_have_attribute("aria-busy", "true")

    def expect_stored_turn(self) -> None:
        """Expect the last turn to be read from the server, so that the next one is sent at once."""
        expect(self.answers.last.get_by_role("button", name="Regenerate", exact=True)).to_be_visible()

    def pass_time(self, seconds: int) -> None:
        """Run the timers that end in this time: checks for changes every 4 and 10 s, deletions after 7 s."""
        self.page.evaluate("milliseconds => advanceTimers(milliseconds)", seconds * 1000)

    @property
    def session_id(self) -> str:
        """The open chat, once the address names it."""
        self.page.wait_for_function("() => location.hash.startsWith('#/ses_')")
        return str(self.page.evaluate("location.hash.slice(2)"))


OpenChat = Callable[..., ChatPage]  # takes the messages that another client has sent
