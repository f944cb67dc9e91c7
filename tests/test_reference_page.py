"""The reference at /docs in a browser: its forms send requests, and the key stays on the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.server_process import Service, fresh_key

pytestmark = pytest.mark.one_process("it is about the page, which no deployment changes")
TRY = "Try it"


def test_a_newcomer_sends_a_message_and_reads_its_session(browser: Browser, shared: Service) -> None:
    key = fresh_key("reference-page")
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = context.new_page()
    errors: list[str] = []
    addresses: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(f"{shared.url}/docs")
    page.fill("#key", key)

    send = page.locator("#sendMessage")
    send.get_by_text(TRY, exact=True).click()
    send.get_by_role("button", name="Send", exact=True).click()
    expect(send.locator("form + pre")).to_contain_text("200 OK")
    expect(send.locator("form + pre")).to_contain_text("x-session-id: ses_")

    read = page.locator("#getSession")
    read.get_by_text(TRY, exact=True).click()
    read.get_by_role("button", name="Send", exact=True).click()  # the session's id is filled in
    expect(read.locator("form + pre")).to_contain_text('"message_count": 2')

    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), "it fits a phone"
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert key not in stored + "".join(addresses)
    assert all(address.startswith(shared.url) for address in addresses)
    assert errors == []
    context.close()
