"""An upstream's answer that is passed on as it is: whole events, which are not decoded.

Events are looked at for two things only: finish reasons, because `[DONE]` is sent only after one, and errors, because
they may contain the key.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamBroken
from chatapi.http_client import Response, TransportError
from chatapi.upstream.metadata import ResponseMetadata
from chatapi.wire.loose_json import UNREADABLE
from chatapi.wire.sse import Decoder

DONE = b"data: [DONE]\n\n"
BROKE_OFF = "The model API's answer broke off before its end."

# A key: inside a string its quotes would have backslashes. And a reason: some send "" until there is one.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    index: Any = 0


class _Choices(msgspec.Struct):
    choices: list[_Choice] | None = None


class _Failure(msgspec.Struct):
    error: Any = None


# Only these members of an event are read; the others concern the upstream and the client alone.
_decode_choices = msgspec.json.Decoder(_Choices).decode
_decode_failure = msgspec.json.Decoder(_Failure).decode


class PassthroughBody(msgspec.Struct, frozen=True):
    """An answer that came in one piece."""

    body: bytes
    metadata: ResponseMetadata


class Passthrough(msgspec.Struct):
    """A streamed answer on its connection. `choices` were asked for; each that began has to finish."""

    response: Response
    credential: Credential
    metadata: ResponseMetadata
    choices: int
    done: bool = False
    failed: bool = False  # the upstream reported an error itself, in an event that was passed on
    on_release: Callable[[], None] | None = None  # of several upstreams
    _begun: set[Any] = msgspec.field(default_factory=set)  # choices, where several were asked for
    _finished: set[Any] = msgspec.field(default_factory=set)
    _decoder: Decoder = msgspec.field(default_factory=Decoder)

    async def read(self) -> AsyncGenerator[bytes]:
        """Yield the events of each network read, up to `[DONE]`, which is only sent after the finish reason.

        Raises:
            UpstreamBroken: it broke off before its finish reason; the events before that were yielded.
        """
        while not (self.done or self.failed):
            try:
                data = await self.response.read()
            except TransportError as error:
                if not self._is_finished():
                    raise UpstreamBroken from error
                break
            payloads = self._decoder.feed(data) if data else self._decoder.last_events(self._decoder.end())
            if payloads and (frames := self._frames(payloads)):
                yield frames
            if not data:
                break
        if self.failed:
            return
        if not self._is_finished():
            raise UpstreamBroken(BROKE_OFF)
        yield DONE

    def _is_finished(self) -> bool:
        """Whether every choice that began has finished; some servers ignore `n` and give one."""
        return bool(self._finished) and self._begun <= self._finished

    def _frames(self, payloads: list[bytes]) -> bytes:
        """The events as they are passed on. Comments, names and ids are left out: they belong to one connection."""
        for number, payload in enumerate(payloads):
            if len(payload) < len(DONE) and payload.strip() == b"[DONE]":
                self.done = True
                payloads = payloads[:number]
                break
        payloads = [payload for payload in payloads if payload.strip()] if b"" in payloads else payloads
        if not payloads:
            return b""
        joined = b"\n\ndata: ".join(payloads)
        if self.choices > 1 or _FINISH.search(joined):
            self._note_choices(payloads)
        if b'"error"' in joined:
            payloads = self._until_error(payloads)
            joined = b"\n\ndata: ".join(payloads)
        if joined.count(b"\n") > 2 * (len(payloads) - 1):  # data of several lines, which no known upstream sends
            joined = b"\n\ndata: ".join([payload.replace(b"\n", b"\ndata: ") for payload in payloads])
        return b"data: %b\n\n" % joined

    def _note_choices(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            try:
                choices = _decode_choices(payload).choices or ()
            except UNREADABLE:
                if _FINISH.search(payload):
                    self._finished.add(0)  # it cannot be read here; whether it can be is the client's affair
                continue
            for choice in choices:
                index = choice.index if isinstance(choice.index, int | str) else 0
                if self.choices > 1:
                    self._begun.add(index)
                if choice.finish_reason:
                    self._finished.add(index)

    def _until_error(self, payloads: list[bytes]) -> list[bytes]:
        """The events up to the first that reports an error, and that one without the key."""
        for number, payload in enumerate(payloads):
            try:
                error = b'"error"' in payload and _decode_failure(payload).error
            except UNREADABLE:
                error = None
            if error:
                self.failed = True
                return [*payloads[:number], self.credential.hide(payload.decode(errors="replace")).encode()]
        return payloads
