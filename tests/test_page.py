"""The chat page in a real browser, on a real server."""

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
from tests.chat_page import ChatPage, OpenChat
from tests.databases import free_port
from tests.page_campaign import import_texts
from tests.server_process import Serve, Service, fresh_key

pytestmark = pytest.mark.one_process("the page is the same on any of them")

OpenPage = Callable[[Service], ChatPage]
API_KEY_REQUIRED = {"code": "api_key_required", "detail": "Send it as Authorization: Bearer."}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # a PNG


@pytest.fixture(scope="module")
def upstream(page_upstream: Simulator) -> Simulator:
    return page_upstream


@pytest.fixture
def open_page(visitor: Visitor, key: str) -> OpenPage:
    """Open a server in a tab that remembers a key, which no other test uses."""
    return lambda service: ChatPage.with_key(visitor, service, key)


@pytest.fixture
def chat_page(server: Service, open_page: OpenPage) -> ChatPage:
    return open_page(server)


# The key


def test_key_is_checked_while_typed_and_tested_on_request(server: Service, visitor: Visitor, key: str) -> None:
    chat_page = ChatPage(visitor, server)
    field = chat_page.page.get_by_label("OpenAI API key")
    assert field.get_attribute("autocomplete") == "current-password"  # for password managers, as the next field
    assert chat_page.page.locator("form input[autocomplete=username]").input_value() == "OpenAI API key"
    start = chat_page.page.get_by_role("button", name="Start chatting")
    for typed, said in [
        ("pk-", "The key must start with sk-proj-"),
        ("sk-proj-abc", "11 of 164 characters."),
        ("sk-proj-a b", "The key must contain only letters, digits, hyphens and underscores."),
        (key, "The format is correct."),
    ]:
        field.fill(typed)
        expect(chat_page.page.get_by_role("status")).to_have_text(said)
        expect(start).to_be_enabled(enabled=typed == key)
    chat_page.press("Test the key")
    expect(chat_page.page.get_by_role("status")).to_have_text("API key is valid and working.")
    start.click()
    expect(chat_page.box).to_be_focused()


def test_key_is_stored_only_on_request_and_never_in_an_address(
    server: Service, new_visitor: Callable[..., Visitor], key: str
) -> None:
    for remember in (False, True):
        visitor = new_visitor()
        chat_page = ChatPage(visitor, server).enter(key, remember=remember)
        kept = chat_page.page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")
        assert (key in kept) == remember
        assert key not in chat_page.page.evaluate("JSON.stringify([localStorage, document.cookie])")
        chat_page.page.reload()
        expect(chat_page.box if remember else chat_page.page.get_by_label("OpenAI API key")).to_be_visible()
        assert not [address for address in visitor.requests if key in address]
    chat_page.forget_key()
    expect(chat_page.page.get_by_label("OpenAI API key")).to_have_value("")
    assert key not in chat_page.page.evaluate("JSON.stringify(sessionStorage)")


def test_changing_the_key_leaves_nothing_of_the_previous_one(
    server: Service, chat_page: ChatPage, upstream: Simulator, gate: Gate, key: str
) -> None:
    upstream.script = scripts.held(gate, "Her", " secret.")
    chat_page.send("Annas first")
    chat_page.expect_running_answer("Her")
    chat_page.press("New chat")
    held: list[Route] = []
    chat_page.page.route("**/api/sessions?*", lambda route: held.append(route))  # this list arrives too late
    chat_page.page.route("**/api/chat", lambda route: route.abort())  # this message does not arrive
    chat_page.page.evaluate("dispatchEvent(new Event('online'))")
    chat_page.send("Annas second")
    expect(chat_page.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    chat_page.forget_key()
    expect(chat_page.page.get_by_label("OpenAI API key")).to_have_value("")
    assert held
    chat_page.page.unroute_all()
    other = fresh_key("page-bert")
    chat_page.enter(other)
    gate.open()
    upstream.script = None
    chat_page.send("Count to 3")
    chat_page.expect_answer("1 2 3")
    chat_page.page.evaluate("dispatchEvent(new Event('online'))")
    expect(chat_page.page.get_by_role("navigation").get_by_role("link", name="Count to 3")).to_be_visible()
    assert "Annas" not in chat_page.page.content()
    assert "secret" not in chat_page.page.content()
    assert [session["title"] for session in server.get("/api/sessions", key=other).json()["data"]] == ["Count to 3"]
    assert "Annas" not in chat_page.page.evaluate("JSON.stringify([sessionStorage, localStorage])")


def test_address_fragment_opens_a_chat_and_no_other_route(chat_page: ChatPage) -> None:
    for place in ("../prices", "x/../../../v1/models?", "..%2f..%2fv1/models", "ses_x?a=", "\\\\example.com/x"):
        asked = len(chat_page.visitor.requests)
        chat_page.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)
        expect(chat_page.page.get_by_text("This chat does not exist")).to_be_visible()
        paths = {urlsplit(address).path for address in chat_page.visitor.requests[asked:]}
        assert {path for path in paths if path.startswith(("/api/", "/v1/"))} <= {
            "/api/sessions",
            "/api/sessions/none",
            "/api/sessions/none/messages",
        }, place
        chat_page.page.evaluate("location.hash = ''")
        expect(chat_page.page.get_by_text("This chat does not exist")).to_have_count(0)
    chat_page.page.evaluate("location.hash = '#/ses_0000000000AAAAAAAAAAAAAAAAAAAAAA'")  # could be one
    expect(chat_page.page.get_by_text("This chat does not exist")).to_be_visible()


