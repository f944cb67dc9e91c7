"""How routes are documented. Nothing here runs for a request: `chatapi.api.ops.openapi` makes the document from it.

A folder of routes has a module `schemas` with an `operation` for each route: `@router.get("/api/usage", **GET_USAGE)`.
FastAPI's `response_model` would build a serializer for each route at start, which no route here would use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from msgspec import Meta
from starlette.responses import Response

from chatapi.errors import (
    AnswerTooLarge,
    BodyTooLarge,
    ChatError,
    ContextTooLarge,
    Draining,
    IdempotencyMismatch,
    Interrupted,
    InvalidKeyFormat,
    InvalidRequest,
    KeyRequired,
    MalformedJSON,
    NothingToAnswer,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    SessionBusy,
    SessionFull,
    SessionNotFound,
    StoreUnavailable,
    TooManyGenerations,
    Unavailable,
    UnsupportedMediaType,
    UpstreamBroken,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamTimeout,
    UpstreamUnavailable,
)

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream"
BEARER, HEADER_KEY = "bearer", "apiKey"  # the names of the security schemes

Errors = tuple[type[ChatError], ...]
SERVER_ERRORS: Errors = (ChatError, RateLimited, Unavailable, StoreUnavailable, Overloaded)
KEY_ERRORS: Errors = (InvalidKeyFormat, InvalidRequest)
OWNER_ERRORS: Errors = (*KEY_ERRORS, KeyRequired)
SESSION_ERRORS: Errors = (*OWNER_ERRORS, SessionNotFound)
BODY_ERRORS: Errors = (MalformedJSON, BodyTooLarge, UnsupportedMediaType, InvalidRequest)
UPSTREAM_ERRORS: Errors = (
    UpstreamRejectedRequest,
    UpstreamContextExceeded,
    UpstreamRejectedKey,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamError,
    UpstreamBroken,
    UpstreamUnavailable,
    UpstreamTimeout,
)
TURN_ERRORS: Errors = (
    NothingToAnswer,
    SessionBusy,
    ContextTooLarge,
    SessionFull,
    QuotaExceeded,
    IdempotencyMismatch,
    TooManyGenerations,
    Draining,
    Interrupted,
    AnswerTooLarge,
    *UPSTREAM_ERRORS,
)

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601, UTC, with its offset."""


class Problem(TypedDict, total=False):
    """Base of `ProblemDetails`: the members that only some problems have."""

    errors: Annotated[list[FieldError], Meta(description="The fields that were rejected; at most 20.")]
    generation_id: Annotated[str, Meta(description="`session_busy`: the running generation.")]


class FieldError(TypedDict):
    """A field that was rejected. No value of the request is repeated."""

    field: Annotated[str, Meta(description="The path of the field, such as `messages.0.role`.")]
    message: str


class ProblemDetails(Problem):
    """An error (RFC 9457). Programs read `code`, people read `detail`."""

    type: Annotated[str, Meta(description="A URL with the meaning of the code.")]
    title: str
    status: int
    detail: str
    code: str


class SeedError(TypedDict):
    """The body of `session_not_found` and `invalid_api_key_format`."""

    detail: str


