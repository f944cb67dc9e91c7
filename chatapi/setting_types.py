"""Types of settings, and the checks of their values: each returns the value, or raises ValueError with the remedy."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

POSTGRES_SCHEMES = ("postgresql://", "postgres://")
ORIGINS = "must be * or a comma-separated list of origins such as https://chat.example.org, without * in a name"
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5})?)?")


def is_pattern(value: str) -> str:
    """Check a regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    return value


def check_http_url(value: str) -> str:
    """Return the URL of a model API without a slash at its end; raise ValueError if it is not one."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # its own message would repeat the text in the place of the port
        raise ValueError("must be a URL with a port from 1 to 65535, or without one") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be a http or https URL")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("must be a URL without a user, a query or a fragment")
    return value.rstrip("/")


def is_store_url(value: str) -> str:
    """Check the URL of a SQLite file or a PostgreSQL database."""
    if value.startswith("sqlite:///") and value != "sqlite:///":
        return value
    if value.startswith(POSTGRES_SCHEMES):
        return value
    raise ValueError(
        "must be sqlite:///PATH (four slashes for an absolute path) or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    )


def is_redis_url(value: str) -> str:
    """Check the URL of a Redis."""
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be redis://HOST:PORT/NUMBER, or rediss:// for TLS")
    return value


def are_origins(value: str) -> str:
    """Return a list of origins as browsers send them (RFC 6454, section 6), or `*`; raise ValueError if it is none."""
    origins = list(filter(None, map(str.strip, value.split(","))))
    if not origins:
        raise ValueError(ORIGINS)
    return ",".join([origin if origin == "*" else _as_browsers_send(origin) for origin in origins])


def _as_browsers_send(origin: str) -> str:
    try:
        scheme, host, *rest = urlsplit(origin)
        found = HOST.fullmatch(host.lower())
        if found is None or scheme not in DEFAULT_PORTS or any(one.strip("/") for one in rest):
            raise ValueError
        name = found["name"].encode("idna").decode()
        port = int(found["port"] or DEFAULT_PORTS[scheme])
    except ValueError:  # also from the parser, or from a name that has no form in ASCII
        raise ValueError(ORIGINS) from None
    return f"{scheme}://{name}" + ("" if port == DEFAULT_PORTS[scheme] else f":{port}")


def are_networks(value: str) -> str:
    """Check a list of addresses and networks."""
    for network in filter(None, map(str.strip, value.split(","))):
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ValueError("must be a comma-separated list of addresses or networks such as 10.0.0.0/8") from None
    return value


def are_token_limits(value: str) -> str:
    """Check a list of models with their token limits."""
    for one in filter(None, map(str.strip, value.split(","))):
        model, _, tokens = one.rpartition("=")
        if not model.strip() or not tokens.strip().isascii() or not tokens.strip().isdecimal() or int(tokens) == 0:
            raise ValueError("must be MODEL=TOKENS, separated by commas, such as gpt-4.1-mini=1047576,*=128000")
    return value


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda value: str(value).upper())]
