"""The interface of upstream protocols: a provider turns a `ModelRequest` into a request, and its stream into deltas.

A provider is pure: it writes JSON and reads bytes. `client.py` sends and receives for all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamError
from chatapi.model import Kind, ToolCall, Usage
from chatapi.upstream.request import ModelRequest

Deltas = list[tuple[Kind, str, ToolCall | None]]
"""Content for a log, in order: kind, text, and the call of a tool call."""


class Parser(Protocol):
    """Reads one answer. `feed` takes its bytes, however they are cut, and `end` its end; `error` is set afterwards."""

    error: UpstreamError | None

    @property
    def finish_reason(self) -> str | None:
        """The finish reason so far, in the words of chat completions where it is known."""

    @property
    def usage(self) -> Usage | None:
        """The tokens as the upstream counted them, if it did."""

    @property
    def deltas(self) -> int:
        """The pieces of content so far, about one token each."""

    @property
    def done(self) -> bool:
        """Whether the answer has ended, so that nothing more is read of it."""

    @property
    def is_complete(self) -> bool:
        """Whether the upstream has declared the answer complete."""

    def feed(self, data: bytes) -> Deltas | None:
        """Take bytes and return the content in them; None if they complete no event."""

    def end(self) -> Deltas:
        """Take the end of the body, and return the rest of the content."""

    def document(self, body: bytes) -> Deltas:
        """Take an answer that came as one JSON object, though a stream was asked for."""

    def cut_off(self, error: UpstreamError) -> Deltas:
        """Take a connection that broke, and return content that was held."""

    def conclude(self) -> Deltas:
        """End the answer here, and return content that was held."""


class Provider(Protocol):
    """One protocol of one upstream. `path` is that of its requests, below the base URL."""

    @property
    def path(self) -> str:
        """The path of requests, without a slash at its beginning."""

    def write(self, request: ModelRequest, adjustments: frozenset[str]) -> dict[str, Any]:
        """Return the body of a request.

        Raises:
            InvalidRequest: the protocol has no such parameter; the error names it.
        """

    def find_adjustment(self, refusal: str, body: dict[str, Any], adjustments: frozenset[str]) -> str | None:
        """Find the adjustment that a refusal asks for; None if it is about something that the caller sent."""

    def explain(self, error: UpstreamError) -> UpstreamError:
        """Return the error of a refusal, with what an operator can do about it."""

    def parser(self, credential: Credential, request: ModelRequest) -> Parser:
        """Return a parser for the answer to a request."""
