"""The parts of one running service, as the routes use them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec
from starlette.requests import HTTPConnection

from chatapi.auth.keys import Key, KeyPolicy, owner_tag
from chatapi.generations.manager import Generations
from chatapi.limits import BodyBudget, FairQueue, KnownOwners, LeakyBuckets, Places, RateLimit
from chatapi.limits.fair_queue import MAX_WAITING
from chatapi.metrics import Metrics
from chatapi.prices import Prices
from chatapi.settings import Settings
from chatapi.store import Store
from chatapi.upstream.api import ModelAPI

if TYPE_CHECKING:
    from chatapi.tracing.tracing import Tracing

MAX_ATTEMPTS = 10_000


class Link(Protocol):
    """A connection to another server that several parts share."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Attempts:
    """The idempotency keys of requests that a client may repeat, by their content; the latest of this process."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, str] = OrderedDict()

    def get(self, name: str) -> str | None:
        """Return the key of the first attempt."""
        return self._keys.get(name)

    def add(self, name: str) -> str:
        """Return a new key for a first attempt."""
        key = self._keys[name] = secrets.token_hex(16)
        self._keys.move_to_end(name)
        if len(self._keys) > MAX_ATTEMPTS:
            self._keys.popitem(last=False)
        return key


class WorkQueue(NamedTuple):
    """A queue that a module declares for its expensive work; see `FairQueue` for the fields."""

    name: str
    at_once: int
    rests: float = 0.0
    max_waiting: int = MAX_WAITING


SERVICES = "chatapi.services"  # where the scope of a request holds its service


def _nothing() -> None:
    """Do nothing: all routes are there."""


class Services(msgspec.Struct):
    """The parts of one service, made by `wiring.make_services`; `wiring.running` opens them and reads the secret."""

    settings: Settings
    store: Store
    generations: Generations
    upstream: ModelAPI
    key_policy: KeyPolicy
    rate_limit: RateLimit
    requests: LeakyBuckets  # of any kind, by owner and by address
    unverified: LeakyBuckets  # requests without an accepted key, by address
    bodies: BodyBudget
    links: list[Link]
    prices: Prices
    metrics: Metrics
    hosted_tools: Literal["pass", "reject", "omit"] = "reject"
    demo_key: str | None = None  # public: the demo's upstream accepts any key
    tracing: Tracing | None = None
    predecessor: str | None = None  # the replica that this process replaces; it is dead
    secret: bytes = b""
    import_routes: Callable[[], object] = _nothing  # begins to import the routes that are imported late, if any are
    open_requests: int = 0
    warned_of_proxy: bool = False
    warned_of_shared_address: bool = False
    attempts: Attempts = msgspec.field(default_factory=Attempts)
    known_owners: KnownOwners = msgspec.field(default_factory=KnownOwners)
    websockets: Places = msgspec.field(default_factory=Places)
    _queues: dict[str, FairQueue] = msgspec.field(default_factory=dict)

    def owner(self, key: Key) -> str:
        """Return the owner tag of a key."""
        return owner_tag(self.secret, key)

    def queue_load(self) -> dict[tuple[str, ...], float]:
        """Return the numbers of jobs in the fair queues, by queue and state."""
        return {
            (name, state): number
            for name, queue in self._queues.items()
            for state, number in (("active", queue.active), ("waiting", queue.waiting))
        }

    def queue(self, queue: WorkQueue) -> FairQueue:
        """Return this service's instance of a queue."""
        found = self._queues.get(queue.name)
        if found is None:
            found = self._queues[queue.name] = FairQueue(queue.at_once, queue.rests, queue.max_waiting)
        return found


def services_of(request: HTTPConnection) -> Services:
    """Return the service that a request came to."""
    services: Services = request.scope[SERVICES]
    return services
