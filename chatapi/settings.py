"""Every setting, read once from the environment and passed in. No other module reads the environment.

Conventional names where they exist, else the prefix `CHATAPI_`. A value or a combination that cannot be right stops
the start with a sentence. `docs/settings.md` lists them, and a test holds it to this class.
"""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chatapi.auth.keys import SEED_PATTERN

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


class SettingsError(Exception):
    """The environment asks for something that cannot be; the message says what to change."""


def _is_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return value


def _is_http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # its own message would repeat what is where a port should be
        raise ValueError("must be a URL with a port from 1 to 65535, or without one") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be a http or https URL")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("must be a URL without a user, a query or a fragment")
    return value.rstrip("/")


def _is_store_url(value: str) -> str:
    if value.startswith("sqlite:///") and value != "sqlite:///":
        return value
    if value.startswith(POSTGRES_SCHEMES):
        return value
    raise ValueError(
        "must be sqlite:///PATH (four slashes for an absolute path) or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    )


def _is_redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be redis://HOST:PORT/NUMBER, or rediss:// for TLS")
    return value


def _are_origins(value: str) -> str:
    for origin in value.split(","):
        parts = urlsplit(origin.strip())
        if origin.strip() != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
            raise ValueError("must be * or a comma-separated list of origins such as https://chat.example.org")
    return value


def _are_networks(value: str) -> str:
    for network in filter(None, map(str.strip, value.split(","))):
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ValueError("must be a comma-separated list of addresses or networks such as 10.0.0.0/8") from None
    return value


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What an operator may choose. A first start needs none of it."""

    model_config = SettingsConfigDict(env_prefix="CHATAPI_", frozen=True, extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", min_length=1, validation_alias="HOST", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT", description="The port to listen on; 0 picks one.")
    database_url: Annotated[str, AfterValidator(_is_store_url)] = Field(
        "sqlite:///data/chatapi.db",
        validation_alias="DATABASE_URL",
        repr=False,
        description="Where sessions are kept. `sqlite:///PATH`: one file for one process; it and its folder are made "
        "on the first start. `postgresql://USER:PASSWORD@HOST:PORT/NAME`: for any number of replicas.",
    )
    database_connections: int = Field(
        8,
        ge=1,
        le=1000,
        description="PostgreSQL connections of each replica for writing; half as many again read, one takes the text, "
        "and one listens where there is no Redis.",
    )
    database_pooling: Literal["session", "transaction"] = Field(
        "session",
        description="`transaction` behind a pooler that gives each transaction another connection, as PgBouncer does "
        "in that mode: nothing is prepared, and wake-ups want `REDIS_URL`.",
    )
    redis_url: Annotated[str, AfterValidator(_is_redis_url)] | None = Field(
        None,
        validation_alias="REDIS_URL",
        repr=False,
        description="`redis://HOST:PORT`: a Redis (6.2 or newer) or Valkey through which replicas wake each other and "
        "count limits together. Unset: PostgreSQL wakes them, and each replica counts for itself.",
    )
    store_patience_seconds: float = Field(
        10,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="How long a running answer waits for a store that takes no writes, before it fails.",
    )
    lease_seconds: float = Field(
        20,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="How long an answer whose replica died stays running before another closes it. Longer than "
        "`CHATAPI_STORE_PATIENCE_SECONDS`: an outage of the database that lasts longer interrupts what ran. "
        "The clocks of the replicas must agree to within a quarter of it.",
    )
    openai_base_url: Annotated[str, AfterValidator(_is_http_url)] = Field(
        "https://api.openai.com/v1",
        validation_alias="OPENAI_BASE_URL",
        description="The model API: any server that speaks OpenAI's chat completions.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="The least level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="`json`, one object a line; `console`, for people; `auto`: console on a terminal, else json.",
    )
    secret: str | None = Field(
        None,
        min_length=32,
        repr=False,
        description="The secret of the owner tags, 32 characters or more, the same for all replicas. Unset: one is "
        "made beside the SQLite file; with PostgreSQL it must be set.",
    )
    session_access: Literal["auto", "key", "id"] = Field(
        "auto",
        description="Who may read, stop and delete a session: `key`, whoever has its owner's key; `id`, whoever knows "
        "its id; `auto`, the id is enough from this machine itself (loopback address, loopback Host, no forwarding "
        "headers), else the key. Behind a proxy on the same machine that adds no forwarding headers, choose `key`.",
    )
    cors_origins: Annotated[str, NoDecode, AfterValidator(_are_origins)] = Field(
        "*",
        description="Origins whose pages may call this API, separated by commas; `*` for all. Never with credentials.",
    )
    key_pattern: Annotated[str, AfterValidator(_is_pattern)] = Field(
        SEED_PATTERN, description="The form of a key, a regular expression matched whole; for another upstream."
    )
    default_model: str = Field("gpt-4.1-mini", min_length=1, description="The model of a request that names none.")
    developer_role: Literal["developer", "system"] = Field(
        "developer", description="The role under which the developer message goes upstream; some servers want `system`."
    )
    hosted_tools: Literal["reject", "omit"] = Field(
        "reject",
        description="Tools of `/v1/responses` that only OpenAI's own service runs, such as `web_search`: `reject` the "
        "request, or `omit` them and list them in the header `X-Omitted-Tools`.",
    )
    prices: Path | None = Field(
        None,
        description="A file of what a million tokens of each model cost, as `deploy/prices.example.json` is one; read "
        "at the start. Unset: `/api/usage` knows tokens and no costs.",
    )
    rate_limit: int = Field(
        600,
        ge=0,
        description="Requests per key and minute: a minute's worth at once, then evenly; 0 switches the limit off.",
    )
    request_limit: int = Field(
        6000,
        ge=0,
        description="Requests of any kind, reads included, per key and per address and minute; 0, or "
        "`CHATAPI_RATE_LIMIT=0`, switches the limit off.",
    )
    unverified_limit: int = Field(
        600,
        ge=0,
        description="API requests per address and minute without a key that the model API has accepted. A failed one "
        "counts as ten, and each MiB of its body as eight more. 0, or `CHATAPI_RATE_LIMIT=0`, switches the limit off.",
    )
    max_generations_per_key: int = Field(200, ge=0, description="Running answers per key; 0 switches the limit off.")
    slot_wait_seconds: float = Field(
        2,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="How long a request waits for a running answer of its key to end, before a 429.",
    )
    max_generations: int = Field(1000, ge=0, description="Running answers in all; 0 switches the limit off.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="The largest request body, in bytes.")
    max_message_bytes: int = Field(256 * 1024, ge=1, description="The largest message, in bytes of UTF-8.")
    max_media_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="The largest request body on routes whose messages may hold images, audio and files.",
    )
    max_answer_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="The largest answer; a longer one fails there.")
    max_context_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="The largest conversation that is sent upstream, in bytes of UTF-8."
    )
    max_session_messages: int = Field(
        20_000, ge=0, description="Messages in one session, on all branches; 0 switches the limit off."
    )
    max_session_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        description="Stored content of one session, about; images and files count as base64. 0 switches the limit off.",
    )
    max_owner_sessions: int = Field(100_000, ge=0, description="Sessions of one key; 0 switches the limit off.")
    max_owner_bytes: int = Field(
        16 * 1024**3, ge=0, description="Stored content of all sessions of one key; 0 switches the limit off."
    )
    max_sessions: int = Field(1_000_000, ge=0, description="Sessions in all; 0 switches the limit off.")
    max_store_bytes: int = Field(
        256 * 1024**3, ge=0, description="Stored content of all sessions; 0 switches the limit off."
    )
    connect_seconds: Seconds = Field(10, description="How long connecting to the upstream may take, TLS included.")
    first_token_seconds: Seconds = Field(300, description="How long the first content of an answer may take.")
    idle_seconds: Seconds = Field(120, description="How long an answer may pause between two pieces of content.")
    total_seconds: Seconds = Field(3600, description="How long an answer may take in all.")
    status_seconds: Seconds = Field(
        15,
        description="After this long without a word from the upstream, the response begins all the same; a test of a "
        "key fails.",
    )
    heartbeat_seconds: Seconds = Field(
        10, description="The longest silence on an event stream before a heartbeat; looked at once a second."
    )
    drain_seconds: float = Field(
        10, ge=0, le=86_400, description="How long running answers may go on after the first SIGTERM."
    )
    receive_seconds: Seconds = Field(30, description="How long a client may take to send a request, headers and body.")
    write_seconds: Seconds = Field(
        60, description="How long a client may read nothing of its response before the connection is closed."
    )
    max_connections: int = Field(
        0, ge=0, description="Open connections of clients; 0 is half of the limit of open files, at most 10,000."
    )
    max_connections_per_address: int = Field(
        0, ge=0, description="Open connections of one address; 0 is half of `CHATAPI_MAX_CONNECTIONS`."
    )
    max_unfinished_bytes: int = Field(
        64 * 1024 * 1024,
        ge=64 * 1024,
        description="Memory for request bodies that are not parsed yet, of all clients together; at least 4 times "
        "`CHATAPI_MAX_MEDIA_BYTES` is used.",
    )
    max_body_values: int = Field(
        50_000, ge=100, description="JSON values in one request body: numbers, strings, members and so on."
    )
    trusted_proxies: Annotated[str, AfterValidator(_are_networks)] | None = Field(
        None,
        description="Addresses or networks (CIDR) of reverse proxies, separated by commas. For their connections the "
        "last address in `X-Forwarded-For` that is not a proxy's is the client's.",
    )

    @property
    def uses_postgres(self) -> bool:
        """Whether sessions are kept in PostgreSQL, else in a SQLite file."""
        return self.database_url.startswith(POSTGRES_SCHEMES)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def secret_path(self) -> Path:
        """Where the secret of the owner tags is kept, when none is set."""
        return secret_beside(self.database_path)

    @cached_property
    def _networks(self) -> list[IPv4Network | IPv6Network]:
        names = filter(None, map(str.strip, (self.trusted_proxies or "").split(",")))
        return [ip_network(name, strict=False) for name in names]

    def is_proxy(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        if not self._networks:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    @property
    def origins(self) -> list[str]:
        """The allowed origins, one by one."""
        return [origin.strip() for origin in self.cors_origins.split(",")]


def secret_beside(database: Path) -> Path:
    """The file of the secret that belongs to a SQLite file."""
    return database.with_name(database.name + ".secret")


def read_settings() -> Settings:
    """The settings of this environment.

    Raises:
        SettingsError: a value is not possible; the message names the variable and never repeats the value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{variable_name(str(first['loc'][0]))}: {reason}.") from None


def variable_name(field: str) -> str:
    """The environment variable that sets a field (given by the field's name, or already by the variable's)."""
    info = Settings.model_fields.get(field)
    if info is None:
        return field.upper()
    return str(info.validation_alias or f"CHATAPI_{field.upper()}")
