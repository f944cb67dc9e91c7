"""Credentials: which key a request carries upstream, apart from who made the request.

A caller is identified by an owner tag (`keys.owner_tag`), which is stored. A credential is never stored or logged, and
reaches one place: the header of a request to the model API that it was made for.
"""

from __future__ import annotations

import msgspec

from chatapi.auth.keys import Key

AUTHORIZATION = "Authorization"


class Credential(msgspec.Struct, frozen=True):
    """The key that goes upstream: the caller's own, or one that the operator gave the upstream (`for_upstream`)."""

    key: Key | None  # None: no key is sent
    caller: Key | None = None  # whose key is not sent; it is only hidden
    verifies_caller: bool = True  # a success shows that the caller's key is a good one
    is_admitted: bool = False  # the caller was admitted earlier, and its key is not at hand

    @property
    def is_callers(self) -> bool:
        """Whether the caller's own key is sent, so that a refusal of the key concerns the caller."""
        return self.caller is None

    def for_upstream(self, key: Key | None, *, verifies_caller: bool) -> Credential:
        """Return the credential of the same caller that sends this key, or none, in place of the caller's."""
        return Credential(key, self.caller or self.key, verifies_caller)

    def headers(self, name: str = AUTHORIZATION) -> tuple[tuple[str, str], ...]:
        """Return the header that has the key: as a bearer token in `Authorization`, alone in any other."""
        if self.key is None:
            return ()
        return ((name, f"Bearer {self.key.reveal()}" if name == AUTHORIZATION else self.key.reveal()),)

    def hide(self, text: str) -> str:
        """Return `text` without these keys and without anything else that looks like one."""
        for key in (self.key, self.caller):
            if key is not None:
                text = key.hide(text)
        return text


ADMITTED = Credential(None, verifies_caller=False, is_admitted=True)
"""The credential of a queued turn whose caller was admitted to upstreams with keys of their own when it was queued."""
