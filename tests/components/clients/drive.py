"""The service as a trial sees it: its address, a key of its own, and the conversations that were kept under the key."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

GREETING = "You said: “Hello”"  # the beginning of the simulator's answer
ADA, WHO = "My name is Ada.", "What is my name?"
RECALLED = "You told me: “My name is Ada.”"
ASKED = "What is the weather? Use the tool weather."
SUNNY = "Sunny, 21 degrees."
TOLD = f"The tool says: “{SUNNY}”"
CITY = "something"  # the simulator's value for a text
SECONDS = 30.0


def new_key() -> str:
    return "sk-proj-" + secrets.token_hex(78)


@dataclass(frozen=True)
class Drive:
    """The service over an upstream of one protocol. Each trial has another key, and so its own conversations."""

    base: str  # without `/v1`
    api: str  # of the upstream: `chat` or `responses`
    model: str
    operations: tuple[str, ...] = ()  # all below `/v1`, as `METHOD path` with `*` for an id
    key: str = field(default_factory=new_key)
    called: list[str] = field(default_factory=list)  # operations of the requests of `sdk` and `blocking_sdk`

    @property
    def url(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.base}/v1"

    def kept(self) -> list[list[str]]:
        """Return the conversations of the key, the oldest first, each as the roles of its messages."""
        with httpx.Client(
            base_url=self.base, headers={"Authorization": f"Bearer {self.key}"}, timeout=SECONDS
        ) as client:
            sessions = client.get("/api/sessions", params={"limit": 100}).raise_for_status().json()["data"]
            read = (client.get(f"/api/sessions/{one['session_id']}/messages") for one in reversed(sessions))
            return [[message["role"] for message in answer.raise_for_status().json()["data"]] for answer in read]

    def sdk(self, *, strict: bool = True) -> openai.AsyncOpenAI:
        """Return OpenAI's client, which others wrap. It repeats nothing; if strict, it checks all that it reads."""

        async def note(request: httpx.Request) -> None:
            self.called.append(self._operation(request))

        client = openai.DefaultAsyncHttpxClient(event_hooks={"request": [note]})
        return openai.AsyncOpenAI(**self._options | {"_strict_response_validation": strict}, http_client=client)

    def blocking_sdk(self) -> openai.OpenAI:
        """Return the same client for callers that wait."""

        def note(request: httpx.Request) -> None:
            self.called.append(self._operation(request))

        client = openai.DefaultHttpxClient(event_hooks={"request": [note]})
        return openai.OpenAI(**self._options, http_client=client)

    @property
    def _options(self) -> dict[str, Any]:
        return {"base_url": self.url, "api_key": self.key, "max_retries": 0, "_strict_response_validation": True}

    def _operation(self, request: httpx.Request) -> str:
        """Return the operation of a request: of those that fit, the one with the fewest ids."""
        text = f"{request.method} {request.url.path.removeprefix('/v1/')}"
        fitting = [one for one in self.operations if re.fullmatch(re.escape(one).replace(r"\*", "[^/]+"), text)]
        return min(fitting, key=lambda one: one.count("*"), default=text)


async def refused(call: Awaitable[Any], words: str) -> None:
    """Check that a call is refused as a bad request with these words."""
    said = "it was not refused"
    try:
        await call
    except openai.BadRequestError as error:
        said = str(error)
    assert words in said, said


Trial = Callable[[Drive], Any]  # a function or a coroutine function; one that does not hold raises
