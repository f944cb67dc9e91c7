"""The events of a response are a function of its log: they do not depend on how it is read or cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chatapi.api.openai.responses.objects import whole_response
from chatapi.api.openai.responses.stream import EVENTS_PER_POSITION, ResponsesEncoder
from chatapi.model import Generation, Kind, Microseconds, Part, Piece, Status, ToolCall, Usage
from chatapi.model.log import Log, parts_of, up_to
from tests import schemas

RUNNING = Generation(
    "gen_01jd0000000000000000000000000000",
    "ses_1",
    "msg_01jd0000000000000000000000000000",
    Status.RUNNING,
    "gpt-4.1-mini",
    "responses",
    Microseconds(1_700_000_000_000_000),
)
CITATION = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.example", "title": "ä", "start_index": 0, "end_index": 1},
}
OF_ANOTHER_KIND = {"type": "something_new"}
unhurried = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
annotation_lines = st.lists(st.sampled_from([CITATION, OF_ANOTHER_KIND]), min_size=1, max_size=3).map(
    lambda values: "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
)
parts = st.lists(
    st.one_of(
        st.builds(Part, st.sampled_from([Kind.TEXT, Kind.REASONING, Kind.REFUSAL]), texts),
        st.builds(Part, st.just(Kind.ANNOTATION), annotation_lines),
        st.builds(Part, st.just(Kind.TOOL_CALL), texts, st.builds(ToolCall, st.uuids().map(str), st.just("weather"))),
    ),
    max_size=6,
)
endings = st.sampled_from(
    [
        replace(RUNNING, status=Status.COMPLETED, finish_reason="stop", usage=Usage(3, 4)),
        replace(RUNNING, status=Status.COMPLETED, finish_reason="length", usage=Usage(3, 4)),
        replace(RUNNING, status=Status.COMPLETED, finish_reason="content_filter"),
        replace(RUNNING, status=Status.STOPPED),
        replace(RUNNING, status=Status.FAILED, error_code="upstream_broken"),
        replace(RUNNING, status=Status.INTERRUPTED, error_code="interrupted"),
    ]
).map(lambda generation: replace(generation, ended_at=Microseconds(1_700_000_009_000_000)))


def log_of(parts: list[Part]) -> Log:
    log = Log()
    for part in parts:
        log.write(part.kind, part.text, part.call)
    log.committed = log.position
    return log


def chunked(log: Log, position: int, sizes: list[int]) -> list[list[Piece]]:
    """Return the rest of a log in chunks of about these sizes, and one of everything left."""
    readings = []
    for size in sizes:
        pieces = log.read(position, size)
        position = pieces[-1].position if pieces else position
        readings.append(pieces)
    return [*readings, log.read(position)]


def frames(encoder: ResponsesEncoder, readings: list[list[Piece]], ending: Generation) -> bytes:
    chunks = [encoder.begin(), *(chunk for pieces in readings for chunk in encoder.pieces(pieces)), encoder.end(ending)]
    for chunk in chunks:
        assert not chunk or chunk.endswith(b"\n\n"), "each event is written whole"
    return b"".join(chunks)


def events_in(body: bytes) -> list[dict[str, Any]]:
    *blocks, done, nothing = body.decode().split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    events = []
    for block in blocks:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def spread(events: list[dict[str, Any]]) -> list[tuple[int, str, Any]]:
    """Return the events with each delta split into its characters."""
    found: list[tuple[int, str, Any]] = []
    for event in events:
        number, kind = event["sequence_number"], event["type"]
        if not kind.endswith(".delta"):
            found.append((number, kind, event))
            continue
        place = (event["item_id"], event["output_index"], event.get("content_index"))
        at = number // EVENTS_PER_POSITION - len(event["delta"].encode())
        for character in event["delta"]:
            at += len(character.encode())
            found.append((at * EVENTS_PER_POSITION, kind, (*place, character)))
    return found


@unhurried
@given(parts, endings, st.lists(st.integers(1, 9), max_size=8), st.lists(st.integers(1, 9), max_size=8))
def test_the_events_do_not_depend_on_how_the_log_is_read(
    parts: list[Part], ending: Generation, some: list[int], others: list[int]
) -> None:
    log = log_of(parts)
    one, other = (
        spread(events_in(frames(ResponsesEncoder(RUNNING, {}), chunked(log, 0, sizes), ending)))
        for sizes in (some, others)
    )
    assert one == other
    numbers = [number for number, _, _ in one]
    assert numbers == sorted(set(numbers)), "they rise"
    assert all(number % 2 == 0 for number in numbers), "odd numbers are for errors"


@unhurried
@given(parts, endings, st.lists(st.integers(1, 9), max_size=8), st.lists(st.integers(1, 9), max_size=8))
def test_a_reader_cut_off_anywhere_gets_exactly_the_rest(
    parts: list[Part], ending: Generation, some: list[int], others: list[int]
) -> None:
    log = log_of(parts)
    events = events_in(frames(ResponsesEncoder(RUNNING, {}), chunked(log, 0, some), ending))
    whole = spread(events)
    for cut, event in enumerate(events):
        for after in (event["sequence_number"], event["sequence_number"] + 1):  # an `error` may follow it
            position = after // EVENTS_PER_POSITION
            encoder = ResponsesEncoder(RUNNING, {}, after, up_to(log.read(0), position))
            rest = events_in(frames(encoder, chunked(log, position, others), ending))
            assert spread(events[: cut + 1]) + spread(rest) == whole


@unhurried
@given(parts, endings)
def test_the_last_event_has_the_response_that_is_retrieved(parts: list[Part], ending: Generation) -> None:
    log = log_of(parts)
    last = events_in(frames(ResponsesEncoder(RUNNING, {}), [log.read(0)], ending))[-1]
    retrieved = whole_response(ending, {}, parts_of(log.read(0)))
    assert last["response"] == json.loads(json.dumps(retrieved))
    completed = ending.status is Status.COMPLETED and ending.finish_reason == "stop"
    assert (last["type"] == "response.completed") == completed


@unhurried
@given(parts, endings)
def test_every_event_is_as_openai_publishes_it(parts: list[Part], ending: Generation) -> None:
    for event in events_in(frames(ResponsesEncoder(RUNNING, {}), [log_of(parts).read(0)], ending)):
        schemas.check_event(event)


@unhurried
@given(parts, endings)
def test_a_client_that_joins_the_deltas_has_the_final_texts(parts: list[Part], ending: Generation) -> None:
    said: dict[tuple[str, int | None], str] = {}
    for event in events_in(frames(ResponsesEncoder(RUNNING, {}), [log_of(parts).read(0)], ending)):
        place = (event.get("item_id", ""), event.get("content_index"))
        if event["type"].endswith(".delta"):
            said[place] = said.get(place, "") + event["delta"]
        elif event["type"].endswith(("text.done", "refusal.done", "arguments.done")):
            whole = event.get("text", event.get("refusal", event.get("arguments")))
            assert said.get(place, "") == whole
