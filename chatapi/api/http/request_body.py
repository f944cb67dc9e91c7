"""Request bodies, read strictly: bounded, UTF-8, one JSON object, unique names; errors never repeat their content."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from math import isinf
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from starlette.requests import HTTPConnection, Request

from chatapi.api.http.identity import client_of, header_of, is_verified, mark_failed, work_group
from chatapi.api.http.services import WorkQueue, services_of
from chatapi.auth.keys import Key
from chatapi.errors import BodyTooLarge, InvalidRequest, MalformedJSON, Overloaded, UnsupportedMediaType
from chatapi.settings import Settings
from chatapi.wire.text import text_fault
from chatapi.wire.validation import requirement

JSON = "application/json"
COMPRESSED = "Send the body uncompressed, without the header Content-Encoding."
KEY_FIELD = "api_key"
INLINE_BYTES = 64 * 1024  # of a body that is read on the loop: some milliseconds at most
UNVERIFIED_INLINE_BYTES = 8 * 1024  # the same, of a caller whose key the model API has not accepted yet
MAX_VALUES = 50_000
MAX_ERRORS = 20  # of one body, in a response
_MARKS = (b",", b":", b"[", b"{")
_BACKSLASHES = re.compile(rb"\\*")
SLICE_BYTES = 32 * 1024  # of a body whose values are counted: about 1 ms
_NEITHER_MARK_NOR_QUOTE = bytes(set(range(256)) - set(b',:[{"'))
MAX_STOP_SEQUENCES = 4  # as in OpenAI's API
METADATA_ENTRIES, METADATA_NAME, METADATA_VALUE = 16, 64, 512  # of a session: entries, and characters
MODEL_PATTERN = r"^[A-Za-z0-9@][A-Za-z0-9_.:/@+-]{0,127}$"
PARSES = WorkQueue("parses", at_once=1)  # of large bodies: threads share one interpreter
UNVERIFIED_PARSES = WorkQueue("unverified parses", at_once=1, rests=3.0)  # a quarter of a core at most
_NAMEABLE = re.compile(r"[a-z_-]{1,32}")  # a field name that an error may repeat: no key consists of letters alone

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Body(BaseModel):
    """The base of all request bodies: no conversion, no unknown fields."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # at the first body: most servers see few of the dialects
    )


class _KeyField:
    """Lets pydantic accept a `Key`, which the parser has made."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(Key, cls_repr="string")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "password"}


KeyField = Annotated[Key, _KeyField]


def _check(text: str) -> str:
    if (fault := text_fault(text)) is not None:
        raise ValueError(fault)
    return text


Text = Annotated[str, AfterValidator(_check)]
"""A string that every database and every upstream accepts: Unicode without NUL and unpaired surrogates."""
ModelName = Annotated[str, Field(pattern=MODEL_PATTERN)]
"""The name of a model."""
Metadata = Annotated[
    dict[
        Annotated[Text, Field(max_length=METADATA_NAME)],
        Annotated[Text, Field(max_length=METADATA_VALUE)],
    ],
    Field(max_length=METADATA_ENTRIES),
]
"""The metadata of a session."""


ContextPolicyName = Literal["error", "truncate", "compact", "auto"]


class Parameters(Body):
    """The parameters of OpenAI's chat completions that are sent upstream unchanged."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000)
    stop: (
        Annotated[Text, Field(max_length=1000)]
        | Annotated[list[Annotated[Text, Field(max_length=1000)]], Field(min_length=1, max_length=MAX_STOP_SEQUENCES)]
        | None
    ) = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    reasoning_effort: str | None = Field(None, pattern="^[a-z]{1,16}$")
    verbosity: str | None = Field(None, pattern="^[a-z]{1,16}$")
    service_tier: str | None = Field(None, pattern="^[a-z_-]{1,32}$")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that were sent; all of them have types of JSON."""
        values = self.__dict__
        return {name: value for name in Parameters.model_fields if (value := values[name]) is not None}


async def read_body(request: Request, model: type[M], max_bytes: int | None = None) -> M:
    """Read the body of a request as `model`.

    Raises:
        UnsupportedMediaType, BodyTooLarge, Overloaded, MalformedJSON, InvalidRequest: see `receive_json` and `parse`.
    """
    return await read_json(request, await receive_json(request, max_bytes), partial(validate, model))


async def read_optional_body(request: Request, model: type[M], max_bytes: int | None = None) -> M:
    """Read the body of a request as `model`; a missing body counts as an empty object."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return validate(model, {})
    return await read_body(request, model, max_bytes)


