"""Every setting: read once, by `environment.read_settings`, and passed in.

Names are the conventional ones where they exist, else they have the prefix `CHATAPI_`. `docs/settings.md` lists the
settings; a test compares it with this class.
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
UNPREFIXED = frozenset(
    {
        *("host", "port", "database_url", "redis_url", "openai_base_url", "openai_upstream_api", "log_level"),
        *("https_proxy", "no_proxy", "no_color"),
    }
)


class SettingsError(Exception):
    """The settings ask for something impossible; the message names the remedy."""


class Settings(BaseModel):
    """The settings of one server. Every field has a default, so a first start needs no configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address to listen on; `0.0.0.0` for all addresses of IPv4, `::` for all of IPv6.",
    )
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
        "the API, where requests that a proxy forwarded, or a page sent, get 404 unless there is a token.",
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
        description="Origins whose pages may call this API, separated by commas; `*` for all, except in the demo, "
        "which shows its key. Never with credentials.",
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
        "counts as ten, and each MiB of a body as eight more. 0, or `CHATAPI_RATE_LIMIT=0`: no limit.",
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
        return self.cors_origins.split(",")

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


def variable_name(field: str) -> str:
    """Return the environment variable of a field."""
    return field.upper() if field in UNPREFIXED else PREFIX + field.upper()
