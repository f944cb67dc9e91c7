"""A client over a bare socket: it has every byte of a response as soon as the byte arrives."""

from __future__ import annotations

import json
import re
import socket
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.server_process import KEY, Service

READ_SECONDS = 20.0  # a read that takes longer has failed
RECEIVE_BYTES = 64 * 1024
EVENTS = {"Accept": "text/event-stream"}

_CHUNK_HEAD = re.compile(rb"(?:\r\n)?([0-9a-fA-F]+)\r\n")


def text_of_event(data: dict[str, str]) -> str:
    """Return the text that an event appends to its part."""
    return data["arguments"] if "arguments" in data else data["text"]


class Reader:
    """One request over a bare socket.

    `body` has the bytes received so far, without their framing. `ended` is True after a clean end, never after a cut.
    """

    def __init__(
        self,
        url: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self.body = bytearray()
        self.ended = False
        self._wire = bytearray()
        self._left = 0  # bytes of the body before the next chunk's head
        self._socket = socket.socket()
        weakref.finalize(self, self._socket.close)  # a failed test leaves it open
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(READ_SECONDS)
        self._socket.connect((address.hostname, address.port))
        self._socket.sendall(_request(address.netloc, path, body, headers or {}))
        self.status, self.headers = self._read_head()

    @classmethod
    def chat(cls, service: Service, text: str = "Hello", *, key: str = KEY, **more: Any) -> Reader:
        """POST /api/chat, in a new session unless `session_id` is given. Returns when the status has arrived."""
        wire = {name: more.pop(name) for name in ("headers", "receive_buffer") if name in more}
        if "session_id" not in more:
            more.setdefault("developer_message", "You are a helpful assistant.")
        return cls(service.url, "/api/chat", {"user_message": text, "api_key": key, **more}, **wire)

    @classmethod
    def resume(cls, service: Service, session_id: str, offset: int = 0, **wire: Any) -> Reader:
        """Read the session's last answer as text, from `offset` on."""
        return cls(service.url, f"/api/chat/{session_id}/stream?offset={offset}", **wire)

    @classmethod
    def resume_events(cls, service: Service, session_id: str, last_event_id: int = 0) -> Reader:
        """Read the session's last answer as events, from after `last_event_id` on."""
        headers = EVENTS | {"Last-Event-ID": str(last_event_id)}
        return cls(service.url, f"/api/chat/{session_id}/stream", headers=headers)

    @property
    def session_id(self) -> str:
        return self.headers["x-session-id"]

    @property
    def generation_id(self) -> str:
        return self.headers["x-generation-id"]

    def read_some(self) -> bytes:
        """Return the next bytes of the body; none if it has ended or was cut."""
        some = self._take()
        while not some and not self.ended and self._receive():
            some = self._take()
        self.body += some
        return some

    def read(self, size: int) -> bytes:
        """Return the first `size` bytes of the body, or all of a shorter one. More may have been received."""
        while len(self.body) < size and self.read_some():
            pass
        return bytes(self.body[:size])

    def read_until(self, text: str) -> bytes:
        """Read until the body contains `text`, or to its end; return the received bytes."""
        while text.encode() not in self.body and self.read_some():
            pass
        return bytes(self.body)

    def read_all(self) -> bytes:
        """Return the body up to its end, clean or not."""
        while self.read_some():
            pass
        return bytes(self.body)

    def events(self) -> list[tuple[str, int, Any]]:
        """Return the name, id and data of each event that was received whole."""
        found = []
        for block in self.body.decode(errors="ignore").split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
        return found

    def joined(self, *kinds: str) -> str:
        """Return the joined text of the received events of these kinds."""
        return "".join(text_of_event(data) for name, _, data in self.events() if name in kinds)

    def leave(self) -> None:
        """Close the connection without reading the rest."""
        self._socket.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._wire:
            if not self._receive():
                raise ConnectionError("the connection was closed without an answer")
        head, _, rest = bytes(self._wire).partition(b"\r\n\r\n")
        self._wire[:] = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "transfer-encoding" not in headers:
            self._left = int(headers.get("content-length", "0"))
            self.ended = self._left == 0
        return int(first.split(" ")[1]), headers

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        self._wire += data
        return bool(data)

    def _take(self) -> bytes:
        """Return the bytes of the body that were received, also of a chunk that is not whole yet."""
        taken = bytearray()
        while self._wire and not self.ended:
            if self._left:
                some = self._wire[: self._left]
                del self._wire[: self._left]
                self._left -= len(some)
                taken += some
                self.ended = self._left == 0 and "transfer-encoding" not in self.headers
            elif found := _CHUNK_HEAD.match(self._wire):
                self._left = int(found[1], 16)
                self.ended = self._left == 0
                del self._wire[: found.end()]
            else:
                break
        return bytes(taken)


def _request(host: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bytes:
    data = json.dumps(body).encode() if body is not None else b""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data
