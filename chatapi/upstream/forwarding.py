"""Requests that are passed on to an upstream as they are, and their responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamBroken
from chatapi.http_client import Response, TransportError
from chatapi.model import Limit
from chatapi.upstream.metadata import ResponseMetadata

HEADERS = ("content-type", "content-length", "content-disposition", "content-range", "accept-ranges")
_HEADER_CHARACTERS = 1000


class ForwardedRequest(msgspec.Struct, frozen=True):
    """A request: its path below the base URL, its query without `?`, and headers to send.

    `length` is that of the body; None if it is not known, 0 without a body.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    length: int | None


class ForwardedAnswer:
    """The response to a request that was passed on."""

    def __init__(
        self, response: Response, credential: Credential, metadata: ResponseMetadata, refusal: bytes | None
    ) -> None:
        """`refusal`: the body, if it was read already."""
        self.status = response.status
        self._response = response
        self._refusal = credential.hide(refusal.decode("utf-8", "replace")).encode() if refusal is not None else None
        self.limit: Limit | None = metadata.limit
        self.metadata = metadata
        self.headers = dict(metadata.headers)
        for name in HEADERS:
            value = response.headers.get(name)
            if value is not None and value.isprintable() and len(value) <= _HEADER_CHARACTERS:
                self.headers[name] = credential.hide(value)
        if self._refusal is not None:
            self.headers["content-length"] = str(len(self._refusal))
            if (retry := response.headers.get("retry-after", "")) and retry.isascii() and retry.isprintable():
                self.headers["retry-after"] = retry[:40]

    async def read(self, most_bytes: int) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives.

        Raises:
            UpstreamBroken: it broke off, or has more than `most_bytes`.
        """
        if self._refusal is not None:
            yield self._refusal
            return
        sent = 0
        try:
            while data := await self._response.read():
                sent += len(data)
                if sent > most_bytes:
                    raise UpstreamBroken("The model API's response is larger than this server passes on.")
                yield data
        except TransportError as error:
            raise UpstreamBroken from error
