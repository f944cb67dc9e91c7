"""The model APIs: whether each can be reached and speaks HTTP. The list of models is asked for, which costs nothing.

The request has no key, unless the file of upstreams names one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from chatapi.auth.credentials import Credential
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
from chatapi.upstream.routing.file import read_upstreams

ANSWER_SECONDS = 15.0
DAYS_LEFT = 14  # a certificate that expires sooner is a warning
DAY_SECONDS = 86_400
LIST_BYTES = 4 * 1024 * 1024  # of the list of models


@dataclass(frozen=True, slots=True)
class ModelAPI:
    """A model API to check. `setting` is where its address is configured, and `headers` have its key, if it has one."""

    about: str
    base_url: str
    setting: str
    default_model: str | None
    connect_seconds: float
    proxy: str | None
    headers: tuple[tuple[str, str], ...] = ()
    is_asked_with_key: bool = False


def model_apis(settings: Settings) -> list[ModelAPI]:
    """Return the model APIs of the settings.

    Raises:
        SettingsError: the file of upstreams is wrong.
    """
    if settings.upstreams is None:
        only = ModelAPI(
            "Model API",
            settings.openai_base_url,
            "OPENAI_BASE_URL",
            settings.default_model,
            settings.connect_seconds,
            settings.upstream_proxy,
        )
        return [only]
    table = read_upstreams(settings.upstreams, settings)
    route = table.find(settings.default_model)
    assert route is not None, "the file was checked for it"
    default = route.equal[0]
    return [
        ModelAPI(
            f"Model API {name}",
            one.entry.base_url,
            f"base_url of the upstream {name}",
            default.model if default.upstream == name else None,
            one.entry.connect_seconds or settings.connect_seconds,
            settings.proxy_for(one.entry.base_url),
            (*one.entry.headers.items(), *Credential(one.key).headers(one.entry.key_header)),
            one.key is not None,
        )
        for name, one in table.upstreams.items()
    ]


async def check(api: ModelAPI) -> Check:
    """Connect as the service does, and report the status."""
    url = f"{api.base_url}/models"
    client = HTTPClient(api.connect_seconds, api.proxy)
    found = Reporter(api.about)
    begun = time.perf_counter()
    body = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            response = await client.send(Endpoint("GET", url, dict(api.headers)))
            took = time.perf_counter() - begun
            while response.status == HTTPStatus.OK and len(body) < LIST_BYTES and (some := await response.read()):
                body += some
    except (TransportError, TimeoutError) as error:
        yield _not_answered(found, api.setting, error)
        return
    finally:
        client.close()
    yield _answered(found, api, response.status, took)
    if api.default_model is not None:
        yield _default_model(found, api.default_model, api.base_url, body)
    yield await _tls(found, url)


def _not_answered(found: Reporter, setting: str, error: TransportError | TimeoutError) -> Finding:
    match error:
        case CertificateRefused():
            reason = error.detail or "it is not valid"
            return found.failure(
                f"its TLS certificate is refused: {reason}. Correct {setting}, or make this machine trust it."
            )
        case TLSFailed():
            return found.failure(f"the server there speaks no TLS that this machine accepts. Correct {setting}.")
        case ConnectTimeout() | TimeoutError():
            return found.failure(f"it does not answer in time. Correct {setting}, or allow connections to it.")
        case Malformed():
            return found.failure(f"the server there does not answer in HTTP. Correct {setting}.")
    return found.failure(f"it cannot be reached: {error}. Correct {setting}, or allow this machine to connect to it.")


def _answered(found: Reporter, api: ModelAPI, status: int, took: float) -> Finding:
    answer = f"it answers in {took * 1000:.0f} ms with status {status}"
    if api.is_asked_with_key and status == HTTPStatus.OK:
        return found.ok(f"{answer}: it accepts its key.")
    if api.is_asked_with_key and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return found.failure(f"{answer}: it refuses its key. Replace the key that the file of upstreams names.")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return found.ok(f"{answer}: it requires a key, and none was sent, as expected.")
    if status == HTTPStatus.OK:
        return found.ok(f"{answer}, without a key.")
    if status == HTTPStatus.NOT_FOUND:
        return found.warning(f"{answer} to GET /models. Check that {api.setting} is complete; most end in /v1.")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return found.warning(f"{answer}: it is out of order now.")
    return found.warning(f"{answer}, which is not in its protocol. Check that {api.setting} is right.")


def _default_model(found: Reporter, model: str, base_url: str, body: bytes) -> Finding:
    """Return the finding about the end of the default model. `body` is the list of models, if it was given."""
    announced = announced_end(model) if is_openai_itself(base_url) else None
    end = listed_end(body, model) or announced
    if end is None:
        return found.ok(f"no end of the default model {model} is known.")
    sentence = notice(model, end, today())
    return found.ok(f"the default model {model} shuts down on {end}.") if sentence is None else found.warning(sentence)


async def _tls(found: Reporter, url: str) -> Finding:
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
