"""Bodies of chat completions that are passed on: the same bytes, under the upstream's name for the model."""

from __future__ import annotations

import msgspec

from chatapi.errors import MalformedJSON
from chatapi.upstream.quirks import Quirks
from chatapi.wire.loose_json import UNREADABLE

MAX_TOKENS, MAX_COMPLETION_TOKENS = "max_tokens", "max_completion_tokens"


class CompletionBody:
    """A body, of which only the names of its members are read."""

    def __init__(self, body: bytes) -> None:
        """Raise MalformedJSON if it is not a JSON object."""
        try:
            self._members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except UNREADABLE as error:
            raise MalformedJSON from error

    @property
    def fields(self) -> frozenset[str]:
        """The names of the members that have a value."""
        return frozenset(name for name, value in self._members.items() if bytes(value) != b"null")

    def write(self, model: str, quirks: Quirks) -> bytes:
        """Return the body for an upstream: with its name for the model, and without members of another name there.

        Raises:
            UpstreamRejectedRequest: the upstream does not take a member; the error names it.
        """
        quirks.require_accepted(self.fields)
        members = self._members | {"model": msgspec.Raw(msgspec.json.encode(model))}
        if MAX_COMPLETION_TOKENS in quirks.rejected_fields and MAX_COMPLETION_TOKENS in members:
            members.setdefault(MAX_TOKENS, members.pop(MAX_COMPLETION_TOKENS))
        if "stream_options" in quirks.rejected_fields:
            members.pop("stream_options", None)
        return msgspec.json.encode(members)
