"""Keys: their format, their redaction, and the owner tags derived from them.

A key is used and never kept. `Key` wraps it from the JSON parser to the upstream's header; only `reveal` returns it:
`repr`, `str`, `format`, pickling and copying do not.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import string
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from chatapi.errors import InvalidKeyFormat

SEED_PATTERN = r"sk-proj-[A-Za-z0-9_-]{156}"
SEED_PREFIX = "sk-proj-"
SEED_LENGTH = 164  # characters
SECRET_BYTES = 32
_HINTS = ("k-", "k_", "AIza", "hf_", "r8_", "xai-", "pplx-", "nvapi-", "ghp_", "eyJ", "earer ")
_LOOKS_LIKE_A_KEY = re.compile(
    r"(?:sk-proj-|\b(?:sk|pk|rk)[-_])[A-Za-z0-9_\-*.…]{4,}"  # OpenAI's, and of those who copied the form
    r"|\b(?:gsk_|AIza|hf_|r8_|xai-|pplx-|nvapi-|ghp_)[A-Za-z0-9_\-*.…]{8,}"  # of other model APIs
    # A JSON Web Token, also behind a hyphen. No character is searched more than twice.
    r"|(?:(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_]{8,})\.[A-Za-z0-9_.-]{8,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9_\-.~+/=]{8,}"
)
_HEX_KEY = re.compile(r"\b[0-9a-fA-F]{32,}\b")  # such as Azure's
HEX_DIGITS = 32
_HEX = frozenset("0123456789abcdefABCDEF")
SHORTEST_KEY = 7  # characters that could be one
FRAGMENT = 12  # characters of a key that nothing else has in a row
# Long enough, and not an id of ours.
_MAY_BE_A_KEY = re.compile(r"(?<![A-Za-z0-9_\-.])(?!(?:ses|msg|gen|req|rep)_)[A-Za-z0-9_\-.]{20,}")
REDACTED = "[redacted]"
_OWNER_CONTEXT = b"chatapi owner tag, version 1\0"
_FINGERPRINT_CONTEXT = b"chatapi fingerprint of the secret, version 1\0"


class Key:
    """A caller's key, which no representation shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key; for the upstream's Authorization header, the format check and the owner tag only."""
        return self._value

    def is_in(self, text: str) -> bool:
        """Return whether a text contains the whole key."""
        return self._value in text

    def hide(self, text: str) -> str:
        """Return `text` without this key and without anything else that looks like a key."""
        if not self._value or len(text) < min(FRAGMENT, len(self._value)):
            return text  # too short for a key, or for a part of one
        for spelling in (self._value, quote(self._value, safe=""), *_in_base64(self._value)):
            text = text.replace(spelling, REDACTED)
        return redact(_without_fragments(text, self._value))

    def __repr__(self) -> str:
        return "Key(redacted)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    __hash__ = None  # type: ignore[assignment]  # a key must not be a dictionary key: printing the dictionary would show it

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key cannot be pickled or copied.")


def _in_base64(value: str) -> tuple[str, str]:
    data = _bytes(value)
    return base64.b64encode(data).decode().rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("=")


def _without_fragments(text: str, key: str) -> str:
    """Return `text` without runs of `FRAGMENT` or more characters of a key, in upper or lower case."""
    if len(text) < FRAGMENT:
        return text  # most headers of an upstream
    hidden = bytearray(len(text))
    for at in _fragment_positions(text.translate(_LOWER), key.translate(_LOWER)):
        hidden[at : at + FRAGMENT] = b"\1" * FRAGMENT
    if not any(hidden):
        return text
    runs = groupby(zip(text, hidden, strict=True), key=itemgetter(1))
    return "".join(REDACTED if is_hidden else "".join(character for character, _ in run) for is_hidden, run in runs)


def _fragment_positions(text: str, key: str) -> Iterator[int]:
    """Yield where `text` has `FRAGMENT` characters of the key; searches for the parts of the shorter of the two."""
    if len(text) < len(key):
        yield from (at for at in range(len(text) - FRAGMENT + 1) if text[at : at + FRAGMENT] in key)
        return
    for fragment in {key[start : start + FRAGMENT] for start in range(len(key) - FRAGMENT + 1)}:  # each place once
        at = text.find(fragment)
        while at >= 0:
            yield at
            at = text.find(fragment, at + 1)


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")  # any text may arrive as a key; the format check comes later


def redact(text: str) -> str:
    """Return `text` without anything that looks like a key."""
    if len(text) < SHORTEST_KEY:
        return text
    for hint in _HINTS:  # the expression is slow, and nearly no text has one of them
        if hint in text:
            text = _LOOKS_LIKE_A_KEY.sub(REDACTED, text)
            break
    if not _HEX.isdisjoint(text[HEX_DIGITS - 1 :: HEX_DIGITS]):  # as in every run of that length
        text = _HEX_KEY.sub(REDACTED, text)
    return text


@dataclass(frozen=True)
class KeyPolicy:
    """The format of the keys that this server accepts: a pattern, matched against the whole key, ASCII only."""

    pattern: str = SEED_PATTERN

    def check(self, key: Key) -> Key:
        """Return the key.

        Raises:
            InvalidKeyFormat: it does not have this format.
        """
        value = key.reveal()
        if value.isascii() and value.isprintable() and re.fullmatch(self.pattern, value):
            return key
        if self.pattern == SEED_PATTERN:
            raise InvalidKeyFormat
        raise InvalidKeyFormat(
            "Invalid API Key format. The key must match the pattern that this server's operator has set."
        )

    def redact(self, text: str) -> str:
        """Return `text` without anything that looks like a key, or has the format of one."""
        text = redact(text)
        if self.pattern == SEED_PATTERN:
            return text
        return _MAY_BE_A_KEY.sub(lambda word: REDACTED if re.fullmatch(self.pattern, word[0]) else word[0], text)


def owner_tag(secret: bytes, key: Key) -> str:
    """Return the owner tag of a key, which sessions store: HMAC-SHA256, 43 URL-safe characters."""
    tag = hmac.digest(secret, _OWNER_CONTEXT + key.reveal().encode(), "sha256")
    return base64.urlsafe_b64encode(tag).decode().rstrip("=")


def fingerprint(secret: bytes) -> str:
    """Return the fingerprint of the secret, which a database stores to detect another secret."""
    return base64.urlsafe_b64encode(hmac.digest(secret, _FINGERPRINT_CONTEXT, "sha256")).decode().rstrip("=")


def load_secret(path: Path) -> bytes:
    """Return the secret stored at `path`; make it, with mode 0600, if there is none.

    A lost secret loses every owner: the sessions bound with it cannot be reached any more.

    Raises:
        ValueError: the file exists and does not contain a secret.
    """
    if not path.exists():
        _write_secret(path)
    secret = path.read_text().strip()
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"The file {path} contains no secret. Restore it from a backup, or set CHATAPI_SECRET.")
    return secret.encode()


def _write_secret(path: Path) -> None:
    """Create the file with all of its content, or not at all: a server that is killed here must start again."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.", suffix=".new") as file:
        file.write(secrets.token_urlsafe(SECRET_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):  # another server that starts at the same time made it: that one counts
            os.link(file.name, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_demo_key() -> str:
    """Return a random key of the seed's format, for an upstream that accepts any key."""
    return SEED_PREFIX + secrets.token_hex(SEED_LENGTH)[: SEED_LENGTH - len(SEED_PREFIX)]