def test_rejected_key_can_be_changed(server: Service, visitor: Visitor, key: str) -> None:
    refused = key.replace("sk-proj-test", "sk-proj-invalid", 1)[:164]
    chat_page = ChatPage(visitor, server).enter(refused)
    chat_page.send("Who am I?")
    expect(chat_page.alert).to_contain_text("Authentication failed. Please check your API key.")  # one alert
    expect(chat_page.alert.get_by_role("button")).to_have_text(["Change the key"])
    chat_page.press("Change the key", chat_page.alert)
    expect(chat_page.page.get_by_label("OpenAI API key")).to_be_visible()


def test_remembered_key_is_shared_with_other_tabs_until_it_is_forgotten(
    server: Service, chat_page: ChatPage, visitor: Visitor, key: str
) -> None:
    second = ChatPage(visitor, server)
    expect(second.box).to_be_visible()
    second.box.fill("A draft")
    chat_page.forget_key()
    for tab in (chat_page, second):
        expect(tab.page.get_by_label("OpenAI API key")).to_have_value("")
        kept = tab.page.evaluate("JSON.stringify([sessionStorage, localStorage])")
        assert key not in kept
        assert "A draft" not in kept


def test_key_that_is_not_remembered_stays_in_its_tab(server: Service, visitor: Visitor, key: str) -> None:
    ChatPage(visitor, server).enter(key)
    second = ChatPage(visitor, server)
    second.page.wait_for_load_state("networkidle")
    expect(second.page.get_by_label("OpenAI API key")).to_be_visible()


def test_changing_the_key_in_one_tab_does_not_take_it_from_another(
    server: Service, chat_page: ChatPage, visitor: Visitor, key: str
) -> None:
    rejected = ChatPage(visitor, server)
    expect(rejected.box).to_be_visible()
    rejected.page.route("**/api/chat", lambda route: route.fulfill(status=401, json=API_KEY_REQUIRED))
    rejected.send("Hi")
    rejected.press("Change the key", rejected.alert)
    expect(rejected.page.get_by_label("OpenAI API key")).to_have_value("")
    rejected.enter(fresh_key("page-other"))
    expect(chat_page.box).to_be_visible()


def test_page_is_painted_before_its_modules_arrive(server: Service, visitor: Visitor) -> None:
    held: list[Route] = []
    visitor.context.route(re.compile(r"/web/\w+/(?!theme).*\.js$"), lambda route: held.append(route))
    chat_page = ChatPage(visitor, server, wait_until="commit")
    expect(chat_page.page.get_by_role("status")).to_have_text("Starting …")
    chat_page.page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    assert held
    for route in held:
        route.continue_()
    expect(chat_page.page.get_by_label("OpenAI API key")).to_be_visible()


# Streaming


def test_answer_shows_figures_and_names_the_chat(chat_page: ChatPage) -> None:
    chat_page.send("Count to 5")
    chat_page.expect_answer("1 2 3 4 5")
    expect(chat_page.answers.locator(".figures")).to_contain_text(
        re.compile(r"gpt-4\.1-mini.*Tokens.*First word after")
    )
    expect(chat_page.page.get_by_role("navigation").get_by_role("link", name="Count to 5")).to_be_visible()
    expect(chat_page.page).to_have_title("Count to 5")
    chat_page.send("What did I say?")
    expect(chat_page.answers.last).to_contain_text("“Count to 5”")
    expect(chat_page.questions).to_have_count(2)


