"""Keys: their form, how they are kept out of sight, and the tag that stands for one.

A key arrives, is used, is gone. `Key` wraps it from the JSON parser to the upstream's header; only `reveal` gives it
back, and `repr`, `str`, `format`, pickling and copying do not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chatapi.errors import InvalidKeyFormat

SEED_PATTERN = r"sk-proj-[A-Za-z0-9_-]{156}"
SEED_PREFIX = "sk-proj-"
SEED_LENGTH = 164  # characters
SECRET_BYTES = 32
_LOOKS_LIKE_A_KEY = re.compile(r"(?:sk-proj-|\b(?:sk|pk|rk)-)[A-Za-z0-9_\-*.]{4,}")
_MAY_BE_A_KEY = re.compile(r"(?!(?:ses|msg|gen|req|rep)_)[A-Za-z0-9_\-.]{20,}")  # long enough, and no id of ours
REDACTED = "[redacted]"
_OWNER_CONTEXT = b"chatapi owner tag, version 1\0"
_FINGERPRINT_CONTEXT = b"chatapi fingerprint of the secret, version 1\0"


class Key:
    """A caller's key, which nothing prints."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself; for the upstream's Authorization header, the format check and the owner tag alone."""
        return self._value

    def hide(self, text: str) -> str:
        """`text` without this key, or anything else that looks like one."""
        return redact(text.replace(self._value, REDACTED)) if self._value else text

    def __repr__(self) -> str:
        return "Key(redacted)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    __hash__ = None  # type: ignore[assignment]  # a key is no dictionary key: what would print the dictionary prints it

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled or copied.")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")  # a caller may send anything as a key; the format check comes later


def redact(text: str) -> str:
    """`text` without anything that looks like a key."""
    return _LOOKS_LIKE_A_KEY.sub(REDACTED, text) if "k-" in text else text


@dataclass(frozen=True)
class KeyPolicy:
    """Which keys this server takes. The pattern is matched whole and against ASCII alone."""

    pattern: str = SEED_PATTERN

    def check(self, key: Key) -> Key:
        """The key, if it has the form.

        Raises:
            InvalidKeyFormat: it has not.
        """
        value = key.reveal()
        if value.isascii() and value.isprintable() and re.fullmatch(self.pattern, value):
            return key
        if self.pattern == SEED_PATTERN:
            raise InvalidKeyFormat
        raise InvalidKeyFormat(
            "Invalid API Key format. The key is not of the form that this server's operator has set."
        )

    def redact(self, text: str) -> str:
        """`text` without anything that looks like a key, or has the form of one."""
        text = redact(text)
        if self.pattern == SEED_PATTERN:
            return text
        return _MAY_BE_A_KEY.sub(lambda word: REDACTED if re.fullmatch(self.pattern, word[0]) else word[0], text)


def owner_tag(secret: bytes, key: Key) -> str:
    """What a session remembers of the key that owns it: HMAC-SHA256, 43 URL-safe characters."""
    tag = hmac.digest(secret, _OWNER_CONTEXT + key.reveal().encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(tag).decode().rstrip("=")


def fingerprint(secret: bytes) -> str:
    """What a database remembers of the secret, to tell when another one is used with it."""
    return base64.urlsafe_b64encode(hmac.digest(secret, _FINGERPRINT_CONTEXT, hashlib.sha256)).decode().rstrip("=")


def load_secret(path: Path) -> bytes:
    """The secret kept at `path`, made (mode 0600) when there is none.

    Losing it loses every owner: nobody can reach the sessions that were bound before.

    Raises:
        ValueError: the file is there and is no secret.
    """
    try:
        # O_EXCL: of two servers that start at once, one makes the secret and the other reads it.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_text().strip()
        if len(secret) < SECRET_BYTES:
            raise ValueError(
                f"The file {path} holds no secret. Restore it from a backup, or set CHATAPI_SECRET."
            ) from None
        return secret.encode()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with os.fdopen(file, "w") as handle:
        handle.write(secret + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    return secret.encode()
