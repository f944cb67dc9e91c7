"""The interface of the model API: one upstream (`client.Upstream`), or several (`routing.router.UpstreamRouter`)."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chatapi.auth.credentials import Credential
from chatapi.model import Microseconds
from chatapi.upstream.answer import Answer
from chatapi.upstream.forwarding import ForwardedAnswer, ForwardedRequest
from chatapi.upstream.passthrough import Passthrough, PassthroughBody
from chatapi.upstream.provider import Deltas
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.operations import Operation

Take = Callable[[Answer, Deltas], bool]
"""Takes the content of an answer as it arrives; see `Answer.deliver`."""
MakeRoom = Callable[[], Awaitable[None]]


class ModelAPI(Protocol):
    """Answers requests for models. `credential` is the caller's; which key goes upstream is decided here."""

    @property
    def last_success_at(self) -> Microseconds | None:
        """The time of the last response without an error status."""

    @property
    def default_model_notice(self) -> str | None:
        """A sentence for the operator if the default model has ended, or ends soon."""

    def out_of_order(self) -> dict[tuple[str, ...], float]:
        """Return for each of several upstreams whether it is not asked now, because it keeps failing: 1 or 0."""

    async def open(self) -> None:
        """Prepare. Nothing is sent."""

    async def close(self) -> None:
        """Close every connection."""

    def require(self, model: str, credential: Credential) -> None:
        """Return if there is an upstream for this model and this caller.

        Raises:
            UpstreamModelNotFound: there is none for the model.
            UpstreamRejectedKey: there is none for the caller.
        """

    @property
    def has_own_keys(self) -> bool:
        """Whether there are upstreams that do not get callers' keys."""

    def needs_callers_key(self, model: str, credential: Credential) -> bool:
        """Return whether an upstream of this model gets the caller's key."""

    def passes_completions_on(self, model: str, credential: Credential) -> bool:
        """Return whether a stateless completion is passed on as it is, not translated."""

    async def deliver(self, request: ModelRequest, credential: Credential, take: Take, make_room: MakeRoom) -> None:
        """Send a request and give `take` its answer, as `Answer.deliver` does.

        Raises:
            ContextTooLarge: the request is larger than this service sends.
            UpstreamError: no upstream answered, or the answer failed.
        """

    async def operate(
        self, operation: Operation, request: ModelRequest, credential: Credential, most_bytes: int
    ) -> PassthroughBody:
        """Ask for an operation of Responses, with the whole conversation, and return its answer as it is."""

    async def passthrough(self, model: str, credential: Credential, body: bytes, choices: int) -> Passthrough:
        """Send a streamed request, to pass its answer on; the caller gives it back with `release`."""

    async def complete(self, model: str, credential: Credential, body: bytes, most_bytes: int) -> PassthroughBody:
        """Send a request and return its answer, which comes in one piece."""

    def release(self, answer: Passthrough) -> None:
        """Close the connection of an answer that was passed on."""

    def forward(
        self, asked: ForwardedRequest, body: AsyncIterable[bytes], credential: Credential
    ) -> AbstractAsyncContextManager[ForwardedAnswer]:
        """Send a request unchanged, without retries, and yield its response; leaving the block closes it."""

    async def models(
        self, credential: Credential, most_bytes: int, seconds: float, name: str | None = None
    ) -> PassthroughBody:
        """Return the list of models, or its entry for one."""

    async def check_key(self, credential: Credential, seconds: float) -> bool:
        """Return if the key is accepted; the result is whether that shows that it is the key of a known caller.

        Raises:
            UpstreamRejectedKey, UpstreamForbidden: it is not, or not for this.
        """
