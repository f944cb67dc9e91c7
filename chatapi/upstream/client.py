"""The client of one model API, which speaks OpenAI's chat completions, Responses, or both.

This is the seam at which foreign errors become ours, and the last place that a key reaches. Everything that comes from
the other side is bounded and not trusted: no redirects, no content encoding, no cookies.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

import msgspec
import structlog

from chatapi import __version__
from chatapi.auth.credentials import Credential
from chatapi.errors import (
    UpstreamBroken,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatapi.http_client import (
    ConnectTimeout,
    Endpoint,
    HTTPClient,
    Malformed,
    RequestBodyError,
    Response,
    TransportError,
)
from chatapi.metrics import Metrics
from chatapi.model import Clock, Microseconds, wall_clock
from chatapi.upstream.answer import Answer
from chatapi.upstream.chat_completions import ChatCompletions
from chatapi.upstream.forwarding import ForwardedAnswer, ForwardedRequest
from chatapi.upstream.metadata import UPSTREAM_NAME, ResponseMetadata, read_metadata
from chatapi.upstream.model_ends import DefaultModel, today
from chatapi.upstream.passthrough import Passthrough, PassthroughBody
from chatapi.upstream.provider import Deltas, Provider
from chatapi.upstream.providers import PATHS, Providers, UpstreamAPI, is_openai, is_openai_itself
from chatapi.upstream.quirks import Quirks
from chatapi.upstream.refusals import (
    error_body,
    error_for_status,
    error_in_stream,
    find_error,
    read_error,
    read_retry_after,
)
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.operations import Operation, explain_refusal, unsupported, write_operation
from chatapi.wire.extras import origin_of
from chatapi.wire.loose_json import UNREADABLE, read_json

RETRY_SECONDS = 0.25  # the first pause; it doubles
SHORT_RETRY_SECONDS = 2.0  # a Retry-After up to here is waited for; a longer one is left to the caller
ERROR_BODY_SECONDS = 2.0  # to read it in
ERROR_BYTES = 64 * 1024  # of an error body that are read
LINGER_SECONDS = 1.0  # to wait for the end of a response whose last event has come, so that its connection is reused
MAX_REQUEST_BYTES = 16 * 1024 * 1024
ADJUSTMENTS_AT_MOST = 6  # to one request, each of which costs another attempt
MODELS_REMEMBERED = 1000  # whose adjustments are remembered
EVENTS, JSON, PLAIN = "text/event-stream", "application/json", "text/plain"
_NO_TYPE = frozenset({"", "application/octet-stream"})  # which tell nothing
_HEADERS = {
    "User-Agent": f"openai-chat-api/{__version__}",
    "Accept": f"{EVENTS}, {JSON}",
    "Accept-Encoding": "identity",
}

# Statuses with which servers refuse a member of a request; the others mean something else for certain.
_ADJUSTABLE = frozenset({400, 404, 405, 406, 409, 415, 422, 500, 501})

logger = structlog.get_logger()


class _Refusal(msgspec.Struct, frozen=True):
    """A response that is not a 200: its error, and its body as text."""

    error: UpstreamError
    status: int
    text: str


class Upstream:
    """One pooled client of one model API.

    `stream` takes a `ModelRequest` and a `Credential` and knows no JSON: a `Provider` writes the request and reads the
    answer, and `Providers` selects it.
    """

    def __init__(
        self,
        base_url: str,
        connect_seconds: float,
        developer_role: str = "developer",
        max_request_bytes: int = MAX_REQUEST_BYTES,
        proxy: str | None = None,
        api: UpstreamAPI = "auto",
        default_model: str = "",
        clock: Clock = wall_clock,
        metrics: Metrics | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        self._quirks = quirks = quirks or Quirks()
        self._headers = {**_HEADERS, **quirks.headers}
        self._posted = {**self._headers, "Content-Type": JSON}
        self._endpoints = {path: Endpoint("POST", f"{base_url}/{path}", self._posted) for path in PATHS}
        self._completions = self._endpoints[ChatCompletions.path]
        self._models = Endpoint("GET", f"{base_url}/models", self._headers)
        self._base_url = base_url
        self._client = HTTPClient(connect_seconds, proxy)
        self._clock = clock
        self._metrics = metrics or Metrics()
        origin = quirks.origin or origin_of(base_url)
        self._providers = Providers.of(api, is_openai(base_url), developer_role, origin, max_request_bytes)
        self._default_model = DefaultModel(default_model, announced=is_openai_itself(base_url), today=today)
        self._adjustments: OrderedDict[str, frozenset[str]] = OrderedDict()  # by model
        self.last_success_at: Microseconds | None = None  # the last response without an error status

    @property
    def default_model_notice(self) -> str | None:
        """A sentence if the default model has ended, or ends soon."""
        return self._default_model.notice

    def out_of_order(self) -> dict[tuple[str, ...], float]:
        """Return nothing: the only upstream is always asked."""
        return {}

    async def open(self) -> None:
        """Read the trust store, if it is needed. Nothing is sent."""
        self._default_model.warn()
        self._client.open(self._completions)

    async def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def require(self, model: str, credential: Credential) -> None:
        """Return: the upstream decides about every model and every key."""

    @property
    def has_own_keys(self) -> bool:
        """Whether there are upstreams that do not get callers' keys: there are none."""
        return False

    def needs_callers_key(self, model: str, credential: Credential) -> bool:
        """Return whether an upstream of this model gets the caller's key: it does."""
        return True

    def passes_completions_on(self, model: str, credential: Credential) -> bool:
        """Return whether the upstream has chat completions, so that a stateless one is passed on as it is."""
        return self._providers.api != "responses"

    # Answers

    async def deliver(
        self,
        request: ModelRequest,
        credential: Credential,
        take: Callable[[Answer, Deltas], bool],
        make_room: Callable[[], Awaitable[None]],
    ) -> None:
        """Send a request and give `take` its answer, as `Answer.deliver` does.

        A request that is refused for something that this service added is sent again without it, and the model is
        remembered. However this ends, the connection is closed then, unless the answer has ended.

        Raises:
            ContextTooLarge: the request is larger than this service sends.
            UpstreamError: the upstream refused it, is broken or cannot be reached, after two retries where that helps.
        """
        response, provider = await self._ask_adjusted(request, credential)
        metadata = self._read_metadata(response, credential)
        parser = provider.parser(credential, request)
        answer = Answer(response, metadata, parser, is_document=response.media_type == JSON)
        try:
            await answer.deliver(partial(take, answer), make_room)
        finally:
            self.release(answer)

    async def _ask_adjusted(self, request: ModelRequest, credential: Credential) -> tuple[Response, Provider]:
        providers = self._providers
        self._quirks.require_accepted(request.parameters)
        known = adjustments = self._adjustments.get(request.model, self._quirks.adjustments)
        while True:
            provider = providers.select(request, adjustments)
            body = provider.write(request, adjustments)
            endpoint = self._endpoints[provider.path]
            response = await self._ask(
                endpoint, request.model, credential, providers.encode(body), (EVENTS, JSON, PLAIN)
            )
            if isinstance(response, Response):
                if adjustments != known:
                    self._remember(request.model, adjustments)
                return response, provider
            change = None
            if isinstance(response.error, UpstreamContextExceeded):
                raise response.error  # its words may name parameters, which are not the cause
            if response.status in _ADJUSTABLE and len(adjustments - known) < ADJUSTMENTS_AT_MOST:
                change = providers.find_adjustment(provider, request, response.text, body, adjustments)
            if change is None:
                raise self._default_model.explain(request.model, provider.explain(response.error))
            adjustments |= {change}

    def _remember(self, model: str, adjustments: frozenset[str]) -> None:
        self._adjustments[model] = adjustments
        self._adjustments.move_to_end(model)
        if len(self._adjustments) > MODELS_REMEMBERED:
            self._adjustments.popitem(last=False)
        logger.info("upstream adjusted", adjustments=sorted(adjustments))

    # Passing on

    async def passthrough(self, model: str, credential: Credential, body: bytes, choices: int) -> Passthrough:
        """Send a streamed request as it is, to pass its answer on; the caller gives it back with `release`.

        Raises:
            UpstreamError: the upstream refused it, is broken or cannot be reached, after two retries where that helps.
        """
        response = await self._ask_or_raise(model, credential, body, (EVENTS, PLAIN))
        return Passthrough(response, credential, self._read_metadata(response, credential), choices)

    async def complete(self, model: str, credential: Credential, body: bytes, most_bytes: int) -> PassthroughBody:
        """Send a request as it is and return its answer, which comes in one piece.

        Raises:
            UpstreamError: the upstream refused it, is broken or cannot be reached, after two retries where that helps.
        """
        response = await self._ask_or_raise(model, credential, body, (JSON,))
        return await self._read_body(response, credential, most_bytes)

    async def operate(
        self, operation: Operation, request: ModelRequest, credential: Credential, most_bytes: int
    ) -> PassthroughBody:
        """Ask for an operation of Responses, with the whole conversation, and return its answer as it is.

        Raises:
            UpstreamUnsupported: the upstream does not have it.
            ContextTooLarge: the request is larger than this service sends.
            UpstreamError: the upstream refused it, is broken or cannot be reached, after two retries where that helps.
        """
        providers = self._providers
        if providers.api == "chat":
            raise unsupported(operation)
        body = providers.encode(write_operation(operation, request, providers.responses.origin))
        endpoint = Endpoint("POST", f"{self._base_url}/{providers.responses.path}/{operation}", self._posted)
        response = await self._ask(endpoint, request.model, credential, body, (JSON,))
        if isinstance(response, _Refusal):
            raise explain_refusal(operation, response.status, response.error)
        return await self._read_body(response, credential, most_bytes)

    @asynccontextmanager
    async def forward(
        self, asked: ForwardedRequest, body: AsyncIterable[bytes], credential: Credential
    ) -> AsyncIterator[ForwardedAnswer]:
        """Send a request unchanged, without retries, and yield its response; leaving the block closes it.

        Raises:
            UpstreamError: the upstream is broken or cannot be reached, or the body broke off.
        """
        url = f"{self._base_url}/{asked.path}" + (f"?{asked.query}" if asked.query else "")
        own = {name: value for name, value in self._headers.items() if name != "Accept"}
        endpoint = Endpoint(asked.method, url, own)
        sent = body if asked.length != 0 else b""
        response = await self._request(endpoint, credential, sent, asked.headers, asked.length)
        try:
            metadata = self._read_metadata(response, credential)
            yield ForwardedAnswer(response, credential, metadata, await _refusal_to_forward(response))
        finally:
            response.close()

    async def models(
        self, credential: Credential, most_bytes: int, seconds: float, name: str | None = None
    ) -> PassthroughBody:
        """Return the upstream's list of models, or its entry for one.

        Raises:
            UpstreamModelNotFound: the name would lead to another path of the upstream.
            UpstreamError: the upstream refused, or did not answer within so many seconds.
        """
        if name is not None and any(part in {"", ".", ".."} for part in name.split("/")):
            raise UpstreamModelNotFound  # a name without the prefix of its upstream is one that no route has checked
        try:
            async with asyncio.timeout(seconds):
                models = self._models
                if name:
                    models = Endpoint("GET", f"{self._base_url}/models/{quote(name, safe='/:@')}", self._headers)
                response = await self._get(models, credential)
                whole = await self._read_body(response, credential, most_bytes)
        except TimeoutError as error:
            raise UpstreamTimeout("The model API did not answer in time.") from error
        self._default_model.learn(whole.body)
        return whole

    async def check_key(self, credential: Credential, seconds: float) -> bool:
        """Return if the upstream accepts the key. It is asked for its list of models, which costs nothing.

        The result is whether the caller's key is a good one: not known where another is sent.

        Raises:
            UpstreamRejectedKey, UpstreamForbidden: it does not, or not for this.
            UpstreamError: it cannot be asked, or did not answer within so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                (await self._get(self._models, credential)).drain(LINGER_SECONDS)
        except TimeoutError as error:
            raise UpstreamTimeout("The model API did not answer in time.") from error
        return credential.verifies_caller

    async def _get(self, endpoint: Endpoint, credential: Credential) -> Response:
        response = await self._request(endpoint, credential)
        try:
            if (refusal := await self._read_refusal(response, credential)) is not None:
                raise refusal.error
            _require_type(response, (JSON,))
        except BaseException:
            response.close()
            raise
        return response

    async def _read_body(self, response: Response, credential: Credential, most_bytes: int) -> PassthroughBody:
        body = bytearray()
        try:
            while some := await response.read():
                body += some
                if len(body) > most_bytes:
                    raise UpstreamBroken("The model API's answer is larger than this server passes on.")
        except TransportError as error:
            raise UpstreamBroken from error
        finally:
            response.close()
        _require_whole(body, credential)
        return PassthroughBody(bytes(body), self._read_metadata(response, credential))

    # Requests

    async def _ask_or_raise(
        self, model: str, credential: Credential, body: bytes, media_types: tuple[str, ...]
    ) -> Response:
        response = await self._ask(self._completions, model, credential, body, media_types)
        if isinstance(response, _Refusal):
            raise response.error
        return response

    async def _ask(
        self, endpoint: Endpoint, model: str, credential: Credential, body: bytes, media_types: tuple[str, ...]
    ) -> Response | _Refusal:
        """Post a request; again, where that may help and nothing of an answer has come."""
        retries = self._quirks.retries
        for attempt in range(retries + 1):
            try:
                response = await self._counted_post(endpoint, model, credential, body, media_types)
            except UpstreamUnavailable as error:
                if attempt == retries:
                    raise
                pause = _pause_before_retry(error, attempt)
            else:
                pause = _pause_before_retry(response.error, attempt) if isinstance(response, _Refusal) else None
                if pause is None or attempt == retries:
                    return response
            self._metrics.upstream_retried()
            await asyncio.sleep(pause or 0.0)
        raise AssertionError("the last attempt returns or raises")

    async def _counted_post(
        self, endpoint: Endpoint, model: str, credential: Credential, body: bytes, media_types: tuple[str, ...]
    ) -> Response | _Refusal:
        try:
            response = await self._post(endpoint, credential, body, media_types)
        except UpstreamError as error:
            self._metrics.upstream_responded(model, error.code)
            raise
        self._metrics.upstream_responded(model, response.error.code if isinstance(response, _Refusal) else None)
        return response

    async def _post(
        self, endpoint: Endpoint, credential: Credential, body: bytes, media_types: tuple[str, ...]
    ) -> Response | _Refusal:
        response = await self._request(endpoint, credential, body)
        try:
            refusal = await self._read_refusal(response, credential)
            if refusal is None:
                _require_type(response, media_types)
                return response
        except BaseException:
            response.close()
            raise
        response.close()
        return refusal

    async def _request(
        self,
        endpoint: Endpoint,
        credential: Credential,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Sequence[tuple[str, str]] = (),
        length: int | None = None,
    ) -> Response:
        host, port = endpoint.origin.host, endpoint.origin.port
        try:
            authorized = (*credential.headers(self._quirks.key_header), *headers)
            return await self._client.send(endpoint, authorized, body, length)
        except RequestBodyError as error:
            raise UpstreamUnavailable(f"The request was not passed on: {error}.") from error
        except ConnectTimeout as error:
            logger.warning("upstream unreachable", reason=str(error), host=host)
            raise UpstreamTimeout("The model API could not be connected to in time.") from error
        except (Malformed, ValueError) as error:
            logger.warning("upstream unreachable", reason=str(error), host=host, port=port)
            raise UpstreamBroken("The model API did not answer in HTTP.") from error
        except TransportError as error:
            logger.warning("upstream unreachable", reason=str(error), host=host, port=port)
            raise UpstreamUnavailable(
                f"The model API cannot be reached: {error}. Try again as Retry-After says."
            ) from error

    async def _read_refusal(self, response: Response, credential: Credential) -> _Refusal | None:
        """Read the refusal that a response is, unless its status is 200."""
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self.last_success_at = self._clock()
            return None
        body = await _error_body(response)
        report = read_error(body)
        error = error_for_status(status, report, credential, read_retry_after(response.headers, self._clock() / 1e6))
        error.said, error.upstream_status = error_body(status, report, credential), status
        metadata = self._read_metadata(response, credential)
        error.limit = metadata.limit
        error.headers |= metadata.headers
        return _Refusal(error, status, body.decode("utf-8", "replace"))

    def _read_metadata(self, response: Response, credential: Credential) -> ResponseMetadata:
        metadata = read_metadata(response.headers, credential)
        if self._quirks.name:
            metadata.headers[UPSTREAM_NAME] = self._quirks.name
        return metadata

    def release(self, answer: Answer | Passthrough) -> None:
        """Close the connection, unless the answer has ended: then it may end its response for a moment."""
        if answer.done:
            answer.response.drain(LINGER_SECONDS)
        else:
            answer.response.close()


async def _refusal_to_forward(response: Response) -> bytes | None:
    """Read the refusal that a response is; None for any other response.

    Raises:
        UpstreamBroken: it is a redirect, or compressed, though neither was asked for.
    """
    if response.status >= HTTPStatus.BAD_REQUEST:
        return await _error_body(response)
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise UpstreamBroken(f"The model API answered with status {response.status}, which is not in its protocol.")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamBroken("The model API compressed its answer, though it was asked not to.")
    return None


async def _error_body(response: Response) -> bytes:
    """The body of a refusal, as far as it comes soon; the status alone says enough."""
    body = b""
    with suppress(TransportError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            while len(body) < ERROR_BYTES and (some := await response.read()):
                body += some
    return body


def _require_type(response: Response, media_types: tuple[str, ...]) -> None:
    """Raise unless the response is of one of these types, the first of which was asked for. It may name no type."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamBroken("The model API compressed its answer, though it was asked not to.")
    if response.media_type not in {*media_types, *_NO_TYPE}:
        raise UpstreamBroken(f"The model API did not answer with {media_types[0]}.")


def _require_whole(body: bytearray, credential: Credential) -> None:
    """Raise where an answer in one piece reports an error, or is cut off, as a server that broke may send it."""
    try:
        value = read_json(body)
    except UNREADABLE as error:
        raise UpstreamBroken("The model API's answer is cut off, or not JSON.") from error
    if not isinstance(value, dict | list):
        raise UpstreamBroken("The model API's answer is not a JSON object.")
    if isinstance(value, dict) and (report := find_error(value)) is not None:
        raise error_in_stream(report, credential, started=False)


def _pause_before_retry(error: UpstreamError, attempt: int) -> float | None:
    """Seconds before the next attempt, or None where the caller should learn of the error at once."""
    if not isinstance(error, UpstreamUnavailable | UpstreamRateLimited) or not error.retryable:
        return None
    backoff = RETRY_SECONDS * 2**attempt * random.uniform(0.75, 1.25)
    asked = error.asked_to_wait
    if asked is None:
        return None if isinstance(error, UpstreamRateLimited) else backoff
    return max(asked, backoff) if asked <= SHORT_RETRY_SECONDS else None
