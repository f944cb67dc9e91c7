"""The body of an answer as a stream of events, or as one JSON document: the part that both protocols share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from chatapi.errors import UpstreamError
from chatapi.upstream.provider import Deltas
from chatapi.wire.sse import Decoder

BROKE_OFF = "The model API's answer broke off before its end. What came before is kept."


class EventParser(ABC):
    """Takes the bytes of one answer, however they are cut. Subclasses read the events of their protocol."""

    document_starts: ClassVar[tuple[bytes, ...]]
    """The first bytes of a document of this protocol."""

    def __init__(self) -> None:
        self.done = False
        self.error: UpstreamError | None = None
        self._events = Decoder()
        self._seen = False  # an event

    def feed(self, data: bytes) -> Deltas | None:
        """Take bytes and return the content in them; None if they complete no event."""
        try:
            payloads = self._events.feed(data)
        except UpstreamError as error:
            return self._fail(error, [])
        if not payloads:
            return None
        self._seen = True
        return self._take_all(payloads)

    def end(self) -> Deltas:
        """Take the end of the body, and return the rest of the content."""
        rest = self._events.end()
        if not self._seen and rest.lstrip().startswith(self.document_starts):
            return self.document(rest)  # JSON under another name
        deltas = self._take_all(self._events.last_events(rest), at_end=True)
        return deltas if self.done else deltas + self.conclude(BROKE_OFF)

    def document(self, body: bytes) -> Deltas:
        """Take an answer that came as one JSON object, though a stream was asked for; or as events under that name."""
        if body.lstrip().startswith((b"data:", b"event:", b"id:", b":")):
            deltas = self.feed(body) or []
            return deltas if self.done else deltas + self.end()
        deltas = self._take_all([body])
        return deltas if self.done else deltas + self.conclude()

    @abstractmethod
    def conclude(self, no_end: str = ...) -> Deltas:
        """End the answer here and return content that was held. `no_end` is the error if it has not ended well."""

    @abstractmethod
    def _take_all(self, payloads: list[bytes], *, at_end: bool = False) -> Deltas:
        """Take the data of events and return the content in them."""

    def _fail(self, error: UpstreamError, deltas: Deltas) -> Deltas:
        self.error, self.done = error, True
        return deltas
