"""pydantic-ai, over chat completions and over Responses: text, streams, tools, structured output, history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.components.clients.drive import ADA, ASKED, CITY, GREETING, RECALLED, SUNNY, TOLD, WHO, Drive, Trial

TURNS, CALL = ["user", "assistant"], ["user", "assistant", "tool", "assistant"]


class Place(BaseModel):
    """A place."""

    city: str
    sunny: bool


def _agent(drive: Drive, responses: bool, settings: dict[str, Any] | None = None, **more: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(openai_client=drive.sdk())
    kind = OpenAIResponsesModel if responses else OpenAIChatModel
    model = kind(drive.model, provider=provider, settings={"openai_store": True, **(settings or {})})
    return Agent(model, **more)


def _with_weather(drive: Drive, responses: bool) -> tuple[Agent[None, Any], list[str]]:
    agent, cities = _agent(drive, responses), []

    @agent.tool_plain
    def weather(city: str) -> str:
        """Return the weather of a city."""
        cities.append(city)
        return SUNNY

    return agent, cities


def _both(check: Callable[[Drive, bool], Awaitable[None]]) -> tuple[Trial, ...]:
    """Return a trial over each of the two."""

    async def over_chat_completions(drive: Drive) -> None:
        await check(drive, False)

    async def over_responses(drive: Drive) -> None:
        await check(drive, True)

    for trial in (over_chat_completions, over_responses):
        trial.__name__ = f"{check.__name__} {trial.__name__}"
    return over_chat_completions, over_responses


async def run(drive: Drive, responses: bool) -> None:
    result = await _agent(drive, responses, instructions="Be brief.").run("Hello")
    assert result.output.startswith(GREETING)
    assert result.usage.output_tokens > 0
    assert drive.kept() == [TURNS]


async def stream(drive: Drive, responses: bool) -> None:
    async with _agent(drive, responses).run_stream("Hello") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces).startswith(GREETING)
    assert len(pieces) > 1
    assert drive.kept() == [TURNS]


async def tools(drive: Drive, responses: bool) -> None:
    for streamed in (False, True):
        agent, cities = _with_weather(drive, responses)
        if streamed:
            async with agent.run_stream(ASKED) as result:
                output, requests = await result.get_output(), result.usage.requests
        else:
            ran = await agent.run(ASKED)
            output, requests = ran.output, ran.usage.requests
        assert (output, cities, requests) == (TOLD, [CITY], 2)
    assert drive.kept() == [TURNS, CALL] * 2


async def structured_output(drive: Drive, responses: bool) -> None:
    for kind in (Place, NativeOutput(Place)):
        result = await _agent(drive, responses, output_type=kind).run("Where?")
        assert result.output == Place(city=CITY, sunny=True)
        async with _agent(drive, responses, output_type=kind).run_stream("Where?") as streamed:
            assert await streamed.get_output() == Place(city=CITY, sunny=True)


async def history(drive: Drive, responses: bool) -> None:
    agent, _ = _with_weather(drive, responses)
    first = await agent.run(ADA)
    second = await agent.run(ASKED, message_history=first.all_messages())
    third = await agent.run(WHO, message_history=second.all_messages())
    assert third.output.startswith(RECALLED)
    assert drive.kept()[-1] == [*TURNS, *CALL, *TURNS]


async def previous_response_id_over_responses(drive: Drive) -> None:
    agent = _agent(drive, True, {"openai_previous_response_id": "auto"})
    first = await agent.run(ADA)
    second = await agent.run(WHO, message_history=first.all_messages())
    assert second.output.startswith(RECALLED)
    assert drive.kept() == [[*TURNS, *TURNS]]


TRIALS: tuple[Trial, ...] = (
    *(trial for check in (run, stream, tools, structured_output, history) for trial in _both(check)),
    previous_response_id_over_responses,
)
