"""The parts of the service: the classes that the settings select, and the order in which they open and close.

The only module that names concrete classes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Literal

from chatapi import __version__
from chatapi.api.http.services import Services
from chatapi.auth.keys import KeyPolicy, fingerprint, load_secret
from chatapi.bus import Bus, LocalBus, ReplicaBus, Transport
from chatapi.errors import StoreUnavailable
from chatapi.generations.manager import Generations
from chatapi.limits import BodyBudget, LeakyBuckets, LocalRateLimit, LocalSlots, RateLimit, Slots, WorkerSlots
from chatapi.metrics import LoopLag, Metrics, ModelLabels, NoMetrics
from chatapi.model import Replica, wall_clock
from chatapi.prices import read_prices
from chatapi.settings import Settings, SettingsError
from chatapi.store import Driver, Store, StoreLimits
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.telemetry.logging import keep_out
from chatapi.upstream.client import Upstream
from chatapi.upstream.providers import is_openai
from chatapi.worker_group import Member

if TYPE_CHECKING:
    from chatapi.connections.redis import RedisConnection
    from chatapi.tracing.tracing import Tracing
    from chatapi.upstream.api import ModelAPI
    from chatapi.upstream.routing.routes import RouteTable


def make_services(
    settings: Settings,
    demo_key: str | None = None,
    replica: Replica | None = None,
    worker: Member | None = None,
) -> Services:
    """Make the parts of the service, which `running` opens. `worker`: its part of a group of workers.

    Raises:
        SettingsError: the settings need a package that is missing, or the file of prices is invalid.
    """
    limits = StoreLimits(
        session_messages=settings.max_session_messages,
        session_bytes=settings.max_session_bytes,
        owner_sessions=settings.max_owner_sessions,
        owner_bytes=settings.max_owner_bytes,
        sessions=settings.max_sessions,
        bytes=settings.max_store_bytes,
    )
    prices = read_prices(settings.prices)
    key_policy = KeyPolicy(settings.key_pattern)
    table = _route_table(settings)
    known_models = [settings.default_model, *prices.models]
    if table is not None:
        known_models += table.model_names
        keep_out(one.key for one in table.upstreams.values() if one.key is not None)
    make_metrics = Metrics if settings.metrics == "on" else NoMetrics
    metrics = make_metrics(ModelLabels(known_models, key_policy.redact), prices.cost_of_usage, prices.currency)
    store = Store(
        _driver(settings, worker),
        wall_clock,
        settings.lease_seconds,
        settings.store_patience_seconds,
        limits,
        metrics,
        replica.id if replica is not None else None,
    )
    redis = _redis(settings)
    upstream = _upstream(settings, metrics, table)
    local_slots = LocalSlots(settings.max_generations_per_key, settings.max_generations, settings.slot_wait_seconds)
    tracing = _tracing(settings)
    times = worker.times if worker is not None else None
    peers = worker.peers if worker is not None else None
    rate_limit, slots = _limits(settings, store, redis, local_slots, worker)
    bus = _bus(settings, store, redis, worker)
    services = Services(
        settings=settings,
        store=store,
        generations=Generations(store, bus, upstream, slots, settings, wall_clock, metrics, tracing),
        upstream=upstream,
        key_policy=key_policy,
        rate_limit=rate_limit,
        requests=LeakyBuckets(settings.request_limit if settings.rate_limit else 0, time.monotonic, times, "r "),
        unverified=LeakyBuckets(settings.unverified_limit if settings.rate_limit else 0, time.monotonic, times, "u "),
        bodies=BodyBudget(max(settings.max_unfinished_bytes, 4 * settings.max_media_bytes)),
        links=[link for link in (redis, peers) if link is not None],
        prices=prices,
        metrics=metrics,
        hosted_tools=_hosted_tools(settings, table),
        demo_key=demo_key,
        tracing=tracing,
        predecessor=replica.predecessor if replica is not None else None,
    )
    _add_gauges(services, local_slots)
    return services


def _add_gauges(services: Services, slots: LocalSlots) -> None:
    """Have the metrics contain the values that are read at each scrape."""
    gauge, generations, upstream = services.metrics.gauge, services.generations, services.upstream
    gauge("build_info", "The version; the value is 1.", lambda: {(__version__,): 1.0}, "version")
    gauge("running_answers", "Answers that run in this process.", lambda: len(generations))
    gauge("open_requests", "Requests whose response has not ended.", lambda: services.open_requests)
    gauge("draining", "1 while this process shuts down.", lambda: generations.draining)
    gauge("slots_waiting", "Requests that wait for a running answer of their key to end.", lambda: slots.waiting)
    gauge(
        "unparsed_body_bytes", "Memory of request bodies that are not parsed yet.", lambda: services.bodies.used_bytes
    )
    gauge("work_queue_jobs", "Jobs in the fair queues.", services.queue_load, "queue", "state")
    gauge("store_jobs", "Jobs for the connections of the store.", services.store.load, "pool", "state")
    gauge("journal_bytes", "Size of the journal.", lambda: services.store.journal_bytes)
    gauge(
        "upstream_last_success_timestamp_seconds",
        "When the model API last answered without an error; 0: not since the start.",
        lambda: (upstream.last_success_at or 0) / 1e6,
    )
    gauge("upstream_out_of_order", "1 while an upstream is not asked.", upstream.out_of_order, "upstream")


def _route_table(settings: Settings) -> RouteTable | None:
    if settings.upstreams is None:
        return None
    from chatapi.upstream.routing.file import read_upstreams  # here: most servers have one upstream

    return read_upstreams(settings.upstreams, settings)


def _upstream(settings: Settings, metrics: Metrics, table: RouteTable | None) -> ModelAPI:
    if table is not None:
        from chatapi.upstream.routing.members import make_router  # here, as above

        return make_router(table, settings, metrics)
    return Upstream(
        settings.openai_base_url,
        settings.connect_seconds,
        settings.developer_role,
        settings.max_context_bytes,
        settings.upstream_proxy,
        settings.openai_upstream_api,
        settings.default_model,
        metrics=metrics,
    )


def _hosted_tools(settings: Settings, table: RouteTable | None) -> Literal["pass", "reject", "omit"]:
    if settings.hosted_tools != "auto":
        return settings.hosted_tools
    apis = [(settings.openai_upstream_api, settings.openai_base_url)]
    if table is not None:
        apis = [(one.entry.api, one.entry.base_url) for one in table.upstreams.values()]
    has_responses = any(api == "responses" or (api == "auto" and is_openai(base_url)) for api, base_url in apis)
    return "pass" if has_responses else "reject"


def _driver(settings: Settings, worker: Member | None) -> Driver:
    if worker is not None:
        return SQLiteDriver(settings.database_path, worker.peers, worker.turn)
    if not settings.uses_postgres:
        return SQLiteDriver(settings.database_path)
    try:
        from chatapi.store.drivers.postgres import PostgresDriver  # here: only users of PostgreSQL need its package
    except ModuleNotFoundError as missing:
        raise _package_missing("DATABASE_URL", missing) from missing
    pooling = settings.database_pooling == "transaction"
    return PostgresDriver(settings.database_url, settings.database_connections, pooling, settings.lease_seconds)


def _redis(settings: Settings) -> RedisConnection | None:
    if settings.redis_url is None:
        return None
    try:
        from chatapi.connections.redis import RedisConnection  # here, as above
    except ModuleNotFoundError as missing:
        raise _package_missing("REDIS_URL", missing) from missing
    return RedisConnection(settings.redis_url)


def _bus(settings: Settings, store: Store, redis: RedisConnection | None, worker: Member | None) -> Bus:
    transport: Transport
    if not store.shared:
        return LocalBus()
    if worker is not None:
        transport = worker.transport
    elif redis is not None:
        from chatapi.bus.redis import RedisTransport

        transport = RedisTransport(redis)
    elif settings.database_pooling == "transaction":
        return LocalBus()  # a pooler drops notifications; readers on other replicas poll once a second
    else:
        from chatapi.bus.postgres import PostgresTransport

        transport = PostgresTransport(settings.database_url)
    return ReplicaBus(store.replica, transport)


def _tracing(settings: Settings) -> Tracing | None:
    if settings.traces is None:
        return None
    from chatapi.tracing.tracing import Tracing  # here: only users of traces need its packages

    return Tracing(settings.traces)


def _limits(
    settings: Settings,
    store: Store,
    redis: RedisConnection | None,
    slots: LocalSlots,
    worker: Member | None,
) -> tuple[RateLimit, Slots]:
    rate_limit = LocalRateLimit(settings.rate_limit, time.monotonic, worker.times if worker is not None else None)
    if redis is None:
        return rate_limit, slots if worker is None else WorkerSlots(worker.counts, worker.number, slots)
    from chatapi.limits.redis import SharedRateLimit, SharedSlots

    return SharedRateLimit(redis, rate_limit), SharedSlots(redis, slots, store.replica)


def _package_missing(variable: str, missing: ModuleNotFoundError) -> SettingsError:
    return SettingsError(
        f"{variable}: the package {missing.name} is not installed for this Python. "
        "Install it with the others: pip install -r requirements-replicas.txt"
    )


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Open the service for the length of the block: each part after those that it uses; close in the reverse order.

    Raises:
        SettingsError: the store or another server cannot be used as configured.
    """
    settings = services.settings
    _require_secret(settings)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(services.store.close)
        services.secret = await _open_store(services.store, settings, services.predecessor)
        for link in services.links:
            await link.open()
            opened.push_async_callback(link.close)
        await services.upstream.open()
        opened.push_async_callback(services.upstream.close)
        if services.tracing is not None:
            opened.push_async_callback(services.tracing.close)
        if settings.metrics == "on":
            lag = LoopLag(services.metrics)
            await lag.open()
            opened.push_async_callback(lag.close)
        await services.generations.open()
        opened.push_async_callback(services.generations.close)
        yield


