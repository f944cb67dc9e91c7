"""Response headers of an upstream that callers are shown: its request limit, and OpenAI's own header families.

Only short, printable values of known names pass, and none that contains a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chatapi.auth.credentials import Credential
from chatapi.model import Limit

FORWARDED = frozenset({"x-request-id", "openai-processing-ms", "openai-version"})
RATE_FAMILY = ("x-ratelimit-limit-", "x-ratelimit-remaining-", "x-ratelimit-reset-")  # OpenAI's; ours has no suffix
UPSTREAM_REQUEST_ID = "x-upstream-request-id"  # the upstream's x-request-id, beside this server's own
UPSTREAM_NAME = "x-upstream-name"  # of several upstreams the one that answered
HEADER_CHARACTERS = 200
LIMIT_DIGITS = 15


class ResponseMetadata(NamedTuple):
    """The part of a response's head that callers are shown. `limit` is None where the upstream sent no limit.

    `verifies_caller`: the response shows that the caller's key is a good one (`Credential.verifies_caller`).
    """

    limit: Limit | None
    headers: dict[str, str]
    verifies_caller: bool = True


def read_metadata(headers: Mapping[str, str], credential: Credential) -> ResponseMetadata:
    """Select the headers to show, which have lower-case names; anything that looks like a key is hidden."""
    shown = {}
    for name, value in headers.items():
        if (name in FORWARDED or name.startswith(RATE_FAMILY)) and value.isascii() and value.isprintable():
            shown[UPSTREAM_REQUEST_ID if name == "x-request-id" else name] = credential.hide(value)[:HEADER_CHARACTERS]
    return ResponseMetadata(_request_limit(headers), shown, credential.verifies_caller)


def _request_limit(headers: Mapping[str, str]) -> Limit | None:
    limit = headers.get("x-ratelimit-limit-requests", "")
    remaining = headers.get("x-ratelimit-remaining-requests", "")
    if _is_count(limit) and _is_count(remaining):
        return Limit(int(limit), int(remaining))
    return None


def _is_count(text: str) -> bool:
    return len(text) <= LIMIT_DIGITS and text.isascii() and text.isdecimal()
