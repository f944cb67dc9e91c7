"""The page, used by a person with a real browser on the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from chatapi.simulator import Gate, Simulator, scripts
from tests.browser import Visitor
from tests.databases import free_port
from tests.page_campaign import fill
from tests.person import Person
from tests.server_process import Serve, Service, fresh_key

pytestmark = pytest.mark.one_process("the page is the same on any of them")

Come = Callable[[Service], Person]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # a PNG


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture
def come(visitor: Visitor, key: str) -> Come:
    """Somebody comes with a key that no other test has, and keeps it for the tab."""
    return lambda service: Person(visitor, service).enter(key, remember=True)


@pytest.fixture
def person(server: Service, come: Come) -> Person:
    return come(server)


# The key


def test_a_key_is_looked_at_while_it_is_typed_and_tested_on_request(
    server: Service, visitor: Visitor, key: str
) -> None:
    person = Person(visitor, server)
    field = person.page.get_by_label("OpenAI API key")
    start = person.page.get_by_role("button", name="Start chatting")
    for typed, said in [
        ("pk-", "A key starts with sk-proj-"),
        ("sk-proj-abc", "11 of 164 characters."),
        ("sk-proj-a b", "A key has only letters, digits, hyphens and underscores."),
        (key, "It has the right form."),
    ]:
        field.fill(typed)
        expect(person.page.get_by_role("status")).to_have_text(said)
        expect(start).to_be_enabled(enabled=typed == key)
    person.press("Test it")
    expect(person.page.get_by_role("status")).to_have_text("API key is valid and working.")
    start.click()
    expect(person.box).to_be_focused()


def test_a_key_is_kept_for_the_tab_only_if_one_says_so_and_never_in_an_address(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    for remember in (False, True):
        visitor = new_visitor()
        person = Person(visitor, server).enter(key, remember=remember)
        kept = person.page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")
        assert (key in kept) == remember
        assert key not in person.page.evaluate("JSON.stringify([localStorage, document.cookie])")
        person.page.reload()
        expect(person.box if remember else person.page.get_by_label("OpenAI API key")).to_be_visible()
        assert not [address for address in visitor.requests if key in address]
    person.press("Forget the key")
    expect(person.page.get_by_label("OpenAI API key")).to_have_value("")
    assert key not in person.page.evaluate("JSON.stringify(sessionStorage)")


def test_nothing_of_one_key_meets_the_next_one(
    server: Service, person: Person, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate, "Her", " secret.")
    person.say("Annas first")
    person.sees_coming("Her")
    person.press("New chat")
    held: list[Route] = []
    person.page.route("**/api/sessions?*", lambda route: held.append(route))  # a list that comes too late
    person.page.route("**/api/chat", lambda route: route.abort())  # a message that does not get there
    person.page.evaluate("dispatchEvent(new Event('online'))")
    person.say("Annas second")
    expect(person.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    person.press("Forget the key")
    expect(person.page.get_by_label("OpenAI API key")).to_have_value("")
    assert held
    person.page.unroute_all()
    other = fresh_key("page-bert")
    person.enter(other)
    gate.open()
    upstream.script = None
    person.say("Count to 3")
    person.sees_answer("1 2 3")
    person.page.evaluate("dispatchEvent(new Event('online'))")
    expect(person.page.get_by_role("navigation").get_by_role("link", name="Count to 3")).to_be_visible()
    assert "Annas" not in person.page.content()
    assert "secret" not in person.page.content()
    assert [session["title"] for session in server.get("/api/sessions", key=other).json()["data"]] == ["Count to 3"]
    assert "Annas" not in person.page.evaluate("JSON.stringify([sessionStorage, localStorage])")


def test_an_address_leads_to_a_chat_and_to_nothing_else(person: Person) -> None:
    for place in ("../prices", "x/../../../v1/models?", "..%2f..%2fv1/models", "ses_x?a=", "\\\\example.com/x"):
        asked = len(person.visitor.requests)
        person.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)
        expect(person.page.get_by_text("There is no such chat here")).to_be_visible()
        paths = {urlsplit(address).path for address in person.visitor.requests[asked:]}
        assert {path for path in paths if path.startswith(("/api/", "/v1/"))} <= {
            "/api/sessions",
            "/api/sessions/none",
            "/api/sessions/none/messages",
        }, place
        person.page.evaluate("location.hash = ''")
        expect(person.page.get_by_text("There is no such chat here")).to_have_count(0)


def test_a_key_that_the_model_refuses_is_said_so_and_can_be_changed(
    server: Service, visitor: Visitor, key: str
) -> None:
    refused = key.replace("sk-proj-test", "sk-proj-invalid", 1)[:164]
    person = Person(visitor, server).enter(refused)
    person.say("Who am I?")
    expect(person.alert.first).to_contain_text("Authentication failed. Please check your API key.")
    person.alert.get_by_role("button", name="Change the key").first.click()
    expect(person.page.get_by_label("OpenAI API key")).to_be_visible()


# Answers that go on


def test_an_answer_comes_with_its_figures_and_the_chat_has_a_name(person: Person) -> None:
    person.say("Count to 5")
    person.sees_answer("1 2 3 4 5")
    expect(person.answers.locator(".figures")).to_contain_text(re.compile(r"gpt-4\.1-mini.*tokens.*first word after"))
    expect(person.page.get_by_role("navigation").get_by_role("link", name="Count to 5")).to_be_visible()
    expect(person.page).to_have_title("Count to 5")
    person.say("What did I say?")
    expect(person.answers.last).to_contain_text("“Count to 5”")
    expect(person.questions).to_have_count(2)


def test_a_reload_in_mid_answer_shows_it_live_and_whole(person: Person, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    person.page.reload()
    person.sees_coming("Hello")
    gate.open()
    person.sees_answer("Hello there.")
    expect(person.answers).to_have_count(1)


def test_a_second_tab_shows_the_live_answer_and_both_hear_of_its_end(
    server: Service, person: Person, visitor: Visitor, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    other = Person(visitor, server, f"/#/{person.session_id}").enter(key)
    other.sees_coming("Hello")
    gate.open()
    for tab in (person, other):
        tab.sees_answer("Hello there.")
    upstream.script = None
    other.say("Count to 3")
    other.sees_answer("1 2 3")
    person.sees_answer("1 2 3")  # told by the other tab
    expect(person.questions).to_have_count(2)


def test_a_server_killed_in_mid_answer_costs_no_word_and_the_chat_goes_on(
    serve: Serve, simulator: Simulator, come: Come, gate: Gate
) -> None:
    service = serve(PORT=str(free_port()))
    person = come(service)
    simulator.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    service.kill()
    expect(person.answers.get_by_role("status")).to_contain_text("Reconnecting")
    expect(person.answers.locator(".markdown")).to_have_text("Hello")
    simulator.script = None
    service.start()
    expect(person.answers.get_by_role("alert")).to_contain_text("Interrupted")
    person.sees_answer("Hello")
    person.answers.get_by_role("button", name="Try again").click()
    expect(person.answers).to_contain_text("You said: “Hi”")
    expect(person.answers).to_contain_text("2/2")


def test_a_cut_connection_goes_on_by_itself_at_the_right_byte(person: Person, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Grüße 👋", " aus 東京.")
    # The first stream is taken from the page as a lost network takes it: in its middle, and for a while.
    person.page.evaluate(
        """() => {
            const whole = window.fetch;
            window.fetch = async (...asked) => {
                const response = await whole(...asked);
                if (!String(asked[0]).startsWith('/api/chat')) return response;
                window.fetch = whole;
                const reader = response.body.getReader();
                const cut = new ReadableStream({
                    async pull(controller) {
                        const { value } = await reader.read();
                        controller.enqueue(value);
                        window.cut = () => controller.error(new TypeError('network error'));
                    },
                });
                return new Response(cut, response);
            };
        }"""
    )
    person.say("Hi")
    person.sees_coming("Grüße 👋")
    # What is shown at the end is what came, not what the server has of it.
    person.page.route(re.compile("/messages"), lambda route: route.abort())
    with person.page.expect_request(re.compile("/stream")):
        person.page.evaluate("window.cut()")
    gate.open()
    person.sees_answer("Grüße 👋 aus 東京.")


def test_stop_closes_the_upstream_and_keeps_the_text(person: Person, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    person.say("Hi")
    person.sees_coming("Hello")
    person.page.keyboard.press("Escape")
    person.sees_answer("Hello")
    expect(person.answers.last).to_contain_text("Stopped")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"
    upstream.script = None
    person.say("Count to 2")
    person.sees_answer("1 2")


def test_many_chats_answer_at_once_and_each_can_be_opened_and_stopped(
    person: Person, upstream: Simulator, gate: Gate
) -> None:
    # A browser has six connections to a server.
    upstream.script = scripts.held(gate, "Hello", " there.")
    links = person.page.get_by_role("navigation").get_by_role("link")
    for number in range(8):
        person.press("New chat")
        person.say(f"Hi {number}")
        person.sees_coming("Hello")
    links.filter(has_text="Hi 0").click()
    person.sees_coming("Hello")
    person.press("Stop the answer")
    expect(person.answers.last).to_contain_text("Stopped")
    expect(person.page.get_by_label("answering")).to_have_count(7)
    gate.open()
    expect(person.page.get_by_label("answering")).to_have_count(0)  # seen from afar
    links.filter(has_text="Hi 3").click()
    person.sees_answer("Hello there.")


def test_another_chat_can_be_begun_while_a_message_is_on_its_way(
    person: Person, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.Script(before_headers=(scripts.Wait(gate), scripts.Hang()))
    person.say("Hi")
    expect(person.answers.last).to_contain_text("Sending")
    person.press("New chat")
    expect(person.answers).to_have_count(0)
    upstream.script = None
    person.say("Count to 2")
    person.sees_answer("1 2")


# Branches


def test_an_edit_is_a_branch_and_arrows_go_between_them(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.say("Count to 3")
    person.sees_answer("1 2 3")
    person.press("Edit", person.questions.first)
    person.page.get_by_label("Say it in other words").fill("Count to 4")
    person.press("Send", person.questions.first)
    person.sees_answer("1 2 3 4")
    expect(person.questions).to_have_count(1)
    person.press("Previous version", person.questions.first)
    person.sees_answer("1 2 3")
    expect(person.questions).to_have_count(2)
    person.press("Next version", person.questions.first)
    person.sees_answer("1 2 3 4")
    person.press("Another answer", person.answers.last)
    expect(person.answers.last).to_contain_text("2/2")
    person.sees_answer("1 2 3 4")
    person.press("New chat from here", person.answers.last)
    expect(person.page.get_by_role("navigation").get_by_role("link")).to_have_count(3)  # two chats, and usage
    person.sees_answer("1 2 3 4")


# Chats


def test_search_finds_words_and_opens_the_chat_there(person: Person) -> None:
    person.say("My cat is called Mimi")
    expect(person.answers.last).to_contain_text("Mimi")
    person.page.keyboard.press("Control+Shift+o")
    person.say("Count to 3")
    person.sees_answer("1 2 3")
    person.page.keyboard.press("Control+k")
    person.page.get_by_role("combobox", name="Search your chats").fill("mimi CAT")
    hits = person.page.get_by_role("dialog").get_by_role("option")
    expect(hits).to_have_count(3)  # the title, the question, and the answer that quotes it
    person.page.keyboard.press("ArrowDown")  # from the title to the message
    person.page.keyboard.press("Enter")
    expect(person.questions).to_have_text(re.compile("My cat is called Mimi"))
    expect(person.page.locator("article:focus")).to_contain_text("Mimi")


def test_what_is_exported_can_be_imported(person: Person, tmp_path: Path) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.press("Another answer", person.answers.last)
    expect(person.answers.last).to_contain_text("2/2")
    saved = {}
    for item, ending in [("Export as JSON", "json"), ("Export as Markdown", "md")]:
        with person.page.expect_download() as download:
            person.choose("Count to 2", item)
        assert download.value.suggested_filename.endswith(f".{ending}")
        saved[ending] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[ending])
    assert "1 2" in saved["md"].read_text()
    assert len(json.loads(saved["json"].read_text())["messages"]) == 3
    first = person.session_id
    with person.page.expect_file_chooser() as chooser:
        person.press("Import a chat")
    chooser.value.set_files(saved["json"])
    person.page.wait_for_function("first => location.hash !== `#/${first}`", arg=first)
    expect(person.answers.last).to_contain_text("2/2")
    person.sees_answer("1 2")
    with person.page.expect_file_chooser() as chooser:
        person.press("Import a chat")
    chooser.value.set_files(saved["md"])
    expect(person.page.get_by_text("is no exported chat")).to_be_visible()


def test_a_chat_is_renamed_and_deleted_and_the_deletion_undone(server: Service, person: Person, key: str) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.choose("Count to 2", "Rename")
    person.page.get_by_label("Title").fill("Numbers")
    person.page.keyboard.press("Enter")
    link = person.page.get_by_role("link", name="Numbers")
    expect(link).to_be_visible()
    session_id = person.session_id
    person.choose("Numbers", "Delete")
    expect(link).to_have_count(0)
    person.press("Undo")
    expect(link).to_be_visible()
    person.choose("Numbers", "Delete")
    expect(link).to_have_count(0)
    person.page.reload()  # leaving does not wait for a change of mind
    server.wait_for_log("request", method="DELETE", path=f"/api/sessions/{session_id}")
    assert server.get(f"/api/sessions/{session_id}", key=key).status_code == 404


def test_model_and_parameters_belong_to_the_chat(
    server: Service, person: Person, upstream: Simulator, key: str
) -> None:
    person.press("Settings of this chat")
    person.page.get_by_label("Developer message").fill("Be brief.")
    person.page.get_by_label("Model").fill("gpt-4.1-nano")
    person.page.get_by_label("Temperature (0 to 2)").fill("0.5")
    person.press("Save")
    person.say("Count to 2")
    person.sees_answer("1 2")
    body = upstream.requests[-1].body
    assert (body["model"], body["temperature"]) == ("gpt-4.1-nano", 0.5)
    assert body["messages"][0] == {"role": "developer", "content": "Be brief."}
    expect(person.answers.get_by_role("button", name="Another answer")).to_be_visible()  # all of it is kept
    person.page.reload()
    person.sees_answer("1 2")
    person.press("Settings of this chat")
    expect(person.page.get_by_label("Model")).to_have_value("gpt-4.1-nano")
    expect(person.page.get_by_label("Developer message")).to_have_value("Be brief.")


def test_a_picture_goes_along(person: Person, upstream: Simulator) -> None:
    person.page.evaluate(
        """async pixel => {
            const bytes = Uint8Array.from(atob(pixel), letter => letter.charCodeAt(0));
            const pasted = new DataTransfer();
            pasted.items.add(new File([bytes], 'dot.png', { type: 'image/png' }));
            const event = new ClipboardEvent('paste', { clipboardData: pasted, bubbles: true, cancelable: true });
            document.getElementById('composer').dispatchEvent(event);
        }""",
        PIXEL,
    )
    expect(person.page.get_by_role("img", name="dot.png")).to_be_visible()
    person.say("What is this?")
    expect(person.answers.last).to_have_attribute("aria-busy", "false")
    content = upstream.requests[-1].body["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"].endswith(PIXEL)
    expect(person.questions.get_by_role("img", name="Attached image")).to_be_visible()


def test_usage_is_shown_by_day_model_and_chat(person: Person) -> None:
    person.say("Count to 7")
    person.sees_answer("1 2 3 4 5 6 7")
    person.page.get_by_role("link", name="Usage").click()
    expect(person.page.get_by_role("img", name="Tokens by day").locator("rect")).to_have_count(1)
    expect(person.page.get_by_role("region", name="By model")).to_contain_text("gpt-4.1-mini")
    expect(person.page.get_by_role("region", name="By chat")).to_contain_text("Count to 7")
    for name in ("By model", "By chat"):
        expect(person.page.get_by_role("region", name=name).locator("rect")).to_have_attribute("width", "100")
    person.page.get_by_role("link", name="Count to 7").last.click()
    person.sees_answer("1 2 3 4 5 6 7")


def test_a_model_that_does_not_exist_is_not_asked_for_in_the_next_chat(person: Person) -> None:
    person.press("Settings of this chat")
    person.page.get_by_label("Model").fill("gpt-nope")
    expect(person.page.get_by_text("The list of models has no such name.")).to_be_visible()
    person.press("Save")
    person.say("Hi")
    expect(person.answers.get_by_role("alert")).to_contain_text("does not exist")
    expect(person.page.locator("header .model")).to_have_text("gpt-nope")
    person.press("New chat")
    person.say("Count to 2")
    person.sees_answer("1 2")


# Long chats


def test_a_hit_in_a_long_chat_is_where_the_reader_looks(server: Service, person: Person, key: str) -> None:
    fill(server, key, 200)
    person.page.keyboard.press("Control+k")
    person.page.get_by_role("combobox", name="Search your chats").fill("Question 24?")
    person.page.get_by_role("dialog").get_by_role("option").filter(has_text="Question 24?").click()
    found = person.questions.filter(has_text="Question 24?")
    expect(found).to_be_in_viewport()
    expect(found).to_be_focused()
    expect(person.page.get_by_role("button", name="Go to the latest message")).to_be_visible()
    expect(found).to_be_in_viewport()


def test_earlier_messages_come_in_above_what_is_read(server: Service, person: Person, key: str) -> None:
    session_id = fill(server, key, 200)
    person.page.evaluate("id => { location.hash = `#/${id}` }", session_id)
    articles = person.page.locator("article")
    expect(articles).to_have_count(50)
    first = person.questions.first
    expect(first).to_contain_text("Question 150?")
    read = person.questions.filter(has_text="Question 150?")
    person.page.get_by_role("log").evaluate("log => { log.scrollTop = 0 }")
    expect(articles).to_have_count(100)
    expect(read).to_be_in_viewport()
    assert articles.count() == 100  # one page at a time, not all at once
    assert person.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), "the page itself scrolls"


# What goes wrong


def test_a_refusal_is_a_sentence_and_the_message_can_be_tried_again(person: Person, upstream: Simulator) -> None:
    upstream.script = scripts.refuse(503)
    person.say("Count to 4")
    expect(person.answers.get_by_role("alert")).to_contain_text("is unreachable or reports a failure")
    upstream.script = None
    person.press("Try again", person.answers.last)
    person.sees_answer("1 2 3 4")


def test_an_answer_that_breaks_off_looks_unlike_a_whole_one(person: Person, upstream: Simulator) -> None:
    upstream.script = scripts.cut_after("Half of")
    person.say("Hi")
    expect(person.answers.get_by_role("alert")).to_contain_text("broke off")
    person.sees_answer("Half of")
    expect(person.answers).to_have_class(re.compile("failed"))


def test_who_sends_too_much_reads_when_to_go_on_and_keeps_the_words(serve: Serve, come: Come) -> None:
    person = come(serve(CHATAPI_RATE_LIMIT="2"))  # the list of models is one
    person.say("Count to 2")
    person.sees_answer("1 2")
    person.say("Count to 3")
    expect(person.alert).to_contain_text(re.compile(r"Too many requests.*Try again in \d+ s"))
    expect(person.box).to_have_value("Count to 3")
    expect(person.questions).to_have_count(1)


def test_offline_nothing_typed_is_lost(person: Person, visitor: Visitor) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    visitor.context.set_offline(True)
    person.say("Count to 3")
    expect(person.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    person.press("Stop the answer")
    expect(person.box).to_have_value("Count to 3")
    person.box.press("Enter")
    expect(person.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    visitor.context.set_offline(False)
    person.sees_answer("1 2 3")
    expect(person.questions).to_have_count(2)


def test_a_draft_outlives_a_reload_and_is_shown_to_nobody_else(server: Service, person: Person) -> None:
    person.box.fill("I was going to")
    person.page.reload()
    expect(person.box).to_have_value("I was going to")
    person.page.close()
    other = Person(person.visitor, server).enter(fresh_key("page-other"))
    expect(other.box).to_have_value("")


def test_a_server_that_is_away_at_the_start_is_said_so_and_asked_again(
    serve: Serve, visitor: Visitor, key: str
) -> None:
    person = Person(visitor, serve())
    person.page.route("**/api/config", lambda route: route.abort())
    person.page.reload()
    expect(person.alert).to_contain_text("The server cannot be reached")
    person.page.unroute("**/api/config")
    person.press("Try again")
    person.enter(key)


def test_a_chat_that_is_not_there_is_said_so(person: Person) -> None:
    person.page.evaluate("location.hash = '#/ses_0000000000AAAAAAAAAAAAAAAAAAAAAA'")
    expect(person.page.get_by_text("There is no such chat here")).to_be_visible()


# Keys and eyes


def test_what_had_the_focus_gets_it_back_and_else_the_message_box_does(person: Person) -> None:
    person.say("Count to 2")
    person.sees_answer("1 2")
    for opener in ("Settings of this chat", "Show the keys"):
        person.press(opener)
        person.page.keyboard.press("Escape")
        expect(person.page.get_by_role("button", name=opener)).to_be_focused()
    person.box.focus()
    person.page.keyboard.press("Control+k")
    person.page.keyboard.press("Escape")
    expect(person.box).to_be_focused()
    person.press("Another answer", person.answers.last)
    expect(person.answers.last).to_contain_text("2/2")
    expect(person.box).to_be_focused()
    person.press("Edit", person.questions.last)
    person.page.keyboard.press("Escape")
    expect(person.box).to_be_focused()


def test_keys_write_lines_show_help_and_edit_the_last_message(person: Person) -> None:
    person.box.press_sequentially("Count")
    person.box.press("Shift+Enter")
    person.box.press_sequentially("to 2")
    expect(person.box).to_have_value("Count\nto 2")
    person.box.press("Enter")
    person.sees_answer("1 2")
    expect(person.questions.get_by_role("button", name="Edit")).to_be_enabled()  # once the server's list has come
    person.box.press("ArrowUp")
    expect(person.page.get_by_label("Say it in other words")).to_have_value("Count\nto 2")
    person.page.keyboard.press("Escape")
    person.page.locator("h1").click()
    person.page.keyboard.press("?")
    expect(person.page.get_by_role("dialog", name="Keys")).to_be_visible()
    person.page.keyboard.press("Escape")
    expect(person.page.get_by_role("dialog")).to_have_count(0)


def test_a_reader_who_has_scrolled_up_is_left_where_they_are(person: Person, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "line\n\n" * 80, "more\n\n" * 80)
    person.say("Tell me much")
    lines = person.answers.locator(".markdown p")
    expect(lines).to_have_count(80)
    log = person.page.get_by_role("log")
    at_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 5"
    person.page.wait_for_function(f"({at_end})(document.querySelector('[role=log]'))")
    log.hover()
    person.page.mouse.wheel(0, -900)
    expect(person.page.get_by_role("button", name="Go to the latest message")).to_be_visible()
    place = log.evaluate("box => box.scrollTop")
    gate.open()
    expect(lines).to_have_count(160)
    assert log.evaluate("box => box.scrollTop") == place
    person.press("Go to the latest message")
    person.page.wait_for_function(f"({at_end})(document.querySelector('[role=log]'))")
