"""openai-agents: runs, streams, tools, handoffs, hosted tools, and its ways to keep a conversation."""

from __future__ import annotations

from typing import Any

import agents

from tests.components.clients.drive import ADA, ASKED, CITY, GREETING, RECALLED, SUNNY, TOLD, WHO, Drive, Trial, refused

HAND_OFF = "Hand off to the poet."
CITED = "https://example.org/"
TURNS, CALL = ["user", "assistant"], ["user", "assistant", "tool", "assistant"]

agents.set_tracing_disabled(True)


class Weather:
    """A tool that remembers how it was called."""

    def __init__(self) -> None:
        self.cities: list[str] = []

    @property
    def tool(self) -> agents.Tool:
        def weather(city: str) -> str:
            """Return the weather of a city."""
            self.cities.append(city)
            return SUNNY

        return agents.function_tool(weather)


def _agent(drive: Drive, name: str = "ada", *, completions: bool = False, **more: Any) -> agents.Agent:
    kind = agents.OpenAIChatCompletionsModel if completions else agents.OpenAIResponsesModel
    if completions:  # which are kept only if that is asked
        more.setdefault("model_settings", agents.ModelSettings(store=True))
    return agents.Agent(name=name, instructions="Be brief.", model=kind(drive.model, drive.sdk()), **more)


def _kinds(result: agents.result.RunResultBase) -> list[str]:
    return [item.type for item in result.new_items]


async def run(drive: Drive) -> None:
    result = await agents.Runner.run(_agent(drive), "Hello")
    assert result.final_output.startswith(GREETING)
    assert result.context_wrapper.usage.output_tokens > 0
    assert drive.kept() == [TURNS]


async def stream(drive: Drive) -> None:
    result = agents.Runner.run_streamed(_agent(drive), "Hello")
    deltas = []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            deltas.append(event.data.delta)
    assert result.final_output.startswith(GREETING)
    assert "".join(deltas) == result.final_output
    assert len(deltas) > 1
    assert drive.kept() == [TURNS]


async def function_tools(drive: Drive) -> None:
    for streamed in (False, True):
        weather = Weather()
        agent = _agent(drive, tools=[weather.tool])
        if streamed:
            result: Any = agents.Runner.run_streamed(agent, ASKED)
            async for _ in result.stream_events():
                pass
        else:
            result = await agents.Runner.run(agent, ASKED)
        assert _kinds(result) == ["tool_call_item", "tool_call_output_item", "message_output_item"]
        assert (result.final_output, weather.cities, len(result.raw_responses)) == (TOLD, [CITY], 2)
    sent = [["user", "assistant"], CALL]  # the second request sends the conversation again
    assert drive.kept() == sent * 2


async def handoff(drive: Drive) -> None:
    others = [_agent(drive, name) for name in ("writer", "poet")]
    result = await agents.Runner.run(_agent(drive, handoffs=others), HAND_OFF)
    assert result.last_agent.name == "poet"
    assert _kinds(result) == ["handoff_call_item", "handoff_output_item", "message_output_item"]
    assert "poet" in result.final_output
    assert drive.kept() == [TURNS, CALL]


async def web_search(drive: Drive) -> None:
    agent = _agent(drive, tools=[agents.WebSearchTool()])
    if drive.api == "chat":  # which has no hosted tools
        await refused(agents.Runner.run(agent, "Search for rain"), "web_search is not supported")
        return
    result = agents.Runner.run_streamed(agent, "Search for rain")
    events = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    assert "response.web_search_call.searching" in events
    assert _kinds(result) == ["tool_call_item", "message_output_item"]
    call, message = (item.raw_item for item in result.new_items)
    assert (call.type, call.action.query) == ("web_search_call", "Search for rain")
    assert [one.url for one in message.content[0].annotations] == [CITED]
    again = await agents.Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "Hello"}])
    assert again.final_output.startswith(GREETING)
    assert drive.kept() == [TURNS, [*TURNS, *TURNS]]


