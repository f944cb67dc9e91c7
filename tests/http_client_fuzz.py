"""Fuzz the HTTP client: valid responses in any pieces, cut off anywhere, and with bytes changed.

Every exchange ends, and no other error than a `TransportError` is raised. A response is complete only if it is: the
same body as in one piece, and where bytes were changed, the same as for h11, another parser.
`python -m tests.http_client_fuzz` runs it for minutes, `tests/test_http_client_fuzz.py` for a moment.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any, cast

import h11
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from chatapi.http_client.connection import HEAD_BYTES, Connection
from chatapi.http_client.errors import TransportError

MINUTES = 5.0
EXAMPLES_AT_ONCE = 2000


@dataclass
class Sample:
    """A valid response, and how it is read."""

    raw: bytes
    body: bytes
    reusable: bool
    until_close: bool = False
    head_bytes: int = 0


@dataclass
class Outcome:
    """How an exchange ended: with a response, perhaps a complete one, or with an error."""

    status: int | None = None
    body: bytes = b""
    ends: list[TransportError | None] = field(default_factory=list)
    error: TransportError | None = None
    freed: bool = False

    @property
    def is_complete(self) -> bool:
        return self.ends == [None]

    def receive(self, data: bytes) -> None:
        assert data, "an empty piece"
        assert not self.ends, "a piece after the end"
        self.body += data

    def end(self, error: TransportError | None) -> None:
        self.ends.append(error)


class Wire:
    """A transport without a socket."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        raise AssertionError("the receiver is fast enough")


words = st.text("abcdefgh-", min_size=1, max_size=9).map(str.encode)
headers = st.lists(st.tuples(words.map(lambda word: b"X-" + word), words), max_size=4)
bodies = st.lists(
    st.binary(min_size=1, max_size=40) | st.just(b"0\r\n\r\n") | st.just(b"HTTP/1.1 200 OK\r\n\r\n"), max_size=4
)
informational = st.lists(st.sampled_from([100, 102, 103, 199]), max_size=3)


def lines(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in pairs)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    before = b"".join(b"HTTP/1.1 %d Early\r\n%b\r\n" % (status, lines(draw(headers))) for status in draw(informational))
    status = draw(st.sampled_from([200, 200, 201, 204, 304, 400, 404, 429, 500, 599, 999]))
    parts = draw(bodies)
    framing = draw(st.sampled_from(["length", "chunked", "until close"]))
    last = draw(st.booleans())
    head = b"HTTP/1.1 %d Any\r\n%b" % (status, lines(draw(headers)))
    head += b"Connection: close\r\n" if last else b""
    if status in {204, 304}:
        return Sample(before + head + b"\r\n", b"", not last)
    body = b"".join(parts)
    match framing:
        case "length":
            content = body
            head += b"content-length: %d\r\n\r\n" % len(body)
        case "chunked":
            extension = draw(st.sampled_from([b"", b";a=b", b';a="b"', b";a"]))
            content = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
            content += b"0%b\r\n%b\r\n" % (extension, lines(draw(headers)))
            head += b"Transfer-Encoding: chunked\r\n\r\n"
        case _:
            return Sample(before + head + b"\r\n" + body, body, False, True, len(before + head) + 2)
    return Sample(before + head + content, body, not last)


