"""Request bodies, read strictly: bounded, UTF-8, one JSON object, no name twice, and nothing of it ever echoed."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Annotated, Any, TypeVar

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
from starlette.requests import ClientDisconnect, Request

from chatapi.api.http.services import services_of
from chatapi.auth.keys import Key
from chatapi.errors import BodyTooLarge, InvalidRequest, MalformedJSON, UnsupportedMediaType

KEY_FIELD = "api_key"
PARSED_AT_ONCE = 64 * 1024  # bytes of a body: some milliseconds, whatever is in it
STOP_WORDS = 4  # sequences, as OpenAI's API takes them
_NAMEABLE = re.compile(r"[a-z_-]{1,32}")  # a field name that may be repeated to its sender: no key is of letters alone

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """The root of all request bodies: nothing is converted, and nothing unknown is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class _KeyField:
    """How pydantic sees a `Key`: the parser has made it, and here it is only recognised."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(Key, cls_repr="string")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "password"}


KeyField = Annotated[Key, _KeyField]


def _well_formed(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has a surrogate without its other half") from None
    return text


Text = Annotated[str, AfterValidator(_well_formed)]
"""A string that is proper Unicode, without NUL: what every database and every upstream takes."""


class Parameters(Body):
    """The generation parameters of OpenAI's chat completions that are passed on as they are."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000)
    stop: (
        Annotated[Text, Field(max_length=1000)]
        | Annotated[list[Annotated[Text, Field(max_length=1000)]], Field(min_length=1, max_length=STOP_WORDS)]
        | None
    ) = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    reasoning_effort: str | None = Field(None, pattern="^[a-z]{1,16}$")
    verbosity: str | None = Field(None, pattern="^[a-z]{1,16}$")
    service_tier: str | None = Field(None, pattern="^[a-z_-]{1,32}$")


async def read_body(request: Request, model: type[M]) -> M:
    """The request's body as `model`.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJSON, InvalidRequest: it is not that.
    """
    return validate(model, await parse_in_thread(request, await receive_json(request)))


async def read_optional_body(request: Request, model: type[M], most_bytes: int | None = None) -> M:
    """The request's body as `model`; no body at all is an empty object."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return validate(model, {})
    return validate(model, await parse_in_thread(request, await receive_json(request, most_bytes)))


async def read_raw_body(request: Request, most_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """The request's body as it came, and the JSON object that it is.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJSON, InvalidRequest: it is not that, or brings a key.
    """
    data = await receive_json(request, most_bytes)
    value = await parse_in_thread(request, data, hide_keys=False)
    if not isinstance(value, dict):
        raise InvalidRequest.field("body", "The body must be a JSON object.")
    if KEY_FIELD in value:
        raise InvalidRequest.field(KEY_FIELD, "Send the key as Authorization: Bearer, and not in the body.")
    return data, value


async def receive_json(request: Request, most_bytes: int | None = None) -> bytes:
    """The body of a request that says it is JSON; at most `max_body_bytes`, where nothing else is said.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJSON: it says it is not, is too large, or did not come whole.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType
    limit = most_bytes or services_of(request).settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise BodyTooLarge
    body = bytearray()
    try:
        async for some in request.stream():
            body += some
            if len(body) > limit:
                raise BodyTooLarge
    except ClientDisconnect:
        raise MalformedJSON from None  # nobody is there to read it
    return bytes(body)


async def parse_in_thread(request: Request, data: bytes, *, hide_keys: bool = True) -> Any:
    """`parse`, on a thread where there is much: anybody may send it, and nobody else is to wait.

    Raises:
        MalformedJSON: as `parse` does.
    """
    if len(data) <= PARSED_AT_ONCE:
        return parse(data, hide_keys=hide_keys)
    async with services_of(request).parses:
        return await asyncio.to_thread(parse, data, hide_keys=hide_keys)


def parse(data: bytes, *, hide_keys: bool = True) -> Any:
    """The JSON value in `data`; a string named `api_key` comes out as a `Key`, if `hide_keys`.

    Raises:
        MalformedJSON: it is not well-formed, names a member twice, or nests deeper than any request does.
    """
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_members if hide_keys else _unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise MalformedJSON from None  # the cause would hold the text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _unique(pairs)
    if isinstance(value := members.get(KEY_FIELD), str):
        members[KEY_FIELD] = Key(value)
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def validate(model: type[M], value: Any) -> M:
    """`value` as `model`.

    Raises:
        InvalidRequest: it is not; the error names the fields.
    """
    if not isinstance(value, dict):
        raise InvalidRequest.field("body", "The body must be a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(
            describe(error.errors(include_input=False, include_url=False, include_context=False))
        ) from None


def describe(errors: list[Any]) -> list[dict[str, str]]:
    """Pydantic's errors as fields and sentences, without anything that the caller sent."""
    return [{"field": _path(error["loc"], error["type"]), "message": _sentence(error)} for error in errors[:20]]


def _path(location: tuple[str | int, ...], kind: str) -> str:
    names = [str(name) for name in location if name not in {"body", "query", "path", "header"}]
    known = names[:-1] if kind == "extra_forbidden" else names
    unknown = [name if _NAMEABLE.fullmatch(name) else "?" for name in names[len(known) :]]
    return (
        ".".join([name if _NAMEABLE.fullmatch(name) or name.isdecimal() else "?" for name in known] + unknown) or "body"
    )


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "This route knows no such field."
    if error["type"] == "missing":
        return "This field is required."
    if error["type"].startswith("union_tag"):  # pydantic's own sentence would repeat what was sent
        return "It is of no type that this field takes."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"It {message}." if message[:1].islower() else f"{message}."


def body_schema(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """What OpenAPI says of a route whose body is read with `read_body`."""
    schema = model.model_json_schema()
    schema = _inline(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its definitions where they are referred to: the document has no other place for them."""
    if isinstance(schema, list):
        return [_inline(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(value, definitions) for name, value in schema.items() if name != "discriminator"}
