"""GET /metrics: the numbers of this process for Prometheus."""

from __future__ import annotations

import asyncio
import hmac

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.identity import comes_from_a_page, has_own_host, is_forwarded
from chatapi.api.http.services import Services, services_of
from chatapi.errors import MetricsTokenRequired, NotFound
from chatapi.settings import Settings

direct = DirectRoutes()


@direct.get("/metrics")
async def metrics(request: Request) -> Response:
    """Serve the metrics, unless they are off or have a port of their own."""
    services = services_of(request)
    settings = services.settings
    if settings.metrics == "off" or settings.metrics_port is not None:
        raise NotFound
    if settings.metrics_token is None and (is_forwarded(request) or _is_of_another_site(request, settings)):
        raise NotFound  # a proxy that passes everything on would publish them, and so would the operator's browser
    return await scrape(services, request)


def _is_of_another_site(request: Request, settings: Settings) -> bool:
    """Return whether a page may have sent a request: a scraper sends no `Origin`, and names this server."""
    return comes_from_a_page(request.scope) or not has_own_host(request, settings)


async def scrape(services: Services, request: HTTPConnection) -> Response:
    """Return the response to a scrape. Rendering takes milliseconds, so it runs on a thread.

    Raises:
        MetricsTokenRequired: the request does not bring the token of the settings.
    """
    token = services.settings.metrics_token
    if token is not None:
        sent = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(sent, f"Bearer {token}".encode()):
            raise MetricsTokenRequired
    from chatapi.metrics.exposition import expose  # here: its package takes a tenth of a second to import

    found = await asyncio.to_thread(expose, services.metrics.snapshot(), request.headers.get("accept", ""))
    return Response(found.body, headers={"Content-Type": found.content_type})
