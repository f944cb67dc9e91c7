"""Errors as responses. The seed's two bodies exactly; everything else is problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from chatapi.api.http.request_body import describe
from chatapi.errors import (
    ChatError,
    InvalidKeyFormat,
    InvalidRequest,
    KeyRequired,
    MethodNotAllowed,
    NotFound,
    RequestError,
    SessionNotFound,
    UpstreamError,
)
from chatapi.model import Limit


def problem(error: ChatError) -> dict[str, Any]:
    """The body that tells of an error."""
    if isinstance(error, InvalidKeyFormat | SessionNotFound):
        return {"detail": error.detail}
    return {
        "type": f"/docs#{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.fields,
    }


def limit_headers(own: Limit | None, upstreams: Limit | None) -> dict[str, str]:
    """The seed's rate headers: the tighter of our limit and the upstream's, where there is one to tell of."""
    limits = [limit for limit in (own, upstreams) if limit is not None]
    if not limits:
        return {}
    tighter = min(limits, key=lambda limit: limit.remaining)
    return {"X-RateLimit-Limit": str(tighter.limit), "X-RateLimit-Remaining": str(tighter.remaining)}


def _headers(error: ChatError) -> dict[str, str]:
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    return headers


def render(error: ChatError) -> Response:
    """The response that tells of an error."""
    body, headers = problem(error), _headers(error)
    media_type = "application/problem+json" if "code" in body else "application/json"
    return Response(msgspec.json.encode(body), error.status, headers, media_type)


OPENAI_PATHS = "/v1/"  # where errors have OpenAI's form
_OPENAI_STATUS = {422: 400, 415: 400, 413: 400}  # as OpenAI's own API says these, and so as its clients expect them


def openai_error(error: ChatError) -> dict[str, Any]:
    """OpenAI's error object; the upstream's own words where it refused."""
    if isinstance(error, UpstreamError) and error.said is not None:
        _, message, kind, param, code = error.said
        return {"error": {"message": message, "type": kind or "invalid_request_error", "param": param, "code": code}}
    kind = "server_error" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    message, param, code = error.detail, error.param, error.code
    if isinstance(error, InvalidRequest):
        param = error.errors[0]["field"]
        message = f"{param}: {error.errors[0]['message']}"
    if isinstance(error, InvalidKeyFormat | KeyRequired):
        code = "invalid_api_key"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _openai_status(error: ChatError) -> int:
    if isinstance(error, UpstreamError) and error.said is not None:
        return error.said.status
    if isinstance(error, InvalidKeyFormat):
        return HTTPStatus.UNAUTHORIZED
    return _OPENAI_STATUS.get(error.status, error.status)


def render_for(path: str, error: ChatError) -> Response:
    """The response that tells of an error, in the form that belongs to this path."""
    response = render(error)
    if path.startswith(OPENAI_PATHS):
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        body = msgspec.json.encode(openai_error(error))
        return Response(body, _openai_status(error), headers, "application/json")
    return response


SENTENCES = "errors_as_sentences"  # set in the state of a request whose client shows a body as it is to a person


def sentence(error: ChatError) -> Response:
    """The response that tells of an error to a person."""
    text = error.detail
    if isinstance(error, InvalidRequest):
        text = f"{error.errors[0]['field']}: {error.errors[0]['message']}"
    return PlainTextResponse(text, error.status, _headers(error))


def install(app: FastAPI) -> None:
    """Let `app` tell of every error in this form, FastAPI's own included: those would echo the body, key and all."""

    async def chat_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ChatError)
        as_sentence = getattr(request.state, SENTENCES, False)
        response = sentence(error) if as_sentence else render_for(request.url.path, error)
        own = getattr(request.state, "limit", None)
        for name, value in limit_headers(own, error.limit if isinstance(error, UpstreamError) else None).items():
            response.headers.setdefault(name, value)
        return response

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return render_for(request.url.path, InvalidRequest(describe(list(error.errors()))))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known: dict[int, type[RequestError]] = {404: NotFound, 405: MethodNotAllowed}
        response = render_for(request.url.path, known.get(error.status_code, RequestError)())
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(ChatError, chat_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
