"""Failures: the page explains each one, can continue, and loses no text that was typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from playwright.sync_api import Route, expect

from chatapi.simulator import Gate, Simulator, scripts
from tests.browser import Visitor
from tests.chat_page import ChatPage, OpenChat
from tests.server_process import Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

SENDS = re.compile(r"/api/chat$")
READS_ON = re.compile(r"/api/chat/.*/stream")
MESSAGES = re.compile(r"/api/sessions/.*/messages")
SESSION = re.compile(r"/api/sessions/ses_[\w-]+$")


@pytest.fixture(scope="module")
def upstream(page_upstream: Simulator) -> Simulator:
    return page_upstream


@pytest.fixture
def chat_page(server: Service, visitor: Visitor, key: str) -> ChatPage:
    return ChatPage.with_key(visitor, server, key)


def aborted(route: Route) -> None:
    route.abort()


def answered(status: int, body: str, route: Route) -> None:
    route.fulfill(status=status, body=body)


def fulfil_error(status: int, problem: dict[str, str], route: Route) -> None:
    route.fulfill(status=status, json=problem)


class DelayedResponses:
    """Responses from this address, delayed until the test releases them."""

    def __init__(self, chat_page: ChatPage, address: str) -> None:
        self._page = chat_page.page
        self._page.evaluate(
            """address => {
                const whole = window.fetch;
                window.held = [];
                window.fetch = async (...asked) => {
                    const response = await whole(...asked);
                    if (!String(asked[0]).includes(address)) return response;
                    const text = await response.text();
                    return new Promise(go => held.push(() => go(new Response(text, response))));
                };
            }""",
            address,
        )

    def release(self, number: int) -> None:
        """Release the response with this number, once it has arrived, and wait until the page has drawn it."""
        self._page.wait_for_function("number => held.length > number", arg=number)
        self._page.evaluate(
            """async number => {
                held[number]();
                for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
            }""",
            number,
        )


# Text that was typed


def test_unsent_message_survives_a_reload(chat_page: ChatPage) -> None:
    chat_page.page.route(SENDS, aborted)
    chat_page.send("Count to 3")
    expect(chat_page.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    chat_page.page.unroute(SENDS)
    chat_page.page.reload()
    expect(chat_page.box).to_have_value("Count to 3")
    chat_page.box.press("Enter")
    chat_page.expect_answer("1 2 3")
    chat_page.page.reload()
    chat_page.expect_answer("1 2 3")
    expect(chat_page.box).to_have_value("")


def test_refused_or_abandoned_edit_keeps_its_text(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.press("Edit", chat_page.questions.first)
    edit = chat_page.page.get_by_label("Edit the message")
    edit.fill("Count to 3")
    chat_page.page.keyboard.press("Control+Shift+o")  # opens another chat
    chat_page.page.go_back()
    expect(edit).to_have_value("Count to 3")
    chat_page.page.route(
        SENDS, lambda route: route.fulfill(status=413, json={"code": "too_large", "detail": "Too large."})
    )
    chat_page.press("Send", chat_page.questions.first)
    expect(chat_page.alert).to_contain_text("Too large.")
    expect(edit).to_have_value("Count to 3")
    expect(chat_page.box).to_have_value("")
    chat_page.page.unroute(SENDS)
    chat_page.page.reload()
    expect(edit).to_have_value("Count to 3")
    edit.press("Control+Enter")
    chat_page.expect_answer("1 2 3")
    chat_page.press("Previous version", chat_page.questions.first)
    expect(chat_page.questions.first).to_contain_text("Count to 2")
    expect(edit).to_have_count(0)


def test_edit_cannot_be_sent_while_an_answer_runs(open_chat: OpenChat, upstream: Simulator, gate: Gate) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.press("Edit", chat_page.questions.first)
    chat_page.page.get_by_label("Edit the message").fill("Count to 3")
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.page.get_by_label("Edit the message").press("Control+Enter")
    expect(chat_page.questions.first.get_by_role("button", name="Send")).to_be_disabled()
    gate.open()
    chat_page.expect_answer("Hello there.")
    upstream.script = None
    chat_page.press("Send", chat_page.questions.first)
    chat_page.expect_answer("1 2 3")


def test_attachments_and_instructions_of_a_new_chat_are_kept(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.page.keyboard.press("Control+Shift+o")
    chat_page.page.locator("input[type=file][multiple]").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Notes"}
    )
    expect(chat_page.page.locator(".attachments")).to_contain_text("notes.txt")
    chat_page.press("Chat settings")
    chat_page.page.get_by_label("Developer message").fill("Be brief.")
    chat_page.press("Save")
    chat_page.page.get_by_role("link", name="Count to 2").click()
    chat_page.expect_answer("1 2")
    chat_page.press("New chat")
    expect(chat_page.page.locator(".attachments")).to_contain_text("notes.txt")
    chat_page.page.reload()
    chat_page.press("Chat settings")
    expect(chat_page.page.get_by_label("Developer message")).to_have_value("Be brief.")


def test_unsaved_instructions_survive_closing_the_dialog_and_a_failed_save(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    instructions = chat_page.page.get_by_label("Developer message")
    chat_page.press("Chat settings")
    instructions.fill("Be brief.")
    chat_page.page.keyboard.press("Control+k")
    expect(instructions).to_be_visible()
    chat_page.page.keyboard.press("Escape")
    chat_page.press("Chat settings")
    expect(instructions).to_have_value("Be brief.")
    chat_page.page.route(SESSION, lambda route: route.abort() if route.request.method == "PATCH" else route.fallback())
    chat_page.press("Save")
    expect(chat_page.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("cannot be reached")
    chat_page.page.unroute(SESSION)
    chat_page.press("Save")
    expect(chat_page.page.get_by_role("dialog")).to_have_count(0)
    chat_page.page.reload()
    chat_page.press("Chat settings")
    expect(instructions).to_have_value("Be brief.")


def test_changing_a_rejected_key_keeps_the_message(server: Service, visitor: Visitor, key: str) -> None:
    refused = key.replace("sk-proj-test", "sk-proj-invalid", 1)[:164]
    chat_page = ChatPage(visitor, server).enter(refused)
    chat_page.send("Count to 3")
    chat_page.alert.get_by_role("button", name="Change the key").click()
    chat_page.enter(key)
    expect(chat_page.box).to_have_value("Count to 3")
    chat_page.box.press("Enter")
    chat_page.expect_answer("1 2 3")


def test_failed_rename_keeps_the_title_in_its_field(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.page.route(SESSION, lambda route: route.abort() if route.request.method == "PATCH" else route.fallback())
    chat_page.choose("Count to 2", "Rename")
    field = chat_page.page.get_by_label("Title")
    field.fill("Numbers")
    field.press("Enter")
    expect(chat_page.alert).to_contain_text("cannot be reached")
    expect(field).to_have_value("Numbers")
    chat_page.page.unroute(SESSION)
    field.press("Enter")
    expect(chat_page.page.get_by_role("link", name="Numbers")).to_be_visible()
    expect(chat_page.page.get_by_role("button", name="Actions for Numbers")).to_be_focused()


# Missing and late responses


def test_outdated_response_does_not_replace_newer_messages(server: Service, open_chat: OpenChat, key: str) -> None:
    chat_page = open_chat("Count to 2")
    readings = DelayedResponses(chat_page, "/messages")
    server.patch(f"/api/sessions/{chat_page.session_id}", key=key, json={"developer_message": "Be brief."})
    chat_page.page.evaluate(
        "new BroadcastChannel('chatapi').postMessage({changed: location.hash.slice(2)})"
    )  # as another tab does
    chat_page.page.wait_for_function("() => held.length === 1")
    chat_page.send("Count to 3")
    readings.release(1)
    expect(chat_page.answers.last.locator(".figures")).to_contain_text("Tokens")
    readings.release(0)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_count(2)


def test_messages_sent_while_the_last_turn_is_read_are_sent_once(chat_page: ChatPage) -> None:
    readings = DelayedResponses(chat_page, "/messages")
    chat_page.send("Count to 2")
    chat_page.page.wait_for_function("() => held.length === 1")
    chat_page.send("Count to 3")
    chat_page.send("Count to 4")
    readings.release(1)
    chat_page.page.wait_for_function("() => held.length === 3")
    readings.release(0)
    readings.release(2)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_count(2)
    expect(chat_page.box).to_have_value("Count to 4")


def test_failed_read_after_an_answer_can_be_retried(chat_page: ChatPage) -> None:
    chat_page.page.route(MESSAGES, aborted)
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    expect(chat_page.alert).to_contain_text("cannot be reached")
    chat_page.page.unroute(MESSAGES)
    chat_page.alert.get_by_role("button", name="Try again").click()
    expect(chat_page.alert).to_have_count(0)
    expect(chat_page.answers.last.locator(".figures")).to_contain_text("Tokens")


def test_unreadable_answer_is_requested_once(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=403, body="<h1>No</h1>")

    chat_page.page.route(READS_ON, refuse)
    chat_page.page.reload()
    expect(chat_page.answers).to_contain_text("Not connected")
    expect(chat_page.alert).to_contain_text("A proxy or a sign-in page answered")
    assert len(asked) == 1
    chat_page.page.unroute(READS_ON)
    chat_page.press("Reconnect")
    chat_page.expect_running_answer("Hello")
    gate.open()
    chat_page.expect_answer("Hello there.")


def test_chat_deleted_elsewhere_during_an_answer_is_reported(
    server: Service, chat_page: ChatPage, visitor: Visitor, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    server.delete(f"/api/sessions/{chat_page.session_id}", key=key)
    expect(chat_page.page.get_by_text("This chat does not exist")).to_be_visible()
    expect(chat_page.page.get_by_role("navigation").get_by_role("link", name="Hi")).to_have_count(0)
    asked = len(visitor.requests)
    chat_page.page.wait_for_load_state("networkidle")
    assert len(visitor.requests) - asked < 5


def test_response_of_a_proxy_is_reported_and_advice_to_programs_is_not_shown(chat_page: ChatPage) -> None:
    said = [(200, "<h1>Sign in</h1>"), (403, '{"errors": {"code": 1}}'), (400, '{"detail": [{"a": 1}]}')]
    for status, body in said:
        chat_page.page.route(SENDS, partial(answered, status, body))
        chat_page.send("Count to 3")
        expect(chat_page.alert).to_contain_text("A proxy or a sign-in page answered")
        expect(chat_page.alert).not_to_contain_text("HTTP")
        expect(chat_page.box).to_have_value("Count to 3")
        chat_page.page.unroute(SENDS)
    for status, code, shown in [
        (503, "overloaded", "The server is busy. Try again in a moment."),
        (503, "upstream_unavailable", "The model API is unreachable."),
        (401, "api_key_required", "The server does not know this key any more."),
        (413, "context_too_large", "Start a new chat."),
    ]:
        detail = "The model API is unreachable. Retry after the time in Retry-After."
        chat_page.page.route(SENDS, partial(fulfil_error, status, {"code": code, "detail": detail}), times=1)
        chat_page.send("Hi")
        expect(chat_page.alert).to_contain_text(shown)
        expect(chat_page.alert).not_to_contain_text("Retry-After")


def test_rate_limit_of_the_provider_names_the_wait(chat_page: ChatPage, upstream: Simulator) -> None:
    for seconds, wait in ((40, "40 s"), (600, "10 min")):
        upstream.script = scripts.refuse(429, message="Too many tokens", retry_after=seconds)
        chat_page.send("Hi")
        expect(chat_page.alert).to_contain_text(f"Too many tokens. Try again in {wait}.")  # one alert
        expect(chat_page.alert.get_by_role("button")).to_have_count(1)
        expect(chat_page.alert.get_by_role("button", name="Try again", exact=True)).to_contain_text(re.compile(r"\d+"))


def test_unreachable_server_is_reported_once(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    every_api = re.compile("/api/")
    chat_page.page.route(every_api, aborted)
    chat_page.page.evaluate("location.hash = '#/ses_0000000000AAAAAAAAAAAAAAAAAAAAAA'")
    chat_page.page.evaluate("dispatchEvent(new Event('online'))")
    expect(chat_page.alert).to_contain_text("The server cannot be reached")
    chat_page.page.unroute(every_api)
    chat_page.press("Try again", chat_page.alert)
    expect(chat_page.alert).to_have_count(0)


def test_silent_server_times_out(
    open_chat: OpenChat,
) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.page.route(MESSAGES, lambda _route: None)
    chat_page.page.reload()
    expect(chat_page.page.get_by_text("Loading the chat")).to_be_visible()
    chat_page.pass_time(60)
    trouble = chat_page.page.get_by_role("main").get_by_role("alert")
    expect(trouble).to_contain_text("cannot be reached")
    expect(trouble.get_by_role("button", name="Dismiss")).to_have_count(0)
    chat_page.page.unroute(MESSAGES)
    trouble.get_by_role("button", name="Try again").click()
    chat_page.expect_answer("1 2")


def test_message_with_a_lost_response_is_sent_once(chat_page: ChatPage, upstream: Simulator) -> None:
    before = len(upstream.requests)

    def lose(route: Route) -> None:
        route.fetch()  # the server has received and answered it
        route.abort()

    chat_page.page.route(SENDS, lose, times=1)
    chat_page.send("Count to 3")
    chat_page.expect_answer("1 2 3")
    expect(chat_page.answers).to_have_count(1)
    asked = [request for request in upstream.requests[before:] if request.path.endswith("/chat/completions")]
    assert len(asked) == 1


def test_escape_that_ends_a_composition_stops_nothing_and_a_failed_stop_can_be_retried(
    chat_page: ChatPage, visitor: Visitor, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    escape = "() => { dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', isComposing: true})); }"
    chat_page.page.evaluate(escape)
    chat_page.page.evaluate("fetch('/api/health')")  # after a request that the key would have sent
    assert not [address for address in visitor.requests if address.endswith("/stop")], "stopped by a composition"
    stops = re.compile("/stop$")
    chat_page.page.route(stops, aborted)
    chat_page.press("Stop the answer")
    expect(chat_page.alert).to_contain_text("cannot be reached")
    expect(chat_page.page.get_by_text("Stopping …")).to_have_count(0)
    chat_page.page.unroute(stops)
    chat_page.press("Stop the answer")
    expect(chat_page.answers.last).to_contain_text("Stopped")


def test_stop_before_the_answer_starts_takes_effect(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = replace(scripts.silent_after("Hello"), before_headers=(scripts.Wait(gate),))
    chat_page.send("Hi")
    chat_page.press("Stop the answer")
    expect(chat_page.answers.last).to_contain_text("Stopping …")
    gate.open()
    expect(chat_page.answers.last).to_contain_text("Stopped")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"


def test_stop_with_a_broken_connection_closes_the_upstream(
    server: Service, chat_page: ChatPage, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.page.route(READS_ON, aborted)
    chat_page.page.reload()
    expect(chat_page.answers.get_by_role("status")).to_contain_text("Reconnecting")
    chat_page.press("Stop the answer")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"
    chat_page.page.unroute(READS_ON)
    expect(chat_page.answers.last).to_contain_text("Stopped")


def test_failed_deletion_restores_the_chat_and_shows_the_reason(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.page.route(SESSION, lambda route: route.abort() if route.request.method == "DELETE" else route.fallback())
    link = chat_page.page.get_by_role("link", name="Count to 2")
    chat_page.choose("Count to 2", "Delete")
    expect(link).to_have_count(0)
    chat_page.pass_time(7)
    expect(link).to_be_visible()
    expect(chat_page.page.get_by_role("navigation").get_by_role("alert")).to_contain_text("cannot be reached")


def test_opening_a_chat_cancels_its_pending_deletion(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.choose("Count to 2", "Delete")
    link = chat_page.page.get_by_role("link", name="Count to 2")
    expect(link).to_have_count(0)
    chat_page.page.go_back()
    chat_page.expect_answer("1 2")
    expect(link).to_be_visible()


def test_failed_search_can_be_retried(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    search = re.compile("/api/search")
    chat_page.page.route(search, aborted)
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("count")
    dialog = chat_page.page.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_contain_text("cannot be reached")
    chat_page.page.unroute(search)
    chat_page.press("Try again", dialog)
    expect(dialog.get_by_role("option").first).to_be_visible()
    expect(dialog.get_by_role("status")).to_have_text(re.compile(r"^\d+ found\.$"))


# Two tabs


def test_second_tab_follows_sends_renames_and_deletions(
    server: Service, open_chat: OpenChat, visitor: Visitor, upstream: Simulator, gate: Gate
) -> None:
    chat_page = open_chat("Count to 2")
    other = ChatPage(visitor, server, f"/#/{chat_page.session_id}")
    other.expect_answer("1 2")
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    other.expect_running_answer("Hello")
    gate.open()
    other.expect_answer("Hello there.")
    chat_page.expect_answer("Hello there.")
    chat_page.page.bring_to_front()
    chat_page.choose("Count to 2", "Rename")
    chat_page.page.get_by_label("Title").fill("Numbers")
    chat_page.page.keyboard.press("Enter")
    expect(other.page.get_by_role("link", name="Numbers")).to_be_visible()
    chat_page.choose("Numbers", "Delete")
    chat_page.pass_time(7)
    expect(other.page.get_by_role("link", name="Numbers")).to_have_count(0)
    expect(other.page.get_by_text("This chat does not exist")).to_be_visible()


def test_busy_session_keeps_the_message_and_shows_the_running_answer(
    server: Service, open_chat: OpenChat, upstream: Simulator, gate: Gate, key: str
) -> None:
    chat_page = open_chat("Count to 2")
    upstream.script = scripts.held(gate, "Hello", " there.")
    with server.send("Hi", session_id=chat_page.session_id, key=key, stream=True):
        chat_page.send("Count to 3")
        chat_page.expect_running_answer("Hello")
        expect(chat_page.alert).to_contain_text("answering")
        expect(chat_page.box).to_have_value("Count to 3")
        gate.open()
    chat_page.expect_answer("Hello there.")
    upstream.script = None
    chat_page.box.press("Enter")
    chat_page.expect_answer("1 2 3")


def test_message_waits_for_an_answer_that_another_device_has_started(
    server: Service, open_chat: OpenChat, upstream: Simulator, gate: Gate, key: str
) -> None:
    chat_page = open_chat("Count to 2")
    upstream.script = scripts.held(gate, "Hello", " there.")
    with server.send("Hi", session_id=chat_page.session_id, key=key, stream=True):
        chat_page.pass_time(10)
        chat_page.expect_running_answer("Hello")
        chat_page.send("Count to 3")
        expect(chat_page.page.get_by_text("Sent when the answer is complete")).to_be_visible()
        expect(chat_page.alert).to_have_count(0)
        upstream.script = None
        gate.open()
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_text([re.compile(text) for text in ("Count to 2", "Hi", "Count to 3")])


# Keyboard, focus and print


def test_focus_follows_the_replaced_control(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.press("Edit", chat_page.questions.first)
    chat_page.page.keyboard.press("Escape")
    expect(chat_page.box).to_be_focused()
    for _ in range(2):
        chat_page.press("Regenerate", chat_page.answers.last)
        chat_page.expect_answer("1 2")
        expect(chat_page.answers.last).to_contain_text(re.compile(r"(\d)/\1"))
    chat_page.press("Previous version", chat_page.answers.last)
    expect(chat_page.answers.last).to_contain_text("2/3")
    expect(chat_page.answers.last.get_by_role("button", name="Previous version")).to_be_focused()


def test_selection_that_ends_outside_a_dialog_does_not_close_it(chat_page: ChatPage) -> None:
    chat_page.press("Chat settings")
    box = chat_page.page.get_by_label("Developer message").bounding_box()
    assert box is not None
    chat_page.page.mouse.move(box["x"] + 20, box["y"] + 20)
    chat_page.page.mouse.down()
    chat_page.page.mouse.move(3, 3)
    chat_page.page.mouse.up()
    expect(chat_page.page.get_by_role("dialog")).to_be_visible()
    chat_page.page.mouse.click(3, 3)
    expect(chat_page.page.get_by_role("dialog")).to_have_count(0)


def test_file_dropped_anywhere_is_attached_and_text_is_not(chat_page: ChatPage) -> None:
    drop = """([kind, selector]) => {
        const dropped = new DataTransfer();
        if (kind === 'file') dropped.items.add(new File(['Notes'], 'notes.txt', { type: 'text/plain' }));
        else dropped.setData('text/plain', 'Notes');
        const event = new DragEvent('drop', { dataTransfer: dropped, bubbles: true, cancelable: true });
        return document.querySelector(selector).dispatchEvent(event);
    }"""
    assert chat_page.page.evaluate(drop, ["file", "nav"]) is False  # the default action is prevented
    expect(chat_page.page.locator(".attachments")).to_contain_text("notes.txt")
    assert chat_page.page.evaluate(drop, ["text", "#composer"]) is True


def test_old_failures_and_answers_are_not_announced_again(chat_page: ChatPage, upstream: Simulator) -> None:
    upstream.script = scripts.refuse(503)
    chat_page.send("Hi")
    expect(chat_page.answers.get_by_role("alert")).to_have_count(1)
    upstream.script = None
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    expect(chat_page.answers.get_by_role("alert")).to_have_count(0)
    chat_page.page.reload()
    chat_page.expect_answer("1 2")
    chat_page.press("Chat settings")
    chat_page.page.get_by_label("Developer message").fill("Be brief.")
    chat_page.press("Save")
    expect(chat_page.page.get_by_role("dialog")).to_have_count(0)
    expect(chat_page.page.locator("[aria-live=polite]")).to_have_text("")


def test_print_shows_the_whole_chat_in_dark_text(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    chat_page = ChatPage.with_key(new_visitor(color_scheme="dark"), server, key)
    chat_page.press("Settings")
    chat_page.page.get_by_role("dialog").get_by_text("Dark").click()
    chat_page.page.keyboard.press("Escape")
    for number in (30, 31, 32):
        chat_page.send(f"Count to {number}" + "\nplease" * 20)
        expect(chat_page.answers.last).to_have_attribute("aria-busy", "false")
        expect(chat_page.answers.last).to_contain_text(str(number))
    chat_page.page.emulate_media(media="print")
    assert chat_page.page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 27, 30)"
    assert chat_page.page.evaluate("document.querySelector('.scroller').scrollHeight <= document.body.scrollHeight")
    assert chat_page.page.evaluate("document.body.scrollHeight > innerHeight")
    expect(chat_page.box).to_be_hidden()


def test_phone_sidebar_closes_for_a_search_hit(server: Service, new_visitor: Callable[..., Visitor], key: str) -> None:
    phone = new_visitor(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    chat_page = ChatPage.with_key(phone, server, key)
    chat_page.box.fill("My cat is called Mimi")
    chat_page.press("Send")
    expect(chat_page.answers.last).to_have_attribute("aria-busy", "false")
    chat_page.press("New chat", chat_page.page.get_by_role("main"))
    chat_page.press("Chats")
    sidebar = chat_page.page.get_by_role("navigation")
    expect(sidebar.get_by_role("button", name="New chat")).to_be_focused()
    sidebar.get_by_role("button", name="Search").click()
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("mimi")
    chat_page.page.get_by_role("dialog").get_by_role("option").first.click()
    expect(chat_page.questions).to_contain_text("Mimi")
    expect(sidebar).to_be_hidden()


def test_page_opens_without_a_connection_and_keeps_no_answers(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    visitor = new_visitor(service_workers="allow")
    chat_page = ChatPage(visitor, server)
    chat_page.page.wait_for_function(
        "() => navigator.serviceWorker.ready.then(({ active }) => active.state === 'activated')"
    )
    chat_page.page.reload()  # from now on the worker handles the page
    chat_page.enter(key).send("Count to 2")
    chat_page.expect_answer("1 2")
    chat_page.expect_stored_turn()
    paths = chat_page.page.evaluate(
        "caches.open('chatapi.page').then(kept => kept.keys()).then(all => all.map(one => new URL(one.url).pathname))"
    )
    assert {"/", "page.js", "page.css"} <= {path if path == "/" else path.rsplit("/", 1)[1] for path in paths}
    assert all(path == "/" or path.startswith("/web/") for path in paths)
    visitor.context.set_offline(True)
    chat_page.page.reload()
    expect(chat_page.alert).to_contain_text("The server cannot be reached")
    visitor.context.set_offline(False)
    chat_page.press("Try again")
    expect(chat_page.page.get_by_label("OpenAI API key")).to_be_visible()
