"""Files of ChatGPT and Open WebUI, also hostile ones, become chats: each completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Visitor, accessibility_violations
from tests.chat_page import ChatPage
from tests.hostile_markdown import HOST, PAYLOADS
from tests.server_process import Serve, Service
from tests.test_page_hostile import CANARY, has_run

pytestmark = pytest.mark.one_process("the page is the same on any of them")

MAX_CHARACTERS = 1_000_000
DEPTH = 20_000
LONG = 10_001  # messages, one more than the server takes
CONVERT = """async ([text, most, step]) => {
    const script = document.querySelector('script[type=module]').src;
    const {convert, readElements, titleIn} = await import(new URL('import/convert.js', script));
    const bytes = new TextEncoder().encode(text);
    const stream = new ReadableStream({
        start(controller) {
            const size = step || bytes.length || 1;
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
        },
    });
    const found = [];
    try {
        for await (const {text: chat, head} of readElements(stream, most, () => {})) {
            if (chat === '') found.push('large: ' + titleIn(head));
            else try { found.push(convert(chat)); } catch (error) { found.push(error.constructor.name); }
        }
    } catch (error) { found.push(error.constructor.name); }
    return found;
}"""


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture(scope="module")
def page(server: Service, browser: Browser) -> Page:
    return Visitor(browser).open(server)


AS_JSON = f"async given => JSON.stringify(await ({CONVERT})(given))"  # Playwright takes 10 s for a value of this size


@pytest.fixture(scope="module")
def read(page: Page) -> Callable[..., list[Any]]:
    """Read a file in the page; return the document of each chat, or the name of the error."""

    def read(file: Any, most: int = MAX_CHARACTERS, step: int = 0) -> list[Any]:
        text = file if isinstance(file, str) else json.dumps(file)
        found: list[Any] = json.loads(page.evaluate(AS_JSON, [text, most, step]))
        return found

    return read


def node(parent: str | None, role: str, *parts: Any, **more: Any) -> dict[str, Any]:
    """Return a node of ChatGPT's `mapping`."""
    content = more.pop("content", {"content_type": "text", "parts": list(parts)})
    metadata = more.pop("metadata", {})
    message = {"author": {"role": role}, "create_time": 1.5, "content": content, "metadata": metadata, **more}
    return {"parent": parent, "children": [], "message": message}


def chatgpt(mapping: dict[str, Any], current: Any = None, title: Any = "A chat", **more: Any) -> dict[str, Any]:
    return {"title": title, "create_time": 1.0, "update_time": 2.0, "mapping": mapping, "current_node": current, **more}


def webui(messages: dict[str, Any], current: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "title": "A chat",
        "chat": {"history": {"messages": messages, "currentId": current}, **more},
        "pinned": True,
    }


def lines(document: dict[str, Any]) -> list[tuple[str, str | None, str, list[str]]]:
    """Return the messages: id, parent, role and the text of each part."""
    return [
        (one["id"], one["parent_id"], one["role"][0], [part.get("text") or part["url"] for part in one["parts"]])
        for one in document["messages"]
    ]


