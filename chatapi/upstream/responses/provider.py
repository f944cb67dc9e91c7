"""The provider for OpenAI's Responses: `request` writes them, and `stream` reads them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamBroken, UpstreamError
from chatapi.upstream.refusals import NO_SUCH_ADDRESS
from chatapi.upstream.request import ModelRequest
from chatapi.upstream.responses.request import find_adjustment, most_tokens, write_request
from chatapi.upstream.responses.stream import ResponsesParser

NO_RESPONSES = (
    "The model API has no Responses (status 404). Set OPENAI_UPSTREAM_API=chat, or check that OPENAI_BASE_URL is "
    "complete; most end in /v1."
)


class Responses(msgspec.Struct, frozen=True):
    """OpenAI's Responses, stateless: the whole conversation is sent, and nothing is stored upstream."""

    origin: str
    path: ClassVar[str] = "responses"

    def write(self, request: ModelRequest, adjustments: frozenset[str]) -> dict[str, Any]:
        return write_request(request, self.origin, adjustments)

    def find_adjustment(self, refusal: str, body: dict[str, Any], adjustments: frozenset[str]) -> str | None:
        return find_adjustment(refusal, body, adjustments)

    def explain(self, error: UpstreamError) -> UpstreamError:
        return UpstreamBroken(NO_RESPONSES) if error.detail == NO_SUCH_ADDRESS else error

    def parser(self, credential: Credential, request: ModelRequest) -> ResponsesParser:
        return ResponsesParser(credential, self.origin, most_tokens(request))
