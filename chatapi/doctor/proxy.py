"""What stands between clients and a running server: does it hand streams on as they come?

The server has a route that sends a few lines at even intervals. They are asked for as a client would, and timed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from chatapi.doctor.finding import Check, Finding, Reporter
from chatapi.wire.probe import PROBE_LINES, PROBE_PATH, PROBE_SECONDS

MOST_SECONDS = 15.0
MOST_BYTES = 16 * 1024  # of a stream that is a few hundred
LATE = 3  # intervals: a line that comes so late was held on the way, or the network stood still

found = Reporter("Proxy")


class Seen(NamedTuple):
    """The stream as it came: when each line did, what the server said of the request, and the response's headers."""

    times: list[float]
    said: dict[str, str]
    headers: Mapping[str, str]


async def check(url: str) -> Check:
    """Ask for the lines through the proxy, and look at what becomes of them."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        yield found.failure("--url must be a http or https URL without a user and a query.")
        return
    asked = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br"}  # as a browser asks
    timeout = aiohttp.ClientTimeout(total=MOST_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=False) as client,
            client.get(url.rstrip("/") + PROBE_PATH, headers=asked, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK or response.content_type != "text/event-stream":
                yield _no_stream(response)
                return
            yield found.ok("a server of ours answers there.")
            seen = await _read(response)
    except TimeoutError:
        yield found.failure(f"the stream does not end within {MOST_SECONDS:g} s: something on the way holds it back.")
        return
    except (aiohttp.ClientError, OSError, ValueError) as error:
        yield found.failure(f"it cannot be asked there: {type(error).__name__}. See that --url is right, and its TLS.")
        return
    if encoding := seen.headers.get("Content-Encoding"):
        yield found.failure(
            f"it compresses streams ({encoding}), which holds them back. Switch that off for text/event-stream and "
            "text/plain."
        )
    else:
        yield _timing(seen.times)
    if "no-transform" in seen.headers.get("Cache-Control", ""):
        yield found.ok("it leaves Cache-Control: no-transform in place.")
    else:
        yield found.warning(
            "it takes Cache-Control: no-transform away; what comes after it may hold streams back. Let it pass."
        )
    if seen.said:
        yield _forwarding(seen.said, parts.hostname)


def _no_stream(response: aiohttp.ClientResponse) -> Finding:
    if response.status in {301, 302, 303, 307, 308}:
        return found.failure("it sends us elsewhere. Give as --url the address that it sends to.")
    return found.failure(
        f"GET {PROBE_PATH} gives status {response.status} and {response.content_type}: no server of this version is "
        "there, or the proxy does not pass that path on."
    )


async def _read(response: aiohttp.ClientResponse) -> Seen:
    times: list[float] = []
    body = b""
    async for data in response.content.iter_any():
        body += data
        times += [time.perf_counter()] * (body.count(b"\n\n") - len(times))
        if len(body) > MOST_BYTES:
            break
    first = body.split(b"\n", 1)[0].decode(errors="replace")
    said = dict(word.split("=", 1) for word in first.split() if "=" in word)
    return Seen(times, said, response.headers)


def _timing(times: list[float]) -> Finding:
    """By when each line came: the first is sent at once, and each other an interval after the one before."""
    if len(times) < PROBE_LINES:
        return found.failure(f"{len(times)} of {PROBE_LINES} lines came: something on the way cuts streams off.")
    took = times[-1] - times[0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    together = sum(gap < PROBE_SECONDS / 10 for gap in gaps)
    sent = PROBE_SECONDS * (PROBE_LINES - 1)
    if took < sent / 2 or together > len(gaps) // 2:
        return found.failure(
            f"it holds streams back: {PROBE_LINES} lines, sent over {sent:g} s, came within {took:.2f} s. Switch its "
            "buffering off for this server (nginx: proxy_buffering off)."
        )
    if together or max(gaps) > PROBE_SECONDS * LATE:
        return found.warning(
            f"lines sent every {PROBE_SECONDS:g} s came up to {max(gaps):.2f} s apart, and {together} with the one "
            "before: it holds streams back now and then, or the network does."
        )
    return found.ok(
        f"streams pass as they come: lines sent every {PROBE_SECONDS:g} s come {max(gaps):.2f} s apart at most."
    )


def _forwarding(said: dict[str, str], host: str) -> Finding:
    access = Reporter("Access")
    if said.get("access") == "id":
        return access.warning(
            "CHATAPI_SESSION_ACCESS is id there: whoever learns a session's id may read it. Set it to key."
        )
    if said.get("trusted") == "no":
        forwarded = (
            "is marked as forwarded" if said.get("forwarded") == "yes" else "is not taken for this machine's own"
        )
        return access.ok(f"what comes from there {forwarded}, so sessions want their owner's key.")
    if _is_loopback(host):
        return access.warning(
            "what comes from there counts as this machine's own, so a session's id is enough. That is right where "
            "nothing stands in between; else set CHATAPI_SESSION_ACCESS=key."
        )
    return access.failure(
        "the proxy adds no forwarding header, and what comes through it counts as the server's own machine: a "
        "session's id is enough for everybody. Set CHATAPI_SESSION_ACCESS=key, and have it add X-Forwarded-For."
    )


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