def test_branches_and_steps_of_chatgpt_are_kept(read: Callable[..., list[Any]]) -> None:
    mapping = {
        "root": {"parent": None, "message": None},
        "system": node("root", "system", "hidden"),
        "a": node("system", "user", "Hello", {"asset_pointer": "file-1"}, {"text": "spoken"}),
        "b": node(
            "a",
            "assistant",
            metadata={"model_slug": "gpt-4o"},
            content={"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "C"}]},
        ),
        "c": node("b", "assistant", content={"content_type": "code", "language": "python", "text": "a = '```'"}),
        "d": node("c", "tool", "42"),
        "e": node("d", "assistant", "It is \ue200cite\ue202turn0\ue20142."),
        "b2": node("a", "assistant", "Other"),
        "f": node("e", "user", "hidden", metadata={"is_visually_hidden_from_conversation": True}),
        "g": node("f", "user", "Thanks"),
        "lost": node("nowhere", "user", "Lost"),
    }
    [document] = read([chatgpt(mapping, "f", is_archived=True)])
    assert lines(document) == [
        ("m0", None, "u", ["Hello\n\n[Image]\n\nspoken"]),
        ("m1", None, "u", ["Lost"]),
        ("m2", "m0", "a", ["S\n\nC", "````python\na = '```'\n````\n\n", "It is 42."]),
        ("m3", "m0", "a", ["Other"]),
        ("m4", "m2", "u", ["Thanks"]),
    ]
    assert [part["type"] for part in document["messages"][2]["parts"]] == ["reasoning", "text", "text"]
    assert (document["messages"][2]["model"], document["messages"][3]["model"]) == ("gpt-4o", "unknown")
    session = document["session"]
    assert (session["title"], session["head"], session["metadata"]) == ("A chat", "m2", {"page.archived": "yes"})
    assert (session["created_at"], session["last_updated"]) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.000Z")


def test_chats_of_open_webui_are_kept(read: Callable[..., list[Any]]) -> None:
    answer = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n&gt; 1 &lt; 2\n</details>\nYes.'
    images = [{"type": "image", "url": "https://a/b"}, {"type": "image", "url": "javascript:ran()", "name": "c"}]
    messages = {
        "a": {"role": "user", "content": "Is it?", "files": images, "timestamp": 1_700_000_000, "parentId": None},
        "b": {"role": "assistant", "content": answer, "model": "llama", "parentId": "a"},
        "c": {"role": "assistant", "content": '<details type="reasoning">No end', "parentId": "a"},
    }
    linear = {"chat": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}}
    tree, line = read([webui(messages, "b", params={"system": "Be brief."}), linear])
    assert lines(tree) == [
        ("m0", None, "u", ["Is it?", "https://a/b", "[c]"]),
        ("m1", "m0", "a", ["1 < 2", "Yes."]),
        ("m2", "m0", "a", ['<details type="reasoning">No end']),
    ]
    assert tree["messages"][0]["created_at"] == "2023-11-14T22:13:20.000Z"
    session = tree["session"]
    assert [session[name] for name in ("head", "developer_message", "metadata")] == [
        "m1",
        "Be brief.",
        {"page.pinned": "yes"},
    ]
    assert (lines(line)[1][:2], line["session"]["title"]) == (("m1", "m0"), "Hi")


def test_hostile_files_do_no_harm(read: Callable[..., list[Any]]) -> None:
    circle = chatgpt({"a": node("b", "user", "1"), "b": node("a", "assistant", "2")})
    good = chatgpt({"a": node(None, "user", "1")})
    assert [type(one) for one in read([circle, good])] == [str, dict]
    chain = {
        f"n{at}": node(f"n{at - 1}" if at else None, "user" if at % 2 else "assistant", "x") for at in range(DEPTH)
    }
    [deep] = read([chatgpt(chain, f"n{DEPTH - 1}")], most=10_000_000)
    assert (len(deep["messages"]), deep["session"]["head"]) == (DEPTH, f"m{DEPTH - 1}")
    star = {f"n{at}": node(None, "user", "x") for at in range(DEPTH)}
    assert len(read([chatgpt(star)], most=10_000_000)[0]["messages"]) == DEPTH
    openers = '<details type="reasoning" ' * DEPTH
    assert lines(read([webui({"a": {"role": "assistant", "content": openers}})])[0]) == [
        ("m0", None, "a", [openers.strip()])
    ]
    odd: dict[str, Any] = {
        "__proto__": node(None, "user", "a\0b\ud800c"),
        "null": None,
        "list": [],
        "no content": {"message": {"author": {"role": "user"}}},
        "parts": node(None, "user", 1, None, ["x"]),
        "times": node(None, "user", "late", create_time=1e300),
        "before": node(None, "user", "early", create_time=-5),
        "itself": node("itself", "user", ""),
    }
    assert read([chatgpt(odd)]) == ["ChatError"]
    del odd["itself"]
    [document] = read([chatgpt(odd, {}, ["no title"])])
    assert lines(document) == [
        ("m0", None, "u", ["ab\ufffdc"]),
        ("m1", None, "u", ["late"]),
        ("m2", None, "u", ["early"]),
    ]
    assert {one["created_at"] for one in document["messages"]} == {
        "1970-01-01T00:00:01.500Z",
        "1970-01-01T00:00:01.000Z",
    }
    assert document["session"]["title"] == "ab\ufffdc"


