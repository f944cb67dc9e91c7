"""Server-Sent Events: the same events for any division into pieces and any line endings."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chatapi.api.chat.stream import EventEncoder
from chatapi.errors import UpstreamBroken
from chatapi.model import Generation, Kind, Microseconds, Piece, Status, Usage
from chatapi.wire import sse

# A slow machine does not fail the test, and all runs are the same.
unhurried = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
fields = st.one_of(
    st.sampled_from(["data: ", "data:", "data", "data: [DONE]", "event: ping", "id: 7", "retry: 10", ": hi", ":", "x"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8).map("data: {}".format),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8).map(":{}".format),
)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])
streams = st.lists(st.tuples(st.one_of(fields, st.just("")), line_ends), max_size=24)


def decoded_by_the_book(stream: bytes) -> list[bytes]:
    """Decode a stream by the steps of the specification, line by line."""
    text = stream.removeprefix(b"\xef\xbb\xbf")
    found: list[bytes] = []
    data: list[bytes] = []
    for line in re.split(rb"\r\n|\n|\r", text)[:-1]:
        name, _, value = line.partition(b":")
        if not line:
            found += [b"\n".join(data)] if data else []
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return found


def decoded(pieces: list[bytes]) -> list[bytes]:
    """Decode a stream with our decoder. The line feed at the end makes a last CR the end of its line."""
    decoder = sse.Decoder()
    return [payload for piece in pieces for payload in decoder.feed(piece)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return the stream in pieces, some of them empty."""
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[begin:end] for begin, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


@unhurried
@given(streams, st.booleans(), st.lists(st.integers(min_value=0), max_size=6))
@example([("data: a", "\r\n"), ("", "\r\n")], False, [8])
@example([("data: a", "\n"), ("", "\n"), ("", "\n"), ("data: b", "\r"), ("", "\r\n")], True, [1, 2])
def test_any_division_and_any_line_endings(lines: list[tuple[str, str]], mark: bool, places: list[int]) -> None:
    stream = ("\ufeff" * mark + "".join(line + end for line, end in lines)).encode() + b": the end\n"
    assert decoded(cut(stream, places)) == decoded_by_the_book(stream)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_single_cut(end: str) -> None:
    events = [f"data: {text}" for text in ("ä", "漢字", '{"a":"👩‍👩‍👧"}')]
    stream = (f"{end}{end}".join([*events, ": comment", "data: one", "data: two"]) + f"{end}{end}:{end}").encode()
    whole = decoded_by_the_book(stream)
    for place in range(len(stream) + 1):
        assert decoded([stream[:place], stream[place:]]) == whole
    assert decoded([stream[place : place + 1] for place in range(len(stream))]) == whole


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", [b"1", b"2"]),
        (b"event: a\ndata: 1\ndata: 2\n\nevent: b\n\n", [b"1\n2"]),
        (b"event: a\ndata: 1\ndata: 2\n\n", [b"1\n2"]),
        (b"event: a\ndata: 1\nid: 7\n\nevent: b\ndata:2\n\n", [b"1", b"2"]),
        (b"event: a\n\ndata: 1\n\n", [b"1"]),
        (b"event: a\ndata: \n\nevent: b\ndata: 2\n\n", [b"", b"2"]),
    ],
)
def test_events_with_names_have_their_own_data(body: bytes, expected: list[bytes]) -> None:
    assert sse.Decoder().feed(body) == expected


def test_an_event_is_returned_as_soon_as_it_is_complete() -> None:
    decoder = sse.Decoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [b"a"]
    assert decoder.feed(b"data: b\r\n\r\n") == [b"b"]


@pytest.mark.parametrize(
    "event",
    [
        b"data: x\ry\n\n",
        b"data: a\ndata: b\n\n",
        b"event: a\ndata: b\n\n",
        b": c\ndata: b\n\n",
        b"data: a\n\ndata: b\n\n",
    ],
)
def test_a_read_that_looks_like_one_whole_event_is_read_by_the_book(event: bytes) -> None:
    first = b"data: 1\n\n"
    whole = decoded_by_the_book(first + event)
    for place in range(len(event) + 1):
        assert decoded([first, event[:place], event[place:]]) == whole


def test_an_endless_event_is_refused_before_it_fills_the_memory() -> None:
    decoder = sse.Decoder()
    piece = b"x" * 65_536
    for _ in range(sse.MAX_EVENT_BYTES // len(piece)):
        assert decoder.feed(piece) == []
    with pytest.raises(UpstreamBroken):
        decoder.feed(piece)


def test_the_cost_of_tiny_reads_is_linear() -> None:
    def seconds(size: int) -> float:
        decoder = sse.Decoder()
        begun = time.process_time()
        for _ in range(size):
            decoder.feed(b"x")
        return time.process_time() - begun

    seconds(1000)
    small, large = min(seconds(10_000) for _ in range(3)), min(seconds(100_000) for _ in range(3))
    assert large < 40 * small  # ten times as much; quadratic cost would be a hundred times


GENERATION = Generation("gen_1", "ses_1", "msg_1", Status.RUNNING, "gpt", "events", Microseconds(0))


@unhurried
@given(st.lists(st.tuples(st.sampled_from(Kind), st.text(min_size=1)), max_size=6), st.integers(0, 1000))
def test_any_decoder_reads_the_output_of_the_encoder(said: list[tuple[Kind, str]], position: int) -> None:
    pieces, end = [], position
    for part, (kind, text) in enumerate(said):
        end += len(text.encode())
        pieces.append(Piece(end, part, kind, text.encode()))
    encoder = EventEncoder(GENERATION, position)
    ended = Generation(
        *("gen_1", "ses_1", "msg_1", Status.COMPLETED, "gpt", "events", Microseconds(0)), usage=Usage(1, 2)
    )
    events = [encoder.begin(), *encoder.pieces(pieces), encoder.heartbeat(), encoder.end(ended)]
    told = [json.loads(data) for data in decoded(events)]
    assert [event["text"] for event in told if "text" in event] == [text for _, text in said]
    ids = [int(found) for found in re.findall(rb"^id: (\d+)$", b"".join(events), re.MULTILINE)]
    assert ids == [position, *(piece.position for piece in pieces), end, end], "an id is the position after its event"
    names = re.findall(rb"^event: (\w+)$", b"".join(events), re.MULTILINE)
    assert names == [b"session", *(kind.value.encode() for kind, _ in said), b"usage", b"done"]
