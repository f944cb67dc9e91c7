"""The settings of the server that a page reads first."""

from __future__ import annotations

import re

import pytest

from chatapi import __version__
from tests.server_process import KEY, Serve, Service

pytestmark = pytest.mark.one_process("it is made of the settings alone")


def test_a_page_without_a_key_gets_the_key_format_and_every_limit(shared: Service) -> None:
    told = shared.get("/api/config").json()
    key = told.pop("key")
    assert told == {
        "version": __version__,
        "demo": False,
        "demo_key": None,
        "default_model": "gpt-4.1-mini",
        "default_model_notice": None,
        "max_message_bytes": 262_144,
        "max_body_bytes": 1_048_576,
        "max_media_bytes": 8_388_608,
    }
    assert (key["prefix"], key["length"]) == (KEY[:8], len(KEY))
    assert re.fullmatch(key["pattern"], KEY)


def test_with_a_custom_key_format_only_the_pattern_is_shown(serve: Serve) -> None:
    server = serve(CHATAPI_KEY_PATTERN="local-[a-z]{8}", CHATAPI_DEFAULT_MODEL="tiny", CHATAPI_MAX_BODY_BYTES="2048")
    told = server.get("/api/config").json()
    assert told["key"] == {"pattern": "local-[a-z]{8}", "prefix": None, "length": None}
    assert (told["default_model"], told["max_body_bytes"]) == ("tiny", 2048)
