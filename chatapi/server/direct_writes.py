"""Parts of a response, written to the connection without uvicorn's `send`: at once, without a task of their own."""

from __future__ import annotations

import re
from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

OK = 200
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED_END = b"transfer-encoding: chunked\r\n\r\n"
CLOSING_END = b"connection: close\r\n" + CHUNKED_END
_SEPARATE = frozenset({b"content-length", b"transfer-encoding", b"connection"})  # headers that uvicorn has to see
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token (RFC 9110, section 5.6.2)
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in a field value (RFC 9110, section 5.5)


def write_head(cycle: RequestResponseCycle, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Write the head of a chunked response as uvicorn's `send` does; return whether that was possible.

    Raises:
        RuntimeError: a name or a value is not one that HTTP allows.
    """
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or status != OK:
        return False
    if not _SEPARATE.isdisjoint([name for name, _ in headers]) or cycle.scope["method"] == "HEAD":
        return False
    if _FORBIDDEN.search(b"".join([value for _, value in headers])):
        raise RuntimeError("A header of the response has a value that HTTP does not allow.")
    fields = [b"%b%b\r\n" % (_field(name), value) for name, value in headers]
    cycle.response_started = cycle.chunked_encoding = True
    cycle.waiting_for_100_continue = False
    end = CHUNKED_END if cycle.keep_alive else CLOSING_END
    cycle.transport.write(b"".join([STATUS_LINE, *_default_fields(cycle), *fields, end]))
    return True


def _default_fields(cycle: RequestResponseCycle) -> list[bytes]:
    return [b"%b: %b\r\n" % header for header in cycle.default_headers]


@lru_cache(512)  # far more names than responses have
def _field(name: bytes) -> bytes:
    """Return the beginning of a header line."""
    if not _NAME.fullmatch(name):
        raise RuntimeError("A header of the response has a name that HTTP does not allow.")
    return name.lower() + b": "


def write_now(cycle: RequestResponseCycle, body: bytes) -> bool:
    """Write a part of a chunked response as uvicorn's `send` does; return whether that was possible without waiting."""
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_complete or not cycle.chunked_encoding:
        return False
    if body:  # an empty chunk would end the response
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
    return True
