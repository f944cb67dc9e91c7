"""OpenAI's Python client on a module's server: fixtures, and scripts of the upstream that several test files use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from chatapi.simulator import Chunks, Script, Send, Simulator, scripts
from chatapi.simulator.wire import DONE
from tests.openai_clients import openai_client
from tests.server_process import KEY, Serve, Service

MODEL = "gpt-4.1-mini"
CHUNKS = Chunks()
CALLED = [("call_1", "weather", '{"city":"東京"}'), ("call_2", "weather", '{"city":"Rome"}')]
CITATION = {
    "type": "url_citation",
    "url_citation": {"url": "https://example.org", "title": "ä", "start_index": 0, "end_index": 5},
}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "How it is there.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    """The module's server, without a rate limit. A test that stops it, or needs other settings, starts its own."""
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture(scope="module")
def simulator(upstream: Simulator) -> Simulator:
    """The module's upstream, which all servers of the module use."""
    return upstream


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    """A client of the module's server."""
    with client_of(service) as client:
        yield client


def client_of(service: Service, key: str = KEY, **options: Any) -> openai.OpenAI:
    """Return a client that checks every response against its types and repeats no request."""
    options = {"max_retries": 0, **options}
    return openai_client(f"{service.url}/v1", key, _strict_response_validation=True, **options)


def calling() -> Script:
    """Return an answer with two interleaved tool calls, which are `CALLED`."""
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.content("Let me see. ")),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(1, id="call_2", name="weather", arguments='{"city":"Rome"}')),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


def everything() -> Script:
    """Return an answer with every kind of part: reasoning, text, annotation, refusal and tool calls."""
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.reasoning("Hm. ")),
        Send(CHUNKS.reasoning("お茶?")),
        Send(CHUNKS.content("Grüße ")),
        Send(CHUNKS.content("👋🏽")),
        Send(CHUNKS.annotation(CITATION)),
        Send(CHUNKS.content(" and more")),
        Send(CHUNKS.refusal("But not that.")),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(0, arguments='"東京"}')),
        Send(CHUNKS.tool_call(1, id="call_2", name="weather", arguments='{"city":"Rome"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )
