"""A loop of tools in each dialect, cut after every event of the client's stream and of the upstream's. Promise 3.

The answer has reasoning, each hosted tool with its progress, an image, citations, a request for approval and a call of
a function. The loop continues with the results. The upstream's streams are cut in both of its protocols.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.sync.client import connect

from chatapi.simulator import Gate, HalfClose, Script, Send, Simulator, Wait, wire
from chatapi.simulator.response_events import Events
from chatapi.simulator.scripts import event_stream
from tests import hosted_items, node_clients
from tests.reader import EVENTS, Reader
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("replicas read the same log; test_every_cut.py cuts it on them")

CLIENTS = 8  # that resume in parallel
SECONDS = 30
MODEL = "gpt-5.4"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "weather", "parameters": PARAMETERS}
CHAT_FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
SEARCH = {"type": "web_search"}
CALL = ("call_1", "weather", ['{"city":', '"Rom', 'e"}'])
APPROVAL = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "Rain"}
LOOP = [
    *("user", "reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
    *("mcp_list_tools", "mcp_call", "assistant", "mcp_approval_request", "function_call"),
]
ENDS = {"response.completed", "response.failed", "response.incomplete", "error"}


UPSTREAMS = """
default_upstream = "responses"
[upstreams.responses]
base_url = "{url}"
api = "responses"
retries = 0
[upstreams.chat]
base_url = "{url}"
api = "chat"
retries = 0
[models.chat]
upstream = "chat"
"""


@pytest.fixture(scope="module")
def service(serve_module: Serve, upstream: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A server with the simulator as two upstreams, one of each protocol."""
    file = tmp_path_factory.mktemp("upstreams") / "upstreams.toml"
    file.write_text(UPSTREAMS.format(url=upstream.url))
    return serve_module(
        CHATAPI_UPSTREAMS=str(file),
        OPENAI_BASE_URL="",
        CHATAPI_RATE_LIMIT="0",
        CHATAPI_MAX_GENERATIONS_PER_KEY="0",
        CHATAPI_MAX_WEBSOCKETS_PER_KEY="1000",
        CHATAPI_MAX_WEBSOCKETS_PER_ADDRESS="1000",
    )


# The upstream


def first_step() -> list[bytes]:
    """Return the frames of the answer that calls tools."""
    return list(hosted_items.frames(CALL))


def last_step() -> list[bytes]:
    """Return the frames of the answer to the results."""
    events = Events("gpt-5.4-2026-03-05")
    steps = [*events.reasoning(["So ", "it rains."]), *events.message(["Take ", "an ", "umbrella."])]
    return [events.begin(), *steps, events.end(usage=wire.Usage(30, 7, 3))]


def held(frames: list[bytes], gate: Gate) -> Script:
    """Return an answer that waits at the gate before its last delta."""
    last = max(number for number, frame in enumerate(frames) if b'.delta"' in frame)
    return event_stream(*map(Send, frames[:last]), Wait(gate), *map(Send, frames[last:]))


# Readers


class Frames:
    """The frames of an event stream, as they arrive."""

    def __init__(self, reader: Reader) -> None:
        assert reader.status == 200, reader.read_all()
        self._reader = reader
        self.headers = reader.headers

    def until(self, text: str) -> list[str]:
        self._reader.read_until(text)
        return self._frames()

    def rest(self) -> list[str]:
        self._reader.read_all()
        self._reader.leave()
        return self._frames()

    def _frames(self) -> list[str]:
        frames = self._reader.body.decode(errors="ignore").split("\n\n")[:-1]
        return [frame for frame in frames if not frame.startswith(":")]


class Messages:
    """The same of a WebSocket, of which each message is the data of an event."""

    headers: dict[str, str]

    def __init__(self, service: Service, key: str, message: dict[str, Any]) -> None:
        url, headers = service.url.replace("http:", "ws:") + "/v1/responses", {"Authorization": f"Bearer {key}"}
        self._stack = ExitStack()
        self._websocket = self._stack.enter_context(connect(url, additional_headers=headers))
        self._websocket.send(json.dumps(message))
        self._frames: list[str] = []
        self.headers = {}

    def until(self, text: str) -> list[str]:
        while text not in (frame := f"data: {self._websocket.recv(SECONDS)!s}"):
            self._frames.append(frame)
        self._frames.append(frame)
        return list(self._frames)

    def rest(self) -> list[str]:
        while not self._frames or data(self._frames[-1])["type"] not in ENDS:
            self._frames.append(f"data: {self._websocket.recv(SECONDS)!s}")
        self._stack.close()
        return self._frames


Stream = Frames | Messages


def data(frame: str) -> Any:
    """Return the data of a frame."""
    text = frame.rpartition("data: ")[2]
    return json.loads(text) if text != "[DONE]" else {"type": "[DONE]"}


