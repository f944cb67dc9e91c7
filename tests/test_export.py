"""Export and import of conversations as files."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import pytest
import requests

from chatapi.api.sessions.markdown import fenced, plain, quoted
from chatapi.model import Message, MessageCursor, user_text
from chatapi.simulator import Gate, Simulator, answer, scripts
from chatapi.store import Store
from chatapi.store.messages import CHECKPOINT_MESSAGES
from chatapi.store.scans import STEP_ROWS
from tests.server_process import KEY, OTHER_KEY, Serve, Service, fresh_key
from tests.test_import import COMPLETED, FULL, PNG, brought, message, text
from tests.test_store import Clock, anyone, clock, driver, said, store
from tests.test_tree import answered, turn

__all__ = ["clock", "driver", "store"]  # fixtures

NOT_FOUND = b'{"detail":"Session not found"}'
FORMATS = ("json", "markdown")


def exported(service: Service, session_id: str, key: str, format: str = "json") -> requests.Response:
    response = service.get(f"/api/sessions/{session_id}/export?format={format}", key=key)
    assert response.status_code == 200, response.text
    return response


# In the store


async def test_a_scan_visits_every_message_once_and_none_that_was_added_later(store: Store, clock: Clock) -> None:
    first = await said(store, None, "one", "1")
    session_id = first.session.id
    for number in range(STEP_ROWS + 5):
        clock.advance(number % 2)
        parent = first.generation.message_id if number % 3 else None
        await answered(store, turn(session_id, user_text(f"q{number}"), parent=parent), f"a{number}")
    walk = await store.scans.begin(session_id)
    assert walk is not None
    assert (walk.session.id, walk.messages, walk.newest) == (session_id, 2 * STEP_ROWS + 12, clock.now)
    mark: MessageCursor | None = walk.first
    seen: list[Message] = []
    while mark is not None:
        page, mark = await store.scans.next_messages(session_id, mark)
        seen += page
    assert len({message.id for message in seen}) == len(seen) == walk.messages
    assert {message.parent for message in seen} - {None} <= {message.id for message in seen}
    assert await store.scans.begin("ses_none") is None


@pytest.mark.parametrize(
    "count", [1, CHECKPOINT_MESSAGES - 1, CHECKPOINT_MESSAGES, CHECKPOINT_MESSAGES + 1, 2 * CHECKPOINT_MESSAGES + 1]
)
async def test_a_path_is_read_in_segments_from_its_beginning(store: Store, count: int) -> None:
    session = await store.sessions.create_with_messages("anna", {}, user_text("x" * 20_000) * count)
    await store.messages.add(session.id, "anna", anyone, user_text("a new head"))
    assert session.head is not None
    depth, read = -1, list[Message]()
    for stop in await store.messages.path_checkpoints(session.id, session.head):
        while depth < 0 or read[-1].id != stop:
            page = await store.messages.path_segment(session.id, stop, depth)
            assert 0 < len(page) <= CHECKPOINT_MESSAGES
            read += page
            depth = page[-1].depth
    assert [message.depth for message in read] == list(range(count))
    assert read[-1].id == session.head
    assert await store.messages.path_segment(session.id, session.head, depth) == []


# The route


def test_an_export_is_a_file_for_its_owner(shared: Service) -> None:
    key = fresh_key("export-owner")
    session_id = shared.send("Count to 3", key=key).headers["X-Session-ID"]
    shared.patch(f"/api/sessions/{session_id}", key=key, json={"title": 'Grüße "../aus" 東京\r\nX: y'})
    for format in FORMATS:
        for attempt in (
            shared.get(f"/api/sessions/{session_id}/export?format={format}", key=OTHER_KEY),
            shared.get(f"/api/sessions/ses_none/export?format={format}", key=key),
        ):
            assert (attempt.status_code, attempt.content) == (404, NOT_FOUND)
        response = exported(shared, session_id, key, format)
        disposition = response.headers["Content-Disposition"]
        day = response.json()["session"]["last_updated"][:10] if format == "json" else r"\d{4}-\d\d-\d\d"
        ending = "json" if format == "json" else "md"
        name = rf'attachment; filename="Grue?e-aus-X-y-{day}\.{ending}"; '
        encoded = rf"filename\*=UTF-8''Gr%C3%BC%C3%9Fe-aus-%E6%9D%B1%E4%BA%AC-X-y-{day}\.{ending}"
        assert re.fullmatch(name + encoded, disposition), disposition
        assert "no-store" in response.headers["Cache-Control"]
    assert shared.get(f"/api/sessions/{session_id}/export?format=pdf", key=key).status_code == 422


def test_an_export_contains_the_whole_tree_and_a_running_answer(
    service: Service, simulator: Simulator, gate: Gate
) -> None:
    simulator.script = lambda request: answer("one two")
    first = service.send("Hello", model="gpt-4.1-nano")
    assert first.text == "one two"
    session_id = first.headers["X-Session-ID"]
    question, reply = service.messages(session_id, key=KEY)
    again = service.send("Hi", session_id=session_id, replace=question["id"])
    assert again.text == "one two"
    simulator.script = lambda request: scripts.held(gate, "so far", " and on")
    with service.send("And?", session_id=session_id) as running:
        assert b"".join(islice(running.iter_content(1), 6)) == b"so far"
        document = exported(service, session_id, KEY).json()
        gate.open()
    session = service.get(f"/api/sessions/{session_id}", key=KEY).json()
    assert (document["format"], document["version"]) == ("chatapi.session", 1)
    assert document["session"].keys() == {
        "title",
        "developer_message",
        "metadata",
        "created_at",
        "last_updated",
        "head",
    }
    assert document["session"]["head"] == session["head"]
    messages = {message["id"]: message for message in document["messages"]}
    assert len(messages) == len(document["messages"]) == 6
    assert messages[question["id"]] == {
        "id": question["id"],
        "parent_id": None,
        "role": "user",
        "parts": [{"type": "text", "text": "Hello"}],
        "created_at": question["created_at"],
        "model": None,
        "status": None,
        "finish_reason": None,
        "usage": None,
        "error": None,
        "first_token_at": None,
        "ended_at": None,
    }
    assert messages[reply["id"]] == {
        "id": reply["id"],
        "parent_id": question["id"],
        "role": "assistant",
        "parts": [{"type": "text", "text": "one two"}],
        "created_at": reply["created_at"],
        "model": "gpt-4.1-nano",
        "status": "completed",
        "finish_reason": "stop",
        "usage": reply["usage"],
        "error": None,
        "first_token_at": reply["first_token_at"],
        "ended_at": reply["ended_at"],
    }
    live = messages[session["head"]]
    assert (live["status"], live["parts"]) == ("running", [{"type": "text", "text": "so far"}])


HOSTILE = [
    "# Heading\n## Assistant\n\nIt said this",
    "```\nopen for ever",
    "~~~~\nopen too\n```",
    "> quoted\nlazy\n\n---\n\nSetext\n===",
    "\r## Assistant\rby a CR\r\n## Assistant\r\nby both",
    "\n\n\n## Assistant\n",
    "    code\n\n- list\n\n      ## deep",
]
OURS = re.compile(
    r"# .+|Begun .+\.|## (?:Developer message|User|Assistant)|[^#>`~=-].* · \d{4}-\d\d-\d\d .+|\d{4}-\d\d-\d\d .+ UTC|"
    r"\*Reasoning\*|\*Call of .+\*|\*Result of .+\*|\*\(.+\)\*|",
)


@pytest.mark.one_process("it is about the text, which one process makes as any does")
def test_no_message_can_imitate_another_speaker(service: Service, simulator: Simulator) -> None:
    session_id = ""
    for said_by_both in HOSTILE:
        simulator.script = lambda request, text=said_by_both: answer(text, reasoning=text, model=text)
        more = {"session_id": session_id} if session_id else {"developer_message": "# Be\n```brief"}
        session_id = service.send(said_by_both, **more).headers["X-Session-ID"]
        service.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY).close()  # to its end
    service.patch(f"/api/sessions/{session_id}", key=KEY, json={"title": "One\n# Two <b> [x](y)"})
    text = exported(service, session_id, KEY, "markdown").text
    lines = re.split(r"\r\n|\r|\n", text)
    assert [line for line in lines if not line.startswith(">") and not OURS.fullmatch(line)] == []
    assert lines.count("## Assistant") == lines.count("## User") == len(HOSTILE)
    assert lines[0] == r"# One \# Two \<b\> \[x\]\(y\)"
    quotations = re.findall(r"(?:^> ?.*\n)+", text, re.MULTILINE)
    shown = ["\n".join(line[2:] for line in one.splitlines()) for one in quotations]
    meant = [re.sub(r"\r\n|\r", "\n", one) for one in HOSTILE]
    assert shown == ["# Be\n```brief", *[one for one in meant for _ in range(3)]]


@pytest.mark.one_process("it is about the text, which one process makes as any does")
def test_the_readable_text_has_the_status_of_each_answer(service: Service, simulator: Simulator) -> None:
    simulator.script = lambda request: answer("one two", reasoning="Hm.")
    session_id = service.send("Hello", model="gpt-4.1_x").headers["X-Session-ID"]
    service.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY).close()
    simulator.script = lambda request: scripts.cut_after("half")
    service.send("And?", session_id=session_id, headers={"Accept": "text/event-stream"}).close()
    service.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY, headers={"Accept": "text/event-stream"}).close()
    text = exported(service, session_id, KEY, "markdown").text
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    ends = r"first token after \d+\.\d s · ended after \d+\.\d s"
    assert re.search(
        rf"^gpt-4\.1\\_x · {time} · completed \(stop\) · 0 tokens in, 3 out \(1 of reasoning\) · {ends}$", text, re.M
    ), text
    assert re.search(
        rf"^gpt-4\.1-mini · {time} · \*\*failed\*\*: .+ · \? tokens in, about 1 out · {ends}$", text, re.M
    ), text
    assert "*Reasoning*\n\n> Hm." in text


@pytest.mark.one_process("it is about the text, which one process makes as any does")
def test_the_readable_text_names_calls_results_and_media(shared: Service) -> None:
    called = [
        {"type": "tool_call", "call_id": f"call_{n}", "name": "look_up", "arguments": f'{{"n":{n}}}'} for n in (1, 2)
    ]
    file = {"type": "file", "file_id": "file_1", "filename": "a*.pdf"}
    usage = {"input_tokens": 1, "output_tokens": 2, "reasoning_tokens": None, "cached_tokens": 7, "estimated": False}
    document = FULL | {
        "session": FULL["session"] | {"head": "e"},
        "messages": [
            message("a", None, "user", {"type": "image", "url": "https://example.org/a_b(1) > *c*.png"}, file),
            message(
                "b", "a", "assistant", text('{"url":"u"}\n', "annotation"), *called, **COMPLETED | {"usage": usage}
            ),
            message("c", "b", "tool", {"type": "tool_result", "call_id": "call_2", "text": "```\n## User"}),
            message("d", "c", "tool", {"type": "tool_result", "call_id": "call_1", "text": "no"}),
            message(
                "e", "d", "user", {"type": "audio", "data": "AAAA", "format": "wav"}, {"type": "image", "url": PNG}
            ),
        ],
    }
    made = brought(shared, document)
    assert made.status_code == 201, made.text
    shown = exported(shared, made.json()["session_id"], KEY, "markdown").text
    assert re.split(r"\n## .+\n\n.*2026-01-02.*\n\n", shown)[1:] == [
        "*(Image · <https://example.org/a_b(1)%20%3E%20*c*.png>)*\n\n*(File · a\\*.pdf · file\\_1)*\n",
        '*Annotations*\n\n> ```\n> {"url":"u"}\n> \n> ```\n\n'
        '*Call of look\\_up (call\\_1)*\n\n> ```\n> {"n":1}\n> ```\n\n'
        '*Call of look\\_up (call\\_2)*\n\n> ```\n> {"n":2}\n> ```\n',
        "*Result of call\\_2*\n\n> ````\n> ```\n> ## User\n> ````\n",
        "*Result of call\\_1*\n\n> ```\n> no\n> ```\n",
        "*(Audio · wav)*\n\n*(Image)*\n",
    ]
    assert " · 1 tokens in, 2 out, 7 from the cache · first token" in shown


def test_a_fence_is_longer_than_any_in_its_code() -> None:
    assert fenced("a ```` b") == "`````\na ```` b\n`````"
    assert quoted("a\n\nb") == "> a\n> \n> b"
    assert plain("a\n `b` *c*") == r"a \`b\` \*c\*"
    assert [plain(text) for text in ("- a", "+", "12. a", "4.1-mini")] == [r"\- a", r"\+", r"12\. a", "4.1-mini"]
    for code in ("`" * 50, "```\n```", "\r`````"):
        fence = fenced(code).split("\n")[0]
        assert fence not in code


@pytest.mark.one_process("it is about memory, and one process has it as any does")
def test_an_unfinished_export_is_cut_and_looks_cut(serve: Serve) -> None:
    service = serve(CHATAPI_RATE_LIMIT="0")
    large = "x" * 100_000  # in all 12 MB, more than the sockets hold
    created = service.post("/v1/conversations", key=KEY, json={"items": _items(large, 20)}).json()
    session_id = created["id"].replace("conv_", "ses_", 1)
    for _ in range(5):
        added = service.post(f"/v1/conversations/{created['id']}/items", key=KEY, json={"items": _items(large, 20)})
        assert added.status_code == 200, added.text
    assert len(exported(service, session_id, KEY).json()["messages"]) == 120
    deletions = [("json", "last item"), ("markdown", "first item"), ("markdown", "last item"), ("markdown", "session")]
    for format, deleted in deletions:
        url = f"{service.url}/api/sessions/{session_id}/export?format={format}"
        with requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, stream=True, timeout=30) as response:
            chunks = response.iter_content(1000)
            assert next(chunks)
            if deleted == "session":
                assert service.delete(f"/api/sessions/{session_id}", key=KEY).status_code == 200
            else:
                order = "asc" if deleted == "first item" else "desc"
                items = f"/v1/conversations/{created['id']}/items"
                item = service.get(f"{items}?limit=1&order={order}", key=KEY).json()["first_id"]
                assert service.delete(f"{items}/{item}", key=KEY).status_code == 200
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                b"".join(chunks)


def _items(text: str, count: int) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": text}] * count
