"""The Vercel AI SDK over its own OpenAI provider at its defaults, which are /v1/responses and `store: true`.

From the second turn on it sends the ids of stored items in place of the items.
"""

from __future__ import annotations

from typing import Any

import pytest

from chatapi.simulator import Chunks, Script, Send, Simulator, scripts
from chatapi.simulator.wire import DONE
from tests import node_clients
from tests.server_process import Serve, Service

CHUNKS = Chunks()
REASONING = {"openai": {"reasoningSummary": "auto", "forceReasoning": True}}


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def calling() -> Script:
    return scripts.event_stream(
        Send(CHUNKS.role()),
        Send(CHUNKS.reasoning("I do not know. ")),
        Send(CHUNKS.reasoning("I ask.")),
        Send(CHUNKS.content("Let me see.")),
        Send(CHUNKS.tool_call(0, id="call_1", name="weather", arguments='{"city":')),
        Send(CHUNKS.tool_call(0, arguments='"Rome"}')),
        Send(CHUNKS.finish("tool_calls")),
        Send(DONE),
    )


@pytest.mark.parametrize("command", ["generate", "stream"])
def test_several_turns_and_a_tool_loop(service: Service, upstream: Simulator, key: str, command: str) -> None:
    options = {"baseURL": f"{service.url}/v1", "apiKey": key, "model": "gpt-4.1-mini"}
    with node_clients.NodeClient("ai-openai.mjs", options) as ai:
        first = ai.do(command, text="My name is Ada.")
        assert "error" not in first, first
        upstream.script = scripts.in_turn(calling(), scripts.answer("It is clear."))
        second = ai.do(command, text="How is the weather?", providerOptions=REASONING)
        assert (second.get("text"), second.get("steps")) == ("It is clear.", 2), second
        assert second["reasoning"] == "I do not know. I ask."
        assert ai.do("called")["called"] == [{"city": "Rome"}]
        upstream.script = None
        third = ai.do(command, text="What is my name?")
    assert "Ada" in third.get("text", ""), third
    assert [outline(message) for message in upstream.requests[-1].body["messages"]] == [
        ("user", "My name is Ada."),
        ("assistant", first["text"]),
        ("user", "How is the weather?"),
        ("assistant", "Let me see."),
        ("tool", '{"sky":"clear"}'),
        ("assistant", "It is clear."),
        ("user", "What is my name?"),
    ]


def outline(message: dict[str, Any]) -> tuple[str, str]:
    return message["role"], message["content"]
