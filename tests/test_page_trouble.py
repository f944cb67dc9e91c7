"""Whatever goes wrong around the page, the person reads a sentence and goes on, and nothing that was typed is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from playwright.sync_api import Route, expect

from chatapi.simulator import Gate, Simulator, scripts
from tests.browser import Visitor
from tests.person import Person
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

SENDS = re.compile(r"/api/chat$")
READS_ON = re.compile(r"/api/chat/.*/stream")
MESSAGES = re.compile(r"/api/sessions/.*/messages")
SESSION = re.compile(r"/api/sessions/ses_[\w-]+$")


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture
def person(server: Service, visitor: Visitor, key: str) -> Person:
    return Person(visitor, server).enter(key, remember=True)


def aborted(route: Route) -> None:
    route.abort()


def answered(status: int, body: str, route: Route) -> None:
    route.fulfill(status=status, body=body)


class Held:
    """What the server says on this address, held back from the page until the test lets it go."""

    def __init__(self, person: Person, address: str) -> None:
        self._page = person.page
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
        """The one with this number, once it has come; returns when the page has drawn what it makes of it."""
        self._page.wait_for_function("number => held.length > number", arg=number)
        self._page.evaluate(
            """async number => {
                held[number]();
                for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
            }""",
            number,
        )


# What was typed


def test_words_that_have_not_reached_the_server_outlive_a_reload(person: Person) -> None:
    person.page.route(SENDS, aborted)
    person.say("Count to 3")
    expect(person.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    person.page.unroute(SENDS)
    person.page.reload()
    expect(person.box).to_have_value("Count to 3")
    person.box.press("Enter")
    person.sees_answer("1 2 3")
    person.page.reload()
    person.sees_answer("1 2 3")
    expect(person.box).to_have_value("")


def test_an_edit_that_is_refused_or_left_is_found_as_it_was(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.press("Edit", person.questions.first)
    edit = person.page.get_by_label("Say it in other words")
    edit.fill("Count to 3")
    person.page.keyboard.press("Control+Shift+o")  # to another chat, and back
    person.page.go_back()
    expect(edit).to_have_value("Count to 3")
    person.page.route(
        SENDS, lambda route: route.fulfill(status=413, json={"code": "too_large", "detail": "Too large."})
    )
    person.press("Send", person.questions.first)
    expect(person.alert).to_contain_text("Too large.")
    expect(edit).to_have_value("Count to 3")
    expect(person.box).to_have_value("")
    person.page.unroute(SENDS)
    person.page.reload()
    expect(edit).to_have_value("Count to 3")
    edit.press("Control+Enter")
    person.sees_answer("1 2 3")
    person.press("Previous version", person.questions.first)
    expect(person.questions.first).to_contain_text("Count to 2")
    expect(edit).to_have_count(0)


def test_an_edit_waits_for_the_answer_that_comes(person: Person, upstream: Simulator, gate: Gate) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.press("Edit", person.questions.first)
    person.page.get_by_label("Say it in other words").fill("Count to 3")
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    person.page.get_by_label("Say it in other words").press("Control+Enter")
    expect(person.questions.first.get_by_role("button", name="Send")).to_be_disabled()
    gate.open()
    person.sees_answer("Hello there.")
    upstream.script = None
    person.press("Send", person.questions.first)
    person.sees_answer("1 2 3")


def test_what_is_prepared_for_a_new_chat_waits_there(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.page.keyboard.press("Control+Shift+o")
    person.page.locator("input[type=file][multiple]").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Notes"}
    )
    expect(person.page.locator(".attachments")).to_contain_text("notes.txt")
    person.press("Settings of this chat")
    person.page.get_by_label("Developer message").fill("Be brief.")
    person.press("Save")
    person.page.get_by_role("link", name="Count to 2").click()
    person.sees_answer("1 2")
    person.press("New chat")
    expect(person.page.locator(".attachments")).to_contain_text("notes.txt")
    person.page.reload()
    person.press("Settings of this chat")
    expect(person.page.get_by_label("Developer message")).to_have_value("Be brief.")


def test_instructions_outlive_a_dialog_that_is_closed_and_a_server_that_refuses_them(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    instructions = person.page.get_by_label("Developer message")
    person.press("Settings of this chat")
    instructions.fill("Be brief.")
    person.page.keyboard.press("Control+k")
    expect(instructions).to_be_visible()
    person.page.keyboard.press("Escape")
    person.press("Settings of this chat")
    expect(instructions).to_have_value("Be brief.")
    person.page.route(SESSION, lambda route: route.abort() if route.request.method == "PATCH" else route.fallback())
    person.press("Save")
    expect(person.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("cannot be reached")
    person.page.unroute(SESSION)
    person.press("Save")
    expect(person.page.get_by_role("dialog")).to_have_count(0)
    person.page.reload()
    person.press("Settings of this chat")
    expect(instructions).to_have_value("Be brief.")


def test_who_changes_a_refused_key_has_their_words_still(server: Service, visitor: Visitor, key: str) -> None:
    refused = key.replace("sk-proj-test", "sk-proj-invalid", 1)[:164]
    person = Person(visitor, server).enter(refused)
    person.say("Count to 3")
    person.page.locator(".trouble").get_by_role("button", name="Change the key").click()
    person.enter(key)
    expect(person.box).to_have_value("Count to 3")
    person.box.press("Enter")
    person.sees_answer("1 2 3")


def test_a_new_title_that_the_server_does_not_get_stays_in_its_field(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.page.route(SESSION, lambda route: route.abort() if route.request.method == "PATCH" else route.fallback())
    person.choose("Count to 2", "Rename")
    field = person.page.get_by_label("Title")
    field.fill("Numbers")
    field.press("Enter")
    expect(person.alert).to_contain_text("cannot be reached")
    expect(field).to_have_value("Numbers")
    person.page.unroute(SESSION)
    field.press("Enter")
    expect(person.page.get_by_role("link", name="Numbers")).to_be_visible()
    expect(person.page.get_by_role("button", name="Actions for Numbers")).to_be_focused()


# What the server does not say


def test_a_late_reading_takes_no_newer_message_away(server: Service, person: Person, key: str) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    readings = Held(person, "/messages")
    server.patch(f"/api/sessions/{person.session_id}", key=key, json={"developer_message": "Be brief."})
    person.page.evaluate(
        "new BroadcastChannel('chatapi').postMessage({changed: location.hash.slice(2)})"
    )  # as another tab tells of it
    person.page.wait_for_function("() => held.length === 1")
    person.say("Count to 3")
    readings.release(1)
    expect(person.answers.last.locator(".figures")).to_contain_text("tokens")
    readings.release(0)
    person.sees_answer("1 2 3")
    expect(person.questions).to_have_count(2)


def test_who_writes_while_the_last_answer_is_being_filed_is_heard_once(person: Person) -> None:
    readings = Held(person, "/messages")
    person.say("Count to 2")
    person.page.wait_for_function("() => held.length === 1")
    person.say("Count to 3")
    person.say("Count to 4")
    readings.release(1)
    person.page.wait_for_function("() => held.length === 3")
    readings.release(0)
    readings.release(2)
    person.sees_answer("1 2 3")
    expect(person.questions).to_have_count(2)
    expect(person.box).to_have_value("Count to 4")


def test_an_answer_that_could_not_be_filed_is_when_the_server_is_back(person: Person) -> None:
    person.page.route(MESSAGES, aborted)
    person.say("Count to 2")
    person.sees_answer("1 2")
    expect(person.alert).to_contain_text("cannot be reached")
    person.page.unroute(MESSAGES)
    person.alert.get_by_role("button", name="Try again").click()
    expect(person.alert).to_have_count(0)
    expect(person.answers.last.locator(".figures")).to_contain_text("tokens")


def test_an_answer_that_may_not_be_read_is_not_asked_for_without_end(
    person: Person, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=403, body="<h1>No</h1>")

    person.page.route(READS_ON, refuse)
    person.page.reload()
    expect(person.answers).to_contain_text("Not connected")
    expect(person.alert).to_contain_text("HTTP 403")
    assert len(asked) == 1
    person.page.unroute(READS_ON)
    person.press("Look again")
    person.sees_coming("Hello")
    gate.open()
    person.sees_answer("Hello there.")


def test_a_chat_that_is_deleted_elsewhere_in_mid_answer_is_gone_once(
    server: Service, person: Person, visitor: Visitor, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    server.delete(f"/api/sessions/{person.session_id}", key=key)
    expect(person.page.get_by_text("There is no such chat here")).to_be_visible()
    expect(person.page.get_by_role("navigation").get_by_role("link", name="Hi")).to_have_count(0)
    asked = len(visitor.requests)
    person.page.wait_for_load_state("networkidle")
    assert len(visitor.requests) - asked < 5


def test_a_page_of_a_proxy_instead_of_an_answer_is_said_so(person: Person) -> None:
    said = [(200, "<h1>Sign in</h1>"), (403, '{"errors": {"code": 1}}'), (400, '{"detail": [{"a": 1}]}')]
    for status, body in said:
        person.page.route(SENDS, partial(answered, status, body))
        person.say("Count to 3")
        expect(person.alert).to_contain_text(f"HTTP {status}")
        expect(person.box).to_have_value("Count to 3")
        person.page.unroute(SENDS)


def test_a_server_that_says_nothing_at_all_is_not_waited_for_without_end(
    person: Person,
) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.page.clock.install()
    person.page.route(MESSAGES, lambda _route: None)
    person.page.reload()
    expect(person.page.get_by_text("Loading the chat")).to_be_visible()
    person.page.clock.fast_forward(61_000)
    trouble = person.page.get_by_role("main").get_by_role("alert")
    expect(trouble).to_contain_text("cannot be reached")
    expect(trouble.get_by_role("button", name="Dismiss")).to_have_count(0)
    person.page.unroute(MESSAGES)
    trouble.get_by_role("button", name="Try again").click()
    person.sees_answer("1 2")


def test_a_message_whose_receipt_is_lost_is_said_once(person: Person, upstream: Simulator) -> None:
    before = len(upstream.requests)

    def lose(route: Route) -> None:
        route.fetch()  # the server has it, and has answered
        route.abort()

    person.page.route(SENDS, lose, times=1)
    person.say("Count to 3")
    person.sees_answer("1 2 3")
    expect(person.answers).to_have_count(1)
    asked = [request for request in upstream.requests[before:] if request.path.endswith("/chat/completions")]
    assert len(asked) == 1


def test_a_stop_that_did_not_go_is_said_so_and_can_be_tried_again(
    person: Person, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    stops = re.compile("/stop$")
    person.page.route(stops, aborted)
    person.press("Stop the answer")
    expect(person.alert).to_contain_text("cannot be reached")
    expect(person.page.get_by_text("Stopping …")).to_have_count(0)
    person.page.unroute(stops)
    person.press("Stop the answer")
    expect(person.answers.last).to_contain_text("Stopped")


def test_a_stop_before_the_answer_begins_holds_when_it_does(person: Person, upstream: Simulator, gate: Gate) -> None:
    upstream.script = replace(scripts.silent_after("Hello"), before_headers=(scripts.Wait(gate),))
    person.say("Hi")
    person.press("Stop the answer")
    expect(person.answers.last).to_contain_text("Stopping …")
    gate.open()
    expect(person.answers.last).to_contain_text("Stopped")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"


def test_stop_while_the_connection_is_cut_stops_the_upstream_too(
    server: Service, person: Person, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    person.page.route(READS_ON, aborted)
    person.page.reload()
    expect(person.answers.get_by_role("status")).to_contain_text("Reconnecting")
    person.press("Stop the answer")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"
    person.page.unroute(READS_ON)
    expect(person.answers.last).to_contain_text("Stopped")


def test_a_chat_that_could_not_be_deleted_is_back_and_the_reason_is_said(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.page.clock.install()
    person.page.route(SESSION, lambda route: route.abort() if route.request.method == "DELETE" else route.fallback())
    link = person.page.get_by_role("link", name="Count to 2")
    person.choose("Count to 2", "Delete")
    expect(link).to_have_count(0)
    person.page.clock.fast_forward(8_000)
    expect(link).to_be_visible()
    expect(person.page.get_by_role("navigation").get_by_role("alert")).to_contain_text("cannot be reached")


def test_who_goes_back_to_a_chat_that_is_about_to_be_deleted_keeps_it(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.choose("Count to 2", "Delete")
    link = person.page.get_by_role("link", name="Count to 2")
    expect(link).to_have_count(0)
    person.page.go_back()
    person.sees_answer("1 2")
    expect(link).to_be_visible()


def test_a_search_that_fails_can_be_tried_again(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    search = re.compile("/api/search")
    person.page.route(search, aborted)
    person.page.keyboard.press("Control+k")
    person.page.get_by_role("combobox", name="Search your chats").fill("count")
    dialog = person.page.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_contain_text("cannot be reached")
    person.page.unroute(search)
    person.press("Try again", dialog)
    expect(dialog.get_by_role("option").first).to_be_visible()
    expect(dialog.get_by_role("status")).to_have_text(re.compile(r"^\d+ found\.$"))


# Two tabs


def test_a_second_tab_sees_what_the_first_begins_renames_and_deletes(
    server: Service, person: Person, visitor: Visitor, upstream: Simulator, gate: Gate, key: str
) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    other = Person(visitor, server, f"/#/{person.session_id}").enter(key)
    other.sees_answer("1 2")
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    other.sees_coming("Hello")
    gate.open()
    other.sees_answer("Hello there.")
    person.sees_answer("Hello there.")
    person.page.bring_to_front()
    person.choose("Count to 2", "Rename")
    person.page.get_by_label("Title").fill("Numbers")
    person.page.keyboard.press("Enter")
    expect(other.page.get_by_role("link", name="Numbers")).to_be_visible()
    person.page.clock.install()
    person.choose("Numbers", "Delete")
    person.page.clock.fast_forward(8_000)
    expect(other.page.get_by_role("link", name="Numbers")).to_have_count(0)
    expect(other.page.get_by_text("There is no such chat here")).to_be_visible()


def test_who_writes_while_another_client_is_answered_has_their_words_and_sees_that_answer(
    server: Service, person: Person, upstream: Simulator, gate: Gate, key: str
) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    upstream.script = scripts.held(gate, "Hello", " there.")
    with server.send("Hi", session_id=person.session_id, key=key, stream=True):
        person.say("Count to 3")
        person.sees_coming("Hello")
        expect(person.alert).to_contain_text("answering")
        expect(person.box).to_have_value("Count to 3")
        gate.open()
    person.sees_answer("Hello there.")
    upstream.script = None
    person.box.press("Enter")
    person.sees_answer("1 2 3")


# Keys, eyes and paper


def test_a_key_within_another_writing_does_not_stop_the_answer(
    person: Person, visitor: Visitor, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    person.page.evaluate("() => { dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', isComposing: true})); }")
    gate.open()
    person.sees_answer("Hello there.")
    assert not [address for address in visitor.requests if address.endswith("/stop")]


def test_the_focus_goes_on_where_it_was(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.press("Edit", person.questions.first)
    person.page.keyboard.press("Escape")
    expect(person.box).to_be_focused()
    for _ in range(2):
        person.press("Another answer", person.answers.last)
        person.sees_answer("1 2")
        expect(person.answers.last).to_contain_text(re.compile(r"(\d)/\1"))
    person.press("Previous version", person.answers.last)
    expect(person.answers.last).to_contain_text("2/3")
    expect(person.answers.last.get_by_role("button", name="Previous version")).to_be_focused()


def test_a_selection_that_ends_beside_a_dialog_does_not_close_it(person: Person) -> None:
    person.press("Settings of this chat")
    box = person.page.get_by_label("Developer message").bounding_box()
    assert box is not None
    person.page.mouse.move(box["x"] + 20, box["y"] + 20)
    person.page.mouse.down()
    person.page.mouse.move(3, 3)
    person.page.mouse.up()
    expect(person.page.get_by_role("dialog")).to_be_visible()
    person.page.mouse.click(3, 3)
    expect(person.page.get_by_role("dialog")).to_have_count(0)


def test_a_file_that_is_dropped_beside_the_box_goes_along_and_a_text_stays_a_text(person: Person) -> None:
    drop = """([kind, selector]) => {
        const dropped = new DataTransfer();
        if (kind === 'file') dropped.items.add(new File(['Notes'], 'notes.txt', { type: 'text/plain' }));
        else dropped.setData('text/plain', 'Notes');
        const event = new DragEvent('drop', { dataTransfer: dropped, bubbles: true, cancelable: true });
        return document.querySelector(selector).dispatchEvent(event);
    }"""
    assert person.page.evaluate(drop, ["file", "nav"]) is False  # the browser does nothing of its own
    expect(person.page.locator(".attachments")).to_contain_text("notes.txt")
    assert person.page.evaluate(drop, ["text", "#composer"]) is True


def test_opening_a_chat_announces_no_old_failure_and_saving_its_settings_no_old_answer(
    person: Person, upstream: Simulator
) -> None:
    upstream.script = scripts.refuse(503)
    person.say("Hi")
    expect(person.answers.get_by_role("alert")).to_have_count(1)
    upstream.script = None
    person.say("Count to 2")
    person.sees_answer("1 2")
    expect(person.answers.get_by_role("alert")).to_have_count(0)
    person.page.reload()
    person.sees_answer("1 2")
    person.press("Settings of this chat")
    person.page.get_by_label("Developer message").fill("Be brief.")
    person.press("Save")
    expect(person.page.get_by_role("dialog")).to_have_count(0)
    expect(person.page.locator("[aria-live=polite]")).to_have_text("")


def test_on_paper_there_is_the_whole_chat_in_dark_letters(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    person = Person(new_visitor(color_scheme="dark"), server).enter(key)
    person.page.get_by_label("Colours").select_option("dark")
    for number in (30, 31, 32):
        person.say(f"Count to {number}" + "\nplease" * 20)
        expect(person.answers.last).to_have_attribute("aria-busy", "false")
        expect(person.answers.last).to_contain_text(str(number))
    person.page.emulate_media(media="print")
    assert person.page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert person.page.evaluate("document.querySelector('.scroller').scrollHeight <= document.body.scrollHeight")
    assert person.page.evaluate("document.body.scrollHeight > innerHeight")
    expect(person.box).to_be_hidden()


def test_on_a_phone_the_list_makes_room_for_what_was_found_in_it(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    phone = new_visitor(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    person = Person(phone, server).enter(key)
    person.box.fill("My cat is called Mimi")
    person.press("Send")
    expect(person.answers.last).to_have_attribute("aria-busy", "false")
    person.press("New chat", person.page.get_by_role("main"))
    person.press("Chats")
    sidebar = person.page.get_by_role("navigation")
    expect(sidebar.get_by_role("button", name="New chat")).to_be_focused()
    sidebar.get_by_role("button", name="Search").click()
    person.page.get_by_role("combobox", name="Search your chats").fill("mimi")
    person.page.get_by_role("dialog").get_by_role("option").first.click()
    expect(person.questions).to_contain_text("Mimi")
    expect(sidebar).to_be_hidden()
