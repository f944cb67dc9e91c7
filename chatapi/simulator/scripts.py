"""Scripts: predefined answers and faults for the simulator to play.

A script is a status, headers and steps (`Send`, `Pause`, `Wait`, `Hang`, `Cut`, `HalfClose`); after the last step the
body ends cleanly. Ready-made scripts follow: first correct ones (`answer`, `refuse`), then faulty ones, each of which
breaks exactly one rule of an otherwise correct answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from . import wire
from .record import ReceivedRequest

TEXT: Final = "Hello there, how can I help you today?"  # default text of a ready-made script
EMOJI_TEXT: Final = "Grüße 👋🏽 aus 東京, naïve 👩‍👩‍👧 café 🎉!"  # characters of two, three and four bytes
MIB: Final = 1024 * 1024


# --- steps ----------------------------------------------------------------------------------------------------------


class Gate:
    """Blocks scripts until a test opens it, from any thread. It stays open.

    `reached` is set when a script waits at the gate: everything before it was written to the socket.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened: Future[None] = Future()

    def open(self) -> None:
        """Let all scripts continue. Opening twice has no effect."""
        with contextlib.suppress(InvalidStateError):  # open already
            self._opened.set_result(None)

    async def wait(self) -> None:
        """Return when the gate is open."""
        self.reached.set()
        await asyncio.shield(asyncio.wrap_future(self._opened))  # shield: a disconnecting client must not open it


@dataclass(frozen=True, slots=True)
class Send:
    """Write the bytes in one write, or in writes of `piece_bytes` each."""

    data: bytes
    piece_bytes: int | None = None

    def pieces(self) -> Iterator[bytes]:
        """Return the writes in order."""
        size = self.piece_bytes or len(self.data)
        return (self.data[start : start + size] for start in range(0, len(self.data), size))


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for `seconds`. Consecutive pauses keep the schedule: oversleeping shortens the next pause."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Send nothing until the test opens the gate."""

    gate: Gate


@dataclass(frozen=True, slots=True)
class Hang:
    """Send nothing until the client disconnects."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Reset the connection (RST), without a final chunk."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Close the sending half of the connection (FIN) without a final chunk; wait for the client to disconnect."""


Step: TypeAlias = Send | Pause | Wait | Hang | Cut | HalfClose


@dataclass(frozen=True)
class Script:
    """A response to play: `before_headers`, status and headers, `steps`, clean end.

    The body is chunked unless `headers` contain Content-Length. A tuple of steps can be played repeatedly, an iterator
    once. A `Send` in `before_headers` is written raw, before the status line.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: Iterable[Step] = ()
    before_headers: Sequence[Step] = ()


Responder: TypeAlias = Callable[[ReceivedRequest], Script | None]


def in_turn(*scripts: Script | None) -> Responder:
    """Return a responder that plays one script per request, then repeats the last. None means the demo."""
    remaining = iter(scripts[:-1])
    return lambda _request: next(remaining, scripts[-1])


# --- correct --------------------------------------------------------------------------------------------------------


def answer(
    text: str = TEXT,
    *,
    chunk: int | None = None,
    pace_seconds: float = 0.0,
    usage: bool = True,
    finish_reason: str | None = "stop",
    done: bool = True,
    stream: bool = True,
    reasoning: str = "",
    model: str = wire.DEFAULT_SNAPSHOT,
) -> Script:
    """Return an answer in OpenAI's format, in deltas of `chunk` characters, or of one word each.

    `finish_reason=None` omits the finish chunk, `done=False` omits [DONE]. `stream=False` returns one JSON body.
    """
    content, thoughts = _deltas(text, chunk), _deltas(reasoning, chunk)
    cost = wire.Usage(completion_tokens=len(content) + len(thoughts), reasoning_tokens=len(thoughts))
    if not stream:
        body = wire.completion(
            text, model=model, finish_reason=finish_reason or "stop", usage=cost, reasoning=reasoning
        )
        return json_body(body, headers=_rate_headers(wire.JSON))
    steps = stream_steps(
        wire.Chunks(model, usage=usage),
        content,
        reasoning=thoughts,
        pace_seconds=pace_seconds,
        finish_reason=finish_reason,
        usage=cost if usage else None,
        done=done,
    )
    return event_stream(*steps)


def stream_steps(
    chunks: wire.Chunks,
    content: Iterable[str],
    *,
    reasoning: Iterable[str] = (),
    calls: Sequence[wire.ToolCall] = (),
    choices: int = 1,
    pace_seconds: float = 0.0,
    finish_reason: str | None = "stop",
    usage: wire.Usage | None = None,
    done: bool = True,
) -> Iterator[Step]:
    """Yield the steps of a streamed answer lazily, so that a long answer starts as fast as a short one.

    All choices have the same text; each step sends one delta per choice.
    """
    pause = Pause(pace_seconds)
    all_choices = [chunks.for_choice(index) for index in range(choices)]
    yield from (Send(one.role()) for one in all_choices)
    for piece in reasoning:
        yield pause
        yield from (Send(one.reasoning(piece)) for one in all_choices)
    for piece in content:
        yield pause
        yield from (Send(one.content(piece)) for one in all_choices)
    for index, call in enumerate(calls):
        yield pause
        yield from (Send(one.tool_call(index, id=call.id, name=call.name)) for one in all_choices)
        for piece in words(call.arguments):
            yield pause
            yield from (Send(one.tool_call(index, arguments=piece)) for one in all_choices)
    if finish_reason is not None:
        yield from (Send(one.finish(finish_reason)) for one in all_choices)
    if usage is not None:
        yield Send(chunks.usage(usage))
    if done:
        yield Send(wire.DONE)


def event_stream(*steps: Step) -> Script:
    """Return a 200 event stream with OpenAI's headers."""
    return Script(headers=_rate_headers(wire.EVENT_STREAM), steps=steps)


