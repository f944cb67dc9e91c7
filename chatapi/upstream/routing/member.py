"""One of several upstreams: its client, its limit and its breaker."""

from __future__ import annotations

import time
from http import HTTPStatus
from types import TracebackType

import structlog

from chatapi.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from chatapi.http_client import TransportError
from chatapi.upstream.client import Upstream
from chatapi.upstream.metadata import UPSTREAM_NAME
from chatapi.upstream.quirks import Quirks
from chatapi.upstream.refusals import OWN_KEY_REFUSED
from chatapi.upstream.routing.breaker import Breaker
from chatapi.upstream.routing.routes import ListedUpstream

BASE_URL, API = "OPENAI_BASE_URL", "OPENAI_UPSTREAM_API"  # settings in messages about an upstream that has none

# With these, servers also answer requests that they cannot process, such as a schema that their parser rejects.
_OF_ONE_REQUEST = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED})

logger = structlog.get_logger()


class Member:
    """One upstream of several."""

    def __init__(self, listed: ListedUpstream, quirks: Quirks, upstream: Upstream) -> None:
        self.name = listed.name
        self.listed = listed
        self.quirks = quirks
        self.upstream = upstream
        self.breaker = Breaker(time.monotonic)
        self.running = 0

    def attempt(self) -> Attempt:
        """Return a request to this upstream, for its time in a `with` block.

        Raises:
            UpstreamUnavailable: its breaker is open, or it has as many requests as it may have.
        """
        limit = self.listed.entry.max_running
        if limit and self.running >= limit:
            raise UpstreamUnavailable(f"The upstream {self.name} has {limit} running requests, which is its limit.")
        if not self.breaker.enter():
            wait = self.breaker.wait_seconds
            raise UpstreamUnavailable(f"The upstream {self.name} has failed repeatedly.", retry_after=wait)
        return Attempt(self)


class Attempt:
    """One request to an upstream: counted while it runs, and judged for the breaker by how it ends."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._is_probe = member.breaker.is_probing
        self.has_answered = False  # with content
        self._is_held = False
        member.running += 1

    def answered(self) -> None:
        """Note that content has come: an upstream that answers slowly does not stay half-open until the end."""
        if not self.has_answered:
            self.has_answered = True
            self._succeed()

    def hold(self) -> None:
        """Count the request beyond the `with` block, until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Count the request no longer."""
        if self._is_held:
            self._is_held = False
            self._member.running -= 1

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        member = self._member
        if not self._is_held:
            member.running -= 1
        responded = error is None
        if isinstance(error, UpstreamError):
            responded = UPSTREAM_NAME in error.headers
            describe(member, error)
            if _is_failure(error):
                if member.breaker.fail():
                    seconds = round(member.breaker.wait_seconds)
                    logger.warning("upstream out of order", upstream=member.name, code=error.code, seconds=seconds)
                return
        if responded and not self.has_answered:
            self._succeed()
        elif not self.has_answered and self._is_probe:
            member.breaker.leave()

    def _succeed(self) -> None:
        if self._member.breaker.succeed():
            logger.info("upstream recovered", upstream=self._member.name)


def _is_failure(error: UpstreamError) -> bool:
    """Return whether an error shows that the upstream is out of order, and is not one that a caller can provoke.

    A connection that breaks does, at any time; an answer on a whole connection that cannot be read does not.
    """
    if isinstance(error, UpstreamBroken):
        return isinstance(error.__cause__, TransportError) or error.detail == OWN_KEY_REFUSED
    if error.upstream_status in _OF_ONE_REQUEST:
        return False
    return isinstance(error, UpstreamUnavailable | UpstreamTimeout)


def describe(member: Member, error: UpstreamError) -> None:
    """Name the upstream in an error: in a header, and where its text names a setting of the only upstream."""
    error.headers.setdefault(UPSTREAM_NAME, member.name)
    for setting, key in ((BASE_URL, "base_url"), (API, "api")):
        named = f"{key} of the upstream {member.name}"
        error.detail = error.detail.replace(setting, named)
        if error.said is not None:
            error.said = error.said._replace(message=error.said.message.replace(setting, named))
