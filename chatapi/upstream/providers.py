"""Select the protocol of each request to an upstream: chat completions, or OpenAI's Responses (docs/upstreams.md)."""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from chatapi.errors import ContextTooLarge
from chatapi.model import Kind, Role
from chatapi.upstream.chat_completions import ChatCompletions
from chatapi.upstream.provider import Provider
from chatapi.upstream.request import ModelRequest, RequestWriter, has_compaction
from chatapi.upstream.responses.provider import Responses
from chatapi.upstream.responses.request import REQUIRING, find_unsupported

UpstreamAPI = Literal["auto", "chat", "responses"]
PATHS = (ChatCompletions.path, Responses.path)
USE_RESPONSES = "the Responses API in place of chat completions"  # an adjustment, remembered like the others
# Models of OpenAI that reason, and so reject tools on chat completions or lose their reasoning between calls there.
_REASONING_MODEL = re.compile(r"(?:o[1-9]|gpt-(?:[5-9]|\d\d)|codex|computer-use)")
_OPENAI_HOSTS = ("api.openai.com", ".api.openai.com", ".openai.azure.com")


def is_openai_itself(base_url: str) -> bool:
    """Return whether an address is that of OpenAI's service or one of its regions."""
    host = (urlsplit(base_url).hostname or "").lower()
    return host == _OPENAI_HOSTS[0] or host.endswith(_OPENAI_HOSTS[1])


def is_openai(base_url: str) -> bool:
    """Return whether an address is that of OpenAI's service, its regions and Azure's included."""
    host = (urlsplit(base_url).hostname or "").lower()
    return host == _OPENAI_HOSTS[0] or host.endswith(_OPENAI_HOSTS[1:])


class Providers(msgspec.Struct, frozen=True):
    """The protocols of one upstream. `hosted`: it is OpenAI's service, which has Responses (see `auto`)."""

    api: UpstreamAPI
    hosted: bool
    chat: ChatCompletions
    responses: Responses
    max_bytes: int

    @classmethod
    def of(cls, api: UpstreamAPI, hosted: bool, developer_role: str, origin: str, max_bytes: int) -> Providers:
        """Return the protocols of the upstream that `origin` identifies. `max_bytes` bounds a request."""
        chat = ChatCompletions(RequestWriter(developer_role, origin, max_bytes))
        return cls(api, hosted, chat, Responses(origin), max_bytes)

    def select(self, request: ModelRequest, adjustments: frozenset[str]) -> Provider:
        """Return the provider for a request. `auto` chooses Responses only where the request needs it."""
        if self.api == "chat":
            return self.chat
        if self.api == "responses":
            return self.responses
        if find_unsupported(request.parameters) is not None:
            return self.chat
        needed = USE_RESPONSES in adjustments or bool(request.responses.get("tools")) or _has_own(request)
        needed = needed or (self.hosted and _needs_responses(request))
        return self.responses if needed else self.chat

    def find_adjustment(
        self,
        provider: Provider,
        request: ModelRequest,
        refusal: str,
        body: dict[str, Any],
        adjustments: frozenset[str],
    ) -> str | None:
        """Find the adjustment that a refusal asks for, the other protocol included."""
        if (
            self.api == "auto"
            and provider is self.chat
            and "v1/responses" in refusal.lower()
            and USE_RESPONSES not in adjustments
            and find_unsupported(request.parameters) is None
        ):
            return USE_RESPONSES
        return provider.find_adjustment(refusal, body, adjustments)

    def encode(self, body: dict[str, Any]) -> bytes:
        """Return the JSON of a body.

        Raises:
            ContextTooLarge: it has more than `max_bytes`.
        """
        encoded = msgspec.json.encode(body)
        if len(encoded) > self.max_bytes:
            raise ContextTooLarge
        return encoded


def _has_own(request: ModelRequest) -> bool:
    """Return whether a request has a parameter, an item or a medium that chat completions do not have."""
    responses = request.responses
    if (responses and any(responses.get(name) is not None for name in REQUIRING)) or has_compaction(request):
        return True
    return any(
        message.role is Role.TOOL or (part.kind is Kind.IMAGE and media.url is None)
        for message in request.messages
        for part in message.parts
        if (media := part.media) is not None
    )


def _needs_responses(request: ModelRequest) -> bool:
    """Return whether a request to OpenAI's service can be answered well on Responses only."""
    if request.responses.get("reasoning"):
        return True
    tools = request.parameters.get("tools")
    kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if any(isinstance(kind, str) and kind not in _OWN for kind in kinds):
        return True  # hosted tools, in the form of Responses
    return bool(tools) and _REASONING_MODEL.match(request.model) is not None


_OWN = frozenset({"function", "custom"})  # types of tools that chat completions have
