"""The address of requests, and their heads. No name or value can add a line to a head (RFC 9110, section 5.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+").fullmatch
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # everything else is percent-encoded
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})  # HEAD has responses that are framed otherwise
_OWN = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer"})
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where connections lead; connections to equal origins are interchangeable."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint:
    """A method, a URL and the headers of all requests there; checked and encoded once.

    Raises:
        ValueError: the URL is not usable, or a header is not valid HTTP or belongs to the client.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if method not in _METHODS:
            raise ValueError(f"the method must be one of {', '.join(sorted(_METHODS))}")
        if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or parts.fragment:
            raise ValueError("the URL must be a http or https URL without a user and a fragment")
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
        if not _HOST(host):
            raise ValueError("the URL must name a host")
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTABLE)
        default = _PORTS[parts.scheme]
        self.method = method
        self.origin = Origin(parts.scheme, host, parts.port or default)
        named = self.origin.authority if self.origin.port != default else self.origin.authority.rpartition(":")[0]
        self._head = f"{method} {target} HTTP/1.1\r\nHost: {named}\r\n".encode() + encode_headers(
            (headers or {}).items()
        )

    def head(self, headers: Iterable[tuple[str, str]], length: int | None) -> bytes:
        """Return the head of a request with these headers too. A body of unknown length, None, is chunked.

        Raises:
            ValueError: a header is not valid HTTP, or belongs to the client.
        """
        if length is None:
            framing = b"Transfer-Encoding: chunked\r\n\r\n"
        elif length or self.method != "GET":
            framing = b"Content-Length: %d\r\n\r\n" % length
        else:
            framing = b"\r\n"
        return b"%b%b%b" % (self._head, encode_headers(headers), framing)


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines.

    Raises:
        ValueError: a name or a value is not valid HTTP, or the header belongs to the client. No value is in the text.
    """
    lines = []
    for name, value in headers:
        if not _TOKEN(name) or not _VALUE(value):
            raise ValueError(f"the header {name[:40]!r} is not valid HTTP")
        if name.lower() in _OWN:
            raise ValueError(f"the header {name} is set by the client")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
