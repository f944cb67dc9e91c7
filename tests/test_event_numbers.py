"""The numbers of events under /v1/responses: each identifies the same event with the same text on every read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from chatapi.simulator import Chunks, Gate, Script, Send, Simulator, Wait, scripts
from chatapi.simulator.wire import DONE
from tests.openai_sdk import MODEL, WEATHER, client_of
from tests.reader import Reader
from tests.server_process import KEY, Serve, Service
from tests.test_response_events import events_in
from tests.test_responses import again, streamed

CHUNKS = Chunks()
WORDS = [f"wörd{number} " for number in range(40)]


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def slow(gate: Gate | None = None) -> Script:
    """An answer that comes in many pieces; half of it waits for the gate."""
    sends = [Send(CHUNKS.content(word)) for word in WORDS]
    paced = [step for send in sends for step in (send, scripts.Pause(0.006))]
    half = len(paced) // 2
    waits = [Wait(gate)] if gate is not None else []
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.reasoning("Hm. ")),
        Send(CHUNKS.reasoning("お茶?")),
        *paced[:half],
        *waits,
        *paced[half:],
        Send(CHUNKS.content("x" * 40_000)),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        scripts.Pause(0.02),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


def test_every_read_has_the_same_events(service: Service, upstream: Simulator) -> None:
    upstream.script = slow()
    live = streamed(service, {"input": "Hello", "tools": [WEATHER]})
    deltas = [event for event in live if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 10, "it was cut, and so this tests something"
    response_id = live[0]["response"]["id"]
    for _ in range(2):  # a balancer takes turns
        assert again(service, response_id) == live
    for place, event in enumerate(live):
        if place % 7 == 0 or event["type"] != "response.output_text.delta":
            assert again(service, response_id, event["sequence_number"]) == live[place + 1 :]


def test_readers_of_a_running_answer_have_the_same_events(service: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = slow(gate)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(streamed, service, {"input": "Hello", "tools": [WEATHER]})
        assert gate.reached.wait(10)
        with client_of(service) as client:
            session = service.get("/api/sessions?sort=updated", key=KEY).json()["data"][0]
            conversation = "conv_" + session["session_id"].removeprefix("ses_")
            assert client.conversations.retrieve(conversation)
        (answer,) = [one for one in service.messages(session["session_id"], key=KEY) if one["role"] == "assistant"]
        response_id = "resp_" + answer["generation_id"].removeprefix("gen_")
        others = [pool.submit(again, service, response_id) for _ in range(3)]
        gate.open()
        live = first.result()
        assert [other.result() for other in others] == [live] * 3
    assert again(service, response_id) == live


def test_the_resume_helper_of_openais_client_repeats_no_text(service: Service, upstream: Simulator) -> None:
    upstream.script = slow()
    with client_of(service) as client:
        seen: list[Any] = []
        with client.responses.stream(model=MODEL, input="Hello") as stream:
            for event in stream:
                seen.append(event)
                if event.type == "response.output_text.delta" and len(seen) > 20:
                    break
        created = seen[0]
        assert created.type == "response.created"
        with client.responses.stream(response_id=created.response.id, starting_after=seen[-1].sequence_number) as rest:
            later = list(rest)
            whole = rest.get_final_response().output_text
    said = [event.delta for event in [*seen, *later] if event.type == "response.output_text.delta"]
    assert "".join(said) == whole == "".join(WORDS) + "x" * 40_000
    numbers = [event.sequence_number for event in [*seen, *later]]
    assert numbers == sorted(set(numbers))


@pytest.mark.one_process("a process is killed")
def test_an_answer_that_was_cut_off_by_a_kill_has_its_numbers(serve: Serve, simulator: Simulator, gate: Gate) -> None:
    service = serve()
    simulator.script = slow(gate)
    body = {"model": MODEL, "input": "Hello", "stream": True}
    reader = Reader(service.url, "/v1/responses", body, headers={"Authorization": f"Bearer {KEY}"})
    assert gate.reached.wait(10)
    while f"{WORDS[19]}".encode() not in reader.body and "wörd19".encode() not in reader.body:
        assert reader.read_some()
    service.kill()
    seen = bytes(reader.body[: reader.body.rindex(b"\n\n") + 2]).replace(b": keep-alive\n\n", b"")
    live = events_in(seen + b"data: [DONE]\n\n")
    service.start()
    events = again(service, live[0]["response"]["id"])
    assert events[: len(live)] == live
    assert events[-1]["type"] == "response.failed"
    with client_of(service) as client, pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")
