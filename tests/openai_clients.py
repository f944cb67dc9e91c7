"""OpenAI's Python client for the tests' servers."""

from __future__ import annotations

import ssl
import weakref
from functools import cache
from typing import Any

import openai


def openai_client(url: str, key: str, **options: Any) -> openai.OpenAI:
    """Make a client of the API at `url`; it is closed when it is forgotten, as those without an `http_client` are.

    All share one TLS configuration, which takes longer to read than a test, and which no server here uses.
    """
    if "http_client" in options:
        return openai.OpenAI(base_url=url, api_key=key, **options)
    http_client = openai.DefaultHttpxClient(verify=_tls())
    client = openai.OpenAI(base_url=url, api_key=key, http_client=http_client, **options)
    weakref.finalize(client, http_client.close)
    return client


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
