"""The HTTP client and servers of every kind: correct, slow, hostile and broken. On asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from chatapi.http_client import (
    ConnectFailed,
    ConnectTimeout,
    Disconnected,
    Endpoint,
    HTTPClient,
    Malformed,
    RequestBodyError,
    Response,
    TransportError,
    client,
    connection,
    dialing,
    response,
)
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
    sockets_to,
    turn_the_loop,
    until,
)

SECRET = "sk-proj-of-the-test"
AUTHORIZATION = [("Authorization", f"Bearer {SECRET}")]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
LARGE = 16 * 1024 * 1024
SECONDS = 30  # a hang, also on a busy machine


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """End a test that hangs."""
    timer = asyncio.get_running_loop().call_later(SECONDS, lambda: [task.cancel() for task in asyncio.all_tasks()])
    yield
    timer.cancel()


def post(server: Server) -> Endpoint:
    return Endpoint("POST", server.url, {"User-Agent": "tests"})


async def read(answer: Response) -> bytes:
    parts = []
    while some := await answer.read():
        parts.append(some)
    return b"".join(parts)


async def ask(client: HTTPClient, server: Server, body: bytes = b"{}") -> bytes:
    """Send a request and return the body of its response."""
    return await read(await client.send(post(server), AUTHORIZATION, body))


class Recorder:
    """A receiver that keeps what it receives."""

    def __init__(self, do: Callable[[], None] = lambda: None) -> None:
        self.body = b""
        self.ends: list[TransportError | None] = []
        self.ended = asyncio.Event()
        self._do = do

    def receive(self, data: bytes) -> None:
        self.body += data
        self._do()

    def end(self, error: TransportError | None) -> None:
        self.ends.append(error)
        self.ended.set()


# Requests


async def test_a_request_is_written_as_http_says() -> None:
    seen = []

    async def play(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(HELLO)

    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), [*AUTHORIZATION, ("X-Note", "caf\xe9")], b"{}")
        assert (answer.status, answer.ended) == (200, True)
    assert seen == [
        b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: tests\r\nAuthorization: Bearer %b\r\n"
        b"X-Note: caf\xe9\r\nContent-Length: 2\r\n\r\n{}" % (server.port, SECRET.encode())
    ]


async def test_urls_are_encoded_and_checked() -> None:
    endpoint = Endpoint("GET", "https://bücher.example/a b/ü?q=1\n2")
    assert endpoint.head([], 0).startswith(b"GET /a%20b/%C3%BC?q=12 HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n")
    assert Endpoint("GET", "http://[::1]:8000").head([], 0) == b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"
    assert Endpoint("GET", "https://a.b:443/").origin == Endpoint("POST", "https://a.b/c").origin
    for url in ("ftp://a.b", "http://", "http://me:secret@a.b/", "http://a.b/#c", "http://a b/", "//a.b/"):
        with pytest.raises(ValueError, match=r"^the URL must "):
            Endpoint("GET", url)
    with pytest.raises(ValueError, match="method must be"):
        Endpoint("HEAD", "http://a.b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", f"{SECRET}\r\nX-B: c"),
        ("X-A", f"{SECRET}\n"),
        ("X-A", f"{SECRET}\r"),
        ("X-A", f"{SECRET}\0"),
        ("X-A", f"{SECRET}\u0141"),
        ("X-A\r\nX-B", SECRET),
        ("X A", SECRET),
        ("", SECRET),
        ("X-A:", SECRET),
        ("Content-Length", "1"),
        ("transfer-encoding", "chunked"),
        ("HOST", "elsewhere"),
        ("Connection", "X-A"),
    ],
)
def test_a_header_cannot_add_a_line_or_change_the_framing(name: str, value: str) -> None:
    endpoint = Endpoint("GET", "http://a.b")
    for make in (lambda: Endpoint("GET", "http://a.b", {name: value}), lambda: endpoint.head([(name, value)], 0)):
        with pytest.raises(ValueError, match="the header") as refused:
            make()
        assert SECRET not in str(refused.value)


# Responses

BODIES = [
    pytest.param(HELLO, b"Hello", id="length"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n0\r\n\r\n", b"Hello", id="chunked"),
    pytest.param(CHUNKED + b"2;a=b\r\nHe\r\n03\r\nllo\r\n0;c\r\nX-A: b\r\nX-C: d\r\n\r\n", b"Hello", id="trailers"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", id="304"),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HELLO, b"Hello", id="1xx"
    ),
    pytest.param(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nHello", b"Hello", id="no reason"),
    pytest.param(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nHello", b"Hello", id="1.0"),
]
LAST = [
    pytest.param(UNTIL_CLOSE + b"Hello", True, id="until close"),
    pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nHello", False, id="HTTP/1.0"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nHello", False, id="close"),
    pytest.param(HELLO + HELLO, False, id="a second response"),
    pytest.param(HELLO + b"?", False, id="a byte too many"),
]
MALFORMED = [
    pytest.param(b"SSH-2.0-x\r\n\r\n", id="no HTTP"),
    pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nHello", id="bare LF"),
    pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="status of four digits"),
    pytest.param(b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", id="status 099"),
    pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="101 with an upgrade"),
    pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="101"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + HELLO, id="1xx without end"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nHello", id="two lengths"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nHello", id="a negative length"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nHello", id="a huge length"),
    pytest.param(CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n5\r\nHello\r\n0\r\n\r\n", id="length and chunked"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="a transfer coding"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nHello", id="another transfer coding"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n", id="NUL in a header"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX-A : a\r\n\r\n", id="space in a name"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 300 + b"\r\n", id="too many headers"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n", id="a huge header"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * LARGE, id="a header without end"),
    pytest.param(b"HTTP/1.1 200 OK" + b"a" * LARGE, id="a reason without end"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * (LARGE // 8), id="headers without end"),
]
BROKEN = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello", Disconnected, id="short of its length"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n", Disconnected, id="without its last chunk"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n0\r\n", Disconnected, id="without its last line"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n0\r\nX-A: b\r\n", Disconnected, id="amid trailers"),
    pytest.param(CHUNKED + b"5\r\nHello6\r\n", Malformed, id="without an end of chunk"),
    pytest.param(CHUNKED + b"5\r\nHello\r\nfffffffffffffffff\r\n", Malformed, id="a huge chunk size"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n-1\r\n", Malformed, id="a negative chunk size"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n5;" + b"a" * LARGE, Malformed, id="an extension without end"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n0\r\nX-A: " + b"a" * LARGE, Malformed, id="a trailer without end"),
    pytest.param(CHUNKED + b"5\r\nHello\r\n0\r\n" + b"X-A: b\r\n" * (LARGE // 8), Malformed, id="trailers without end"),
]


@pytest.mark.parametrize(("raw", "body"), BODIES)
async def test_a_complete_response_is_read_and_its_connection_reused(raw: bytes, body: bytes) -> None:
    async with serving(answering(raw, raw, HELLO)) as server, client_of() as client:
        assert [await ask(client, server) for _ in range(3)] == [body, body, b"Hello"]
        assert len(server.peers) == 1


@pytest.mark.parametrize(("raw", "body"), BODIES)
async def test_a_response_is_the_same_in_any_pieces(raw: bytes, body: bytes) -> None:
    async def play(peer: Peer) -> None:
        while await peer.request():
            for number in range(len(raw)):
                await peer.send(raw[number : number + 1])
                await asyncio.sleep(0)

    async with serving(play) as server, client_of() as client:
        assert [await ask(client, server) for _ in range(2)] == [body, body]
        assert len(server.peers) == 1


@pytest.mark.parametrize(("raw", "closes"), LAST)
async def test_a_connection_is_not_reused_after_a_response_that_ends_it(raw: bytes, closes: bool) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)
        if not closes:
            await peer.closed()

    async with serving(play) as server, client_of() as client:
        assert [await ask(client, server) for _ in range(2)] == [b"Hello", b"Hello"]
        assert len(server.peers) == 2
        await no_socket_to(server.port)


@pytest.mark.parametrize("raw", MALFORMED)
async def test_a_malformed_head_is_an_error(raw: bytes) -> None:
    async with serving(answering(raw)) as server, client_of() as client:
        with pytest.raises(Malformed) as refused:
            await ask(client, server)
        assert SECRET not in repr(refused.value)
        await server.end()
        await no_socket_to(server.port)


@pytest.mark.parametrize(("raw", "error"), BROKEN)
async def test_a_broken_body_is_never_complete(raw: bytes, error: type[TransportError]) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)

    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        assert await answer.read() == b"Hello"
        with pytest.raises(error):
            await answer.read()
        pushed = await client.send(post(server), AUTHORIZATION, b"{}")
        recorder = Recorder()
        pushed.push_to(recorder)
        await recorder.ended.wait()
        assert (recorder.body, [type(end) for end in recorder.ends]) == (b"Hello", [error])
        await no_socket_to(server.port)


async def test_a_reset_amid_a_body_is_not_an_end() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(UNTIL_CLOSE + b"Hello")
        go_on.set()
        await reset.wait()
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.writer.transport.abort()

    go_on, reset = asyncio.Event(), asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        await go_on.wait()
        assert await answer.read() == b"Hello"
        reset.set()
        with pytest.raises(Disconnected, match="it reset the connection"):
            await answer.read()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX-A", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_is_closed_before_the_head_is_an_error(sent: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)

    async with serving(play) as server, client_of() as client:
        with pytest.raises(Disconnected, match="it closed the connection"):
            await ask(client, server)
        assert len(server.peers) == 1, "nothing is sent twice"


async def test_headers_are_found_by_their_lower_case_name() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-A:  b \r\nCONTENT-TYPE: Text/Event-Stream; charset=utf-8\r\nx-a: c\r\nX-L: caf\xe9\r\n"
    async with serving(answering(raw + b"Content-Length: 0\r\n\r\n")) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
    assert answer.headers["x-a"] == "b, c"
    assert answer.headers["x-l"] == "caf\xe9"
    assert answer.media_type == "text/event-stream"
    assert answer.raw_headers[0] == (b"X-A", b"b ")


async def test_a_redirect_is_not_followed() -> None:
    raw = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(raw)) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        assert (answer.status, len(server.peers)) == (307, 1)


# The pool


async def test_parallel_requests_have_connections_of_their_own_which_are_reused() -> None:
    async with serving(answering(*[HELLO] * 3)) as server, client_of() as client:
        for _ in range(3):
            assert await asyncio.gather(*[ask(client, server) for _ in range(8)]) == [b"Hello"] * 8
        assert len(server.peers) == 8


async def test_a_connection_that_is_closed_while_it_is_free_is_not_used() -> None:
    """The end has arrived, and the loop has not seen it: no coroutine runs between the close and the request."""

    def accept() -> socket.socket:
        peer, _ = listener.accept()
        peer.settimeout(SECONDS)
        peer.recv(65536)
        return peer

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(SECONDS)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    async with client_of() as client:
        first = asyncio.create_task(client.send(Endpoint("GET", url)))
        peer = await asyncio.to_thread(accept)
        peer.sendall(HELLO)
        assert await read(await first) == b"Hello"
        peer.close()
        second = asyncio.create_task(client.send(Endpoint("GET", url)))
        peer = await asyncio.to_thread(accept)
        peer.sendall(HELLO)
        assert await read(await second) == b"Hello"
        peer.close()
    listener.close()


async def test_bytes_on_a_free_connection_close_it() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await more.wait()
        await peer.send(HELLO)
        await peer.closed()

    more = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        assert await ask(client, server) == b"Hello"
        more.set()
        await server.end()
        assert await ask(client, server) == b"Hello"
        assert len(server.peers) == 2


async def test_free_connections_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.02)
    async with serving(answering(HELLO, HELLO)) as server, client_of() as http:
        await asyncio.gather(ask(http, server), ask(http, server))
        await server.end()
        await no_socket_to(server.port)
        assert await ask(http, server) == b"Hello"
        assert len(server.peers) == 3


async def test_free_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FREE_CONNECTIONS", 2)
    async with serving(answering(HELLO)) as server, client_of() as http:
        await asyncio.gather(*[ask(http, server) for _ in range(5)])
        await until(lambda: sockets_to(server.port) == 2)
        await turn_the_loop()
        assert sockets_to(server.port) == 2


# Push and pull


async def test_a_body_is_pushed_within_one_pass_of_the_loop() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nHe\r\n")
        await more.wait()
        await peer.send(b"1\r\nl\r\n2\r\nlo\r\n0\r\n\r\n")

    more = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        recorder = Recorder()
        answer.push_to(recorder)
        assert (answer.raw_headers, answer.headers) == ([], {}), "they take three kilobytes of each running answer"
        more.set()
        await recorder.ended.wait()
    assert (recorder.body, recorder.ends) == (b"Hello", [None])


async def test_a_receiver_may_close_its_response() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nHello\r\n")
        await peer.closed()

    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        recorder = Recorder(answer.close)
        answer.push_to(recorder)
        await server.end()
        await no_socket_to(server.port)
    assert (recorder.body, recorder.ends) == (b"Hello", [])


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % LARGE, b"X-A: b"], ids=["length", "until close"])
async def test_a_slow_reader_makes_the_server_wait(framing: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        peer.writer.write(bytes(LARGE))
        await until(lambda: peer.writer.transport.get_write_buffer_size() < LARGE)
        blocked.set()
        await until(lambda: not peer.writer.transport.get_write_buffer_size())  # the end of the play drops the rest

    blocked = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        await blocked.wait()
        await turn_the_loop()
        assert answer._buffered < 1024 * 1024
        assert len(await read(answer)) == LARGE


async def test_a_receiver_may_pause_its_response() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        peer.writer.write(bytes(LARGE))
        await until(lambda: peer.writer.transport.get_write_buffer_size() < LARGE)
        blocked.set()
        await peer.writer.drain()
        await answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (LARGE, bytes(LARGE)))(peer)

    blocked = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        recorder = Recorder(answer.pause)
        answer.push_to(recorder)
        await blocked.wait()
        while not recorder.ends:
            before = len(recorder.body)
            await turn_the_loop()
            assert len(recorder.body) - before < 1024 * 1024
            answer.resume()
            await asyncio.sleep(0)
        assert (len(recorder.body), recorder.ends) == (LARGE, [None])
        assert len(await ask(client, server)) == LARGE, "a paused connection is free again"
        assert len(server.peers) == 1


async def test_an_answer_that_is_over_may_end_its_response() -> None:
    async def play(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(CHUNKED + b"5\r\nHello\r\n")
            await drained.wait()
            await peer.send(b"0\r\n\r\n")
        await peer.closed()

    drained = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        assert await answer.read() == b"Hello"
        answer.drain(SECONDS)
        drained.set()
        await until(lambda: answer.ended)
        assert await ask(client, server) == b"Hello"
        assert len(server.peers) == 1


@pytest.mark.parametrize("rest", [b"", b"11170\r\n" + bytes(70_000)], ids=["silence", "more"])
async def test_an_answer_that_is_over_and_does_not_end_is_closed(rest: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nHello\r\n")
        await drained.wait()
        await peer.send(rest)
        await peer.closed()

    drained = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), (), b"{}")
        answer.drain(SECONDS if rest else 0.02)
        drained.set()
        await server.end()
        await no_socket_to(server.port)


# Bodies of requests


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
        await asyncio.sleep(0)


def reading(until: bytes, received: list[bytes]) -> Play:
    """Return a play that reads a request up to these bytes, and then answers."""

    async def play(peer: Peer) -> None:
        for _ in range(2):
            received.append(await peer.reader.readuntil(until))
            await peer.send(HELLO)
        await peer.closed()

    return play


async def test_a_body_may_be_an_iterator_with_or_without_a_length() -> None:
    received: list[bytes] = []
    async with serving(reading(b"\0", received)) as server, client_of() as client:
        for _ in range(2):
            body = pieces(b"one", b"", b"two\0")
            assert await read(await client.send(post(server), (), body, 7)) == b"Hello"
        assert len(server.peers) == 1
    assert received[0].endswith(b"Content-Length: 7\r\n\r\nonetwo\0")
    assert received[0] == received[1]
    received.clear()
    async with serving(reading(b"0\r\n\r\n", received)) as server, client_of() as client:
        for _ in range(2):
            assert await read(await client.send(post(server), (), pieces(b"one", b"", b"two"))) == b"Hello"
        assert len(server.peers) == 1
    assert received[0].endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert received[0] == received[1]


@pytest.mark.parametrize(("length", "sent"), [(5, b"four"), (3, b"four"), (0, b"four"), (None, None), (9, None)])
async def test_a_body_that_fails_or_has_another_length_ends_the_request(length: int | None, sent: bytes | None) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        if sent is None:
            raise KeyError(SECRET)

    body = failing() if sent is None else pieces(sent)
    async with serving(Peer.closed) as server, client_of() as client:
        with pytest.raises(RequestBodyError) as failed:
            await client.send(post(server), (), body, length)
        assert SECRET not in str(failed.value)
        await server.end()
        await no_socket_to(server.port)


async def test_a_response_may_come_before_the_body_is_sent() -> None:
    """It is complete; its connection is closed, and the iterator is not asked for more."""

    async def play(peer: Peer) -> None:
        await peer.reader.readuntil(b"first")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nNo.")
        await peer.closed()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    ended = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, endless())
        assert (answer.status, await read(answer)) == (413, b"No.")
        await ended.wait()
        await server.end()
        await no_socket_to(server.port)


async def test_large_bodies_are_sent_while_the_response_is_received() -> None:
    async def play(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(UNTIL_CLOSE)
        left = LARGE
        while left:
            data = await peer.reader.read(65536)
            left -= len(data)
            await peer.send(data)

    async with serving(play) as server, client_of() as client:
        body = pieces(*[bytes(65536)] * (LARGE // 65536))
        assert len(await read(await client.send(post(server), (), body, LARGE))) == LARGE
        assert len(await ask(client, server, bytes(LARGE))) == LARGE


async def test_a_server_that_reads_slowly_makes_the_iterator_wait() -> None:
    given, stop = 0, asyncio.Event()

    async def counted() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 65536
            yield bytes(65536)

    async def play(peer: Peer) -> None:
        await stop.wait()

    async with serving(play) as server, client_of() as client:
        request = asyncio.create_task(client.send(post(server), (), counted()))
        seen = -1
        while seen != given:
            seen = given
            await turn_the_loop()
        assert given < LARGE
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await no_socket_to(server.port)
        stop.set()


# Connections that fail, and cancellation


async def test_a_refused_connection_and_an_unknown_name_have_a_reason() -> None:
    async with client_of() as client:
        with pytest.raises(ConnectFailed, match=r"^it refused the connection$"):
            await client.send(Endpoint("GET", f"http://127.0.0.1:{free_port()}/"), AUTHORIZATION)
        for name in ("name.invalid", "a" * 64 + ".example"):
            with pytest.raises(ConnectFailed, match=r"^its name cannot be resolved$"):
                await client.send(Endpoint("GET", f"http://{name}/"), AUTHORIZATION)


async def head_never_comes(peer: Peer) -> None:
    await peer.closed()


async def head_comes_slowly(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    await peer.closed()


async def test_a_cancelled_request_closes_its_socket() -> None:
    for play in (head_never_comes, head_comes_slowly):
        async with serving(play) as server, client_of() as client:
            request = asyncio.create_task(client.send(post(server), AUTHORIZATION, b"{}"))
            await until(lambda: server.peers)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await server.end()
            await no_socket_to(server.port)


async def test_a_closed_response_closes_its_socket_and_fails_its_reader() -> None:
    async with serving(answering(CHUNKED + b"5\r\nHello\r\n")) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        assert await answer.read() == b"Hello"
        reader = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        answer.close()
        with pytest.raises(Disconnected):
            await reader
        await server.end()
        await no_socket_to(server.port)


async def test_a_cancelled_reader_leaves_the_response_usable() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await more.wait()
        await peer.send(b"5\r\nHello\r\n0\r\n\r\n")
        await peer.closed()

    more = asyncio.Event()
    async with serving(play) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, b"{}")
        reader = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        more.set()
        assert await read(answer) == b"Hello"


async def test_closing_the_client_closes_free_and_running_connections() -> None:
    async with serving(answering(HELLO, CHUNKED)) as server, client_of() as client:
        await asyncio.gather(ask(client, server), ask(client, server))
        running = await client.send(post(server), AUTHORIZATION, b"{}")
        client.close()
        await server.end()
        await no_socket_to(server.port)
        with pytest.raises(TransportError):
            await running.read()


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener that accepts no more connections: the kernel drops the requests for more of them."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    queued = []
    while True:
        one = socket.socket()
        queued.append(one)
        one.settimeout(0.1)
        try:
            one.connect(listener.getsockname())
        except TimeoutError:
            return listener, queued


async def test_a_connection_that_does_not_come_about_is_cancelled_or_times_out() -> None:
    listener, queued = full_listener()
    port = listener.getsockname()[1]
    for one in queued:
        one.close()
    endpoint = Endpoint("GET", f"http://127.0.0.1:{port}/")
    try:
        async with client_of(0.05) as client:
            with pytest.raises(ConnectTimeout):
                await client.send(endpoint)
            await no_socket_to(port)
        async with client_of() as client:
            request = asyncio.create_task(client.send(endpoint))
            await until(lambda: sockets_to(port))
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await no_socket_to(port)
    finally:
        listener.close()


def address(port: int) -> dialing.Address:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))


async def test_addresses_are_tried_side_by_side() -> None:
    silent, queued = full_listener()
    async with serving(Peer.closed) as server:
        for others in ([free_port()], [silent.getsockname()[1]], [silent.getsockname()[1], free_port()]):
            with await dialing._race([*map(address, others), address(server.port)]) as winner:
                assert winner.getpeername()[1] == server.port
            for port in others:
                assert sockets_to(port) <= len(queued)
    with pytest.raises(ConnectionRefusedError):
        await dialing._race([address(free_port()), address(free_port())])
    for one in (silent, *queued):
        one.close()


def test_families_of_addresses_alternate() -> None:
    six, four = (socket.AF_INET6, 0, 0, "", ("::1",)), (socket.AF_INET, 0, 0, "", ("127.0.0.1",))
    assert dialing._interleaved([six, six, six, four]) == [six, four, six, six]
    assert dialing._interleaved([four, four]) == [four, four]


async def test_nothing_shows_a_key() -> None:
    async with serving(answering(CHUNKED)) as server, client_of() as client:
        answer = await client.send(post(server), AUTHORIZATION, SECRET.encode())
        assert SECRET not in repr((vars(client), vars(answer), answer, *client._open, *map(vars, client._open)))


def test_bounds_are_as_documented() -> None:
    assert (connection.HEAD_BYTES, connection.HEADERS, response.BUFFER_BYTES) == (65536, 256, 65536)
