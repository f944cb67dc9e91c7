"""The upstream: any server that speaks OpenAI's chat completions, read as bytes.

This is the seam at which foreign errors become ours, and the last place that a key reaches. Everything that comes from
the other side is bounded and suspected: no redirects, no content encoding, no cookies, no proxies from the environment.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from math import isnan
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from chatapi import __version__
from chatapi.auth.keys import Key
from chatapi.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamErrorBody,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatapi.model import Kind, Limit, ToolCall, Usage
from chatapi.upstream.tool_calls import ToolCallAssembler
from chatapi.wire.sse import Decoder

RETRIES = 2  # before the first byte of an answer only
RETRY_SECONDS = 0.25  # the first pause; it doubles
SHORT_RETRY_SECONDS = 2.0  # a Retry-After up to here is waited for; a longer one is the caller's to wait
LONGEST_RETRY_SECONDS = 3600.0  # a Retry-After beyond is passed on as this
ERROR_BODY_SECONDS = 2.0  # to read it in
ERROR_BYTES = 64 * 1024  # of an error body that are read
FINISH_CHARACTERS = 64  # of a finish reason; those of OpenAI's protocol have at most 14
DETAIL_CHARACTERS = 400  # of an upstream's own sentence that are passed on
LINGER_SECONDS = 1.0  # to wait for the end of a response whose last event has come, so that its connection is reused
PASSED_ON = frozenset({"x-request-id", "openai-processing-ms", "openai-version"})
RATE_FAMILY = ("x-ratelimit-limit-", "x-ratelimit-remaining-", "x-ratelimit-reset-")  # OpenAI's; ours has no ending
UPSTREAM_REQUEST_ID = "x-upstream-request-id"  # the name under which theirs is passed on, beside ours


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    annotations: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    param: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class _Finish(msgspec.Struct):
    finish_reason: str | None = None
    index: int = 0


class _FinishChunk(msgspec.Struct):
    choices: list[_Finish] | None = None


class _Failure(msgspec.Struct):
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode
# What is passed on is only looked at for these: whatever else it holds is the upstream's own affair.
_decode_finish = msgspec.json.Decoder(_FinishChunk).decode
_decode_failure = msgspec.json.Decoder(_Failure).decode
_decode_whole = msgspec.json.Decoder(_Failure | list[msgspec.Raw]).decode  # some list their models without an object

Deltas = list[tuple[Kind, str, ToolCall | None]]


@dataclass(slots=True)
class Answer:
    """An upstream's answer as it comes: `read` its text, then look at how it ended."""

    response: aiohttp.ClientResponse
    key: Key  # to hide it, should the upstream repeat it
    limit: Limit | None
    headers: dict[str, str]
    finish_reason: str | None = None
    usage: Usage | None = None
    deltas: int = 0
    done: bool = False
    _decoder: Decoder = field(default_factory=Decoder)
    _calls: ToolCallAssembler | None = None

    async def read(self) -> AsyncGenerator[Deltas]:
        """Yield the text of each network read that held an event; the list is empty where they held no text.

        Raises:
            UpstreamBroken: it broke off before its finish marker, or what it sent is not the protocol.
            UpstreamError: it said so itself, in the stream.
        """
        read_some = partial(_read_some, self.response.content)
        while not self.done:
            try:
                data = await read_some()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if self.finish_reason is not None:  # the answer is whole; only its usage may be missing
                    return
                raise UpstreamBroken from error
            if not data:
                if self.finish_reason is None:
                    raise UpstreamBroken("The model API's answer broke off before its end. What came before is kept.")
                return
            if payloads := self._decoder.feed(data):
                deltas: Deltas = []
                try:
                    for payload in payloads:
                        self._take(payload, deltas)
                    self._require_finish()
                except UpstreamError:
                    if deltas:
                        yield deltas  # what came before the fault is kept
                    raise
                yield deltas

    def _require_finish(self) -> None:
        """An end is no finish: some servers say `[DONE]` after whatever broke them."""
        if self.done and self.finish_reason is None:
            raise UpstreamBroken("The model API ended its answer without saying that it was finished.")

    def _take(self, payload: bytes, deltas: Deltas) -> None:
        """Read one event; its text goes to `deltas`."""
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _decode_chunk(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamBroken("The model API sent an event that is not in its protocol.") from error
        if chunk.error:
            raise UpstreamBroken(_sentence(_read_error(payload), self.key))
        if chunk.usage is not None:
            self.usage = _usage(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index:  # one answer was asked for
                continue
            if choice.delta is not None:
                self._take_delta(choice.delta, deltas)
            if choice.finish_reason:  # some say "" until there is one
                self.finish_reason = _storable(choice.finish_reason)[:FINISH_CHARACTERS]
                if self._calls is not None:
                    deltas += [(Kind.TOOL_CALL, text, call) for call, text in self._calls.end()]

    def _take_delta(self, delta: _Delta, deltas: Deltas) -> None:
        for kind, text in (
            (Kind.REASONING, delta.reasoning_content or delta.reasoning),
            (Kind.TEXT, delta.content),
            (Kind.REFUSAL, delta.refusal),
        ):
            if text:
                self.deltas += 1
                deltas.append((kind, _storable(text), None))
        if delta.tool_calls:
            self._take_calls(delta.tool_calls, deltas)
        for annotation in delta.annotations or ():
            deltas.append((Kind.ANNOTATION, msgspec.json.encode(annotation).decode() + "\n", None))

    def _take_calls(self, called: list[_ToolCall], deltas: Deltas) -> None:
        if self._calls is None:
            self._calls = ToolCallAssembler()
        self.deltas += 1
        for one in called:
            function = one.function or _Function()
            writes = self._calls.take(one.index or 0, one.id, function.name, function.arguments)
            deltas += [(Kind.TOOL_CALL, text, call) for call, text in writes]


# A key: inside a string its quotes would have backslashes. And a reason: some say "" until there is one.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')


@dataclass(slots=True)
class Relay:
    """An upstream's stream, passed on as it comes: whole events, and not decoded."""

    response: aiohttp.ClientResponse
    key: Key
    limit: Limit | None
    headers: dict[str, str]
    choices: int  # how many answers were asked for; each has to finish
    done: bool = False
    failed: bool = False  # the upstream said so itself, in an event that was passed on
    _finished: set[int] = field(default_factory=set)  # the answers that have said so
    _decoder: Decoder = field(default_factory=Decoder)

    async def read(self) -> AsyncGenerator[bytes]:
        """Yield the events of each network read, up to `[DONE]`, which is only said after the finish marker.

        Raises:
            UpstreamBroken: it broke off before its finish marker; what came before was yielded.
        """
        read_some = partial(_read_some, self.response.content)
        while not (self.done or self.failed):
            try:
                data = await read_some()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if len(self._finished) < self.choices:
                    raise UpstreamBroken from error
                data = b""
            if data:
                if (payloads := self._decoder.feed(data)) and (frames := self._frames(payloads)):
                    yield frames
                continue
            self._require_finish()
            yield b"data: [DONE]\n\n"
            return
        if self.done and not self.failed:
            self._require_finish()
            yield b"data: [DONE]\n\n"

    def _require_finish(self) -> None:
        if len(self._finished) < self.choices:
            raise UpstreamBroken("The model API's answer broke off before its end.")

    def _frames(self, payloads: list[bytes]) -> bytes:
        """The events as they are passed on. Comments, names and ids are the upstream's own affair, and left out."""
        if b"[DONE]" in payloads:
            self.done = True
            payloads = payloads[: payloads.index(b"[DONE]")]
            if not payloads:
                return b""
        joined = b"\n\ndata: ".join(payloads)
        if _FINISH.search(joined):
            self._note_finishes(payloads)
        if b'"error"' in joined:
            payloads = self._until_error(payloads)
            joined = b"\n\ndata: ".join(payloads)
        if joined.count(b"\n") > 2 * (len(payloads) - 1):  # data of several lines, which no known upstream sends
            joined = b"\n\ndata: ".join([payload.replace(b"\n", b"\ndata: ") for payload in payloads])
        return b"data: %b\n\n" % joined

    def _note_finishes(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            if _FINISH.search(payload):
                with suppress(msgspec.DecodeError, RecursionError):  # what cannot be read has not finished
                    self._finished.update(
                        one.index for one in _decode_finish(payload).choices or () if one.finish_reason
                    )

    def _until_error(self, payloads: list[bytes]) -> list[bytes]:
        """The events up to the first that tells of an error, and that one without the key."""
        for number, payload in enumerate(payloads):
            try:
                said = b'"error"' in payload and _decode_failure(payload).error
            except (msgspec.DecodeError, RecursionError):
                said = None
            if said:
                self.failed = True
                return [*payloads[:number], self.key.hide(payload.decode(errors="replace")).encode()]
        return payloads


@dataclass(frozen=True, slots=True)
class WholeResponse:
    """An upstream's answer that came in one piece."""

    body: bytes
    limit: Limit | None
    headers: dict[str, str]


class Upstream:
    """One pooled client of one model API."""

    def __init__(self, base_url: str, connect_seconds: float) -> None:
        self._completions = URL(f"{base_url}/chat/completions")
        self._models = URL(f"{base_url}/models")
        self._connect_seconds = connect_seconds
        self._client: aiohttp.ClientSession
        self._lingering: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the client. Nothing is sent."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # running answers are limited elsewhere, by name
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": f"openai-chat-api/{__version__}", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close every connection."""
        for task in self._lingering:
            task.cancel()
        await self._client.close()

    @asynccontextmanager
    async def stream(self, key: Key, body: bytes) -> AsyncIterator[Answer]:
        """Ask for a completion and give its answer. Leaving the block closes the connection, unless it is done with.

        Raises:
            UpstreamError: it refused, is broken, or cannot be reached; after two retries where that may help.
        """
        response = await self._ask(key, body)
        answer = Answer(response, key, _request_limit(response), _passed_on(response, key))
        try:
            yield answer
        finally:
            self.release(answer)

    async def relay(self, key: Key, body: bytes, choices: int) -> Relay:
        """Ask for a streamed completion, to pass it on; the caller lets go of it with `release`.

        Raises:
            UpstreamError: it refused, is broken, or cannot be reached; after two retries where that may help.
        """
        response = await self._ask(key, body)
        return Relay(response, key, _request_limit(response), _passed_on(response, key), choices)

    async def complete(self, key: Key, body: bytes, most_bytes: int) -> WholeResponse:
        """Ask for a completion in one piece.

        Raises:
            UpstreamError: it refused, is broken, or cannot be reached; after two retries where that may help.
        """
        response = await self._ask(key, body, "application/json")
        return await self._whole(response, key, most_bytes)

    async def models(self, key: Key, most_bytes: int, seconds: float, name: str | None = None) -> WholeResponse:
        """The upstream's list of models, or what it says of one.

        Raises:
            UpstreamError: it refused, or did not answer in so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._request("GET", self._models / name if name else self._models, key, None)
                try:
                    await self._refuse_errors(response, key)
                    _require(response, "application/json")
                except BaseException:
                    response.close()
                    raise
                return await self._whole(response, key, most_bytes)
        except TimeoutError as error:
            raise UpstreamTimeout("The model API did not answer in time.") from error

    async def _whole(self, response: aiohttp.ClientResponse, key: Key, most_bytes: int) -> WholeResponse:
        body = bytearray()
        try:
            while some := await response.content.readany():
                body += some
                if len(body) > most_bytes:
                    raise UpstreamBroken("The model API's answer is larger than this server passes on.")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamBroken from error
        finally:
            response.close() if not response.content.at_eof() else response.release()
        _require_whole(body, key)
        return WholeResponse(bytes(body), _request_limit(response), _passed_on(response, key))

    async def check_key(self, key: Key, seconds: float) -> None:
        """Return when the upstream knows the key. Asks for its list of models, which costs nothing.

        Raises:
            UpstreamRejectedKey, UpstreamForbidden: it does not, or not for this.
            UpstreamError: it cannot be asked, or not in so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._request("GET", self._models, key, None)
                try:
                    await self._refuse_errors(response, key)
                    _require(response, "application/json")
                finally:
                    response.close()
        except TimeoutError as error:
            raise UpstreamTimeout("The model API did not answer in time.") from error

    async def _ask(self, key: Key, body: bytes, media_type: str = "text/event-stream") -> aiohttp.ClientResponse:
        for attempt in range(RETRIES + 1):
            try:
                response = await self._request("POST", self._completions, key, body)
                try:
                    await self._refuse_errors(response, key)
                    _require(response, media_type)
                except BaseException:
                    response.close()
                    raise
                return response
            except (UpstreamUnavailable, UpstreamRateLimited) as error:
                pause = _pause_before_retry(error, attempt)
                if attempt == RETRIES or pause is None:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _request(self, method: str, url: URL, key: Key, body: bytes | None) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {key.reveal()}", "Accept": "text/event-stream, application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return await self._client.request(method, url, data=body, headers=headers, allow_redirects=False)
        except aiohttp.ServerTimeoutError as error:
            raise UpstreamTimeout("The model API could not be connected to in time.") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise UpstreamUnavailable("The model API cannot be reached. Try again as Retry-After says.") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamBroken("The model API did not answer in HTTP.") from error

    async def _refuse_errors(self, response: aiohttp.ClientResponse, key: Key) -> None:
        """Raise the error that the status says, unless it is 200."""
        if response.status == HTTPStatus.OK:
            return
        said = _read_error(await _error_body(response))
        error = _status_error(response, said, key)
        error.said = _said(response.status, said, key)
        error.limit = _request_limit(response)
        error.headers |= _passed_on(response, key)
        raise error

    def release(self, answer: Answer | Relay) -> None:
        """Give the connection back when its response has been read to the end, else close it."""
        if not answer.done:
            answer.response.close()
        elif answer.response.content.at_eof():
            answer.response.release()
        else:
            task = asyncio.create_task(_linger(answer.response), name="upstream-linger")
            self._lingering.add(task)
            task.add_done_callback(self._lingering.discard)


async def _read_some(content: aiohttp.StreamReader) -> bytes:
    """What has come; nothing at the end.

    When a connection breaks, aiohttp raises before it hands out what came before (`StreamReader.readany`, 3.14). Here
    that comes first, and the next call raises.
    """
    try:
        return await content.readany()
    except (aiohttp.ClientError, OSError):
        came = b"".join(content._buffer)
        content._buffer.clear()
        if came:
            return came
        raise


async def _linger(response: aiohttp.ClientResponse) -> None:
    """Read the end of a response that is all but over, for a moment; then close it if it is not."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            if not await response.content.readany():
                response.release()
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass  # its connection is not reused, and nothing else hangs on it
    finally:
        response.close()


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """The body of a refusal, as far as it comes soon; the status alone says enough."""
    body = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            while len(body) < ERROR_BYTES and (some := await response.content.readany()):
                body += some
    return body


def _require(response: aiohttp.ClientResponse, media_type: str) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UpstreamBroken("The model API compressed its answer, though it was asked not to.")
    if response.content_type != media_type:
        raise UpstreamBroken(f"The model API did not answer with {media_type}.")


def _require_whole(body: bytearray, key: Key) -> None:
    """Raise where an answer in one piece tells of an error, or is half of one, as a server that broke may send it."""
    try:
        said = _decode_whole(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamBroken("The model API's answer is not whole, or no JSON.") from error
    if isinstance(said, _Failure) and said.error:
        raise UpstreamBroken(_sentence(_read_error(body), key))


def _pause_before_retry(error: UpstreamError, attempt: int) -> float | None:
    """How long to wait before the next attempt, or None where the caller should be told at once."""
    backoff = RETRY_SECONDS * 2**attempt * random.uniform(0.75, 1.25)
    if isinstance(error, UpstreamRateLimited) and not error.retryable:
        return None
    asked = error.asked_to_wait
    if asked is None:
        return None if isinstance(error, UpstreamRateLimited) else backoff
    return max(asked, backoff) if asked <= SHORT_RETRY_SECONDS else None


def _read_error(body: bytes | bytearray) -> _Error:
    try:
        return _decode_error(body).error
    except (msgspec.DecodeError, RecursionError):
        return _Error()


def _sentence(error: _Error, key: Key) -> str | None:
    """The upstream's own words, without the key, and not too many."""
    return _storable(key.hide(error.message))[:DETAIL_CHARACTERS] if error.message else None


def _storable(text: str) -> str:
    """`text` without NUL: no database and no terminal is the better for one, and PostgreSQL refuses it."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _said(status: int, said: _Error, key: Key) -> UpstreamErrorBody | None:
    """The upstream's refusal in its own words, for callers who speak its protocol; without the key."""
    if not said.message or not HTTPStatus.BAD_REQUEST <= status < 600:
        return None
    own = [
        key.hide(str(one))[:DETAIL_CHARACTERS] if one is not None else None
        for one in (said.type, said.param, said.code)
    ]
    return UpstreamErrorBody(status, _sentence(said, key) or "", *own)


def _status_error(response: aiohttp.ClientResponse, said: _Error, key: Key) -> UpstreamError:
    """Our error for an upstream's status."""
    status = response.status
    wait = _retry_after(response)
    if status == HTTPStatus.UNAUTHORIZED:
        return UpstreamRejectedKey()
    if status == HTTPStatus.FORBIDDEN:
        return UpstreamForbidden()
    if status == HTTPStatus.NOT_FOUND:
        return UpstreamModelNotFound()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        limited = UpstreamRateLimited(_sentence(said, key), retry_after=wait)
        limited.asked_to_wait = wait
        limited.retryable = said.code != "insufficient_quota"
        return limited
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}:
        return UpstreamTimeout()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        unavailable = UpstreamUnavailable(retry_after=wait)
        unavailable.asked_to_wait = wait
        return unavailable
    if status >= HTTPStatus.BAD_REQUEST:
        return UpstreamRejectedRequest(_sentence(said, key))
    return UpstreamBroken(f"The model API answered with status {status}, which is not in its protocol.")


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (RFC 9110, section 10.2.3), within reason."""
    try:
        if milliseconds := response.headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif value := response.headers.get("Retry-After"):
            seconds = (
                float(value) if value.strip()[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
            )
        else:
            return None
    except ValueError:
        return None
    return None if isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        completion.reasoning_tokens if completion else None,
        prompt.cached_tokens if prompt else None,
    )


def _request_limit(response: aiohttp.ClientResponse) -> Limit | None:
    """The upstream's own request limit, where it tells."""
    limit = response.headers.get("x-ratelimit-limit-requests", "")
    remaining = response.headers.get("x-ratelimit-remaining-requests", "")
    if len(limit) < 16 and limit.isdecimal() and len(remaining) < 16 and remaining.isdecimal():
        return Limit(int(limit), int(remaining))
    return None


def _passed_on(response: aiohttp.ClientResponse, key: Key) -> dict[str, str]:
    """The headers that a caller is shown as they are; short ones, and free of anything like a key."""
    shown = {}
    for header, value in response.headers.items():
        name = header.lower()
        if (name in PASSED_ON or name.startswith(RATE_FAMILY)) and value.isascii() and value.isprintable():
            shown[UPSTREAM_REQUEST_ID if name == "x-request-id" else name] = key.hide(value)[:200]
    return shown
