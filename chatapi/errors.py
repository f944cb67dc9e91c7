"""All errors of the service, in one tree.

    ChatError
    ├── RequestError                the request cannot be served as sent
    │   ├── MalformedJSON           400
    │   ├── InvalidKeyFormat        400  the seed's body
    │   ├── NothingToAnswer         400
    │   ├── PreviousNotFound        400
    │   ├── KeyRequired             401
    │   ├── QuotaExceeded           403
    │   ├── SessionNotFound         404  the seed's body
    │   ├── MessageNotFound         404
    │   ├── ResponseNotFound        404
    │   ├── ConversationNotFound    404
    │   ├── ItemNotFound            404
    │   ├── NotFound                404
    │   ├── QueuedMessageNotFound   404
    │   ├── SummaryNotFound         404
    │   ├── ShareNotFound           404
    │   ├── MethodNotAllowed        405
    │   ├── SessionBusy             409
    │   ├── QueueFull               409
    │   ├── BodyTooLarge            413
    │   ├── ContextTooLarge         413
    │   ├── SessionFull             413
    │   ├── UnsupportedMediaType    415
    │   ├── PositionOutOfRange      416
    │   ├── InvalidRequest          422
    │   ├── IdempotencyMismatch     422
    │   ├── RateLimited             429
    │   ├── TooManyGenerations      429
    │   └── TooManyConnections      429
    ├── Unavailable                 503  temporary; the same request may work later
    │   ├── StoreUnavailable
    │   ├── Overloaded
    │   ├── Draining
    │   └── Interrupted                  the server stopped before the answer was complete
    ├── UpstreamError               the model API rejected the request, failed or was not reached
    │   ├── UpstreamRejectedRequest 400
    │   │   └── UpstreamContextExceeded  400
    │   ├── UpstreamUnsupported     400
    │   ├── UpstreamRejectedKey     401
    │   ├── UpstreamForbidden       403
    │   ├── UpstreamModelNotFound   404
    │   ├── UpstreamRateLimited     429
    │   ├── UpstreamBroken          502  protocol violation, or the stream ended early
    │   ├── UpstreamUnavailable     503  status 5xx, or not reached
    │   ├── UpstreamTimeout         504
    │   └── AnswerTooLarge          502
    └── SessionDeleted              404  deleted while a client read its answer

Each class carries its HTTP status, its stable code and a message that is safe to show. `detail` may add facts about the
instance; it never repeats input of the caller. `docs/http.md` lists the codes; a test compares the list with this tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from chatapi.model import Limit


class ChatError(Exception):
    """Root of the tree; raised itself, an unexpected server error."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    param: str | None = None  # name of the field at fault, if there is one
    message: ClassVar[str] = (
        "Internal server error. Try again; if the error persists, report the request id to the operator."
    )

    def __init__(
        self, detail: str | None = None, *, retry_after: float | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.detail = detail or self.message
        self.retry_after = retry_after
        self.headers = headers or {}
        super().__init__(self.detail)

    @property
    def fields(self) -> dict[str, Any]:
        """Extra members of the problem body."""
        return {}


class RequestError(ChatError):
    """The request cannot be served as sent."""

    status = 400
    code = "bad_request"
    message = "The request cannot be served as sent."


class MalformedJSON(RequestError):
    code = "malformed_json"
    message = "The body is not well-formed JSON in UTF-8. Send one JSON object."


class InvalidKeyFormat(RequestError):
    """The key does not match `CHATAPI_KEY_PATTERN`. The response body is fixed by the seed contract."""

    code = "invalid_api_key_format"
    message = "Invalid API Key format. The key should start with 'sk-proj-' and be 164 characters long."


class NothingToAnswer(RequestError):
    code = "nothing_to_answer"
    message = "There is no new message to answer. Send a message, or name a message that is not an answer."


class KeyRequired(RequestError):
    status = 401
    code = "api_key_required"
    message = "This route requires an API key. Send it as Authorization: Bearer or as X-API-Key."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class MetricsTokenRequired(RequestError):
    status = 401
    code = "metrics_token_required"
    message = "The metrics require the token of CHATAPI_METRICS_TOKEN. Send it as Authorization: Bearer."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class SessionNotFound(RequestError):
    """The session does not exist, was deleted, or belongs to another owner. The three cases look the same."""

    status = 404
    code = "session_not_found"
    message = "Session not found"


class MessageNotFound(RequestError):
    """The session has no message with this id."""

    status = 404
    code = "message_not_found"
    message = "Message not found in this session."


class ResponseNotFound(RequestError):
    """The response does not exist, was not stored, was deleted, or belongs to another owner."""

    status = 404
    code = "response_not_found"
    message = "Response not found."


class PreviousNotFound(RequestError):
    """`previous_response_id` names no response of the caller. OpenAI's API gives this a status of its own."""

    status = 400
    code = "previous_response_not_found"
    message = "The previous response was not found. Send the whole conversation as input, without previous_response_id."


class ConversationNotFound(RequestError):
    """The conversation does not exist, was deleted, or belongs to another owner."""

    status = 404
    code = "conversation_not_found"
    message = "Conversation not found."


class ItemNotFound(RequestError):
    status = 404
    code = "item_not_found"
    message = "Item not found in this conversation."


class NotFound(RequestError):
    status = 404
    code = "not_found"
    message = "Unknown path. /docs lists the routes."


class QueuedMessageNotFound(RequestError):
    status = 404
    code = "queued_message_not_found"
    message = "The session's queue has no such message: it has started, or was removed."


class SummaryNotFound(RequestError):
    status = 404
    code = "summary_not_found"
    message = "The session has no such summary: it was removed, or messages were deleted."


class ShareNotFound(RequestError):
    """The link does not exist, has expired, or was removed. The cases look the same."""

    status = 404
    code = "share_not_found"
    message = "This link does not exist or has expired."


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"
    message = "Method not allowed on this path. /docs lists the routes."


class SessionBusy(RequestError):
    """The session has a running generation. An immediate retry fails again."""

    status = 409
    code = "session_busy"
    message = (
        'The session has a running answer. Wait for it, stop it, or send again with "if_busy": "interrupt" or "queue".'
    )

    def __init__(self, generation_id: str) -> None:
        super().__init__(headers={"X-Should-Retry": "false", "X-Generation-ID": generation_id})
        self.generation_id = generation_id

    @property
    def fields(self) -> dict[str, Any]:
        return {"generation_id": self.generation_id}


class QueueFull(RequestError):
    """As many messages wait in the session as this server allows. An immediate retry fails again."""

    status = 409
    code = "queue_full"
    message = "The session's queue is full (CHATAPI_MAX_QUEUED). Wait for an answer to end, or remove a queued message."

    def __init__(self) -> None:
        super().__init__(headers={"X-Should-Retry": "false"})


class BodyTooLarge(RequestError):
    status = 413
    code = "body_too_large"
    message = "The request body exceeds the size limit of this route."


class ContextTooLarge(RequestError):
    status = 413
    code = "context_too_large"
    message = "The conversation exceeds CHATAPI_MAX_CONTEXT_BYTES. Start a new session."


class SessionFull(RequestError):
    status = 413
    code = "session_full"
    message = "The session has reached CHATAPI_MAX_SESSION_MESSAGES or CHATAPI_MAX_SESSION_BYTES. Start a new session."


class QuotaExceeded(RequestError):
    status = 403
    code = "quota_exceeded"
    message = "No more sessions or messages can be stored. Delete sessions, or raise the quota."


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"
    message = "Send the body as JSON, with the header Content-Type: application/json."


class PositionOutOfRange(RequestError):
    status = 416
    code = "position_out_of_range"
    message = "The position is outside this answer's log. Read from 0, or from the number of bytes you received."


class InvalidRequest(RequestError):
    """Fields are missing, of the wrong type, unknown or out of range. `errors` names them without their values.

    `detail` names the first one: some clients show nothing else of a response.
    """

    status = 422
    code = "invalid_request"
    message = "`detail` names a field that is invalid, and `errors` all of them."

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{errors[0]['field']}: {errors[0]['message']}")
        self.errors = errors

    @classmethod
    def field(cls, field: str, message: str) -> InvalidRequest:
        """Return the error for one field."""
        return cls([{"field": field, "message": message}])

    @property
    def fields(self) -> dict[str, Any]:
        return {"errors": self.errors}


class IdempotencyMismatch(RequestError):
    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used with a different request. Use a new key for a new request."


class RateLimited(RequestError):
    status = 429
    code = "rate_limited"
    message = "Too many requests with this key (CHATAPI_RATE_LIMIT). Retry after the time in Retry-After."


class TooManyGenerations(RequestError):
    status = 429
    code = "too_many_generations"
    message = "Too many running answers for this key (CHATAPI_MAX_GENERATIONS_PER_KEY). Wait for one, or stop one."


class TooManyConnections(RequestError):
    status = 429
    code = "too_many_connections"
    message = "Too many open WebSockets of this caller. Close one, or send more requests over each."

    def __init__(self, detail: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class Unavailable(ChatError):
    """Temporary failure of this server; the same request may work later."""

    status = 503
    code = "unavailable"
    message = "The server cannot serve the request now. Retry after the time in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class StoreUnavailable(Unavailable):
    code = "store_unavailable"
    message = (
        "The server cannot reach its store now. No acknowledged data is lost. Retry after the time in Retry-After."
    )


class Overloaded(Unavailable):
    code = "overloaded"
    message = "The server is at its limit of running answers. Retry after the time in Retry-After."


class Draining(Unavailable):
    code = "draining"
    message = "This server is shutting down. Send the request again."


class UpstreamErrorBody(NamedTuple):
    """The upstream's own error object and its HTTP status."""

    status: int
    message: str
    type: str | None
    param: str | None
    code: str | None


class UpstreamError(ChatError):
    """The model API rejected the request, failed or was not reached."""

    status = 502
    code = "upstream_error"
    message = "The model API returned an unexpected response."
    limit: Limit | None = None  # the upstream's request limit, if its response names one
    said: UpstreamErrorBody | None = None
    asked_to_wait: float | None = None  # seconds, if the upstream named them
    retryable: bool = True
    upstream_status: int | None = None  # of the response that was the error


class UpstreamRejectedRequest(UpstreamError):
    status = 400
    code = "upstream_rejected_request"
    message = "The model API rejected the request."


class UpstreamUnsupported(UpstreamError):
    """The model API has no route for this operation, and this server does not do it by itself."""

    status = 400
    code = "unsupported_by_upstream"
    message = "The model API does not support this operation."
    retryable = False


class UpstreamContextExceeded(UpstreamRejectedRequest):
    """The conversation is longer than the model's context. The tokens are as the upstream stated them."""

    code = "context_length_exceeded"
    message = (
        'The conversation is longer than the context of the model. Send again with "context": "truncate", which leaves '
        "out the oldest messages, choose another model, or start a new session."
    )
    limit_tokens: int | None = None
    requested_tokens: int | None = None


class UpstreamRejectedKey(UpstreamError):
    """The upstream answered 401. The message is fixed by the seed contract."""

    status = 401
    code = "authentication_failed"
    message = "Authentication failed. Please check your API key."


class UpstreamForbidden(UpstreamError):
    status = 403
    code = "permission_denied"
    message = "Permission denied. The API key is valid but lacks a permission; check its project's permissions."


class UpstreamModelNotFound(UpstreamError):
    status = 404
    code = "model_not_found"
    message = "The model does not exist, or this API key has no access to it."


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    message = "The model API rate-limits this key. Retry after the time in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=1.0 if retry_after is None else retry_after)


class UpstreamBroken(UpstreamError):
    status = 502
    code = "upstream_broken"
    message = "The model API ended the stream early, or violated its protocol. The text received so far is kept."


class AnswerTooLarge(UpstreamError):
    status = 502
    code = "answer_too_large"
    message = "The answer exceeds CHATAPI_MAX_ANSWER_BYTES. The text received so far is kept."


class UpstreamUnavailable(UpstreamError):
    status = 503
    code = "upstream_unavailable"
    message = "The model API is unreachable or reports a failure. Retry after the time in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=1.0 if retry_after is None else retry_after)


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    message = "The model API did not answer in time. The text received so far is kept."


class Interrupted(Unavailable):
    """The process that produced the answer ended before the answer was complete."""

    code = "interrupted"
    message = "The server stopped before the answer was complete. The text received so far is kept; send again."


class SessionDeleted(ChatError):
    """The session was deleted while its answer was being read."""

    status = 404
    code = "session_deleted"
    message = "The session was deleted while its answer was running."


def every_error() -> Iterator[type[ChatError]]:
    """Yield all classes of the tree, root first."""
    pending: list[type[ChatError]] = [ChatError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(error.__subclasses__())


def from_code(code: str | None, detail: str | None) -> ChatError:
    """Rebuild the error that a generation was stored with."""
    for error in every_error():
        if error.code == code and not issubclass(error, SessionBusy | InvalidRequest | KeyRequired):
            return error(detail)
    return ChatError(detail)
