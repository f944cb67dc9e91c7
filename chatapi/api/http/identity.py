"""Who calls: the key of a request, its owner, its address, and whether a session's id is enough from there."""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from chatapi.api.http.services import Services, services_of
from chatapi.auth.authorization import Action, Caller, authorize
from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import InvalidRequest, KeyRequired, RateLimited
from chatapi.limits import network_of
from chatapi.limits.body_budget import BodyShare
from chatapi.model import Session
from chatapi.settings import Settings
from chatapi.upstream.metadata import ResponseMetadata

FORWARDING = (  # and every x-forwarded-*, cf-*
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
)
LOOPBACK_NAME = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)

REFUSAL_SECONDS = 1.0
_CLIENT = "chatapi.client"  # where the scope holds the `Client`

logger = structlog.get_logger()


class Client(msgspec.Struct):
    """The client of one request: its address, and the facts that the request has shown so far."""

    address: str
    fields: dict[bytes, bytes]  # the headers by lower-case name; of a repeated one the first
    owner: str | None = None
    key: Key | None = None  # of the owner
    header_key: Key | None = None  # the key in the headers, once it has been checked
    body: BodyShare | None = None
    received_bytes: int = 0  # of the body
    failed: bool = False  # counts like an error status
    over_limit_seconds: float = 0.0  # to wait, unless the key in the body is one that the model API has accepted

    @property
    def network(self) -> str:
        """What limits count for the address: with IPv6, a caller has as many addresses as it likes."""
        return network_of(self.address)

    def __repr__(self) -> str:
        return f"Client({self.address})"  # the fields of the head contain the key

    def release_body(self) -> None:
        """Give back the share of the body in the memory for unparsed bodies."""
        if self.body is not None:
            self.body.close()


def add_client(scope: Scope, settings: Settings) -> Client:
    """Put the client of a request into its scope."""
    client = scope[_CLIENT] = Client(_address(scope, settings), dict(reversed(scope["headers"])))
    return client


def client_of(request: HTTPConnection) -> Client:
    """Return the client of a request."""
    client: Client = request.scope[_CLIENT]
    return client


def comes_from_a_page(scope: Scope) -> bool:
    """Return whether a request has an `Origin`: a browser sent it for a page, of this server or of another."""
    client: Client = scope[_CLIENT]
    return b"origin" in client.fields


def header_of(request: HTTPConnection, name: bytes) -> str | None:
    """Return a header, whose name is in lower case; None if the request has none. Of a repeated one, the first."""
    value = client_of(request).fields.get(name)
    return value.decode("latin-1") if value is not None else None


def _address(scope: Scope, settings: Settings) -> str:
    """Return the client's address: the last one that no trusted proxy has; empty where the server knows none."""
    address: str = scope["client"][0] if scope.get("client") is not None else ""
    if not settings.is_proxy(address):
        return address
    forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    for name in reversed(forwarded):
        if not (name := name.strip()):
            break
        try:
            address = str(ip_address(name))
        except ValueError:
            break  # the proxy before this one did not write an address
        if not settings.is_proxy(address):
            break
    return address


class Identity(NamedTuple):
    """An authenticated caller, and the credential that its turns send upstream. They are separate on purpose."""

    caller: Caller
    owner: str
    credential: Credential


def authenticate(request: HTTPConnection, in_body: Key | None = None, missing: str | None = None) -> Identity:
    """Return the caller and the credential of a request that must bring a key.

    Args:
        in_body: the key in the request's body, if it has one.
        missing: the sentence about the body's field `api_key` where no key came; by default, `KeyRequired` is raised.

    Raises:
        KeyRequired: no key came.
        InvalidKeyFormat: it does not have the form that this server takes.
        InvalidRequest: no key came and there is such a sentence, or the body and the headers bring different keys.
    """
    key = key_of(request, in_body)
    if key is None:
        raise InvalidRequest.field("api_key", missing) if missing is not None else KeyRequired()
    owner = _tag(request, key)
    return Identity(Caller(owner), owner, Credential(key))


def _tag(request: HTTPConnection, key: Key) -> str:
    """Return the owner tag of a request's key, and note it for the log."""
    client = client_of(request)
    if client.owner is None or client.key != key:
        client.owner, client.key = services_of(request).owner(key), key
    return client.owner


def is_verified(request: HTTPConnection) -> bool:
    """Return whether the model API has accepted the key of a request lately."""
    return client_of(request).owner in services_of(request).known_owners


async def check_body_key(request: HTTPConnection, key: Key | None) -> None:
    """Refuse a request whose address is over its limit, unless the key in its body is a known one.

    Raises:
        RateLimited: after `REFUSAL_SECONDS`; see `refuse_over_limit`.
    """
    client = client_of(request)
    if client.over_limit_seconds:
        if key is not None and services_of(request).owner(key) in services_of(request).known_owners:
            return
        await refuse_over_limit("CHATAPI_UNVERIFIED_LIMIT", client.over_limit_seconds)


async def refuse_over_limit(setting: str, wait_seconds: float) -> NoReturn:
    """Raise `RateLimited` after a pause: a caller that ignores refusals costs little, and its connection closes."""
    await asyncio.sleep(REFUSAL_SECONDS)
    raise RateLimited(
        f"Too many requests from this caller ({setting}). Wait as long as Retry-After says.",
        retry_after=wait_seconds,
        headers={"Connection": "close"},
    )


