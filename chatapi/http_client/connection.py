"""One HTTP/1.1 connection: it carries one request and its response at a time.

Bytes are parsed as they arrive, in the callback of the event loop; the body bytes of one network read go to the
response together. A connection is used again only after a complete response to a request that was sent completely.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterable, Callable
from typing import cast

import httptools

from chatapi.http_client.errors import Malformed, RequestBodyError, TransportError, disconnect_error
from chatapi.http_client.response import Response

HEAD_BYTES = 64 * 1024  # of a head, and of trailers and other framing between two pieces of a body
HEADERS = 256
INFORMATIONAL = 16  # 1xx responses before the final one
JOINED_BYTES = 64 * 1024  # a body up to here is copied to be sent with its head in one system call
_BODILESS = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """A connection to one origin.

    Args:
        on_free: called when the connection can carry another request.
        on_lost: called once, when the connection is closed.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        on_free: Callable[[Connection], None] = lambda _: None,
        on_lost: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self.free_since = 0.0
        self._on_free = on_free
        self._on_lost = on_lost
        self.is_closed = False
        self._error: TransportError | None = None  # because of which it was closed
        self._parts: list[bytes] = []  # of the body, from one network read
        self.on_body = self._parts.append  # the parser calls it for each piece; no Python code runs then
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None  # until the head has come
        self._response: Response | None = None  # from then to its end
        self._receiving = False  # a response has begun or is awaited, and is not complete
        self._keep_alive = False
        self._until_close = False  # only the end of the connection ends the body
        self._parts_of_response = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._codings: list[bytes] = []  # the values of Transfer-Encoding
        self._has_length = False
        self._head_bytes = 0
        self._framing_bytes = 0  # since the last piece of a body
        self._informational = 0
        self._paused = False
        self._sender: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # while the server is slow to read

    async def exchange(self, head: bytes, body: bytes | AsyncIterable[bytes], length: int | None = None) -> Response:
        """Send a request and return its response when the head has come. Cancelled, it closes the socket.

        Args:
            body: the bytes, or an iterator whose pieces are sent while the response is received.
            length: what the iterator yields, as in the head; None if the head says chunked.

        Raises:
            Disconnected: the connection ended before the head did.
            Malformed: the head is not HTTP, or exceeds a bound.
            RequestBodyError: the iterator failed before the head came.
        """
        if self._error is not None:  # it ended before it was used
            raise self._error
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Response] = loop.create_future()
        self._waiter = waiter
        self._receiving = True
        self._begin_head()
        self._framing_bytes = self._informational = 0
        try:
            if not isinstance(body, bytes):
                self.transport.write(head)
                self._sender = loop.create_task(self._send(body, length), name="request-body")
            elif len(body) <= JOINED_BYTES:
                self.transport.write(head + body)
            else:
                self.transport.writelines([head, body])
            return await waiter
        except BaseException:
            self.abort()
            raise

    def is_usable(self) -> bool:
        """Return whether a free connection is still open, with nothing unread: an end may not have been seen yet."""
        if self.is_closed or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def fail(self, error: TransportError) -> None:
        """Close the socket at once; the running exchange gets this error."""
        response, self._response = self._response, None
        waiter, self._waiter = self._waiter, None
        self._error = error
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if response is not None:
            response.finish(error)

    def abort(self) -> None:
        """Close the socket at once; the running exchange gets nothing more."""
        if self.is_closed:
            return
        self.is_closed = True
        self._receiving = False
        self._waiter = self._response = None
        if self._sender is not None:
            self._sender.cancel()
        self.transport.abort()

    def detach(self) -> asyncio.Transport:
        """Give the transport away after a response that opened a tunnel.

        Raises:
            Malformed: the connection is closed, or the server sent more than the head.
        """
        if self.is_closed or self._framing_bytes == 0:  # a piece of a body came last
            self.abort()
            raise Malformed("it does not open the tunnel")
        self.is_closed = True
        return self.transport

    def pause(self) -> None:
        """Stop reading from the socket."""
        if not self._paused and not self.is_closed:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read from the socket again."""
        if self._paused and not self.is_closed and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # The event loop calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        if not self._receiving:
            self.fail(Malformed("it sent a response without a request"))
            return
        broken: TransportError | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            broken = error.__context__ if isinstance(error.__context__, Malformed) else Malformed("it is not HTTP")
        except httptools.HttpParserUpgrade:
            broken = Malformed("it switched protocols without a request to do so")
        self._framing_bytes += len(data)
        response = self._response
        if response is not None:
            parts = self._parts
            if not self._receiving:
                del parts[self._parts_of_response :]
            if parts:
                self._framing_bytes = 0
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                parts.clear()
                if response.receiver is not None:
                    response.receiver.receive(body)
                else:
                    response.feed(body)
            if response is not self._response:  # its receiver has closed it
                return
        if not self._receiving:
            self._complete(reusable=broken is None and self._keep_alive)
        elif broken is not None:
            self.fail(broken)
        elif self._framing_bytes > HEAD_BYTES:
            self.fail(Malformed("its head or its framing is too large"))

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # The parser calls these

    def on_message_begin(self) -> None:
        if not self._receiving:
            raise Malformed("it sent more than the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name)
        self._head_bytes += size + len(value) + 4
        if self._head_bytes > HEAD_BYTES or len(self._headers) >= HEADERS:
            raise Malformed("its head is too large")
        if self._response is not None:
            return  # a trailer, which no request asks for
        self._headers.append((name, value))
        match size:
            case 14 if name.lower() == b"content-length":
                self._has_length = True
            case 17 if name.lower() == b"transfer-encoding":
                self._codings.append(value.strip().lower())

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._informational += 1
            if self._informational > INFORMATIONAL:
                raise Malformed("it sent too many informational responses")
            self._begin_head()
            return
        if status < 200:
            raise Malformed("its status is not the status of a response")
        if self._codings not in ([], [b"chunked"]):
            raise Malformed("it used a transfer coding that was not requested")
        self._until_close = not self._codings and not self._has_length and status not in _BODILESS
        response = self._response = Response(status, self._headers, self)
        self._headers = []
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def on_message_complete(self) -> None:
        if self._response is not None:  # otherwise it was informational
            self._receiving = False
            self._keep_alive = self._parser.should_keep_alive()
            self._parts_of_response = len(self._parts)

    # Own

    def _begin_head(self) -> None:
        self._headers, self._codings = [], []
        self._has_length = False
        self._head_bytes = 0

    def _complete(self, *, reusable: bool) -> None:
        response, self._response = self._response, None
        sent = self._sender is None or self._sender.done()
        if reusable and sent and not self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self._sender = None
            self.resume()
            self._on_free(self)
        else:
            self.abort()
        if response is not None:
            response.finish(None)

    def _end(self, error: Exception | None) -> None:
        """Take the end of the connection: of the response too if nothing else ends it."""
        if self.is_closed:
            return
        if self._response is not None and self._until_close and error is None:
            self._complete(reusable=False)
        else:
            self.fail(disconnect_error(error))

    async def _send(self, body: AsyncIterable[bytes], length: int | None) -> None:
        """Send the pieces of a body, each when the server has room for it."""
        sent = 0
        try:
            async for data in body:
                sent += len(data)
                if length is not None and sent > length:
                    raise ValueError
                if data:
                    self.transport.write(data if length is not None else b"%x\r\n%b\r\n" % (len(data), data))
                if self._writable is not None:
                    await self._writable
            if length is None:
                self.transport.write(b"0\r\n\r\n")
            elif sent < length:
                raise ValueError
        except Exception as cause:  # of a foreign iterator; the one who waits for the response raises it
            error = RequestBodyError("the body of the request broke off, or has another length than announced")
            error.__cause__ = cause
            self._sender = None
            self.fail(error)