def test_reload_during_an_answer_resumes_it(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.page.reload()
    chat_page.expect_running_answer("Hello")
    gate.open()
    chat_page.expect_answer("Hello there.")
    expect(chat_page.answers).to_have_count(1)


def test_second_tab_shows_the_running_answer(
    server: Service, chat_page: ChatPage, visitor: Visitor, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    other = ChatPage(visitor, server, f"/#/{chat_page.session_id}")
    other.expect_running_answer("Hello")
    gate.open()
    for tab in (chat_page, other):
        tab.expect_answer("Hello there.")
    upstream.script = None
    other.send("Count to 3")
    other.expect_answer("1 2 3")
    chat_page.expect_answer("1 2 3")  # notified by the other tab
    expect(chat_page.questions).to_have_count(2)


def test_killed_server_loses_no_text(serve: Serve, simulator: Simulator, open_page: OpenPage, gate: Gate) -> None:
    service = serve(PORT=str(free_port()))
    chat_page = open_page(service)
    simulator.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    service.kill()
    expect(chat_page.answers.get_by_role("status")).to_contain_text("Reconnecting")
    expect(chat_page.answers.locator(".markdown")).to_have_text("Hello")
    simulator.script = None
    service.start()
    expect(chat_page.answers.get_by_role("alert")).to_contain_text("Interrupted")
    chat_page.expect_answer("Hello")
    chat_page.press("Regenerate", chat_page.answers.last)
    expect(chat_page.answers).to_contain_text("You said: “Hi”")
    expect(chat_page.answers).to_contain_text("2/2")


def test_broken_connection_resumes_at_the_right_byte(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Grüße 👋", " aus 東京.")
    # Break the first stream in the middle, as a lost network does.
    chat_page.page.evaluate(
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
    chat_page.send("Hi")
    chat_page.expect_running_answer("Grüße 👋")
    # The page must show the streamed text, not the list of messages.
    chat_page.page.route(re.compile("/messages"), lambda route: route.abort())
    with chat_page.page.expect_request(re.compile("/stream")):
        chat_page.page.evaluate("window.cut()")
    gate.open()
    chat_page.expect_answer("Grüße 👋 aus 東京.")


def test_stop_closes_the_upstream_and_keeps_the_text(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.page.keyboard.press("Escape")
    chat_page.expect_answer("Hello")
    expect(chat_page.answers.last).to_contain_text("Stopped")
    assert upstream.requests[-1].left.wait(5), "the upstream's socket was not closed"
    upstream.script = None
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")


def test_eight_answers_run_at_once_and_each_can_be_opened_and_stopped(
    server: Service, chat_page: ChatPage, upstream: Simulator, gate: Gate
) -> None:
    # A browser opens six connections to a server.
    upstream.script = scripts.held(gate, "Hello", " there.")
    links = chat_page.page.get_by_role("navigation").get_by_role("link")
    session_ids = []
    for number in range(8):
        chat_page.press("New chat")
        chat_page.send(f"Hi {number}")
        chat_page.expect_running_answer("Hello")
        session_ids.append(chat_page.session_id)
    links.filter(has_text="Hi 0").click()
    chat_page.expect_running_answer("Hello")
    chat_page.press("Stop the answer")
    expect(chat_page.answers.last).to_contain_text("Stopped")
    expect(chat_page.page.get_by_label("answering")).to_have_count(7)
    gate.open()
    for session_id in session_ids:
        server.wait_for_log("generation", session_id=session_id)
    expect(chat_page.page.get_by_label("answering")).to_have_count(7)
    chat_page.pass_time(4)
    expect(chat_page.page.get_by_label("answering")).to_have_count(0)
    links.filter(has_text="Hi 3").click()
    chat_page.expect_answer("Hello there.")


def test_new_chat_can_start_while_a_message_is_being_sent(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.Script(before_headers=(scripts.Wait(gate), scripts.Hang()))
    chat_page.send("Hi")
    expect(chat_page.answers.last).to_contain_text("Sending")
    chat_page.press("New chat")
    expect(chat_page.answers).to_have_count(0)
    upstream.script = None
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")


# Branches


def test_edit_creates_a_branch_and_arrows_switch_branches(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2", "Count to 3")
    chat_page.press("Edit", chat_page.questions.first)
    chat_page.page.get_by_label("Edit the message").fill("Count to 4")
    chat_page.press("Send", chat_page.questions.first)
    chat_page.expect_answer("1 2 3 4")
    expect(chat_page.questions).to_have_count(1)
    chat_page.press("Previous version", chat_page.questions.first)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_count(2)
    chat_page.press("Next version", chat_page.questions.first)
    chat_page.expect_answer("1 2 3 4")
    chat_page.press("Regenerate", chat_page.answers.last)
    expect(chat_page.answers.last).to_contain_text("2/2")
    chat_page.expect_answer("1 2 3 4")
    for copies in (2, 3):
        chat_page.choose_action(chat_page.answers.last, "New chat from here")
        expect(chat_page.page).to_have_title(f"Count to 2 ({copies})")
        chat_page.expect_answer("1 2 3 4")


def test_edited_answer_is_another_version_that_a_second_tab_shows(
    server: Service, open_chat: OpenChat, visitor: Visitor, upstream: Simulator, key: str
) -> None:
    chat_page = open_chat("Count to 2", "Count to 3")
    tab = ChatPage(visitor, server, f"/#/{chat_page.session_id}")
    tab.expect_answer("1 2 3")
    chat_page.choose_action(chat_page.answers.first, "Edit")
    field = chat_page.page.get_by_label("Edit the answer")
    expect(field).to_have_value("1 2")
    field.fill("one **two**")
    chat_page.page.reload()  # the text is kept
    expect(field).to_have_value("one **two**")
    asked = turns_asked(upstream)
    field.press("Enter")  # a new line
    chat_page.press("Save")
    chat_page.expect_answer("one two")
    expect(chat_page.answers).to_have_count(1)
    expect(chat_page.answers.last).to_contain_text("2/2")
    expect(chat_page.answers.last).to_contain_text("Edited by you")
    expect(chat_page.page.locator("article:focus")).to_contain_text("two")
    tab.expect_answer("one two")
    chat_page.press("Previous version", chat_page.answers.first)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.answers.first).not_to_contain_text("Edited by you")
    assert turns_asked(upstream) == asked


def turns_asked(upstream: Simulator) -> int:
    """Return the number of requests for an answer: a page that opens asks for the list of models, some time later."""
    return len([request for request in upstream.requests if request.path.endswith("/chat/completions")])


# Chats


def test_search_opens_the_chat_at_the_hit(chat_page: ChatPage) -> None:
    chat_page.send("My cat is called Mimi")
    expect(chat_page.answers.last).to_contain_text("Mimi")
    chat_page.page.keyboard.press("Control+Shift+o")
    chat_page.send("Count to 3")
    chat_page.expect_answer("1 2 3")
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("mimi CAT")
    hits = chat_page.page.get_by_role("dialog").get_by_role("option")
    expect(hits).to_have_count(3)  # the title, the question, and the answer that quotes it
    chat_page.page.keyboard.press("ArrowDown")  # from the title to the message
    chat_page.page.keyboard.press("Enter")
    expect(chat_page.questions).to_have_text(re.compile("My cat is called Mimi"))
    expect(chat_page.page.locator("article:focus")).to_contain_text("Mimi")


def test_exported_chat_can_be_imported(open_chat: OpenChat, tmp_path: Path) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.press("Regenerate", chat_page.answers.last)
    expect(chat_page.answers.last).to_contain_text("2/2")
    saved = {}
    for item, ending in [("Export as JSON", "json"), ("Export as Markdown", "md")]:
        with chat_page.page.expect_download() as download:
            chat_page.choose("Count to 2", item)
        assert download.value.suggested_filename.endswith(f".{ending}")
        saved[ending] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[ending])
    assert "1 2" in saved["md"].read_text()
    assert len(json.loads(saved["json"].read_text())["messages"]) == 3
    first = chat_page.session_id
    with chat_page.page.expect_file_chooser() as chooser:
        chat_page.open_settings("Import chats")
    chooser.value.set_files(saved["json"])
    chat_page.page.wait_for_function("first => location.hash !== `#/${first}`", arg=first)
    expect(chat_page.page).to_have_title("Count to 2 (2)")
    expect(chat_page.answers.last).to_contain_text("2/2")
    chat_page.expect_answer("1 2")
    with chat_page.page.expect_file_chooser() as chooser:
        chat_page.open_settings("Import chats")
    chooser.value.set_files(saved["md"])
    expect(chat_page.page.get_by_text("is not an exported chat")).to_be_visible()


def test_chat_can_be_renamed_deleted_and_restored(server: Service, open_chat: OpenChat, key: str) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.choose("Count to 2", "Rename")
    chat_page.page.get_by_label("Title").fill("Numbers")
    chat_page.page.keyboard.press("Enter")
    link = chat_page.page.get_by_role("link", name="Numbers")
    expect(link).to_be_visible()
    session_id = chat_page.session_id
    chat_page.choose("Numbers", "Delete")
    expect(link).to_have_count(0)
    chat_page.press("Undo")
    expect(link).to_be_visible()
    chat_page.choose("Numbers", "Delete")
    expect(link).to_have_count(0)
    chat_page.page.reload()  # closing the page sends pending deletions
    server.wait_for_log("request", method="DELETE", path=f"/api/sessions/{session_id}")
    assert server.get(f"/api/sessions/{session_id}", key=key).status_code == 404


def test_model_and_parameters_are_stored_with_the_chat(
    server: Service, chat_page: ChatPage, upstream: Simulator, key: str
) -> None:
    chat_page.press("Chat settings")
    chat_page.page.get_by_label("Developer message").fill("Be brief.")
    chat_page.page.get_by_label("Temperature", exact=True).fill("0.5")
    chat_page.page.get_by_label("Top p").fill("0.9")
    chat_page.press("Reset: Top p")
    chat_page.press("Save")
    chat_page.choose_model("gpt-4.1-nano")
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    body = upstream.requests[-1].body
    assert (body["model"], body["temperature"]) == ("gpt-4.1-nano", 0.5)
    assert "top_p" not in body
    assert body["messages"][0] == {"role": "developer", "content": "Be brief."}
    chat_page.expect_stored_turn()
    chat_page.page.reload()
    chat_page.expect_answer("1 2")
    expect(chat_page.page.locator(".composer .model")).to_have_text("gpt-4.1-nano")
    chat_page.press("Chat settings")
    expect(chat_page.page.get_by_label("Temperature", exact=True)).to_have_value("0.5")
    expect(chat_page.page.get_by_label("Developer message")).to_have_value("Be brief.")


def test_pasted_image_is_sent(chat_page: ChatPage, upstream: Simulator) -> None:
    chat_page.page.evaluate(
        """async pixel => {
            const bytes = Uint8Array.from(atob(pixel), letter => letter.charCodeAt(0));
            const pasted = new DataTransfer();
            pasted.items.add(new File([bytes], 'dot.png', { type: 'image/png' }));
            const event = new ClipboardEvent('paste', { clipboardData: pasted, bubbles: true, cancelable: true });
            document.getElementById('composer').dispatchEvent(event);
        }""",
        PIXEL,
    )
    expect(chat_page.page.get_by_role("img", name="dot.png")).to_be_visible()
    chat_page.send("What is this?")
    expect(chat_page.answers.last).to_have_attribute("aria-busy", "false")
    content = upstream.requests[-1].body["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"].endswith(PIXEL)
    expect(chat_page.questions.get_by_role("img", name="Attached image")).to_be_visible()


def test_usage_is_shown_by_day_model_and_chat(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 7")
    chat_page.open_settings("Usage")
    expect(chat_page.page.get_by_role("img", name="Tokens by day").locator("rect")).to_have_count(1)
    expect(chat_page.page.get_by_role("region", name="By model")).to_contain_text("gpt-4.1-mini")
    expect(chat_page.page.get_by_role("region", name="By chat")).to_contain_text("Count to 7")
    for name in ("By model", "By chat"):
        expect(chat_page.page.get_by_role("region", name=name).locator("rect")).to_have_attribute("width", "100")
    chat_page.page.get_by_role("link", name="Count to 7").last.click()
    chat_page.expect_answer("1 2 3 4 5 6 7")


def test_the_end_of_the_default_model_is_announced_until_it_is_dismissed(
    server: Service, open_page: OpenPage, upstream: Simulator, key: str
) -> None:
    def end(day: str) -> None:
        upstream.script = scripts.json_body({"data": [{"id": "gpt-4.1-mini", "shutdown_date": day}]})
        assert server.get("/v1/models", key=key).status_code == 200
        upstream.script = None

    end("2020-01-01")
    try:
        page = open_page(server).page
        notice = page.get_by_role("status").filter(has_text="Set CHATAPI_DEFAULT_MODEL to another model.")
        expect(notice).to_contain_text("gpt-4.1-mini was shut down on 2020-01-01.")
        notice.get_by_role("button", name="Dismiss").click()
        expect(notice).to_have_count(0)
        page.reload()
        expect(page.get_by_label("Message", exact=True)).to_be_visible()
        expect(notice).to_have_count(0)
    finally:
        end("2999-01-01")
    assert server.get("/api/config").json()["default_model_notice"] is None


def test_unknown_model_is_not_used_in_the_next_chat(chat_page: ChatPage) -> None:
    chat_page.choose_model("gpt-nope")
    chat_page.send("Hi")
    expect(chat_page.answers.get_by_role("alert")).to_contain_text("does not exist")
    expect(chat_page.page.locator(".composer .model")).to_have_text("gpt-nope")
    chat_page.press("New chat")
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")


# Long chats


def fill_plainly(server: Service, key: str, messages: int) -> str:
    """Import a chat with this number of messages, each answer higher than one without a height. Returns its id."""
    answer = "A line of several words.  \n" * 30
    return import_texts(server, key, [answer if number % 2 else f"Question {number}?" for number in range(messages)])


def test_hit_in_a_long_chat_is_scrolled_into_view(server: Service, chat_page: ChatPage, key: str) -> None:
    fill_plainly(server, key, 200)
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("Question 24?")
    chat_page.page.get_by_role("dialog").get_by_role("option").filter(has_text="Question 24?").click()
    found = chat_page.questions.filter(has_text="Question 24?")
    expect(found).to_be_in_viewport()
    expect(found).to_be_focused()
    expect(chat_page.page.get_by_role("button", name="Go to the latest message")).to_be_visible()
    # As a message that gets its height late. The browser alone keeps the first visible message in place.
    found.evaluate("hit => { hit.previousElementSibling.style.paddingBlockEnd = '2000px' }")
    expect(found).to_be_in_viewport()


def test_earlier_messages_load_without_moving_the_visible_ones(server: Service, chat_page: ChatPage, key: str) -> None:
    session_id = fill_plainly(server, key, 200)
    chat_page.page.evaluate("id => { location.hash = `#/${id}` }", session_id)
    articles = chat_page.page.locator("article")
    expect(articles).to_have_count(50)
    first = chat_page.questions.first
    expect(first).to_contain_text("Question 150?")
    read = chat_page.questions.filter(has_text="Question 150?")
    chat_page.page.get_by_role("log").evaluate("log => { log.scrollTop = 0 }")
    expect(articles).to_have_count(100)
    expect(read).to_be_in_viewport()
    assert articles.count() == 100  # one page at a time, not all at once
    assert chat_page.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), "the page itself scrolls"


def test_earlier_messages_load_when_the_observer_reports_late(server: Service, visitor: Visitor, key: str) -> None:
    # A busy page gets all entries in one call, the oldest first.
    visitor.add_init_script(
        """{
            const Native = window.IntersectionObserver;
            window.IntersectionObserver = class extends Native {
                constructor(callback, options) {
                    super((entries, self) => callback([{ isIntersecting: false }, ...entries], self), options);
                }
            };
        }"""
    )
    chat_page = ChatPage.with_key(visitor, server, key, f"/#/{fill_plainly(server, key, 100)}")
    articles = chat_page.page.locator("article")
    expect(articles).to_have_count(50)
    chat_page.page.get_by_role("log").evaluate("log => { log.scrollTop = 0 }")
    expect(articles).to_have_count(100)


# Scroll as a reader who has seen everything: an element that gets its height later would move this one.
SCROLL_TO_TOP = """element => new Promise(resolve => {
    for (const part of document.querySelectorAll('.message, .chunk')) part.style.contentVisibility = 'visible';
    requestAnimationFrame(() => setTimeout(() => {
        element.dispatchEvent(new WheelEvent('wheel', { bubbles: true }));
        element.scrollIntoView({ block: 'start' });
        resolve(element.getBoundingClientRect().top);
    }));
})"""
TOP_AFTER_A_FRAME = """element => new Promise(resolve => {
    requestAnimationFrame(() => setTimeout(() => resolve(element.getBoundingClientRect().top)));
})"""


def test_position_is_kept_while_another_view_is_open(server: Service, chat_page: ChatPage, key: str) -> None:
    # Blocks that are higher than those without heights. All of them together are longer than what one task renders.
    blocks = [f"Paragraph {number}.\n" + "A line of several words.  \n" * 15 for number in range(100)]
    last = "\n\n".join(f"Last {number}." for number in range(112))
    texts = ["Q0?", "\n".join(blocks[:50]), "Q2?", "\n".join(blocks), "Q4?", "Short.", "Q6?", last]
    session_id = import_texts(server, key, texts)
    chat_page.page.evaluate("id => { location.hash = `#/${id}` }", session_id)
    to_end = chat_page.page.get_by_role("button", name="Go to the latest message")
    first, long, last_answer = chat_page.answers.nth(0), chat_page.answers.nth(1), chat_page.answers.last
    for what, read, leave, name in (
        ("question", chat_page.questions.filter(has_text="Q4?"), chat_page.press, "New chat"),
        ("middle of an answer", first.locator("p", has_text="Paragraph 40."), chat_page.open_settings, "Usage"),
        ("end of a long answer", long.locator("footer"), chat_page.press, "New chat"),
        # The end is near until the blocks below, the last ones that share a height, get their own.
        ("last answer", last_answer.locator("p", has_text="Last 95."), chat_page.press, "New chat"),
    ):
        expect(long.get_by_text("Paragraph 99.")).to_be_attached()
        expect(long.locator(".chunk.waiting")).to_have_count(0)
        before = read.evaluate(SCROLL_TO_TOP)
        expect(to_end).to_be_visible()
        leave(name)
        expect(read).to_have_count(0)
        chat_page.page.go_back()
        expect(long.get_by_text("Paragraph 99.")).to_be_attached()
        expect(long.locator(".chunk.waiting")).to_have_count(0)
        after = read.evaluate(TOP_AFTER_A_FRAME)
        assert abs(after - before) < 3, f"the {what} was left at {before} px and found at {after} px"
        expect(to_end).to_be_visible()


def test_list_scrolls_to_the_open_chat(server: Service, visitor: Visitor, key: str) -> None:
    first = fill_plainly(server, key, 2)
    for _ in range(40):
        server.post("/api/sessions", key=key, json={"developer_message": ""})
    chat_page = ChatPage.with_key(visitor, server, key, f"/#/{first}")
    expect(chat_page.page.get_by_role("link", name="A long chat")).to_be_in_viewport()


def test_message_from_another_device_appears_in_the_open_chat(server: Service, open_chat: OpenChat, key: str) -> None:
    chat_page = open_chat("Count to 2")
    server.send("Count to 3", session_id=chat_page.session_id, key=key)
    chat_page.pass_time(10)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_count(2)
    server.delete(f"/api/sessions/{chat_page.session_id}", key=key)
    chat_page.pass_time(10)
    expect(chat_page.page.get_by_text("This chat does not exist")).to_be_visible()


# Failures


def test_upstream_refusal_is_explained_and_can_be_retried(chat_page: ChatPage, upstream: Simulator) -> None:
    upstream.script = scripts.refuse(503)
    chat_page.send("Count to 4")
    expect(chat_page.answers.get_by_role("alert")).to_contain_text("is unreachable or reports a failure")
    upstream.script = None
    chat_page.press("Try again", chat_page.answers.last)
    chat_page.expect_answer("1 2 3 4")


def test_rate_limit_names_the_wait_and_keeps_the_text(serve: Serve, open_page: OpenPage) -> None:
    chat_page = open_page(serve(CHATAPI_RATE_LIMIT="2"))  # the list of models counts as one request
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    chat_page.send("Count to 3")
    expect(chat_page.alert).to_contain_text(re.compile(r"Too many requests.*Try again in \d+ s"))
    expect(chat_page.box).to_have_value("Count to 3")
    expect(chat_page.questions).to_have_count(1)


def test_text_typed_offline_is_kept_and_sent_later(open_chat: OpenChat, visitor: Visitor) -> None:
    chat_page = open_chat("Count to 2")
    visitor.context.set_offline(True)
    chat_page.send("Count to 3")
    expect(chat_page.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    chat_page.press("Stop the answer")
    expect(chat_page.box).to_have_value("Count to 3")
    chat_page.box.press("Enter")
    expect(chat_page.answers.last.get_by_role("status")).to_contain_text("cannot be reached")
    visitor.context.set_offline(False)
    chat_page.expect_answer("1 2 3")
    expect(chat_page.questions).to_have_count(2)


def test_draft_survives_a_reload_and_is_not_shown_to_another_key(server: Service, chat_page: ChatPage) -> None:
    chat_page.box.fill("I was going to")
    chat_page.page.reload()
    expect(chat_page.box).to_have_value("I was going to")
    chat_page.page.close()
    other = ChatPage(chat_page.visitor, server).enter(fresh_key("page-other"))
    expect(other.box).to_have_value("")


def test_start_without_a_server_can_be_retried(serve: Serve, visitor: Visitor, key: str) -> None:
    chat_page = ChatPage(visitor, serve())
    chat_page.page.route("**/api/config", lambda route: route.abort())
    chat_page.page.reload()
    expect(chat_page.alert).to_contain_text("The server cannot be reached")
    chat_page.page.unroute("**/api/config")
    chat_page.press("Try again")
    chat_page.enter(key)


# Keyboard, focus and scrolling


def test_focus_returns_to_its_element_or_to_the_message_box(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    for opener in ("Chat settings", "Settings"):
        chat_page.press(opener)
        chat_page.page.keyboard.press("Escape")
        expect(chat_page.page.get_by_role("button", name=opener, exact=True)).to_be_focused()
    chat_page.box.focus()
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.keyboard.press("Escape")
    expect(chat_page.box).to_be_focused()
    chat_page.press("Regenerate", chat_page.answers.last)
    expect(chat_page.answers.last).to_contain_text("2/2")
    expect(chat_page.box).to_be_focused()
    chat_page.press("Edit", chat_page.questions.last)
    chat_page.page.keyboard.press("Escape")
    expect(chat_page.box).to_be_focused()


def test_keyboard_shortcuts(chat_page: ChatPage) -> None:
    chat_page.box.press_sequentially("Count")
    chat_page.box.press("Shift+Enter")
    chat_page.box.press_sequentially("to 2")
    expect(chat_page.box).to_have_value("Count\nto 2")
    chat_page.box.press("Enter")
    chat_page.expect_answer("1 2")
    expect(chat_page.questions.get_by_role("button", name="Edit")).to_be_enabled()  # once the server has listed it
    chat_page.box.press("ArrowUp")
    expect(chat_page.page.get_by_label("Edit the message")).to_have_value("Count\nto 2")
    chat_page.page.keyboard.press("Escape")
    chat_page.page.locator("h1").click()
    chat_page.page.keyboard.press("?")
    expect(chat_page.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    chat_page.page.keyboard.press("Escape")
    expect(chat_page.page.get_by_role("dialog")).to_have_count(0)


def test_enter_that_ends_a_composition_neither_sends_nor_saves(open_chat: OpenChat) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.dispatch_composition(chat_page.box, "にほん")
    expect(chat_page.box).to_have_value("にほん")
    chat_page.press("Edit", chat_page.questions.first)
    edit = chat_page.page.get_by_label("Edit the message")
    chat_page.dispatch_composition(edit, "ご")
    chat_page.dispatch_composition(edit, "ご", key="Escape")
    expect(edit).to_have_value("Count to 2ごご")
    chat_page.press("Cancel")
    chat_page.choose("Count to 2", "Rename")
    title = chat_page.page.get_by_label("Title")
    chat_page.dispatch_composition(title, "数")
    expect(title).to_be_focused()
    title.press("Escape")
    chat_page.page.keyboard.press("Control+k")
    search = chat_page.page.get_by_role("combobox", name="Search your chats")
    search.fill("count")
    expect(chat_page.page.get_by_role("dialog").get_by_role("option").first).to_be_visible()
    chat_page.dispatch_composition(search, "")
    chat_page.dispatch_composition(search, "", key="Escape")
    expect(chat_page.page.get_by_role("dialog")).to_be_visible()
    expect(chat_page.questions).to_have_count(1)


def test_message_sent_during_an_answer_waits_for_its_end(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.send("And you?")
    waiting = chat_page.page.get_by_role("status").filter(has_text="Sent when the answer is complete")
    expect(waiting).to_contain_text("And you?")
    chat_page.press("Back to the message box")
    expect(chat_page.box).to_have_value("And you?")
    chat_page.box.press("Enter")
    expect(waiting).to_be_visible()
    chat_page.page.reload()
    chat_page.expect_running_answer("Hello")
    expect(chat_page.box).to_have_value("And you?")
    chat_page.box.press("Enter")
    chat_page.box.fill("Later")
    gate.open()
    expect(chat_page.questions).to_have_count(2)
    chat_page.expect_answer("Hello there.")
    expect(waiting).to_have_count(0)
    expect(chat_page.box).to_have_value("Later")


def test_queued_message_returns_if_the_answer_is_stopped_or_interrupts_it(
    chat_page: ChatPage, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    chat_page.send("Count to 3")
    chat_page.page.keyboard.press("Escape")
    expect(chat_page.answers.last).to_contain_text("Stopped")
    expect(chat_page.box).to_have_value("Count to 3")
    expect(chat_page.questions).to_have_count(1)
    chat_page.expect_stored_turn()
    chat_page.send("Hi again")
    chat_page.expect_running_answer("Hello")
    chat_page.send("Count to 3")
    upstream.script = None
    chat_page.press("Stop and send now")
    chat_page.expect_answer("1 2 3")
    expect(chat_page.answers.nth(1)).to_contain_text("Stopped")
    expect(chat_page.questions).to_have_count(3)


def test_cut_answer_is_marked_as_failed_and_continued_from_its_text(chat_page: ChatPage, upstream: Simulator) -> None:
    upstream.script = scripts.cut_after("Half of")
    chat_page.send("Hi")
    expect(chat_page.answers.get_by_role("alert")).to_contain_text("ended the stream early")
    expect(chat_page.answers.get_by_role("alert")).to_contain_text("The text so far is kept.")
    expect(chat_page.answers.get_by_role("alert").get_by_text("is kept")).to_have_count(1)  # not once more by the API
    chat_page.expect_answer("Half of")
    expect(chat_page.answers).to_have_class(re.compile("failed"))
    upstream.script = scripts.answer(" the answer.")
    chat_page.press("Continue", chat_page.answers.last)
    chat_page.expect_answer("the answer.")
    expect(chat_page.page.get_by_text("Continued", exact=True)).to_be_visible()
    expect(chat_page.questions).to_have_count(1)
    *_, kept, request = upstream.requests[-1].body["messages"]
    assert kept == {"role": "assistant", "content": "Half of"}
    assert request["content"].startswith("Continue exactly")


def test_message_is_deleted_with_its_answer(server: Service, open_chat: OpenChat, key: str) -> None:
    chat_page = open_chat("Count to 2", "Count to 3")
    expect(chat_page.answers.last.get_by_role("button", name="More actions")).to_be_enabled()
    chat_page.choose_action(chat_page.questions.first, "Delete")
    chat_page.press("Cancel")
    chat_page.choose_action(chat_page.questions.first, "Delete")
    chat_page.press("Delete", chat_page.page.get_by_role("dialog"))
    expect(chat_page.questions).to_have_count(1)
    chat_page.expect_answer("1 2 3")
    kept = server.get(f"/api/sessions/{chat_page.session_id}/messages", key=key).json()["data"]
    assert [message["content"] for message in kept] == ["Count to 3", "1 2 3"]


def test_answer_is_regenerated_with_another_model(open_chat: OpenChat, upstream: Simulator) -> None:
    chat_page = open_chat("Count to 2")
    chat_page.press("Regenerate with another model", chat_page.answers.last)
    chat_page.page.get_by_label("Search models").fill("nano")
    chat_page.press("Favourite: gpt-4.1-nano")
    chat_page.page.keyboard.press("Escape")
    chat_page.press("Regenerate with another model", chat_page.answers.last)
    expect(chat_page.page.get_by_role("heading", name="Favourites")).to_be_visible()
    chat_page.page.get_by_label("Search models").press("Enter")  # the first one
    expect(chat_page.answers.last).to_contain_text("2/2")
    assert upstream.requests[-1].body["model"] == "gpt-4.1-nano"
    expect(chat_page.page.locator(".composer .model")).to_have_text("gpt-4.1-mini")


# In the order of WebKit: the event about the lower position comes after the content has grown again.
SHRINK_AND_GROW = """content => new Promise((resolve) => {
    const last = content.lastElementChild;
    const grow = new ResizeObserver(() => {
        if (last.style.display !== 'none') return;
        Object.assign(last.style, {display: '', paddingBottom: '300px'});
        grow.disconnect();
        setTimeout(resolve, 100);
    });
    grow.observe(content);
    requestAnimationFrame(() => { last.style.display = 'none'; });
})"""


def test_scrolled_up_position_is_kept_while_text_arrives(chat_page: ChatPage, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "line\n\n" * 80, "more\n\n" * 80)
    chat_page.send("Tell me much")
    lines = chat_page.answers.locator(".markdown p")
    expect(lines).to_have_count(80)
    log = chat_page.page.get_by_role("log")
    at_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 5"
    chat_page.page.wait_for_function(f"({at_end})(document.querySelector('[role=log]'))")
    log.hover()
    chat_page.page.mouse.wheel(0, -900)
    expect(chat_page.page.get_by_role("button", name="Go to the latest message")).to_be_visible()
    place = log.evaluate("box => box.scrollTop")
    gate.open()
    expect(lines).to_have_count(160)
    assert log.evaluate("box => box.scrollTop") == place
    chat_page.press("Go to the latest message")
    chat_page.page.wait_for_function(f"({at_end})(document.querySelector('[role=log]'))")
    log.locator(".content").evaluate(SHRINK_AND_GROW)
    assert log.evaluate(at_end), "a reader at the end stays there when content shrinks"
