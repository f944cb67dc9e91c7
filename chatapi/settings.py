"""Every setting: read once, from the environment and from `.env`, and passed in. No other module reads the environment.

Names are the conventional ones where they exist, else they have the prefix `CHATAPI_`. An impossible value, an
impossible combination and an unknown `CHATAPI_` name stop the start with a sentence that names the remedy.
`docs/settings.md` lists the settings; a test compares it with this class.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from chatapi.auth.keys import SEED_PATTERN
from chatapi.setting_types import (
    POSTGRES_SCHEMES,
    LogLevel,
    Seconds,
    are_networks,
    are_origins,
    are_token_limits,
    check_http_url,
    is_pattern,
    is_redis_url,
    is_store_url,
)

PREFIX = "CHATAPI_"
ENV_FILE = ".env"  # in the working directory; the environment wins over it
UNPREFIXED = frozenset(
    {
        *("host", "port", "database_url", "redis_url", "openai_base_url", "openai_upstream_api", "log_level"),
        *("https_proxy", "no_proxy", "no_color"),
    }
)
FILE = "_FILE"  # after the name of a secret setting: the path of a file with its value
SECRETS = ("database_url", "redis_url", "secret", "metrics_token")
MAX_SECRET_BYTES = 64 * 1024
SHARED = {"HTTPS_PROXY", "NO_PROXY"}  # with other programs, many of which read the names in lower case
# Kubernetes sets these in every container for a service that is named "chatapi".
KUBERNETES_NAME = re.compile(
    r"CHATAPI_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class SettingsError(Exception):
    """The settings ask for something impossible; the message names the remedy."""


class Settings(BaseModel):
    """The settings of one server. Every field has a default, so a first start needs no configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 picks a free one.")
    database_url: Annotated[str, AfterValidator(is_store_url)] = Field(
        "sqlite:///data/chatapi.db",
        repr=False,
        description="The database. `sqlite:///PATH`: one file for one service; the first start creates it and its "
        "folder. `postgresql://USER:PASSWORD@HOST:PORT/NAME`: for any number of replicas.",
    )
    database_connections: int = Field(
        8,
        ge=1,
        le=1000,
        description="PostgreSQL connections of each replica for writing. A replica opens half as many more for "
        "reading, one for answer text, and one that listens where there is no Redis.",
    )
    database_pooling: Literal["session", "transaction"] = Field(
        "session",
        description="`transaction` for a pooler that gives each transaction another connection, such as PgBouncer in "
        "transaction mode. Statements are then not prepared, and wake-ups need `REDIS_URL`.",
    )
    redis_url: Annotated[str, AfterValidator(is_redis_url)] | None = Field(
        None,
        repr=False,
        description="`redis://HOST:PORT`: a Redis (6.2 or newer) or Valkey through which replicas wake each other's "
        "readers and share the counts of the limits. Unset: PostgreSQL wakes readers, and each replica counts alone.",
    )
    store_patience_seconds: float = Field(
        10,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="How long a running answer waits for a database that rejects writes, before the answer fails.",
    )
    lease_seconds: float = Field(
        20,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="How long an answer stays `running` after its replica died, before another replica closes it. Must "
        "be longer than `CHATAPI_STORE_PATIENCE_SECONDS`: a longer outage of the database interrupts running answers. "
        "The clocks of the replicas must agree to within a quarter of it.",
    )
    openai_base_url: Annotated[str, AfterValidator(check_http_url)] = Field(
        "https://api.openai.com/v1",
        description="The model API: any server with OpenAI's chat completions. Most addresses end in `/v1`.",
    )
    openai_upstream_api: Literal["auto", "chat", "responses"] = Field(
        "auto",
        description="The API that answers are requested through. `chat`: chat completions. `responses`: OpenAI's "
        "Responses. `auto`: chat completions, and Responses where OpenAI's service requires them "
        "([upstreams](upstreams.md#two-apis)).",
    )
    upstreams: Path | None = Field(
        None,
        description="A TOML file with several model APIs and their models, in place of `OPENAI_BASE_URL` and "
        "`OPENAI_UPSTREAM_API` ([routing](routing.md)).",
    )
    https_proxy: str | None = Field(
        None,
        repr=False,
        description="`http://HOST:PORT`: a proxy for connections to a model API on https. Keys stay inside TLS. "
        "A model API on http is never reached through a proxy.",
    )
    no_proxy: str | None = Field(
        None, description="Hosts to reach without the proxy, separated by commas; `*` for all."
    )
    log_level: LogLevel = Field("INFO", description="The lowest level to log: `DEBUG`, `INFO`, `WARNING` or `ERROR`.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="`json`: one object per line. `console`: lines for people. `auto`: console on a terminal, else "
        "json.",
    )
    no_color: str | None = Field(None, description="Any value: no colours on a terminal.")
    secret: str | None = Field(
        None,
        min_length=32,
        repr=False,
        description="The secret of the owner tags: 32 characters or more, the same for all replicas. Unset: the first "
        "start writes one beside the SQLite file. Required with PostgreSQL.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve the port, each of which can use a core. On SQLite they share the limits; "
        "with PostgreSQL, set `REDIS_URL` for that.",
    )
    metrics: Literal["off", "on"] = Field(
        "off",
        description="`on`: serve metrics for Prometheus at `/metrics`. They name models, numbers and costs, and no "
        "sessions or keys.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="A port of its own for `/metrics`, at the address `HOST`; 0 picks a free one. Unset: the port of "
        "the API, where requests that a proxy forwarded get 404 unless there is a token.",
    )
    metrics_token: str | None = Field(
        None,
        min_length=16,
        repr=False,
        description="The token that `/metrics` requires as `Authorization: Bearer`, of 16 characters or more.",
    )
    traces: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None,
        description="The address of an OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`, that "
        "gets the traces ([traces](traces.md)). They have no text and no keys.",
    )
    session_access: Literal["auto", "key", "id"] = Field(
        "auto",
        description="The credential for a session. `key`: the key of its owner. `id`: its id. `auto`: its id for "
        "callers on the same machine (loopback address, loopback Host, no forwarding headers), the key for all others. "
        "Behind a proxy on the same machine that adds no forwarding headers, choose `key`.",
    )
    cors_origins: Annotated[str, AfterValidator(are_origins)] = Field(
        "*",
        description="Origins whose pages may call this API, separated by commas; `*` for all. Never with credentials.",
    )
    key_pattern: Annotated[str, AfterValidator(is_pattern)] = Field(
        SEED_PATTERN,
        description="The form of a valid API key: a regular expression for the whole key. Change it for another "
        "provider.",
    )
    default_model: str = Field(
        "gpt-4.1-mini", min_length=1, description="The model for requests that do not name a model."
    )
    developer_role: Literal["developer", "system"] = Field(
        "developer",
        description="The role of the developer message in requests to the model API; some servers only know `system`.",
    )
    hosted_tools: Literal["auto", "pass", "reject", "omit"] = Field(
        "auto",
        description="Tools of `/v1/responses` that the model API itself runs, such as `web_search`: `pass` them on, "
        "`reject` the request, or `omit` them and list them in the header `X-Omitted-Tools`. `auto`: `pass` where "
        "`OPENAI_UPSTREAM_API` is `responses`, or `auto` with OpenAI's service; else `reject`.",
    )
    context: Literal["error", "truncate", "compact", "auto"] = Field(
        "error",
        description="What happens when a conversation is longer than the model's context. `error`: the caller gets the "
        "model API's error. `truncate`: the oldest messages are left out of the request. `compact`: a summary replaces "
        "them. `auto`: `compact` if `CHATAPI_SUMMARY_MODEL` is set, or `truncate`. A session and a request may choose "
        "another ([decision](decisions/context.md)).",
    )
    context_tokens: Annotated[str, AfterValidator(are_token_limits)] = Field(
        "",
        description="The contexts of models in tokens, as `MODEL=TOKENS`, separated by commas; `*` for all others. "
        "With `truncate`, messages are left out before this is reached. Unset: the limits in the model API's list of "
        "models, and its errors.",
    )
    summary_model: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The model that writes the summaries of `compact`, with the key of the turn that needs one, and "
        "those of `POST /v1/responses/compact` for a model API that does not have it. Unset: `compact` is `truncate`, "
        "and that route is an error there.",
    )
    prices: Path | None = Field(
        None,
        description="A JSON file with the price of a million tokens of each model, such as "
        "`chatapi/prices.example.json`; read at the start. Unset: `/api/usage` shows tokens without costs.",
    )
    rate_limit: int = Field(
        600,
        ge=0,
        description="Requests per key and minute, of which a full minute's number may come at once; 0: no limit.",
    )
    request_limit: int = Field(
        6000,
        ge=0,
        description="Requests of any kind, reads included, per key and per address and minute; 0, or "
        "`CHATAPI_RATE_LIMIT=0`: no limit.",
    )
    unverified_limit: int = Field(
        600,
        ge=0,
        description="API requests per address and minute without a key that the model API has accepted. A failed one "
        "counts as ten, and each MiB of its body as eight more. 0, or `CHATAPI_RATE_LIMIT=0`: no limit.",
    )
    max_generations_per_key: int = Field(200, ge=0, description="Running answers per key; 0: no limit.")
    slot_wait_seconds: float = Field(
        2,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="How long a request waits for a running answer of its key to end, before a 429.",
    )
    max_generations: int = Field(1000, ge=0, description="Running answers of all keys together; 0: no limit.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="The largest request body, in bytes.")
    max_message_bytes: int = Field(256 * 1024, ge=1, description="The largest message, in bytes of UTF-8.")
    max_media_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="The largest request body on routes whose messages may hold images, audio and files, in bytes.",
    )
    max_passthrough_bytes: int = Field(
        512 * 1024 * 1024,
        ge=1024,
        description="The largest request body, and the largest response, of the routes under `/v1` that are passed on "
        "to the model API as they are, such as files; in bytes.",
    )
    max_answer_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="The largest answer, in bytes of UTF-8; a longer one fails there."
    )
    max_context_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="The largest conversation that is sent to the model API, in bytes of UTF-8.",
    )
    max_session_messages: int = Field(
        20_000, ge=0, description="Messages in one session, on all branches; 0: no limit."
    )
    max_session_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        description="Stored content of one session, about; images and files count as base64. 0: no limit.",
    )
    max_owner_sessions: int = Field(100_000, ge=0, description="Sessions of one key; 0: no limit.")
    max_owner_bytes: int = Field(
        16 * 1024**3, ge=0, description="Stored content of all sessions of one key; 0: no limit."
    )
    max_sessions: int = Field(1_000_000, ge=0, description="Sessions in all; 0: no limit.")
    max_store_bytes: int = Field(256 * 1024**3, ge=0, description="Stored content of all sessions; 0: no limit.")
    max_queued: int = Field(
        20,
        ge=0,
        le=1000,
        description="Messages that may wait in one session for its running answer to end (`if_busy: queue`); 0: none.",
    )
    retention_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        allow_inf_nan=False,
        description="How many days a session stays after its last message or change; then it is deleted. Fractions are "
        "allowed. Unset: no limit.",
    )
    temporary_days: float = Field(
        1,
        gt=0,
        le=36_500,
        allow_inf_nan=False,
        description="The same for temporary sessions.",
    )
    connect_seconds: Seconds = Field(10, description="The limit for connecting to the model API, TLS included.")
    first_token_seconds: Seconds = Field(300, description="The limit for the first content of an answer.")
    idle_seconds: Seconds = Field(120, description="The longest pause between two pieces of content of an answer.")
    total_seconds: Seconds = Field(3600, description="The limit for a whole answer.")
    status_seconds: Seconds = Field(
        15,
        description="The longest wait for the model API's status. Then the response begins without it, and a test of "
        "a key fails.",
    )
    heartbeat_seconds: Seconds = Field(
        10, description="The longest silence on an event stream before a heartbeat; checked once a second."
    )
    drain_seconds: float = Field(
        10, ge=0, le=86_400, description="How long running answers may continue after the first SIGTERM."
    )
    receive_seconds: Seconds = Field(30, description="The limit for receiving a request, headers and body.")
    write_seconds: Seconds = Field(
        60, description="How long a client may read nothing of its response before the connection is closed."
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Open connections of clients, in each process; 0 is half of the limit of open files, up to 10,000.",
    )
    max_connections_per_address: int = Field(
        0, ge=0, description="Open connections of one address, in each process; 0 is half of `CHATAPI_MAX_CONNECTIONS`."
    )
    max_websockets_per_key: int = Field(
        16, ge=0, description="Open WebSockets of one key on `/v1/responses`, in each process; 0: none are accepted."
    )
    max_websockets_per_address: int = Field(
        64,
        ge=0,
        description="Open WebSockets of one address, in each process. Each may hold `CHATAPI_MAX_MEDIA_BYTES`.",
    )
    websocket_idle_seconds: Seconds = Field(
        600, description="How long a WebSocket may be without a request or a running answer before it is closed."
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
    trusted_proxies: Annotated[str, AfterValidator(are_networks)] | None = Field(
        None,
        description="Addresses or networks (CIDR) of reverse proxies, separated by commas. For their connections the "
        "last address in `X-Forwarded-For` that is not a proxy's is the client's.",
    )

    @property
    def uses_postgres(self) -> bool:
        """Whether sessions are stored in PostgreSQL; otherwise in a SQLite file."""
        return self.database_url.startswith(POSTGRES_SCHEMES)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def secret_path(self) -> Path:
        """The file of the secret of the owner tags, used when no secret is set."""
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
    def context_limits(self) -> dict[str, int]:
        """The stated contexts of models in tokens, by model; `*` for all others."""
        pairs = [one.rpartition("=") for one in filter(None, map(str.strip, self.context_tokens.split(",")))]
        return {model.strip(): int(tokens) for model, _, tokens in pairs}

    @property
    def origins(self) -> list[str]:
        """The allowed origins."""
        return [origin.strip() for origin in self.cors_origins.split(",")]

    def proxy_for(self, base_url: str) -> str | None:
        """Return the proxy through which a model API is reached, if any.

        Raises:
            SettingsError: it is a proxy of another kind.
        """
        parts = urlsplit(base_url)
        if self.https_proxy is None or parts.scheme != "https" or _bypasses(self.no_proxy, parts.netloc):
            return None
        proxy = self.https_proxy if "://" in self.https_proxy else f"http://{self.https_proxy}"
        if not proxy.startswith(("http://", "https://")):
            raise SettingsError("HTTPS_PROXY: must be http://HOST:PORT. Change it, or name the model API in NO_PROXY.")
        return proxy

    @property
    def upstream_proxy(self) -> str | None:
        """The proxy through which the model API of `OPENAI_BASE_URL` is reached, if any."""
        return self.proxy_for(self.openai_base_url)


def _bypasses(no_proxy: str | None, netloc: str) -> bool:
    """Whether a comma-separated list names this host, with or without its port, or a domain that it belongs to."""
    host = netloc.rpartition(":")[0] or netloc
    names = [name.strip().removeprefix(".").lower() for name in (no_proxy or "").split(",") if name.strip()]
    return any(name in {"*", one} or one.endswith(f".{name}") for name in names for one in (host, netloc))


def secret_beside(database: Path) -> Path:
    """Return the path of the secret that belongs to a SQLite file."""
    return database.with_name(database.name + ".secret")


def read_settings(overrides: Mapping[str, str] | None = None, defaults: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and from `.env`. An empty value means: not set.

    Args:
        overrides: variables that win over the environment.
        defaults: variables that apply where neither the environment nor `.env` sets them.

    Raises:
        SettingsError: a value is impossible, or a `CHATAPI_` name is unknown; the message names the variable and never
            repeats its value.
    """
    variables: dict[str, str] = {}
    for source in (defaults or {}, _env_file(), os.environ, overrides or {}):
        variables |= {name: value for name, value in source.items() if value}
    _check_names(variables)
    _read_secrets(variables)
    values = {field: found for field in Settings.model_fields if (found := _find(variables, variable_name(field)))}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        reasons = [_sentence(detail["loc"][0], detail["msg"]) for detail in error.errors(include_input=False)]
        raise SettingsError(" ".join(reasons)) from None
    _check_workers(settings)
    if settings.upstreams is None:
        settings.proxy_for(settings.openai_base_url)  # raises here, not at the first request
    if settings.upstreams is not None:
        for field in ("openai_base_url", "openai_upstream_api"):
            if field in values:
                name = variable_name(field)
                raise SettingsError(f"{name}: the file of CHATAPI_UPSTREAMS lists the model APIs. Unset one of them.")
    return settings


def read_variable(name: str) -> str | None:
    """Return the value of a variable that a file names, from the environment or from `.env`; None if it is not set."""
    return os.environ.get(name) or _env_file().get(name) or None


def _check_workers(settings: Settings) -> None:
    """Refuse settings that several workers cannot have."""
    if settings.workers == 1:
        return
    if settings.metrics == "on" and not settings.metrics_port:
        raise SettingsError(
            "CHATAPI_METRICS_PORT: must be set with several workers: each has a port of its own for its metrics, from "
            "this one on, and Prometheus adds them up."
        )


def variable_name(field: str) -> str:
    """Return the environment variable of a field."""
    return field.upper() if field in UNPREFIXED else PREFIX + field.upper()


def _read_secrets(variables: dict[str, str]) -> None:
    """Add the settings whose values are in files, as Docker and Kubernetes provide secrets.

    Raises:
        SettingsError: a file cannot be read, or the setting has a value besides.
    """
    for name in map(variable_name, SECRETS):
        path = variables.pop(name + FILE, None)
        if path is None:
            continue
        if name in variables:
            raise SettingsError(f"{name}{FILE}: {name} is set too. Set one of them.")
        try:
            with Path(path).open("rb") as file:
                value = file.read(MAX_SECRET_BYTES + 1).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"{name}{FILE}: the file {path} cannot be read: {reason}.") from error
        if not value or len(value) > MAX_SECRET_BYTES:
            raise SettingsError(
                f"{name}{FILE}: the file {path} must have the value, in at most {MAX_SECRET_BYTES} bytes."
            )
        variables[name] = value


def _env_file() -> dict[str, str]:
    try:
        return {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file {ENV_FILE} cannot be read: {error}.") from error


def _find(variables: Mapping[str, str], name: str) -> str | None:
    """Return a variable's value. Variables that other programs share are also found in lower case, as curl has them."""
    return variables.get(name) or (variables.get(name.lower()) if name in SHARED else None)


def _check_names(variables: Mapping[str, str]) -> None:
    known = {variable_name(field): field for field in Settings.model_fields}
    known |= {variable_name(field) + FILE: field for field in SECRETS}
    for name, value in variables.items():
        if not name.upper().startswith(PREFIX) or name in known or _is_of_kubernetes(name, value):
            continue
        near = [name.upper(), name.upper().removeprefix(PREFIX)]
        close = [one for one in near if one in known] or difflib.get_close_matches(near[0], known, 1)
        advice = f"Did you mean {close[0]}?" if close else "docs/settings.md lists the settings."
        raise SettingsError(f"{name} is not a setting. {advice}")


def _is_of_kubernetes(name: str, value: str) -> bool:
    return KUBERNETES_NAME.fullmatch(name) is not None and (name != "CHATAPI_PORT" or "://" in value)


def _sentence(field: int | str, message: str) -> str:
    """Return pydantic's message with the name of the variable."""
    reason = message.removeprefix("Value error, ")
    reason = re.sub(r"^(?:Input|String) should ", "must ", reason)
    return f"{variable_name(str(field))}: {reason}."
