"""Demo behaviour without a script: OpenAI's routes, validation and errors, and answers that quote the request.

Answers are a function of the request alone. They quote its messages, which shows whether the service sent the earlier
conversation: the simulator itself keeps no state.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from . import response_request, responses, wire
from .chat_request import Chat, RefusedError, check_key, refused, without_tools_and_reasoning
from .record import ReceivedRequest
from .reply import Reply, searches
from .response_events import Events
from .rest import other_route
from .scripts import Pause, Script, Step, json_body, stream_steps

COMPLETIONS: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MODELS: Final = "/v1/models"

REQUESTS_PER_MINUTE: Final = 10_000  # shown in headers only; no request is rejected, so that benchmarks are not limited
TOKENS_PER_MINUTE: Final = 10_000_000


class Demo:
    """Answers requests like OpenAI, at one word per `pace_seconds`."""

    def __init__(self, pace_seconds: float) -> None:
        self._pace_seconds = pace_seconds
        self._requests = Meter(REQUESTS_PER_MINUTE)
        self._tokens = Meter(TOKENS_PER_MINUTE)

    def __call__(self, request: ReceivedRequest) -> Script:
        """Return the answer or the error as a script."""
        try:
            return self._route(request)
        except RefusedError as error:
            return error.refusal.script()

    def _route(self, request: ReceivedRequest) -> Script:
        if (other := other_route(request.method, request.path)) is not None:
            check_key(request.headers)
            return json_body(other(request))
        is_model = request.path.startswith(f"{MODELS}/")
        if request.path not in (COMPLETIONS, RESPONSES, MODELS) and not is_model:
            raise refused(404, f"Invalid URL ({request.method} {request.path})")
        if request.method != ("POST" if request.path in (COMPLETIONS, RESPONSES) else "GET"):
            raise _wrong_method(request)
        check_key(request.headers)
        if is_model:
            return json_body(find_model(request.path.removeprefix(f"{MODELS}/")))
        if request.path == MODELS:
            return json_body(wire.model_list())
        if request.path == RESPONSES:
            return self._respond(request.body)
        return self._complete(without_tools_and_reasoning(request.body, Chat.parse(request.body)))

    def _complete(self, chat: Chat) -> Script:
        reply = Reply.to(chat)
        seconds = self._pace_seconds * (0 if chat.stream else len(reply.reasoning) + len(reply.content))
        headers = wire.headers(
            wire.EVENT_STREAM if chat.stream else wire.JSON,
            requests=self._requests.take(1),
            tokens=self._tokens.take(reply.usage.prompt_tokens + reply.usage.completion_tokens),
            processing_seconds=seconds,
        )
        if chat.stream:
            return Script(headers=headers, steps=self._stream(chat, reply))
        body = wire.completion(
            "".join(reply.content),
            model=chat.snapshot,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            reasoning="".join(reply.reasoning),
            calls=reply.calls,
            choices=chat.choices,
        )
        return replace(json_body(body, headers=headers), before_headers=(Pause(seconds),))

    def _respond(self, body: Any) -> Script:
        if isinstance(body, dict) and (fault := response_request.find_fault(body)) is not None:
            message, param, code = fault
            raise refused(400, message, param=param, code=code)
        chat = Chat.parse(response_request.chat_body(body) if isinstance(body, dict) else body)
        reply = Reply.to(chat)
        events = Events(chat.snapshot, body)
        is_whole = reply.finish_reason != "length"
        steps = responses.answer_steps(
            events,
            reply.content,
            reply.reasoning,
            reply.calls,
            asked=body,
            usage=reply.usage,
            is_whole=is_whole,
            pace_seconds=self._pace_seconds,
            query=chat.asked if searches(chat) else None,
        )
        if not chat.stream:
            return responses.whole_answer(steps, events, reply.usage, is_whole=is_whole)
        headers = wire.headers(
            wire.EVENT_STREAM,
            requests=self._requests.take(1),
            tokens=self._tokens.take(reply.usage.prompt_tokens + reply.usage.completion_tokens),
        )
        return Script(headers=headers, steps=steps)

    def _stream(self, chat: Chat, reply: Reply) -> Iterator[Step]:
        return stream_steps(
            wire.Chunks(chat.snapshot, usage=chat.include_usage, obfuscation=chat.obfuscation),
            reply.content,
            reasoning=reply.reasoning,
            calls=reply.calls,
            choices=chat.choices,
            pace_seconds=self._pace_seconds,
            finish_reason=reply.finish_reason,
            usage=reply.usage if chat.include_usage else None,
        )


class Meter:
    """Counts usage against a limit per minute; used capacity returns evenly over time."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._used = 0.0
        self._at = time.monotonic()

    def take(self, amount: int) -> wire.Allowance:
        """Use `amount` and return the state of the limit."""
        now = time.monotonic()
        per_second = self._limit / 60
        self._used = max(0.0, self._used - (now - self._at) * per_second) + amount
        self._at = now
        remaining = max(0, int(self._limit - self._used))
        return wire.Allowance(self._limit, remaining, reset_seconds=self._used / per_second)


def find_model(name: str) -> dict[str, Any]:
    """Return the model list entry of `name`."""
    if name not in wire.MODELS and name not in wire.SNAPSHOTS:
        raise refused(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return wire.model(name)


def _wrong_method(request: ReceivedRequest) -> RefusedError:
    message = (
        f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    )
    return refused(405, message, code="method_not_supported")
