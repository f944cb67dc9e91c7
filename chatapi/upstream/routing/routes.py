"""The upstreams and models of the file, checked as a whole: which upstreams answer for a model, and with whose key.

A caller's key goes to one origin only (`RouteTable.callers_origin`). Every other upstream gets the key that the
operator gave it, or none, and only for callers that the file admits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import UpstreamModelNotFound, UpstreamRejectedKey
from chatapi.upstream.routing.entries import UpstreamEntry

NAMES_SHOWN = 20  # in an error


class Target(NamedTuple):
    """An upstream, and the name of a model there."""

    upstream: str
    model: str


class Route(NamedTuple):
    """The targets of a model: equal ones, then those to fall back to in their order."""

    equal: tuple[Target, ...]
    fallback: tuple[Target, ...] = ()


class Callers(msgspec.Struct, frozen=True):
    """The callers that may use upstreams with a key of their own, or without one.

    `digests` are those of their keys; None admits everyone.
    """

    digests: frozenset[bytes] | None = None

    def admit(self, key: Key) -> bool:
        """Return whether the caller with this key is admitted."""
        return self.digests is None or self.know(key)

    def know(self, key: Key) -> bool:
        """Return whether the operator has listed this key."""
        return self.digests is not None and digest(key.reveal()) in self.digests


def digest(key: str) -> bytes:
    """Return the digest by which a caller's key is found."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class ListedUpstream(msgspec.Struct, frozen=True):
    """An upstream of the file. `takes_callers_key`: it gets the caller's key; else `key`, or none."""

    name: str
    entry: UpstreamEntry
    key: Key | None
    takes_callers_key: bool


class RouteTable(msgspec.Struct, frozen=True):
    """The upstreams by name, and the routes of models. Everything that it names exists."""

    upstreams: Mapping[str, ListedUpstream]
    models: Mapping[str, Route] = msgspec.field(default_factory=dict)
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)
    shown: tuple[str, ...] = ()  # models in lists
    default: str | None = None  # the upstream of models that are not listed
    passthrough: str | None = None  # that of requests which are passed on
    callers: Callers = Callers()

    @property
    def model_names(self) -> list[str]:
        """The names of models, here and at their upstreams."""
        targets = [target for route in self.models.values() for target in (*route.equal, *route.fallback)]
        return [*self.models, *(target.model for target in targets)]

    def find(self, model: str) -> Route | None:
        """Return the route of a model: listed, by alias, by the prefix of an upstream, or the default's."""
        if (route := self.models.get(self.aliases.get(model, model))) is not None:
            return route
        named = [one for one in self.upstreams.values() if one.entry.prefix and model.startswith(one.entry.prefix)]
        if named:
            upstream = max(named, key=lambda one: len(one.entry.prefix or ""))
            rest = model.removeprefix(upstream.entry.prefix or "")
            return Route((Target(upstream.name, rest),)) if rest else None
        return Route((Target(self.default, model),)) if self.default is not None else None

    def require(self, model: str, credential: Credential) -> Route:
        """Return the route of a model.

        Raises:
            UpstreamModelNotFound: there is none; the error lists the models that exist for this caller.
            UpstreamRejectedKey: there is none, and nor is there one for the caller.
        """
        if (route := self.find(model)) is not None:
            return route
        if not any(self._is_for(upstream, credential) for upstream in self.upstreams):
            raise UpstreamRejectedKey
        error = UpstreamModelNotFound(f"This server has no such model. {self.describe_models(credential)}")
        error.param = "model"
        raise error

    def usable(self, credential: Credential) -> list[str]:
        """Return the models of lists that an upstream may answer this caller for."""
        routes = ((model, self.models[model]) for model in self.shown)
        return [
            model
            for model, route in routes
            if any(self._is_for(target.upstream, credential) for target in (*route.equal, *route.fallback))
        ]

    def _is_for(self, upstream: str, credential: Credential) -> bool:
        return self.credential_for(self.upstreams[upstream], credential) is not None

    def leads_to(self, model: str, upstream: str) -> bool:
        """Return whether this upstream answers for a model that is not listed."""
        route = None if model in self.aliases or model in self.models else self.find(model)
        return route is not None and route.equal[0].upstream == upstream

    def describe_models(self, credential: Credential | None = None) -> str:
        """Return a sentence with the models that exist, for this caller if there is one."""
        shown = list(self.shown) if credential is None else self.usable(credential)
        prefixes = [
            f"{one.entry.prefix}…"
            for one in self.upstreams.values()
            if one.entry.prefix and (credential is None or self._is_for(one.name, credential))
        ]
        names = [*shown[:NAMES_SHOWN], *prefixes]
        more = len(shown) - NAMES_SHOWN
        rest = f", and {more} more (GET /v1/models)" if more > 0 else ""
        return f"It has: {', '.join(names)}{rest}."

    def credential_for(self, upstream: ListedUpstream, credential: Credential) -> Credential | None:
        """Return the credential with which a caller reaches an upstream; None if the file does not admit the caller."""
        if credential.is_admitted:
            return None if upstream.takes_callers_key else credential.for_upstream(upstream.key, verifies_caller=False)
        assert credential.key is not None, "a caller has a key"
        if upstream.takes_callers_key:
            return credential
        if not self.callers.admit(credential.key):
            return None
        return credential.for_upstream(upstream.key, verifies_caller=self.callers.know(credential.key))

    def order(self, route: Route, conversation: bytes | None) -> list[Target]:
        """Return the targets in the order in which they are asked.

        Equal ones are drawn by weight: by chance, or always alike for one conversation, whose upstream then has it in
        its cache (rendezvous hashing).
        """
        if len(route.equal) == 1:
            return [*route.equal, *route.fallback]

        def score(target: Target) -> float:
            chance = random.random() if conversation is None else _fraction(conversation + target.upstream.encode())
            return float(chance ** (1 / self.upstreams[target.upstream].entry.weight))

        return [*sorted(route.equal, key=score, reverse=True), *route.fallback]


def _fraction(seed: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(seed, digest_size=7).digest()) / 2**56