changes = st.lists(
    st.tuples(
        st.integers(0), st.sampled_from(["flip", "set", "cut", "add", "double"]), st.binary(min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=4,
)


def changed(raw: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """Return the bytes with some of them changed."""
    for place, kind, data in edits:
        at = place % (len(raw) + 1)
        match kind:
            case "flip":
                raw = raw[:at] + bytes(byte ^ data[0] for byte in raw[at : at + 1]) + raw[at + 1 :]
            case "set":
                raw = raw[:at] + data + raw[at + len(data) :]
            case "cut":
                raw = raw[:at] + raw[at + len(data) :]
            case "add":
                raw = raw[:at] + data + raw[at:]
            case _:
                raw = raw[:at] + raw[max(0, at - 9) :]
    return raw


async def receive(raw: bytes, cuts: list[int]) -> Outcome:
    """Receive bytes in pieces, and then the end of the connection."""
    outcome, freed = Outcome(), list[Connection]()
    connection, wire = Connection(freed.append), Wire()
    connection.connection_made(cast(asyncio.Transport, wire))
    task = asyncio.ensure_future(connection.exchange(b"GET / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    ends = sorted(cut % (len(raw) + 1) for cut in cuts)
    attached = False
    for begin, end in zip([0, *ends], [*ends, len(raw)], strict=True):
        if begin < end and not wire.closed:
            connection.data_received(raw[begin:end])
        await asyncio.sleep(0)
        if not attached and task.done() and task.exception() is None:
            attached = True
            outcome.status = task.result().status
            task.result().push_to(outcome)
    outcome.freed = bool(freed) and not wire.closed
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert task.done(), "the exchange hangs"
    error = task.exception()
    if error is not None:
        assert isinstance(error, TransportError)
        outcome.error = error
    else:
        assert len(outcome.ends) == 1, "the response hangs, or ends twice"
    return outcome


STATUS_LINE = re.compile(rb"[\r\n]*(HTTP/1\.1 (\d)\d\d) [^\r\n]*")


def with_plain_status_lines(raw: bytes) -> bytes:
    """Return a response with another text in its status lines, and no empty lines before them.

    httptools skips empty lines there, and takes any bytes as the text, which nothing reads; h11 refuses both.
    """
    plain = b""
    while (line := STATUS_LINE.match(raw)) is not None:
        head, end, raw = raw[line.end() :].partition(b"\r\n\r\n")
        plain += line[1] + b" OK" + head + end
        if line[2] != b"1":
            break
    return plain + raw


def read_with_h11(raw: bytes) -> tuple[int, bytes] | None:
    """Return the status and the body as h11 reads them; None if it reads no complete response."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    parser.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        parser.receive_data(with_plain_status_lines(raw))
        parser.receive_data(b"")
        while True:
            event: Any = parser.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


LOOP = asyncio.new_event_loop()


def check_valid(sample: Sample, cuts: list[int]) -> None:
    """A valid response is read in any pieces; its connection is free if it may be."""
    outcome = LOOP.run_until_complete(receive(sample.raw, cuts))
    assert outcome.error is None
    assert (outcome.is_complete, outcome.body, outcome.freed) == (True, sample.body, sample.reusable)


def check_truncated(sample: Sample, length: int, cuts: list[int]) -> None:
    """A response that is cut off is not complete, unless the end of its connection ends it."""
    raw = sample.raw[: length % max(1, len(sample.raw))]
    outcome = LOOP.run_until_complete(receive(raw, cuts))
    assert not outcome.freed
    if sample.until_close and len(raw) >= sample.head_bytes:
        assert (outcome.is_complete, outcome.body) == (True, raw[sample.head_bytes :])
    else:
        assert not outcome.is_complete
        assert sample.body.startswith(outcome.body)


def check_changed(sample: Sample, edits: list[tuple[int, str, bytes]], cuts: list[int]) -> None:
    """Every exchange ends; it is complete only as another parser reads it, in any pieces."""
    raw = changed(sample.raw, edits)
    outcome = LOOP.run_until_complete(receive(raw, cuts))
    whole = LOOP.run_until_complete(receive(raw, []))
    assert (outcome.is_complete, outcome.status) == (whole.is_complete, whole.status)
    if outcome.is_complete:
        assert outcome.body == whole.body
        assert (outcome.status, outcome.body) == read_with_h11(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round; printed")
    options = parser.parse_args()
    ends, rounds = time.monotonic() + 60 * options.minutes, 0
    cuts = st.lists(st.integers(0), max_size=6)
    while time.monotonic() < ends:
        number = options.seed + rounds
        print(f"round {rounds}, seed {number}", flush=True)
        run = settings(
            max_examples=EXAMPLES_AT_ONCE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        seed(number)(run(given(samples(), cuts)(check_valid)))()
        seed(number)(run(given(samples(), st.integers(0), cuts)(check_truncated)))()
        seed(number)(run(given(samples(), changes, cuts)(check_changed)))()
        rounds += 1
    print(f"{3 * rounds * EXAMPLES_AT_ONCE} responses, no fault found")


if __name__ == "__main__":
    main()
