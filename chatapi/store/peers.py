"""The logs of running answers, asked of the worker that writes them.

Workers that share a SQLite file each have a journal of their own. The text of a running answer is in the journal and in
the memory of its worker only, so another worker asks for it. A worker sends committed text only, which is in
its journal. It answers from the moment on at which the answers of its dead predecessor are closed in the database.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from chatapi.connections.mailboxes import MAX_MESSAGE_BYTES, Mailbox
from chatapi.errors import StoreUnavailable
from chatapi.model import Kind, Piece, ToolCall
from chatapi.store.drivers.driver import Asked, Rows, RunningLog, Transaction
from chatapi.store.journal import Journal
from chatapi.store.pieces import append_rows
from chatapi.store.values import Append

PAGE_BYTES = 16 * 1024  # of text in one message; not less than `log.CUT_BYTES`
ASK_AGAIN_SECONDS = 0.5  # a message may be lost, and a worker replaced
PATIENCE_SECONDS = 5.0  # for a worker that is being replaced

T = TypeVar("T")


class RunsElsewhere(Exception):
    """A transaction needs the log of a generation that another worker writes."""

    def __init__(self, asked: RunningLog, replica: str) -> None:
        super().__init__(asked.generation_id)
        self.asked = asked
        self.replica = replica


class _Question(msgspec.Struct, array_like=True, tag="?"):
    """A question to a worker: the log of a generation past a position, or, without one, to leave its segment."""

    sender: int
    name: str  # of the answer
    generation_id: str | None = None
    position: int = 0


class _Run(NamedTuple):
    """Consecutive pieces of one part."""

    length: int
    part: int
    kind: Kind
    call: ToolCall | None


class _Reply(msgspec.Struct, array_like=True, tag="!"):
    """The answer: the next pieces of the log, and whether there are more; or whether the segment was left.

    A piece is often smaller than its description, so the pieces are their joined text, their lengths, and their parts.
    """

    name: str
    flag: bool
    text: bytes = b""
    lengths: list[int] = []
    runs: list[_Run] = []

    def pieces(self, position: int) -> list[Piece]:
        """Return the pieces, which begin at this position."""
        found = []
        lengths, begin = iter(self.lengths), 0
        for run in self.runs:
            for length in itertools.islice(lengths, run.length):
                end = begin + length
                found.append(Piece(position + end, run.part, run.kind, self.text[begin:end], run.call))
                begin = end
        return found


_decoder = msgspec.msgpack.Decoder(_Question | _Reply)
_encoder = msgspec.msgpack.Encoder()


class Peers:
    """The other workers of one SQLite file. `replicas` are the ids of all workers; this one has the `number`."""

    def __init__(self, mailbox: Mailbox, replicas: Sequence[str], number: int) -> None:
        self.number = number
        self.replica = replicas[number]
        self._mailbox = mailbox
        self._numbers = {replica: number for number, replica in enumerate(replicas)}
        self._names: Iterator[str]  # of questions
        self._replies: dict[str, asyncio.Future[_Reply]] = {}
        self._journal: Journal
        self._is_open = False

    def serve(self, journal: Journal) -> None:
        """Set the journal whose logs this worker answers with; call it before `open`."""
        self._journal = journal

    async def open(self) -> None:
        """Start to ask and to answer. By now, the answers of a dead predecessor must be closed in the database."""
        token = secrets.token_hex(8)  # made here, after the fork: an answer to a predecessor is not one to this process
        self._names = (f"{token}:{number}" for number in itertools.count())
        self._is_open = True
        self._mailbox.open(self._receive)

    async def close(self) -> None:
        """Stop; reads that wait for a reply get `StoreUnavailable`."""
        self._is_open = False
        self._mailbox.close()
        for reply in self._replies.values():
            reply.cancel()

    async def read(self, asked: RunningLog, replica: str) -> list[Piece]:
        """Return the committed log past the position, as its worker has it; nothing, if that does not know it.

        Raises:
            StoreUnavailable: the worker does not answer.
        """
        pieces: list[Piece] = []
        position, more = asked.position, True
        while more:
            reply = await self._ask(replica, asked.generation_id, position)
            pieces += reply.pieces(position)
            position, more = position + len(reply.text), reply.flag
        return pieces

    async def rotate(self) -> bool:
        """Have all other workers leave their segments; return False if one did not, or does not answer."""
        others = [replica for replica in self._numbers if replica != self.replica]
        replies = await asyncio.gather(*(self._ask(replica) for replica in others), return_exceptions=True)
        return all(isinstance(reply, _Reply) and reply.flag for reply in replies)

    async def _ask(self, replica: str, generation_id: str | None = None, position: int = 0) -> _Reply:
        number = self._numbers.get(replica)
        if number is None or not self._is_open:
            raise StoreUnavailable
        name = next(self._names)
        question = _encoder.encode(_Question(self.number, name, generation_id, position))
        reply: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._replies[name] = reply
        try:
            for _ in range(round(PATIENCE_SECONDS / ASK_AGAIN_SECONDS)):
                self._mailbox.send(number, question)
                done, _ = await asyncio.wait([reply], timeout=ASK_AGAIN_SECONDS)
                if done and not reply.cancelled():
                    return reply.result()
                if reply.cancelled():
                    break
            raise StoreUnavailable
        finally:
            del self._replies[name]

    def _receive(self, message: bytes) -> None:
        received = _decoder.decode(message)
        if isinstance(received, _Reply):
            reply = self._replies.get(received.name)
            if reply is not None and not reply.done():
                reply.set_result(received)
        elif 0 <= received.sender < len(self._numbers):
            self._mailbox.send(received.sender, self._answer(received))

    def _answer(self, question: _Question) -> bytes:
        if question.generation_id is None:
            return _encoder.encode(_Reply(question.name, self._journal.rotate()))
        log = self._journal.logs.get(question.generation_id)
        if log is None:
            return _encoder.encode(_Reply(question.name, False))
        return _encode_page(question.name, log.read(question.position, PAGE_BYTES, by_cut=True), log.committed)


def _encode_page(name: str, pieces: list[Piece], committed: int) -> bytes:
    """Encode the pieces, or as many of the first ones as one message carries."""
    while True:
        grouped = itertools.groupby(pieces, key=lambda piece: (piece.part, piece.kind, piece.call))
        runs = [_Run(len(list(group)), *part) for part, group in grouped]
        text = b"".join(piece.data for piece in pieces)
        has_more = bool(pieces) and pieces[-1].position < committed
        message = _encoder.encode(_Reply(name, has_more, text, [len(piece.data) for piece in pieces], runs))
        if len(message) <= MAX_MESSAGE_BYTES or len(pieces) == 1:
            return message
        pieces = pieces[: len(pieces) // 2]


def with_pieces(transaction: Callable[[], Transaction[T]], asked: RunningLog, pieces: list[Piece]) -> Callable[[], Any]:
    """Return the transaction with an answer to one of its questions: the log that another worker writes."""

    def run() -> Transaction[T]:
        running = transaction()
        rows: Rows | None = None
        try:
            while True:
                question: Asked = next(running) if rows is None else running.send(rows)
                if question == asked:
                    rows = append_rows([Append(asked.generation_id, pieces)])
                else:
                    rows = yield question
        except StopIteration as end:
            result: T = end.value
            return result

    return run
