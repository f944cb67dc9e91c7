"""Make the router from the file: one client for each upstream."""

from __future__ import annotations

from chatapi.metrics import Metrics
from chatapi.settings import Settings
from chatapi.upstream.client import Upstream
from chatapi.upstream.quirks import Quirks
from chatapi.upstream.routing.member import Member
from chatapi.upstream.routing.router import UpstreamRouter
from chatapi.upstream.routing.routes import ListedUpstream, RouteTable
from chatapi.wire.extras import origin_of


def make_router(table: RouteTable, settings: Settings, metrics: Metrics) -> UpstreamRouter:
    """Make the router for the upstreams of the file."""
    members: dict[str, Member] = {}
    addresses: set[str] = set()
    for name, listed in table.upstreams.items():
        # Of several accounts at one address, each has messages that only it can read. The first one reads those from
        # before there was a file.
        address = listed.entry.base_url
        origin = origin_of(f"{address}#{name}") if address in addresses else origin_of(address)
        addresses.add(address)
        members[name] = _make_member(table, listed, origin, settings, metrics)
    return UpstreamRouter(table, members, metrics)


def _make_member(
    table: RouteTable, listed: ListedUpstream, origin: str, settings: Settings, metrics: Metrics
) -> Member:
    entry = listed.entry
    quirks = Quirks(
        name=listed.name,
        origin=origin,
        key_header=entry.key_header,
        headers=entry.headers,
        rejected_fields=frozenset(entry.rejected_fields),
        retries=entry.retries,
    )
    upstream = Upstream(
        entry.base_url,
        entry.connect_seconds or settings.connect_seconds,
        entry.developer_role or settings.developer_role,
        settings.max_context_bytes,
        settings.proxy_for(entry.base_url),
        entry.api,
        _default_model(table, listed.name, settings.default_model),
        metrics=metrics,
        quirks=quirks,
    )
    return Member(listed, quirks, upstream)


def _default_model(table: RouteTable, upstream: str, model: str) -> str:
    """Return the upstream's name for the default model; empty if another upstream answers for it."""
    route = table.find(model)
    targets = route.equal if route is not None else ()
    return next((target.model for target in targets if target.upstream == upstream), "")
