"""The model API: whether it can be reached and speaks HTTP. The request has no key, so it costs nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from chatapi.doctor.finding import Check, Finding, Reporter
from chatapi.http_client import (
    CertificateRefused,
    ConnectTimeout,
    Endpoint,
    HTTPClient,
    Malformed,
    TLSFailed,
    TransportError,
)
from chatapi.settings import Settings
from chatapi.upstream.model_ends import announced_end, listed_end, notice, today
from chatapi.upstream.providers import is_openai_itself

ANSWER_SECONDS = 15.0
DAYS_LEFT = 14  # a certificate that expires sooner is a warning
DAY_SECONDS = 86_400
LIST_BYTES = 4 * 1024 * 1024  # of the list of models

found = Reporter("Model API")


async def check(settings: Settings) -> Check:
    """Connect as the service does, and report the status."""
    url = f"{settings.openai_base_url}/models"
    client = HTTPClient(settings.connect_seconds, settings.upstream_proxy)
    begun = time.perf_counter()
    body = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            response = await client.send(Endpoint("GET", url))
            took = time.perf_counter() - begun
            while response.status == HTTPStatus.OK and len(body) < LIST_BYTES and (some := await response.read()):
                body += some
    except (TransportError, TimeoutError) as error:
        yield _not_answered(error)
        return
    finally:
        client.close()
    yield _answered(response.status, took)
    yield _default_model(settings, body)
    yield await _tls(url)


def _not_answered(error: TransportError | TimeoutError) -> Finding:
    match error:
        case CertificateRefused():
            reason = error.detail or "it is not valid"
            return found.failure(
                f"its TLS certificate is refused: {reason}. Correct OPENAI_BASE_URL, or make this machine trust it."
            )
        case TLSFailed():
            return found.failure("the server there speaks no TLS that this machine accepts. Correct OPENAI_BASE_URL.")
        case ConnectTimeout() | TimeoutError():
            return found.failure("it does not answer in time. Correct OPENAI_BASE_URL, or allow connections to it.")
        case Malformed():
            return found.failure("the server there does not answer in HTTP. Correct OPENAI_BASE_URL.")
    return found.failure(
        f"it cannot be reached: {error}. Correct OPENAI_BASE_URL, or allow this machine to connect to it."
    )


def _answered(status: int, took: float) -> Finding:
    answer = f"it answers in {took * 1000:.0f} ms with status {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return found.ok(f"{answer}: it requires a key, and none was sent, as expected.")
    if status == HTTPStatus.OK:
        return found.ok(f"{answer}, without a key.")
    if status == HTTPStatus.NOT_FOUND:
        return found.warning(f"{answer} to GET /models. Check that OPENAI_BASE_URL is complete; most end in /v1.")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return found.warning(f"{answer}: it is out of order now.")
    return found.warning(f"{answer}, which is not in its protocol. Check that OPENAI_BASE_URL is right.")


def _default_model(settings: Settings, body: bytes) -> Finding:
    """Return the finding about the end of the default model. `body` is the list of models, if it was given."""
    model = settings.default_model
    announced = announced_end(model) if is_openai_itself(settings.openai_base_url) else None
    end = listed_end(body, model) or announced
    if end is None:
        return found.ok(f"no end of the default model {model} is known.")
    sentence = notice(model, end, today())
    return found.ok(f"the default model {model} shuts down on {end}.") if sentence is None else found.warning(sentence)


async def _tls(url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        if host == "localhost" or host.startswith("127.") or host == "::1":
            return found.ok("no TLS, and none is needed on this machine.")
        return found.warning("no TLS: keys and text are sent unencrypted. Use https:// unless the network is private.")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(host, parts.port or 443, ssl=ssl.create_default_context())
    except (OSError, TimeoutError) as error:
        return found.warning(f"its TLS could not be checked: {type(error).__name__}. Run this again.")
    tls = writer.get_extra_info("ssl_object")
    version, certificate = tls.version(), tls.getpeercert()
    writer.close()
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / DAY_SECONDS
    if days < DAYS_LEFT:
        return found.warning(f"{version}; its certificate expires in {days:.0f} days.")
    return found.ok(f"{version}, and its certificate is valid.")
