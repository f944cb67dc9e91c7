"""Refusals of an upstream, translated into errors of this service.

An error is found in every form that servers are known to send: OpenAI's object, the same inside a list, a bare string,
FastAPI's `detail`. The status decides the class, or the code in the body where the status says 200. The upstream's own
sentence is passed on where it helps the caller: shortened, and without anything that looks like a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isnan
from typing import Any, NamedTuple

from chatapi.auth.credentials import Credential
from chatapi.errors import (
    UpstreamBroken,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamErrorBody,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatapi.upstream.overflow import find_overflow
from chatapi.wire.loose_json import UNREADABLE, read_json, storable

LONGEST_RETRY_SECONDS = 3600.0  # a longer Retry-After is passed on as this
DETAIL_CHARACTERS = 400  # of an upstream's own sentence that are passed on
OWN_KEY_REFUSED = (
    "The model API refuses the key that this server has for it. The operator has to replace it; the log names the "
    "upstream."
)
NO_SUCH_ADDRESS = (
    "The model API has no such address (status 404). Check that OPENAI_BASE_URL is complete; most end in /v1."
)
_COUNTS = ("n_prompt_tokens", "n_ctx")  # of llama.cpp
_RAW_CHARACTERS = 4096
_MESSAGES = ("message", "detail", "msg", "error_msg", "error_message", "error_description", "errors")
_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "not_found": 404,
    "overloaded_error": 503,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "service_unavailable": 503,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
}  # for errors that come with status 200; the names of OpenAI, Anthropic and Google


class ErrorReport(NamedTuple):
    """An error as an upstream reports it. `is_object`: in OpenAI's form or one like it, so the API itself answered."""

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    is_object: bool = False
    more: str = ""  # words beside the message: tokens that were counted, and an error that a gateway passes on

    @property
    def words(self) -> str:
        """All words of the error."""
        return f"{self.message or ''} {self.more}".strip()

    @property
    def status(self) -> int | None:
        """The HTTP status that the body itself names or implies, if it does."""
        for name in (self.code, self.type):
            if name and name.isascii() and name.isdecimal() and len(name) == 3 and 400 <= int(name) < 600:
                return int(name)
        for name in (self.code, self.type):
            if name and (status := _STATUS_OF_CODE.get(name.lower())):
                return status
        return None


def read_error(body: bytes | bytearray) -> ErrorReport:
    """Find the error in the body of a refusal; an empty report where there is none."""
    try:
        value = read_json(body)
        return find_error(value) or _flat_error(value) or ErrorReport()
    except UNREADABLE:  # also of a value that nests more deeply than a search can follow
        return ErrorReport()


def find_error(value: Any) -> ErrorReport | None:
    """Find the error that a JSON value plainly is or contains: a member `error`, or an object that calls itself one."""
    if isinstance(value, list):
        return next((found for one in value if (found := find_error(one)) is not None), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict) and error:
        return _report(error, is_object=True)
    if isinstance(error, str) and error:
        return _report({**value, "message": error}, is_object="model" in error)
    if error:
        return _report(value, is_object=False)
    if value.get("object") == "error" or value.get("type") == "error":
        return _report(value, is_object=True)
    if not value.get("choices") and value.get("detail"):
        return _report(value, is_object=False)
    return None


def _flat_error(value: Any) -> ErrorReport | None:
    """The error of an object that holds nothing but one, such as `{"message": …}`."""
    if isinstance(value, list):
        return next((found for one in value if (found := _flat_error(one)) is not None), None)
    return _report(value, is_object="code" in value or "type" in value) if isinstance(value, dict) else None


def _report(error: dict[str, Any], *, is_object: bool) -> ErrorReport:
    message = next((text for name in _MESSAGES if (text := _text_of(error.get(name)))), None)
    codes = [error.get(name) for name in ("code", "status", "status_code")]
    code = next((str(one) for one in codes if isinstance(one, str | int) and not isinstance(one, bool)), None)
    kind, param = error.get("type"), error.get("param")
    return ErrorReport(
        message,
        code,
        kind if isinstance(kind, str) else None,
        param if isinstance(param, str) else None,
        is_object and message is not None,
        _more_words(error),
    )


