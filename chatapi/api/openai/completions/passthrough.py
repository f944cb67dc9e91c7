"""A completion that is passed on and not kept: stateless, frame for frame.

Nobody can come back for it, so a client that leaves ends it: the upstream's connection is closed. One request is one
task; what looks after it in its silences is a timer, not a task for each read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatapi.api.http.error_responses import limit_headers, openai_error
from chatapi.api.http.services import Services
from chatapi.api.http.streaming import ABORTED, RAW_SEND, disconnected
from chatapi.auth.keys import Key
from chatapi.errors import ChatError, Interrupted, UpstreamTimeout
from chatapi.model import Limit
from chatapi.upstream.client import Relay
from chatapi.wire import sse

TICK_SECONDS = 1.0  # between looks at a silence


class Watch:
    """Ends the task of a relay whose client has gone or whose time is up, and breaks its silences."""

    def __init__(self, core: Services, receive: Receive, beat: Callable[[], asyncio.Task[None]] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._settings = core.settings
        self._loop = asyncio.get_running_loop()
        self._beat = beat
        self._beating: asyncio.Task[None] | None = None
        self._begun = self.spoke = self._wrote = self._loop.time()
        self._silence = core.settings.first_token_seconds
        self.left = self.timed_out = self._over = False
        self._gone = asyncio.create_task(disconnected(receive), name="disconnect-watch")
        self._gone.add_done_callback(self._on_gone)
        tick = min(TICK_SECONDS, core.settings.first_token_seconds / 4, core.settings.idle_seconds / 4)
        self._tick_seconds = min(tick, core.settings.heartbeat_seconds / 2)
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def heard(self) -> None:
        """The upstream has said something."""
        self.spoke = self._wrote = self._loop.time()
        self._silence = self._settings.idle_seconds

    def _on_gone(self, gone: asyncio.Task[None]) -> None:
        if not (gone.cancelled() or self._over):
            self.left = True
            self._task.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        if now > min(self.spoke + self._silence, self._begun + self._settings.total_seconds):
            self.timed_out = True
            self._task.cancel()
            return
        if self._beat is not None and now - self._wrote >= self._settings.heartbeat_seconds:
            self._wrote = now
            if self._beating is None or self._beating.done():  # else nobody reads
                self._beating = self._beat()
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def end(self) -> None:
        """Look no more."""
        self._over = True  # a callback may be on its way, and the task has its place to give back
        self._timer.cancel()
        self._gone.cancel()
        if self._beating is not None:
            self._beating.cancel()

    def why(self) -> ChatError | None:
        """The error that a cancelled relay ends with; None where nobody is there to be told."""
        if self.left:
            return None
        self._task.uncancel()
        return UpstreamTimeout() if self.timed_out else Interrupted()


class WholeRelay(Response):
    """A completion in one piece, passed on."""

    def __init__(self, core: Services, key: Key, owner: str, body: bytes, limit: Limit | None) -> None:
        self._core, self._key, self._owner, self._body, self._limit = core, key, owner, body, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        core = self._core
        async with core.generations.place(self._owner):
            watch = Watch(core, receive, None)
            try:
                whole = await core.upstream.complete(self._key, self._body, core.settings.max_context_bytes)
            except asyncio.CancelledError:
                error = watch.why()
                if error is None:
                    return
                raise error from None
            finally:
                watch.end()
            headers = whole.headers | limit_headers(self._limit, whole.limit)
            await Response(whole.body, 200, headers, "application/json")(scope, receive, send)


class StreamRelay(Response):
    """A streamed completion, passed on. The status waits for the upstream's, but not for ever."""

    def __init__(self, core: Services, key: Key, owner: str, body: bytes, limit: Limit | None, choices: int) -> None:
        self._core, self._key, self._owner, self._body, self._limit = core, key, owner, body, limit
        self._choices = choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._core.generations.place(self._owner):
            opening = asyncio.create_task(
                self._core.upstream.relay(self._key, self._body, self._choices), name="relay-opening"
            )
            try:
                await self._relay(opening, scope, receive, send)
            finally:
                opening.cancel()
                if opening.done() and not opening.cancelled() and opening.exception() is None:
                    self._core.upstream.release(opening.result())

    async def _relay(self, opening: asyncio.Task[Relay], scope: Scope, receive: Receive, send: Send) -> None:
        write: Send = scope.get(RAW_SEND, send)
        started = unread = False

        async def beat() -> None:
            if started and not unread:
                await write({"type": "http.response.body", "body": sse.HEARTBEAT, "more_body": True})

        watch = Watch(self._core, receive, lambda: asyncio.create_task(beat(), name="relay-heartbeat"))
        try:
            try:
                await asyncio.wait({opening}, timeout=self._core.settings.status_seconds)
                relay = opening.result() if opening.done() else None
                await send({"type": "http.response.start", "status": 200, "headers": self._head(relay)})
                started = True
                relay = relay or await opening
                async for frames in relay.read():
                    watch.heard()
                    unread = True
                    await write({"type": "http.response.body", "body": frames, "more_body": True})
                    unread = False
            except asyncio.CancelledError:
                error = watch.why()
                if error is None:
                    return
                if unread:  # nor would this be: the connection is cut
                    scope[ABORTED] = True
                    return
                raise error from None
        except ChatError as error:
            if not started:
                raise
            last = b"data: %b\n\n" % msgspec.json.encode(openai_error(error))
            await write({"type": "http.response.body", "body": last, "more_body": True})
        finally:
            watch.end()
        await write({"type": "http.response.body", "body": b"", "more_body": False})

    def _head(self, relay: Relay | None) -> list[tuple[bytes, bytes]]:
        headers = dict(relay.headers) if relay is not None else {}
        headers |= limit_headers(self._limit, relay.limit if relay is not None else None)
        headers |= {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store, no-transform",
            "X-Accel-Buffering": "no",
        }
        return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
