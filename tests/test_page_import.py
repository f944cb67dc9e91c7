"""Files of ChatGPT and Open WebUI, also hostile ones, become chats: each completely or not at all."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Visitor, accessibility_violations
from tests.chat_page import ChatPage
from tests.hostile_markdown import HOST, PAYLOADS
from tests.server_process import Service
from tests.test_page_hostile import CANARY, has_run

pytestmark = pytest.mark.one_process("the page is the same on any of them")

MAX_CHARACTERS = 1_000_000
DEPTH = 20_000
LONG = 10_001  # messages, one more than the server takes
CONVERT = """async ([text, most, step]) => {
    const script = document.querySelector('script[type=module]').src;
    const {attach, convert, readElements, titleIn} = await import(new URL('import/convert.js', script));
    const bytes = new TextEncoder().encode(text);
    const stream = new ReadableStream({
        start(controller) {
            const size = step || bytes.length || 1;
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
        },
    });
    const found = [];
    window.leftOut = 0;
    try {
        for await (const {text: chat, head} of readElements(stream, most, () => {})) {
            if (chat === '') found.push('large: ' + titleIn(head));
            else try {
                const {document, leftOut} = convert(chat);
                window.leftOut += leftOut + await attach(document, async () => null, async () => {}, most);
                found.push(document);
            } catch (error) { found.push(error.constructor.name); }
        }
    } catch (error) { found.push(error.constructor.name); }
    return found;
}"""


@pytest.fixture(scope="module")
def page(server: Service, browser: Browser) -> Page:
    return Visitor(browser).open(server)


LENGTHS = f"async given => (await ({CONVERT})(given)).map(({{messages, session}}) => [messages.length, session.head])"
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
        (one["id"], one["parent_id"], one["role"][0], [_text(part) for part in one["parts"]])
        for one in document["messages"]
    ]


def _text(part: dict[str, Any]) -> str:
    return str(part.get("text") or part.get("arguments") or part.get("url") or part["data"])


def test_branches_and_steps_of_chatgpt_are_kept(read: Callable[..., list[Any]], page: Page) -> None:
    mapping = {
        "root": {"parent": None, "message": None},
        "system": node("root", "system", "hidden"),
        "a": node(
            "system",
            "user",
            "Hello",
            {"asset_pointer": "sediment://file_1", "content_type": "image_asset_pointer"},
            {"text": "spoken"},
            {"asset_pointer": "sediment://file_2", "content_type": "audio_asset_pointer"},
            metadata={"attachments": [{"id": "file_1", "name": "a.png"}, {"id": "file_3", "name": "b.pdf"}]},
        ),
        "b": node(
            "a",
            "assistant",
            metadata={"model_slug": "gpt-4o"},
            content={"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "C"}]},
        ),
        "c": node("b", "assistant", content={"content_type": "code", "language": "python", "text": "a = '```'"}),
        "d": node("c", "assistant", content={"content_type": "code", "text": "6 * 7"}, recipient="run.python"),
        "d2": node("d", "tool", content={"content_type": "execution_output", "text": "42"}),
        "e": node("d2", "assistant", "It is \ue200cite\ue202turn0\ue20142."),
        "b2": node("a", "assistant", "Other"),
        "f": node("e", "user", "hidden", metadata={"is_visually_hidden_from_conversation": True}),
        "g": node("f", "user", "Thanks"),
        "lost": node("nowhere", "user", "Lost"),
    }
    [document] = read([chatgpt(mapping, "f", is_archived=True)])
    assert lines(document) == [
        ("m0", None, "u", ["Hello", "[Image]", "spoken", "[b.pdf]"]),
        ("m1", None, "u", ["Lost"]),
        ("m2", "m0", "a", ["S\n\nC", "````python\na = '```'\n````", '{"input":"6 * 7"}']),
        ("m3", "m0", "a", ["Other"]),
        ("m4", "m2", "t", ["42"]),
        ("m5", "m4", "a", ["It is 42."]),
        ("m6", "m5", "u", ["Thanks"]),
    ]
    assert page.evaluate("leftOut") == 3  # the image, the recording and the document
    assert [part["type"] for part in document["messages"][2]["parts"]] == ["reasoning", "text", "tool_call"]
    call, result = document["messages"][2]["parts"][2], document["messages"][4]["parts"][0]
    assert (call["name"], call["call_id"]) == ("run_python", result["call_id"])
    assert (document["messages"][2]["model"], document["messages"][3]["model"]) == ("gpt-4o", "unknown")
    session = document["session"]
    assert (session["title"], session["head"], session["metadata"]) == ("A chat", "m5", {"page.archived": "yes"})
    assert (session["created_at"], session["last_updated"]) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.000Z")


def test_chats_of_open_webui_are_kept(read: Callable[..., list[Any]], page: Page) -> None:
    answer = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n&gt; 1 &lt; 2\n</details>\nYes.'
    arguments = "&quot;{\\&quot;at\\&quot;: 1}&quot;"
    attributes = f'id="call:1" name="get weather" arguments="{arguments}" result="&quot;1 &lt; 2&quot;" files=""'
    call = f'<details type="tool_calls" done="true" {attributes}>\n<summary>Tool Executed</summary>\n</details>'
    output = "{&quot;stdout&quot;: &quot;4&quot;, &quot;result&quot;: null}"
    code = f'<details type="code_interpreter" done="true" output="{output}">'
    code += "\n<summary>Analyzed</summary>\n2 &lt; 3\n</details>"
    text = {"type": "file", "name": "a.md", "file": {"data": {"content": "Notes"}}}
    images = [{"type": "image", "url": "https://a/b"}, {"type": "image", "url": "javascript:ran()", "name": "c"}]
    messages = {
        "a": {"role": "user", "content": "Is it?", "files": images, "timestamp": 1_700_000_000, "parentId": None},
        "b": {"role": "assistant", "content": answer, "model": "llama", "parentId": "a"},
        "c": {"role": "assistant", "content": '<details type="reasoning">No end', "parentId": "a"},
        "d": {
            "role": "user",
            "content": "And?",
            "parentId": "b",
            "files": [text, {"type": "collection", "name": "All"}],
        },
        "e": {"role": "assistant", "content": f"First{call}Then{code}", "parentId": "d"},
        "f": {"role": "user", "content": "Good", "parentId": "e"},
    }
    linear = {"chat": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}}
    tree, line = read([webui(messages, "b", params={"system": "Be brief."}), linear])
    assert lines(tree) == [
        ("m0", None, "u", ["Is it?", "https://a/b", "[c]"]),
        ("m1", "m0", "a", ["1 < 2", "Yes."]),
        ("m2", "m0", "a", ['<details type="reasoning">No end']),
        ("m3", "m1", "u", ["And?", "[a.md]\n\nNotes", "[All]"]),
        ("m4", "m3", "a", ["First", '{"at": 1}']),
        ("m5", "m4", "t", ["1 < 2"]),
        ("m6", "m5", "a", ["Then", '{"input":"2 < 3"}']),
        ("m7", "m6", "t", ["4"]),
        ("m8", "m7", "u", ["Good"]),
    ]
    names = [part.get("name") for at in range(4, 8) for part in tree["messages"][at]["parts"]]
    assert names == [None, "get_weather", "get_weather", None, "code_interpreter", "code_interpreter"]
    assert tree["messages"][0]["created_at"] == "2023-11-14T22:13:20.000Z"
    assert page.evaluate("leftOut") == 2  # the image with an address of its own, and the collection
    session = tree["session"]
    assert [session[name] for name in ("head", "developer_message", "metadata")] == [
        "m1",
        "Be brief.",
        {"page.pinned": "yes"},
    ]
    assert (lines(line)[1][:2], line["session"]["title"]) == (("m1", "m0"), "Hi")


def test_hostile_files_do_no_harm(read: Callable[..., list[Any]], page: Page) -> None:
    circle = chatgpt({"a": node("b", "user", "1"), "b": node("a", "assistant", "2")})
    good = chatgpt({"a": node(None, "user", "1")})
    assert [type(one) for one in read([circle, good])] == [str, dict]
    chain = {
        f"n{at}": node(f"n{at - 1}" if at else None, "user" if at % 2 else "assistant", "x") for at in range(DEPTH)
    }
    star = {f"n{at}": node(None, "user", "x") for at in range(DEPTH)}
    large = json.dumps([chatgpt(chain, f"n{DEPTH - 1}"), chatgpt(star)])
    deep, wide = page.evaluate(LENGTHS, [large, 10_000_000, 0])
    assert deep == [DEPTH, f"m{DEPTH - 1}"]
    assert wide[0] == DEPTH
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


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(50)
ARCHIVE = """async base64 => {
    const script = document.querySelector('script[type=module]').src;
    const {attach, convert, openArchive, readElements} = await import(new URL('import/convert.js', script));
    const file = new File([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], 'export.zip');
    const read = async ({type}) => type.startsWith('image/') ? {type: 'image', url: type} : {type: 'file', data: type};
    const found = [];
    try {
        const archive = await openArchive(file);
        for await (const stream of archive.chats())
            for await (const {text} of readElements(stream, 1e6, () => {})) {
                const {document} = convert(text);
                await attach(document, archive.find, read, 1e6);
                const [{parts}] = document.messages;
                found.push(parts.map((part) => part.text ?? part.url ?? part.data));
            }
    } catch (error) { found.push(error.constructor.name); }
    return found;
}"""


def packed(
    files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", long: bool = False
) -> bytes:
    """Return a ZIP file; `long` writes sizes of 8 bytes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        archive.comment = comment
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=long) as entry:
                entry.write(content)
    return memory.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Return the data with other bytes after the last such signature."""
    at = data.rindex(signature) + offset
    return data[:at] + value + data[at + len(value) :]


def chat_of(*parts: Any, files: tuple[str, ...] = ()) -> bytes:
    attachments = [{"id": name, "name": f"{name}.x"} for name in files]
    return json.dumps([chatgpt({"a": node(None, "user", *parts, metadata={"attachments": attachments})})]).encode()


def test_zip_files_of_exports_are_read_and_hostile_ones_refused(page: Page) -> None:
    def read(data: bytes) -> Any:
        return page.evaluate(ARCHIVE, base64.b64encode(data).decode())

    image = {"asset_pointer": "sediment://file_Ab1", "content_type": "image_asset_pointer"}
    files = {
        "__MACOSX/conversations.json": b"x",
        "a/conversations-010.json": chat_of("third"),
        "a/conversations-002.json": chat_of("second", image, files=("file_Ab1", "file-2", "file-3", "file-4")),
        "a/conversations-001.json": chat_of("first"),
        "a/user.json": b"{}",
        "a/file_Ab1-sanitized.png": PICTURE,
        "a/dalle/file-2-name.pdf": b"%PDF-1.7",
        "a/file-3.docx": b"PK other",
    }
    expected = [["first"], ["second", "image/png", "application/pdf", "[file-3.x]", "[file-4.x]"], ["third"]]
    for data in (
        packed(files),
        packed(files, zipfile.ZIP_STORED),
        packed(files, comment=b"PK\5\6" + bytes(40)),
        packed(files, long=True),
    ):
        assert read(data) == expected
    assert read(packed({"chat-export.json": chat_of("other")})) == [["other"]]
    good = packed({"conversations.json": chat_of("good")})
    stored = packed({"conversations.json": chat_of("good")}, zipfile.ZIP_STORED)
    entry, end = b"PK\1\2", b"PK\5\6"
    bomb = packed({"conversations.json": b"[" + b" " * 5_000_000 + b"]"})
    for name, data in {
        "no chats": packed({"a.txt": b""}),
        "empty": packed({}),
        "cut": good[:-1],
        "cut list": good[:60] + good[-22:],
        "encrypted": patched(good, entry, 8, b"\1\0"),
        "another method": patched(good, entry, 10, b"\x0c\0"),
        "smaller than it says": patched(good, entry, 24, b"\xff\xff\0\0"),
        "larger than it says": patched(good, entry, 24, b"\1\0\0\0"),
        "compressed size beyond the file": patched(good, entry, 20, b"\xff\xff\xff\0"),
        "no entry at its place": patched(good, entry, 42, b"\2\0\0\0"),
        "place beyond the file": patched(good, entry, 42, b"\xfe\xff\xff\xff"),
        "more entries than listed": patched(good, end, 10, b"\xff\xff"),
        "list beyond the file": patched(good, end, 16, b"\xff\xff\xff\x7f"),
        "list of 4 GB": patched(good, end, 12, b"\xff\xff\xff\xff"),
        "another checksum": patched(good, entry, 16, bytes(4)),
        "another checksum, stored": patched(stored, entry, 16, bytes(4)),
        "damaged content": good[:48] + b"\xff" * 8 + good[56:],
        "bomb": bomb,
        "many names for one content": patched(
            b"".join(
                [good[: good.index(entry)], good[good.index(entry) : good.rindex(end)] * 1001, good[good.rindex(end) :]]
            ),
            end,
            10,
            (1001).to_bytes(2, "little") + ((good.rindex(end) - good.index(entry)) * 1001).to_bytes(4, "little"),
        ),
    }.items():
        found = read(data)
        assert found[-1:] in (["FileError"], ["TypeError"]), name
        assert found[:-1] in ([], [["good"]]), name


def _plain(one: Any) -> Any:
    """Return a converted chat without the time of its conversion."""
    return {**one, "exported_at": ""} if isinstance(one, dict) else one


def test_import_shows_progress_and_names_the_chats_that_failed(
    server: Service, visitor: Visitor, key: str, tmp_path: Path
) -> None:
    visitor.add_init_script(CANARY)
    hostile = [payload for payload in PAYLOADS if "\0" not in payload][::9]
    texts = {
        f"n{at}": node(f"n{at - 1}" if at else None, "assistant" if at % 2 else "user", text)
        for at, text in enumerate(hostile)
    }
    script = f"<img src=https:{HOST}/i.png onerror=ran()>"
    circle = {"a": node("b", "user", "1"), "b": node("a", "assistant", "2")}
    long = {f"n{at}": node(f"n{at - 1}" if at else None, "user", "x") for at in range(LONG)}
    file = tmp_path / "export.zip"
    image = {"asset_pointer": "sediment://file_1", "content_type": "image_asset_pointer"}
    chats = [
        chatgpt({"a": node(None, "user", "1", image, {"asset_pointer": "sediment://file_2"})}, title="One"),
        chatgpt(circle, title=script),
        chatgpt(long, title="Long"),
    ]
    content = json.dumps([*chats, chatgpt(texts, f"n{len(texts) - 1}", title=script)]).encode()
    file.write_bytes(packed({"conversations-000.json": content, "file_1-x.png": PICTURE}))
    chat_page = ChatPage(visitor, server).enter(key)
    with chat_page.page.expect_file_chooser() as chooser:
        chat_page.open_settings("Import chats")
    chooser.value.set_files(file)
    dialog = chat_page.page.get_by_role("dialog", name="Import", exact=True)
    expect(dialog).to_contain_text("2 chats imported.")
    expect(dialog).to_contain_text("1 file or recording was left out")
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
    one = next(session["session_id"] for session in stored if session["title"] == "One")
    [message] = server.get(f"/api/sessions/{one}/messages", key=key).json()["data"]
    assert [part.get("text") or part["url"] for part in message["parts"]] == [
        "1",
        f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}",
        "[Image]",
    ]