async def _open_store(store: Store, settings: Settings, predecessor: str | None = None) -> bytes:
    """Open the store, and return the secret of its owner tags."""
    try:
        await store.open()
        secret = _secret(settings)
        if predecessor is not None:
            await store.generations.expire_replica(predecessor)
        if not await store.deployment.check_shared_setting("secret", fingerprint(secret)):
            raise SettingsError(_other_secret(settings))
    except StoreUnavailable as error:
        name = "PostgreSQL" if settings.uses_postgres else f"the file {settings.database_path}"
        raise SettingsError(
            f"DATABASE_URL: {name} cannot be read or written: {error.__cause__}. Free it, or set another."
        ) from error
    return secret


async def prepare_file(settings: Settings) -> int:
    """Prepare a SQLite file for several workers; return its lock, which lasts as long as the caller and its children.

    As the only process on it: recover all journals, close what an earlier process left running, apply migrations, and
    make the secret.

    Raises:
        SettingsError: the file cannot be used as configured.
    """
    driver = SQLiteDriver(settings.database_path)
    store = Store(driver, wall_clock)
    try:
        await _open_store(store, settings)
        return driver.keep_lock()
    finally:
        await store.close()


def _require_secret(settings: Settings) -> None:
    if settings.uses_postgres and settings.secret is None:
        raise SettingsError(
            "CHATAPI_SECRET: with PostgreSQL it must be set, the same for every replica: 32 random characters or more, "
            "kept as carefully as the database: python -c 'import secrets; print(secrets.token_urlsafe())' makes one."
        )


def _secret(settings: Settings) -> bytes:
    if settings.secret is not None:
        return settings.secret.encode()
    try:
        return load_secret(settings.secret_path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"CHATAPI_SECRET: {error}") from error


def _other_secret(settings: Settings) -> str:
    if settings.secret is None:
        cause = f"the file {settings.secret_path} holds another. Restore it from a backup, or set CHATAPI_SECRET."
    else:
        cause = "it is another now. Set the one that this database was first used with, on every replica alike."
    return (
        f"CHATAPI_SECRET: the sessions in this database belong to owners that were told apart by a secret, and {cause}"
    )
