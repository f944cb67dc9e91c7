"""An upstream's answer in one piece, passed on as it is. Nothing is stored: a client that leaves ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.error_responses import limit_headers
from chatapi.api.http.identity import mark_accepted
from chatapi.api.http.services import Services
from chatapi.api.http.supervision import StreamSupervisor
from chatapi.model import Limit
from chatapi.upstream.passthrough import PassthroughBody


class WholeAnswer(Response):
    """The answer that `ask` returns. It counts as a running answer of its owner until it has come."""

    def __init__(
        self, services: Services, owner: str, ask: Callable[[], Awaitable[PassthroughBody]], limit: Limit | None
    ) -> None:
        super().__init__()
        self._services, self._owner, self._ask, self._limit = services, owner, ask, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        async with services.generations.admission.reserve_slot(self._owner):
            with StreamSupervisor(services.settings, receive) as supervisor:
                whole = await self._ask()
            if supervisor.client_left:
                return
            mark_accepted(HTTPConnection(scope), whole.metadata)
            headers = whole.metadata.headers | limit_headers(self._limit, whole.metadata.limit)
            await Response(whole.body, 200, headers, "application/json")(scope, receive, send)