def test_file_is_read_one_chat_at_a_time(read: Callable[..., list[Any]]) -> None:
    texts = 'Text with one " and ], }', "and at its end \\", "\\u20ac"
    good = chatgpt({"a": node(None, "user", *texts)}, title="Tü€")
    large = chatgpt({"a": node(None, "user", "x" * 5000)}, title="Much")
    text = json.dumps([good, large, good], ensure_ascii=False)
    whole = read(text, most=3000)
    assert [one if isinstance(one, str) else lines(one) for one in whole] == [
        lines(whole[0]),
        "large: Much",
        lines(whole[0]),
    ]
    for step in (1, 7, 64):
        assert [str(one)[:9] for one in read(text, most=3000, step=step)] == [str(one)[:9] for one in whole]
    own = {"format": "chatapi.session", "anything": 1}
    sessions = json.dumps({"format": "chatapi.sessions", "version": 1, "sessions": [own, own]})
    deep = "[" * 100_000 + "]" * 100_000
    for file, expected in (
        (sessions, [own, own]),
        (own, [own]),
        ("[]", []),
        (' [ 1 , "a,]" ] rest', ["ChatError", "ChatError"]),
        (text[:-1], [*whole[:2], "FileError"]),
        (text[:-20], [*whole[:2], "FileError"]),
        ("", ["FileError"]),
        ("# Markdown", ["FileError"]),
        (deep, ["ChatError"]),
        ('{"mapping": {"a": ', ["ChatError"]),
    ):
        found = read(file, most=3000) if file is not deep else read(file)
        assert [_plain(one) for one in found] == [_plain(one) for one in expected], str(file)[:40]


def _plain(one: Any) -> Any:
    """Return a converted chat without the time of its conversion."""
    return {**one, "exported_at": ""} if isinstance(one, dict) else one


def test_import_shows_progress_and_names_the_chats_that_failed(
    server: Service, visitor: Visitor, key: str, tmp_path: Path
) -> None:
    visitor.context.add_init_script(CANARY)
    hostile = [payload for payload in PAYLOADS if "\0" not in payload][::9]
    texts = {
        f"n{at}": node(f"n{at - 1}" if at else None, "assistant" if at % 2 else "user", text)
        for at, text in enumerate(hostile)
    }
    script = f"<img src=https:{HOST}/i.png onerror=ran()>"
    circle = {"a": node("b", "user", "1"), "b": node("a", "assistant", "2")}
    long = {f"n{at}": node(f"n{at - 1}" if at else None, "user", "x") for at in range(LONG)}
    file = tmp_path / "conversations.json"
    chats = [
        chatgpt({"a": node(None, "user", "1")}, title="One"),
        chatgpt(circle, title=script),
        chatgpt(long, title="Long"),
    ]
    file.write_text(json.dumps([*chats, chatgpt(texts, f"n{len(texts) - 1}", title=script)]))
    chat_page = ChatPage(visitor, server).enter(key)
    with chat_page.page.expect_file_chooser() as chooser:
        chat_page.open_settings("Import chats")
    chooser.value.set_files(file)
    dialog = chat_page.page.get_by_role("dialog", name="Import", exact=True)
    expect(dialog).to_contain_text("2 chats imported.")
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    expect(dialog.get_by_role("listitem").first).to_have_text(f"{script} Damaged, or of an unknown form.")
    expect(dialog.get_by_role("listitem").last).to_contain_text("Long")
    assert accessibility_violations(chat_page.page) == []
    chat_page.press("Close", dialog.locator(".buttons"))
    expect(chat_page.page).to_have_title(script)
    expect(chat_page.answers.last).to_be_visible()
    assert not has_run(chat_page)
    stored = server.get("/api/sessions", key=key).json()["data"]
    assert {session["title"]: session["message_count"] for session in stored} == {script: len(texts), "One": 1}
