"""The simulator as its users see it: the official SDK, a plain HTTP client, and a socket that counts every byte."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import requests
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from chatapi.simulator import (
    Chunks,
    Cut,
    Gate,
    Pause,
    ReceivedRequest,
    Script,
    Send,
    Simulator,
    answer,
    refuse,
    running,
    scripts,
)
from chatapi.simulator.wire import go_duration
from tests.openai_clients import openai_client

KEY = "sk-proj-" + "a1_B-" * 31 + "z"
MODEL = "gpt-4.1-mini"
SNAPSHOT = "gpt-4.1-mini-2025-04-14"
SECONDS = 5.0  # for anything a test waits for; it takes milliseconds

RATE_HEADERS = [
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
]


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with running(Simulator()) as simulator:
        yield simulator


@contextmanager
def sdk(simulator: Simulator, key: str = KEY) -> Iterator[openai.OpenAI]:
    with openai_client(simulator.url, key, max_retries=0, timeout=SECONDS) as client:
        yield client


def user(text: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": text}


def assistant(text: str) -> ChatCompletionMessageParam:
    return {"role": "assistant", "content": text}


def post(
    simulator: Simulator,
    body: object = None,
    *,
    key: str | None = KEY,
    raw: bytes | None = None,
    path: str = "/chat/completions",
) -> requests.Response:
    return requests.post(
        f"{simulator.url}{path}",
        data=json.dumps(request_body() if body is None else body).encode() if raw is None else raw,
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
        timeout=SECONDS,
        allow_redirects=False,
    )


def request_body(text: str = "Hello", **more: object) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def events(body: bytes) -> list[Any]:
    """Return the JSON of each event except [DONE], of a body that is framed as OpenAI frames it."""
    frames = body.decode().split("\n\n")
    assert frames[-1] == ""
    data = [frame.removeprefix("data: ") for frame in frames[:-1]]
    return [json.loads(item) for item in data if item != "[DONE]"]


def said(body: bytes) -> str:
    """Return the text of the answer in such a body."""
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(body) if chunk["choices"])


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


class Wire:
    """A client over a bare socket."""

    def __init__(self, simulator: Simulator, body: dict[str, Any] | None = None) -> None:
        address = urlsplit(simulator.url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
        payload = json.dumps(request_body(stream=True) if body is None else body).encode()
        self._socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer any\r\n"
            b"Connection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(payload), payload)
        )
        self.received = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read_until(self, marker: bytes) -> bytes:
        """Read until the marker arrives; return everything received."""
        while marker not in self.received:
            piece = self._socket.recv(65536)
            assert piece, self.received
            self.received += piece
        return self.received

    def read_to_the_end(self) -> str:
        """Return how the connection ended: `complete`, `closed` without a final chunk, or `reset`."""
        try:
            while piece := self._socket.recv(65536):
                self.received += piece
        except ConnectionResetError:
            return "reset"
        return "complete" if self.received.endswith(b"\r\n0\r\n\r\n") else "closed"

    def writes(self) -> list[bytes]:
        """Return the chunks of the chunked body: the simulator makes one of each write."""
        rest = self.received.split(b"\r\n\r\n", 1)[1]
        chunks = []
        while rest:
            size, rest = rest.split(b"\r\n", 1)
            chunks.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return [chunk for chunk in chunks if chunk]

    def body(self) -> bytes:
        return b"".join(self.writes())


def play(simulator: Simulator, script: Script) -> tuple[bytes, str]:
    """Return the body of a script that ends by itself, and how it ended."""
    simulator.script = script
    with Wire(simulator) as wire:
        ending = wire.read_to_the_end()
        return wire.body(), ending


# --- the protocol ---------------------------------------------------------------------------------------------------


def test_a_stream_has_openais_chunks_in_openais_order(demo: Simulator) -> None:
    response = post(demo, request_body(stream=True, stream_options={"include_usage": True}))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.content.endswith(b"data: [DONE]\n\n")
    first, *deltas, finish, usage = events(response.content)
    assert list(first) == [
        *("id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation")
    ]
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert all(list(chunk["choices"][0]["delta"]) == ["content"] for chunk in deltas)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in deltas)
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(deltas)
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + len(deltas)
    assert usage["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert all(chunk["usage"] is None for chunk in (first, *deltas, finish))


def test_all_chunks_of_a_stream_have_the_same_id_and_two_streams_do_not(demo: Simulator) -> None:
    names = []
    for _ in range(2):
        chunks = events(post(demo, request_body(stream=True)).content)
        names.append({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks})
    (one,), (two,) = names
    assert re.fullmatch(r"chatcmpl-[0-9a-zA-Z]{20,}", one[0])
    assert one[2:] == (SNAPSHOT, "chat.completion.chunk")
    assert one[0] != two[0]


def test_usage_and_obfuscation_are_sent_if_requested(demo: Simulator) -> None:
    plain = events(post(demo, request_body(stream=True)).content)
    assert not any("usage" in chunk for chunk in plain)
    assert all("obfuscation" in chunk for chunk in plain)
    clear = events(post(demo, request_body(stream=True, stream_options={"include_obfuscation": False})).content)
    assert not any("obfuscation" in chunk or "usage" in chunk for chunk in clear)


def test_the_sdk_reads_the_same_answer_streamed_and_whole(demo: Simulator) -> None:
    with sdk(demo) as client:
        messages = [user("Say something 🎉")]
        streamed = list(
            client.chat.completions.create(
                model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
            )
        )
        whole = client.chat.completions.create(model=MODEL, messages=messages)
    assert text_of(streamed) == whole.choices[0].message.content
    assert "Say something 🎉" in text_of(streamed)
    assert streamed[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 3
    assert whole.object == "chat.completion"
    assert whole.model == SNAPSHOT
    assert whole.choices[0].finish_reason == "stop"
    assert whole._request_id is not None
    assert whole._request_id.startswith("req_")


def test_every_answer_has_openais_headers(demo: Simulator) -> None:
    first, second = (post(demo).headers for _ in range(2))
    assert first["x-request-id"] != second["x-request-id"]
    assert first["openai-version"]
    assert first["openai-processing-ms"].isdigit()
    assert all(first[name] for name in RATE_HEADERS)
    assert int(first["x-ratelimit-remaining-requests"]) < int(first["x-ratelimit-limit-requests"])
    assert re.fullmatch(r"\d+ms|[\d.]+s", first["x-ratelimit-reset-requests"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.017, "17ms"), (1, "1s"), (1.5, "1.5s"), (60, "1m0s"), (360, "6m0s"), (3630, "1h0m30s")],
)
def test_resets_are_written_as_go_writes_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_models_are_listed_and_found(demo: Simulator) -> None:
    with sdk(demo) as client:
        names = [model.id for model in client.models.list()]
        assert {MODEL, SNAPSHOT} <= set(names)
        assert client.models.retrieve(MODEL).id == MODEL
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-none")
    assert caught.value.code == "model_not_found"


# --- the demo's answers ---------------------------------------------------------------------------------------------


def reply(simulator: Simulator, *messages: ChatCompletionMessageParam, **more: Any) -> str:
    body = {"model": MODEL, "messages": messages, **more}
    return str(post(simulator, body).json()["choices"][0]["message"]["content"])


def test_the_demo_recalls_only_the_messages_of_its_request(demo: Simulator) -> None:
    past = [user("Hi, my name is Ada."), assistant("Hello."), user("My favourite colour is green"), assistant("Nice.")]
    assert "“Hi, my name is Ada.”" in reply(demo, *past, user("What is my name?"))
    assert "“My favourite colour is green”" in reply(demo, *past, user("what's my favourite colour?"))
    everything = reply(demo, *past, user("What did I say so far?"))
    assert "Ada" in everything
    assert "green" in everything
    assert "5 messages, 3 of them yours" in everything
    assert "not told me anything" in reply(demo, user("What is my name?"))
    assert "“Good day”" in reply(demo, {"role": "developer", "content": "Be brief."}, user("Good day"))


def test_content_may_be_a_list_of_parts(demo: Simulator) -> None:
    parts: ChatCompletionMessageParam = {"role": "user", "content": [{"type": "text", "text": "In parts"}]}
    assert "“In parts”" in reply(demo, parts)


def test_an_unpaired_surrogate_does_not_break_an_answer(demo: Simulator) -> None:
    assert post(demo, request_body("half \ud83d", stream=True)).content.endswith(b"data: [DONE]\n\n")


def test_the_demo_counts(demo: Simulator) -> None:
    assert reply(demo, user("Please count to 1,000.")) == " ".join(map(str, range(1, 1001)))
    assert "at most" in reply(demo, user("count to 10001"))


def test_an_answer_stops_at_the_limit_and_at_a_stop_sequence(demo: Simulator) -> None:
    with sdk(demo) as client:
        messages = [user("count to 100")]
        short = client.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=3)
        exact = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=100)
        stopped = client.chat.completions.create(model=MODEL, messages=messages, stop=["50", " 11 "])
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("1 2 3", "length")
    assert exact.choices[0].finish_reason == "stop"
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("1 2 3 4 5 6 7 8 9 10", "stop")


def test_reasoning_comes_first_and_counts(demo: Simulator) -> None:
    body = request_body("Hi", stream=True, reasoning_effort="low", stream_options={"include_usage": True})
    chunks = events(post(demo, body).content)
    kinds = [next(iter(chunk["choices"][0]["delta"]), "") for chunk in chunks[1:-2]]
    thoughts = kinds.count("reasoning_content")
    assert thoughts > 0
    assert kinds == ["reasoning_content"] * thoughts + ["content"] * (len(kinds) - thoughts)
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == thoughts
    cut = post(demo, request_body("Hi", reasoning_effort="low", max_completion_tokens=2)).json()
    assert cut["choices"][0]["message"]["content"] == ""
    assert cut["choices"][0]["finish_reason"] == "length"


def test_words_arrive_at_the_configured_pace() -> None:
    with running(Simulator(pace_seconds=0.005)) as simulator, sdk(simulator) as client:
        began = time.monotonic()
        chunks = list(client.chat.completions.create(model=MODEL, messages=[user("count to 40")], stream=True))
        took = time.monotonic() - began
    assert len(text_of(chunks).split()) == 40
    assert took >= 40 * 0.005


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_key_is_required_and_its_words_decide_the_answer(demo: Simulator) -> None:
    missing = post(demo, key=None)
    assert missing.status_code == 401
    assert missing.json()["error"]["type"] == "invalid_request_error"
    assert "You didn't provide an API key" in missing.json()["error"]["message"]
    bad_key = "sk-proj-invalid" + "q" * 149
    with sdk(demo, bad_key) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert f"Incorrect API key provided: sk-proj-{'*' * 152}qqqq. " in caught.value.message
    assert bad_key not in caught.value.response.text
    assert "invalidq" not in caught.value.response.text
    with sdk(demo, "sk-proj-forbidden" + "q" * 147) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model=MODEL, messages=[user("Hi")])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, None),
        ({"messages": [{"role": "user", "content": "Hi"}]}, 400, None),
        ({"model": MODEL}, 400, "missing_required_parameter"),
        ({"model": MODEL, "messages": []}, 400, "empty_array"),
        ({"model": MODEL, "messages": "Hi"}, 400, "invalid_type"),
        ({"model": MODEL, "messages": ["Hi"]}, 400, "invalid_type"),
        ({"model": MODEL, "messages": [{"content": "Hi"}]}, 400, "missing_required_parameter"),
        ({"model": MODEL, "messages": [{"role": "user"}]}, 400, "missing_required_parameter"),
        ({"model": MODEL, "messages": [{"role": "robot", "content": "Hi"}]}, 400, "invalid_value"),
        ({"model": MODEL, "messages": [{"role": "user", "content": 7}]}, 400, "invalid_type"),
        (request_body(stream="yes"), 400, "invalid_type"),
        (request_body(stream_options={}), 400, None),
        (request_body(max_tokens=0), 400, "integer_below_min_value"),
        (request_body(max_tokens=True), 400, "invalid_type"),
        (request_body(stop=[1]), 400, "invalid_type"),
        (request_body(stop=list("abcde")), 400, "array_above_max_length"),
        (request_body() | {"model": "gpt-none"}, 404, "model_not_found"),
    ],
)
def test_a_bad_request_is_refused_as_openai_refuses_it(
    demo: Simulator, body: object, status: int, code: str | None
) -> None:
    response = post(demo, body)
    assert response.status_code == status
    assert list(response.json()["error"]) == ["message", "type", "param", "code"]
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["code"] == code


def test_a_body_that_is_not_json_is_refused(demo: Simulator) -> None:
    response = post(demo, raw=b"{not json")
    assert response.status_code == 400
    assert "could not parse" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_are_refused(demo: Simulator) -> None:
    with sdk(demo) as client, pytest.raises(openai.NotFoundError):
        client.post("/nothing", cast_to=object)
    assert requests.get(f"{demo.url}/chat/completions", timeout=SECONDS).status_code == 405


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        (refuse(400), openai.BadRequestError, "invalid_value"),
        (refuse(401), openai.AuthenticationError, "invalid_api_key"),
        (refuse(403), openai.PermissionDeniedError, "missing_scope"),
        (refuse(404), openai.NotFoundError, "model_not_found"),
        (refuse(409, code="busy"), openai.ConflictError, "busy"),
        (refuse(429), openai.RateLimitError, "rate_limit_exceeded"),
        (refuse(429, code="insufficient_quota"), openai.RateLimitError, "insufficient_quota"),
        (refuse(500), openai.InternalServerError, None),
        (refuse(503), openai.InternalServerError, "server_is_overloaded"),
    ],
)
def test_a_scripted_refusal_is_the_sdks_exception(
    simulator: Simulator, script: Script, error: type[openai.APIStatusError], code: str | None
) -> None:
    simulator.script = script
    with sdk(simulator) as client, pytest.raises(error) as caught:
        client.chat.completions.create(model=MODEL, messages=[user("Hi")])
    assert caught.value.code == code
    assert caught.value.request_id


def test_a_rate_limit_has_a_retry_after_and_an_exhausted_quota_does_not(simulator: Simulator) -> None:
    simulator.script = refuse(429)
    limited = post(simulator)
    assert limited.headers["Retry-After"] == "1"
    assert limited.headers["x-ratelimit-remaining-requests"] == "0"
    simulator.script = refuse(429, retry_after=20, message="Slow down.")
    assert post(simulator).headers["Retry-After"] == "20"
    assert post(simulator).json()["error"]["message"] == "Slow down."
    for silent in (refuse(429, code="insufficient_quota"), refuse(429, retry_after="")):
        simulator.script = silent
        assert "Retry-After" not in post(simulator).headers


# --- scripts: faithful answers ----------------------------------------------------------------------------------------


def test_a_script_can_be_changed_while_the_simulator_runs(simulator: Simulator) -> None:
    simulator.script = answer("First, as told.", chunk=4, reasoning="Hm. So.")
    with sdk(simulator) as client:
        chunks = list(client.chat.completions.create(model=MODEL, messages=[user("Hi")], stream=True))
        assert text_of(chunks) == "First, as told."
        assert [c.choices[0].delta.content for c in chunks[3:7]] == ["Firs", "t, a", "s to", "ld."]
        assert chunks[-1].usage is not None
        simulator.script = answer("Second.", stream=False, finish_reason="content_filter", model="gpt-5")
        whole = client.chat.completions.create(model=MODEL, messages=[user("Hi")])
        assert whole.choices[0].message.content == "Second."
        assert (whole.choices[0].finish_reason, whole.model) == ("content_filter", "gpt-5")
        simulator.script = None
        assert len(client.models.list().data) > 0


def test_a_callable_chooses_per_request_and_none_means_the_demo(simulator: Simulator) -> None:
    def choose(request: ReceivedRequest) -> Script | None:
        return refuse(503) if request.body and "fail" in request.body["messages"][0]["content"] else None

    simulator.script = choose
    assert post(simulator, request_body("fail please")).status_code == 503
    assert post(simulator, request_body("hello")).status_code == 200
    simulator.script = scripts.in_turn(refuse(500), refuse(429), None)
    assert [post(simulator).status_code for _ in range(4)] == [500, 429, 200, 200]


def test_one_chunk_is_one_write(simulator: Simulator) -> None:
    simulator.script = answer("one two three")
    with Wire(simulator) as wire:
        assert wire.read_to_the_end() == "complete"
    assert len(wire.writes()) == 1 + 3 + 1 + 1 + 1
    assert all(write.startswith(b"data: ") and write.endswith(b"\n\n") for write in wire.writes())
    (request,) = simulator.requests
    assert (request.sent_chunks, request.sent_bytes) == (7, len(wire.body()))


def test_a_gate_holds_an_answer_until_it_is_opened(simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = scripts.held(gate, "Hello", " world")
    with Wire(simulator) as wire:
        assert gate.reached.wait(SECONDS)
        assert b'"Hello"' in wire.read_until(b'"Hello"')
        assert b'" world"' not in wire.received
        gate.open()
        gate.open()
        assert wire.read_to_the_end() == "complete"
        assert b'" world"' in wire.body()
    with Wire(simulator) as later:
        assert later.read_to_the_end() == "complete"


def test_a_client_that_disconnects_at_a_gate_does_not_open_it(simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = scripts.held(gate)
    with Wire(simulator) as stays:
        stays.read_until(b"Hello")
        with Wire(simulator) as leaves:
            leaves.read_until(b"Hello")
        assert simulator.requests[1].left.wait(SECONDS)
        gate.open()
        assert stays.read_to_the_end() == "complete"


def test_headers_are_sent_at_once_and_the_body_when_it_is_due(simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = scripts.event_stream(scripts.Wait(gate), Send(Chunks().content("late")))
    with Wire(simulator) as wire:
        assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
        gate.open()
        wire.read_until(b"late")


# --- scripts: faults ------------------------------------------------------------------------------------------------


def test_a_cut_is_a_reset_and_all_bytes_before_it_arrive(simulator: Simulator) -> None:
    body, ending = play(simulator, scripts.cut_after("half an"))
    assert ending == "reset"
    assert len(events(body)) == 3
    (request,) = simulator.requests
    assert request.ended.wait(SECONDS)
    assert not request.left.is_set()


def test_a_cut_before_the_headers_sends_nothing(simulator: Simulator) -> None:
    simulator.script = scripts.cut_before_headers()
    with Wire(simulator) as wire:
        assert wire.read_to_the_end() == "reset"
        assert wire.received == b""
    with sdk(simulator) as client, pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_a_status_line_can_be_garbage(simulator: Simulator) -> None:
    simulator.script = Script(before_headers=(Send(b"this is not HTTP\r\n\r\n"), Cut()))
    with Wire(simulator) as wire:
        assert wire.read_to_the_end() == "reset"
        assert wire.received == b"this is not HTTP\r\n\r\n"


def test_a_half_close_ends_the_body_without_its_final_chunk(simulator: Simulator) -> None:
    body, ending = play(simulator, scripts.half_closed_after("half an"))
    assert ending == "closed"
    assert len(events(body)) == 3
    assert not simulator.requests[0].left.is_set()


def test_a_body_can_be_shorter_than_its_length(simulator: Simulator) -> None:
    simulator.script = Script(headers={"Content-Length": "100"}, steps=(Send(b"{"), scripts.HalfClose()))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        post(simulator)


@pytest.mark.parametrize("script", [scripts.silent_after("some words"), answer("a b c", pace_seconds=60)])
def test_a_disconnect_during_silence_is_noticed(simulator: Simulator, script: Script) -> None:
    simulator.script = script
    with Wire(simulator) as wire:
        wire.read_until(b'"role"')
        (request,) = simulator.requests
        assert not request.left.is_set()
        leaving_at = time.monotonic()
    assert request.left.wait(SECONDS)
    assert request.ended.wait(SECONDS)
    assert request.left_at is not None
    assert request.left_at >= leaving_at


def test_a_disconnect_before_the_headers_is_noticed(simulator: Simulator) -> None:
    simulator.script = scripts.never_answers()
    with Wire(simulator) as wire:
        (request,) = simulator.wait_for_requests(1)
        assert wire.received == b""
    assert request.left.wait(SECONDS)
    assert (request.sent_chunks, request.sent_bytes) == (0, 0)


def test_a_disconnect_during_a_flood_is_noticed(simulator: Simulator) -> None:
    simulator.script = scripts.endless_line()
    with Wire(simulator) as wire:
        wire.read_until(b"aaaa")
    (request,) = simulator.requests
    assert request.left.wait(SECONDS)
    assert request.sent_bytes < 8 * scripts.MIB


def test_a_client_that_reads_to_the_end_has_not_disconnected(simulator: Simulator) -> None:
    play(simulator, answer("a b c"))
    (request,) = simulator.requests
    assert request.ended.wait(SECONDS)
    assert not request.left.is_set()
    assert request.left_at is None


def test_a_slow_start_waits_before_the_headers(simulator: Simulator) -> None:
    simulator.script = replace(answer("soon"), before_headers=(Pause(0.05),))
    began = time.monotonic()
    assert post(simulator).status_code == 200
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("status", [200, 502])
def test_html_instead_of_an_answer(simulator: Simulator, status: int) -> None:
    simulator.script = scripts.html_page(status)
    response = post(simulator)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<!DOCTYPE html>")


def test_a_redirect_points_at_the_simulator_itself(simulator: Simulator) -> None:
    simulator.script = scripts.in_turn(scripts.redirect(), None)
    response = post(simulator)
    assert (response.status_code, response.headers["location"]) == (302, "/v1/elsewhere")
    assert [request.path for request in simulator.requests] == ["/v1/chat/completions"]


def test_a_gzip_bomb_is_small_on_the_wire_and_huge_inflated(simulator: Simulator) -> None:
    body, ending = play(simulator, scripts.gzip_bomb())
    assert ending == "complete"
    assert len(body) < 100_000
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    assert inflater.decompress(body, 16).startswith(b"data: a")
    assert inflater.unconsumed_tail
    assert int.from_bytes(body[-4:], "little") >= 64 * scripts.MIB  # gzip's own note of the inflated size


def test_an_endless_line_is_megabytes_without_a_newline(simulator: Simulator) -> None:
    body, ending = play(simulator, scripts.endless_line(2 * scripts.MIB))
    assert ending == "complete"
    assert len(body) >= 2 * scripts.MIB
    assert b"\n" not in body


def test_heartbeats_contain_no_event(simulator: Simulator) -> None:
    body, _ = play(simulator, scripts.heartbeats_only(interval_seconds=0, count=50))
    assert body == b": heartbeat\n\n" * 50


def test_a_frame_that_is_not_json(simulator: Simulator) -> None:
    body, ending = play(simulator, scripts.invalid_json())
    assert ending == "complete"
    assert body.endswith(b"data: [DONE]\n\n")
    with pytest.raises(json.JSONDecodeError):
        events(body)


def test_an_error_in_the_middle_is_the_sdks_error(simulator: Simulator) -> None:
    simulator.script = scripts.error_frame("So far")
    seen: list[ChatCompletionChunk] = []
    with sdk(simulator) as client, pytest.raises(openai.APIError, match="server had an error"):
        seen.extend(client.chat.completions.create(model=MODEL, messages=[user("Hi")], stream=True))
    assert text_of(seen) == "So far"


@pytest.mark.parametrize(
    ("script", "finishes", "done"),
    [
        (answer(), True, True),
        (scripts.without_done(), True, False),
        (scripts.without_finish(), False, True),
        (scripts.without_either(), False, False),
    ],
)
def test_an_end_may_lack_either_marker(simulator: Simulator, script: Script, finishes: bool, done: bool) -> None:
    body, ending = play(simulator, script)
    assert ending == "complete"
    assert (b'"finish_reason":"stop"' in body, b"[DONE]" in body) == (finishes, done)
    assert said(body) == scripts.TEXT


@pytest.mark.parametrize(
    "script",
    [
        scripts.line_ends(end="\r\n"),
        scripts.line_ends(end="\r"),
        scripts.with_comments(),
        scripts.multi_line_data(),
        scripts.byte_by_byte(),
        scripts.in_one_write(),
        scripts.split_characters(scripts.TEXT),
    ],
    ids=["crlf", "cr", "comments", "multi_line", "byte_by_byte", "in_one_write", "split"],
)
def test_an_unusual_valid_answer_is_read_by_the_sdk(simulator: Simulator, script: Script) -> None:
    simulator.script = script
    with sdk(simulator) as client:
        chunks = list(client.chat.completions.create(model=MODEL, messages=[user("Hi")], stream=True))
    assert text_of(chunks) == scripts.TEXT


def test_the_unusual_answers_have_the_promised_form(simulator: Simulator) -> None:
    assert not re.search(rb"(?<!\r)\n", play(simulator, scripts.line_ends())[0])
    assert b"\n" not in play(simulator, scripts.line_ends(end="\r"))[0]
    assert play(simulator, scripts.byte_order_mark())[0].startswith(b"\xef\xbb\xbfdata: ")
    assert b": keep-alive\n\nretry: 1000\n\nid: 7\ndata: {" in play(simulator, scripts.with_ids())[0]
    assert b'\ndata: "choices":' in play(simulator, scripts.multi_line_data())[0]


def test_a_byte_per_write(simulator: Simulator) -> None:
    simulator.script = scripts.byte_by_byte("é 🎉")
    with Wire(simulator) as wire:
        assert wire.read_to_the_end() == "complete"
    assert {len(write) for write in wire.writes()} == {1}
    assert simulator.requests[0].sent_chunks == len(wire.body())


def test_characters_are_split_over_writes_and_whole_when_joined(simulator: Simulator) -> None:
    simulator.script = scripts.split_characters()
    with Wire(simulator) as wire:
        assert wire.read_to_the_end() == "complete"
    first, *others = wire.writes()
    assert len(others) > 10
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        first.decode()
    assert all(0x80 <= write[0] < 0xC0 for write in others)  # each begins with the rest of a character
    assert said(wire.body()) == scripts.EMOJI_TEXT


# --- the record -----------------------------------------------------------------------------------------------------


def test_a_request_is_recorded_as_received(simulator: Simulator) -> None:
    began = time.monotonic()
    post(simulator, request_body("Hello there"))
    requests.get(f"{simulator.url}/models?limit=3", timeout=SECONDS)
    first, second = simulator.wait_for_requests(2)
    assert (first.method, first.path, first.query) == ("POST", "/v1/chat/completions", "")
    assert first.headers["AUTHORIZATION"] == first.headers["authorization"] == f"Bearer {KEY}"
    assert first.body == request_body("Hello there") == json.loads(first.raw)
    assert began <= first.at <= second.at <= time.monotonic()
    assert (second.method, second.path, second.query, second.body) == ("GET", "/v1/models", "limit=3", None)
    assert KEY not in repr(first)
    assert "Hello there" not in repr(first)


def test_waiting_for_requests_ends_when_the_last_one_arrives(simulator: Simulator) -> None:
    senders = [threading.Thread(target=post, args=(simulator,)) for _ in range(3)]
    for sender in senders:
        sender.start()
    assert len(simulator.wait_for_requests(3, timeout_seconds=SECONDS)) == 3
    for sender in senders:
        sender.join()
    with pytest.raises(TimeoutError, match="3 of 4"):
        simulator.wait_for_requests(4, timeout_seconds=0.01)


def test_only_the_newest_requests_are_kept() -> None:
    with running(Simulator(kept_requests=1)) as simulator:
        post(simulator, request_body("old"))
        post(simulator, request_body("new"))
        assert [request.body["messages"][0]["content"] for request in simulator.wait_for_requests(2)] == ["new"]


# --- start and end --------------------------------------------------------------------------------------------------


def test_it_stops_at_once_with_answers_still_running() -> None:
    with running(Simulator(scripts.silent_after())) as simulator, Wire(simulator) as wire:
        wire.read_until(b"Hello")
        (request,) = simulator.requests
        address = urlsplit(simulator.url)
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 2
    with pytest.raises(RuntimeError):
        _ = simulator.url
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=SECONDS)
    assert request.ended.is_set()


def test_a_client_dropped_at_the_simulators_end_has_not_disconnected() -> None:
    simulator = Simulator(scripts.silent_after())
    with running(simulator):
        wire = Wire(simulator)
        wire.read_until(b"Hello")
    with wire:
        assert simulator.requests[0].ended.wait(SECONDS)
        assert not simulator.requests[0].left.is_set()


def test_a_port_in_use_is_an_error() -> None:
    with running(Simulator()) as first:
        port = urlsplit(first.url).port
        assert port is not None
        with pytest.raises(OSError), running(Simulator(), port=port):  # noqa: PT011 (its number differs by system)
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "chatapi.simulator", "--port", "0", "--pace-ms", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"Simulator listening on (http://127\.0\.0\.1:\d+/v1) \(not a real model\)\n", line)
        assert found, process.stderr.read()
        body = request_body("count to 3")
        response = requests.post(
            f"{found[1]}/chat/completions", json=body, headers={"Authorization": "Bearer k"}, timeout=SECONDS
        )
        assert response.json()["choices"][0]["message"]["content"] == "1 2 3"
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == ""


def test_the_command_explains_itself_and_its_errors() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "chatapi.simulator", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)

    assert "count to 500" in run("--help").stdout
    assert run("--port", "70000").returncode == 2
    with running(Simulator()) as simulator:
        taken = run("--port", str(urlsplit(simulator.url).port))
    assert taken.returncode == 1
    assert taken.stderr.startswith("Cannot listen on 127.0.0.1:")


# --- tools and structured answers -----------------------------------------------------------------------------------


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome"]}, "days": {"type": "array", "items": {"type": "integer"}}},
        },
    },
}


def test_a_tool_that_is_named_is_called_and_a_forbidden_one_is_not(demo: Simulator) -> None:
    whole = post(demo, request_body("Use weather", tools=[WEATHER])).json()["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "weather",
        {"city": "Rome", "days": [7]},
    )
    assert (whole["finish_reason"], whole["message"]["content"]) == ("tool_calls", None)
    chunks = events(post(demo, request_body("Use weather", tools=[WEATHER], stream=True)).content)
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert deltas[0]["function"] == {"name": "weather", "arguments": ""}
    assert "".join(delta["function"]["arguments"] for delta in deltas) == call["function"]["arguments"]
    without: list[dict[str, Any]] = [{"tool_choice": "none"}, {"tools": []}]
    for more in without:
        answer = post(demo, request_body("Use weather", **{"tools": [WEATHER], **more})).json()["choices"][0]
        assert answer["finish_reason"] == "stop"
    chosen = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", chosen):
        answer = post(demo, request_body("Hello", tools=[WEATHER], tool_choice=choice)).json()["choices"][0]
        assert answer["finish_reason"] == "tool_calls"


def test_a_conversation_is_handed_off_if_that_is_asked(demo: Simulator) -> None:
    names = ("weather", "transfer_to_ada", "transfer_to_the_poet")
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]
    for text, called in (
        ("Hand off to the poet, please", ["transfer_to_the_poet"]),
        ("transfer me", ["transfer_to_ada"]),
        ("Call transfer_to_ada or hand over", ["transfer_to_ada"]),
        ("A handle of the transferred", []),
    ):
        message = post(demo, request_body(text, tools=tools)).json()["choices"][0]["message"]
        assert [call["function"]["name"] for call in message.get("tool_calls") or ()] == called
    assert post(demo, request_body("transfer me", tools=tools[:1])).json()["choices"][0]["finish_reason"] == "stop"


def test_the_web_is_searched_over_responses_if_the_tool_is_there(demo: Simulator) -> None:
    tools = [{"type": "web_search"}]
    for more, kinds in (
        ({"tools": tools}, ["web_search_call", "message"]),
        ({"tools": tools, "stream": True}, ["web_search_call", "message"]),
        ({"tools": tools, "tool_choice": "none"}, ["message"]),
        ({"tools": tools, "input": "Hello"}, ["message"]),
        ({}, ["message"]),
    ):
        answer = post(demo, {"model": MODEL, "input": "Search for rain", **more}, path="/responses")
        whole = json.loads(answer.text.rpartition("data: ")[2])["response"] if "stream" in more else answer.json()
        assert [item["type"] for item in whole["output"]] == kinds
        part = whole["output"][-1]["content"][0]
        if len(kinds) == 1:
            assert part["annotations"] == []
            continue
        assert whole["output"][0]["action"]["query"] == "Search for rain"
        (cited,) = part["annotations"]
        assert part["text"][cited["start_index"] : cited["end_index"]] == cited["url"]


def test_a_history_with_an_open_call_is_refused_as_openai_does(demo: Simulator) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    called = {"role": "assistant", "tool_calls": [call, call | {"id": "b"}]}
    a, b = ({"role": "tool", "tool_call_id": name, "content": "sunny"} for name in "ab")
    for history, status in (
        ([user("x"), called, b, a], 200),
        ([user("x"), called, a], 400),
        ([user("x"), called, user("y")], 400),
        ([user("x"), called, a, user("y"), b], 400),
        ([user("x"), a], 400),
    ):
        assert post(demo, {"model": MODEL, "messages": history}).status_code == status, history


def test_json_is_sent_if_requested(demo: Simulator) -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["boolean", "null"]}, "b": {"anyOf": [{"type": "null"}]}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    message = post(demo, request_body(response_format=wanted)).json()["choices"][0]["message"]
    assert json.loads(message["content"]) == {"a": True, "b": None}
    message = post(demo, request_body(response_format={"type": "json_object"})).json()["choices"][0]["message"]
    assert isinstance(json.loads(message["content"]), dict)
