"""langchain-openai, over chat completions and over Responses: text, streams, tools, structured output, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.components.clients.drive import ADA, ASKED, CITY, GREETING, RECALLED, SUNNY, TOLD, WHO, Drive, Trial

TURNS, CALL = ["user", "assistant"], ["user", "assistant", "tool", "assistant"]


class Place(BaseModel):
    """A place."""

    city: str
    sunny: bool


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return SUNNY


def _model(drive: Drive, responses: bool, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=drive.model,
        base_url=drive.url,
        api_key=drive.key,
        use_responses_api=responses,
        store=True,
        max_retries=0,
        **more,
    )


def _text(message: AIMessage | AIMessageChunk) -> str:
    return str(message.text)


def _both(check: Callable[[Drive, bool], None]) -> tuple[Trial, ...]:
    """Return a trial over each of the two."""

    def over_chat_completions(drive: Drive) -> None:
        check(drive, False)

    def over_responses(drive: Drive) -> None:
        check(drive, True)

    for trial in (over_chat_completions, over_responses):
        trial.__name__ = f"{check.__name__} {trial.__name__}"
    return over_chat_completions, over_responses


def invoke(drive: Drive, responses: bool) -> None:
    message = _model(drive, responses).invoke("Hello")
    assert _text(message).startswith(GREETING)
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] > 0
    assert drive.kept() == [TURNS]


def stream(drive: Drive, responses: bool) -> None:
    chunks = list(_model(drive, responses, stream_usage=True).stream("Hello"))
    assert sum(bool(_text(chunk)) for chunk in chunks) > 1
    whole = sum(chunks[1:], chunks[0])
    assert _text(whole).startswith(GREETING)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] > 0
    assert drive.kept() == [TURNS]


def tools(drive: Drive, responses: bool) -> None:
    model = _model(drive, responses).bind_tools([weather])
    for streamed in (False, True):
        history: list[Any] = [HumanMessage(ASKED)]
        answer: Any = None
        for _ in range(2):
            chunks = list(model.stream(history)) if streamed else [model.invoke(history)]
            answer = sum(chunks[1:], chunks[0])
            history.append(answer)
            history += [ToolMessage(weather.invoke(one["args"]), tool_call_id=one["id"]) for one in answer.tool_calls]
        assert [(one["name"], one["args"]) for one in history[1].tool_calls] == [("weather", {"city": CITY})]
        assert (_text(answer), len(history)) == (TOLD, 4)
    assert drive.kept() == [TURNS, CALL] * 2


def structured_output(drive: Drive, responses: bool) -> None:
    for method in ("json_schema", "function_calling"):
        place = _model(drive, responses).with_structured_output(Place, method=method).invoke("Where?")
        assert place == Place(city=CITY, sunny=True)


def history(drive: Drive, responses: bool) -> None:
    model = _model(drive, responses)
    first = model.invoke(ADA)
    second = model.invoke([HumanMessage(ADA), first, HumanMessage(WHO)])
    assert _text(second).startswith(RECALLED)
    assert drive.kept() == [TURNS, [*TURNS, *TURNS]]


def web_search_over_responses(drive: Drive) -> None:
    if drive.api == "chat":
        return  # which has no hosted tools; openai-agents checks the refusal
    message = _model(drive, True).bind_tools([{"type": "web_search"}]).invoke("Search for rain")
    cited = [one for block in message.content_blocks for one in block.get("annotations", [])]
    assert [one["url"] for one in cited] == ["https://example.org/"]
    again = _model(drive, True).invoke([HumanMessage("Search for rain"), message, HumanMessage("Hello")])
    assert _text(again).startswith(GREETING)


def previous_response_id_over_responses(drive: Drive) -> None:
    model = _model(drive, True, use_previous_response_id=True)
    first = model.invoke(ADA)
    second = model.invoke([HumanMessage(ADA), first, HumanMessage(WHO)])
    assert _text(second).startswith(RECALLED)
    assert drive.kept() == [[*TURNS, *TURNS]]


async def at_once_and_asynchronous(drive: Drive) -> None:
    messages = await _model(drive, True).abatch(["Hello"] * 5)
    assert all(_text(message).startswith(GREETING) for message in messages)
    assert drive.kept() == [TURNS] * 5


TRIALS: tuple[Trial, ...] = (
    *(trial for check in (invoke, stream, tools, structured_output, history) for trial in _both(check)),
    *(web_search_over_responses, previous_response_id_over_responses, at_once_and_asynchronous),
)