async def read_raw_body(request: Request, max_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """Read the body of a request, which must be a JSON object without a key; return its bytes and its value.

    Raises:
        UnsupportedMediaType, BodyTooLarge, Overloaded, MalformedJSON, InvalidRequest: the body is not that.
    """
    data = await receive_json(request, max_bytes)
    return data, await read_json(request, data, _without_key, hide_keys=False)


def _without_key(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest.field("body", "The body must be a JSON object.")
    if KEY_FIELD in value:
        raise InvalidRequest.field(KEY_FIELD, "It must be left out: send the key as Authorization: Bearer.")
    return value


async def receive_json(request: Request, max_bytes: int | None = None) -> bytes:
    """Receive the body of a JSON request: at most `max_bytes`, the setting `max_body_bytes` by default.

    It counts towards the memory for unparsed bodies until it is read with `read_json`, or the request ends.

    Raises:
        UnsupportedMediaType: its content type is not JSON, or it is compressed.
        BodyTooLarge: it is too large.
        Overloaded: too many bodies are unfinished.
        MalformedJSON: the client disconnected before its end.
    """
    media_type = header_of(request, b"content-type")
    if media_type != JSON and (media_type or "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType
    if (header_of(request, b"content-encoding") or "identity").lower() != "identity":
        raise UnsupportedMediaType(COMPRESSED, headers={"Accept-Encoding": "identity"})  # RFC 9110, section 15.5.16
    services, client = services_of(request), client_of(request)
    limit = max_bytes or services.settings.max_body_bytes
    announced = header_of(request, b"content-length") or ""
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(services.settings, limit)
    client.body = services.bodies.open(work_group(request), is_verified(request))
    body = bytearray()
    try:
        more = True
        while more:  # not `request.stream`, a generator, which costs more than the reading
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise MalformedJSON  # the client does not receive it
            body += message.get("body", b"")
            more = message.get("more_body", False)
            client.received_bytes = len(body)
            if len(body) > limit:
                raise _too_large(services.settings, limit)
            client.body.grow(len(body))
    except Overloaded as error:
        mark_failed(request)
        error.headers["Connection"] = "close"  # the rest of the body is not read
        raise
    return bytes(body)


def _too_large(settings: Settings, limit: int) -> BodyTooLarge:
    name = {settings.max_media_bytes: "CHATAPI_MAX_MEDIA_BYTES", settings.max_body_bytes: "CHATAPI_MAX_BODY_BYTES"}
    setting = f" ({name[limit]})" if limit in name else ""
    return BodyTooLarge(f"The body must be at most {limit} bytes{setting}.")


async def read_json(request: Request, data: bytes, read: Callable[[Any], T], *, hide_keys: bool = True) -> T:
    """Parse a body and pass its value to `read`, which validates it; return its result.

    A large body is handled on a thread, one at a time per caller, and callers take turns: other requests do not wait
    for it. Callers without an accepted key wait in a line of their own, which rests between bodies.

    Raises:
        MalformedJSON, InvalidRequest: see `parse`, and `read`.
    """
    max_values = services_of(request).settings.max_body_values
    try:
        return await run_fairly(
            request, len(data), lambda: read(parse(data, hide_keys=hide_keys, max_values=max_values))
        )
    finally:
        client_of(request).release_body()


async def run_fairly(request: HTTPConnection, body_bytes: int, work: Callable[[], T]) -> T:
    """Do work that grows with the body of a request: here for a small body, or on a thread in a fair queue."""
    verified = is_verified(request)
    if body_bytes <= (INLINE_BYTES if verified else UNVERIFIED_INLINE_BYTES):
        return work()
    queue = services_of(request).queue(PARSES if verified else UNVERIFIED_PARSES)
    async with queue.turn(work_group(request)):
        return await asyncio.to_thread(work)


def parse(data: bytes, *, hide_keys: bool = True, max_values: int = MAX_VALUES) -> Any:
    """Return the JSON value in `data`; with `hide_keys`, a string member `api_key` becomes a `Key`.

    Raises:
        MalformedJSON: it is not well-formed, repeats a name, or nests too deeply; the error names the place.
        InvalidRequest: it contains more than `max_values` values.
    """
    _check_value_count(data, max_values)
    try:
        return (_WITH_KEYS if hide_keys else _PLAIN).decode(data.decode())
    except (ValueError, RecursionError) as error:
        fault = _fault(error)
    raise MalformedJSON(f"The body is not well-formed JSON in UTF-8: {fault}. Send one JSON object.")


def _fault(error: ValueError | RecursionError) -> str:
    """Return the place or the kind of a fault, and nothing of the text, which the error holds."""
    match error:
        case json.JSONDecodeError():
            return f"line {error.lineno}, column {error.colno}"
        case UnicodeDecodeError():
            return f"byte {error.start}"
        case _NotJSON():
            return str(error)
        case RecursionError():
            return "it nests too deeply"
    return "an integer has too many digits"  # the only other fault: Python reads some thousands


def _check_value_count(data: bytes, max_values: int) -> None:
    """Bound the values of a body before they are made: each follows a mark, which is a comma, a colon or a bracket.

    The body is read in slices, up to the limit. A slice takes a few passes over its bytes, for any content, and other
    threads run between two slices.
    """
    if sum(map(data.count, _MARKS)) <= max_values:
        return
    count = quotes = position = 0
    while position < len(data):
        end = _end_of_slice(data, position + SLICE_BYTES)
        without_escapes = data[position:end].replace(rb"\\", b"").replace(rb"\"", b"")
        parts = without_escapes.translate(None, _NEITHER_MARK_NOR_QUOTE).split(b'"')
        count += sum(map(len, parts[quotes % 2 :: 2]))  # every second part is outside of strings
        quotes += len(parts) - 1
        if count > max_values or quotes > 2 * (max_values + 1):  # a mark is between two strings
            name = "CHATAPI_MAX_BODY_VALUES"
            raise InvalidRequest.field("body", f"It must contain at most {max_values} values ({name}).")
        position = end


def _end_of_slice(data: bytes, end: int) -> int:
    """Return the first position from `end` on that does not divide an escape from its character."""
    backslashes = _BACKSLASHES.match(data, end)
    assert backslashes is not None  # none is a match too
    end = backslashes.end()
    return end + 1 if data[end - 1 : end] == b"\\" else end


class _NotJSON(ValueError):
    """A fault that the parser lets pass. Its message has nothing of the text."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotJSON("an object repeats a name")
    return members


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _unique(pairs)
    if isinstance(value := members.get(KEY_FIELD), str):
        members[KEY_FIELD] = Key(value)
    return members


def _refuse_constant(name: str) -> None:
    raise _NotJSON(f"{name} is not a number")


def _finite(digits: str) -> float:
    """Return a number; one that is read as infinity could not be written as JSON again."""
    number = float(digits)
    if isinf(number):
        raise _NotJSON("a number is too large")
    return number


_WITH_KEYS = json.JSONDecoder(object_pairs_hook=_members, parse_float=_finite, parse_constant=_refuse_constant)
_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def validate(model: type[M], value: Any) -> M:
    """Return `value` as `model`.

    Raises:
        InvalidRequest: it is invalid; the error names the fields.
    """
    if not isinstance(value, dict):
        raise InvalidRequest.field("body", "The body must be a JSON object.")
    if model.model_config.get("extra") == "forbid" and len(value) > len(model.model_fields) + MAX_ERRORS:
        raise InvalidRequest([{"field": "body", "message": "It has too many unknown fields."}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(describe(error.errors(include_input=False, include_url=False))) from None


def describe(errors: list[Any]) -> list[dict[str, str]]:
    """Return pydantic's errors as fields and sentences, without any value that the caller sent."""
    return [{"field": _path(error["loc"], error["type"]), "message": _sentence(error)} for error in errors[:MAX_ERRORS]]


def _path(location: tuple[str | int, ...], kind: str) -> str:
    names = [str(name) for name in location if name not in {"body", "query", "path", "header"}]
    names = [name for name in names if "[" not in name]  # a branch of a union, such as `list[str]`
    known = names[:-1] if kind == "extra_forbidden" else names
    unknown = [name if _NAMEABLE.fullmatch(name) else "?" for name in names[len(known) :]]
    return (
        ".".join([name if _NAMEABLE.fullmatch(name) or name.isdecimal() else "?" for name in known] + unknown) or "body"
    )


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "Unknown field."
    if error["type"] == "missing":
        return "This field is required."
    if error["type"] == "union_tag_invalid":  # pydantic's own sentence repeats the input
        return f"Its type must be one of {error['ctx']['expected_tags']}."
    if error["type"] == "union_tag_not_found":
        return f"It must have the field {error['ctx']['discriminator']}."
    message = requirement(error["type"], str(error["msg"]))
    return f"It {message}." if message[:1].islower() else f"{message}."