async def conversations_session(drive: Drive) -> None:
    weather = Weather()
    session = agents.OpenAIConversationsSession(openai_client=drive.sdk())
    agent = _agent(drive, tools=[weather.tool])
    await agents.Runner.run(agent, ADA, session=session)
    await agents.Runner.run(agent, ASKED, session=session)
    result = await agents.Runner.run(agent, WHO, session=session)
    assert result.final_output.startswith(RECALLED)
    kinds = [item.get("type") for item in await session.get_items()]
    assert kinds == [*["message"] * 3, "function_call", "function_call_output", *["message"] * 3]
    last: Any = await session.pop_item()
    assert last["content"][0]["text"] == result.final_output
    assert len(await session.get_items()) == 7
    await session.clear_session()


async def compaction_session(drive: Drive) -> None:
    compacted = []

    def decide(context: dict[str, Any]) -> bool:
        compacted.append(len(context["session_items"]))
        return len(compacted) == 2

    session = agents.OpenAIResponsesCompactionSession(
        session_id="one",
        underlying_session=agents.SQLiteSession("one"),
        client=drive.sdk(strict=False),  # whose type of this answer has no messages of users
        model=drive.model,
        should_trigger_compaction=decide,
    )
    agent = _agent(drive)
    await agents.Runner.run(agent, ADA, session=session)
    if drive.api == "chat":  # which has no counterpart
        await refused(agents.Runner.run(agent, "Hello", session=session), "compact")
        return
    await agents.Runner.run(agent, "Hello", session=session)
    kinds = [item.get("type", "message") for item in await session.get_items()]
    assert kinds == ["message", "message", "compaction"], "the messages of the user, and an item for the rest"
    result = await agents.Runner.run(agent, WHO, session=session)
    assert result.final_output.startswith(RECALLED)
    assert compacted == [2, 4, 5]


async def previous_response_id(drive: Drive) -> None:
    agent = _agent(drive)
    first = await agents.Runner.run(agent, ADA)
    second = await agents.Runner.run(agent, WHO, previous_response_id=first.last_response_id)
    assert second.final_output.startswith(RECALLED)
    weather = Weather()
    agent = _agent(drive, tools=[weather.tool])
    third = await agents.Runner.run(
        agent, ASKED, previous_response_id=second.last_response_id, auto_previous_response_id=True
    )
    assert third.final_output == TOLD
    assert drive.kept() == [[*TURNS, *TURNS, *CALL]]


async def conversation_id(drive: Drive) -> None:
    conversation = (await drive.sdk().conversations.create()).id
    agent = _agent(drive, tools=[Weather().tool])
    for text, answer in ((ADA, "You said"), (ASKED, TOLD), (WHO, RECALLED)):
        result = await agents.Runner.run(agent, text, conversation_id=conversation)
        assert result.final_output.startswith(answer)
    assert drive.kept() == [[*TURNS, *CALL, *TURNS]]


async def chat_completions_model(drive: Drive) -> None:
    settings = agents.ModelSettings(store=True)
    weather = Weather()
    agent = _agent(drive, completions=True, tools=[weather.tool], model_settings=settings)
    result = await agents.Runner.run(agent, ASKED)
    assert (result.final_output, weather.cities) == (TOLD, [CITY])
    streamed = agents.Runner.run_streamed(_agent(drive, completions=True), "Hello")
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output.startswith(GREETING)
    poet = _agent(drive, "poet", completions=True)
    handed = await agents.Runner.run(_agent(drive, completions=True, handoffs=[poet]), HAND_OFF)
    assert handed.last_agent.name == "poet"
    assert drive.kept() == [TURNS, CALL, TURNS, TURNS, CALL]


TRIALS: tuple[Trial, ...] = (
    *(run, stream, function_tools, handoff, web_search, conversations_session, compaction_session),
    *(previous_response_id, conversation_id, chat_completions_model),
)
