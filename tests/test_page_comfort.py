"""What makes the page pleasant every day: order among chats, long texts, attention for a finished answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from chatapi.simulator import Gate, Simulator, scripts
from tests.browser import Visitor
from tests.chat_page import ChatPage
from tests.server_process import Service
from tests.waiting import wait_for

pytestmark = pytest.mark.one_process("the page is the same on any of them")


@pytest.fixture(scope="module")
def upstream(page_upstream: Simulator) -> Simulator:
    return page_upstream


@pytest.fixture
def chat_page(server: Service, visitor: Visitor, key: str) -> ChatPage:
    return ChatPage.with_key(visitor, server, key)


def ask(server: Service, key: str, text: str, **more: str) -> str:
    """Send a message and wait for its answer. Returns the id of the session."""
    answer = server.send(text, key=key, **more)
    assert answer.content
    return answer.headers["x-session-id"]


def make_chats(server: Service, key: str, *texts: str) -> None:
    for text in texts:
        ask(server, key, text)


def test_pinned_chats_are_first_and_archived_ones_are_out_of_the_way(
    server: Service, visitor: Visitor, key: str
) -> None:
    make_chats(server, key, "Count to 2", "Count to 3", "Count to 4")
    chat_page = ChatPage.with_key(visitor, server, key)
    links = chat_page.page.get_by_role("navigation").get_by_role("link")
    expect(links).to_have_text(["Count to 4", "Count to 3", "Count to 2"])
    chat_page.choose("Count to 2", "Pin")
    expect(chat_page.page.get_by_role("heading", name="Pinned")).to_be_visible()
    expect(links.first).to_have_text("Count to 2")
    chat_page.choose("Count to 4", "Archive")
    expect(links).to_have_text(["Count to 2", "Count to 3"])
    links.first.click()  # the settings of an open chat keep its pin
    chat_page.expect_answer("1 2")
    chat_page.choose_model("gpt-4.1-nano")
    chat_page.page.reload()
    expect(chat_page.page.get_by_role("heading", name="Pinned")).to_be_visible()
    chat_page.press("Archived chats")
    expect(links).to_have_text(["Count to 4"])
    chat_page.choose("Count to 4", "Move out of the archive")
    expect(links).to_have_count(3)
    chat_page.choose("Count to 2", "Unpin")
    expect(chat_page.page.get_by_role("heading", name="Pinned")).to_have_count(0)


def test_chats_are_moved_to_folders_alone_or_together(server: Service, visitor: Visitor, key: str) -> None:
    make_chats(server, key, "Count to 2", "Count to 3", "Count to 4")
    chat_page = ChatPage.with_key(visitor, server, key)
    page = chat_page.page
    sidebar = page.get_by_role("navigation")
    links = sidebar.get_by_role("link")
    chat_page.press("Actions for Count to 2")
    width = page.get_by_role("menu").evaluate("menu => menu.offsetWidth")
    assert width < 300, "a menu is as wide as its longest item"
    page.keyboard.press("Escape")
    chat_page.choose("Count to 2", "Move to a folder")
    page.get_by_label("Name of a new folder").fill("Numbers")
    page.keyboard.press("Enter")
    folder = sidebar.get_by_role("button", name="Numbers")
    expect(links).to_have_text(["Count to 2", "Count to 4", "Count to 3"])
    folder.click()
    expect(links).to_have_text(["Count to 4", "Count to 3"])
    page.reload()
    expect(links).to_have_text(["Count to 4", "Count to 3"])  # it stays closed
    folder.click()
    chat_page.choose("Count to 3", "Select chats")
    sidebar.get_by_label("Count to 4").check()
    expect(sidebar.get_by_role("status")).to_have_text("2 chats")
    chat_page.press("Move to a folder", sidebar)
    chat_page.press("Numbers", page.get_by_role("dialog"))
    expect(sidebar.get_by_role("heading")).to_have_count(1)
    expect(links).to_have_count(3)
    chat_page.choose("Count to 3", "Select chats")
    sidebar.get_by_label("Count to 2").check()
    chat_page.press("Delete", sidebar)
    expect(links).to_have_text(["Count to 4"])
    expect(page.get_by_text("2 chats deleted.")).to_be_visible()
    chat_page.press("Undo")
    expect(links).to_have_count(3)
    chat_page.choose("Count to 4", "Move to a folder")
    chat_page.press("No folder", page.get_by_role("dialog"))
    expect(sidebar.get_by_role("heading")).to_have_text(["Numbers", "Today"])


def test_chat_becomes_temporary_with_its_first_message_and_can_be_kept(
    server: Service, chat_page: ChatPage, key: str
) -> None:
    badge = chat_page.page.locator("header.top").get_by_text("Temporary chat")
    chat_page.press("Chat settings")
    chat_page.page.get_by_label("Temporary chat").check()
    chat_page.press("Save")
    expect(badge).to_be_visible()
    held: list[Route] = []
    chat_page.page.route(re.compile(r"/api/sessions/ses_[\w-]+$"), lambda route: held.append(route))
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    chat_page.page.evaluate("fetch('/api/health')")  # after a request that the end of the answer would have sent
    assert [route.request.method for route in held] == ["PATCH"], "read before it was temporary"
    chat_page.page.unroute_all()  # which continues it
    chat_page.expect_stored_turn()
    expect(badge).to_be_visible()
    session = f"/api/sessions/{chat_page.session_id}"
    wait_for(lambda: server.get(session, key=key).json()["temporary"])
    chat_page.page.reload()
    chat_page.press("Chat settings")
    chat_page.page.get_by_label("Temporary chat").uncheck()
    chat_page.press("Save")
    expect(badge).to_have_count(0)
    assert server.get(session, key=key).json()["temporary"] is False


def test_look_and_hidden_sidebar_are_kept(chat_page: ChatPage) -> None:
    page = chat_page.page
    chat_page.press("Settings")
    page.get_by_role("radio", name="Blue").check()
    page.get_by_label("Text size").select_option("larger")
    page.get_by_label("Line width").select_option("wide")
    page.keyboard.press("Escape")
    sidebar = page.get_by_role("navigation")
    page.keyboard.press("Control+b")
    expect(sidebar).to_be_hidden()
    page.reload()
    expect(chat_page.box).to_be_visible()
    expect(sidebar).to_be_hidden()
    chat_page.press("Show the sidebar")
    expect(sidebar).to_be_visible()
    root = page.locator("html")
    expect(root).to_have_css("font-size", "20px")
    styles = page.evaluate(
        "['--accent', '--measure'].map(name => getComputedStyle(document.documentElement).getPropertyValue(name))"
    )
    assert styles == ["light-dark(#1d4ed8, #93b4ff)", "60rem"]


def test_pinned_chat_of_a_later_page_is_shown(server: Service, visitor: Visitor, key: str) -> None:
    make_chats(server, key, "Count to 2")
    chat_page = ChatPage.with_key(visitor, server, key)
    chat_page.choose("Count to 2", "Pin")
    expect(chat_page.page.get_by_role("heading", name="Pinned")).to_be_visible()
    for _ in range(51):
        server.post("/api/sessions", key=key, json={"developer_message": ""})
    chat_page.page.reload()
    expect(chat_page.page.get_by_role("button", name="Show more")).to_be_visible()
    expect(chat_page.page.get_by_role("navigation").get_by_role("link").first).to_have_text("Count to 2")


def test_all_chats_are_exported_deleted_and_imported(
    server: Service, visitor: Visitor, tmp_path: Path, key: str
) -> None:
    make_chats(server, key, "Count to 2", "Count to 3")
    chat_page = ChatPage.with_key(visitor, server, key)
    links = chat_page.page.get_by_role("navigation").get_by_role("link")
    with chat_page.page.expect_download() as download:
        chat_page.open_settings("Export all chats")
    saved = tmp_path / "chats.json"
    download.value.save_as(saved)
    assert len(json.loads(saved.read_text())["sessions"]) == 2
    deletions: list[str] = []
    chat_page.page.on("request", lambda sent: deletions.append(sent.url) if sent.method == "DELETE" else None)
    chat_page.open_settings("Delete all chats")
    chat_page.press("Delete all chats", chat_page.page.get_by_role("dialog", name="Delete all chats?"))
    expect(links).to_have_count(0)
    assert server.get("/api/sessions", key=key).json()["data"] == []
    assert deletions == [f"{server.url}/api/sessions"], "one request, however many chats there are"
    with chat_page.page.expect_file_chooser() as chooser:
        chat_page.open_settings("Import chats")
    chooser.value.set_files(saved)
    expect(links).to_have_count(2)


def test_long_paste_becomes_a_file_or_text_on_request(chat_page: ChatPage) -> None:
    paste = """text => {
        const pasted = new DataTransfer();
        pasted.setData('text/plain', text);
        const event = new ClipboardEvent('paste', { clipboardData: pasted, bubbles: true, cancelable: true });
        document.getElementById('composer').dispatchEvent(event);
    }"""
    chat_page.page.evaluate(paste, "word " * 3000)
    attachments = chat_page.page.locator(".attachments")
    expect(attachments).to_contain_text("pasted.txt")
    expect(chat_page.box).to_have_value("")
    chat_page.press("Paste as text")
    expect(attachments).to_have_count(0)
    expect(chat_page.box).to_have_value("word " * 3000)


def test_hits_are_grouped_by_chat(server: Service, chat_page: ChatPage, key: str) -> None:
    first = ask(server, key, "My cat is Mimi")
    ask(server, key, "My dog likes Mimi")
    ask(server, key, "Mimi again", session_id=first)
    chat_page.page.keyboard.press("Control+k")
    chat_page.page.get_by_role("combobox", name="Search your chats").fill("mimi")
    options = chat_page.page.get_by_role("dialog").get_by_role("option")
    expect(options.nth(4)).to_be_visible()
    expect(chat_page.page.locator(".hit-title")).to_have_count(2)


def test_title_and_icon_show_an_answer_that_ended_while_the_page_was_hidden(
    chat_page: ChatPage, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    chat_page.send("Hi")
    chat_page.expect_running_answer("Hello")
    hide = """isHidden => {
        Object.defineProperty(document, 'hidden', { value: isHidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    chat_page.page.evaluate(hide, True)
    gate.open()
    expect(chat_page.page).to_have_title("● Hi")
    icon = chat_page.page.locator("link[rel=icon]")
    assert str(icon.get_attribute("href")).endswith("/icon-done.svg")
    chat_page.page.evaluate(hide, False)
    expect(chat_page.page).to_have_title("Hi")
    assert str(icon.get_attribute("href")).endswith("/icon.svg")


def test_effort_is_offered_for_models_that_reason_and_its_time_is_shown(
    chat_page: ChatPage, upstream: Simulator
) -> None:
    effort = chat_page.page.get_by_role("button", name="Reasoning effort")
    expect(effort).to_have_count(0)
    chat_page.choose_model("o3")
    effort.click()
    chat_page.page.get_by_role("menuitemradio", name="High").click()
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    assert upstream.requests[-1].body["reasoning_effort"] == "high"
    expect(chat_page.answers.locator(".reasoning summary")).to_contain_text("Thought for")
    expect(chat_page.answers.get_by_role("button", name="Regenerate", exact=True)).to_be_visible()
    expect(chat_page.answers.locator(".reasoning summary")).to_contain_text("Thought for")


def test_link_writes_a_message_and_chooses_a_model_but_sends_nothing(
    server: Service, visitor: Visitor, upstream: Simulator, key: str
) -> None:
    visitor.add_init_script(
        "{ window.said = []; SpeechSynthesis.prototype.speak = utterance => said.push(utterance.text); }"
    )
    chat_page = ChatPage(visitor, server, "/?q=Count%20to%202&model=gpt-4.1-nano").enter(key)
    expect(chat_page.box).to_have_value("Count to 2")
    expect(chat_page.page.locator(".composer .model")).to_have_text("gpt-4.1-nano")
    assert chat_page.page.evaluate("location.search") == ""
    assert not [address for address in visitor.requests if address.endswith("/api/chat")]
    chat_page.box.press("Enter")
    chat_page.expect_answer("1 2")
    assert upstream.requests[-1].body["model"] == "gpt-4.1-nano"
    meter = chat_page.page.get_by_role("img", name=re.compile(r"^\d+ of 1,047,576 tokens of context used$"))
    expect(meter).to_have_text(re.compile(r"^\d+ / 1M$"))
    chat_page.press("Read aloud")
    expect(chat_page.page.get_by_role("button", name="Stop reading")).to_be_visible()
    assert chat_page.page.evaluate("said") == ["1 2"]
    chat_page.press("Stop reading")
    expect(chat_page.page.get_by_role("button", name="Read aloud")).to_be_visible()


def test_preset_brings_its_instructions_and_parameters_into_another_chat(
    chat_page: ChatPage, upstream: Simulator
) -> None:
    dialog = chat_page.page.get_by_role("dialog")
    chat_page.press("Chat settings")
    dialog.get_by_label("Developer message").fill("Be brief.")
    dialog.get_by_label("Temperature", exact=True).fill("0.5")
    dialog.get_by_label("Name of the preset").fill("Short")
    chat_page.press("Save as preset")
    expect(dialog.get_by_label("Choose a preset")).to_be_visible()
    chat_page.press("Cancel")
    chat_page.page.reload()
    chat_page.press("Chat settings")
    expect(dialog.get_by_label("Developer message")).to_have_value("")
    dialog.get_by_label("Choose a preset").select_option("Short")
    expect(dialog.get_by_label("Developer message")).to_have_value("Be brief.")
    chat_page.press("Save")
    chat_page.send("Count to 2")
    chat_page.expect_answer("1 2")
    body = upstream.requests[-1].body
    assert (body["messages"][0]["content"], body["temperature"]) == ("Be brief.", 0.5)
    chat_page.press("Chat settings")
    dialog.get_by_label("Choose a preset").select_option("Short")
    chat_page.press("Delete preset: Short")
    expect(dialog.get_by_label("Choose a preset")).to_have_count(0)
    dialog.get_by_label("Name of the preset").fill("Other")
    chat_page.press("Save as preset")
    chat_page.page.keyboard.press("Escape")
    chat_page.forget_key()
    expect(chat_page.page.get_by_label("OpenAI API key")).to_have_value("")
    assert "Be brief" not in chat_page.page.evaluate("JSON.stringify([localStorage, sessionStorage])")


def test_shared_chat_is_read_without_a_key_until_its_link_is_deleted(
    server: Service, chat_page: ChatPage, new_visitor: Callable[..., Visitor], upstream: Simulator
) -> None:
    upstream.script = scripts.answer("Some **bold** text")
    chat_page.send("Write")
    chat_page.expect_answer("Some bold text")
    chat_page.expect_stored_turn()
    chat_page.choose("Write", "Share")
    dialog = chat_page.page.get_by_role("dialog", name="Share this chat")
    dialog.get_by_label("The link works for").select_option("30")
    chat_page.press("Create a link", dialog)
    address = dialog.get_by_label("Link", exact=True).input_value()
    expect(dialog.get_by_role("listitem")).to_have_count(1)
    reader = new_visitor()
    page = reader.open(server, address.removeprefix(server.url))
    expect(page.locator("article.user")).to_have_text(re.compile("Write"))
    expect(page.locator("article.assistant strong")).to_have_text("bold")
    expect(page.get_by_role("heading", name="Write", level=1)).to_be_visible()
    expect(page.get_by_label("OpenAI API key")).to_have_count(0)
    dialog.get_by_role("button", name=re.compile("^Delete the link")).click()
    expect(dialog.get_by_role("listitem")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("does not exist or has expired")).to_be_visible()