def event_id(frame: str) -> str:
    """Return the id of a frame."""
    return frame.partition("id: ")[2].partition("\n")[0]


# Dialects


@dataclass(frozen=True)
class Dialect:
    """Requests of a client of one dialect: the question, the next one with tool results, a resume after its frames."""

    ask: Callable[[Service, str], Stream]
    go_on: Callable[[Service, str, Stream, list[str]], Stream]
    resume: Callable[[Service, str, Stream, list[str]], Stream]
    texts: Callable[[str], list[tuple[str, str]]]  # of a frame: its parts, and the text of each
    repeats: Callable[[str], bool] = lambda frame: False  # whether a frame may come again: it has no part of the log
    approves: bool = False
    step: int = 1  # from one cut to the next


def post(service: Service, key: str, path: str, body: dict[str, Any], **headers: str) -> Frames:
    return Frames(Reader(service.url, path, body, headers={"Authorization": f"Bearer {key}", **headers}))


def get(service: Service, key: str, path: str, **headers: str) -> Frames:
    return Frames(Reader(service.url, path, headers={"Authorization": f"Bearer {key}", **headers}))


def response_of(frames: list[str]) -> str:
    return str(data(frames[0])["response"]["id"])


RESPONSE = {"model": MODEL, "tools": [FUNCTION, SEARCH], "reasoning": {"summary": "auto"}}


def continued(frames: list[str]) -> dict[str, Any]:
    return {**RESPONSE, "input": [RESULT, APPROVAL], "previous_response_id": response_of(frames)}


def whole_event(frame: str) -> list[tuple[str, str]]:
    """Events of Responses are the same however they are read."""
    return [(frame, "")]


def texts_of_completion(frame: str) -> list[tuple[str, str]]:
    chunk = data(frame)
    for choice in chunk.get("choices", ()):
        delta = choice["delta"]
        for name in ("content", "reasoning_content"):
            if name in delta and "role" not in delta:
                return [(name, delta[name])]
        if "tool_calls" in delta and "function" in delta["tool_calls"][0]:
            (call,) = delta["tool_calls"]
            arguments = call["function"].pop("arguments")
            begun = [(json.dumps(call), "")] if "id" in call else []
            return [*begun, (f"arguments {call['index']}", arguments)]
    return [(json.dumps(chunk), "")]


def texts_of_event(frame: str) -> list[tuple[str, str]]:
    name, value = frame.partition("\n")[0], data(frame)
    for member in ("arguments", "text"):
        if member in value:
            text = value.pop(member)
            return [(name + json.dumps(value), text)]
    return [(name + json.dumps(value), "")]


def joined(dialect: Dialect, frames: Iterable[str]) -> list[tuple[str, str]]:
    """Return the additions of frames, with neighbouring texts of one part as one.

    A frame that adds nothing to the log has the position of the frame before it, and may come again.
    """
    found: list[tuple[str, str]] = []
    repeated: set[str] = set()
    for frame in frames:
        added = dialect.texts(frame)
        if dialect.repeats(frame):
            if added[0][0] in repeated:
                continue
            repeated.add(added[0][0])
        for part, text in added:
            if text and found and found[-1][0] == part:
                found[-1] = (part, found[-1][1] + text)
            else:
                found.append((part, text))
    return found


def session_of(stream: Stream) -> str:
    return stream.headers["x-session-id"]


def ui_text(text: str) -> dict[str, Any]:
    return {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}


def ui_chat(service: Service, key: str, message: dict[str, Any]) -> Frames:
    body = {"id": "cut", "trigger": "submit-message", "messages": [message], "model": MODEL}
    return post(service, key, "/api/chat", body | {"tools": [CHAT_FUNCTION, SEARCH]})


def completion(service: Service, key: str, message: dict[str, Any], session: str | None) -> Frames:
    headers = {"X-ChatAPI-Session-ID": session} if session else {}
    body = {"model": MODEL, "messages": [message], "tools": [CHAT_FUNCTION, SEARCH], "stream": True, "store": True}
    return post(service, key, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}}, **headers)


