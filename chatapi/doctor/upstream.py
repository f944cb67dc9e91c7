"""The model API: can it be reached, and does it speak HTTP? Asked without a key, so it costs nothing."""

from __future__ import annotations

import ssl
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from chatapi.doctor.finding import Check, Finding, Findings
from chatapi.settings import Settings

ANSWER_SECONDS = 15.0
DAYS_LEFT = 14  # a certificate that lapses sooner is spoken of
DAY_SECONDS = 86_400

found = Findings("Model API")


async def check(settings: Settings) -> Check:
    """Reach it as the service does, and read its status."""
    url = f"{settings.openai_base_url}/models"
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=settings.connect_seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as client:
        begun = time.perf_counter()
        try:
            async with client.get(url, allow_redirects=False) as response:
                took = time.perf_counter() - begun
                tls = response.connection and response.connection.transport
                tls = tls.get_extra_info("ssl_object") if tls is not None else None
                yield _answered(response.status, took)
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
            yield found.failure(
                f"its TLS certificate is refused: {reason}. Correct OPENAI_BASE_URL, or let this machine trust it."
            )
            return
        except aiohttp.ClientConnectorSSLError:
            yield found.failure("what listens there speaks no TLS that this machine takes. Correct OPENAI_BASE_URL.")
            return
        except TimeoutError:
            yield found.failure("it does not answer in time. Correct OPENAI_BASE_URL, or let this machine out to it.")
            return
        except (aiohttp.ClientConnectionError, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            yield found.failure(
                f"it cannot be reached: {reason}. Correct OPENAI_BASE_URL, or let this machine out to it."
            )
            return
        except (aiohttp.ClientError, ValueError):
            yield found.failure("what listens there does not answer in HTTP. Correct OPENAI_BASE_URL.")
            return
    yield _tls(url, tls)


def _answered(status: int, took: float) -> Finding:
    said = f"it answers in {took * 1000:.0f} ms with status {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return found.ok(f"{said}: it wants a key, and none was sent. That is as it should be.")
    if status == HTTPStatus.OK:
        return found.ok(f"{said}, without a key.")
    if status == HTTPStatus.NOT_FOUND:
        return found.warning(f"{said} to GET /models. See that OPENAI_BASE_URL is whole; most end in /v1.")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return found.warning(f"{said}: it is out of order now.")
    return found.warning(f"{said}, which is not in its protocol. See that OPENAI_BASE_URL is the right one.")


def _tls(url: str, tls: Any) -> Finding:
    if not isinstance(tls, ssl.SSLObject):
        host = urlsplit(url).hostname or ""
        if host == "localhost" or host.startswith("127.") or host == "::1":
            return found.ok("no TLS, and none is needed on this machine.")
        return found.warning("no TLS: keys and text go to it in the clear. Use https:// unless the network is yours.")
    certificate = tls.getpeercert() or {}
    lapses = str(certificate.get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(lapses) - time.time()) / DAY_SECONDS if lapses else DAYS_LEFT
    if days < DAYS_LEFT:
        return found.warning(f"{tls.version()}; its certificate lapses in {days:.0f} days.")
    return found.ok(f"{tls.version()}, and its certificate is valid.")
