"""Pushing: a reader that keeps up gets text in the pass that committed it; a slow one pulls, and costs only itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatapi.bus import LocalBus
from chatapi.generations.reader import LogChunks, LogReader
from chatapi.generations.running import RunningGeneration, RunningGenerations
from chatapi.model import Generation, Kind, Microseconds, Piece, Status
from chatapi.server.direct_writes import write_head, write_now
from chatapi.settings import Settings
from chatapi.store import Store


class Answer:
    """A running generation without a store: `commit` is what the store does after each write."""

    def __init__(self) -> None:
        self.bus = LocalBus()
        generation = Generation("gen_1", "ses_1", "msg_1", Status.RUNNING, "gpt", "text", Microseconds(0))
        self.ended = Generation(
            "gen_1", "ses_1", "msg_1", Status.COMPLETED, "gpt", "text", Microseconds(0), ended_at=Microseconds(1)
        )
        self.running = RunningGeneration(generation, Settings(), lambda: self.bus.publish("gen_1"))
        self.reader = LogReader(cast(Store, None), self.bus, RunningGenerations())

    def commit(self, text: str) -> None:
        self.running.log.write(Kind.TEXT, text)
        self.running.log.cut()
        self.running.committed(self.running.log.position)

    def follow(self) -> LogChunks:
        return self.reader.follow_running(self.running, by_cut=False)


class Client:
    """A reader, and the text that it got by push and by pull."""

    def __init__(self, answer: Answer, room: int = 100, poison: str | None = None) -> None:
        self.chunks = answer.follow()
        self.chunks.sink = self.take
        self.room = room
        self.poison = poison
        self.pushed: list[str] = []
        self.all = ""
        self.task = asyncio.create_task(self.read())

    def take(self, pieces: list[Piece]) -> bool:
        text = b"".join(piece.data for piece in pieces).decode()
        if text == self.poison:
            raise ValueError(text)
        self.pushed.append(text)
        self.all += text
        self.room -= 1
        return self.room > 0

    async def read(self) -> None:
        async for chunk in self.chunks:
            self.all += b"".join(piece.data for piece in chunk.pieces).decode()


@pytest.fixture
async def answer() -> Answer:
    return Answer()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_reader_that_waits_gets_text_within_the_commit(answer: Answer) -> None:
    client = Client(answer)
    answer.commit("one ")
    await settle()
    assert (client.all, client.pushed) == ("one ", [])
    for word in ("two ", "three "):
        answer.commit(word)
        assert client.pushed[-1] == word, "no other task ran since"
    answer.running.end(answer.ended)
    await client.task
    assert client.all == "one two three "


async def test_a_slow_reader_pulls_and_gets_each_byte_once(answer: Answer) -> None:
    slow, quick = Client(answer, room=2), Client(answer)
    await settle()
    for word in ("one ", "two ", "three ", "four "):
        answer.commit(word)
    assert (slow.pushed, len(quick.pushed)) == (["one ", "two "], 4)
    slow.room = 1
    await settle()
    assert slow.all == "one two three four "
    answer.commit("five ")
    assert slow.pushed == ["one ", "two ", "five "], "it waits again, so it is pushed to again"
    answer.running.end(answer.ended)
    await asyncio.gather(slow.task, quick.task)
    assert slow.all == quick.all == "one two three four five "


async def test_an_error_of_one_reader_reaches_neither_the_writer_nor_the_others(answer: Answer) -> None:
    broken, other = Client(answer, poison="two "), Client(answer)
    await settle()
    for word in ("one ", "two ", "three "):
        answer.commit(word)
    with pytest.raises(ValueError, match="two "):
        await broken.task
    assert (broken.pushed, other.pushed) == (["one "], ["one ", "two ", "three "])
    answer.running.end(answer.ended)
    await other.task


async def test_a_periodic_check_wakes_a_reader_that_is_pushed_to(answer: Answer) -> None:
    client = Client(answer)
    await settle()
    answer.commit("one ")
    answer.bus.wake_all()
    answer.commit("two ")  # the reader has not looked yet
    await settle()
    assert (client.pushed, client.all) == (["one "], "one two ")
    answer.running.end(answer.ended)
    await client.task


def test_an_empty_part_of_a_body_does_not_end_it() -> None:
    written: list[bytes] = []
    flow = SimpleNamespace(write_paused=False)
    cycle: Any = SimpleNamespace(
        flow=flow,
        disconnected=False,
        response_complete=False,
        chunked_encoding=True,
        transport=SimpleNamespace(write=written.append),
    )
    assert write_now(cycle, b"")
    assert write_now(cycle, b"ab")
    assert written == [b"2\r\nab\r\n"]
    flow.write_paused = True
    assert not write_now(cycle, b"ab")


@pytest.fixture
def cycle() -> SimpleNamespace:
    """A response of uvicorn that has not started."""
    return SimpleNamespace(
        flow=SimpleNamespace(write_paused=False),
        scope={"method": "POST"},
        disconnected=False,
        response_started=False,
        keep_alive=True,
        default_headers=[(b"date", b"today")],
        transport=SimpleNamespace(write=[].append),
    )


def test_a_head_is_written_as_the_server_writes_it(cycle: Any) -> None:
    written: list[bytes] = []
    cycle.transport.write = written.append
    assert write_head(cycle, 200, [(b"X-Session-ID", b"ses_1")])
    assert written == [b"HTTP/1.1 200 OK\r\ndate: today\r\nx-session-id: ses_1\r\ntransfer-encoding: chunked\r\n\r\n"]
    assert cycle.response_started
    assert not write_head(cycle, 200, []), "it has started"
    cycle.response_started, cycle.keep_alive = False, False
    assert write_head(cycle, 200, [])
    assert b"connection: close\r\n" in written[1]


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\0"), (b"x: a\r\ny", b"b"), (b"", b"a")], ids=repr
)
def test_a_header_that_would_end_its_line_is_not_written(cycle: Any, header: tuple[bytes, bytes]) -> None:
    with pytest.raises(RuntimeError, match="HTTP does not allow"):
        write_head(cycle, 200, [header])


@pytest.mark.parametrize(
    ("status", "name", "method"),
    [(204, b"x", "POST"), (200, b"content-length", "POST"), (200, b"connection", "POST"), (200, b"x", "HEAD")],
)
def test_a_head_that_is_not_of_a_stream_is_left_to_the_server(
    cycle: Any, status: int, name: bytes, method: str
) -> None:
    cycle.scope["method"] = method
    assert not write_head(cycle, status, [(name, b"1")])
    assert not cycle.response_started
