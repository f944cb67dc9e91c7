"""The model API: whether it can be reached and speaks HTTP. The request has no key, so it costs nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from chatapi.doctor.finding import Check, Finding, Reporter
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
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=settings.connect_seconds)
    async with aiohttp.ClientSession(timeout=timeout, proxy=settings.upstream_proxy, trust_env=False) as client:
        begun = time.perf_counter()
        try:
            async with client.get(url, allow_redirects=False) as response:
                took = time.perf_counter() - begun
                yield _answered(response.status, took)
                body = bytearray()
                while response.status == HTTPStatus.OK and len(body) < LIST_BYTES:
                    if not (some := await response.content.readany()):
                        break
                    body += some
                yield _default_model(settings, bytes(body))
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
            yield found.failure(
                f"its TLS certificate is refused: {reason}. Correct OPENAI_BASE_URL, or make this machine trust it."
            )
            return
        except aiohttp.ClientConnectorSSLError:
            yield found.failure("the server there speaks no TLS that this machine accepts. Correct OPENAI_BASE_URL.")
            return
        except TimeoutError:
            yield found.failure("it does not answer in time. Correct OPENAI_BASE_URL, or allow connections to it.")
            return
        except (aiohttp.ClientConnectionError, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            yield found.failure(
                f"it cannot be reached: {reason}. Correct OPENAI_BASE_URL, or allow this machine to connect to it."
            )
            return
        except (aiohttp.ClientError, ValueError):
            yield found.failure("the server there does not answer in HTTP. Correct OPENAI_BASE_URL.")
            return
    yield await _tls(url)


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
