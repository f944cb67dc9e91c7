"""Errors as OpenAI's error object: the form of every error under `/v1`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from chatapi.api.http.error_responses import error_headers
from chatapi.errors import ChatError, InvalidKeyFormat, InvalidRequest, KeyRequired, UpstreamError

PREFIX = "/v1/"  # the paths whose errors have this form
_STATUS = {422: 400, 415: 400, 413: 400}  # the statuses that OpenAI's API uses here, and that its clients expect


def openai_error(error: ChatError) -> dict[str, Any]:
    """Return OpenAI's error object; after a refusal by the upstream, the upstream's own fields."""
    if isinstance(error, UpstreamError) and error.said is not None:
        _, message, kind, param, code = error.said
        return {"error": {"message": message, "type": kind or "invalid_request_error", "param": param, "code": code}}
    kind = "server_error" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    message, param, code = error.detail, error.param, error.code
    if isinstance(error, InvalidRequest):
        param = error.errors[0]["field"]
    if isinstance(error, InvalidKeyFormat | KeyRequired):
        code = "invalid_api_key"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def render(error: ChatError) -> Response:
    """Render an error as OpenAI's API would."""
    return Response(msgspec.json.encode(openai_error(error)), _status(error), error_headers(error), "application/json")


def _status(error: ChatError) -> int:
    if isinstance(error, UpstreamError) and error.said is not None:
        return error.said.status
    if isinstance(error, InvalidKeyFormat):
        return HTTPStatus.UNAUTHORIZED
    return _STATUS.get(error.status, error.status)
