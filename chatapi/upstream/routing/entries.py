"""The tables of the file of upstreams (docs/routing.md), each value checked for itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chatapi.auth.credentials import AUTHORIZATION
from chatapi.http_client.endpoint import encode_headers
from chatapi.setting_types import Seconds, check_http_url

MAX_UPSTREAMS = 100
MAX_MODELS = 2000
_KEY_HEADERS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"})
_NEVER_LEFT_OUT = frozenset({"model", "messages", "input", "stream", "role", "content", "tool_calls", "tool_call_id"})


def _check_header_name(name: str) -> str:
    encode_headers([(name, "")])  # raises
    return AUTHORIZATION if name.lower() == AUTHORIZATION.lower() else name


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    encode_headers(headers.items())  # raises
    for name in headers:
        if name.lower() in _KEY_HEADERS:
            raise ValueError(
                f"must not have {name}: name the key with key_env or key_file, and its header with key_header"
            )
    return headers


def _check_rejected(name: str) -> str:
    if name in _NEVER_LEFT_OUT:
        raise ValueError(f"must not have {name}, which every request needs")
    return name


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=re.compile(r"^[a-z0-9][a-z0-9_-]{0,31}\Z"))]
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=re.compile(r"^[!-~]+\Z"))]
FieldName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_rejected)]


class Table(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class UpstreamEntry(Table):
    """One model API."""

    base_url: Annotated[str, AfterValidator(check_http_url)]
    api: Literal["auto", "chat", "responses"] = "auto"
    key: Literal["caller", "none"] | None = None
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None
    key_file: str | None = None
    key_header: Annotated[str, AfterValidator(_check_header_name)] = AUTHORIZATION
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = Field({}, max_length=20)
    developer_role: Literal["developer", "system"] | None = None
    rejected_fields: list[FieldName] = Field([], max_length=100)
    connect_seconds: Seconds | None = None
    first_token_seconds: Seconds | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 2
    max_running: Annotated[int, Field(ge=0)] = 0
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    prefix: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")] | None = None


class ModelEntry(Table):
    """One model, under the name that callers use."""

    upstream: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_UPSTREAMS)]
    model: ModelName | None = None
    aliases: list[ModelName] = Field([], max_length=100)
    fallback: Annotated[list[str], BeforeValidator(_listed), Field(max_length=20)] = []
    listed: bool = True


class File(Table):
    """The whole file."""

    default_upstream: str | None = None
    passthrough_upstream: str | None = None
    callers: Literal["anyone"] | None = None
    callers_file: str | None = None
    upstreams: Annotated[dict[Name, UpstreamEntry], Field(min_length=1, max_length=MAX_UPSTREAMS)]
    models: Annotated[dict[ModelName, ModelEntry], Field(max_length=MAX_MODELS)] = {}