def json_body(document: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    """Return a JSON body with Content-Length."""
    return _body(status, wire.to_bytes(wire.encode(document)), headers or wire.headers(wire.JSON))


@dataclass(frozen=True)
class Refusal:
    """An OpenAI error response: its status and the four fields of the error object."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after: str = ""

    def script(self) -> Script:
        """Return the response as a script."""
        is_limit = self.status == http.HTTPStatus.TOO_MANY_REQUESTS
        headers = wire.headers(wire.JSON, requests=wire.SPENT_REQUESTS if is_limit else None)
        if self.retry_after:
            headers["Retry-After"] = self.retry_after
        return json_body(self.document(), status=self.status, headers=headers)

    def document(self) -> dict[str, Any]:
        """Return the error body."""
        return wire.error(self.message, type=self.type, param=self.param, code=self.code)


BAD_REQUEST: Final = Refusal(400, "Invalid value for the request.", param="messages", code="invalid_value")
INVALID_KEY: Final = Refusal(
    401,
    "Incorrect API key provided: sk-proj-*****. "
    "You can find your API key at https://platform.openai.com/account/api-keys.",
    code="invalid_api_key",
)
FORBIDDEN: Final = Refusal(
    403,
    "You have insufficient permissions for this operation. Missing scopes: model.request. Check that you have the "
    "correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a "
    "restricted API key, that it has the necessary scopes.",
    code="missing_scope",
)
NO_MODEL: Final = Refusal(
    404, "The model `gpt-none` does not exist or you do not have access to it.", code="model_not_found"
)
RATE_LIMITED: Final = Refusal(
    429,
    "Rate limit reached for gpt-4.1-mini in organization org-simulator on requests per min (RPM): "
    "Limit 60, Used 60, Requested 1. Please try again in 1s.",
    type="requests",
    code="rate_limit_exceeded",
    retry_after="1",
)
NO_QUOTA: Final = Refusal(
    429,
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    type="insufficient_quota",
    code="insufficient_quota",
)
SERVER_ERROR: Final = Refusal(
    500, "The server had an error while processing your request. Sorry about that!", type="server_error"
)
OVERLOADED: Final = Refusal(
    503,
    "The server is currently overloaded with other requests. Please try again later.",
    type="service_unavailable_error",
    code="server_is_overloaded",
)
# `refuse(status)` takes the first entry with that status.
REFUSALS: Final = (
    BAD_REQUEST,
    INVALID_KEY,
    FORBIDDEN,
    NO_MODEL,
    RATE_LIMITED,
    NO_QUOTA,
    SERVER_ERROR,
    OVERLOADED,
)


def refuse(
    status: int, *, code: str | None = None, message: str | None = None, retry_after: float | str | None = None
) -> Script:
    """Return OpenAI's error for the status and code. `retry_after=""` removes Retry-After from a 429."""
    refusal = _known_refusal(status, code)
    return replace(
        refusal,
        code=code or refusal.code,
        message=message or refusal.message,
        retry_after=refusal.retry_after if retry_after is None else str(retry_after),
    ).script()


def _known_refusal(status: int, code: str | None) -> Refusal:
    of_status = [refusal for refusal in REFUSALS if refusal.status == status]
    for refusal in of_status:
        if code in (None, refusal.code):
            return refusal
    if of_status:
        return of_status[0]
    kind = "invalid_request_error" if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return Refusal(status, f"The request was refused with status {status}.", type=kind)


# --- controlled by a test -------------------------------------------------------------------------------------------


def held(gate: Gate, before: str = "Hello", after: str = " there.") -> Script:
    """Send `before`, wait for the gate, send `after`, end normally."""
    head, tail = _split_answer(before, after)
    return event_stream(*head, Wait(gate), *tail)


def silent_after(text: str = TEXT) -> Script:
    """Send `text`, then nothing, with the connection open."""
    return event_stream(*_split_answer(text)[0], Hang())


def cut_after(text: str = TEXT) -> Script:
    """Send `text`, then reset the connection."""
    return event_stream(*_split_answer(text)[0], Cut())


def half_closed_after(text: str = TEXT) -> Script:
    """Send `text`, then close the sending half without a final chunk."""
    return event_stream(*_split_answer(text)[0], HalfClose())


def never_answers() -> Script:
    """Accept the request and never send a status line."""
    return Script(before_headers=(Hang(),))


def cut_before_headers() -> Script:
    """Accept the request and reset the connection."""
    return Script(before_headers=(Cut(),))


# --- faulty: not OpenAI's protocol ----------------------------------------------------------------------------------


def html_page(status: int = 200) -> Script:
    """Return an HTML page instead of JSON or events, like a captive portal (200) or a proxy (502)."""
    title = http.HTTPStatus(status).phrase
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{status} {title}</h1></body></html>\n"
    return _body(status, page.encode(), {"Content-Type": "text/html; charset=utf-8"})


def redirect(location: str = "/v1/elsewhere", status: int = 302) -> Script:
    """Redirect to another path of the simulator; a client that follows it shows up in `requests`."""
    return _body(status, b"", {"Location": location})


def gzip_bomb(inflated_bytes: int = 64 * MIB) -> Script:
    """Return an unrequested gzip body that inflates to one very long line."""
    compressor = zlib.compressobj(level=9, wbits=16 + zlib.MAX_WBITS)
    block = b"a" * MIB
    packed = [compressor.compress(b"data: ")]
    packed += [compressor.compress(block) for _ in range(inflated_bytes // MIB)]
    packed.append(compressor.flush())
    return Script(headers=_rate_headers(wire.EVENT_STREAM) | {"Content-Encoding": "gzip"}, steps=_sends(packed))


def endless_line(total_bytes: int = 8 * MIB, *, write_bytes: int = 64 * 1024) -> Script:
    """Send an event without a line end."""
    return event_stream(Send(b"data: "), *[Send(b"a" * write_bytes)] * (total_bytes // write_bytes))


# --- faulty: wrong events -------------------------------------------------------------------------------------------


def invalid_json(text: str = TEXT) -> Script:
    """Send an answer with a malformed JSON frame in the middle."""
    return _with_frame_in_the_middle(text, b'data: {"id":"chatcmpl-broken","choices":[{"index":0,\n\n')


def error_frame(text: str = TEXT, refusal: Refusal = SERVER_ERROR) -> Script:
    """Send `text`, then an error object as a frame, and end."""
    frame = wire.to_bytes(f"data: {wire.encode(refusal.document())}\n\n")
    return event_stream(*_split_answer(text)[0], Send(frame))


def heartbeats_only(interval_seconds: float = 0.05, count: int = 10_000) -> Script:
    """Send comments only, no events."""
    return event_stream(*(Send(b": heartbeat\n\n"), Pause(interval_seconds)) * count)


def without_done(text: str = TEXT) -> Script:
    """Send a finish reason but no [DONE]."""
    return answer(text, done=False)


def without_finish(text: str = TEXT) -> Script:
    """Send [DONE] without a finish reason."""
    return answer(text, finish_reason=None)


def without_either(text: str = TEXT) -> Script:
    """End the body cleanly without finish reason and [DONE]."""
    return answer(text, finish_reason=None, usage=False, done=False)


# --- unusual but valid ----------------------------------------------------------------------------------------------


def line_ends(text: str = TEXT, end: str = "\r\n") -> Script:
    """End lines with CRLF, or CR alone."""
    return event_stream(*_sends(frame.replace(b"\n", end.encode()) for frame in _frames(text)))


def with_comments(text: str = TEXT) -> Script:
    """Send a comment before each event."""
    return event_stream(*_sends(b": keep-alive\n\n" + frame for frame in _frames(text)))


def with_ids(text: str = TEXT) -> Script:
    """Send events with ids, with blocks between them that hold a field or a comment but no data.

    By the SSE specification such a block is not an event. openai-python 3.54 treats it as one and fails.
    """
    noise = b": keep-alive\n\nretry: 1000\n\nid: 7\n"
    return event_stream(*_sends(noise + frame for frame in _frames(text)))


def multi_line_data(text: str = TEXT) -> Script:
    """Split the JSON of each event over two `data:` lines."""
    return event_stream(*_sends(frame.replace(b',"choices":', b',\ndata: "choices":') for frame in _frames(text)))


def byte_order_mark(text: str = TEXT) -> Script:
    """Start the stream with a byte order mark."""
    return event_stream(Send(b"\xef\xbb\xbf"), *_sends(_frames(text)))


def byte_by_byte(text: str = TEXT) -> Script:
    """Send one byte per write."""
    return event_stream(Send(b"".join(_frames(text)), piece_bytes=1))


def in_one_write(text: str = TEXT) -> Script:
    """Send the whole answer in one write."""
    return event_stream(Send(b"".join(_frames(text))))


def split_characters(text: str = EMOJI_TEXT, pause_seconds: float = 0.001) -> Script:
    """End every write inside a code point; pauses keep the writes in separate packets."""
    # Split before the last byte of each multi-byte character.
    pieces = re.split(rb"(?=[\x80-\xbf](?![\x80-\xbf]))", b"".join(_frames(text)))
    return event_stream(*(step for piece in pieces for step in (Send(piece), Pause(pause_seconds))))


# --- helpers --------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Split text before its white space; the joined words equal the text."""
    return re.findall(r"\s*\S+|\s+", text)


def _deltas(text: str, chunk: int | None) -> list[str]:
    return words(text) if chunk is None else [text[start : start + chunk] for start in range(0, len(text), chunk)]


def _frames(text: str) -> list[bytes]:
    return [step.data for step in answer(text).steps if isinstance(step, Send)]


def _sends(frames: Iterable[bytes]) -> tuple[Send, ...]:
    return tuple(Send(frame) for frame in frames)


def _split_answer(before: str, after: str = "") -> tuple[tuple[Send, ...], tuple[Send, ...]]:
    """Split an answer into the frames up to the end of `before`, and the remaining frames."""
    chunks = wire.Chunks()
    head = [chunks.role(), *map(chunks.content, words(before))]
    tail = [*map(chunks.content, words(after)), chunks.finish("stop"), wire.DONE]
    return _sends(head), _sends(tail)


def _with_frame_in_the_middle(text: str, frame: bytes) -> Script:
    frames = _frames(text)
    middle = len(frames) // 2
    return event_stream(*_sends([*frames[:middle], frame, *frames[middle:]]))


def _rate_headers(content_type: str) -> dict[str, str]:
    return wire.headers(content_type, requests=wire.GUIDE_REQUESTS, tokens=wire.GUIDE_TOKENS)


def _body(status: int, body: bytes, headers: Mapping[str, str]) -> Script:
    return Script(status, {**headers, "Content-Length": str(len(body))}, (Send(body),) if body else ())
