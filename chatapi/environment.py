"""Read the settings from the environment and from `.env`. No other module reads settings there.

An unknown `CHATAPI_` name, an impossible value and an impossible combination stop the start with a sentence that names
the remedy.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from chatapi.settings import PREFIX, Settings, SettingsError, variable_name
from chatapi.wire.validation import requirement

ENV_FILE = ".env"  # in the working directory; the environment wins over it
FILE = "_FILE"  # after the name of a secret setting: the path of a file with its value
SECRETS = ("database_url", "redis_url", "secret", "metrics_token")
MAX_SECRET_BYTES = 64 * 1024
SHARED = {"HTTPS_PROXY", "NO_PROXY"}  # with other programs, many of which read the names in lower case
# Kubernetes sets these in every container for a service that is named "chatapi".
KUBERNETES_NAME = re.compile(
    r"CHATAPI_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


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
        reasons = [
            f"{variable_name(str(detail['loc'][0]))}: {requirement(detail['type'], detail['msg'])}."
            for detail in error.errors(include_input=False)
        ]
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
    without_prefix = {name.removeprefix(PREFIX): name for name in known}
    for name, value in variables.items():
        if not name.upper().startswith(PREFIX) or name in known or _is_of_kubernetes(name, value):
            continue
        close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), without_prefix, 1)
        advice = f"Did you mean {without_prefix[close[0]]}?" if close else "docs/settings.md lists the settings."
        raise SettingsError(f"{name} is not a setting. {advice}")


def _is_of_kubernetes(name: str, value: str) -> bool:
    return KUBERNETES_NAME.fullmatch(name) is not None and (name != "CHATAPI_PORT" or "://" in value)
