"""Settings: where they are read from, which names and values are accepted, and the messages for all others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from chatapi.environment import read_settings
from chatapi.settings import Settings, SettingsError, variable_name


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting in the environment, and no `.env` in the working directory."""
    for name in os.environ:
        if name.startswith("CHATAPI_") or name.upper() in {variable_name(field) for field in Settings.model_fields}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CHATAPI_RATELIMIT", "CHATAPI_RATE_LIMIT"),
        ("CHATAPI_MAX_BODY_BYTE", "CHATAPI_MAX_BODY_BYTES"),
        ("CHATAPI_PORT", "PORT"),
        ("CHATAPI_PROT", "PORT"),
        ("CHATAPI_DATABASE_URL", "DATABASE_URL"),
        ("chatapi_rate_limit", "CHATAPI_RATE_LIMIT"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_closest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "100")
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert str(refused.value) == f"{name} is not a setting. Did you mean {near}?"


def test_an_unknown_name_without_a_close_one_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATAPI_QQQQQQQQ", "1")
    with pytest.raises(SettingsError, match=r"^CHATAPI_QQQQQQQQ is not a setting\. docs/settings\.md lists"):
        read_settings()


def test_an_unknown_name_in_the_env_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHATAPI_RATELIMIT=1\nPOSTGRES_PASSWORD=of-compose\n")
    with pytest.raises(SettingsError, match="CHATAPI_RATELIMIT is not a setting"):
        read_settings()


def test_the_variables_of_kubernetes_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("CHATAPI_PORT", "tcp://10.0.0.7:8000"),
        ("CHATAPI_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("CHATAPI_PORT_8000_TCP_ADDR", "10.0.0.7"),
        ("CHATAPI_PORT_8000_TCP_PROTO", "tcp"),
        ("CHATAPI_SERVICE_HOST", "10.0.0.7"),
        ("CHATAPI_SERVICE_PORT", "8000"),
        ("CHATAPI_SERVICE_PORT_HTTP", "8000"),
    ):
        monkeypatch.setenv(name, value)
    assert read_settings() == Settings()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_an_empty_value_means_not_set(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(variable_name(field), "")
    assert read_settings() == Settings()


@pytest.mark.parametrize("value", ["debug", "Debug", "DEBUG"])
def test_the_log_level_is_accepted_in_any_case(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOG_LEVEL", value)
    assert read_settings().log_level == "DEBUG"


def test_the_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nCHATAPI_RATE_LIMIT=7\nexport PORT='9001'\nLOG_LEVEL=error\n")
    monkeypatch.setenv("PORT", "9002")
    monkeypatch.setenv("LOG_LEVEL", "")
    settings = read_settings()
    assert (settings.rate_limit, settings.port, settings.log_level) == (7, 9002, "ERROR")


def test_overrides_win_and_defaults_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9002")
    monkeypatch.setenv("HOST", "127.0.0.2")
    settings = read_settings({"PORT": "9003"}, {"HOST": "127.0.0.3", "CHATAPI_RATE_LIMIT": "5"})
    assert (settings.port, settings.host, settings.rate_limit) == (9003, "127.0.0.2", 5)


def test_an_env_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"^The file \.env cannot be read"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "CHATAPI_KEY_PATTERN",
            "sk-(",
            "must be a regular expression: missing ), unterminated subpattern at position 3",
        ),
        ("CHATAPI_TRUSTED_PROXIES", "10.0.0.0/8, proxy", "must be a comma-separated list of addresses or networks "),
        (
            "CHATAPI_CONTEXT_TOKENS",
            "gpt-4.1-mini=1M",
            "must be MODEL=TOKENS, separated by commas, such as gpt-4.1-mini=",
        ),
        (
            "CHATAPI_CONTEXT_TOKENS",
            "gpt-4.1-mini=0",
            "must be MODEL=TOKENS, separated by commas, such as gpt-4.1-mini=",
        ),
        *[
            ("CHATAPI_CORS_ORIGINS", origin, "must be * or a comma-separated list of origins such as https://")
            for origin in (
                *(
                    "chat.example.org",
                    "https://",
                    "https://a,https://a/path",
                    "https://u@a",
                    "https://a?b",
                    "https://[a",
                ),
                *("https://a:b", "https://*.example.org", "https://..", "ftp://a", " , "),
            )
        ],
    ],
)
def test_a_value_of_another_form_is_an_error_that_names_the_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: {re.escape(message)}"):
        read_settings()


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("*", ["*"]),
        (" https://Chat.Example.org:443/,http://a_b:80, ", ["https://chat.example.org", "http://a_b"]),
        ("https://a:8443,http://[::1]:8000", ["https://a:8443", "http://[::1]:8000"]),
        ("https://bücher.example", ["https://xn--bcher-kva.example"]),
    ],
)
def test_origins_are_compared_in_the_form_that_browsers_send(
    monkeypatch: pytest.MonkeyPatch, value: str, origins: list[str]
) -> None:
    monkeypatch.setenv("CHATAPI_CORS_ORIGINS", value)
    assert read_settings().origins == origins


def test_every_impossible_value_is_named_and_none_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "80000")
    monkeypatch.setenv("CHATAPI_SECRET", "tooshort")
    monkeypatch.setenv("CHATAPI_SESSION_ACCESS", "anybody")
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert str(refused.value) == (
        "PORT: must be less than or equal to 65535. CHATAPI_SECRET: must have at least 32 characters. "
        "CHATAPI_SESSION_ACCESS: must be 'auto', 'key' or 'id'."
    )


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost, .openai.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "api.openai.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "i.openai.com,openai.co"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "socks5://proxy:1080", "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
    ],
)
def test_a_proxy_is_used_for_https_only_and_not_for_excluded_hosts(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_settings().upstream_proxy == proxy


def test_a_proxy_of_another_kind_is_an_error_where_it_would_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://secret@proxy:1080")
    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY: must be http://HOST:PORT") as refused:
        read_settings()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://user:password@localhost/name"),
        ("REDIS_URL", "redis://:password@localhost"),
        ("CHATAPI_SECRET", "s" * 32),
        ("CHATAPI_METRICS_TOKEN", "t" * 16),
    ],
)
def test_a_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")
    monkeypatch.setenv(f"{name}_FILE", str(file))
    field = name.removeprefix("CHATAPI_").lower()
    assert getattr(read_settings(), field) == value
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}_FILE: {name} is set too"):
        read_settings()
    monkeypatch.delenv(name)
    for spoil in (lambda: file.write_text("\n"), lambda: file.write_bytes(b"\xff" * 40), file.unlink):
        spoil()
        with pytest.raises(SettingsError, match=f"^{name}_FILE: the file {file} ") as refused:
            read_settings()
        assert value not in str(refused.value)


def test_only_secrets_may_be_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("5")
    monkeypatch.setenv("CHATAPI_RATE_LIMIT_FILE", str(tmp_path / "limit"))
    with pytest.raises(SettingsError, match="CHATAPI_RATE_LIMIT_FILE is not a setting"):
        read_settings()
