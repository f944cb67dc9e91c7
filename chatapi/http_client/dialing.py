"""New connections: addresses in turn (RFC 8305), a tunnel through a proxy, verified TLS."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from functools import cache
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import unquote, urlsplit

from chatapi.http_client.connection import Connection
from chatapi.http_client.endpoint import Origin, encode_headers
from chatapi.http_client.errors import ConnectFailed, ConnectTimeout, TransportError, connect_error

STAGGER_SECONDS = 0.25  # after which the next address is tried too

Address = tuple[Any, ...]  # family, kind, protocol, canonical name, socket address


@cache
def tls_context() -> ssl.SSLContext:
    """Return the client's TLS settings: certificates and names are verified by the system's trust store.

    SSL_CERT_FILE and SSL_CERT_DIR name another one. It is read once, which takes some milliseconds.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Proxy:
    """A proxy that tunnels TLS connections by CONNECT: `http://HOST:PORT` or https, perhaps with `USER:PASSWORD@`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("the proxy must be http://HOST:PORT")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = parts.scheme == "https"
        self._headers: list[tuple[str, str]] = []
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers.append(("Proxy-Authorization", "Basic " + base64.b64encode(pair.encode()).decode()))

    def connect_request(self, authority: str) -> bytes:
        """Return the request for a tunnel."""
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode()
        return head + encode_headers(self._headers) + b"\r\n"


async def dial(origin: Origin, connection: Connection, proxy: Proxy | None, seconds: float) -> None:
    """Connect `connection` to an origin. Cancelled or failed, it leaves no socket open.

    Raises:
        ConnectFailed: a name cannot be resolved, no address accepts, a certificate is refused, or the proxy refuses.
        ConnectTimeout: all of it took more than so many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            if proxy is not None and origin.scheme == "https":
                transport = await _tunnel(origin, proxy)
            else:
                transport = await _connect(origin.host, origin.port, connection)
            if origin.scheme == "https":
                await _start_tls(transport, connection, origin.host)
    except TimeoutError as error:
        raise ConnectTimeout("it did not accept the connection in time") from error
    except OSError as error:
        raise connect_error(error) from error


async def _start_tls(transport: asyncio.Transport, connection: Connection, host: str) -> None:
    """Continue a connection with TLS."""
    loop = asyncio.get_running_loop()
    try:
        secure = await loop.start_tls(transport, connection, tls_context(), server_hostname=host)
        assert secure is not None, "start_tls raises if it fails"
    except BaseException:
        transport.abort()
        raise
    connection.connection_made(secure)


async def _tunnel(origin: Origin, proxy: Proxy) -> asyncio.Transport:
    """Open a connection through a proxy."""
    hop = Connection()
    try:
        transport = await _connect(proxy.host, proxy.port, hop)
        if proxy.tls:
            await _start_tls(transport, hop, proxy.host)
    except OSError as error:
        raise ConnectFailed("the proxy (HTTPS_PROXY) cannot be reached") from error
    try:
        response = await hop.exchange(proxy.connect_request(origin.authority), b"")
        if response.status == 200:
            return hop.detach()
    except TransportError as error:
        raise ConnectFailed("the proxy (HTTPS_PROXY) does not answer in HTTP") from error
    hop.abort()
    raise ConnectFailed(f"the proxy (HTTPS_PROXY) refused the connection with status {response.status}")


async def _connect(host: str, port: int, connection: Connection) -> asyncio.Transport:
    """Connect by TCP. Several addresses are tried as RFC 8305 says: each a moment after the one before, or at once
    when that failed; the first that accepts wins."""
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name with an empty or a long label
        raise socket.gaierror(socket.EAI_NONAME, "invalid name") from error
    connected = await (_open(addresses[0]) if len(addresses) == 1 else _race(_interleaved(addresses)))
    try:
        transport, _ = await loop.create_connection(lambda: connection, sock=connected)
    except BaseException:
        connected.close()
        raise
    return transport


async def _open(address: Address) -> socket.socket:
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def _interleaved(addresses: list[Address]) -> list[Address]:
    """Return the addresses with the families in turn, the first one's family first."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def _race(addresses: list[Address]) -> socket.socket:
    """Return the first connected socket, and close the others.

    Raises:
        OSError: of the address that failed first.
    """
    attempts: set[asyncio.Task[socket.socket]] = set()
    first_error: BaseException | None = None
    winner: socket.socket | None = None
    remaining = iter(addresses)
    try:
        while True:
            address = next(remaining, None)
            if address is not None:
                attempts.add(asyncio.create_task(_open(address), name="connect"))
            elif not attempts:
                assert first_error is not None
                raise first_error
            timeout = STAGGER_SECONDS if address is not None else None
            done, attempts = await asyncio.wait(attempts, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    first_error = first_error or error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
            if winner is not None:
                return winner
    finally:
        for task in attempts:
            task.cancel()
        for result in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()
