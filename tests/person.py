"""Somebody at the page: what they do, and what they see."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser import SECONDS, Served, Visitor

expect.set_options(timeout=SECONDS * 1000)


class Person:
    """One tab of one visitor, by the names that everybody sees and hears."""

    def __init__(self, visitor: Visitor, service: Served, path: str = "/") -> None:
        self.visitor = visitor
        self.page: Page = visitor.open(service, path)
        self.questions: Locator = self.page.locator("article.user")
        self.answers: Locator = self.page.locator("article.assistant")
        self.box: Locator = self.page.get_by_label("Message", exact=True)
        self.alert: Locator = self.page.get_by_role("alert")

    def enter(self, key: str, *, remember: bool = False) -> Person:
        """Bring the key along."""
        self.page.get_by_label("OpenAI API key").fill(key)
        if remember:
            self.page.get_by_label("Remember it until this tab is closed").check()
        self.press("Start chatting")
        expect(self.box).to_be_visible()
        return self

    def say(self, text: str) -> None:
        """Write a message and send it."""
        self.box.fill(text)
        self.box.press("Enter")

    def press(self, name: str, within: Locator | None = None) -> None:
        """Press a button, by its whole name."""
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def choose(self, title: str, item: str) -> None:
        """Open the menu of a chat, and choose what to do with it."""
        self.page.get_by_role("button", name=f"Actions for {title}").click()
        self.page.get_by_role("menuitem", name=item).click()

    def sees_answer(self, text: str, number: int = -1) -> None:
        """An answer, the last one unless told, has this text and has ended."""
        answer = self.answers.nth(number)
        expect(answer.locator(".markdown").last).to_have_text(text)
        expect(answer).to_have_attribute("aria-busy", "false")

    def sees_coming(self, text: str) -> None:
        """The last answer has this text so far, and goes on."""
        answer = self.answers.last
        expect(answer.locator(".markdown").last).to_have_text(text)
        expect(answer).to_have_attribute("aria-busy", "true")

    @property
    def session_id(self) -> str:
        """The chat that is open, once the address tells."""
        self.page.wait_for_function("location.hash.startsWith('#/ses_')")
        return str(self.page.evaluate("location.hash.slice(2)"))