class OpenAIErrorDetail(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(TypedDict):
    """OpenAI's error object. If the upstream rejected the request, it is the upstream's error."""

    error: OpenAIErrorDetail


schema_types: dict[str, Any] = {}
"""The types that `reference` was called with, by component name: pydantic models, TypedDicts, msgspec structs."""
unions: dict[str, dict[str, Any]] = {}
"""The schemas made by `one_of`, by component name."""
open_types: set[str] = set()
"""The component names given to `allow_unknown`."""
field_descriptions: dict[str, dict[str, str]] = {}
"""The descriptions given by `describe`, by component name and field."""


def reference(schema_type: Any) -> dict[str, Any]:
    """Return a reference to the component of a type, and have the document contain it."""
    name = schema_type.__name__
    known = schema_types.setdefault(name, schema_type)
    assert known is schema_type, f"two schemas are named {name}"
    return _reference_to(name)


def one_of(name: str, *schema_type: Any) -> dict[str, Any]:
    """Return a reference to a component that is one of several types."""
    unions[name] = {"title": name, "anyOf": [reference(one) for one in schema_type]}
    return _reference_to(name)


def _reference_to(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def allow_unknown(*schema_type: Any) -> None:
    """State that the objects of these types can have other members: an upstream makes them, or passes them on."""
    open_types.update(one.__name__ for one in schema_type)


def header_reference(name: str) -> dict[str, str]:
    """Return a reference to a response header; with the suffix `-optional`, to one that is not always sent."""
    return {"$ref": f"#/components/headers/{name}"}


def describe(schema_type: Any, **fields: str) -> None:
    """Describe the fields of a request body; the names are those in JSON."""
    field_descriptions.setdefault(schema_type.__name__, {}).update(fields)


@dataclass(frozen=True)
class Content:
    """A representation of a successful response."""

    media_type: str
    schema: dict[str, Any]
    status: int = 200
    description: str = "Success."
    headers: tuple[str, ...] = ()
    events: Mapping[str, dict[str, Any]] | None = None


def json_content(schema_type: Any, description: str = "Success.", status: int = 200, *headers: str) -> Content:
    """Return a JSON representation."""
    return Content(JSON, reference(schema_type), status, description, headers)


def text_content(media_type: str, description: str, *headers: str) -> Content:
    """Return a representation that is text."""
    return Content(media_type, {"type": "string"}, 200, description, headers)


def event_content(description: str, events: Mapping[str, Any], *headers: str) -> Content:
    """Return an event stream. `events` maps the name or `type` of each event to the type of its data."""
    schemas = {name: one if isinstance(one, dict) else reference(one) for name, one in events.items()}
    return Content(EVENTS, {}, 200, description, headers, schemas)  # OpenAPI 3.1 cannot describe events


def no_content(description: str, status: int = 204) -> Content:
    """Return a response without a body."""
    return Content("", {}, status, description)


@dataclass(frozen=True)
class Example:
    """A request to an operation. `$NAMES` in it stand for values of earlier responses, such as `$SESSION_ID`.

    A test sends it to a server with the simulator, and compares the response with the one in the document.
    """

    name: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    key: bool = True  # send $KEY as Authorization: Bearer


class Operation(TypedDict):
    """The arguments of a FastAPI route decorator that document an operation."""

    operation_id: str
    summary: str
    description: str
    status_code: int
    response_class: type[Response]
    response_description: str
    responses: dict[int | str, dict[str, Any]]
    openapi_extra: dict[str, Any]


def operation(
    operation_id: str,
    summary: str,
    description: str,
    *contents: Content,
    errors: Errors = (),
    security: list[dict[str, list[str]]] | None = None,
    body: Any = None,
    body_required: bool = True,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    examples: tuple[Example, ...] = (),
    errors_as_text: bool = False,
) -> Operation:
    """Document an operation; its first content is its usual response.

    `body` is a type, or a reference from `one_of`. `parameters` describes the parameters of the route's function,
    `headers` the request headers that the route reads itself. The error classes become responses in the error format
    of the path, with `errors_as_text` also as plain text.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for content in contents:
        response = responses.setdefault(content.status, {"description": content.description})
        if content.media_type:
            response.setdefault("content", {})[content.media_type] = {"schema": content.schema} | (
                {"x-events": dict(content.events)} if content.events is not None else {}
            )
        for name in content.headers:
            response.setdefault("headers", {})[name.removesuffix("-optional")] = header_reference(name)
    extra: dict[str, Any] = {
        "security": security if security is not None else [],
        "x-errors": [error.code for error in (*SERVER_ERRORS, *errors)],
        "x-examples": examples,
        "x-parameters": dict(parameters or {}),
        "x-errors-as-text": errors_as_text,
        "parameters": [
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
            for name, text in (headers or {}).items()
        ],
    }
    if body is not None:
        schema = body if isinstance(body, dict) else reference(body)
        extra["requestBody"] = {"required": body_required, "content": {JSON: {"schema": schema}}}
    return Operation(
        operation_id=operation_id,
        summary=summary,
        description="\n".join(line.removeprefix("    ") for line in description.split("\n")),
        status_code=contents[0].status,
        response_class=Response,  # without a media type, so FastAPI adds no representation of its own
        response_description=contents[0].description,
        responses=responses,
        openapi_extra=extra,
    )


NO_KEY: list[dict[str, list[str]]] = []
REQUIRED_KEY: list[dict[str, list[str]]] = [{BEARER: []}, {HEADER_KEY: []}]
OPTIONAL_KEY: list[dict[str, list[str]]] = [*REQUIRED_KEY, {}]
