"""Differences of one upstream from OpenAI's service, as settings. There is no code for a vendor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from chatapi.auth.credentials import AUTHORIZATION
from chatapi.errors import UpstreamErrorBody, UpstreamRejectedRequest
from chatapi.upstream.request import Adjustment
from chatapi.upstream.responses.request import Adjustment as ResponsesAdjustment

RETRIES = 2  # before the first byte of an answer only

# Fields that this server adds or knows another name for: a request is written without them, and no caller is refused.
_ADJUSTED: Mapping[str, str] = {
    "stream_options": Adjustment.NO_STREAM_OPTIONS,
    "max_completion_tokens": Adjustment.MAX_TOKENS,
    "include": ResponsesAdjustment.NO_ENCRYPTED_REASONING,
}


@dataclass(frozen=True)
class Quirks:
    """The differences of one upstream. `name` is its name among several; empty for the only one.

    `headers` are sent with each request. `origin` identifies the upstream in stored messages; empty: by its address.
    """

    name: str = ""
    origin: str = ""
    key_header: str = AUTHORIZATION
    headers: Mapping[str, str] = field(default_factory=dict)
    rejected_fields: frozenset[str] = frozenset()
    retries: int = RETRIES

    @cached_property
    def adjustments(self) -> frozenset[str]:
        """The adjustments with which every request is written (`request.Adjustment`)."""
        return frozenset(_ADJUSTED.get(name, name) for name in self.rejected_fields)

    def accepts(self, fields: Iterable[str]) -> bool:
        """Return whether the upstream takes these fields of a caller's request."""
        return not any(name in self.rejected_fields and name not in _ADJUSTED for name in fields)

    def require_accepted(self, fields: Iterable[str]) -> None:
        """Return if the upstream takes these fields of a caller's request.

        Raises:
            UpstreamRejectedRequest: it does not take one; the error names it.
        """
        for name in fields:
            if not self.accepts((name,)):
                message = f"The model API of this model does not take the field {name}. Omit it, or use another model."
                error = UpstreamRejectedRequest(message)
                error.said = UpstreamErrorBody(400, message, "invalid_request_error", name, "unsupported_parameter")
                raise error
