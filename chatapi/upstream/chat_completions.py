"""The provider for OpenAI's chat completions, which nearly every model API speaks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamError, UpstreamErrorBody, UpstreamRejectedRequest
from chatapi.upstream.request import ModelRequest, RequestWriter, find_adjustment, has_compaction
from chatapi.upstream.stream import CompletionParser

NO_COMPACTION = (
    "The conversation has an item of type compaction, which chat completions do not have. The operator can set "
    "OPENAI_UPSTREAM_API=responses if the model API has OpenAI's Responses."
)


def check_no_compaction(request: ModelRequest) -> None:
    """Return if no item of a request holds a conversation that only another upstream can read.

    Raises:
        UpstreamRejectedRequest: one does.
    """
    if has_compaction(request):
        error = UpstreamRejectedRequest(NO_COMPACTION)
        error.said = UpstreamErrorBody(400, NO_COMPACTION, "invalid_request_error", "input", "unsupported_parameter")
        raise error


class ChatCompletions(msgspec.Struct, frozen=True):
    """Chat completions: `request` writes them, and `stream` reads them."""

    writer: RequestWriter
    path: ClassVar[str] = "chat/completions"

    def write(self, request: ModelRequest, adjustments: frozenset[str]) -> dict[str, Any]:
        check_no_compaction(request)
        return self.writer.write(request, adjustments)

    def find_adjustment(self, refusal: str, body: dict[str, Any], adjustments: frozenset[str]) -> str | None:
        return find_adjustment(refusal, body, adjustments)

    def explain(self, error: UpstreamError) -> UpstreamError:
        return error

    def parser(self, credential: Credential, request: ModelRequest) -> CompletionParser:
        return CompletionParser(credential, self.writer.origin)
