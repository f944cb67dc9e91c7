"""A client with a pool of connections, for any number of origins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable

from chatapi.http_client.connection import Connection
from chatapi.http_client.dialing import Proxy, dial, tls_context
from chatapi.http_client.endpoint import Endpoint, Origin
from chatapi.http_client.errors import Disconnected
from chatapi.http_client.response import Response

IDLE_SECONDS = 15.0  # that a free connection is kept; servers close theirs after 5 s (uvicorn) to 400 s
FREE_CONNECTIONS = 512  # kept for one origin


class HTTPClient:
    """Sends requests. Responses of an origin share connections; running ones are not limited here.

    Args:
        connect_seconds: for names, TCP, proxy and TLS together.
        proxy: of the form `http://HOST:PORT`, for origins on https. Others are always reached directly.
    """

    def __init__(self, connect_seconds: float, proxy: str | None = None) -> None:
        self._connect_seconds = connect_seconds
        self._proxy = Proxy(proxy) if proxy is not None else None
        self._free: dict[Origin, dict[Connection, None]] = {}  # the one that was used last is at the end
        self._open: set[Connection] = set()
        self._expiry: asyncio.TimerHandle | None = None

    def open(self, endpoint: Endpoint) -> None:
        """Prepare for requests to an endpoint, so that the first one takes no longer: read the trust store."""
        if endpoint.origin.scheme == "https":
            tls_context()

    async def send(
        self,
        endpoint: Endpoint,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | AsyncIterable[bytes] = b"",
        length: int | None = None,
    ) -> Response:
        """Send a request, and return its response as soon as its head has come.

        Cancelled, it closes the socket at once. Nothing is sent twice.

        Args:
            headers: besides those of the endpoint; this client sets those about length and connection.
            body: the bytes, or an iterator whose pieces are sent while the response is received. The caller closes it.
            length: what an iterator yields; None sends it chunked.

        Raises:
            ConnectFailed: there is no connection to the server.
            Disconnected: the server closed the connection before it responded.
            Malformed: the server does not answer in HTTP, or exceeds a bound.
            RequestBodyError: the iterator failed, or its length is another.
            ValueError: a header is not valid.
        """
        head = endpoint.head(headers, len(body) if isinstance(body, bytes) else length)
        origin = endpoint.origin
        connection = self._take(origin)
        if connection is None:
            connection = Connection(lambda free: self._keep(origin, free), lambda lost: self._forget(origin, lost))
            await dial(origin, connection, self._proxy, self._connect_seconds)
            if not connection.is_closed:
                self._open.add(connection)
        return await connection.exchange(head, body, length)

    def close(self) -> None:
        """Close every connection at once, those of running responses too."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._free.clear()
        for connection in list(self._open):
            connection.fail(Disconnected("the client was closed"))

    def _take(self, origin: Origin) -> Connection | None:
        """Return the free connection that was used last, if one is usable."""
        free = self._free.get(origin)
        while free:
            connection, _ = free.popitem()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    def _keep(self, origin: Origin, connection: Connection) -> None:
        free = self._free.setdefault(origin, {})
        if len(free) >= FREE_CONNECTIONS:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.free_since = loop.time()
        free[connection] = None
        if self._expiry is None:
            self._expiry = loop.call_later(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        """Close connections that were free for too long, and look again when the next one may be."""
        loop = asyncio.get_running_loop()
        oldest = loop.time()
        for origin, free in list(self._free.items()):
            while free and (connection := next(iter(free))).free_since <= loop.time() - IDLE_SECONDS:
                del free[connection]
                connection.abort()
            if free:
                oldest = min(oldest, next(iter(free)).free_since)
            else:
                del self._free[origin]
        self._expiry = loop.call_at(oldest + IDLE_SECONDS, self._expire) if self._free else None

    def _forget(self, origin: Origin, connection: Connection) -> None:
        self._open.discard(connection)
        self._free.get(origin, {}).pop(connection, None)