def _more_words(error: dict[str, Any]) -> str:
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # of OpenRouter
    counted = [f"{name}: {error[name]}" for name in _COUNTS if isinstance(error.get(name), int)]
    return " ".join([*counted, *([raw[:_RAW_CHARACTERS]] if isinstance(raw, str) else [])])


def _text_of(value: Any) -> str | None:
    """The text of a message, or of a list of them, as FastAPI's `detail` is one."""
    if isinstance(value, list):
        return "; ".join(text for one in value if (text := _text_of(one))) or None
    if isinstance(value, dict):
        return next((text for name in _MESSAGES if (text := _text_of(value.get(name)))), None)
    return value if isinstance(value, str) and value else None


def sentence(report: ErrorReport, credential: Credential) -> str | None:
    """Return the upstream's own words, shortened and without keys."""
    if not report.message:
        return None
    return credential.hide(storable(report.message))[:DETAIL_CHARACTERS]


def error_body(status: int, report: ErrorReport, credential: Credential) -> UpstreamErrorBody | None:
    """Return the refusal in the upstream's own words, for callers that speak its protocol."""
    own_key = status == HTTPStatus.UNAUTHORIZED and not credential.is_callers  # not the caller's affair
    if not report.message or own_key or not HTTPStatus.BAD_REQUEST <= status < 600:
        return None
    own = [
        credential.hide(storable(one))[:DETAIL_CHARACTERS] if one is not None else None
        for one in (report.type, report.param, report.code)
    ]
    return UpstreamErrorBody(status, sentence(report, credential) or "", *own)


def error_for_status(
    status: int, report: ErrorReport, credential: Credential, retry_after: float | None = None
) -> UpstreamError:
    """Return the error of this service for a status of the upstream. `retry_after` is in seconds."""
    said = sentence(report, credential)
    if (overflow := find_overflow(status, report.code, report.type, report.words)) is not None:
        exceeded = UpstreamContextExceeded(said)
        exceeded.limit_tokens, exceeded.requested_tokens = overflow
        return exceeded
    if status == HTTPStatus.UNAUTHORIZED:
        return UpstreamRejectedKey() if credential.is_callers else UpstreamBroken(OWN_KEY_REFUSED)
    if status == HTTPStatus.FORBIDDEN:
        return UpstreamForbidden(None if credential.is_callers else said)
    if status == HTTPStatus.NOT_FOUND:
        return UpstreamModelNotFound() if report.is_object else UpstreamBroken(NO_SUCH_ADDRESS)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        limited = UpstreamRateLimited(said, retry_after=retry_after)
        limited.asked_to_wait = retry_after
        limited.retryable = report.code != "insufficient_quota"
        return limited
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}:
        return UpstreamTimeout()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        unavailable = UpstreamUnavailable(retry_after=retry_after)
        unavailable.asked_to_wait = retry_after
        return unavailable
    if status >= HTTPStatus.BAD_REQUEST:
        return UpstreamRejectedRequest(said)
    return UpstreamBroken(f"The model API answered with status {status}, which is not in its protocol.")


def error_in_stream(report: ErrorReport, credential: Credential, *, started: bool) -> UpstreamError:
    """Return the error for one that came as an event of a 200. `started`: content came before it.

    Before any content, the status that the event names becomes the response's own. Afterwards only a rate limit keeps
    its name, because a client can act on that.
    """
    status = report.status
    if not started and find_overflow(None, report.code, report.type, report.words) is not None:
        status = status if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status is not None and not started):
        error = error_for_status(status, report, credential)
        error.said = error_body(status, report, credential)
        return error
    return UpstreamBroken(sentence(report, credential))


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds of `retry-after-ms` or `Retry-After` (RFC 9110, section 10.2.3), within reason.

    `now` is the time in seconds since the epoch, for a header that is a date.
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif value := headers.get("retry-after"):
            seconds = float(value) if value.strip()[:1].isdigit() else parsedate_to_datetime(value).timestamp() - now
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return None if isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)
