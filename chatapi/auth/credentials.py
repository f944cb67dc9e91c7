"""Credentials: which key a request carries upstream, apart from who made the request.

A caller is identified by an owner tag (`keys.owner_tag`), which is stored. A credential is never stored or logged, and
reaches one place: the `Authorization` header of a request to the model API.
"""

from __future__ import annotations

from dataclasses import dataclass

from chatapi.auth.keys import Key


@dataclass(frozen=True, slots=True)
class Credential:
    """The key that goes upstream. Today it is the caller's own."""

    key: Key

    def authorization(self) -> str:
        """Return the value of the `Authorization` header."""
        return f"Bearer {self.key.reveal()}"

    def hide(self, text: str) -> str:
        """Return `text` without this key and without anything else that looks like one."""
        return self.key.hide(text)
