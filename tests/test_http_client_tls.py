"""The HTTP client over TLS and through proxies: who is trusted, and what a proxy learns."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest

from chatapi.http_client import (
    CertificateRefused,
    ConnectFailed,
    ConnectTimeout,
    Endpoint,
    HTTPClient,
    Response,
    dialing,
)
from tests.certificates import Authority
from tests.databases import free_port
from tests.http_server import (
    HELLO,
    Peer,
    Play,
    Server,
    answering,
    client_of,
    no_socket_to,
    serving,
    turn_the_loop,
    until,
)

SECRET = "sk-proj-of-the-test"
AUTHORIZATION = [("Authorization", f"Bearer {SECRET}")]
PASSWORD = "pass:w@rd"
SECONDS = 10


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """End a test that hangs."""
    timer = asyncio.get_running_loop().call_later(SECONDS, lambda: [task.cancel() for task in asyncio.all_tasks()])
    yield
    timer.cancel()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    """The settings of a server that is all right."""
    return authority.server()


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trust the authority, as an operator lets the service do it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    dialing.tls_context.cache_clear()
    yield
    dialing.tls_context.cache_clear()


def post(server: Server, host: str = "localhost") -> Endpoint:
    return Endpoint("POST", server.url.replace("127.0.0.1", host))


async def read(answer: Response) -> bytes:
    body = b""
    while some := await answer.read():
        body += some
    return body


async def ask(client: HTTPClient, endpoint: Endpoint) -> bytes:
    return await read(await client.send(endpoint, AUTHORIZATION, b"{}"))


@pytest.mark.usefixtures("trusted")
async def test_a_trusted_server_is_named_in_the_handshake_and_its_connection_reused(authority: Authority) -> None:
    named = []
    context = authority.server()
    context.sni_callback = lambda _, name, __: named.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(answering(HELLO, HELLO), context) as server, client_of() as client:
        assert [await ask(client, post(server)) for _ in range(2)] == [b"Hello", b"Hello"]
        assert (len(server.peers), named) == (1, ["localhost"])
        assert server.peers[0].writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert await ask(client, post(server, "127.0.0.1")) == b"Hello"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("names", "days", "reason"),
    [("DNS:elsewhere.example", 9, "mismatch"), ("DNS:localhost", -1, "expired")],
    ids=["another name", "expired"],
)
async def test_a_certificate_with_another_name_or_an_old_one_is_refused(
    authority: Authority, names: str, days: int, reason: str
) -> None:
    async with serving(nothing_is_sent, authority.server(names, days)) as server, client_of() as client:
        with pytest.raises(CertificateRefused, match=r"^its TLS certificate is not trusted$") as refused:
            await ask(client, post(server))
        assert reason in refused.value.detail
        await server.end()
        await no_socket_to(server.port)


async def nothing_is_sent(peer: Peer) -> None:
    """Check that a client that refuses a certificate sends no request."""
    assert not await peer.request()


async def test_a_certificate_of_an_unknown_authority_is_refused(tls: ssl.SSLContext) -> None:
    async with serving(nothing_is_sent, tls) as server, client_of() as client:
        with pytest.raises(CertificateRefused) as refused:
            await ask(client, post(server))
        assert "unable to get local issuer" in refused.value.detail
        await server.end()
        await no_socket_to(server.port)


async def test_a_server_without_tls_is_refused() -> None:
    async def play(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(HELLO)
        await peer.closed()

    async with serving(play) as server, client_of() as client:
        with pytest.raises(ConnectFailed, match=r"^the TLS handshake failed$"):
            await ask(client, Endpoint("POST", f"https://localhost:{server.port}/"))
        await no_socket_to(server.port)


async def silence(peer: Peer) -> None:
    await peer.closed()


async def test_a_handshake_that_does_not_end_is_cancelled_or_times_out() -> None:
    async with serving(silence) as server:
        endpoint = Endpoint("POST", f"https://localhost:{server.port}/")
        async with client_of(0.05) as client:
            with pytest.raises(ConnectTimeout):
                await ask(client, endpoint)
            await no_socket_to(server.port)
        async with client_of() as client:
            request = asyncio.create_task(ask(client, endpoint))
            await until(lambda: len(server.peers) == 2)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await no_socket_to(server.port)


@pytest.mark.usefixtures("trusted")
async def test_a_cancelled_read_over_tls_closes_the_socket(tls: ssl.SSLContext) -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\n\r\nHello"), tls) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        assert await answer.read() == b"Hello"
        answer.close()
        await server.end()
        await no_socket_to(server.port)


@pytest.mark.usefixtures("trusted")
async def test_a_slow_reader_makes_the_server_wait_over_tls(tls: ssl.SSLContext) -> None:
    size = 8 * 1024 * 1024

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size)))
        await peer.closed()

    async with serving(play, tls) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        await turn_the_loop(1000)
        assert answer._buffered < 1024 * 1024
        assert len(await read(answer)) == size


# Proxies


def tunnelling(seen: list[bytes], reply: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Play:
    """Return the play of a proxy that keeps the requests it sees."""

    async def play(peer: Peer) -> None:
        head = await peer.request()
        seen.append(head)
        if not head.startswith(b"CONNECT"):
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        onward = Peer(*await asyncio.open_connection(host, int(port)))
        try:
            await peer.send(reply)
            async with asyncio.TaskGroup() as carrying:
                carrying.create_task(carry(peer, onward))
                carrying.create_task(carry(onward, peer))
        finally:
            onward.writer.transport.abort()

    async def carry(source: Peer, sink: Peer) -> None:
        with suppress(ConnectionError):
            while data := await source.reader.read(65536):
                seen.append(data)
                await sink.send(data)
        sink.writer.transport.abort()

    return play


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: tests\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_opens_a_tunnel_and_sees_no_key(
    tls: ssl.SSLContext, scheme: str, reply: bytes, authority: Authority
) -> None:
    seen: list[bytes] = []
    own = authority.server() if scheme == "https" else None
    async with (
        serving(answering(HELLO, HELLO), tls) as server,
        serving(tunnelling(seen, reply), own) as proxy,
        client_of(proxy=f"{scheme}://me:{quote(PASSWORD)}@localhost:{proxy.port}") as client,
    ):
        assert [await ask(client, post(server)) for _ in range(2)] == [b"Hello", b"Hello"]
        assert (len(proxy.peers), len(server.peers)) == (1, 1)
    target = f"localhost:{server.port}"
    credentials = b64encode(f"me:{PASSWORD}".encode()).decode()
    assert seen[0].decode() == (
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
    )
    assert SECRET.encode() not in b"".join(seen)


@pytest.mark.usefixtures("trusted")
async def test_the_certificate_is_checked_through_a_proxy(authority: Authority) -> None:
    wrong = authority.server("DNS:elsewhere.example")
    async with serving(nothing_is_sent, wrong) as server, serving(tunnelling([])) as proxy:
        async with client_of(proxy=f"http://127.0.0.1:{proxy.port}") as client:
            with pytest.raises(CertificateRefused):
                await ask(client, post(server))
        await no_socket_to(proxy.port)


async def test_a_server_on_http_is_reached_without_the_proxy() -> None:
    async with serving(answering(HELLO)) as server, client_of(proxy=f"http://127.0.0.1:{free_port()}") as client:
        assert await ask(client, post(server)) == b"Hello"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nNo", "refused the connection with status 403"),
        (b"HTTP/1.1 407 Credentials\r\nProxy-Authenticate: Basic\r\n\r\n", "refused the connection with status 407"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "refused the connection with status 204"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://a.b/\r\nContent-Length: 0\r\n\r\n", "with status 301"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore than the head", "does not answer in HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "does not answer in HTTP"),
        (b"", "does not answer in HTTP"),
    ],
)
async def test_a_proxy_that_refuses_is_named(reply: bytes, reason: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)

    async with serving(play) as proxy, client_of(proxy=f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}") as client:
        with pytest.raises(ConnectFailed, match=reason) as refused:
            await ask(client, Endpoint("POST", "https://model.example/v1"))
        assert "HTTPS_PROXY" in str(refused.value)
        assert PASSWORD not in repr(refused.value)
        await no_socket_to(proxy.port)


async def test_a_proxy_that_cannot_be_reached_or_is_silent_is_an_error() -> None:
    endpoint = Endpoint("POST", "https://model.example/v1")
    async with client_of(proxy=f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectFailed, match=r"the proxy .HTTPS_PROXY. cannot be reached"):
            await ask(client, endpoint)
    async with serving(silence) as proxy:
        for scheme in ("http", "https"):
            async with client_of(0.05, proxy=f"{scheme}://127.0.0.1:{proxy.port}") as client:
                with pytest.raises(ConnectTimeout):
                    await ask(client, endpoint)
                await no_socket_to(proxy.port)
        async with client_of(proxy=f"http://127.0.0.1:{proxy.port}") as client:
            request = asyncio.create_task(ask(client, endpoint))
            await until(lambda: len(proxy.peers) == 3)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await no_socket_to(proxy.port)


def test_a_proxy_needs_an_address() -> None:
    for url in ("socks5://proxy:1080", "http://", "proxy:3128"):
        with pytest.raises(ValueError, match="the proxy must be"):
            HTTPClient(1, url)


def test_the_trust_store_of_the_system_is_read_once_and_verifies() -> None:
    context = dialing.tls_context()
    assert context is dialing.tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
