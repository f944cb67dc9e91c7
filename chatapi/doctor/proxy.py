"""A reverse proxy in front of a running server: whether it passes streams on without delay.

The server has a route that sends a few lines at even intervals. The check requests them as a client does, and measures
when they arrive.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from chatapi.doctor.finding import Check, Finding, Reporter
from chatapi.http_client import Endpoint, HTTPClient, Response, TransportError
from chatapi.wire.probe import PROBE_LINES, PROBE_PATH, PROBE_SECONDS

MAX_SECONDS = 15.0
MAX_BYTES = 16 * 1024  # of a stream that has a few hundred
LATE = 3  # intervals: a line that is this late was delayed by a proxy or the network

found = Reporter("Proxy")


class ProbeResult(NamedTuple):
    """When each line of the stream arrived, how the server saw the request, and the headers of the response."""

    times: list[float]
    request: dict[str, str]
    headers: Mapping[str, str]


async def check(url: str) -> Check:
    """Request the lines through the proxy, and report how they arrive."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        yield found.failure("--url must be an http or https URL without a user and a query.")
        return
    asked = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br"}  # as a browser asks
    client = HTTPClient(MAX_SECONDS)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            response = await client.send(Endpoint("GET", url.rstrip("/") + PROBE_PATH, asked))
            if response.status != HTTPStatus.OK or response.media_type != "text/event-stream":
                yield _no_stream(response)
                return
            yield found.ok("this server answers there.")
            seen = await _read(response)
    except TimeoutError:
        yield found.failure(f"the stream does not end within {MAX_SECONDS:g} s: a proxy holds it back.")
        return
    except (TransportError, ValueError) as error:
        yield found.failure(f"no server of this API can be reached there: {error}. Check --url and its TLS.")
        return
    finally:
        client.close()
    if encoding := seen.headers.get("content-encoding"):
        yield found.failure(
            f"it compresses streams ({encoding}), which holds them back. Switch that off for text/event-stream and "
            "text/plain."
        )
    else:
        yield _timing(seen.times)
    if "no-transform" in seen.headers.get("cache-control", ""):
        yield found.ok("it leaves Cache-Control: no-transform in place.")
    else:
        yield found.warning(
            "it removes Cache-Control: no-transform; a proxy behind it may hold streams back. Let the header pass."
        )
    if seen.request:
        yield _forwarding(seen.request, parts.hostname)


def _no_stream(response: Response) -> Finding:
    if response.status in {301, 302, 303, 307, 308}:
        return found.failure("it redirects. Set --url to the address that it redirects to.")
    return found.failure(
        f"GET {PROBE_PATH} gives status {response.status} and {response.media_type or 'no media type'}: no server of "
        "this version is there, or the proxy does not pass that path on."
    )


async def _read(response: Response) -> ProbeResult:
    times: list[float] = []
    body = b""
    while data := await response.read():
        body += data
        times += [time.perf_counter()] * (body.count(b"\n\n") - len(times))
        if len(body) > MAX_BYTES:
            break
    first = body.split(b"\n", 1)[0].decode(errors="replace")
    seen = dict(word.split("=", 1) for word in first.split() if "=" in word)
    return ProbeResult(times, seen, response.headers)


def _timing(times: list[float]) -> Finding:
    """Judge the times of arrival: the first line is sent at once, each other one an interval later."""
    if len(times) < PROBE_LINES:
        return found.failure(f"{len(times)} of {PROBE_LINES} lines arrived: a proxy cuts streams off.")
    took = times[-1] - times[0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    together = sum(gap < PROBE_SECONDS / 10 for gap in gaps)
    sent = PROBE_SECONDS * (PROBE_LINES - 1)
    if took < sent / 2 or together > len(gaps) // 2:
        return found.failure(
            f"it holds streams back: {PROBE_LINES} lines, sent over {sent:g} s, arrived within {took:.2f} s. Switch "
            "its buffering off for this server (nginx: proxy_buffering off)."
        )
    if together or max(gaps) > PROBE_SECONDS * LATE:
        return found.warning(
            f"lines sent every {PROBE_SECONDS:g} s arrived up to {max(gaps):.2f} s apart, and {together} together with "
            "the one before: it, or the network, holds streams back at times."
        )
    return found.ok(
        f"streams pass without delay: lines sent every {PROBE_SECONDS:g} s arrive {max(gaps):.2f} s apart at most."
    )


def _forwarding(request: dict[str, str], host: str) -> Finding:
    access = Reporter("Access")
    if request.get("access") == "id":
        return access.warning(
            "CHATAPI_SESSION_ACCESS is id there: anyone who learns the id of a session may read it. Set it to key."
        )
    if request.get("trusted") == "no":
        forwarded = "is marked as forwarded" if request.get("forwarded") == "yes" else "does not count as local"
        return access.ok(f"a request from there {forwarded}, so sessions require their owner's key.")
    if _is_loopback(host):
        return access.warning(
            "a request from there counts as local, so the id of a session is enough. That is right without a proxy; "
            "behind one, set CHATAPI_SESSION_ACCESS=key."
        )
    return access.failure(
        "the proxy adds no forwarding header, so its requests count as local: the id of a session is enough for "
        "everyone. Set CHATAPI_SESSION_ACCESS=key, and let the proxy add X-Forwarded-For."
    )


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
