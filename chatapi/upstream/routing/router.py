"""Several upstreams as one: each request goes to an upstream of its model, and to the next one if that fails.

A request changes to another upstream only before its first content, and only after failures of the upstream. Which key
reaches which upstream is decided in one place, `RouteTable.credential_for`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

import structlog
from msgspec.structs import replace

from chatapi.auth.credentials import Credential
from chatapi.errors import (
    NotFound,
    UpstreamBroken,
    UpstreamError,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnsupported,
)
from chatapi.metrics import Metrics
from chatapi.model import Microseconds
from chatapi.model.content import visible_text
from chatapi.upstream.answer import Answer
from chatapi.upstream.api import MakeRoom, Take
from chatapi.upstream.forwarding import ForwardedAnswer, ForwardedRequest
from chatapi.upstream.passthrough import Passthrough, PassthroughBody
from chatapi.upstream.provider import Deltas
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.operations import Operation, unsupported
from chatapi.upstream.responses.request import find_unsupported
from chatapi.upstream.routing.bodies import CompletionBody
from chatapi.upstream.routing.breaker import State
from chatapi.upstream.routing.member import Attempt, Member, describe
from chatapi.upstream.routing.model_list import ModelList
from chatapi.upstream.routing.routes import ListedUpstream, RouteTable

SHARED_ACCOUNT_PATHS = frozenset({"embeddings", "moderations", "completions", "audio", "images"})
# Not passed on to a shared account: they choose an account, or two callers with the same key would share an answer.
_ACCOUNT_HEADERS = frozenset({"openai-organization", "openai-project", "idempotency-key"})
_MAY_HELP = (UpstreamUnavailable, UpstreamTimeout, UpstreamBroken, UpstreamRateLimited, UpstreamModelNotFound)
Result = TypeVar("Result")

logger = structlog.get_logger()


class Candidate(NamedTuple):
    """An upstream that may answer a request: its name for the model, and the credential of the caller there."""

    member: Member
    model: str
    credential: Credential


class UpstreamRouter:
    """The upstreams of the file."""

    def __init__(self, table: RouteTable, members: Mapping[str, Member], metrics: Metrics) -> None:
        self._table = table
        self._members = members
        self._metrics = metrics
        self._list = ModelList(table, members)

    @property
    def last_success_at(self) -> Microseconds | None:
        """The time of the last response without an error status, of any upstream."""
        return max((at for one in self._members.values() if (at := one.upstream.last_success_at)), default=None)

    @property
    def default_model_notice(self) -> str | None:
        """A sentence if the default model has ended at an upstream, or ends soon."""
        return next((text for one in self._members.values() if (text := one.upstream.default_model_notice)), None)

    def out_of_order(self) -> dict[tuple[str, ...], float]:
        """Return for each upstream whether it is not asked now, because it keeps failing: 1 or 0."""
        return {(name,): float(one.breaker.state is not State.CLOSED) for name, one in self._members.items()}

    async def open(self) -> None:
        """Prepare each upstream. Nothing is sent."""
        for member in self._members.values():
            await member.upstream.open()

    async def close(self) -> None:
        """Close every connection."""
        for member in self._members.values():
            await member.upstream.close()

    # Selection

    def require(self, model: str, credential: Credential) -> None:
        """Return if there is an upstream for this model and this caller.

        Raises:
            UpstreamModelNotFound: there is none for the model.
            UpstreamRejectedKey: there is none for the caller.
        """
        self._candidates(model, credential)

    @property
    def has_own_keys(self) -> bool:
        """Whether there are upstreams that do not get callers' keys."""
        return not all(member.listed.takes_callers_key for member in self._members.values())

    def needs_callers_key(self, model: str, credential: Credential) -> bool:
        """Return whether one of the upstreams of this model gets the caller's key."""
        route = self._table.require(model, credential)
        targets = (*route.equal, *route.fallback)
        return any(self._members[target.upstream].listed.takes_callers_key for target in targets)

    def passes_completions_on(self, model: str, credential: Credential) -> bool:
        """Return whether each upstream of this model has chat completions."""
        route = self._table.require(model, credential)
        targets = (*route.equal, *route.fallback)
        return all(self._members[target.upstream].listed.entry.api != "responses" for target in targets)

    def _candidates(self, model: str, credential: Credential, conversation: bytes | None = None) -> list[Candidate]:
        """Return the upstreams that may answer this caller, in the order in which they are asked."""
        candidates = []
        for target in self._table.order(self._table.require(model, credential), conversation):
            member = self._members[target.upstream]
            if (sent := self._table.credential_for(member.listed, credential)) is not None:
                candidates.append(Candidate(member, target.model, sent))
        if not candidates:
            raise UpstreamRejectedKey
        return candidates

    async def _first(
        self, candidates: list[Candidate], ask: Callable[[Candidate, Attempt], Awaitable[Result]]
    ) -> Result:
        """Ask one upstream after the other; return the first answer, or raise the last error."""
        for candidate, following in zip_longest(candidates, candidates[1:]):
            attempt = None
            try:
                with candidate.member.attempt() as attempt:
                    return await ask(candidate, attempt)
            except UpstreamError as error:
                began = attempt is not None and attempt.has_answered
                if began or following is None or not isinstance(error, _MAY_HELP):
                    raise
                names = {"upstream": candidate.member.name, "to": following.member.name}
                logger.warning("upstream fallback", **names, code=error.code)
                self._metrics.upstream_fell_back(candidate.member.name, following.member.name)
        raise AssertionError("the last candidate returns or raises")

    # Answers

    async def deliver(self, request: ModelRequest, credential: Credential, take: Take, make_room: MakeRoom) -> None:
        """Send a request and give `take` its answer, which comes from the next upstream if one fails before content.

        Raises:
            ContextTooLarge: the request is larger than this service sends.
            UpstreamUnsupported: no upstream of the model runs hosted tools.
            UpstreamError: no upstream answered, or the answer failed.
        """
        candidates = self._candidates(request.model, credential, _conversation(request))
        if request.responses.get("tools"):
            candidates = [one for one in candidates if one.member.listed.entry.api != "chat"]
            if not candidates:
                raise UpstreamUnsupported("No upstream of this model runs hosted tools.")
        candidates = [one for one in candidates if _takes(one, request.parameters)] or candidates[:1]

        async def ask(candidate: Candidate, attempt: Attempt) -> None:
            held = candidate is not candidates[-1]  # an event without content is no answer while another may begin
            seconds = candidate.member.listed.entry.first_token_seconds

            def note(answer: Answer, deltas: Deltas) -> bool:
                if not attempt.has_answered:
                    if not (deltas or answer.is_complete):
                        return held or take(answer, deltas)
                    if timer.expired():
                        return True  # too late by a moment: the next upstream is asked
                    attempt.answered()
                    timer.reschedule(None)
                return take(answer, deltas)

            try:
                async with asyncio.timeout(seconds) as timer:
                    sent = replace(request, model=candidate.model)
                    await candidate.member.upstream.deliver(sent, candidate.credential, note, make_room)
            except TimeoutError as error:
                raise UpstreamTimeout("The model API did not answer in time.") from error

        await self._first(candidates, ask)

    async def operate(
        self, operation: Operation, request: ModelRequest, credential: Credential, most_bytes: int
    ) -> PassthroughBody:
        """Ask for an operation of Responses, with the whole conversation, and return its answer as it is.

        Raises:
            UpstreamUnsupported: no upstream of the model has it.
            UpstreamError: no upstream answered.
        """
        candidates = self._candidates(request.model, credential, _conversation(request))
        able = [one for one in candidates if one.member.listed.entry.api != "chat"]
        if not able:
            error = unsupported(operation)
            describe(candidates[0].member, error)
            raise error

        async def ask(candidate: Candidate, _: Attempt) -> PassthroughBody:
            sent = replace(request, model=candidate.model)
            return await candidate.member.upstream.operate(operation, sent, candidate.credential, most_bytes)

        return await self._first(able, ask)

    # Passing on

    async def passthrough(self, model: str, credential: Credential, body: bytes, choices: int) -> Passthrough:
        """Send a streamed request with the upstream's name for the model, to pass its answer on.

        Raises:
            UpstreamError: no upstream answered.
        """
        read = CompletionBody(body)

        async def ask(candidate: Candidate, attempt: Attempt) -> Passthrough:
            member, sent = candidate.member, read.write(candidate.model, candidate.member.quirks)
            answer = await member.upstream.passthrough(candidate.model, candidate.credential, sent, choices)
            attempt.hold()

            def release() -> None:
                member.upstream.release(answer)
                attempt.release()

            answer.on_release = release
            return answer

        return await self._first(self._passing(model, credential, read), ask)

    async def complete(self, model: str, credential: Credential, body: bytes, most_bytes: int) -> PassthroughBody:
        """Send a request with the upstream's name for the model, and return its answer, which comes in one piece.

        Raises:
            UpstreamError: no upstream answered.
        """
        read = CompletionBody(body)

        async def ask(candidate: Candidate, _: Attempt) -> PassthroughBody:
            sent = read.write(candidate.model, candidate.member.quirks)
            return await candidate.member.upstream.complete(candidate.model, candidate.credential, sent, most_bytes)

        return await self._first(self._passing(model, credential, read), ask)

    def _passing(self, model: str, credential: Credential, body: CompletionBody) -> list[Candidate]:
        candidates = self._candidates(model, credential)
        return [one for one in candidates if one.member.quirks.accepts(body.fields)] or candidates[:1]

    def release(self, answer: Passthrough) -> None:
        """Close the connection of an answer that was passed on."""
        if answer.on_release is not None:
            answer.on_release()

    @asynccontextmanager
    async def forward(
        self, asked: ForwardedRequest, body: AsyncIterable[bytes], credential: Credential
    ) -> AsyncIterator[ForwardedAnswer]:
        """Send a request to the upstream that takes them, unchanged and without retries, and yield its response.

        Raises:
            NotFound: no upstream takes such requests.
            UpstreamRejectedKey: the file does not admit the caller.
            UpstreamError: the upstream is broken or cannot be reached, or the body broke off.
        """
        listed = self._forwarding(asked)
        if (sent := self._table.credential_for(listed, credential)) is None:
            raise UpstreamRejectedKey
        if not listed.takes_callers_key:
            kept = [(name, value) for name, value in asked.headers if name.lower() not in _ACCOUNT_HEADERS]
            asked = replace(asked, headers=kept)
        async with self._members[listed.name].upstream.forward(asked, body, sent) as answer:
            yield answer

    def _forwarding(self, asked: ForwardedRequest) -> ListedUpstream:
        if self._table.passthrough is None:
            raise NotFound(
                "The file of upstreams names no passthrough_upstream, to which this path would be passed on."
            )
        listed = self._table.upstreams[self._table.passthrough]
        if not listed.takes_callers_key and asked.path.partition("/")[0] not in SHARED_ACCOUNT_PATHS:
            raise NotFound(
                "This path is not passed on: its objects belong to an account, which all callers of this server share."
            )
        return listed

    # Models and keys

    async def models(
        self, credential: Credential, most_bytes: int, seconds: float, name: str | None = None
    ) -> PassthroughBody:
        """Return the models of the file and those of the upstreams whose lists are shown, or the entry for one.

        Raises:
            UpstreamError: no upstream can be asked, or there is no such model.
        """
        return await self._list.read(credential, most_bytes, seconds, name)

    async def check_key(self, credential: Credential, seconds: float) -> bool:
        """Return if the file admits the key, or the upstream that takes callers' keys accepts it.

        Raises:
            UpstreamRejectedKey, UpstreamForbidden: neither.
            UpstreamError: the upstream cannot be asked, or did not answer within so many seconds.
        """
        assert credential.key is not None, "a caller has a key"
        if self._table.callers.know(credential.key):
            return True
        for member in self._members.values():
            if member.listed.takes_callers_key:
                return await member.upstream.check_key(credential, seconds)
        if not self._table.callers.admit(credential.key):
            raise UpstreamRejectedKey
        return False


def _takes(candidate: Candidate, parameters: Mapping[str, Any]) -> bool:
    """Return whether an upstream takes these parameters of a caller."""
    if candidate.member.listed.entry.api == "responses" and find_unsupported(parameters) is not None:
        return False
    return candidate.member.quirks.accepts(parameters)


def _conversation(request: ModelRequest) -> bytes:
    """Return a digest of the beginning of a conversation, which its later turns share."""
    first = visible_text(request.messages[0].parts) if request.messages else ""
    return hashlib.blake2b("\0".join((*request.instructions[:1], first)).encode(), digest_size=16).digest()