def mark_accepted(request: HTTPConnection, upstream: ResponseMetadata | None) -> None:
    """Note that the model API has accepted the key of a request, if its response shows that."""
    if upstream is not None and upstream.verifies_caller:
        mark_known(request)


def mark_known(request: HTTPConnection) -> None:
    """Note that the key of a request is a good one."""
    if (owner := client_of(request).owner) is not None:
        services_of(request).known_owners.add(owner)


def mark_failed(request: HTTPConnection) -> None:
    """Count a request as a failed attempt, with any status: its key was rejected."""
    client_of(request).failed = True


def key_of(request: HTTPConnection, in_body: Key | None = None) -> Key | None:
    """Return the key of a request: from the body, `Authorization: Bearer` or `X-API-Key`.

    Raises:
        InvalidKeyFormat: it does not have the form that this server takes.
        InvalidRequest: two came, and they differ.
    """
    client = client_of(request)
    if in_body is None and client.header_key is not None:
        return client.header_key
    found = [in_body] if in_body is not None else []
    scheme, _, token = (header_of(request, b"authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(Key(token.strip(" ")))
    if (header := header_of(request, b"x-api-key")) is not None:
        found.append(Key(header))
    if not found:
        return None
    for other in found[1:]:
        if other != found[0]:
            raise InvalidRequest.field("api_key", "The body and the headers bring different keys. Send one.")
    key = services_of(request).key_policy.check(found[0])
    if in_body is None:
        client.header_key = key
    return key


def caller_key(request: HTTPConnection) -> str | None:
    """Return the owner tag of the key in the headers, or None; see `key_of` for its errors."""
    key = key_of(request)
    return _tag(request, key) if key is not None else None


def caller_of(request: HTTPConnection, key: Key | None = None) -> Caller:
    """Return the caller of a request that may bring no key."""
    key = key or key_of(request)
    return Caller(_tag(request, key) if key is not None else None, is_trusted(request))


def owner_of(request: HTTPConnection) -> str:
    """Return the owner tag of a request that must bring a key.

    Raises:
        KeyRequired: no key came.
    """
    return authenticate(request).owner


def address_group(request: HTTPConnection) -> str:
    """Return the group of a caller that is counted by its address; no owner tag has this form."""
    return f"address {client_of(request).network}"


def work_group(request: HTTPConnection) -> str:
    """Return the group of a caller in fair queues: its owner if the model API has accepted its key, or its address."""
    client = client_of(request)
    if client.owner is not None and client.owner in services_of(request).known_owners:
        return client.owner
    return address_group(request)


async def authorized(request: HTTPConnection, session_id: str, action: Action) -> Session:
    """Return the session.

    Raises:
        SessionNotFound: it does not exist, or the caller may not do this to it.
    """
    caller = caller_of(request)
    return authorize(await services_of(request).store.sessions.find(session_id), caller, action)


def is_trusted(request: HTTPConnection) -> bool:
    """Return whether a session's id is enough for a request without a key."""
    settings = services_of(request).settings
    access = settings.session_access
    return access == "id" or (access == "auto" and is_same_machine(request, settings))


def is_forwarded(request: HTTPConnection) -> bool:
    """Return whether the headers show that a proxy forwarded the request."""
    return any(name in FORWARDING or name.startswith(("x-forwarded-", "cf-")) for name in request.headers)


def is_same_machine(request: HTTPConnection, settings: Settings) -> bool:
    """Return whether the caller is on this machine: loopback at both ends, a loopback Host, and not forwarded.

    The Host header excludes pages of other sites whose name resolves to this machine; Origin, Referer and
    Sec-Fetch-Site exclude pages of other origins that call this server by its own name.
    """
    server, client = request.scope.get("server"), request.scope.get("client")
    hosts = request.headers.getlist("host")
    if not (
        _is_loopback(settings.host)
        and server is not None
        and _is_loopback(server[0])
        and client is not None
        and _is_loopback(client[0])
        and not settings.is_proxy(client[0])
        and request.scope.get("http_version") != "1.0"  # nginx's default version for its upstreams
        and len(hosts) == 1
        and LOOPBACK_NAME.fullmatch(hosts[0]) is not None
        and not is_forwarded(request)
        and _is_own_page(request, hosts[0])
    ):
        return False
    if request.headers.get("connection", "").lower() == "close":  # nginx's default; no browser sends it
        if "sec-fetch-mode" in request.headers:
            return False
        _warn_of_proxy(services_of(request))
    return True


def has_own_host(request: HTTPConnection, settings: Settings) -> bool:
    """Return whether a request names this server, and not another site whose name was made to resolve to loopback."""
    return not _is_loopback(settings.host) or LOOPBACK_NAME.fullmatch(request.headers.get("host", "")) is not None


def _is_own_page(request: HTTPConnection, host: str) -> bool:
    """Return whether the page that sent a request, if a page did, came from this server."""
    own = f"http://{host}".lower()
    pages = [*request.headers.getlist("origin"), *map(_origin, request.headers.getlist("referer"))]
    site = request.headers.get("sec-fetch-site", "none")
    return all(page.lower() == own for page in pages) and site in {"none", "same-origin"}


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def _warn_of_proxy(services: Services) -> None:
    """Warn once that a caller whose session ids are enough may be behind a proxy."""
    if not services.warned_of_proxy:
        services.warned_of_proxy = True
        logger.warning(
            "a caller from loopback may be behind a proxy",
            header="Connection: close",
            advice="behind a proxy on this machine, set CHATAPI_TRUSTED_PROXIES, or CHATAPI_SESSION_ACCESS=key",
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
