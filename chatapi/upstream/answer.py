"""An upstream's answer on its connection: its body is parsed in the callback that received it, without a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chatapi.errors import UpstreamBroken
from chatapi.http_client import Response, TransportError
from chatapi.model import Usage
from chatapi.upstream.metadata import ResponseMetadata
from chatapi.upstream.provider import Deltas, Parser
from chatapi.wire.sse import MAX_EVENT_BYTES


class Answer:
    """An answer on its connection: have it delivered, then look at how it ended."""

    __slots__ = ("_is_document", "metadata", "parser", "response")

    def __init__(
        self,
        response: Response,
        metadata: ResponseMetadata,
        parser: Parser,
        *,
        is_document: bool = False,
    ) -> None:
        self.response = response
        self.metadata = metadata
        self.parser = parser
        self._is_document = is_document

    @property
    def finish_reason(self) -> str | None:
        """The finish reason so far, in OpenAI's words where it is known."""
        return self.parser.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The tokens as the upstream counted them, if it did."""
        return self.parser.usage

    @property
    def deltas(self) -> int:
        """The pieces of content so far, about one token each."""
        return self.parser.deltas

    @property
    def spent(self) -> Usage | None:
        """The tokens as the upstream counted them, or one for each piece of content where it did not."""
        counted = self.usage
        if self.deltas and (counted is None or counted.output_tokens is None):
            return Usage(counted.input_tokens if counted is not None else None, self.deltas, estimated=True)
        return counted

    @property
    def done(self) -> bool:
        """Whether the answer has ended, so that nothing more is read of it."""
        return self.parser.done

    @property
    def is_complete(self) -> bool:
        """Whether the upstream has declared the answer complete."""
        return self.parser.is_complete

    def conclude(self) -> Deltas:
        """End the answer before its connection ends, and return the content that was held."""
        return self.parser.conclude()

    async def deliver(self, take: Callable[[Deltas], bool], make_room: Callable[[], Awaitable[None]]) -> None:
        """Give `take` the content of each network read, in the callback that received it; return at the end.

        The list is empty where an event held no content. After `take` returned False, nothing more is read from the
        network until `make_room` has returned. An exception of `take` ends the delivery and is raised here.

        Raises:
            UpstreamBroken: it broke off before its finish reason, or an event is not in its protocol.
            UpstreamError: it reported an error in the stream.
        """
        delivery = _Delivery(self.response, self.parser, take)
        if self._is_document:
            try:
                body = await self._read_document()
            except TransportError as error:
                delivery.end(error)
            else:
                delivery.receive_document(body)
        else:
            self.response.push_to(delivery)
            while not await delivery.is_over():
                await make_room()
                self.response.resume()
        if self.parser.error is not None:
            raise self.parser.error

    async def _read_document(self) -> bytes:
        body = bytearray()
        while some := await self.response.read():
            body += some
            if len(body) > MAX_EVENT_BYTES:
                raise UpstreamBroken("The model API's answer is larger than this server reads.")
        return bytes(body)


class _Delivery:
    """Receives a body, parses it and passes its content on, without a task."""

    __slots__ = ("_failure", "_is_full", "_parser", "_response", "_take", "_waiter")

    def __init__(self, response: Response, parser: Parser, take: Callable[[Deltas], bool]) -> None:
        self._response = response
        self._parser = parser
        self._take = take
        self._is_full = False
        self._failure: Exception | None = None  # of `take`
        self._waiter: asyncio.Future[None] | None = None

    async def is_over(self) -> bool:
        """Return True at the end, and False when `take` has no room; raise its exception."""
        if not (self._parser.done or self._is_full or self._failure):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._waiter = None
        if self._failure is not None:
            raise self._failure
        self._is_full = False
        return self._parser.done

    def receive(self, data: bytes) -> None:
        parser = self._parser
        if parser.done or self._failure is not None:
            return
        deltas = parser.feed(data)
        if deltas is not None:
            self._pass_on(deltas)

    def receive_document(self, body: bytes) -> None:
        """Take a whole body that is one JSON object."""
        self._pass_on(self._parser.document(body))
        if self._failure is not None:
            raise self._failure

    def end(self, error: TransportError | None) -> None:
        if self._parser.done or self._failure is not None:
            return
        if error is None:
            self._pass_on(self._parser.end())
        else:
            broken = UpstreamBroken()
            broken.__cause__ = error
            self._pass_on(self._parser.cut_off(broken))

    def _pass_on(self, deltas: Deltas) -> None:
        parser = self._parser
        try:
            if (deltas or parser.error is None) and not self._take(deltas):
                self._is_full = True
        except Exception as error:  # raised by `is_over`, in the task of the generation
            self._failure = error
        if self._is_full or self._failure is not None:
            self._response.pause()
        elif not parser.done:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