DIALECTS: dict[str, Dialect] = {
    "responses": Dialect(
        ask=lambda service, key: post(service, key, "/v1/responses", {**RESPONSE, "input": "Rain?", "stream": True}),
        go_on=lambda service, key, _, frames: post(service, key, "/v1/responses", continued(frames) | {"stream": True}),
        resume=lambda service, key, _, frames: get(
            service,
            key,
            f"/v1/responses/{response_of(frames)}?stream=true&starting_after={data(frames[-1])['sequence_number']}",
        ),
        texts=whole_event,
        approves=True,
    ),
    "websocket": Dialect(
        ask=lambda service, key: Messages(service, key, {"type": "response.create", **RESPONSE, "input": "Rain?"}),
        go_on=lambda service, key, _, frames: Messages(service, key, {"type": "response.create", **continued(frames)}),
        resume=lambda service, key, _, frames: Messages(
            service,
            key,
            {
                "type": "response.resume",
                "response_id": response_of(frames),
                "starting_after": data(frames[-1])["sequence_number"],
            },
        ),
        texts=whole_event,
        approves=True,
        step=3,  # the events are those of `responses`
    ),
    "completions": Dialect(
        ask=lambda service, key: completion(service, key, {"role": "user", "content": "Rain?"}, None),
        go_on=lambda service, key, before, _: completion(
            service, key, {"role": "tool", "tool_call_id": "call_1", "content": "Rain"}, session_of(before)
        ),
        resume=lambda service, key, _, frames: get(
            service,
            key,
            f"/v1/chat/completions/{data(frames[0])['id']}?stream=true",
            **{"Last-Event-ID": event_id(frames[-1])},
        ),
        texts=texts_of_completion,
        repeats=lambda frame: any(part in frame for part in ('"role":', '"choices":[]', '_reason":"')),
    ),
    "events": Dialect(  # which has no tools of its own, and shows those of another dialect's answer
        ask=lambda service, key: get(
            service, key, f"/api/chat/{session_of(DIALECTS['completions'].ask(service, key))}/stream", **EVENTS
        ),
        go_on=lambda service, key, before, frames: get(
            service,
            key,
            f"/api/chat/{session_of(DIALECTS['completions'].go_on(service, key, before, frames))}/stream",
            **EVENTS,
        ),
        resume=lambda service, key, stream, frames: get(
            service,
            key,
            f"/api/chat/{session_of(stream)}/stream?generation_id={data(frames[0])['generation_id']}",
            **EVENTS,
            **{"Last-Event-ID": event_id(frames[-1])},
        ),
        texts=texts_of_event,
        repeats=lambda frame: frame.startswith(("event: session", "event: usage")),
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_loop_of_tools_is_the_same_after_every_cut(
    service: Service, upstream: Simulator, key: str, name: str
) -> None:
    dialect = DIALECTS[name]
    stream: Stream | None = None
    shown: list[str] = []
    for frames, before_gate in ((first_step(), "Rom"), (last_step(), "an ")):
        gate = Gate()
        upstream.script = held(frames, gate)
        stream = dialect.go_on(service, key, stream, shown) if stream else dialect.ask(service, key)
        shown = stream.until(before_gate)
        resume = Cuts(service, key, dialect, stream)
        running = [(cut, resume(shown[:cut])) for cut in range(1, len(shown) + 1, dialect.step)]
        gate.open()
        shown = stream.rest()
        for cut, resumed in running:
            check(dialect, shown, cut, resumed.rest())
        cuts = [shown[:cut] for cut in range(1, len(shown), dialect.step) if "[DONE]" not in shown[cut - 1]]
        with ThreadPoolExecutor(CLIENTS) as clients:
            for before, resumed in zip(cuts, clients.map(resume, cuts), strict=True):
                check(dialect, shown, len(before), resumed.rest())
    sent = upstream.requests[-1].body["input"]
    kinds = [item.get("role", item.get("type")) for item in sent]
    assert kinds == [*LOOP, "function_call_output", *(["mcp_approval_response"] if dialect.approves else [])]


class Cuts:
    """Resumes one answer."""

    def __init__(self, service: Service, key: str, dialect: Dialect, stream: Stream) -> None:
        self._given = (service, key, stream)
        self._dialect = dialect

    def __call__(self, frames: list[str]) -> Stream:
        service, key, stream = self._given
        return self._dialect.resume(service, key, stream, frames)


def check(dialect: Dialect, whole: list[str], cut: int, rest: list[str]) -> None:
    """Check that the first frames of a stream and the rest are all of it."""
    assert joined(dialect, [*whole[:cut], *rest]) == joined(dialect, whole), f"cut after {whole[cut - 1]}"


@pytest.mark.needs_node
def test_a_page_shows_the_same_loop_of_tools_after_every_cut(service: Service, upstream: Simulator, key: str) -> None:
    """A page resumes from the start of a message, of which it may have a part."""
    message = ui_text("Rain?")
    for frames, before_gate in ((first_step(), "Rom"), (last_step(), "an ")):
        gate = Gate()
        upstream.script = held(frames, gate)
        stream = ui_chat(service, key, message)
        shown = stream.until(before_gate)
        replay = get(service, key, "/api/chat/cut/stream")
        gate.open()
        shown, again = stream.rest(), replay.rest()
        states = [shown_by_page([shown[:cut], again]) for cut in range(1, len(shown))]
        (whole,) = {json.dumps(state["messages"][1:]) for state in (shown_by_page([again]), *states)}
        (message,) = json.loads(whole)
        assert {state["status"] for state in states} == {"ready"}
        for part in message["parts"]:
            if part["type"] == "tool-weather":
                part |= {"state": "output-available", "output": "Rain"}
    assert [part["text"] for part in message["parts"] if part["type"] == "text"] == ["It rains.", "Take an umbrella."]
    sent = upstream.requests[-1].body["input"]
    assert [item.get("role", item.get("type")) for item in sent] == [*LOOP, "function_call_output"]


def shown_by_page(bodies: list[list[str]]) -> Any:
    """Return the state of a page that receives these frames; it resumes after each that has no end."""
    given = {
        "api": "http://page.example",
        "id": "cut",
        "bodies": ["".join(f"{one}\n\n" for one in body) for body in bodies],
    }
    with node_clients.NodeClient("chat.mjs", given) as page:
        state = page.do("send", message={"text": "Rain?"})
        return page.do("resume") if len(bodies) > 1 else state


# The upstream's stream

CUTS = (None, HalfClose())  # a clean end of the body, and an end of the connection in the middle of it


def said_in(frames: list[bytes]) -> str:
    """Return the text that frames of an upstream have."""
    found = []
    for frame in b"".join(frames).decode().split("\n\n")[:-1]:
        event = data(frame)
        if event.get("type") == "response.output_text.delta":
            found.append(event["delta"])
        found += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
    return "".join(found)


def chat_step() -> list[bytes]:
    """Return the frames of an answer of chat completions, without its finish reason."""
    chunks = wire.Chunks()
    return [
        chunks.role(),
        *(chunks.reasoning(text) for text in ("Let me ", "look.")),
        *(chunks.content(text) for text in ("It ", "rains.")),
        chunks.tool_call(0, id="call_1", name="weather"),
        *(chunks.tool_call(0, arguments=text) for text in CALL[2]),
    ]


@pytest.mark.parametrize(("model", "frames"), [(MODEL, first_step()[:-1]), ("chat", chat_step())])
def test_an_answer_that_its_upstream_cuts_has_failed_in_every_dialect(
    service: Service, upstream: Simulator, key: str, model: str, frames: list[bytes]
) -> None:
    def script(request: Any) -> Script:
        asked = request.body.get("input") or request.body["messages"]
        cut = int(asked[-1]["content"])
        end = CUTS[cut % len(CUTS)]
        return event_stream(*map(Send, frames[:cut]), *([end] if end else []))

    upstream.script = script

    def check_cut(cut: int) -> None:
        body = {"developer_message": "Be brief.", "user_message": str(cut), "model": model}
        headers = {"Authorization": f"Bearer {key}"}
        live = Reader(service.url, "/api/chat", body, headers=headers | EVENTS)
        live.read_all()
        session, generation = live.headers["x-session-id"], live.headers["x-generation-id"]
        message, text = service.messages(session, key=key)[-1], said_in(frames[:cut])
        assert (message["status"], message["content"]) == ("failed", text)
        if cut == 0:
            assert live.status == 502, "before the first event it is a status"
            return
        name, _, error = live.events()[-1]
        assert (name, error["status"], error["code"]) == ("error", "failed", "upstream_broken")
        assert live.joined("text") == text
        plain = Reader(service.url, f"/api/chat/{session}/stream?offset=0", headers=headers)
        assert (plain.read_all().decode(), plain.ended) == (text, False)
        dialects[cut % len(dialects)](cut, generation)

    def check_response(_: int, generation: str) -> None:
        response = generation.replace("gen_", "resp_")
        assert service.get(f"/v1/responses/{response}", key=key).json()["status"] == "failed"
        events = get(service, key, f"/v1/responses/{response}?stream=true").rest()
        assert [data(one)["type"] for one in events[-2:]] == ["response.failed", "[DONE]"]

    def check_completion(_: int, generation: str) -> None:
        completion = generation.replace("gen_", "chatcmpl-")
        chunks = get(service, key, f"/v1/chat/completions/{completion}?stream=true").rest()
        assert data(chunks[-1])["error"]["code"] == "upstream_broken"
        assert not any(choice["finish_reason"] for one in chunks[:-1] for choice in data(one)["choices"])

    def check_page(cut: int, _: str) -> None:
        sent = {"id": f"{model} {cut}", "trigger": "submit-message", "messages": [ui_text(str(cut))], "model": model}
        page = post(service, key, "/api/chat", sent).rest()
        assert data(page[-1])["type"] == "error"
        assert not any(data(one)["type"] in {"finish", "finish-step"} for one in page)

    dialects = (check_response, check_completion, check_page)  # in turn, and not in step with CUTS
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(check_cut, range(len(frames) + 1)))
