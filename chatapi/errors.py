"""Every error that a caller can meet, in one tree.

    ChatError
    ├── RequestError                what was sent cannot be served as it is
    │   ├── MalformedJSON           400
    │   ├── InvalidKeyFormat        400  the seed's body
    │   ├── NothingToAnswer         400
    │   ├── KeyRequired             401
    │   ├── SessionNotFound         404  the seed's body
    │   ├── MessageNotFound         404
    │   ├── ResponseNotFound        404
    │   ├── ConversationNotFound    404
    │   ├── ItemNotFound            404
    │   ├── NotFound                404
    │   ├── MethodNotAllowed        405
    │   ├── SessionBusy             409
    │   ├── BodyTooLarge            413
    │   ├── ContextTooLarge         413
    │   ├── UnsupportedMediaType    415
    │   ├── PositionOutOfRange      416
    │   ├── InvalidRequest          422
    │   ├── IdempotencyMismatch     422
    │   ├── RateLimited             429
    │   └── TooManyGenerations      429
    ├── Unavailable                 503  this server cannot serve it now
    │   ├── StoreUnavailable
    │   ├── Overloaded
    │   ├── Draining
    │   └── Interrupted                  the server ended before the answer did
    ├── UpstreamError               the model API refused, broke or was not reached
    │   ├── UpstreamRejectedRequest 400
    │   ├── UpstreamRejectedKey     401
    │   ├── UpstreamForbidden       403
    │   ├── UpstreamModelNotFound   404
    │   ├── UpstreamRateLimited     429
    │   ├── UpstreamBroken          502  it answered, but not in the protocol, or broke off
    │   ├── UpstreamUnavailable     503  it said 5xx, or was not reached
    │   ├── UpstreamTimeout         504
    │   └── AnswerTooLarge          502
    └── SessionDeleted              404  while its answer was being read

Status, stable code and a message that is safe to show live on the class; `detail` may say more of the instance and
never holds what the caller sent. `docs/http.md` lists the codes, and a test holds it to this tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from chatapi.model import Limit


class ChatError(Exception):
    """The root: a server error that nobody foresaw."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    param: str | None = None  # the field that it is about, where it is about one
    message: ClassVar[str] = (
        "Something went wrong on this server. Try again; if it stays, tell its operator the request id."
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
        """Further members of the problem body."""
        return {}


class RequestError(ChatError):
    """What was sent cannot be served as it is."""

    status = 400
    code = "bad_request"
    message = "This request cannot be served as it is."


class MalformedJSON(RequestError):
    code = "malformed_json"
    message = "The body is not well-formed JSON in UTF-8. Send one JSON object."


class InvalidKeyFormat(RequestError):
    """The key is not of the form that this server takes; the body is the seed's, to the letter."""

    code = "invalid_api_key_format"
    message = "Invalid API Key format. The key should start with 'sk-proj-' and be 164 characters long."


class NothingToAnswer(RequestError):
    code = "nothing_to_answer"
    message = "There is no new message to answer here. Send one, or name a message that is not an answer itself."


class KeyRequired(RequestError):
    status = 401
    code = "api_key_required"
    message = "This route wants your API key: send it as Authorization: Bearer or as X-API-Key."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class SessionNotFound(RequestError):
    """No such session for this caller: never there, deleted, or somebody else's. The three look the same."""

    status = 404
    code = "session_not_found"
    message = "Session not found"


class MessageNotFound(RequestError):
    """No such message in this session."""

    status = 404
    code = "message_not_found"
    message = "There is no such message in this session."


class ResponseNotFound(RequestError):
    """No such response for this caller: never there, not kept, deleted, or somebody else's."""

    status = 404
    code = "response_not_found"
    message = "There is no such response."


class ConversationNotFound(RequestError):
    """No such conversation for this caller: never there, deleted, or somebody else's."""

    status = 404
    code = "conversation_not_found"
    message = "There is no such conversation."


class ItemNotFound(RequestError):
    status = 404
    code = "item_not_found"
    message = "There is no such item in this conversation."


class NotFound(RequestError):
    status = 404
    code = "not_found"
    message = "There is nothing at this address. The routes are listed at /docs."


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"
    message = "This address does not take that method. The routes are listed at /docs."


class SessionBusy(RequestError):
    """The session has a running generation. Waiting helps, repeating at once does not."""

    status = 409
    code = "session_busy"
    message = (
        'This session is still answering. Wait for the answer, stop it, or send again with "if_busy": "interrupt".'
    )

    def __init__(self, generation_id: str) -> None:
        super().__init__(headers={"X-Should-Retry": "false", "X-Generation-ID": generation_id})
        self.generation_id = generation_id

    @property
    def fields(self) -> dict[str, Any]:
        return {"generation_id": self.generation_id}


class BodyTooLarge(RequestError):
    status = 413
    code = "body_too_large"
    message = "The body is larger than this server takes."


class ContextTooLarge(RequestError):
    status = 413
    code = "context_too_large"
    message = "This conversation has grown larger than this server sends upstream. Begin a new session."


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"
    message = "Send the body as JSON, with the header Content-Type: application/json."


class PositionOutOfRange(RequestError):
    status = 416
    code = "position_out_of_range"
    message = "The position is not a place in this answer's log. Ask again from 0, or from what you have received."


class InvalidRequest(RequestError):
    """Some fields are missing, mistyped, unknown or out of bounds; `errors` names them and echoes nothing."""

    status = 422
    code = "invalid_request"
    message = "Some fields are not as this route takes them; `errors` names them."

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__()
        self.errors = errors

    @classmethod
    def field(cls, field: str, message: str) -> InvalidRequest:
        """The error for one field."""
        return cls([{"field": field, "message": message}])

    @property
    def fields(self) -> dict[str, Any]:
        return {"errors": self.errors}


class IdempotencyMismatch(RequestError):
    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used with another request. Use a new key for a new request."


class RateLimited(RequestError):
    status = 429
    code = "rate_limited"
    message = "Too many requests with this key. Wait as long as Retry-After says."


class TooManyGenerations(RequestError):
    status = 429
    code = "too_many_generations"
    message = "Too many answers are running for this key. Wait for one to end, or stop one."


class Unavailable(ChatError):
    """This server cannot serve it now; the same request may work soon."""

    status = 503
    code = "unavailable"
    message = "This server cannot serve the request now. Try again as Retry-After says."

    def __init__(self, detail: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class StoreUnavailable(Unavailable):
    code = "store_unavailable"
    message = "The server cannot write its store now. Nothing acknowledged is lost; try again as Retry-After says."


class Overloaded(Unavailable):
    code = "overloaded"
    message = "This server is running as many answers as it may. Try again as Retry-After says."


class Draining(Unavailable):
    code = "draining"
    message = "This server is shutting down. Send the request again; another will take it."


class UpstreamErrorBody(NamedTuple):
    """A refusal in the upstream's own words, and its status."""

    status: int
    message: str
    type: str | None
    param: str | None
    code: str | None


class UpstreamError(ChatError):
    """The model API refused, broke or was not reached."""

    status = 502
    code = "upstream_error"
    message = "The model API did not answer as it should."
    limit: Limit | None = None  # the upstream's request limit, when it told
    said: UpstreamErrorBody | None = None
    asked_to_wait: float | None = None  # seconds, when the upstream itself named them
    retryable: bool = True


class UpstreamRejectedRequest(UpstreamError):
    status = 400
    code = "upstream_rejected_request"
    message = "The model API refused the request."


class UpstreamRejectedKey(UpstreamError):
    """The upstream's 401; the sentence is the seed's."""

    status = 401
    code = "authentication_failed"
    message = "Authentication failed. Please check your API key."


class UpstreamForbidden(UpstreamError):
    status = 403
    code = "permission_denied"
    message = "Permission denied. The API key is valid, but it may not do this; check its project's permissions."


class UpstreamModelNotFound(UpstreamError):
    status = 404
    code = "model_not_found"
    message = "The model does not exist, or this API key may not use it."


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    message = "The model API takes no more requests with this key for now. Wait as long as Retry-After says."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=1.0 if retry_after is None else retry_after)


class UpstreamBroken(UpstreamError):
    status = 502
    code = "upstream_broken"
    message = "The model API broke off, or did not speak its protocol. What came before is kept."


class AnswerTooLarge(UpstreamError):
    status = 502
    code = "answer_too_large"
    message = "The answer grew larger than this server keeps. What came before is kept."


class UpstreamUnavailable(UpstreamError):
    status = 503
    code = "upstream_unavailable"
    message = "The model API cannot be reached, or says that it is out of order. Try again as Retry-After says."

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=1.0 if retry_after is None else retry_after)


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    message = "The model API did not answer in time. What came before is kept."


class Interrupted(Unavailable):
    """The process that produced the answer ended before the answer did."""

    code = "interrupted"
    message = "The server ended before the answer did. What came before is kept; send again for a new answer."


class SessionDeleted(ChatError):
    """The session was deleted while its answer was being read."""

    status = 404
    code = "session_deleted"
    message = "The session was deleted while it was answering."


def every_error() -> Iterator[type[ChatError]]:
    """All classes of the tree, the root first."""
    pending: list[type[ChatError]] = [ChatError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(error.__subclasses__())


def from_code(code: str | None, detail: str | None) -> ChatError:
    """The error that a generation was stored with, as it was first raised."""
    for error in every_error():
        if error.code == code and not issubclass(error, SessionBusy | InvalidRequest | KeyRequired):
            return error(detail)
    return ChatError(detail)
