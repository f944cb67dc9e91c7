"""What the routes work with, made once by `create_app`, and who is calling."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol, cast

from starlette.requests import HTTPConnection

from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.auth.keys import Key, KeyPolicy, owner_tag
from chatapi.errors import InvalidRequest, KeyRequired
from chatapi.generations.manager import Generations
from chatapi.limits import RateLimit
from chatapi.model import Session
from chatapi.prices import Prices
from chatapi.settings import Settings
from chatapi.store import Store
from chatapi.upstream.client import Upstream

FORWARDING = (  # and every x-forwarded-*, cf-*
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
)
PROBES_AT_ONCE = 8  # of streams that only show how streams pass; anybody may ask, and nobody needs more
SEARCHES_AT_ONCE = 2  # the others wait: a search works, and answers that run come first
PARSES_AT_ONCE = 1  # of large bodies: each takes a thread, and all threads share one interpreter
IMPORTS_AT_ONCE = 1  # a document that is read takes several times its size
LOOPBACK_NAME = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)


class Link(Protocol):
    """A connection to another server that several parts share."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Services:
    """The parts of one running service. `secret` is read when it starts."""

    settings: Settings
    store: Store
    generations: Generations
    upstream: Upstream
    key_policy: KeyPolicy
    rate_limit: RateLimit
    links: list[Link]
    prices: Prices = field(default_factory=Prices)
    imports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IMPORTS_AT_ONCE))
    parses: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARSES_AT_ONCE))
    searches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SEARCHES_AT_ONCE))
    secret: bytes = b""
    demo_key: str | None = None  # of the demo, whose upstream takes any: no secret
    probes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PROBES_AT_ONCE))

    def owner(self, key: Key) -> str:
        """The tag that stands for this key."""
        return owner_tag(self.secret, key)


def services_of(request: HTTPConnection) -> Services:
    """The service that this request came to."""
    return cast(Services, request.app.state.core)


def key_of(request: HTTPConnection, in_body: Key | None = None) -> Key | None:
    """The key that came along: in the body, as `Authorization: Bearer`, or as `X-API-Key`.

    Raises:
        InvalidKeyFormat: it is not of the form that this server takes.
        InvalidRequest: two came along, and they differ.
    """
    found = [in_body] if in_body is not None else []
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(Key(credentials.strip(" ")))
    if (header := request.headers.get("x-api-key")) is not None:
        found.append(Key(header))
    if not found:
        return None
    if any(other != found[0] for other in found):
        raise InvalidRequest.field("api_key", "The body and the headers bring different keys. Send one.")
    return services_of(request).key_policy.check(found[0])


def caller_of(request: HTTPConnection, key: Key | None = None) -> Caller:
    """Who asks, as `authorize` wants to know it."""
    key = key or key_of(request)
    return Caller(services_of(request).owner(key) if key is not None else None, is_trusted(request))


def owner_of(request: HTTPConnection) -> str:
    """The owner whose key came along.

    Raises:
        KeyRequired: none did.
    """
    owner = caller_of(request).owner
    if owner is None:
        raise KeyRequired
    return owner


def is_trusted(request: HTTPConnection) -> bool:
    """Whether a session's id is enough, where no other key comes along."""
    settings = services_of(request).settings
    access = settings.session_access
    return access == "id" or (access == "auto" and is_same_machine(request, settings))


def is_forwarded(request: HTTPConnection) -> bool:
    """Whether a proxy says that it passed the request on."""
    return any(name in FORWARDING or name.startswith(("x-forwarded-", "cf-")) for name in request.headers)


async def authorized(request: HTTPConnection, session_id: str, action: Action) -> Session:
    """The session, if whoever asks may do that to it.

    Raises:
        SessionNotFound: it does not exist, or they may not.
    """
    caller = caller_of(request)
    return authorize(await services_of(request).store.sessions.find(session_id), caller, action)


def is_same_machine(request: HTTPConnection, settings: Settings) -> bool:
    """Whether the caller is plainly on this machine: loopback at both ends, asked by a loopback name, not forwarded.

    The Host header is part of it so that a page on another site, whose name was made to point here, is not; the Origin
    so that a page on another site, which asks by our name, is not either.
    """
    server, client = request.scope.get("server"), request.scope.get("client")
    hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
    return (
        _is_loopback(settings.host)
        and server is not None
        and _is_loopback(server[0])
        and client is not None
        and _is_loopback(client[0])
        and request.scope.get("http_version") != "1.0"  # which nginx speaks to its upstreams, unless told otherwise
        and len(hosts) == 1
        and LOOPBACK_NAME.fullmatch(hosts[0]) is not None
        and all(LOOPBACK_NAME.fullmatch(origin.removeprefix("http://")) for origin in origins)
        and not is_forwarded(request)
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
